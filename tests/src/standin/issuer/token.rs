//! ID tokens (OpenID Connect Core section 2), signed by Ed25519 (RFC 8037), and the key set that they are checked by.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

use crate::error::{Result, unexpected};
use crate::standin::issuer::sign_ins::SignedIn;
use crate::standin::issuer::{CLIENT_ID, ISSUER, random};

/// The name of its one key.
const KEY_ID: &str = "acme-2026";

/// How long a token counts. Seconds.
const LIFETIME: u64 = 300;

/// The key that tokens are signed with.
pub(super) struct TokenKey(SigningKey);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

impl TokenKey {
    pub(super) fn new() -> Result<TokenKey> {
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret).map_err(|cause| unexpected("draw a key", cause))?;
        Ok(TokenKey(SigningKey::from_bytes(&secret)))
    }

    /// What `jwks_uri` answers.
    pub(super) fn set(&self) -> Value {
        json!({"keys": [{
            "kty": "OKP", "crv": "Ed25519", "kid": KEY_ID, "alg": "EdDSA", "use": "sig",
            "x": URL_SAFE_NO_PAD.encode(self.0.verifying_key().as_bytes()),
        }]})
    }

    /// A token of somebody who signed in; `now` in unix seconds.
    pub(super) fn token(&self, signed_in: &SignedIn, now: u64) -> Result<String> {
        let header = json!({"alg": "EdDSA", "kid": KEY_ID, "typ": "JWT"});
        let claims = claims(signed_in, &random()?, now);
        let [header, payload] = [header, claims].map(|part| encoded(part.to_string().as_bytes()));
        let signed = format!("{header}.{payload}");
        let signature = self.0.sign(signed.as_bytes()).to_bytes();
        Ok(format!("{signed}.{}", encoded(&signature)))
    }
}

/// What a token says: of the person no more than the scopes ask for (OpenID Connect Core section 5.4).
fn claims(signed_in: &SignedIn, id: &str, now: u64) -> Value {
    let SignedIn {
        person,
        scopes,
        nonce,
    } = signed_in;
    let always = [
        ("iss", json!(ISSUER)),
        ("sub", json!(person.subject)),
        ("aud", json!(CLIENT_ID)),
        ("azp", json!(CLIENT_ID)),
        ("iat", json!(now)),
        ("exp", json!(now + LIFETIME)),
        ("jti", json!(format!("ID.{id}"))),
    ];
    let asked = [
        (nonce.is_some(), "nonce", json!(nonce)),
        (scopes.email, "email", json!(person.email)),
        (scopes.email, "email_verified", json!(person.email_verified)),
        (scopes.groups, "groups", json!(person.groups)),
    ];
    let asked = asked.into_iter().filter(|(is_asked, ..)| *is_asked);
    let asked = asked.map(|(_, name, value)| (name, value));
    let claims = always.into_iter().chain(asked);
    Value::Object(
        claims
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standin::issuer::Person;
    use crate::standin::issuer::sign_ins::Scopes;

    #[test]
    fn a_token_says_no_more_of_a_person_than_was_asked_for() {
        let mut signed_in = SignedIn {
            person: Person {
                subject: "00u1".into(),
                email: "ann@acme.example".into(),
                email_verified: true,
                groups: vec!["ops".into()],
            },
            scopes: Scopes::default(),
            nonce: None,
        };
        let told = claims(&signed_in, "1", 1000);
        for name in ["email", "email_verified", "groups", "nonce"] {
            assert_eq!(told.get(name), None, "{name}");
        }
        signed_in.scopes = Scopes {
            email: true,
            groups: true,
        };
        signed_in.nonce = Some("n".into());
        let told = claims(&signed_in, "1", 1000);
        assert_eq!(told["email"], "ann@acme.example");
        assert_eq!(told["groups"], json!(["ops"]));
        assert_eq!((&told["nonce"], &told["exp"]), (&json!("n"), &json!(1300)));
    }
}
