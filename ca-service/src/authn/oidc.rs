//! `oidc`: a token of an issuer that the configuration names, used once: a job's, with exactly our audience, or a
//! person's, for the client id under which people sign in for this CA (OpenID Connect Core §2 lets issuers give it no
//! other audience). The issuer vouches for its subject; what the subject may do is policy's business, by `oidc:` keys
//! and attachments.

use std::collections::{BTreeMap, BTreeSet};

use eic_aws::http_client::HttpClient;
use eic_protocol::proof::Audience;
use eic_protocol::proof::oidc::{BOUND_NONCE, IdToken, bound_nonce};
use eic_protocol::request_id::RequestId;
use eic_protocol::subject_key::SubjectKey;

use super::{AuthnError, Confirmed};
use crate::caller::{Caller, OidcIdentity, TokenClaims};
use crate::policy::json::Json;
use crate::web_token::claims::{InvalidToken, TokenRules, Verified, claimed_issuer, verify};
use crate::web_token::issuer::{Issuer, IssuerRules};
use crate::web_token::jwt::{Jwt, TokenType};
use crate::web_token::key_sets::{IssuerKeys, NoKeys};

/// An issuer whose tokens are taken, with its keys.
pub(super) struct TrustedIssuer {
    keys: IssuerKeys,
}

impl TrustedIssuer {
    pub(super) fn new(rules: IssuerRules, client: HttpClient) -> Self {
        let keys = IssuerKeys::new(rules, client);
        Self { keys }
    }

    pub(super) fn issuer(&self) -> &Issuer {
        &self.keys.rules().issuer
    }

    /// What the token says, where it is this issuer's and meant for one of `audiences`.
    pub(super) async fn verify(
        &self,
        jwt: &Jwt<'_>,
        audiences: &[&str],
        now: u64,
    ) -> Result<Verified, AuthnError> {
        let unavailable = |e: NoKeys| AuthnError::IssuerUnavailable(e.to_string());
        let keys = self.keys.get(jwt.key_id(), now).await;
        let keys = keys.map_err(unavailable)?;
        let rules = TokenRules {
            issuer: self.issuer(),
            audiences,
            algorithms: &self.keys.rules().algorithms,
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
    /// The public client by which people sign in for this CA and for nothing else; none: no people.
    pub client_id: Option<String>,
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
    client_id: Option<String>,
    claims: Option<BTreeSet<String>>,
    require: BTreeMap<String, Vec<String>>,
}

impl Oidc {
    /// Nothing is fetched yet.
    #[must_use]
    pub fn new(audience: Audience, rules: Vec<OidcRules>, client: &HttpClient) -> Self {
        let taken = |rules: OidcRules| Taken {
            trusted: TrustedIssuer::new(rules.issuer, client.clone()),
            client_id: rules.client_id,
            claims: rules.claims,
            require: rules.require,
        };
        Self {
            audience,
            issuers: rules.into_iter().map(taken).collect(),
        }
    }

    /// The caller of a token that is shown with `key`. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`AuthnError`]
    pub async fn confirm(
        &self,
        token: &IdToken,
        key: &SubjectKey,
        session_id: RequestId,
        now: u64,
    ) -> Result<Confirmed, AuthnError> {
        let jwt = Jwt::parse(token.reveal()).map_err(InvalidToken::from)?;
        let taken = find(&self.issuers, |own| own.trusted.issuer(), &jwt)?;
        let client_id = taken.client_id.as_deref();
        let ours = self.audience.as_str();
        let audiences: Vec<&str> = [ours].into_iter().chain(client_id).collect();
        let verified = taken.trusted.verify(&jwt, &audiences, now).await?;
        if verified.audience != ours {
            check_id_token(&jwt, &verified)?;
        }
        check_bound(&verified, &bound_nonce(&self.audience, key))?;
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

/// A token for a client id is an ID token, and its client's own (OpenID Connect Core §3.1.3.7). An access token for that
/// name has been shown to whichever service the client called.
fn check_id_token(jwt: &Jwt<'_>, verified: &Verified) -> Result<(), InvalidToken> {
    if jwt.token_type() == TokenType::Access {
        return Err(InvalidToken::AccessToken);
    }
    let party = verified.text("azp");
    if verified.get("azp").is_some() && party != Some(&verified.audience) {
        return Err(InvalidToken::Party);
    }
    Ok(())
}

/// A token that was bound, nobody else can show, at no other CA either (threats A-37, D3), whatever its audience.
/// Device sign-in has no nonce, so one that is not bound is taken as others are: once, soon, with a signature over it.
fn check_bound(verified: &Verified, bound: &str) -> Result<(), InvalidToken> {
    match verified.text("nonce") {
        Some(nonce) if nonce.starts_with(BOUND_NONCE) && nonce != bound => Err(InvalidToken::Bound),
        _ => Ok(()),
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
