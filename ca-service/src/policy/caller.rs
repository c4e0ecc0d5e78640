//! Who asks, as the proof showed it, with what that proof can and cannot tell.
//! A role's path is one of the things that GetCallerIdentity does not tell: nothing here guesses it.

use std::collections::BTreeSet;
use std::fmt;

use eic_protocol::arn::{CallerArn, Identity};

use super::request::{Claims, Fact, Tags};

/// Who asks, as the proof showed it.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(super) who: Who,
    pub(super) name_attested: bool,
    pub(super) tags: Fact<Tags>,
    pub(super) organization: Fact<String>,
    pub(super) mfa: Fact<bool>,
    pub(super) mfa_age: Fact<u64>,
    pub(super) token_issued: Fact<u64>,
    pub(super) claims: Claims,
    pub(super) hidden: HiddenClaims,
}

/// Claims of a token that are not known here: policy can neither allow by them nor pass over a Deny that names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HiddenClaims {
    /// The token was read completely.
    #[default]
    None,
    /// These alone.
    These(BTreeSet<String>),
    /// All but the ones that are told.
    Others,
}

#[derive(Clone, Debug)]
pub(super) enum Who {
    Aws(AwsCaller),
    Oidc { issuer: String, subject: String },
}

#[derive(Clone, Debug)]
pub(super) struct AwsCaller {
    pub(super) arn: CallerArn,
    /// The ARN as GetCallerIdentity gives it.
    pub(super) session_arn: String,
    /// `aws:PrincipalArn`.
    pub(super) principal_arn: PrincipalArn,
    pub(super) user_id: String,
}

/// `aws:PrincipalArn`: a role's has a path that an assumed-role ARN does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PrincipalArn {
    Known(String),
    /// `prefix` ends in `:role/`; the path between it and `name` is not known.
    UnknownPath {
        prefix: String,
        name: String,
    },
}

impl Caller {
    /// A caller that GetCallerIdentity named. Tags, organization, MFA and token time are unknowable
    /// until a `with_…` says otherwise.
    ///
    /// `role_path` is what iam:GetRole answered in the role's own account (`/` or `/a/b/`), none when it was not asked.
    /// `name_attested`: the session name is not the caller's own choice.
    #[must_use]
    pub fn aws(
        arn: CallerArn,
        user_id: &str,
        role_path: Option<&str>,
        name_attested: bool,
    ) -> Self {
        let aws = AwsCaller {
            session_arn: arn.to_string(),
            principal_arn: principal_arn(&arn, role_path),
            user_id: user_id.to_owned(),
            arn,
        };
        Self {
            who: Who::Aws(aws),
            name_attested,
            tags: Fact::Unknowable,
            organization: Fact::Unknowable,
            mfa: Fact::Unknowable,
            mfa_age: Fact::Unknowable,
            token_issued: Fact::Unknowable,
            claims: Claims::new(),
            hidden: HiddenClaims::None,
        }
    }

    /// A caller without an AWS identity, from a verified token. AWS's keys about principals are absent.
    #[must_use]
    pub fn oidc(issuer: &str, subject: &str, claims: Claims) -> Self {
        Self {
            who: Who::Oidc {
                issuer: issuer.to_owned(),
                subject: subject.to_owned(),
            },
            name_attested: true,
            tags: Fact::Absent,
            organization: Fact::Absent,
            mfa: Fact::Absent,
            mfa_age: Fact::Absent,
            token_issued: Fact::Absent,
            claims,
            hidden: HiddenClaims::None,
        }
    }

    /// Of the token's claims, some are not known here.
    #[must_use]
    pub fn with_hidden_claims(mut self, hidden: HiddenClaims) -> Self {
        self.hidden = hidden;
        self
    }

    /// The principal's tags: of a web identity token's `principal_tags`, never of its `request_tags`.
    #[must_use]
    pub fn with_principal_tags(mut self, tags: Tags) -> Self {
        self.tags = Fact::Present(tags);
        self
    }

    /// `aws:PrincipalOrgID`; absent for an account outside any organization.
    #[must_use]
    pub fn with_organization(mut self, id: Fact<String>) -> Self {
        self.organization = id;
        self
    }

    /// The proof was signed with a long-term key (`AKIA…`): AWS has no MFA and no token keys for it.
    #[must_use]
    pub fn with_long_term_key(mut self) -> Self {
        self.mfa = Fact::Absent;
        self.mfa_age = Fact::Absent;
        self.token_issued = Fact::Absent;
        self
    }

    /// What a token said of the session: MFA, its age in seconds, and when it was issued in Unix seconds.
    #[must_use]
    pub fn with_session(mut self, mfa: Fact<bool>, mfa_age: Fact<u64>, issued: Fact<u64>) -> Self {
        self.mfa = mfa;
        self.mfa_age = mfa_age;
        self.token_issued = issued;
        self
    }

    pub(super) fn as_aws(&self) -> Option<&AwsCaller> {
        match &self.who {
            Who::Aws(aws) => Some(aws),
            Who::Oidc { .. } => None,
        }
    }

    /// Root users and federated users are only let in by a statement that names their type.
    pub(super) fn needs_naming(&self) -> Option<NamedOnly> {
        match self.as_aws()?.arn.identity() {
            Identity::Root => Some(NamedOnly::Root),
            Identity::FederatedUser { .. } => Some(NamedOnly::FederatedUser),
            Identity::User { .. } | Identity::AssumedRole { .. } => None,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Aws(aws) => f.write_str(&aws.session_arn),
            Who::Oidc { issuer, subject } => {
                write!(f, "{issuer} {}", eic_protocol::text::printable(subject))
            }
        }
    }
}

impl AwsCaller {
    /// `aws:username`: only an IAM user has one.
    pub(super) fn user_name(&self) -> Option<&str> {
        match self.arn.identity() {
            Identity::User { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The unique id without a session name.
    pub(super) fn unique_id(&self) -> &str {
        self.user_id
            .split_once(':')
            .map_or(self.user_id.as_str(), |(id, _)| id)
    }
}

/// Kinds of callers that no broad principal covers in an Allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedOnly {
    Root,
    FederatedUser,
}

fn principal_arn(arn: &CallerArn, role_path: Option<&str>) -> PrincipalArn {
    let Identity::AssumedRole { role, .. } = arn.identity() else {
        return PrincipalArn::Known(arn.to_string());
    };
    let (partition, account) = (arn.partition(), arn.account());
    match role_path {
        Some(path) => {
            PrincipalArn::Known(format!("arn:{partition}:iam::{account}:role{path}{role}"))
        }
        None => PrincipalArn::UnknownPath {
            prefix: format!("arn:{partition}:iam::{account}:role/"),
            name: role.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_path_is_only_known_when_it_was_looked_up() {
        //
        let arn: CallerArn = "arn:aws:sts::111122223333:assumed-role/Dev/alice"
            .parse()
            .unwrap();
        let unknown = principal_arn(&arn, None);
        assert!(matches!(unknown, PrincipalArn::UnknownPath { .. }));
        let known = principal_arn(&arn, Some("/aws-reserved/sso.amazonaws.com/"));
        let expected = "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/Dev";
        assert_eq!(known, PrincipalArn::Known(expected.into()));
    }
}
