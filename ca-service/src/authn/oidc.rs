//! `oidc`: a token of an issuer that the configuration names, with exactly our audience, used once.
//! The issuer vouches for its subject; what the subject may do is policy's business, by `oidc:` keys and attachments.

use std::collections::{BTreeMap, BTreeSet};

use eic_aws::http_client::HttpClient;
use eic_protocol::proof::Audience;
use eic_protocol::proof::oidc::IdToken;
use eic_protocol::request_id::RequestId;

use super::{AuthnError, Confirmed};
use crate::caller::{Caller, OidcIdentity, TokenClaims};
use crate::policy::json::Json;
use crate::web_token::claims::{InvalidToken, TokenRules, Verified, claimed_issuer, verify};
use crate::web_token::issuer::Issuer;
use crate::web_token::jwt::{Algorithm, Jwt};
use crate::web_token::key_sets::{IssuerKeys, NoKeys};

/// An issuer as configured.
#[derive(Clone, Debug)]
pub struct IssuerRules {
    /// `iss`, exactly.
    pub issuer: Issuer,
    /// Where its keys are, where that is not for the issuer to say.
    pub jwks_uri: Option<String>,
    /// Whether it may be at a private address.
    pub private_addresses: bool,
    /// Algorithms that count.
    pub algorithms: Vec<Algorithm>,
}

/// An issuer whose tokens are taken, with its keys.
pub(super) struct TrustedIssuer {
    issuer: Issuer,
    algorithms: Vec<Algorithm>,
    keys: IssuerKeys,
}

impl TrustedIssuer {
    pub(super) fn new(rules: IssuerRules, client: HttpClient) -> Self {
        let keys = IssuerKeys::new(
            rules.issuer.clone(),
            rules.jwks_uri,
            rules.private_addresses,
            client,
        );
        Self {
            issuer: rules.issuer,
            algorithms: rules.algorithms,
            keys,
        }
    }

    pub(super) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// What the token says, where it is this issuer's and meant for `audience`.
    pub(super) async fn verify(
        &self,
        jwt: &Jwt<'_>,
        audience: &Audience,
        now: u64,
    ) -> Result<Verified, AuthnError> {
        let unavailable = |e: NoKeys| AuthnError::IssuerUnavailable(e.to_string());
        let keys = self
            .keys
            .get(jwt.key_id(), now)
            .await
            .map_err(unavailable)?;
        let rules = TokenRules {
            issuer: &self.issuer,
            audience: audience.as_str(),
            algorithms: &self.algorithms,
        };
        Ok(verify(jwt, &rules, &keys, now)?)
    }
}

/// The one of `issuers` that the token claims: by exact text, and only to choose whose keys to try (threats B-24).
pub(super) fn find<'i, T>(
    issuers: &'i [T],
    issuer: impl Fn(&T) -> &Issuer,
    jwt: &Jwt<'_>,
) -> Result<&'i T, AuthnError> {
    let claimed = claimed_issuer(jwt)?;
    let found = issuers.iter().find(|own| issuer(own).as_str() == claimed);
    found.ok_or(AuthnError::Token(InvalidToken::UnknownIssuer(claimed)))
}

/// An issuer of callers, and what of its tokens counts.
#[derive(Clone, Debug)]
pub struct OidcRules {
    /// The issuer.
    pub issuer: IssuerRules,
    /// The claims that policy can read; none: all that a grant can hold.
    pub claims: Option<BTreeSet<String>>,
    /// Claims that every token must have, each with one of these values.
    pub require: BTreeMap<String, Vec<String>>,
}

/// Takes tokens of the configured issuers.
pub struct Oidc {
    audience: Audience,
    issuers: Vec<Taken>,
}

struct Taken {
    trusted: TrustedIssuer,
    claims: Option<BTreeSet<String>>,
    require: BTreeMap<String, Vec<String>>,
}

impl Oidc {
    /// Nothing is fetched yet.
    #[must_use]
    pub fn new(audience: Audience, rules: Vec<OidcRules>, client: &HttpClient) -> Self {
        let taken = |rules: OidcRules| Taken {
            trusted: TrustedIssuer::new(rules.issuer, client.clone()),
            claims: rules.claims,
            require: rules.require,
        };
        Self {
            audience,
            issuers: rules.into_iter().map(taken).collect(),
        }
    }

    /// The caller of a token. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`AuthnError`]
    pub async fn confirm(
        &self,
        token: &IdToken,
        session_id: RequestId,
        now: u64,
    ) -> Result<Confirmed, AuthnError> {
        let jwt = Jwt::parse(token.reveal()).map_err(InvalidToken::from)?;
        let taken = find(&self.issuers, |own| own.trusted.issuer(), &jwt)?;
        let verified = taken.trusted.verify(&jwt, &self.audience, now).await?;
        taken.check_required(&verified)?;
        let claims = TokenClaims::of(verified.members(), taken.claims.as_ref())?;
        let identity = OidcIdentity {
            issuer: taken.trusted.issuer().clone(),
            subject: verified.subject,
            claims,
            ends_at: verified.expires_at,
        };
        Ok(Confirmed {
            caller: Caller::of_oidc(identity, self.audience.as_str(), session_id),
            claim: verified.claim,
            token_claim: None,
        })
    }
}

impl Taken {
    /// Names can be taken over by others, ids cannot (threats B-20): what is required is compared exactly.
    fn check_required(&self, verified: &Verified) -> Result<(), AuthnError> {
        let holds = |(name, values): &(&String, &Vec<String>)| match verified.get(name) {
            Some(Json::Text(text) | Json::Number(text)) => values.contains(text),
            Some(Json::Bool(value)) => values.contains(&value.to_string()),
            _ => false,
        };
        let mut others = self.require.iter().filter(|required| !holds(required));
        others.next().map_or(Ok(()), |(name, _)| {
            Err(AuthnError::ClaimNotTaken(name.clone()))
        })
    }
}
