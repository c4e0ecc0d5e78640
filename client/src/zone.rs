//! An availability zone as somebody names it. Its Region is read off its name, and the instance is not looked for there:
//! whether it is in the zone, Instance Connect decides.

use std::fmt;
use std::str::FromStr;

use eic_protocol::aws_region::AwsRegion;
use eic_protocol::text::printable;
use serde::{Deserialize, Serialize};

/// `eu-west-1a`, `us-west-2-lax-1a`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(String);

impl Zone {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The Region that its name begins with, where that is a known one.
    #[must_use]
    pub fn region(&self) -> Option<AwsRegion> {
        AwsRegion::all().find(|region| {
            let rest = self.0.strip_prefix(region.as_str());
            rest.is_some_and(|rest| rest.starts_with(|c: char| !c.is_ascii_digit()))
        })
    }
}

impl FromStr for Zone {
    type Err = InvalidZone;

    fn from_str(text: &str) -> Result<Self, InvalidZone> {
        let words: Vec<&str> = text.split('-').collect();
        let last = words.last().copied().unwrap_or_default();
        let numbered = last.starts_with(|c: char| c.is_ascii_digit())
            && last.ends_with(|c: char| c.is_ascii_lowercase());
        let plain = words.iter().all(|w| {
            !w.is_empty()
                && w.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        });
        if words.len() >= 3 && numbered && plain {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidZone(printable(text)))
        }
    }
}

impl TryFrom<String> for Zone {
    type Error = InvalidZone;

    fn try_from(text: String) -> Result<Self, InvalidZone> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.0
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not the name of a zone. In the words of `mssh`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a valid zone")]
pub struct InvalidZone(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_without_a_number_or_of_an_unknown_region_has_no_region() {
        for bad in ["", "x", "us-east-1", "us-east-1a'", "us--1a", "US-EAST-1a"] {
            assert!(bad.parse::<Zone>().is_err(), "{bad}");
        }
        let region = |zone: &str| zone.parse::<Zone>().unwrap().region();
        assert_eq!(region("eu-moon-1a"), None);
        assert_eq!(region("us-east-11a"), None);
    }

    #[test]
    fn the_region_of_a_local_zone_is_its_parents() {
        for (zone, region) in [
            ("eu-west-1a", "eu-west-1"),
            ("us-west-2-lax-1a", "us-west-2"),
            ("us-east-1-wl1-bos-wlz-1a", "us-east-1"),
        ] {
            let zone: Zone = zone.parse().unwrap();
            assert_eq!(zone.region().unwrap().as_str(), region);
        }
    }
}
