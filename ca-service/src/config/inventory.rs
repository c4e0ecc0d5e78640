//! `[inventory]`: where hosts are looked up, and which of them trust the CA.

use std::path::PathBuf;

use eic_protocol::api::instance::InstanceConnectMode;
use eic_protocol::arn::{AccountId, Arn};
use eic_protocol::aws_region::AwsRegion;

use super::document::Section;
use super::endpoint;

/// `[inventory]`
#[derive(Clone, Debug)]
pub struct InventoryConfig {
    /// A file of hosts.
    pub static_file: Option<PathBuf>,
    /// Accounts whose instances EC2 is asked for.
    pub ec2: Vec<Ec2Config>,
    /// How a host of EC2 is known to trust the CA.
    pub enrolment: EnrolmentRules,
}

/// `[[inventory.ec2]]`
#[derive(Clone, Debug)]
pub struct Ec2Config {
    /// The account; an instance of another owner is not taken.
    pub account: AccountId,
    /// The Regions to ask.
    pub regions: Vec<AwsRegion>,
    /// The role to assume first; none: the service's own credentials.
    pub assume_role: Option<Arn>,
    /// Another endpoint than the Region's own.
    pub endpoint_override: Option<String>,
}

/// Tags that say what a host takes.
#[derive(Clone, Debug)]
pub struct EnrolmentRules {
    /// Key of the tag that marks a host as enrolled.
    pub tag: String,
    /// Its value.
    pub value: String,
    /// Whether keys may be pushed to a host without the tag `eic:instance-connect`.
    pub instance_connect: InstanceConnectMode,
    /// Whether hosts without the enrolment tag are legacy (rather than unknown).
    pub others_are_legacy: bool,
}

impl Default for EnrolmentRules {
    fn default() -> Self {
        Self {
            tag: "eic:enrolled".to_owned(),
            value: "true".to_owned(),
            instance_connect: InstanceConnectMode::On,
            others_are_legacy: true,
        }
    }
}

/// The words of an Instance Connect mode.
pub(crate) const MODES: [(&str, InstanceConnectMode); 3] = [
    ("on", InstanceConnectMode::On),
    ("break-glass", InstanceConnectMode::BreakGlass),
    ("off", InstanceConnectMode::Off),
];

pub(super) fn read(section: &Section<'_>) -> InventoryConfig {
    let static_file = section.path("static");
    let ec2: Vec<_> = section.tables("ec2").iter().filter_map(read_ec2).collect();
    let enrolment = section
        .table("enrolment")
        .map(|s| read_enrolment(&s))
        .unwrap_or_default();
    if static_file.is_none() && !section.has("ec2") && !section.has("static") {
        section.mistake(
            "static",
            "no inventory is named; write `static = \"inventory.toml\"` or add [[inventory.ec2]]",
        );
    }
    section.refuse_unknown();
    InventoryConfig {
        static_file,
        ec2,
        enrolment,
    }
}

fn read_ec2(section: &Section<'_>) -> Option<Ec2Config> {
    let account = section.required::<AccountId>("account", "account = \"111122223333\"");
    let regions: Vec<AwsRegion> = section.list("regions").unwrap_or_default();
    if regions.is_empty() {
        section.mistake(
            "regions",
            "name at least one Region: `regions = [\"eu-west-1\"]`",
        );
    }
    let assume_role = section.parsed::<Arn>("assume_role");
    if let (Some(role), Some(account)) = (&assume_role, &account) {
        check_role(section, role, account);
    }
    let endpoint_override = endpoint::read(section, "endpoint_override");
    section.refuse_unknown();
    Some(Ec2Config {
        account: account?,
        regions,
        assume_role,
        endpoint_override,
    })
}

fn check_role(section: &Section<'_>, role: &Arn, account: &AccountId) {
    let is_role = role.service == "iam" && role.resource.starts_with("role/");
    if !is_role || role.account.as_ref() != Some(account) {
        section.mistake(
            "assume_role",
            format!("must be a role of account {account}: `arn:aws:iam::{account}:role/NAME`"),
        );
    }
}

fn read_enrolment(section: &Section<'_>) -> EnrolmentRules {
    let default = EnrolmentRules::default();
    let rules = EnrolmentRules {
        tag: section.string("tag").unwrap_or(default.tag),
        value: section.string("value").unwrap_or(default.value),
        instance_connect: section
            .word("instance_connect", &MODES)
            .unwrap_or(default.instance_connect),
        others_are_legacy: section
            .flag("others_are_legacy")
            .unwrap_or(default.others_are_legacy),
    };
    section.refuse_unknown();
    rules
}
