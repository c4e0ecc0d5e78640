//! What a host has to show before its keys are certified: nothing more for keys that were certified before;
//! what its account's rule says for the first keys, and for keys that replace others (threats E-08, E-11).
//! Pure: a decision from what is stored and what was proven.

use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::subject_key::SubjectKey;

use super::evidence::{EvidenceKind, HostEvidence};

/// What the first enrolment of an account's hosts needs beside the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstEnrolment {
    /// Nothing: for accounts where the role's credentials never leave their hosts.
    Evidence,
    /// The host's keys on its serial console.
    Console,
    /// An operator's approval.
    Approval,
    /// A one-time token.
    Token,
}

impl FirstEnrolment {
    /// All, by their names in the configuration.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("console", Self::Console),
        ("approval", Self::Approval),
        ("token", Self::Token),
        ("evidence", Self::Evidence),
    ];
}

/// A host that was enrolled before, or a legacy host whose keys are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledHost {
    /// Which.
    pub instance: InstanceId,
    /// Its account.
    pub account: AccountId,
    /// Its Region.
    pub region: AwsRegion,
    /// How it was first shown to be itself.
    pub evidence: EvidenceKind,
    /// The keys that were certified.
    pub keys: Vec<SubjectKey>,
    /// The latest launch that a document told of, in Unix seconds.
    pub pending_time: Option<u64>,
    /// When it was enrolled, or its keys became known, in Unix seconds.
    pub enrolled_at: u64,
    /// When it last got certificates, or made its keys known, in Unix seconds.
    pub certified_at: u64,
    /// When the inventory showed that it is gone, in Unix seconds.
    pub ended_at: Option<u64>,
    /// Grows with each change: two requests at once cannot both be the first.
    pub revision: u64,
}

/// All that is stored of one host, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredHost {
    /// The enrolled host.
    pub enrolled: Option<EnrolledHost>,
    /// A legacy host that made its keys known.
    pub legacy: Option<EnrolledHost>,
    /// Whether an operator has shut it out, enrolled or not.
    pub blocked: bool,
}

impl StoredHost {
    /// Whether it is enrolled with this key, and neither shut out nor gone.
    #[must_use]
    pub fn may_have(&self, key: &SubjectKey) -> bool {
        let own = |host: &EnrolledHost| host.ended_at.is_none() && host.keys.contains(key);
        !self.blocked && self.enrolled.as_ref().is_some_and(own)
    }

    /// What is known of it for this purpose.
    #[must_use]
    pub fn known(&self, purpose: Purpose) -> Option<&EnrolledHost> {
        match purpose {
            Purpose::Certificates => self.enrolled.as_ref(),
            Purpose::KnownKeys => self.legacy.as_ref(),
        }
    }
}

/// What a host asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Certificates of its keys.
    Certificates,
    /// That clients be told its keys, since it takes no certificates.
    KnownKeys,
}

/// Why certificates may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The keys are those of before.
    Renewal,
    /// There is a new key, and one of before signed for it.
    Vouched,
    /// The host's first keys.
    First,
    /// Other keys than before.
    Replaced,
}

impl Standing {
    /// The word for the audit.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Renewal => "renewal",
            Self::Vouched => "vouched-for",
            Self::First => "first",
            Self::Replaced => "keys-replaced",
        }
    }
}

/// What is still needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// The keys on the console.
    Console,
    /// An operator's approval of these keys.
    Approval,
    /// A one-time token for this host.
    Token,
}

/// What is needed before `keys` are certified, or known, for a host of which `evidence` was given. The sender has
/// proven to hold each of them, and `previous`.
///
/// # Errors
/// [`NotEnrolled`]: nothing that could be shown would do.
pub fn needs(
    evidence: &HostEvidence,
    (keys, previous): (&[SubjectKey], Option<&SubjectKey>),
    stored: &StoredHost,
    purpose: Purpose,
    rule: FirstEnrolment,
) -> Result<(Standing, Need), NotEnrolled> {
    if stored.blocked {
        return Err(NotEnrolled::Blocked);
    }
    // A legacy host's keys are what a first enrolment is compared with; they spare it nothing else.
    let known = stored.known(purpose).or(stored.legacy.as_ref());
    let Some(known) = known else {
        return first(evidence, rule).map(|need| (Standing::First, need));
    };
    check_same_host(evidence, known)?;
    let of_before = |key: &SubjectKey| known.keys.contains(key);
    let vouched = keys.iter().chain(previous).any(of_before);
    if !vouched {
        let enrolled = stored.enrolled.is_some();
        return replaced(evidence, rule, enrolled).map(|need| (Standing::Replaced, need));
    }
    if stored.known(purpose).is_none() {
        return first(evidence, rule).map(|need| (Standing::First, need));
    }
    if keys.iter().all(of_before) {
        return Ok((Standing::Renewal, Need::Nothing));
    }
    Ok((Standing::Vouched, Need::Nothing))
}

fn first(evidence: &HostEvidence, rule: FirstEnrolment) -> Result<Need, NotEnrolled> {
    match (evidence.kind(), rule) {
        (EvidenceKind::HostKey, _) => Err(NotEnrolled::Unknown),
        (EvidenceKind::EnrolmentToken | EvidenceKind::Permit, _) => Ok(Need::Nothing),
        (_, FirstEnrolment::Evidence) => match evidence.shared_role() {
            Some(who) => Err(NotEnrolled::SharedRole(who.to_owned())),
            None => Ok(Need::Nothing),
        },
        (_, FirstEnrolment::Console) => Ok(Need::Console),
        (_, FirstEnrolment::Approval) => Ok(Need::Approval),
        (_, FirstEnrolment::Token) => Ok(Need::Token),
    }
}

