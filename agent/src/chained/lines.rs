//! A command's output as sshd would read it: one key a line, options allowed. What sshd could read
//! differently from one line (NUL, other control characters, endless lines) is left out.

/// Longest line in bytes: sshd's own limit before 7.9 (SSH_MAX_PUBKEY_BYTES); a 16,384-bit RSA key needs 3 KiB.
const MAX_LINE: usize = 16 * 1024;

/// The lines that may hold a key, each with its end; blank lines and comments are dropped.
pub(super) fn kept(output: &[u8]) -> String {
    output
        .split(|byte| *byte == b'\n')
        .filter_map(key_line)
        .map(|line| format!("{line}\n"))
        .collect()
}

fn key_line(line: &[u8]) -> Option<&str> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).ok()?;
    let visible = text.trim_start_matches([' ', '\t']);
    let sound = text.len() <= MAX_LINE && text.chars().all(|c| c == '\t' || !c.is_control());
    (sound && !visible.is_empty() && !visible.starts_with('#')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_not_one_line_are_left_out_alone() {
        let long = format!("ssh-rsa {}", "A".repeat(MAX_LINE));
        for bad in [
            b"ssh-rsa AAAA\0ssh-rsa BBBB".as_slice(),
            b"ssh-rsa AAAA\x0bx",
            b"ssh-rsa AAAA\rssh-rsa BBBB",
            b"ssh-rsa \xff\xfe",
            b"\x1b[2Jssh-rsa AAAA",
            long.as_bytes(),
            b"",
            b"   \t",
            b"# ssh-rsa AAAA",
            b"  # ssh-rsa AAAA",
        ] {
            let output = [b"ssh-rsa first\n", bad, b"\nssh-rsa last\n"].concat();
            assert_eq!(kept(&output), "ssh-rsa first\nssh-rsa last\n", "{bad:?}");
        }
    }

    #[test]
    fn options_comments_and_a_missing_last_newline_are_kept_as_sshd_reads_them() {
        let output = b"restrict,command=\"a b\" ssh-ed25519 AAAA me@home\r\ncert-authority ssh-rsa AAAA\n\tssh-rsa BBBB";
        assert_eq!(
            kept(output),
            "restrict,command=\"a b\" ssh-ed25519 AAAA me@home\ncert-authority ssh-rsa AAAA\n\tssh-rsa BBBB\n"
        );
    }
}
