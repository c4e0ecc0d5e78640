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

/// A host that was enrolled before.
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
    /// Whether an operator has shut it out.
    pub blocked: bool,
    /// When it was enrolled, in Unix seconds.
    pub enrolled_at: u64,
    /// When it last got certificates, in Unix seconds.
    pub certified_at: u64,
    /// Grows with each change: two requests at once cannot both be the first.
    pub revision: u64,
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

/// What is needed before `keys` are certified for a host of which `evidence` was given. The sender has
/// proven to hold each of them, and `previous`.
///
/// # Errors
/// [`NotEnrolled`]: nothing that could be shown would do.
pub fn needs(
    evidence: &HostEvidence,
    keys: &[SubjectKey],
    previous: Option<&SubjectKey>,
    known: Option<&EnrolledHost>,
    rule: FirstEnrolment,
) -> Result<(Standing, Need), NotEnrolled> {
    let Some(known) = known else {
        return first(evidence, rule).map(|need| (Standing::First, need));
    };
    check_same_host(evidence, known)?;
    let of_before = |key: &SubjectKey| known.keys.contains(key);
    if keys.iter().all(of_before) {
        return Ok((Standing::Renewal, Need::Nothing));
    }
    if keys.iter().chain(previous).any(of_before) {
        return Ok((Standing::Vouched, Need::Nothing));
    }
    replaced(evidence, rule).map(|need| (Standing::Replaced, need))
}

fn first(evidence: &HostEvidence, rule: FirstEnrolment) -> Result<Need, NotEnrolled> {
    match (evidence.kind(), rule) {
        (EvidenceKind::HostKey, _) => Err(NotEnrolled::Unknown),
        (EvidenceKind::EnrolmentToken, _) => Ok(Need::Nothing),
        (_, FirstEnrolment::Evidence) => match evidence.shared_role() {
            Some(who) => Err(NotEnrolled::SharedRole(who.to_owned())),
            None => Ok(Need::Nothing),
        },
        (_, FirstEnrolment::Console) => Ok(Need::Console),
        (_, FirstEnrolment::Approval) => Ok(Need::Approval),
        (_, FirstEnrolment::Token) => Ok(Need::Token),
    }
}

/// Role credentials may have left the host: for other keys they never suffice by themselves.
fn replaced(evidence: &HostEvidence, rule: FirstEnrolment) -> Result<Need, NotEnrolled> {
    match (evidence.kind(), rule) {
        (EvidenceKind::HostKey, _) => Err(NotEnrolled::OtherKey),
        (EvidenceKind::EnrolmentToken, _) => Ok(Need::Nothing),
        (_, FirstEnrolment::Console) => Ok(Need::Console),
        (_, FirstEnrolment::Token) => Ok(Need::Token),
        (_, FirstEnrolment::Evidence | FirstEnrolment::Approval) => Ok(Need::Approval),
    }
}

fn check_same_host(evidence: &HostEvidence, known: &EnrolledHost) -> Result<(), NotEnrolled> {
    if known.blocked {
        return Err(NotEnrolled::Blocked);
    }
    if known.account != *evidence.account() || known.region != evidence.region() {
        return Err(NotEnrolled::Moved);
    }
    let older = |launch: u64| known.pending_time.is_some_and(|known| launch < known);
    if evidence.pending_time().is_some_and(older) {
        return Err(NotEnrolled::OlderDocument);
    }
    // Evidence of AWS is demanded each time of whom it was demanded of at first.
    if evidence.kind() == EvidenceKind::HostKey && known.evidence.is_of_aws() {
        return Err(NotEnrolled::WeakerEvidence);
    }
    Ok(())
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
    #[error("the host is blocked")]
    Blocked,
    /// A host key of a host that nobody enrolled.
    #[error("the host was never enrolled here; an operator's token is needed")]
    Unknown,
    /// A key that is not the host's.
    #[error("the key is not one that was certified for this host")]
    OtherKey,
    /// The id is in another account or Region than before.
    #[error("the host was enrolled in another account or Region")]
    Moved,
    /// From before the latest launch.
    #[error("the identity document is of an earlier launch than the last one that was shown")]
    OlderDocument,
    /// Another host has the same key: it came with an image.
    #[error(
        "a key is that of the host {0} already: make fresh host keys on each host, and none in the image"
    )]
    SharedKey(InstanceId),
    /// Less than what it was enrolled with.
    #[error("the host was enrolled by AWS's evidence and must show it again")]
    WeakerEvidence,
    /// Others may assume the role, so that its session's name is only claimed.
    #[error(
        "the instance's role may also be assumed by {0}, so its session does not prove the instance; let EC2 alone assume it, or demand `console`, `approval` or `token` for first enrolment"
    )]
    SharedRole(String),
}

#[cfg(test)]
mod tests;
