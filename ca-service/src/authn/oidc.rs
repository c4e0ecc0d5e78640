//! `oidc`: a token of an issuer that the configuration names, used once: a job's, with exactly our audience, or a
//! person's, for the client id under which people sign in for this CA (OpenID Connect Core §2 lets issuers give it no
//! other audience). The issuer vouches for its subject; what the subject may do is policy's business, by `oidc:` keys
//! and attachments.

use std::collections::{BTreeMap, BTreeSet};

use eic_aws::http_client::HttpClient;
use eic_protocol::proof::Audience;
use eic_protocol::proof::oidc::IdToken;
use eic_protocol::request_id::RequestId;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::wire::Writer;
use sha2::{Digest as _, Sha256};

use super::{AuthnError, Confirmed};
use crate::caller::{Caller, OidcIdentity, TokenClaims};
use crate::policy::json::Json;
use crate::web_token::claims::{InvalidToken, TokenRules, Verified, claimed_issuer, verify};
use crate::web_token::issuer::{Issuer, IssuerRules};
use crate::web_token::jwt::Jwt;
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
            check_person(&verified, &bound_nonce(&self.audience, key))?;
        }
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

/// How a nonce begins that binds a token to a key and to a CA.
const BOUND: &str = "eic-v1-";

/// The nonce by which a client has a person's token bound: to the CA that it is for, which its audience does not
/// name, and to the key that it is shown with. Lower-case hex of SHA-256 over SSH strings (docs/protocol.md).
fn bound_nonce(audience: &Audience, key: &SubjectKey) -> String {
    let mut bound = Writer::new();
    bound
        .string(b"eic-oidc-nonce-v1")
        .string(audience.as_str().as_bytes())
        .string(key.blob());
    let digest = Sha256::digest(bound.as_slice());
    let hex = digest.iter().map(|byte| format!("{byte:02x}"));
    hex.fold(BOUND.to_owned(), |nonce, byte| nonce + &byte)
}

/// A token that was bound, nobody else can show, at no other CA either (threats A-37, D3). Device sign-in has no
/// nonce, so one that is not bound is taken as others are: once, soon, with a signature over it.
fn check_person(verified: &Verified, bound: &str) -> Result<(), InvalidToken> {
    let party = verified.text("azp");
    if verified.get("azp").is_some() && party != Some(&verified.audience) {
        return Err(InvalidToken::Party);
    }
    match verified.text("nonce") {
        Some(nonce) if nonce.starts_with(BOUND) && nonce != bound => Err(InvalidToken::Bound),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_binds_to_one_key_and_one_ca() {
        // The vector of docs/protocol.md: clients must make the same.
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKNuPrbMfSDEwKHIeOHeJOVY7tZ6b3vXv7Y1xqVrCg3w";
        let key: SubjectKey = key.parse().unwrap();
        let of = |audience: &str| bound_nonce(&audience.parse().unwrap(), &key);
        assert_eq!(
            of("https://ca.example"),
            "eic-v1-ce03ae1340fe20ba22a1836c0f94b8d0c0e54a14d913206b305a02b9007101e9"
        );
        assert_ne!(of("https://ca.example"), of("https://rogue.example"));
    }
}
