//! Why a request got nothing, as the service itself sees it. What of it the outside hears is decided in
//! `http/error.rs`, and only there.

use eic_protocol::text::printable;

use crate::app::HostRefusal;
use crate::audit::{AppendError, EventError, OnceError};
use crate::authn::AuthnError;
use crate::inventory::InventoryError;
use crate::issuance::{GrantError, IssueError};
use crate::policy::{Denial, DenialKind};
use crate::random::NoEntropy;
use crate::session::SessionError;
use crate::store::{ClaimError, StoreError};

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The proof does not count.
    #[error(transparent)]
    Authn(#[from] AuthnError),
    /// The grant or the request's signature does not count.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The signed request was used before.
    #[error("the signed request was used before")]
    Replayed,
    /// The caller is revoked.
    #[error("the caller is revoked")]
    Revoked,
    /// The caller asks too often.
    #[error("the caller makes too many requests")]
    TooMany,
    /// The caller has revoked much of his own, and may not revoke more without permission for now.
    #[error("the caller revokes too much of his own")]
    TooManyOwn,
    /// A field is outside of its documented form.
    #[error("{0}")]
    Malformed(String),
    /// What is to be revoked is not there: no such certificate, or a CA key that no root names.
    #[error("there is no such certificate or CA key to revoke")]
    NothingToRevoke,
    /// No configured user CA may sign yet.
    #[error("no configured user CA may sign: {0}")]
    KeyNotPropagated(String),
    /// The key that would sign is revoked.
    #[error("the CA key that signs is revoked")]
    CaRevoked,
    /// The revocation is recorded, but no bundle holds it yet.
    #[error("the revocation is recorded, but no bundle was made in time")]
    NotInForce,
    /// A host's evidence, enrolment or report.
    #[error(transparent)]
    Host(#[from] HostRefusal),
    /// Policy, or the absence of what was asked for.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The host could not be looked up.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The certificate could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The permit does not cover the request: a defect of ours.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The event could not be recorded, so it did not happen.
    #[error(transparent)]
    Unrecorded(#[from] AppendError),
    /// The claim could not be recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// Documents that are no JSON: a defect of ours.
    #[error("write the answer: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<ClaimError> for Refusal {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Replayed => Self::Replayed,
            ClaimError::Store(error) => Self::Store(error),
        }
    }
}

impl From<OnceError> for Refusal {
    fn from(error: OnceError) -> Self {
        match error {
            OnceError::Replayed => Self::Replayed,
            OnceError::Append(error) => Self::Unrecorded(error),
        }
    }
}

/// Why somebody who is known may not have what he asks for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Denied {
    /// Policy says no.
    #[error("{}", reason(.0))]
    Policy(Denial),
    /// No source of the inventory knows the host.
    #[error("the inventory has no such host")]
    NoSuchHost,
    /// The host is not running.
    #[error("the host is not running")]
    HostDown,
    /// The configuration has no such fleet.
    #[error("the configuration has no such fleet")]
    NoSuchFleet,
    /// A member of the fleet is explicitly denied to the caller.
    #[error("the host `{0}` of the fleet is explicitly denied")]
    FleetMember(String),
}

impl Denied {
    /// What would do instead, where the caller may know: an Allow is about this caller, action and
    /// resource and fails only on what he chose. Otherwise nothing.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Policy(denial) => match denial.kind() {
                DenialKind::Chosen(hints) => hints.iter().map(ToString::to_string).collect(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// For the audit: a stable code and the real reason.
    #[must_use]
    pub fn event_error(&self) -> EventError {
        let code = match self {
            Self::Policy(denial) => match denial.kind() {
                DenialKind::Explicit(_) => "ExplicitDeny",
                DenialKind::NothingMatched => "NothingMatched",
                DenialKind::Chosen(_) => "ConditionsNotMet",
                DenialKind::Stale => "PolicyStale",
            },
            Self::NoSuchHost => "NoSuchHost",
            Self::HostDown => "HostNotRunning",
            Self::NoSuchFleet => "NoSuchFleet",
            Self::FleetMember(_) => "FleetMemberDenied",
        };
        EventError {
            code: code.to_owned(),
            message: printable(&self.to_string()),
        }
    }
}

fn reason(denial: &Denial) -> String {
    match denial.kind() {
        DenialKind::Explicit(statement) => format!("{statement} denies it"),
        DenialKind::NothingMatched => "no statement allows it".to_owned(),
        DenialKind::Chosen(_) => denial.caller_text(),
        DenialKind::Stale => "the policy could not be loaded for too long".to_owned(),
    }
}
