//! `oidc`: an ID token of an issuer that the CA's configuration names (OpenID Connect Core §2), bound to a key.
//! The key that is to be bound signs the token's hash as well, so that a token alone opens nothing (threats D3).
//! Nothing here looks into a token: whether it counts is for the CA.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use crate::api::host_certificate::evidence::{InvalidToken, WebIdentityToken as IdToken};

use super::Audience;
use super::aws_sts::AwsStsProof;
use crate::subject_key::SubjectKey;
use crate::wire::Writer;

/// An issuer's token for our audience.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcProof {
    /// A compact JWS of at most 16 KiB.
    pub token: IdToken,
}

/// An AWS identity that IAM also lets out: a signed sts:GetCallerIdentity, and beside it a token of
/// sts:GetWebIdentityToken, which needs a permission each time it is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsWebIdentityProof {
    /// Who the caller is.
    pub sts: AwsStsProof,
    /// A token of the same principal.
    pub token: IdToken,
}

/// What of a token enters the signed bytes: SHA-256 of its text.
#[must_use]
pub fn token_digest(token: &IdToken) -> [u8; 32] {
    Sha256::digest(token.reveal()).into()
}

/// How a nonce begins that [`bound_nonce`] made. Others, and none (RFC 8628 knows none), bind a token to nothing.
pub const BOUND_NONCE: &str = "eic-v1-";

/// The nonce by which a client has a person's ID token bound (docs/protocol.md): to the CA that it is for, which its audience
/// does not name, and to the key that it is shown with. Stolen on its way, it is of no use with another. A fresh key for
/// each sign-in makes it fresh, too.
#[must_use]
pub fn bound_nonce(ca: &Audience, key: &SubjectKey) -> String {
    let mut bound = Writer::new();
    bound
        .string(b"eic-oidc-nonce-v1")
        .string(ca.as_str().as_bytes())
        .string(key.blob());
    let digest = Sha256::digest(bound.as_slice());
    format!("{BOUND_NONCE}{}", hex::encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nonce_is_that_of_the_documented_vector_and_of_one_key_and_ca() {
        let keys = [
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKNuPrbMfSDEwKHIeOHeJOVY7tZ6b3vXv7Y1xqVrCg3w",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBWAeJ0ZhEzt18HUcfCa/NQEsFcuKXiCRWThD+Vm1j3X",
        ];
        let [key, other] = keys.map(|key| key.parse().unwrap());
        let of = |ca: &str, key| bound_nonce(&ca.parse().unwrap(), key);
        let nonce = of("https://ca.example", &key);
        assert_eq!(
            nonce,
            "eic-v1-ce03ae1340fe20ba22a1836c0f94b8d0c0e54a14d913206b305a02b9007101e9"
        );
        assert_ne!(nonce, of("https://rogue.example", &key));
        assert_ne!(nonce, of("https://ca.example", &other));
    }
}
