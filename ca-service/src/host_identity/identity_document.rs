//! EC2's instance identity document: what AWS says of one instance (EC2 user guide, "Instance identity
//! documents"). Its bytes are verified as they came, by the pinned certificate of the Region that it names,
//! and only then believed. It has no nonce and no audience: by itself it proves possession of a public text.

use std::net::Ipv4Addr;

use eic_protocol::api::host_certificate::evidence::IdentitySignature;
use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use serde::Deserialize;

use super::region_certificates::RegionCertificates;
use super::signed_data::{self, InvalidSignedData};

/// Longest document that is looked at. Bytes; a real one has about 500.
const MAX_DOCUMENT: usize = 8 * 1024;

/// What a document says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityDocument {
    /// The instance.
    pub instance: InstanceId,
    /// The account that runs it.
    pub account: AccountId,
    /// Its Region.
    pub region: AwsRegion,
    /// When it was last launched, in Unix seconds; grows with each start.
    pub pending_time: u64,
    /// Its primary private address.
    pub private_ip: Ipv4Addr,
}

/// The members that count; AWS adds others from time to time.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    instance_id: InstanceId,
    account_id: AccountId,
    region: AwsRegion,
    pending_time: String,
    private_ip: Ipv4Addr,
}

/// Reads a document strictly; nothing of it is verified.
///
/// # Errors
/// [`InvalidDocument::Malformed`]: not JSON, a member that counts is missing, twice there or not of its form.
pub fn parse(bytes: &[u8]) -> Result<IdentityDocument, InvalidDocument> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(InvalidDocument::TooLong);
    }
    let members: Members = serde_json::from_slice(bytes).map_err(|_| InvalidDocument::Malformed)?;
    let time: jiff::Timestamp = members
        .pending_time
        .parse()
        .map_err(|_| InvalidDocument::Malformed)?;
    Ok(IdentityDocument {
        instance: members.instance_id,
        account: members.account_id,
        region: members.region,
        pending_time: u64::try_from(time.as_second()).map_err(|_| InvalidDocument::Malformed)?,
        private_ip: members.private_ip,
    })
}

/// The document in `bytes`, where `signature` is AWS's for its Region. `now` is in Unix seconds.
///
/// # Errors
/// [`InvalidDocument`]
pub fn verify(
    bytes: &[u8],
    signature: &IdentitySignature,
    certificates: &RegionCertificates,
    now: u64,
) -> Result<IdentityDocument, InvalidDocument> {
    let document = parse(bytes)?;
    let keys = certificates.keys(document.region, now);
    if keys.is_empty() {
        return Err(InvalidDocument::NoCertificate(document.region));
    }
    // In most Regions `pkcs7` is DSA, which is refused; in China it is RSA.
    let (IdentitySignature::Rsa2048(message) | IdentitySignature::Pkcs7(message)) = signature;
    signed_data::verify(message.as_slice(), bytes, &keys)?;
    Ok(document)
}

/// Why a document does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDocument {
    /// Not a document.
    #[error("the instance identity document is not of EC2's form")]
    Malformed,
    /// Longer than any of AWS's.
    #[error("the instance identity document is longer than {MAX_DOCUMENT} bytes")]
    TooLong,
    /// No certificate of the Region is configured, or all have ended.
    #[error("no certificate of AWS for `{0}` is configured that is still good")]
    NoCertificate(AwsRegion),
    /// The signature.
    #[error("{0}")]
    Signature(#[from] InvalidSignedData),
}

#[cfg(test)]
mod tests;
