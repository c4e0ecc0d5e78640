//! Keys that EC2 Instance Connect put into instance metadata, verified natively.
//!
//! One straight line, cheapest question first: user name → is this EC2 → token → which instance →
//! is any key active → which signer must it be → its chain and staples → the records, each alone.
//! Nothing is printed here; what sshd gets is returned as one text.

pub mod endpoint;
pub mod http;
pub mod key;
pub mod metadata;
pub mod ocsp;
pub mod place;
pub mod record;
pub mod roots;
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
use roots::Roots;
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
    pub roots: Roots,
    /// Where the metadata service listens.
    pub endpoint: Endpoint,
    /// Key types beyond RSA and Ed25519.
    pub extra_key_types: BTreeSet<ExtraKeyType>,
}

/// The lines for sshd's AuthorizedKeysCommand; empty means no key.
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
) -> Result<String, NoKeys> {
    let Some(user) = PushedUser::new(&question.user) else {
        return Ok(String::new());
    };
    let hypervisor = machine.hypervisor();
    if hypervisor == Hypervisor::Elsewhere {
        log.info("EC2 Instance Connect was invoked on a non-instance and will do nothing.");
        return Ok(String::new());
    }
    let mut metadata = match Metadata::open(&settings.endpoint, deadline) {
        Err(MetadataError::Unreachable(_)) => return Ok(String::new()),
        other => other?,
    };
    let instance = own_id(&mut metadata, &hypervisor)?;
    if !metadata.exists(&active_keys(&user))? {
        return Ok(String::new());
    }
    let signer = trusted_signer(&mut metadata, &settings.roots, now).inspect_err(|e| {
        log.info(&format!(
            "EC2 Instance Connect did not trust the signer: {e}. No keys have been trusted."
        ))
    })?;
    let records = metadata.get(&active_keys(&user))?;
    if let Some(fingerprint) = &question.fingerprint {
        log.info(&format!(
            "Querying EC2 Instance Connect keys for matching fingerprint: {fingerprint}"
        ));
    }
    let check = RecordCheck {
        signer: &signer,
        instance: &instance,
        settings,
        question,
        now,
    };
    Ok(check.lines(&records, log))
}

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

fn trusted_signer(metadata: &mut Metadata, roots: &Roots, now: u64) -> Result<Signer, NoKeys> {
    let zone = metadata.get("meta-data/placement/availability-zone/")?;
    let domain = metadata.get("meta-data/services/domain/")?;
    let name = SignerName::new(&zone, &domain)?;
    let chain = Chain::from_pem(&metadata.get("meta-data/managed-ssh-keys/signer-cert/")?)?;
    let path = chain.verify(roots, &name, now)?;
    let mut staples = Vec::with_capacity(path.links().len());
    for link in path.links() {
        let encoded = metadata.get(&format!(
            "meta-data/managed-ssh-keys/signer-ocsp/{}",
            link.staple_name()
        ))?;
        staples.push(decode_staple(&encoded)?);
    }
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
struct RecordCheck<'a> {
    signer: &'a Signer,
    instance: &'a InstanceId,
    settings: &'a Settings,
    question: &'a Question,
    now: u64,
}

impl RecordCheck<'_> {
    fn lines(&self, records: &[u8], log: &dyn Log) -> String {
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
        let key = PushedKey::parse(record.key_line(), &self.settings.extra_key_types)
            .map_err(Dropped::Key)?;
        if self
            .question
            .fingerprint
            .as_ref()
            .is_some_and(|wanted| *wanted != key.fingerprint())
        {
            return Err(Dropped::OtherKey);
        }
        if record.instance() != self.instance.as_str() {
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
}

#[cfg(test)]
mod tests;
