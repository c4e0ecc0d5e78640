//! What the policy answers. An answer cannot be made elsewhere: its fields are private.

use eic_protocol::os_user::OsUser;

use super::action::Action;
use super::extension::ExtensionSet;
use super::hint::Hint;
use super::set::PolicyDigest;
use super::statement::{Statement, StatementId};
use super::value::Context;

/// What a caller is told when a denial does not explain itself: the same for a host that does not exist.
pub const UNIFORM_DENIAL: &str = "access is denied, or there is no such host";

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// One Allow statement covers the whole request, and no Deny applies.
    Allow(Permit),
    /// Anything else.
    Deny(Denial),
}

impl Decision {
    /// The permit, if it is one.
    #[must_use]
    pub fn permit(self) -> Option<Permit> {
        match self {
            Self::Allow(permit) => Some(permit),
            Self::Deny(_) => None,
        }
    }
}

/// What exactly was permitted, by which statement, within which limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    statement: StatementId,
    policy: PolicyDigest,
    action: Action,
    resource: String,
    os_user: Option<OsUser>,
    ttl_seconds: Option<u64>,
    max_ttl_seconds: Option<u64>,
    extensions: ExtensionSet,
}

impl Permit {
    pub(super) fn new(statement: &Statement, policy: PolicyDigest, context: &Context<'_>) -> Self {
        let request = context.request;
        let issues = request.action.issues_user_certificate();
        Self {
            statement: statement.id.clone(),
            policy,
            action: request.action,
            resource: request.resource.arn().to_owned(),
            os_user: request.asked.os_user.cloned(),
            ttl_seconds: context.settings.requested_ttl(request),
            max_ttl_seconds: statement.max_ttl(context),
            extensions: if issues {
                context.settings.requested_extensions(request)
            } else {
                ExtensionSet::EMPTY
            },
        }
    }

    /// The Allow statement that decided.
    #[must_use]
    pub fn statement(&self) -> &StatementId {
        &self.statement
    }

    /// The policy set that decided.
    #[must_use]
    pub fn policy(&self) -> PolicyDigest {
        self.policy
    }

    /// The action that was permitted.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    /// The ARN that was permitted.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The user that was permitted.
    #[must_use]
    pub fn os_user(&self) -> Option<&OsUser> {
        self.os_user.as_ref()
    }

    /// The lifetime that was permitted, in seconds: what was asked for, or the default.
    #[must_use]
    pub fn ttl_seconds(&self) -> Option<u64> {
        self.ttl_seconds
    }

    /// The longest lifetime that the statement would have given, in seconds.
    #[must_use]
    pub fn max_ttl_seconds(&self) -> Option<u64> {
        self.max_ttl_seconds
    }

    /// The extensions that were permitted: what was asked for, or the defaults.
    #[must_use]
    pub fn extensions(&self) -> ExtensionSet {
        self.extensions
    }
}

/// Why a request was denied. All of it belongs into the audit record;
/// the caller may be told only [`Denial::caller_text`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    kind: DenialKind,
    policy: Option<PolicyDigest>,
}

/// The kinds of denials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DenialKind {
    /// A Deny statement matched, or turned on something that this proof cannot tell.
    Explicit(StatementId),
    /// No Allow statement is about this caller, action and resource.
    NothingMatched,
    /// An Allow statement is, and fails only on what the caller chose. Each hint would do.
    Chosen(Vec<Hint>),
    /// The policy files cannot be loaded, and the last good policy is too old to be used.
    Stale,
}

impl Denial {
    pub(super) fn new(kind: DenialKind, policy: Option<PolicyDigest>) -> Self {
        Self { kind, policy }
    }

    /// Why, for the audit record and the administrator.
    #[must_use]
    pub fn kind(&self) -> &DenialKind {
        &self.kind
    }

    /// The policy set that decided; none when none could be used.
    #[must_use]
    pub fn policy(&self) -> Option<PolicyDigest> {
        self.policy
    }

    /// The Deny statement that decided.
    #[must_use]
    pub fn statement(&self) -> Option<&StatementId> {
        match &self.kind {
            DenialKind::Explicit(statement) => Some(statement),
            _ => None,
        }
    }

    /// What the caller is told (C-18): hints about his own choices, else the uniform text.
    #[must_use]
    pub fn caller_text(&self) -> String {
        match &self.kind {
            DenialKind::Chosen(hints) => {
                let hints: Vec<_> = hints.iter().map(ToString::to_string).collect();
                format!(
                    "not with this request; what would do: {}",
                    hints.join("; or ")
                )
            }
            DenialKind::Explicit(_) | DenialKind::NothingMatched | DenialKind::Stale => {
                UNIFORM_DENIAL.to_owned()
            }
        }
    }
}
