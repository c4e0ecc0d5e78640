//! The id of a host: an EC2 instance, or a hybrid-managed one of Systems Manager.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::printable;

/// `i-` and 8 or 17 lower-case hex digits, or `mi-` and 17.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(String);

impl InstanceId {
    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a hybrid-managed host (`mi-…`), which has no instance metadata.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.0.starts_with("mi-")
    }
}

impl FromStr for InstanceId {
    type Err = InvalidInstanceId;

    fn from_str(text: &str) -> Result<Self, InvalidInstanceId> {
        let (digits, lengths): (_, &[usize]) = match text.split_once('-') {
            Some(("i", digits)) => (digits, &[8, 17]),
            Some(("mi", digits)) => (digits, &[17]),
            _ => return Err(InvalidInstanceId(printable(text))),
        };
        let hex = digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex && lengths.contains(&digits.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidInstanceId(printable(text)))
        }
    }
}

impl TryFrom<String> for InstanceId {
    type Error = InvalidInstanceId;

    fn try_from(text: String) -> Result<Self, InvalidInstanceId> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not an instance id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an instance id: expected `i-` and 8 or 17 hex digits, or `mi-` and 17")]
pub struct InvalidInstanceId(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_refused() {
        for bad in [
            "",
            "i-",
            "i-0123456",
            "i-012345678",
            "i-0123456789abcdef",
            "i-0123456789ABCDEF0",
            "mi-01234567",
            "i-0123456789abcdef0\n",
            "I-01234567",
            "i-0123456g",
            "i--01234567",
            "x-01234567",
        ] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn both_lengths_and_managed_ids_are_accepted() {
        assert!(!"i-01234567".parse::<InstanceId>().unwrap().is_managed());
        assert!(
            !"i-0123456789abcdef0"
                .parse::<InstanceId>()
                .unwrap()
                .is_managed()
        );
        assert!(
            "mi-0123456789abcdef0"
                .parse::<InstanceId>()
                .unwrap()
                .is_managed()
        );
    }
}
