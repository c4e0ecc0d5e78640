//! Tokens of sts:GetWebIdentityToken beside a signed sts:GetCallerIdentity (IAM user guide, "Outbound identity
//! federation"). GetCallerIdentity says who somebody is even under an explicit deny; the token needs a permission of
//! IAM each time it is made, so a revoked session or a denied principal gets none. It also tells the role's path,
//! the principal's tags and its organization. Who the caller is remains STS's word.

use std::collections::BTreeMap;

use eic_aws::http_client::HttpClient;
use eic_protocol::arn::{AccountId, Arn, CallerArn, Identity};
use eic_protocol::proof::Audience;
use eic_protocol::proof::oidc::IdToken;

use super::oidc::{TrustedIssuer, find};
use super::{AuthnError, Confirmed};
use crate::caller::{Caller, MAX_CLAIMS, WebIdentity};
use crate::policy::json::Json;
use crate::store::ReplayClaim;
use crate::web_token::claims::{InvalidToken, Verified};
use crate::web_token::issuer::IssuerRules;
use crate::web_token::jwt::Jwt;

const UNREADABLE: InvalidToken =
    InvalidToken::Claims("they are not those of sts:GetWebIdentityToken");

/// An account with outbound web identity.
#[derive(Clone, Debug)]
pub struct AccountRules {
    /// The account.
    pub account: AccountId,
    /// Its issuer.
    pub issuer: IssuerRules,
    /// Whether its identities are refused without a token.
    pub required: bool,
}

/// The accounts whose tokens are taken.
pub struct WebIdentities {
    audience: Audience,
    accounts: Vec<Account>,
}

struct Account {
    account: AccountId,
    required: bool,
    trusted: TrustedIssuer,
}

/// What a token says; whose it is has still to be compared with what STS says.
#[derive(Debug)]
pub(super) struct Shown {
    account: AccountId,
    principal: String,
    facts: WebIdentity,
    claim: ReplayClaim,
}

impl WebIdentities {
    /// Nothing is fetched yet.
    #[must_use]
    pub fn new(audience: Audience, rules: Vec<AccountRules>, client: &HttpClient) -> Self {
        let account = |rules: AccountRules| Account {
            account: rules.account,
            required: rules.required,
            trusted: TrustedIssuer::new(rules.issuer, client.clone()),
        };
        Self {
            audience,
            accounts: rules.into_iter().map(account).collect(),
        }
    }

    /// Whether this caller may do without a token.
    pub(super) fn check_not_required(&self, caller: &Caller) -> Result<(), AuthnError> {
        let demands = |own: &Account| own.required && caller.account() == Some(&own.account);
        if self.accounts.iter().any(demands) {
            let account = caller.account().map(ToString::to_string);
            return Err(AuthnError::WebIdentityRequired(account.unwrap_or_default()));
        }
        Ok(())
    }

    /// What the token says, where it is one of a configured account.
    pub(super) async fn verify(&self, token: &IdToken, now: u64) -> Result<Shown, AuthnError> {
        let jwt = Jwt::parse(token.reveal()).map_err(InvalidToken::from)?;
        let account = find(&self.accounts, |own| own.trusted.issuer(), &jwt)?;
        let audience = [self.audience.as_str()];
        let verified = account.trusted.verify(&jwt, &audience, now).await?;
        Ok(shown(&account.account, &verified)?)
    }
}

/// Everybody's account has an issuer, so the claimed account must be the configured one.
fn shown(account: &AccountId, verified: &Verified) -> Result<Shown, InvalidToken> {
    let of = |name: &str| verified.aws(name).ok_or(UNREADABLE);
    match of("aws_account")? {
        Some(Json::Text(claimed)) if claimed == account.as_str() => {}
        _ => {
            return Err(InvalidToken::Claims(
                "it is of another account than its issuer's",
            ));
        }
    }
    let organization = match of("org_id")? {
        Some(Json::Text(id)) => Some(id.clone()),
        None => None,
        Some(_) => return Err(UNREADABLE),
    };
    Ok(Shown {
        account: account.clone(),
        principal: verified.subject.clone(),
        facts: WebIdentity {
            role_path: None,
            tags: tags(of("principal_tags")?)?,
            organization,
            ends_at: verified.expires_at,
        },
        claim: verified.claim,
    })
}

