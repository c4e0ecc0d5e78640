//! Who asks: an identity that somebody other than the caller vouched for.
//! Made only by `authn` (from a proof) and by `session` (from a grant that this CA signed); never parsed from a request.

use std::collections::BTreeMap;

use eic_protocol::api::session::{CallerView, NameStanding};
use eic_protocol::arn::{AccountId, CallerArn, Identity, Partition};
use eic_protocol::proof::aws_sts::AccessKeyId;
use eic_protocol::request_id::RequestId;

use crate::web_token::issuer::Issuer;

mod token_claims;

pub use token_claims::{MAX_CLAIMS, TokenClaims, TooManyClaims};

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    who: Who,
    identity: String,
    user_id: String,
    name: String,
    standing: NameStanding,
    session_id: RequestId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Aws {
        arn: CallerArn,
        access_key_id: AccessKeyId,
        web_identity: Option<Box<WebIdentity>>,
    },
    Oidc(Box<OidcIdentity>),
}

/// What a token of sts:GetWebIdentityToken adds to an AWS identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebIdentity {
    /// The role's path (`/` or `/a/b/`); none for a user.
    pub role_path: Option<String>,
    /// The principal's tags: the token's `principal_tags`, never its `request_tags`. None where they are too many
    /// for a grant: then they are not known.
    pub tags: Option<BTreeMap<String, String>>,
    /// The account's organization.
    pub organization: Option<String>,
    /// When the token ends, in Unix seconds.
    pub ends_at: u64,
}

/// A subject that an OpenID Connect issuer vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcIdentity {
    /// The issuer.
    pub issuer: Issuer,
    /// `sub`.
    pub subject: String,
    /// The other claims, as far as they are known here.
    pub claims: TokenClaims,
    /// When the token ends, in Unix seconds.
    pub ends_at: u64,
}

/// What an authenticator learned of an AWS caller.
pub(crate) struct Proven {
    pub(crate) arn: CallerArn,
    pub(crate) user_id: String,
    pub(crate) standing: NameStanding,
    pub(crate) access_key_id: AccessKeyId,
    pub(crate) session_id: RequestId,
}

impl Caller {
    /// To be called by an authenticator only.
    pub(crate) fn new(proven: Proven) -> Self {
        let Proven {
            arn,
            user_id,
            standing,
            access_key_id,
            session_id,
        } = proven;
        Self {
            identity: arn.to_string(),
            name: name_of(&arn),
            user_id,
            standing,
            session_id,
            who: Who::Aws {
                arn,
                access_key_id,
                web_identity: None,
            },
        }
    }

    /// To be called by an authenticator only: the same principal showed a token of its own.
    #[must_use]
    pub(crate) fn with_web_identity(mut self, shown: WebIdentity) -> Self {
        if let Who::Aws { web_identity, .. } = &mut self.who {
            *web_identity = Some(Box::new(shown));
        }
        self
    }

    /// To be called by an authenticator only. `audience` is that of the token.
    pub(crate) fn of_oidc(identity: OidcIdentity, audience: &str, session_id: RequestId) -> Self {
        let OidcIdentity {
            issuer, subject, ..
        } = &identity;
        Self {
            identity: format!("{issuer}#{subject}"),
            // As CloudTrail writes the principal id of a web identity user.
            user_id: format!("{}:{audience}:{subject}", issuer.provider()),
            name: identity.claims.email().unwrap_or(subject).to_owned(),
            standing: NameStanding::Attested,
            session_id,
            who: Who::Oidc(Box::new(identity)),
        }
    }

    /// The ARN that STS answered; none for a caller without an AWS identity.
    #[must_use]
    pub fn arn(&self) -> Option<&CallerArn> {
        match &self.who {
            Who::Aws { arn, .. } => Some(arn),
            Who::Oidc(_) => None,
        }
    }

    /// What an issuer says of a caller without an AWS identity.
    #[must_use]
    pub fn oidc(&self) -> Option<&OidcIdentity> {
        match &self.who {
            Who::Aws { .. } => None,
            Who::Oidc(identity) => Some(identity),
        }
    }

    /// What a token of sts:GetWebIdentityToken added.
    #[must_use]
    pub fn web_identity(&self) -> Option<&WebIdentity> {
        match &self.who {
            Who::Aws { web_identity, .. } => web_identity.as_deref(),
            Who::Oidc(_) => None,
        }
    }

    /// Who it is in one text: the ARN, or `issuer#subject`.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// A short name for key ids: `role/Dev/alice`, `oidc/issuer.example/subject`, `oidc/issuer.example/a@acme.example`.
    #[must_use]
    pub fn short(&self) -> String {
        match &self.who {
            Who::Aws { arn, .. } => arn.short(),
            Who::Oidc(identity) => format!("oidc/{}/{}", identity.issuer.provider(), self.name),
        }
    }

    /// The caller's account, where it has one.
    #[must_use]
    pub fn account(&self) -> Option<&AccountId> {
        self.arn().map(CallerArn::account)
    }

