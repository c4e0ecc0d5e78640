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
    /// The API's two forms: a letter or `_` first; or digits first and one letter or `@._-` later.
    /// Neither contains `/`, `%`, `?`, `#` or starts with a dot, so no name can lead to another path.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let plain = (1..=MAX_LEN).contains(&name.len()) && has_plain_characters(name);
        let begins = name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        let all_digits = name.bytes().all(|b| b.is_ascii_digit() || b == b'$');
        (plain && begins && !all_digits).then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `[A-Za-z0-9@._-]*` and one last `[A-Za-z0-9$_-]`.
fn has_plain_characters(name: &str) -> bool {
    let Some((last, front)) = name.as_bytes().split_last() else {
        return false;
    };
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'@' | b'.' | b'_' | b'-');
    front.iter().all(inner) && (last.is_ascii_alphanumeric() || matches!(last, b'$' | b'_' | b'-'))
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
            "a.",
            "a@",
            "123",
            "12$",
        ] {
            assert_eq!(PushedUser::new(bad), None, "{bad:?}");
        }
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
            "a..b",
        ] {
            assert_eq!(PushedUser::new(good).unwrap().as_str(), good);
        }
        assert!(PushedUser::new(&"a".repeat(32)).is_some());
    }
}