/// `request_tags` are whatever the sender asked for and are not looked at. Tags beyond what a grant holds are not known.
fn tags(value: Option<&Json>) -> Result<Option<BTreeMap<String, String>>, InvalidToken> {
    let members = match value {
        None => return Ok(Some(BTreeMap::new())),
        Some(Json::Object(members)) => members,
        Some(_) => return Err(UNREADABLE),
    };
    let mut tags = BTreeMap::new();
    for (name, value) in members {
        let Json::Text(value) = value else {
            return Err(UNREADABLE);
        };
        tags.insert(name.clone(), value.clone());
    }
    let size: usize = tags
        .iter()
        .map(|(name, value)| name.len() + value.len() + 8)
        .sum();
    Ok((size <= MAX_CLAIMS).then_some(tags))
}

impl Shown {
    /// The caller that STS named, where the token is of the same principal.
    pub(super) fn join(self, confirmed: Confirmed) -> Result<Confirmed, AuthnError> {
        let arn = confirmed.caller.arn().ok_or(AuthnError::OtherPrincipal)?;
        if self.account != *arn.account() {
            return Err(AuthnError::OtherPrincipal);
        }
        let role_path = principal_path(&self.principal, arn)?;
        let facts = WebIdentity {
            role_path,
            ..self.facts
        };
        Ok(Confirmed {
            caller: confirmed.caller.with_web_identity(facts),
            claim: confirmed.claim,
            token_claim: Some(self.claim),
        })
    }
}

/// The path of the role that the caller's session is of (none for a user), where `sub` names that principal.
fn principal_path(subject: &str, caller: &CallerArn) -> Result<Option<String>, AuthnError> {
    let other = AuthnError::OtherPrincipal;
    let Ok(arn) = subject.parse::<Arn>() else {
        return Err(other);
    };
    let same = arn.service == "iam"
        && arn.region.is_empty()
        && arn.partition == caller.partition()
        && arn.account.as_ref() == Some(caller.account());
    match caller.identity() {
        Identity::User { .. } if same && subject == caller.to_string() => Ok(None),
        Identity::AssumedRole { role, .. } if same => {
            let path = arn.resource.strip_prefix("role");
            let path = path.and_then(|rest| rest.strip_suffix(role.as_str()));
            let whole = path.filter(|path| path.starts_with('/') && path.ends_with('/'));
            whole.map(|path| Some(path.to_owned())).ok_or(other)
        }
        _ => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/Dev/alice";

    fn path(subject: &str, caller: &str) -> Option<Option<String>> {
        principal_path(subject, &caller.parse().unwrap()).ok()
    }

    #[test]
    fn a_token_of_another_principal_is_none_of_this_caller() {
        for other in [
            "arn:aws:iam::111122223333:role/OtherDev",
            "arn:aws:iam::111122223333:role/Dev2",
            "arn:aws:iam::444455556666:role/Dev",
            "arn:aws-cn:iam::111122223333:role/Dev",
            "arn:aws:iam::111122223333:user/Dev",
            "arn:aws:sts::111122223333:assumed-role/Dev/alice",
            "arn:aws:iam::111122223333:roles/Dev",
            "Dev",
        ] {
            assert_eq!(path(other, SESSION), None, "{other}");
        }
        let user = "arn:aws:iam::111122223333:user/x/bob";
        assert_eq!(path("arn:aws:iam::111122223333:user/bob", user), None);
        assert_eq!(path("arn:aws:iam::111122223333:role/bob", user), None);
        assert_eq!(path(user, "arn:aws:iam::111122223333:root"), None);
        assert_eq!(path(user, user), Some(None));
    }

    #[test]
    fn the_path_of_a_role_is_the_tokens() {
        //
        let role = "arn:aws:iam::111122223333:role/Dev";
        assert_eq!(path(role, SESSION), Some(Some("/".to_owned())));
        let below = "arn:aws:iam::111122223333:role/teams/x/Dev";
        assert_eq!(path(below, SESSION), Some(Some("/teams/x/".to_owned())));
    }

    #[test]
    fn tags_that_are_too_many_are_not_known_and_others_are_refused() {
        let object =
            |value: &str| Json::Object(vec![("team".to_owned(), Json::Text(value.to_owned()))]);
        assert_eq!(tags(None), Ok(Some(BTreeMap::new())));
        assert_eq!(tags(Some(&object(&"x".repeat(MAX_CLAIMS)))), Ok(None));
        assert_eq!(tags(Some(&object("x"))).unwrap().unwrap()["team"], "x");
        assert_eq!(
            tags(Some(&Json::Text("team=x".to_owned()))),
            Err(UNREADABLE)
        );
    }
}
