//! `[aws_sts]` and `[sessions]`: whose AWS identities are taken, and how long a sign-in lasts.

use eic_protocol::api::discovery::SessionMode;
use eic_protocol::arn::AccountId;
use eic_protocol::grant::MAX_GRANT_TTL;

use super::document::Section;
use super::{endpoint, oidc};
use crate::authn::web_identity::AccountRules;

/// `[aws_sts]`
#[derive(Clone, Debug)]
pub struct AwsStsConfig {
    /// Accounts whose identities are accepted; empty: policy alone decides.
    pub accounts: Vec<AccountId>,
    /// Accounts whose `AWSReservedSSO_*` roles are known to come from IAM Identity Center,
    /// so that their session names count as attested.
    pub sso_accounts: Vec<AccountId>,
    /// A stand-in for STS and IAM. Loopback only.
    pub endpoint_override: Option<String>,
    /// Whether a role's session revocation in IAM is asked for (needs `iam:GetRolePolicy`).
    pub role_revocation: bool,
    /// `[[aws_sts.web_identity]]`: accounts whose tokens of sts:GetWebIdentityToken are taken.
    pub web_identity: Vec<AccountRules>,
}

/// `[sessions]`
#[derive(Clone, Copy, Debug)]
pub struct SessionsConfig {
    /// Whether a grant serves several requests.
    pub mode: SessionMode,
    /// Life of a grant. Seconds.
    pub ttl_seconds: u64,
}

impl Default for SessionsConfig {
    fn default() -> Self {
        Self {
            mode: SessionMode::On,
            ttl_seconds: MAX_GRANT_TTL,
        }
    }
}

pub(super) fn read(section: &Section<'_>) -> AwsStsConfig {
    let accounts = section.list("accounts").unwrap_or_default();
    let sso_accounts = section.list("sso_accounts").unwrap_or_default();
    let endpoint_override = endpoint::read(section, "endpoint_override");
    if endpoint_override
        .as_ref()
        .is_some_and(|origin| !origin.starts_with("http://"))
    {
        section.mistake(
            "endpoint_override",
            "is for a stand-in on loopback only: `http://127.0.0.1:PORT`",
        );
    }
    let role_revocation = section.flag("role_revocation").unwrap_or(false);
    let web_identity = section.tables("web_identity");
    let web_identity = web_identity.iter().filter_map(oidc::read_account).collect();
    section.refuse_unknown();
    AwsStsConfig {
        accounts,
        sso_accounts,
        endpoint_override,
        role_revocation,
        web_identity,
    }
}

pub(super) fn read_sessions(section: &Section<'_>) -> SessionsConfig {
    let default = SessionsConfig::default();
    let mode = section
        .word(
            "mode",
            &[("on", SessionMode::On), ("off", SessionMode::Off)],
        )
        .unwrap_or(default.mode);
    let ttl_seconds = section
        .number("ttl_seconds", 30..=MAX_GRANT_TTL)
        .unwrap_or(default.ttl_seconds);
    section.refuse_unknown();
    SessionsConfig { mode, ttl_seconds }
}
