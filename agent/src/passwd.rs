//! Local accounts by `/etc/passwd`: their numbers, and which names are uid 0 (a key held in memory must never open
//! those). A directory service is not asked: no network here.

use std::path::{Path, PathBuf};

use crate::trusted_file::{Trusted, UntrustedFile};

/// Largest password file in bytes: about 100,000 accounts.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The account of AWS's host package, which goes with it. Never chosen by us; a host whose sshd is set up for the
/// package's programs runs us as it when we answer to their names.
pub const AMAZONS_COMMAND_USER: &str = "ec2-instance-connect";
/// Whom the helper's door for logins serves, unless somebody has said otherwise: the first that exists.
pub const USUAL_COMMAND_USERS: [&str; 2] = ["eic", AMAZONS_COMMAND_USER];

/// A line of `/etc/passwd` (passwd(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its first group.
    pub gid: u32,
    /// Its home folder.
    pub home: PathBuf,
}

/// Every account of the password file at `path` whose line makes sense, in its order.
///
/// # Errors
/// The file cannot be read, or others than root may write it.
pub fn read(path: &Path, trusted: &Trusted) -> Result<Vec<Account>, UntrustedFile> {
    let text = trusted.read(path, MAX_BYTES)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter_map(account).collect())
}

fn account(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let (uid, gid) = (fields.nth(1)?, fields.next()?);
    Some(Account {
        name,
        uid: plain_number(uid.as_bytes())?,
        gid: plain_number(gid.as_bytes())?,
        home: PathBuf::from(fields.nth(1).unwrap_or("/")),
    })
}

/// Whether `user` is, or may be, uid 0 according to the password file at `path`.
///
/// # Errors
/// The file cannot be read, or others than root may write it.
pub fn is_uid0(user: &str, path: &Path, trusted: &Trusted) -> Result<bool, UntrustedFile> {
    let text = trusted.read(path, MAX_BYTES)?;
    Ok(user == "root"
        || text
            .split(|byte| *byte == b'\n')
            .any(|line| is_uid0_line(line, user)))
}

/// `name:password:uid:…`. Whatever is not plainly another number counts as 0: C's strtoul(3)
/// makes 0 of an empty field, of `x`, of ` 0`, and of 4294967296 in 32 bits.
fn is_uid0_line(line: &[u8], user: &str) -> bool {
    let mut fields = line.split(|byte| *byte == b':');
    let named = fields
        .next()
        .is_some_and(|name| name.trim_ascii() == user.as_bytes());
    let uid = fields.nth(1).and_then(plain_number);
    named && uid.is_none_or(|uid| uid == 0)
}

fn plain_number(field: &[u8]) -> Option<u32> {
    let digits = !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(field)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_plain_numbers_are_no_accounts() {
        for line in [
            "", "a", "a:x:1", "a:x::1", "a:x:-1:1", "a:x:1:+1", "a:x: 1:1",
        ] {
            assert_eq!(account(line), None, "{line}");
        }
        let alice = account("alice:x:1000:100:Alice:/home/alice:/bin/sh").unwrap();
        assert_eq!(
            (alice.name.as_str(), alice.uid, alice.gid),
            ("alice", 1000, 100)
        );
        assert_eq!(alice.home, Path::new("/home/alice"));
    }

    #[test]
    fn second_names_of_root_are_found() {
        for line in [
            "toor:x:0:0::/root:/bin/sh",
            "toor:x:00:0",
            "toor:x::0",
            "toor:x",
            "toor:x:4294967296:0",
            "toor:x: 0:0",
            "toor:x:0x0:0",
            "toor:x:-0:0",
        ] {
            assert!(is_uid0_line(line.as_bytes(), "toor"), "{line}");
        }
    }

    #[test]
    fn other_users_are_not() {
        assert!(!is_uid0_line(b"alice:x:1000:0:::", "alice"));
        assert!(!is_uid0_line(b"toor:x:0:0:::", "too"));
        assert!(!is_uid0_line(b"bob:x:1000:0:toor:/:", "toor"));
    }

    #[test]
    fn root_is_uid_0_whatever_the_file_says() {
        assert!(is_uid0("root", Path::new("/etc/passwd"), &Trusted::system()).unwrap());
        assert!(!is_uid0("nobody", Path::new("/etc/passwd"), &Trusted::system()).unwrap());
        assert!(is_uid0("nobody", Path::new("/nonexistent"), &Trusted::system()).is_err());
    }

    #[test]
    fn any_of_two_lines_with_one_name_decides() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        std::fs::write(top.join("passwd"), "a:x:1:1\nb:x:0:0\nb:x:2:2\n").unwrap();
        let trusted = Trusted::under(&top, rustix::process::geteuid().as_raw());
        assert!(is_uid0("b", &top.join("passwd"), &trusted).unwrap());
        assert!(!is_uid0("a", &top.join("passwd"), &trusted).unwrap());
        // This file does not even know root.
        assert!(is_uid0("root", &top.join("passwd"), &trusted).unwrap());
    }
}
