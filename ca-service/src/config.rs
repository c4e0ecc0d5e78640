//! The configuration: one TOML file, read strictly and completely before anything starts.
//! It opens no key, store or network; `app` does that with what is read here.

use std::path::{Path, PathBuf};

pub mod aws_sts;
pub mod bundle;
pub mod certificates;
pub(crate) mod document;
mod endpoint;
pub mod hosts;
pub mod inventory;
mod issuer;
pub mod keys;
pub mod limits;
mod oidc;
mod outbound;
pub mod policy;
pub mod publish;
pub mod sample;
pub mod server;

pub use document::{ConfigError, Mistake};

use eic_aws::proxy::Proxy;

use crate::authn::oidc::OidcRules;
use crate::policy::NatRule;
use document::Section;

/// A configuration without mistakes.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`
    pub server: server::ServerConfig,
    /// `[store] path`: the SQLite database.
    pub store: PathBuf,
    /// `[keys]`
    pub keys: keys::KeysConfig,
    /// `[policy]`
    pub policy: policy::PolicyConfig,
    /// `[aws_sts]`
    pub aws_sts: aws_sts::AwsStsConfig,
    /// `[[oidc]]`
    pub oidc: Vec<OidcRules>,
    /// `[sessions]`
    pub sessions: aws_sts::SessionsConfig,
    /// `[inventory]`
    pub inventory: inventory::InventoryConfig,
    /// `[certificates]`
    pub certificates: certificates::CertificatesConfig,
    /// `[fleets.<name>]`
    pub fleets: Vec<certificates::FleetConfig>,
    /// `[[source.nat]]`
    pub nat: Vec<NatRule>,
    /// `[hosts]`
    pub hosts: hosts::HostsConfig,
    /// `[bundle]`
    pub bundle: bundle::BundleConfig,
    /// `[publish]`
    pub publish: Option<publish::PublishConfig>,
    /// `[outbound]`: what the service's own HTTPS goes through.
    pub proxy: Option<Proxy>,
    /// `[limits]`
    pub limits: limits::LimitsConfig,
}

impl Config {
    /// Reads `file`.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake, each with file, line and key.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        document::read_file(file, read)
    }

    /// Reads text as if it were in `file`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        document::read_text(file, text, read)
    }
}

fn read(top: &Section<'_>) -> Option<Config> {
    let server = required_table(top, "server", "[server]").and_then(|s| server::read(&s));
    let store = required_table(top, "store", "[store]").and_then(|s| keys::read_store(&s));
    let keys = required_table(top, "keys", "[keys]").and_then(|s| keys::read(&s));
    let policy = required_table(top, "policy", "[policy]").and_then(|s| policy::read(&s));
    let aws_sts = required_table(top, "aws_sts", "[aws_sts]").map(|s| aws_sts::read(&s));
    let inventory = required_table(top, "inventory", "[inventory]").map(|s| inventory::read(&s));
    let issuers = top.tables("oidc");
    let oidc: Vec<_> = issuers.iter().filter_map(oidc::read).collect();
    let sessions = top
        .table("sessions")
        .map(|s| aws_sts::read_sessions(&s))
        .unwrap_or_default();
    let certificates = top
        .table("certificates")
        .map(|s| certificates::read(&s))
        .unwrap_or_default();
    let fleets = top
        .table("fleets")
        .map(|s| certificates::read_fleets(&s))
        .unwrap_or_default();
    let nat = top
        .table("source")
        .map(|s| certificates::read_nat(&s))
        .unwrap_or_default();
    let hosts = top
        .table("hosts")
        .map(|s| hosts::read(&s))
        .unwrap_or_default();
    let bundle = top
        .table("bundle")
        .map(|s| bundle::read(&s))
        .unwrap_or_default();
    let publish = top.table("publish").map(|s| publish::read(&s));
    let proxy = top.table("outbound").and_then(|s| outbound::read(&s));
    let limits = top
        .table("limits")
        .map(|s| limits::read(&s))
        .unwrap_or_default();
    if let Some(keys) = &keys {
        check_overlap(top, keys, certificates);
    }
    let accounts = aws_sts.as_ref().map_or(&[][..], |sts| &sts.web_identity);
    oidc::check(top, &oidc, accounts, policy.as_ref());
    if let (Some(aws_sts), Some(inventory)) = (&aws_sts, &inventory) {
        check_role_revocation(top, aws_sts, inventory);
        hosts::check(top, &hosts, inventory);
    }
    Some(Config {
        server: server?,
        store: store?,
        keys: keys?.through(proxy.as_ref()),
        policy: policy?,
        aws_sts: aws_sts?,
        oidc,
        sessions,
        inventory: inventory?,
        certificates,
        fleets,
        nat,
        hosts,
        bundle,
        publish: publish.flatten(),
        proxy,
        limits,
    })
}

/// Asking IAM about a role takes credentials for the role's own account.
fn check_role_revocation(
    top: &Section<'_>,
    sts: &aws_sts::AwsStsConfig,
    inventory: &inventory::InventoryConfig,
) {
    let unreachable: Vec<_> = sts
        .accounts
        .iter()
        .filter(|account| !inventory.ec2.iter().any(|ec2| ec2.account == **account))
        .collect();
    if sts.role_revocation && (sts.accounts.is_empty() || !unreachable.is_empty()) {
        top.mistake(
            "aws_sts",
            "`role_revocation` needs `accounts`, and an [[inventory.ec2]] for each of them, whose credentials may call iam:GetRolePolicy",
        );
    }
}

/// Else every certificate near the end of a key's hours would be shorter than policy gives.
fn check_overlap(
    top: &Section<'_>,
    keys: &keys::KeysConfig,
    certificates: certificates::CertificatesConfig,
) {
    let longest = certificates
        .max_ttl_seconds
        .max(certificates.fleet_max_ttl_seconds);
    if keys.endorsed.is_some_and(|rules| rules.overlap < longest) {
        top.mistake(
            "keys",
            format!("`endorsed.overlap_seconds` must be at least {longest}, the longest certificate that [certificates] allows"),
        );
    }
}

fn required_table<'a>(top: &Section<'a>, key: &str, header: &str) -> Option<Section<'a>> {
    let section = top.table(key);
    if section.is_none() && !top.has(key) {
        top.mistake(
            key,
            format!("is missing; add a table `{header}` (`eic-ca init` writes a complete example)"),
        );
    }
    section
}

#[cfg(test)]
mod tests;
