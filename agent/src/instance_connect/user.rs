//! The user name as it may appear in a metadata path.
//! Wider than certificate principals allow: exactly what SendSSHPublicKey accepts as `InstanceOSUser`.

/// A user that a key can have been pushed for; every character is a plain path character (RFC 3986 §3.3 pchar).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedUser(String);

/// Longest `InstanceOSUser` (SendSSHPublicKey, API reference).
const MAX_LEN: usize = 32;

impl PushedUser {
    /// `name`, or `None` where no key can ever have been pushed for it.
    ///
    /// The API's two forms: a letter or `_` first; or digits first and one letter or `@._-` later. Neither contains
    /// `/`, `%`, `?`, `#` or starts with a dot, so no name can lead to another path.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=MAX_LEN).contains(&name.len());
        (fits && (is_named(name) || is_numbered(name))).then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `[A-Za-z_][A-Za-z0-9@._-]{0,30}[A-Za-z0-9$_-]?`: at full length the last one is no `.` or `@`.
fn is_named(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let cut = name.len() == MAX_LEN && name.ends_with(['.', '@']);
    begins && !cut && before_dollar(name).bytes().all(is_plain)
}

/// `[0-9]{1,32}[A-Za-z@._-][A-Za-z0-9@._-]*[A-Za-z0-9$_-]?` of 2 to 32 characters.
fn is_numbered(name: &str) -> bool {
    let plain = before_dollar(name);
    let digits_only = plain.bytes().all(|b| b.is_ascii_digit());
    name.starts_with(|c: char| c.is_ascii_digit()) && !digits_only && plain.bytes().all(is_plain)
}

/// Without the one `$` that may stand last.
fn before_dollar(name: &str) -> &str {
    name.strip_suffix('$').unwrap_or(name)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'@' | b'.' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_change_a_path_are_refused() {
        // I-01
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/../../iam/security-credentials/x",
            "a%2fb",
            "a?b",
            "a#b",
            "-x",
            "DOMAIN\\user",
            "a b",
            "a\n",
            "a\r\nHost: x",
            "a\0",
            "\u{430}dmin",
            "a;b",
            "a&b",
            "$",
            "a$b",
            "a$$",
            "@a",
            "@",
            "123",
            "12$",
        ] {
            assert_eq!(PushedUser::new(bad), None, "{bad:?}");
        }
        for last in [".", "@"] {
            let full = format!("{}{last}", "a".repeat(31));
            assert_eq!(PushedUser::new(&full), None, "{full:?}");
        }
        assert_eq!(PushedUser::new(&"1".repeat(32)), None);
        assert_eq!(PushedUser::new(&"a".repeat(33)), None);
        assert_eq!(PushedUser::new(&"a".repeat(300)), None);
    }

    #[test]
    fn every_name_that_a_key_can_be_pushed_for_is_accepted() {
        for good in [
            "ubuntu",
            "ec2-user",
            "Admin",
            "a",
            "_svc",
            "j.doe@corp.example",
            "host$",
            "1a",
            "12-3",
            "12-$",
            "a..b",
            "a.",
            "a@",
            "a..",
            "a.$",
            "_",
            "_$",
            "1.",
            "1@",
        ] {
            assert_eq!(PushedUser::new(good).unwrap().as_str(), good);
        }
        for full in [
            format!("{}.", "a".repeat(30)),
            format!("{}.", "1".repeat(31)),
            format!("{}$", "a".repeat(31)),
        ] {
            assert!(PushedUser::new(&full).is_some(), "{full}");
        }
        assert!(PushedUser::new(&"a".repeat(32)).is_some());
    }
}
