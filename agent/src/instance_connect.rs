//! Keys that EC2 Instance Connect put into instance metadata, verified natively.
//!
//! One straight line, cheapest question first: user name → is this EC2 → token → which instance →
//! is any key active → which signer must it be → its chain and staples → the records, each alone.
//! Where a key is active, what the later steps need is fetched together; the order of decisions stays.
//! Nothing is printed here; what sshd gets is returned as one text.

pub mod endpoint;
pub mod files;
pub mod http;
pub mod key;
pub mod metadata;
pub mod ocsp;
pub(crate) mod official_log;
pub mod place;
pub mod record;
pub mod roots;
#[cfg(test)]
mod rules;
pub mod signature;
pub mod signer;
#[cfg(test)]
#[path = "../tests/support/imds.rs"]
mod test_imds;
#[cfg(test)]
#[path = "../tests/support/pki.rs"]
mod test_pki;
pub mod user;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eic_protocol::instance_id::InstanceId;

use crate::clock::Deadline;
use crate::machine::{Hypervisor, Machine};
use crate::syslog::Log;
use endpoint::Endpoint;
use key::{ExtraKeyType, PushedKey};
use metadata::{Metadata, MetadataError};
use place::{SignerName, UnknownPlace};
use record::Record;
use roots::{InvalidRoots, RootsSource};
use signer::{Chain, Signer, UntrustedSigner};
use user::PushedUser;

/// What sshd asks.
#[derive(Clone, Debug)]
pub struct Question {
    /// The account, sshd's `%u`.
    pub user: String,
    /// The offered key, sshd's `%f`; absent means all keys.
    pub fingerprint: Option<String>,
}

/// What the administrator decided.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where chains may end.
    pub roots: RootsSource,
    /// Where the metadata service listens.
    pub endpoint: Endpoint,
    /// Key types beyond RSA and Ed25519.
    pub extra_key_types: BTreeSet<ExtraKeyType>,
}

/// What Instance Connect has for a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This user, or this machine, can have no such keys.
    NotHere,
    /// Nothing listens at the metadata service's addresses: it is switched off for this instance.
    NoService,
    /// No key is active for the user.
    NoneActive,
    /// The lines for sshd's AuthorizedKeysCommand; empty where no active key is good, or none is the one offered.
    Keys(String),
}

impl Answer {
    /// The lines for sshd.
    #[must_use]
    pub fn into_lines(self) -> String {
        match self {
            Self::Keys(lines) => lines,
            Self::NotHere | Self::NoService | Self::NoneActive => String::new(),
        }
    }
}

/// The keys for sshd's AuthorizedKeysCommand.
///
/// # Errors
/// [`NoKeys`] where something is wrong that an administrator should hear of. No key counts then.
pub fn authorized_keys(
    question: &Question,
    settings: &Settings,
    machine: &Machine,
    log: &dyn Log,
    now: u64,
    deadline: Deadline,
) -> Result<Answer, NoKeys> {
    ask(question, settings, machine, log, now, deadline).inspect_err(|e| {
        if let Some(line) = official_log::line(e) {
            log.info(&line);
        }
        log.info(&official_log::reason(e));
    })
}

/// What the official scripts log where there is no instance, or another one.
const OTHER_MACHINE: &str =
    "EC2 Instance Connect was invoked on a non-instance and will do nothing.";

fn ask(
    question: &Question,
    settings: &Settings,
    machine: &Machine,
    log: &dyn Log,
    now: u64,
    deadline: Deadline,
) -> Result<Answer, NoKeys> {
    let Some(user) = PushedUser::new(&question.user) else {
        return Ok(Answer::NotHere);
    };
    let hypervisor = machine.hypervisor();
    if hypervisor == Hypervisor::Elsewhere {
        log.info(OTHER_MACHINE);
        return Ok(Answer::NotHere);
    }
    let mut metadata = match Metadata::open(&settings.endpoint, deadline) {
        Err(MetadataError::Unreachable(_)) => return Ok(Answer::NoService),
        other => other?,
    };
    let instance = own_id(&mut metadata, &hypervisor)?;
    let keys = active_keys(&user);
    if !metadata.exists(&keys)? {
        return Ok(Answer::NoneActive);
    }
    let [zone, domain, chain, records] = metadata.get_all([ZONE, DOMAIN, CHAIN, &keys])?;
    let told = SignerTold {
        zone,
        domain,
        chain,
    };
    let signer = trusted_signer(&mut metadata, &told, settings, now)?;
    Ok(Answer::Keys(
        RecordCheck {
            signer: &signer,
            instance: instance.as_str(),
            extra_key_types: &settings.extra_key_types,
            fingerprint: question.fingerprint.as_deref(),
            now,
        }
        .lines(&records, log),
    ))
}

const ZONE: &str = "meta-data/placement/availability-zone/";
const DOMAIN: &str = "meta-data/services/domain/";
const CHAIN: &str = "meta-data/managed-ssh-keys/signer-cert/";

fn active_keys(user: &PushedUser) -> String {
    format!("meta-data/managed-ssh-keys/active-keys/{}/", user.as_str())
}

/// The instance that the metadata service names, where the hypervisor agrees.
fn own_id(metadata: &mut Metadata, hypervisor: &Hypervisor) -> Result<InstanceId, NoKeys> {
    let answer = metadata.get("meta-data/instance-id/")?;
    let text = std::str::from_utf8(&answer).map_err(|_| NoKeys::OtherInstance)?;
    let id: InstanceId = text
        .trim_end_matches(['\r', '\n'])
        .parse()
        .map_err(|_| NoKeys::OtherInstance)?;
    // Xen does not contradict any id: one of a host outside EC2 is refused here.
    if hypervisor.may_be(&id) && !id.is_managed() {
        Ok(id)
    } else {
        Err(NoKeys::OtherInstance)
    }
}

