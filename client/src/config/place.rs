//! Where hosts are looked for beside the environment's own account and Region: `[[place]]` of the configuration.
//! Also what a name may be qualified with (`prod/web-1`).

use eic_protocol::api::instance::InstanceView;
use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use serde::{Deserialize, Serialize};

use crate::credentials::Selection;

/// Most Regions of one place: all of a partition.
const MAX_REGIONS: usize = 40;

/// One account as somebody calls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// How it is called, in `NAME/host` and `host.NAME`: lower-case letters, digits and `-`.
    pub name: String,
    /// The AWS profile that reaches it; absent: the credentials of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Its Regions; none: the one that the profile names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<AwsRegion>,
    /// Its account id, so that hosts which a CA names are known to belong here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// Whether names are used while it cannot be searched. It may hold another host of the name: then the one that
    /// was found elsewhere is taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl Place {
    /// The credentials that reach it, for somebody who uses `selection`.
    #[must_use]
    pub fn selection(&self, selection: &Selection) -> Selection {
        match &self.profile {
            Some(profile) => selection.with_profile(profile),
            None => selection.clone(),
        }
    }

    /// Whether a host that was named by somebody else belongs here.
    #[must_use]
    pub fn holds(&self, view: &InstanceView) -> bool {
        let region = self.regions.is_empty() || self.regions.contains(&view.region);
        region && self.account.as_ref() == Some(&view.account)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let begins = self.name.starts_with(|c: char| c.is_ascii_lowercase());
        if !begins || !self.name.bytes().all(plain) || self.name.len() > 32 {
            return Err(
                "name: use up to 32 lower-case letters, digits and `-`, beginning with a letter"
                    .to_owned(),
            );
        }
        if self.name.parse::<AwsRegion>().is_ok() {
            return Err("name: this is the name of a Region".to_owned());
        }
        if self.regions.len() > MAX_REGIONS {
            return Err(format!("regions: at most {MAX_REGIONS}"));
        }
        match &self.profile {
            Some(profile) if profile.is_empty() || profile.chars().any(char::is_control) => {
                Err("profile: name an AWS profile".to_owned())
            }
            _ => Ok(()),
        }
    }
}
