//! Why a host got nothing, and the problem's code for it. AWS's own statements about a host are not secret to
//! that host; what an operator decided about it is told as "not enrolled".

use eic_protocol::api::problem::ProblemCode;
use eic_protocol::arn::AccountId;
use eic_protocol::sshsig::InvalidSignature;

use crate::host_identity::aws_look_up::NoLookUp;
use crate::host_identity::enrolment::NotEnrolled;
use crate::host_identity::evidence::{Disagreement, EvidenceKind};
use crate::host_identity::identity_document::InvalidDocument;
use crate::host_identity::key_sets::NoKeys;
use crate::host_identity::web_identity::InvalidToken;

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum HostRefusal {
    /// A host key's signature is missing or wrong.
    #[error("{0}; each host key and the previous key must sign the request")]
    PossessionNotProven(InvalidSignature),
    /// One of the CA's own keys.
    #[error(
        "a host key is one of the CA's own keys; make fresh host keys (`ssh-keygen -A`) and ask again"
    )]
    SpecialKey,
    /// A key that was revoked.
    #[error(
        "a host key is revoked; make fresh host keys (`ssh-keygen -A` after removing the old ones) and enrol them"
    )]
    RevokedKey,
    /// The caller's own session key as a host's.
    #[error("the host key is the key of your session; name the host's own key, and have it sign")]
    CallersKey,
    /// A person's or job's key that is a host's.
    #[error("the public key is a host's key; make a fresh key for each sign-in")]
    HostsKey,
    /// The request's time is off.
    #[error("the request's time is {0} s away from the CA's clock; check the clock of the host")]
    Stale(u64),
    /// The account is not configured.
    #[error(
        "hosts of account {0} are not accepted here; it needs an [[hosts.accounts]] in the CA's configuration"
    )]
    Account(AccountId),
    /// Not the evidence that the account's hosts show.
    #[error("evidence of the kind `{}` is not accepted for this account; set the agent's `[service] evidence` to one that its [[hosts.accounts]] names", .0.as_str())]
    Kind(EvidenceKind),
    /// Its legacy hosts do not make their keys known.
    #[error(
        "legacy hosts of account {0} do not make their keys known here; set `harvest = true` in its [[hosts.accounts]], or enrol the host"
    )]
    NoHarvest(AccountId),
    /// Legacy hosts have AWS vouch for them.
    #[error(
        "a legacy host shows a web identity token or its identity document, and nothing else counts here"
    )]
    AwsEvidence,
    /// The identity document.
    #[error("{0}")]
    Document(InvalidDocument),
    /// The web identity token.
    #[error("{0}")]
    Token(InvalidToken),
    /// The issuer's keys are not to be had.
    #[error("{0}")]
    NoKeys(NoKeys),
    /// AWS says something else.
    #[error("{0}")]
    Disagreement(Disagreement),
    /// AWS says nothing, or that there is no such instance.
    #[error("{0}")]
    LookUp(NoLookUp),
    /// The evidence is another host's.
    #[error(
        "the evidence is about another instance than the request; was the disk copied from another host? run the agent on the host itself"
    )]
    OtherInstance,
    /// The inventory does not know the host.
    #[error(
        "the inventory has no such host; name it in the inventory file, or add its account's [[inventory.ec2]]"
    )]
    NotListed,
    /// The one-time token.
    #[error(
        "the enrolment token is not known for this host, was used or has ended; make a new one with `eic-ca hosts token`"
    )]
    EnrolmentToken,
    /// First keys need a token.
    #[error("first enrolment needs a one-time token of an operator (`eic-ca hosts token`)")]
    TokenNeeded,
    /// None of the keys is enrolled.
    #[error(
        "the host is not enrolled with any of these keys; enrol it with a token (`eic-ca hosts token`)"
    )]
    NotEnrolledKey,
    /// Nothing that could be shown would do.
    #[error("{0}")]
    NotEnrolled(NotEnrolled),
    /// An operator said no.
    #[error(
        "an operator has rejected these keys for this host; make fresh host keys, or enrol it with a token (`eic-ca hosts token`)"
    )]
    Rejected,
    /// The console shows other keys.
    #[error(
        "the host's console shows other keys than these; somebody else asks in its name, or `eic-ca hosts token` must enrol it"
    )]
    Console,
    /// Its keys changed too often.
    #[error(
        "this host has changed its keys too often today; keep them (an image or a boot script may make new ones at each start), and ask again tomorrow"
    )]
    KeysTooOften,
    /// Another request of the host was faster.
    #[error("another request of this host was faster; try again")]
    Raced,
    /// A report that is not signed by an enrolled key.
    #[error("{0}; sign the report with an enrolled host key")]
    ReportSignature(InvalidSignature),
}

impl HostRefusal {
    /// The problem's code.
    #[must_use]
    pub fn code(&self) -> ProblemCode {
        use ProblemCode as Code;
        match self {
            Self::PossessionNotProven(_) => Code::PossessionNotProven,
            Self::SpecialKey | Self::RevokedKey | Self::HostsKey | Self::CallersKey => {
                Code::KeyNotAccepted
            }
            Self::Stale(_) => Code::EvidenceStale,
            Self::Token(InvalidToken::Token(token)) if token.is_of_time() => Code::EvidenceStale,
            Self::Account(_)
            | Self::NoHarvest(_)
            | Self::NotListed
            | Self::Disagreement(Disagreement::State)
            | Self::LookUp(NoLookUp::NoSuchInstance | NoLookUp::NotConfigured(..)) => {
                Code::InstanceNotAccepted
            }
            Self::Kind(_)
            | Self::AwsEvidence
            | Self::Document(_)
            | Self::Token(_)
            | Self::Disagreement(_)
            | Self::OtherInstance
            | Self::Console => Code::EvidenceRefused,
            Self::NoKeys(_) | Self::LookUp(NoLookUp::Aws(_)) => Code::InventoryUnavailable,
            Self::EnrolmentToken => Code::EnrolmentTokenInvalid,
            Self::NotEnrolled(NotEnrolled::OtherKey) => Code::HostKeyChanged,
            Self::NotEnrolled(NotEnrolled::OlderDocument | NotEnrolled::SharedRole(_)) => {
                Code::EvidenceRefused
            }
            Self::TokenNeeded
            | Self::NotEnrolledKey
            | Self::NotEnrolled(_)
            | Self::Rejected
            | Self::ReportSignature(_) => Code::HostNotEnrolled,
            Self::Raced => Code::Overloaded,
            Self::KeysTooOften => Code::TooManyRequests,
        }
    }

    /// What the host is told. What AWS told us in error stays inside.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::LookUp(NoLookUp::Aws(_)) => {
                "the host could not be looked up; try again".to_owned()
            }
            Self::NoKeys(_) => "the token's issuer could not be asked; try again".to_owned(),
            Self::NotEnrolled(NotEnrolled::Blocked) | Self::Rejected | Self::NotEnrolledKey => {
                "the host is not enrolled with these keys; ask whoever runs this CA".to_owned()
            }
            Self::NotEnrolled(NotEnrolled::SharedKey(_)) => {
                "a host key is another host's already; make fresh host keys on each host".to_owned()
            }
            other => other.to_string(),
        }
    }
}