    /// The partition that the caller's resources are in.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.arn().map_or(Partition::Aws, CallerArn::partition)
    }

    /// The unique id that STS answered, or `issuer:audience:subject`.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The human-readable name within the ARN; of an issuer's subject the e-mail address that the issuer verified, else
    /// the subject itself. For people to read: identities are compared by [`Self::identity`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether somebody other than the caller vouches for the name.
    #[must_use]
    pub fn standing(&self) -> NameStanding {
        self.standing
    }

    /// The access key id that the proof was signed with.
    #[must_use]
    pub fn access_key_id(&self) -> Option<&AccessKeyId> {
        match &self.who {
            Who::Aws { access_key_id, .. } => Some(access_key_id),
            Who::Oidc(_) => None,
        }
    }

    /// How the identity was proven, as in the proof's own member.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match &self.who {
            Who::Aws {
                web_identity: None, ..
            } => "aws-sts",
            Who::Aws { .. } => "aws-web-identity",
            Who::Oidc(_) => "oidc",
        }
    }

    /// When the token ends that was shown, in Unix seconds: no grant outlives it.
    #[must_use]
    pub fn token_ends_at(&self) -> Option<u64> {
        let of_aws = self.web_identity().map(|shown| shown.ends_at);
        of_aws.or_else(|| self.oidc().map(|identity| identity.ends_at))
    }

    /// The request id under which the session was opened.
    #[must_use]
    pub fn session_id(&self) -> RequestId {
        self.session_id
    }

    /// Whom a budget is counted for: a name that the caller cannot choose anew. Sessions whose names
    /// nobody vouches for share that of their role.
    #[must_use]
    pub fn accountable_id(&self) -> &str {
        match (self.standing, self.user_id.split_once(':')) {
            (NameStanding::Claimed, Some((role, _))) => role,
            _ => &self.user_id,
        }
    }

    /// Whether the proof was signed with a long-term key (IAM user guide, "Unique identifiers": `AKIA`).
    #[must_use]
    pub fn has_long_term_key(&self) -> bool {
        self.access_key_id()
            .is_some_and(|id| id.as_str().starts_with("AKIA"))
    }

    /// The caller as shown to himself.
    #[must_use]
    pub fn view(&self) -> CallerView {
        CallerView {
            arn: self.arn().cloned(),
            issuer: self.oidc().map(|identity| identity.issuer.to_string()),
            user_id: self.user_id.clone(),
            // A client makes `issuer#subject` of it.
            name: self
                .oidc()
                .map_or(&self.name, |identity| &identity.subject)
                .clone(),
            name_standing: self.standing,
        }
    }
}

fn name_of(arn: &CallerArn) -> String {
    match arn.identity() {
        Identity::Root => "root".to_owned(),
        Identity::User { name, .. } | Identity::FederatedUser { name } => name.clone(),
        Identity::AssumedRole { session, .. } => session.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(arn: &str, key: &str) -> Caller {
        Caller::new(Proven {
            arn: arn.parse().unwrap(),
            user_id: "AROA0123456789ABCDEF:alice".to_owned(),
            standing: NameStanding::Claimed,
            access_key_id: key.parse().unwrap(),
            session_id: RequestId::from_random([1; 16]),
        })
    }

    #[test]
    fn only_an_akia_key_is_long_term() {
        let arn = "arn:aws:sts::111122223333:assumed-role/Dev/alice";
        assert!(!caller(arn, "ASIAABCDEFGHIJKLMNOP").has_long_term_key());
        assert!(caller(arn, "AKIAABCDEFGHIJKLMNOP").has_long_term_key());
    }

    #[test]
    fn a_session_name_of_ones_own_choice_is_no_new_budget() {
        let mut alice = caller(
            "arn:aws:sts::111122223333:assumed-role/Dev/alice",
            "ASIAABCDEFGHIJKLMNOP",
        );
        assert_eq!(alice.accountable_id(), "AROA0123456789ABCDEF");
        alice.standing = NameStanding::Attested;
        assert_eq!(alice.accountable_id(), "AROA0123456789ABCDEF:alice");
    }

    #[test]
    fn the_name_is_that_of_the_session_or_user() {
        assert_eq!(
            caller(
                "arn:aws:sts::111122223333:assumed-role/Dev/alice",
                "ASIAABCDEFGHIJKLMNOP"
            )
            .name(),
            "alice"
        );
        assert_eq!(
            caller(
                "arn:aws:iam::111122223333:user/x/bob",
                "AKIAABCDEFGHIJKLMNOP"
            )
            .name(),
            "bob"
        );
        assert_eq!(
            caller("arn:aws:iam::111122223333:root", "AKIAABCDEFGHIJKLMNOP").name(),
            "root"
        );
    }

    #[test]
    fn a_subject_has_no_aws_names_and_one_name_everywhere() {
        let job = Caller::of_oidc(
            OidcIdentity {
                issuer: "https://issuer.example/x".parse().unwrap(),
                subject: "repo:acme/app".to_owned(),
                claims: TokenClaims::default(),
                ends_at: 7,
            },
            "https://ca.example",
            RequestId::from_random([1; 16]),
        );
        assert!(job.arn().is_none() && job.account().is_none() && !job.has_long_term_key());
        assert_eq!(job.identity(), "https://issuer.example/x#repo:acme/app");
        assert_eq!(job.view().identity(), job.identity());
        assert_eq!(job.short(), "oidc/issuer.example/x/repo:acme/app");
        assert_eq!(
            job.user_id(),
            "issuer.example/x:https://ca.example:repo:acme/app"
        );
        assert_eq!(
            (job.standing(), job.token_ends_at()),
            (NameStanding::Attested, Some(7))
        );
    }
}
