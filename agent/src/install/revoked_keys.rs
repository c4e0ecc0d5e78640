//! The RevokedKeys file: sshd refuses every key while the file that it names is missing or broken, so a
//! valid list stands there before sshd hears of it. What it lists is the business of whoever renews it.

use eic_protocol::wire::{Reader, Writer};

/// The file in the state folder.
pub(crate) const NAME: &str = "revoked-keys";

/// First bytes of a key revocation list; without them sshd reads the file as text (OpenSSH PROTOCOL.krl).
const MAGIC: &[u8] = b"SSHKRL\n\0";
const FORMAT: u32 = 1;

/// A list that revokes nothing: the header alone.
pub(crate) fn empty() -> Vec<u8> {
    let mut w = Writer::new();
    w.raw(MAGIC).u32(FORMAT);
    // Version, date, flags; reserved, comment.
    w.u64(0).u64(0).u64(0).string(b"").string(b"");
    w.into_bytes()
}

/// Whether these bytes begin as a key revocation list of the known format does.
pub(crate) fn is_list(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    reader.take(MAGIC.len()).is_ok_and(|magic| magic == MAGIC)
        && reader.u32().is_ok_and(|format| format == FORMAT)
        && reader.take(24).is_ok()
        && reader.string().is_ok()
        && reader.string().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_sshd_would_read_otherwise_or_not_at_all_are_no_lists() {
        // F-10: an empty, torn or HTML file locks everybody out or revokes by accident
        let whole = empty();
        for bad in [b"".as_slice(), b"<html>", b"ssh-ed25519 AAAA", &whole[..43]] {
            assert!(!is_list(bad));
        }
        let mut other_format = whole.clone();
        other_format[11] = 2;
        assert!(!is_list(&other_format));
    }

    #[test]
    fn openssh_reads_the_empty_list_and_finds_nothing_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let (list, key) = (folder.path().join("krl"), folder.path().join("key.pub"));
        std::fs::write(&list, empty()).unwrap();
        std::fs::write(&key, format!("{}\n", crate::trust_state::tests::public(7))).unwrap();
        let asked = std::process::Command::new("ssh-keygen")
            .arg("-Q")
            .arg("-f")
            .args([&list, &key])
            .output();
        let Ok(output) = asked else {
            eprintln!("skipped: no ssh-keygen");
            return;
        };
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("ok"));
        assert!(is_list(&empty()));
    }
}
