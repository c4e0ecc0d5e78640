//! Regions, their partition and their endpoints, from one static table.
//! A host name is only ever looked up here, never built from a stranger's text (design rules 2 and A-34).

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::arn::Partition;
use crate::text::printable;

/// A Region that the table knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct AwsRegion(&'static str);

impl AwsRegion {
    /// `us-east-1`, …
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// The partition that holds the Region.
    #[must_use]
    pub fn partition(self) -> Partition {
        match self.0 {
            cn if cn.starts_with("cn-") => Partition::AwsCn,
            gov if gov.starts_with("us-gov-") => Partition::AwsUsGov,
            _ => Partition::Aws,
        }
    }

    /// The DNS suffix of the partition's endpoints.
    #[must_use]
    pub fn domain(self) -> &'static str {
        match self.partition() {
            Partition::AwsCn => "amazonaws.com.cn",
            Partition::Aws | Partition::AwsUsGov => "amazonaws.com",
        }
    }

    /// The host of a regional service endpoint; `service` is one of ours, never input.
    #[must_use]
    pub fn endpoint(self, service: &'static str) -> String {
        format!("{service}.{}.{}", self.0, self.domain())
    }

    /// All Regions of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        REGIONS.iter().map(|name| Self(name))
    }
}

impl FromStr for AwsRegion {
    type Err = UnknownRegion;

    fn from_str(text: &str) -> Result<Self, UnknownRegion> {
        Self::all()
            .find(|r| r.0 == text)
            .ok_or_else(|| UnknownRegion(printable(text)))
    }
}

impl<'de> Deserialize<'de> for AwsRegion {
    // By hand: the derive would borrow the field for 'static.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl TryFrom<String> for AwsRegion {
    type Error = UnknownRegion;

    fn try_from(text: String) -> Result<Self, UnknownRegion> {
        text.parse()
    }
}

impl From<AwsRegion> for String {
    fn from(region: AwsRegion) -> Self {
        region.0.to_owned()
    }
}

impl fmt::Display for AwsRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for AwsRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The Region is not in the table.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a Region that this build knows")]
pub struct UnknownRegion(String);

/// From AWS's list of Regions (General Reference, "Regions and Zones").
const REGIONS: &[&str] = &[
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "cn-north-1",
    "cn-northwest-1",
    "us-gov-east-1",
    "us-gov-west-1",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_would_change_the_host_is_no_region() {
        //
        for bad in [
            "",
            "us-east-1.evil.com#",
            "us-east-1/",
            "..",
            "US-EAST-1",
            "us-east-1.",
            "zz-fake-9",
            "us-east-1\n",
            "us-east-1@evil",
            &"a".repeat(300),
        ] {
            assert!(bad.parse::<AwsRegion>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn endpoints_follow_the_partition() {
        let host = |r: &str| r.parse::<AwsRegion>().unwrap().endpoint("sts");
        assert_eq!(host("eu-west-1"), "sts.eu-west-1.amazonaws.com");
        assert_eq!(host("cn-north-1"), "sts.cn-north-1.amazonaws.com.cn");
        assert_eq!(host("us-gov-west-1"), "sts.us-gov-west-1.amazonaws.com");
    }
}
