//! What an ID token must say before it is kept: that it is of this issuer, for this client, of this very sign-in
//! (OpenID Connect Core §3.1.3.7). Its signature is the CA's to check.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eic_protocol::proof::oidc::IdToken;
use serde::Deserialize;

use super::{OidcError, Registration};

/// How far this clock and the issuer's may be apart. Seconds; the CA is stricter, by its own clock.
const LEEWAY: u64 = 300;

/// What is expected.
pub(super) struct Expected<'a> {
    pub(super) registration: &'a Registration,
    pub(super) nonce: Nonce<'a>,
    /// `sub`, where it is known.
    pub(super) subject: Option<&'a str>,
}

/// What is expected of `nonce`.
pub(super) enum Nonce<'a> {
    /// This one.
    Exactly(&'a str),
    /// This one, or the claim is missing (§12.2: a refreshed token need not have it; RFC 8628 knows none).
    IfAny(Option<&'a str>),
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audiences,
    azp: Option<String>,
    nonce: Option<String>,
    exp: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Expected<'_> {
    /// `sub` of a token that is as expected. `now` is in Unix seconds.
    pub(super) fn check(&self, token: &IdToken, now: u64) -> Result<String, OidcError> {
        let claims = read(token).ok_or(OidcError::Malformed("the issuer's ID token"))?;
        let Registration {
            issuer, client_id, ..
        } = self.registration;
        let wrong = [
            ("iss", claims.iss != issuer.as_str()),
            ("aud", !claims.aud.has(client_id)),
            (
                "azp",
                claims.azp.as_ref().is_some_and(|azp| azp != client_id),
            ),
            ("nonce", !self.nonce.is_met_by(claims.nonce.as_deref())),
            ("exp", claims.exp.saturating_add(LEEWAY) <= now),
            (
                "sub",
                claims.sub.is_empty() || self.subject.is_some_and(|sub| sub != claims.sub),
            ),
        ];
        match wrong.into_iter().find(|(_, wrong)| *wrong) {
            Some((claim, _)) => Err(OidcError::Claim(claim)),
            None => Ok(claims.sub),
        }
    }
}

/// `exp`, in Unix seconds; none where the token cannot be read.
pub(super) fn expiry(token: &IdToken) -> Option<u64> {
    read(token).map(|claims| claims.exp)
}

impl Nonce<'_> {
    fn is_met_by(&self, claim: Option<&str>) -> bool {
        match self {
            Self::Exactly(nonce) => claim == Some(nonce),
            Self::IfAny(nonce) => claim.is_none() || claim == *nonce,
        }
    }
}

impl Audiences {
    fn has(&self, client_id: &str) -> bool {
        match self {
            Self::One(audience) => audience == client_id,
            Self::Many(audiences) => audiences.iter().any(|audience| audience == client_id),
        }
    }
}

fn read(token: &IdToken) -> Option<Claims> {
    let payload = token.reveal().split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: u64 = 1_000_000;

    fn registration() -> Registration {
        Registration {
            issuer: "https://issuer.example".parse().unwrap(),
            client_id: "https://ca.example".to_owned(),
            client_secret: None,
            scopes: Vec::new(),
        }
    }

    fn token(change: impl FnOnce(&mut Value)) -> IdToken {
        let mut claims = json!({
            "iss": "https://issuer.example", "aud": "https://ca.example", "sub": "alice", "nonce": "n", "exp": NOW + 300
        });
        change(&mut claims);
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        format!("aA.{payload}.aA").parse().unwrap()
    }

    fn check(nonce: Nonce<'_>, token: &IdToken) -> Result<String, OidcError> {
        let registration = registration();
        let expected = Expected {
            registration: &registration,
            nonce,
            subject: Some("alice"),
        };
        expected.check(token, NOW)
    }

    #[test]
    fn a_token_of_another_issuer_client_person_or_sign_in_is_not_kept() {
        for (claim, value) in [
            ("iss", json!("https://issuer.example/")),
            ("aud", json!("https://ca.example.evil")),
            ("aud", json!(["x", "y"])),
            ("azp", json!("another")),
            ("nonce", json!("m")),
            ("nonce", Value::Null),
            ("exp", json!(NOW - LEEWAY)),
            ("sub", json!("mallory")),
        ] {
            let token = token(|claims| claims[claim] = value.clone());
            let refused = check(Nonce::Exactly("n"), &token).unwrap_err();
            assert!(
                matches!(refused, OidcError::Claim(name) if name == claim),
                "{claim} {value}: {refused}"
            );
        }
        let malformed = token(|claims| claims["exp"] = json!("soon"));
        assert!(check(Nonce::Exactly("n"), &malformed).is_err());
    }

    #[test]
    fn a_refreshed_token_may_be_without_nonce_but_not_with_another() {
        let without = token(|claims| claims["nonce"] = Value::Null);
        assert!(check(Nonce::IfAny(Some("n")), &without).is_ok());
        assert!(check(Nonce::IfAny(Some("n")), &token(|_| ())).is_ok());
        assert!(check(Nonce::IfAny(Some("m")), &token(|_| ())).is_err());
        assert!(check(Nonce::IfAny(None), &token(|_| ())).is_err());
    }

    #[test]
    fn one_audience_among_several_is_enough_here() {
        // The CA is stricter: there it must be the only one.
        let several = token(|claims| claims["aud"] = json!(["x", "https://ca.example"]));
        assert_eq!(check(Nonce::Exactly("n"), &several).unwrap(), "alice");
    }
}
