//! `[hosts]`: which hosts get certificates, what they must show, and for how long a certificate is good.

use std::path::PathBuf;

use eic_protocol::arn::AccountId;
use eic_protocol::validity::MAX_HOST_TTL;

use super::document::Section;
use super::inventory::InventoryConfig;
use super::issuer;
use crate::host_identity::enrolment::FirstEnrolment;
use crate::host_identity::evidence::EvidenceKind;
use crate::web_token::issuer::IssuerRules;
use crate::web_token::jwt::Algorithm;

/// Shortest life of a host certificate: a host must have time to fetch the next. Seconds.
const MIN_TTL: u64 = 3_600;
/// Rarest look for hosts that are gone. Seconds.
const MAX_WATCH: u64 = 3_600;

/// `[hosts]`
#[derive(Clone, Debug)]
pub struct HostsConfig {
    /// Folder of AWS's certificates for identity documents, one `<region>.pem` each.
    pub identity_certificates: Option<PathBuf>,
    /// Life of a host certificate. Seconds.
    pub certificate_ttl_seconds: u64,
    /// How often the inventory is looked through for hosts that are gone. Seconds.
    pub watch_seconds: u64,
    /// `[[hosts.accounts]]`
    pub accounts: Vec<HostAccount>,
}

impl Default for HostsConfig {
    fn default() -> Self {
        Self {
            identity_certificates: None,
            certificate_ttl_seconds: MAX_HOST_TTL,
            watch_seconds: 60,
            accounts: Vec::new(),
        }
    }
}

/// An account whose instances may enrol.
#[derive(Clone, Debug)]
pub struct HostAccount {
    /// The account.
    pub account: AccountId,
    /// What the first keys of a host need beside the evidence.
    pub first_enrolment: FirstEnrolment,
    /// Which evidence counts.
    pub evidence: Vec<EvidenceKind>,
    /// Whether its legacy hosts make their keys known.
    pub harvest: bool,
    /// The account's outbound issuer of web identity tokens.
    pub issuer: Option<IssuerRules>,
}

pub(super) fn read(section: &Section<'_>) -> HostsConfig {
    let default = HostsConfig::default();
    let accounts: Vec<_> = section
        .tables("accounts")
        .iter()
        .filter_map(read_account)
        .collect();
    let identity_certificates = section.path("identity_certificates");
    let certificate_ttl_seconds = section
        .number("certificate_ttl_seconds", MIN_TTL..=MAX_HOST_TTL)
        .unwrap_or(default.certificate_ttl_seconds);
    let watch_seconds = section.number("watch_seconds", 1..=MAX_WATCH);
    let documents =
        |account: &HostAccount| account.evidence.contains(&EvidenceKind::IdentityDocument);
    if identity_certificates.is_none() && accounts.iter().any(documents) {
        section.mistake(
            "identity_certificates",
            "is missing; name a folder with AWS's RSA-2048 certificate for each Region, as in `identity_certificates = \"aws-certificates\"`",
        );
    }
    section.refuse_unknown();
    HostsConfig {
        identity_certificates,
        certificate_ttl_seconds,
        watch_seconds: watch_seconds.unwrap_or(default.watch_seconds),
        accounts,
    }
}

fn read_account(section: &Section<'_>) -> Option<HostAccount> {
    let account = section.required::<AccountId>("account", "account = \"111122223333\"");
    if !section.has("first_enrolment") {
        section.mistake(
            "first_enrolment",
            "is missing; write \"console\", \"approval\" or \"token\", or \"evidence\" where the role's credentials never leave their hosts",
        );
    }
    let first_enrolment = section.word("first_enrolment", &FirstEnrolment::NAMES);
    let issuer = issuer::optional(section, vec![Algorithm::Es384]);
    let evidence = read_evidence(section, issuer.is_some());
    let harvest = read_harvest(section, first_enrolment);
    section.refuse_unknown();
    Some(HostAccount {
        account: account?,
        first_enrolment: first_enrolment?,
        evidence,
        harvest,
        issuer,
    })
}

/// Off by itself where a role's credentials alone would make keys known; a token is for one host's enrolment.
fn read_harvest(section: &Section<'_>, rule: Option<FirstEnrolment>) -> bool {
    let harvest = section.flag("harvest");
    if harvest == Some(true) && rule == Some(FirstEnrolment::Token) {
        section.mistake(
            "harvest",
            "does not go with `first_enrolment = \"token\"`; take \"console\" or \"approval\", or leave it out",
        );
    }
    let strong = matches!(
        rule,
        Some(FirstEnrolment::Console | FirstEnrolment::Approval)
    );
    harvest.unwrap_or(strong)
}

fn read_evidence(section: &Section<'_>, has_issuer: bool) -> Vec<EvidenceKind> {
    let mut of_aws = EvidenceKind::NAMES.to_vec();
    of_aws.retain(|(_, kind)| kind.is_of_aws());
    let evidence = match section.words("evidence", &of_aws) {
        Some(kinds) => kinds,
        None if has_issuer => vec![EvidenceKind::WebIdentity, EvidenceKind::IdentityDocument],
        None => vec![EvidenceKind::IdentityDocument],
    };
    if evidence.is_empty() {
        section.mistake("evidence", "name at least one kind of evidence");
    }
    if evidence.contains(&EvidenceKind::WebIdentity) && !section.has("issuer") {
        section.mistake(
            "evidence",
            "`web-identity` needs the account's `issuer` (`aws iam get-outbound-web-identity-federation-info` tells it)",
        );
    }
    evidence
}

/// EC2 is asked about every instance that enrols, and two accounts never share an issuer.
pub(super) fn check(top: &Section<'_>, hosts: &HostsConfig, inventory: &InventoryConfig) {
    for account in &hosts.accounts {
        let known = inventory
            .ec2
            .iter()
            .any(|ec2| ec2.account == account.account);
        if !known {
            top.mistake(
                "hosts",
                format!(
                    "account {0} needs an [[inventory.ec2]] with `account = \"{0}\"`: EC2 is asked about each of its instances",
                    account.account
                ),
            );
        }
    }
    let mut seen = std::collections::HashSet::new();
    let mut issuers = std::collections::HashSet::new();
    for account in &hosts.accounts {
        let issuer = account.issuer.as_ref().map(|issuer| issuer.issuer.as_str());
        let new =
            seen.insert(&account.account) && issuer.is_none_or(|issuer| issuers.insert(issuer));
        if !new {
            top.mistake(
                "hosts",
                format!("account {} or its issuer is named twice", account.account),
            );
        }
    }
}