/// Role credentials may have left the host: for other keys they never suffice by themselves. Nor does the console for
/// a host that has certificates: a container that may write there is not the host (threats E-08).
fn replaced(
    evidence: &HostEvidence,
    rule: FirstEnrolment,
    enrolled: bool,
) -> Result<Need, NotEnrolled> {
    match (evidence.kind(), rule) {
        // Nor does a permit: it is for hosts that cannot speak for themselves, not against those that did.
        (EvidenceKind::HostKey | EvidenceKind::Permit, _) => Err(NotEnrolled::OtherKey),
        (EvidenceKind::EnrolmentToken, _) => Ok(Need::Nothing),
        (_, FirstEnrolment::Token) => Ok(Need::Token),
        (_, FirstEnrolment::Console) if !enrolled => Ok(Need::Console),
        _ => Ok(Need::Approval),
    }
}

fn check_same_host(evidence: &HostEvidence, known: &EnrolledHost) -> Result<(), NotEnrolled> {
    if known.account != *evidence.account() || known.region != evidence.region() {
        return Err(NotEnrolled::Moved);
    }
    let older = |launch: u64| known.pending_time.is_some_and(|known| launch < known);
    if evidence.pending_time().is_some_and(older) {
        return Err(NotEnrolled::OlderDocument);
    }
    match (evidence.kind(), known.evidence) {
        // Evidence of AWS is demanded each time of whom it was demanded of at first.
        (EvidenceKind::HostKey, known) if known.is_of_aws() => Err(NotEnrolled::WeakerEvidence),
        // A permit's conditions bound each certificate; the host's own key must not outlast them.
        (EvidenceKind::HostKey, EvidenceKind::Permit) => Err(NotEnrolled::OnlyByPermit),
        _ => Ok(()),
    }
}

/// By what the host counts as shown from then on. AWS's evidence, once shown, is demanded for ever; an operator's
/// token outlasts a caller's permit; the host's own key and a further permit change nothing.
#[must_use]
pub fn evidence_after(shown: EvidenceKind, known: Option<EvidenceKind>) -> EvidenceKind {
    match (shown, known) {
        (EvidenceKind::EnrolmentToken, Some(EvidenceKind::Permit)) | (_, None) => shown,
        (_, Some(_)) if shown.is_of_aws() => shown,
        (_, Some(known)) => known,
    }
}

/// The keys that count as the host's from then on: of each type the latest one. Where nothing vouched for
/// the new keys but first-enrolment evidence, none of before stays.
#[must_use]
pub fn keys_after(
    standing: Standing,
    keys: &[SubjectKey],
    known: Option<&EnrolledHost>,
) -> Vec<SubjectKey> {
    let before = match standing {
        Standing::Renewal | Standing::Vouched => known.map(|known| known.keys.as_slice()),
        Standing::First | Standing::Replaced => None,
    };
    let same_type = |old: &SubjectKey| {
        keys.iter()
            .any(|key| key.algorithm_name() == old.algorithm_name())
    };
    let kept = before
        .unwrap_or_default()
        .iter()
        .filter(|old| !same_type(old));
    keys.iter().chain(kept).cloned().collect()
}

/// Why nothing that could be shown would do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotEnrolled {
    /// An operator has shut the host out.
    #[error("the host is blocked; `eic-ca hosts unblock` lets it in again")]
    Blocked,
    /// A host key of a host that nobody enrolled.
    #[error("the host was never enrolled here; an operator's token is needed")]
    Unknown,
    /// A key that is not the host's.
    #[error(
        "the key is not one that was certified for this host; have one of those sign too, or run `eic-ca hosts remove` first"
    )]
    OtherKey,
    /// The id is in another account or Region than before.
    #[error(
        "the host was enrolled in another account or Region; if that is meant, run `eic-ca hosts remove` first"
    )]
    Moved,
    /// From before the latest launch.
    #[error(
        "the identity document is of an earlier launch than the last one that was shown; read it from instance metadata anew"
    )]
    OlderDocument,
    /// Another host has the same key: it came with an image.
    #[error(
        "a key is that of the host {0} already: make fresh host keys on each host, and none in the image"
    )]
    SharedKey(InstanceId),
    /// Less than what it was enrolled with.
    #[error(
        "the host was enrolled by AWS's evidence and must show it again; set the agent's `[service] evidence` to `web-identity` or `instance-role`"
    )]
    WeakerEvidence,
    /// Its own key, where a caller's permit is the evidence.
    #[error(
        "the host was enrolled for a caller whom policy permits it, and its own key renews nothing; have it certified again (`POST /v1/hosts/certify`), or enrol it with a token (`eic-ca hosts token`)"
    )]
    OnlyByPermit,
    /// Others may assume the role, so that its session's name is only claimed.
    #[error(
        "the instance's role may also be assumed by {0}, so its session does not prove the instance; let EC2 alone assume it, or demand `console`, `approval` or `token` for first enrolment"
    )]
    SharedRole(String),
}

#[cfg(test)]
mod tests;
