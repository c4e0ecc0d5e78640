//! The decision about one host key: a pure function of what was presented, what is pinned and what is remembered.

use eic_protocol::api::instance::Enrolment;
use eic_protocol::cert::check::{Mismatch, host_certificate};
use eic_protocol::instance_id::InstanceId;
use eic_protocol::subject_key::{CaKey, SubjectKey};
use ssh_key::Certificate;

use super::console::ConsoleKeys;
use super::memory::{HostRecord, KeySource};
use crate::ssh_agent::session_bind::plain_key;

/// What is known of the instance that the login means.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The instance that `connect` resolved.
    pub instance: &'a InstanceId,
    /// What the CA says, where it could be asked.
    pub enrolment: Enrolment,
    /// What is remembered.
    pub record: Option<&'a HostRecord>,
    /// The pinned host CAs.
    pub host_cas: &'a [CaKey],
    /// Whether what the host shows is on the CA's revocation list (F-23).
    pub revoked: bool,
}

impl Known<'_> {
    /// Whether the host is positively known to have no certificate of ours: by the CA's word, by keys that were
    /// remembered for it, or since there is no host CA. A host of which that is not known and which shows a
    /// foreign certificate is refused like an enrolled one (H-10).
    fn is_legacy(&self) -> bool {
        let remembered = self.record.is_some_and(|record| !record.keys.is_empty());
        self.enrolment == Enrolment::Legacy || remembered || self.host_cas.is_empty()
    }
}

/// What follows.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Certified for this instance by a pinned host CA.
    Certified(SubjectKey),
    /// A legacy host that shows the key it is known by.
    Remembered(SubjectKey),
    /// A legacy host of which nothing is known: its console decides.
    Unknown(SubjectKey),
}

/// Judges the host key that ssh was shown, in wire form. `now` is in Unix seconds.
///
/// # Errors
/// [`Untrusted`] with reason and remedy.
pub fn judge(blob: &[u8], known: &Known<'_>, now: u64) -> Result<Verdict, Untrusted> {
    let enrolled = known.enrolment == Enrolment::Enrolled
        || known.record.is_some_and(|record| record.enrolled);
    if known.revoked {
        return Err(Untrusted::Revoked(known.instance.clone()));
    }
    if is_certificate(blob) {
        match host_certificate(blob, known.instance, known.host_cas, now) {
            Ok(key) => return Ok(Verdict::Certified(key)),
            // A certificate of somebody else's host CA on a legacy host: only its plain key can count.
            Err(Mismatch::Field("signature key")) if !enrolled && known.is_legacy() => {}
            Err(mismatch) => {
                return Err(Untrusted::Certificate {
                    instance: known.instance.clone(),
                    mismatch,
                });
            }
        }
    } else if enrolled {
        return Err(Untrusted::PlainKey(known.instance.clone()));
    }
    let key = plain_key(blob).ok_or(Untrusted::Unreadable)?;
    match known.record.map(|record| record.keys.as_slice()) {
        None | Some([]) => Ok(Verdict::Unknown(key)),
        Some(keys) if keys.contains(&key) => Ok(Verdict::Remembered(key)),
        Some(_) => Err(Untrusted::Changed {
            instance: known.instance.clone(),
            fingerprint: key.fingerprint(),
        }),
    }
}

/// What to remember of a legacy host that was unknown and whose keys the CA has from the host itself.
///
/// # Errors
/// [`Untrusted::NotHarvested`] where it shows another one.
pub fn judge_by_harvest(
    instance: &InstanceId,
    key: &SubjectKey,
    harvested: &[SubjectKey],
) -> Result<(Vec<SubjectKey>, KeySource), Untrusted> {
    if harvested.contains(key) {
        return Ok((harvested.to_vec(), KeySource::Harvested));
    }
    Err(Untrusted::NotHarvested {
        instance: instance.clone(),
        fingerprint: key.fingerprint(),
    })
}

/// What to remember of a legacy host that was unknown, once its console was read.
///
/// # Errors
/// [`Untrusted`] where the console names other keys or contradicts itself.
pub fn judge_by_console(
    instance: &InstanceId,
    key: &SubjectKey,
    console: ConsoleKeys,
) -> Result<(Vec<SubjectKey>, KeySource), Untrusted> {
    match console {
        ConsoleKeys::None => Ok((vec![key.clone()], KeySource::FirstUse)),
        ConsoleKeys::Contradicting => Err(Untrusted::Contradicting(instance.clone())),
        ConsoleKeys::Keys(keys) if keys.contains(key) => Ok((keys, KeySource::Console)),
        ConsoleKeys::Keys(_) => Err(Untrusted::NotOnConsole {
            instance: instance.clone(),
            fingerprint: key.fingerprint(),
        }),
    }
}

fn is_certificate(blob: &[u8]) -> bool {
    Certificate::from_bytes(blob).is_ok()
}

/// Why a host key is not trusted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Not a key.
    #[error("the host showed a key of a type that is not accepted")]
    Unreadable,
    /// A certificate that does not hold.
    #[error("this is not proven to be {instance}: its host certificate does not hold: {mismatch}")]
    Certificate {
        /// The instance that was meant.
        instance: InstanceId,
        /// What is wrong.
        mismatch: Mismatch,
    },
    /// On the CA's list.
    #[error(
        "the host certificate of {0} is revoked: its key may be in other hands, or the host was blocked or rebuilt; \
         ask who runs the CA (`eic-ca hosts show {0}`)"
    )]
    Revoked(InstanceId),
    /// An enrolled host without its certificate.
    #[error(
        "{0} is enrolled but showed a plain key: somebody else answers at its address, or its host certificate is gone (renew it: `eic-ca host-state --host-key`, then `eic-agent install` there)"
    )]
    PlainKey(InstanceId),
    /// Another key than before.
    #[error(
        "the host key of {instance} changed (now {fingerprint}): somebody else answers at its address, or the host was rebuilt; \
         if you know that it was, remove {instance} from ~/.local/state/eic/hosts.json"
    )]
    Changed {
        /// The instance.
        instance: InstanceId,
        /// The key that it shows now.
        fingerprint: String,
    },
    /// The console names other keys.
    #[error(
        "{instance} showed the key {fingerprint}, which is not among those on its console: somebody else answers at its address"
    )]
    NotOnConsole {
        /// The instance.
        instance: InstanceId,
        /// The key that it shows.
        fingerprint: String,
    },
    /// The CA has other keys from the host.
    #[error(
        "{instance} showed the key {fingerprint}, which is not among those that its agent told the CA: somebody else answers at its address, \
         or its keys were replaced (`eic_harvest_hostkeys` there tells the new ones)"
    )]
    NotHarvested {
        /// The instance.
        instance: InstanceId,
        /// The key that it shows.
        fingerprint: String,
    },
    /// The console contradicts itself.
    #[error(
        "the console of {0} names two different sets of host keys: look at `aws ec2 get-console-output`, none is trusted"
    )]
    Contradicting(InstanceId),
}

#[cfg(test)]
mod tests;
