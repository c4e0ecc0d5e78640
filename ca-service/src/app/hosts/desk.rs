//! What host requests share: accounts and their rules, AWS's certificates, issuers' keys, the host CA, the book.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eic_aws::endpoint::InvalidEndpoint;
use eic_protocol::arn::AccountId;
use eic_protocol::instance_id::InstanceId;

use super::login_budget::LoginBudget;
use crate::aws_access::AwsAccess;
use crate::config::Config;
use crate::config::hosts::{HostAccount, HostsConfig};
use crate::host_identity::aws_look_up::AwsLookUp;
use crate::host_identity::enrolment::FirstEnrolment;
use crate::host_identity::evidence::EvidenceKind;
use crate::host_identity::key_sets::IssuerKeys;
use crate::host_identity::region_certificates::{CertificateError, RegionCertificates};
use crate::issuance::SpecialKeys;
use crate::rate::Buckets;
use crate::signer::HostCa;
use crate::store::hosts::HostBook;

/// Requests per second of one host, on average, and at once: a host asks twice a day, and a few times in a
/// row at its first enrolment.
const HOST_RATE: u32 = 1;
const HOST_BURST: u32 = 10;
/// One report in this time, on average, and at once: a host reports every five minutes, and one that starts
/// again, or was away, sends a few.
const REPORT_PACE: Duration = Duration::from_secs(60);
const REPORT_BURST: u32 = 5;
/// Hosts whose rate is remembered at a time, in each of the tables.
const MAX_HOSTS: usize = 65_536;

/// What host requests share.
pub(crate) struct HostDesk {
    pub(super) certificates: RegionCertificates,
    pub(super) look_up: AwsLookUp,
    pub(super) issuers: Vec<Issuer>,
    pub(super) ca: Arc<HostCa>,
    pub(super) special: SpecialKeys,
    pub(super) book: HostBook,
    /// Life of a host certificate. Seconds.
    pub(super) ttl: u64,
    /// How often hosts that are gone are looked for. Seconds.
    pub(super) watch_seconds: u64,
    /// Requests that no enrolled key of the host signed: whoever reads the metadata service can spend these.
    pub(super) newcomers: Buckets<InstanceId>,
    /// Requests that an enrolled key of the host signed.
    pub(super) regulars: Buckets<InstanceId>,
    /// Reports: every one of them is work and disk for the CA.
    pub(super) reports: Buckets<InstanceId>,
    pub(super) logins: LoginBudget,
    accounts: HashMap<AccountId, HostAccount>,
}

/// The issuer of one account.
pub(super) struct Issuer {
    pub(super) account: AccountId,
    pub(super) keys: IssuerKeys,
}

/// Why the desk cannot open.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// AWS's certificates.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// An endpoint override.
    #[error(transparent)]
    Endpoint(#[from] InvalidEndpoint),
}

impl HostDesk {
    /// Opens what the configuration names. Nothing is asked for yet.
    ///
    /// # Errors
    /// [`DeskError`]
    pub(crate) fn open(
        config: &Config,
        access: Arc<AwsAccess>,
        ca: Arc<HostCa>,
        special: SpecialKeys,
        book: HostBook,
    ) -> Result<Self, DeskError> {
        let hosts = &config.hosts;
        let client = access.client().clone();
        let issuer = |account: &HostAccount| {
            Some(Issuer {
                account: account.account.clone(),
                keys: IssuerKeys::new(account.issuer.clone()?, client.clone()),
            })
        };
        let issuers = hosts.accounts.iter().filter_map(issuer).collect();
        let iam = config.aws_sts.endpoint_override.clone();
        Ok(Self {
            certificates: certificates(hosts)?,
            look_up: AwsLookUp::new(access, &config.inventory.ec2, iam)?,
            issuers,
            ca,
            special,
            book,
            ttl: hosts.certificate_ttl_seconds,
            watch_seconds: hosts.watch_seconds,
            newcomers: Buckets::new(HOST_RATE, HOST_BURST, MAX_HOSTS),
            regulars: Buckets::new(HOST_RATE, HOST_BURST, MAX_HOSTS),
            reports: Buckets::paced(REPORT_PACE, REPORT_BURST, MAX_HOSTS),
            logins: LoginBudget::default(),
            accounts: accounts(hosts),
        })
    }

    /// Whether instances of the account prove themselves by AWS's evidence here.
    pub(super) fn has_account(&self, account: &AccountId) -> bool {
        self.accounts.contains_key(account)
    }

    /// Whether this kind of evidence counts for the account.
    pub(super) fn takes(&self, account: &AccountId, kind: EvidenceKind) -> bool {
        let known = self.accounts.get(account);
        known.is_some_and(|known| known.evidence.contains(&kind))
    }

    /// Whether its legacy hosts make their keys known here.
    pub(super) fn harvests(&self, account: &AccountId) -> bool {
        let known = self.accounts.get(account);
        known.is_some_and(|known| known.harvest)
    }

    /// What first keys need; for hosts of no account: a token, which is their evidence anyway.
    pub(super) fn first_enrolment(&self, account: &AccountId) -> FirstEnrolment {
        let known = self.accounts.get(account);
        known.map_or(FirstEnrolment::Token, |known| known.first_enrolment)
    }
}

fn accounts(hosts: &HostsConfig) -> HashMap<AccountId, HostAccount> {
    let accounts = hosts.accounts.iter();
    accounts
        .map(|account| (account.account.clone(), account.clone()))
        .collect()
}

fn certificates(hosts: &HostsConfig) -> Result<RegionCertificates, CertificateError> {
    let folder = hosts.identity_certificates.as_deref();
    folder.map_or_else(|| Ok(RegionCertificates::default()), load)
}

fn load(folder: &Path) -> Result<RegionCertificates, CertificateError> {
    RegionCertificates::load(folder)
}