/// What the metadata service says about the signer.
struct SignerTold {
    zone: Vec<u8>,
    domain: Vec<u8>,
    chain: Vec<u8>,
}

fn trusted_signer(
    metadata: &mut Metadata,
    told: &SignerTold,
    settings: &Settings,
    now: u64,
) -> Result<Signer, NoKeys> {
    let name = SignerName::new(&told.zone, &told.domain)?;
    let path = Chain::from_pem(&told.chain)?.verify(&settings.roots.load()?, &name, now)?;
    let links = path.links().iter();
    let names: Vec<String> = links
        .map(|link| {
            format!(
                "meta-data/managed-ssh-keys/signer-ocsp/{}",
                link.staple_name()
            )
        })
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let encoded = metadata.get_each(&names)?;
    let staples: Vec<Vec<u8>> = encoded
        .iter()
        .map(|staple| decode_staple(staple))
        .collect::<Result<_, _>>()?;
    Ok(path.unrevoked(&staples, now)?)
}

/// Base64 in lines of any width.
fn decode_staple(encoded: &[u8]) -> Result<Vec<u8>, NoKeys> {
    let packed: Vec<u8> = encoded
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    STANDARD.decode(packed).map_err(|_| NoKeys::Staple)
}

/// Everything that a record is held against.
pub(crate) struct RecordCheck<'a> {
    pub(crate) signer: &'a Signer,
    pub(crate) instance: &'a str,
    pub(crate) extra_key_types: &'a BTreeSet<ExtraKeyType>,
    pub(crate) fingerprint: Option<&'a str>,
    pub(crate) now: u64,
}

impl RecordCheck<'_> {
    /// The lines for sshd of each record that holds.
    pub(crate) fn lines(&self, records: &[u8], log: &dyn Log) -> String {
        if let Some(fingerprint) = self.fingerprint {
            log.info(&format!(
                "Querying EC2 Instance Connect keys for matching fingerprint: {fingerprint}"
            ));
        }
        let mut lines = String::new();
        let mut dropped = 0_usize;
        for record in record::parse(records) {
            let known = record.as_ref().ok_or(Dropped::Form);
            match known.and_then(|record| Ok((record, self.key_of(record)?))) {
                Ok((record, key)) => {
                    log.info(&provided(record, &key));
                    lines.push_str(&key.line());
                    lines.push('\n');
                }
                // The usual case: the client offers its keys one by one.
                Err(Dropped::OtherKey) => {}
                Err(reason) => {
                    dropped += 1;
                    log_drop(log, dropped, &reason);
                }
            }
        }
        lines
    }

    /// The cheap checks first, the signature last.
    fn key_of(&self, record: &Record<'_>) -> Result<PushedKey, Dropped> {
        let key =
            PushedKey::parse(record.key_line(), self.extra_key_types).map_err(Dropped::Key)?;
        if self
            .fingerprint
            .is_some_and(|wanted| wanted != key.fingerprint())
        {
            return Err(Dropped::OtherKey);
        }
        if record.instance() != self.instance {
            return Err(Dropped::OtherInstance);
        }
        // Strictly later, and no upper bound: AWS signed the time, and our clock may be late.
        if record.expires() <= self.now {
            return Err(Dropped::Expired);
        }
        if self.signer.has_signed(record) {
            Ok(key)
        } else {
            Err(Dropped::Signature)
        }
    }
}

/// A flood of bad records must not become a flood of log lines.
fn log_drop(log: &dyn Log, count: usize, reason: &Dropped) {
    match count {
        ..=MAX_DROPS_LOGGED => log.info(&format!(
            "EC2 Instance Connect dropped a key record: {reason}."
        )),
        MAX_DROPS_MARKED => log.info("EC2 Instance Connect dropped more key records."),
        _ => {}
    }
}

/// Dropped records that are named one by one.
const MAX_DROPS_LOGGED: usize = 8;
const MAX_DROPS_MARKED: usize = MAX_DROPS_LOGGED + 1;

/// The line that administrators' searches look for, in the official agent's words.
fn provided(record: &Record<'_>, key: &PushedKey) -> String {
    let mut line = format!(
        "Providing ssh key from EC2 Instance Connect with fingerprint: {}",
        key.fingerprint()
    );
    // Writing to a String cannot fail.
    if let Some(request) = record.request() {
        let _ = write!(line, ", request-id: {request}");
    }
    if let Some(caller) = record.caller() {
        let _ = write!(line, ", for IAM principal: {caller}");
    }
    line
}

/// Why one record is left out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Dropped {
    #[error("it is not of the expected form")]
    Form,
    #[error("{0}")]
    Key(key::UnusableKey),
    #[error("it holds another key than the one offered")]
    OtherKey,
    #[error("it is for another instance")]
    OtherInstance,
    #[error("it has expired")]
    Expired,
    #[error("its signature does not verify")]
    Signature,
}

/// Why no key can be given at all.
#[derive(Debug, thiserror::Error)]
pub enum NoKeys {
    /// The metadata service gave no usable answer.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Metadata and hypervisor disagree about the instance.
    #[error("know this instance: the metadata service and the hypervisor do not name the same one")]
    OtherInstance,
    /// The metadata service names an unknown place.
    #[error(transparent)]
    Place(#[from] UnknownPlace),
    /// The signer is not to be trusted.
    #[error(transparent)]
    Signer(#[from] UntrustedSigner),
    /// A staple is not base64.
    #[error("read a revocation staple: it is not base64")]
    Staple,
    /// The roots that were built in cannot be read.
    #[error(transparent)]
    Roots(#[from] InvalidRoots),
}

#[cfg(test)]
mod tests;
