//! `[certificates]`, `[fleets.<name>]` and `[source]`: bounds of what is issued, and facts that requests cannot show.

use std::collections::BTreeMap;

use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::fleet::FleetName;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::validity::{
    DEFAULT_FLEET_TTL, DEFAULT_TARGET_TTL, MAX_FLEET_TTL, MAX_TARGET_TTL, MIN_TTL,
};

use super::document::Section;
use crate::policy::{Cidr, NatRule};

/// `[certificates]`
#[derive(Clone, Copy, Debug)]
pub struct CertificatesConfig {
    /// Lifetime of a target certificate when none was asked for. Seconds.
    pub default_ttl_seconds: u64,
    /// Longest lifetime of a target certificate, whatever policy says. Seconds.
    pub max_ttl_seconds: u64,
    /// Lifetime of a fleet certificate when none was asked for. Seconds.
    pub fleet_default_ttl_seconds: u64,
    /// Longest lifetime of a fleet certificate. Seconds.
    pub fleet_max_ttl_seconds: u64,
}

impl Default for CertificatesConfig {
    fn default() -> Self {
        Self {
            default_ttl_seconds: DEFAULT_TARGET_TTL,
            max_ttl_seconds: MAX_TARGET_TTL,
            fleet_default_ttl_seconds: DEFAULT_FLEET_TTL,
            fleet_max_ttl_seconds: MAX_FLEET_TTL,
        }
    }
}

/// `[fleets.<name>]`: a named selector of hosts.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// Its name.
    pub name: FleetName,
    /// Accounts, named always.
    pub accounts: Vec<AccountId>,
    /// Regions; empty: all.
    pub regions: Vec<AwsRegion>,
    /// Tags that a host must have.
    pub tags: BTreeMap<String, String>,
    /// Hosts by id.
    pub ids: Vec<InstanceId>,
    /// How long a host must have matched by tag before it counts. Seconds.
    pub join_delay_seconds: u64,
    /// Whether keys held in memory never open it.
    pub kms_only: bool,
}

pub(super) fn read(section: &Section<'_>) -> CertificatesConfig {
    let default = CertificatesConfig::default();
    let target = MIN_TTL..=MAX_TARGET_TTL;
    let fleet = MIN_TTL..=MAX_FLEET_TTL;
    let number = |key: &str, range, default| section.number(key, range).unwrap_or(default);
    let config = CertificatesConfig {
        default_ttl_seconds: number(
            "default_ttl_seconds",
            target.clone(),
            default.default_ttl_seconds,
        ),
        max_ttl_seconds: number("max_ttl_seconds", target, default.max_ttl_seconds),
        fleet_default_ttl_seconds: number(
            "fleet_default_ttl_seconds",
            fleet.clone(),
            default.fleet_default_ttl_seconds,
        ),
        fleet_max_ttl_seconds: number(
            "fleet_max_ttl_seconds",
            fleet,
            default.fleet_max_ttl_seconds,
        ),
    };
    if config.default_ttl_seconds > config.max_ttl_seconds {
        section.mistake("default_ttl_seconds", "is more than max_ttl_seconds");
    }
    if config.fleet_default_ttl_seconds > config.fleet_max_ttl_seconds {
        section.mistake(
            "fleet_default_ttl_seconds",
            "is more than fleet_max_ttl_seconds",
        );
    }
    section.refuse_unknown();
    config
}

pub(super) fn read_fleets(fleets: &Section<'_>) -> Vec<FleetConfig> {
    let names = fleets.names();
    names
        .iter()
        .filter_map(|name| read_fleet(fleets, name))
        .collect()
}

fn read_fleet(fleets: &Section<'_>, name: &str) -> Option<FleetConfig> {
    let section = fleets.table(name)?;
    let parsed: Option<FleetName> = name
        .parse()
        .map_err(|e: eic_protocol::fleet::InvalidFleetName| fleets.mistake(name, e.to_string()))
        .ok();
    let accounts: Vec<AccountId> = section.list("accounts").unwrap_or_default();
    if accounts.is_empty() {
        section.mistake(
            "accounts",
            "name the accounts: `accounts = [\"111122223333\"]`",
        );
    }
    let tags = section
        .table("tags")
        .map(|tags| read_tags(&tags))
        .unwrap_or_default();
    let ids: Vec<InstanceId> = section.list("ids").unwrap_or_default();
    if tags.is_empty() && ids.is_empty() && !section.has("tags") && !section.has("ids") {
        section.mistake(
            "tags",
            "select hosts by `tags = { role = \"web\" }` or by `ids = [\"i-…\"]`",
        );
    }
    let fleet = FleetConfig {
        name: parsed?,
        accounts,
        regions: section.list("regions").unwrap_or_default(),
        tags,
        ids,
        join_delay_seconds: section
            .number("join_delay_seconds", 0..=86_400)
            .unwrap_or(300),
        kms_only: section.flag("kms_only").unwrap_or(false),
    };
    section.refuse_unknown();
    Some(fleet)
}

/// Tags as a table of strings.
pub(crate) fn read_tags(section: &Section<'_>) -> BTreeMap<String, String> {
    section
        .names()
        .into_iter()
        .filter_map(|name| section.string(&name).map(|value| (name, value)))
        .collect()
}

pub(super) fn read_nat(source: &Section<'_>) -> Vec<NatRule> {
    let rules = source
        .tables("nat")
        .iter()
        .filter_map(read_nat_rule)
        .collect();
    source.refuse_unknown();
    rules
}

fn read_nat_rule(section: &Section<'_>) -> Option<NatRule> {
    let range = section.required::<Cidr>("range", "range = \"10.0.0.0/8\"");
    let public = section.required("public", "public = \"203.0.113.5\"");
    section.refuse_unknown();
    Some(NatRule {
        range: range?,
        public: public?,
    })
}
