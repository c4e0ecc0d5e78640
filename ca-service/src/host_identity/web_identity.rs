//! A token of sts:GetWebIdentityToken as evidence of an instance: AWS itself says which instance its holder
//! runs on (`ec2_source_instance_arn`; IAM user guide, "Understanding token claims"). Each account has an
//! issuer of its own, and everybody's account has one: only the configured issuers count.

use std::net::Ipv4Addr;

use eic_protocol::arn::{AccountId, Arn};
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::jwt::{Algorithm, InvalidJwt, Jwt, KeySet};
use crate::store::ReplayClaim;

/// Oldest token. Seconds.
const MAX_AGE: u64 = 900;
/// How far an issuer's clock may be from ours. Seconds.
const LEEWAY: u64 = 60;
/// Longest life that a replay claim has to cover (AWS: 3,600 s). Seconds.
const MAX_LIFE: u64 = 86_400;

/// What AWS says of the token's holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebIdentity {
    /// The instance.
    pub instance: InstanceId,
    /// Its account.
    pub account: AccountId,
    /// Its Region.
    pub region: AwsRegion,
    /// The role's ARN.
    pub role: String,
    /// The instance's private address, where the token says it.
    pub private_ip: Option<Ipv4Addr>,
    /// Makes the token count once.
    pub claim: ReplayClaim,
}

/// What a token must be like.
#[derive(Clone, Copy, Debug)]
pub struct TokenRules<'a> {
    /// `iss`, exactly.
    pub issuer: &'a str,
    /// `aud`, exactly and alone.
    pub audience: &'a str,
    /// The account that the issuer belongs to.
    pub account: &'a AccountId,
    /// Algorithms that count.
    pub algorithms: &'a [Algorithm],
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audiences,
    sub: String,
    iat: u64,
    exp: u64,
    nbf: Option<u64>,
    jti: Option<String>,
    #[serde(rename = "https://sts.amazonaws.com/")]
    aws: AwsClaims,
}

#[derive(Deserialize)]
struct AwsClaims {
    aws_account: AccountId,
    ec2_source_instance_arn: Option<String>,
    ec2_instance_source_private_ipv4: Option<Ipv4Addr>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

impl Audiences {
    fn is_only(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Several(several) => several.len() == 1 && several.iter().all(|a| a == wanted),
        }
    }
}

/// Which issuer a token claims: to find whose keys to verify it with, nothing more.
///
/// # Errors
/// [`InvalidToken`]
pub fn claimed_issuer(jwt: &Jwt<'_>) -> Result<String, InvalidToken> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let issuer: Issuer = serde_json::from_slice(jwt.unverified_payload())
        .map_err(|_| InvalidToken::Jwt(InvalidJwt::Malformed))?;
    Ok(issuer.iss)
}

/// What the token says, where the issuer's keys signed it and all its rules hold. `now` is in Unix seconds.
///
/// # Errors
/// [`InvalidToken`]
pub fn verify(
    jwt: &Jwt<'_>,
    rules: &TokenRules<'_>,
    keys: &KeySet,
    now: u64,
) -> Result<WebIdentity, InvalidToken> {
    let payload = jwt.verified(keys, rules.algorithms)?;
    let claims: Claims = serde_json::from_slice(payload).map_err(|_| InvalidToken::Claims)?;
    if claims.iss != rules.issuer {
        return Err(InvalidToken::Issuer);
    }
    if !claims.aud.is_only(rules.audience) {
        return Err(InvalidToken::Audience);
    }
    check_times(&claims, now)?;
    if claims.aws.aws_account != *rules.account {
        return Err(InvalidToken::Account);
    }
    identity(&claims, jwt)
}

fn check_times(claims: &Claims, now: u64) -> Result<(), InvalidToken> {
    let soon = now.saturating_add(LEEWAY);
    let began = claims.iat <= soon && claims.nbf.is_none_or(|nbf| nbf <= soon);
    let fresh = now.saturating_sub(claims.iat) <= MAX_AGE;
    let sound = claims.exp > now && claims.exp.saturating_sub(claims.iat) <= MAX_LIFE;
    (began && fresh && sound)
        .then_some(())
        .ok_or(InvalidToken::Time)
}

fn identity(claims: &Claims, jwt: &Jwt<'_>) -> Result<WebIdentity, InvalidToken> {
    let text = claims.aws.ec2_source_instance_arn.as_deref();
    let arn: Arn = text
        .and_then(|text| text.parse().ok())
        .ok_or(InvalidToken::NotAnInstance)?;
    let id = arn.resource.strip_prefix("instance/");
    let instance: InstanceId = id
        .and_then(|id| id.parse().ok())
        .ok_or(InvalidToken::NotAnInstance)?;
    let region: AwsRegion = arn
        .region
        .parse()
        .map_err(|_| InvalidToken::NotAnInstance)?;
    let same = arn.account.as_ref() == Some(&claims.aws.aws_account);
    if arn.service != "ec2" || !same || arn.partition != region.partition() || instance.is_managed()
    {
        return Err(InvalidToken::NotAnInstance);
    }
    Ok(WebIdentity {
        instance,
        account: claims.aws.aws_account.clone(),
        region,
        role: claims.sub.clone(),
        private_ip: claims.aws.ec2_instance_source_private_ipv4,
        claim: claim(claims, jwt),
    })
}

/// The token's own id where it has one; else the signed part of its text, for a signature has other spellings.
fn claim(claims: &Claims, jwt: &Jwt<'_>) -> ReplayClaim {
    let mut hash = Sha256::new();
    hash.update(b"eic-web-identity-claim\0");
    hash.update(claims.iss.as_bytes());
    match &claims.jti {
        Some(jti) => {
            hash.update(b"\0jti\0");
            hash.update(jti.as_bytes());
        }
        None => {
            hash.update(b"\0text\0");
            hash.update(jwt.signed_text());
        }
    }
    let life = claims.exp.saturating_sub(claims.iat);
    ReplayClaim::of_signed_time(hash.finalize().into(), claims.iat, life)
}

/// Why a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Form, algorithm, key or signature.
    #[error("{0}")]
    Jwt(#[from] InvalidJwt),
    /// The payload lacks what AWS's tokens have.
    #[error("the token's claims are not those of sts:GetWebIdentityToken")]
    Claims,
    /// Another issuer.
    #[error("the token's issuer is not the one that is configured for an account")]
    Issuer,
    /// Meant for somebody else, or for others too.
    #[error("the token's audience is not this CA's `public_url` alone")]
    Audience,
    /// Too old, ended, or from the future.
    #[error("the token has ended, is older than {MAX_AGE} s or from the future; get a fresh one")]
    Time,
    /// Of another account than the issuer's.
    #[error("the token is of another account than its issuer's")]
    Account,
    /// Its holder is no EC2 instance.
    #[error("AWS does not say that the token's holder runs on an EC2 instance")]
    NotAnInstance,
}

#[cfg(test)]
mod tests;
