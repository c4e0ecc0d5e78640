//! A token of sts:GetWebIdentityToken as evidence of an instance: AWS itself says which instance its holder
//! runs on (`ec2_source_instance_arn`; IAM user guide, "Understanding token claims"). Each account has an
//! issuer of its own, and everybody's account has one: only the configured issuers count.

use std::net::Ipv4Addr;

use eic_protocol::arn::{AccountId, Arn};
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;

use super::jwt::{Algorithm, Jwt, KeySet};
use crate::policy::json::Json;
use crate::store::ReplayClaim;
use crate::web_token::claims::{self, Verified};
use crate::web_token::issuer::Issuer;

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
    pub issuer: &'a Issuer,
    /// `aud`, exactly and alone.
    pub audience: &'a str,
    /// The account that the issuer belongs to.
    pub account: &'a AccountId,
    /// Algorithms that count.
    pub algorithms: &'a [Algorithm],
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
    let token = claims::TokenRules {
        issuer: rules.issuer,
        audiences: &[rules.audience],
        algorithms: rules.algorithms,
    };
    let verified = claims::verify(jwt, &token, keys, now)?;
    let said = AwsClaims::of(&verified).ok_or(InvalidToken::NotOfAws)?;
    if said.account != rules.account.as_str() {
        return Err(InvalidToken::Account);
    }
    let (instance, region) = instance(said.instance, rules.account)?;
    Ok(WebIdentity {
        instance,
        account: rules.account.clone(),
        region,
        private_ip: said.private_ip,
        claim: verified.claim,
        role: verified.subject,
    })
}

/// Those of AWS's own claims that count; `request_tags` are whatever the sender asked for.
struct AwsClaims<'j> {
    account: &'j str,
    instance: Option<&'j str>,
    private_ip: Option<Ipv4Addr>,
}

impl<'j> AwsClaims<'j> {
    fn of(verified: &'j Verified) -> Option<Self> {
        let private_ip = claim(verified, "ec2_instance_source_private_ipv4")?;
        let private_ip = private_ip.map(|text| text.parse().ok());
        Some(Self {
            account: claim(verified, "aws_account")??,
            instance: claim(verified, "ec2_source_instance_arn")?,
            private_ip: match private_ip {
                None => None,
                Some(parsed) => Some(parsed?),
            },
        })
    }
}

/// A claim's text, or that there is none; nothing where it is something else.
fn claim<'j>(verified: &'j Verified, name: &str) -> Option<Option<&'j str>> {
    match verified.aws(name)? {
        None | Some(Json::Null) => Some(None),
        Some(Json::Text(text)) => Some(Some(text)),
        Some(_) => None,
    }
}

/// The instance that an ARN names, in this account.
fn instance(
    arn: Option<&str>,
    account: &AccountId,
) -> Result<(InstanceId, AwsRegion), InvalidToken> {
    let none = InvalidToken::NotAnInstance;
    let arn: Arn = arn.and_then(|text| text.parse().ok()).ok_or(none.clone())?;
    let id = arn.resource.strip_prefix("instance/");
    let instance: InstanceId = id.and_then(|id| id.parse().ok()).ok_or(none.clone())?;
    let region: AwsRegion = arn.region.parse().map_err(|_| none.clone())?;
    let same = arn.account.as_ref() == Some(account);
    if arn.service != "ec2" || !same || arn.partition != region.partition() || instance.is_managed()
    {
        return Err(none);
    }
    Ok((instance, region))
}

/// Why a token does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// For what every token must be like.
    #[error(transparent)]
    Token(#[from] claims::InvalidToken),
    /// The payload lacks what AWS's tokens have.
    #[error("the token's claims are not those of sts:GetWebIdentityToken")]
    NotOfAws,
    /// Of another account than the issuer's.
    #[error("the token is of another account than its issuer's")]
    Account,
    /// Its holder is no EC2 instance.
    #[error("AWS does not say that the token's holder runs on an EC2 instance")]
    NotAnInstance,
}

#[cfg(test)]
mod tests;
