//! `oidc`: an ID token of an issuer that the CA's configuration names (OpenID Connect Core §2), bound to a key.
//! The key that is to be bound signs the token's hash as well, so that a token alone opens nothing (threats D3).
//! Nothing here looks into a token: whether it counts is for the CA.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use crate::api::host_certificate::evidence::{InvalidToken, WebIdentityToken as IdToken};

use super::aws_sts::AwsStsProof;

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
