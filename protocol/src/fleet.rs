//! The name of a fleet: a selector of hosts in the CA's configuration.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::printable;

/// `[a-z0-9-]{1,24}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FleetName(String);

impl FleetName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FleetName {
    type Err = InvalidFleetName;

    fn from_str(text: &str) -> Result<Self, InvalidFleetName> {
        let grammar = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if grammar && (1..=24).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidFleetName(printable(text)))
        }
    }
}

impl TryFrom<String> for FleetName {
    type Error = InvalidFleetName;

    fn try_from(text: String) -> Result<Self, InvalidFleetName> {
        text.parse()
    }
}

impl From<FleetName> for String {
    fn from(name: FleetName) -> Self {
        name.0
    }
}

impl fmt::Display for FleetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a fleet name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a fleet name: use 1 to 24 of a-z, 0-9 and `-`")]
pub struct InvalidFleetName(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_add_structure_are_refused() {
        for bad in ["", "A", "a/b", "a@b", "a b", "a_b", "a#", &"a".repeat(25)] {
            assert!(bad.parse::<FleetName>().is_err(), "{bad:?}");
        }
        assert!("web-2".parse::<FleetName>().is_ok());
    }
}
