//! The name of an account on a host.
//! The grammar is narrower than AWS's and than useradd(8)'s: a name becomes part of a
//! certificate principal, a socket's file name and a line that sshd reads.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::printable;

/// An OS user: `[a-z_][a-z0-9_.-]{0,31}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OsUser(String);

/// Longest OS user in bytes; SendSSHPublicKey's `InstanceOSUser` has the same limit.
pub const MAX_LEN: usize = 32;

impl OsUser {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OsUser {
    type Err = InvalidOsUser;

    fn from_str(text: &str) -> Result<Self, InvalidOsUser> {
        let mut bytes = text.bytes();
        let first = bytes
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
        let rest = bytes.all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-')
        });
        if first && rest && text.len() <= MAX_LEN {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidOsUser(printable(text)))
        }
    }
}

impl TryFrom<String> for OsUser {
    type Error = InvalidOsUser;

    fn try_from(text: String) -> Result<Self, InvalidOsUser> {
        text.parse()
    }
}

impl From<OsUser> for String {
    fn from(user: OsUser) -> Self {
        user.0
    }
}

impl fmt::Display for OsUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not an OS user.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a user name: use a lower-case letter or `_`, then up to 31 of a-z, 0-9, `_`, `.`, `-`"
)]
pub struct InvalidOsUser(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_structure_are_refused() {
        // D-02, C-15, I-01, H-03: each of these has meant something to a program that read it.
        for bad in [
            "",
            "a,b",
            "*",
            "?x",
            "a#b",
            "a b",
            "a\tb",
            "a\0",
            "a\n",
            "\"",
            "\\",
            "-x",
            "!x",
            "Ubuntu",
            "ubuntu\u{200b}",
            "\u{430}dmin",
            "ubuntu ",
            "a@b",
            "a/b",
            "..",
            ".a",
            "1a",
            "ubuntu$",
            "a%rb",
            "$(id)",
        ] {
            assert!(bad.parse::<OsUser>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(33).parse::<OsUser>().is_err());
    }

    #[test]
    fn ordinary_names_are_kept_as_they_are() {
        for good in ["ubuntu", "ec2-user", "_svc", "a", "first.last", "a_b-c.9"] {
            assert_eq!(good.parse::<OsUser>().unwrap().as_str(), good);
        }
        assert!("a".repeat(32).parse::<OsUser>().is_ok());
    }
}
