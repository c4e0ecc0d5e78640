//! PKCS #7 / CMS signed data (RFC 5652), as EC2's instance metadata gives it at
//! `dynamic/instance-identity/rsa2048` (EC2 user guide, "Verify the instance identity document").
//! One signer, SHA-256, RSA; what the message says of certificates is ignored: the caller's are pinned.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

use super::ber::{self, Element, INTEGER, Malformed, OID, Reader, SEQUENCE, SET, context};

/// Largest message that is looked at. Bytes; a real one has about 1,200.
const MAX_MESSAGE: usize = 16 * 1024;

// Object identifiers as encoded (RFC 5652 §4 and §11, RFC 8017 appendix C, RFC 5754, RFC 3279).
const ID_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const ID_SIGNED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
const CONTENT_TYPE: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03";
const MESSAGE_DIGEST: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04";
const SHA_256: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x01";
const SHA_1: &[u8] = b"\x2b\x0e\x03\x02\x1a";
const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const SHA_256_WITH_RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b";
/// Arc of all DSA algorithms of X9.57.
const DSA_ARC: &[u8] = b"\x2a\x86\x48\xce\x38\x04";

/// Why a message does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignedData {
    /// Not PKCS #7 signed data.
    #[error("the signature is not PKCS #7 signed data")]
    Malformed,
    /// Longer than any of AWS's.
    #[error("the signature is longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// Several signers, or none.
    #[error("the signature has not just one signer")]
    Signers,
    /// SHA-1 or DSA.
    #[error(
        "the signature uses DSA or SHA-1, which anybody may forge one day; send the one of `dynamic/instance-identity/rsa2048`"
    )]
    Obsolete,
    /// Another algorithm.
    #[error("the signature's algorithm is not RSA with SHA-256")]
    Algorithm,
    /// The message carries another document than the one beside it.
    #[error("the signature was made for another document")]
    OtherContent,
    /// None of the pinned keys made it.
    #[error("the signature is not by AWS's certificate for the Region that the document names")]
    Wrong,
}

impl From<Malformed> for InvalidSignedData {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A message, taken apart; nothing of it is verified yet.
struct SignedData<'a> {
    content: Option<Vec<u8>>,
    signer: Signer<'a>,
}

struct Signer<'a> {
    attributes: Option<Element<'a>>,
    signature: Vec<u8>,
}

/// Checks that `message` signs exactly `content` with one of `keys` (RSA public keys of PKCS #1, in DER).
///
/// # Errors
/// [`InvalidSignedData`] names the first thing that does not hold.
pub fn verify(message: &[u8], content: &[u8], keys: &[Vec<u8>]) -> Result<(), InvalidSignedData> {
    if message.len() > MAX_MESSAGE {
        return Err(InvalidSignedData::TooLong);
    }
    let parsed = parse(message)?;
    if parsed.content.is_some_and(|attached| attached != content) {
        return Err(InvalidSignedData::OtherContent);
    }
    let signed = match parsed.signer.attributes {
        Some(attributes) => signed_attributes(attributes, content)?,
        None => content.to_vec(),
    };
    let good = |key: &Vec<u8>| {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
            .verify(&signed, &parsed.signer.signature)
            .is_ok()
    };
    keys.iter()
        .any(good)
        .then_some(())
        .ok_or(InvalidSignedData::Wrong)
}

fn parse(message: &[u8]) -> Result<SignedData<'_>, InvalidSignedData> {
    let mut outer = Reader::new(message);
    let mut info = outer.inside(SEQUENCE)?;
    outer.end()?;
    if info.expect(OID)?.value != ID_SIGNED_DATA {
        return Err(InvalidSignedData::Malformed);
    }
    let mut explicit = info.inside(context(0))?;
    info.end()?;
    let mut data = explicit.inside(SEQUENCE)?;
    explicit.end()?;
    data.expect(INTEGER)?;
    data.expect(SET)?;
    let content = content(data.inside(SEQUENCE)?)?;
    // Certificates and revocation lists are the sender's own words.
    data.optional(context(0))?;
    data.optional(context(1))?;
    let mut signers = data.inside(SET)?;
    data.end()?;
    let signer = match signers.is_at_end() {
        true => return Err(InvalidSignedData::Signers),
        false => signers.inside(SEQUENCE)?,
    };
    if !signers.is_at_end() {
        return Err(InvalidSignedData::Signers);
    }
    Ok(SignedData {
        content,
        signer: read_signer(signer)?,
    })
}

fn content(mut info: Reader<'_>) -> Result<Option<Vec<u8>>, InvalidSignedData> {
    if info.expect(OID)?.value != ID_DATA {
        return Err(InvalidSignedData::Malformed);
    }
    if info.is_at_end() {
        return Ok(None);
    }
    let mut explicit = info.inside(context(0))?;
    info.end()?;
    let octets = explicit.octets()?;
    explicit.end()?;
    Ok(Some(octets))
}

fn read_signer(mut signer: Reader<'_>) -> Result<Signer<'_>, InvalidSignedData> {
    signer.expect(INTEGER)?;
    // Whom the message names as its signer does not matter: the keys are pinned.
    signer.any()?;
    check_digest(algorithm(&mut signer)?)?;
    let attributes = signer.optional(context(0))?;
    check_signature(algorithm(&mut signer)?)?;
    let signature = signer.octets()?;
    signer.optional(context(1))?;
    signer.end()?;
    Ok(Signer {
        attributes,
        signature,
    })
}

fn algorithm<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    Ok(reader.inside(SEQUENCE)?.expect(OID)?.value)
}

fn check_digest(algorithm: &[u8]) -> Result<(), InvalidSignedData> {
    match algorithm {
        SHA_256 => Ok(()),
        SHA_1 => Err(InvalidSignedData::Obsolete),
        _ => Err(InvalidSignedData::Algorithm),
    }
}

fn check_signature(algorithm: &[u8]) -> Result<(), InvalidSignedData> {
    match algorithm {
        RSA | SHA_256_WITH_RSA => Ok(()),
        dsa if dsa.starts_with(DSA_ARC) => Err(InvalidSignedData::Obsolete),
        _ => Err(InvalidSignedData::Algorithm),
    }
}

/// What is signed where there are attributes: the attributes, which must name the content's digest and
/// its type, each once (RFC 5652 §5.3 and §5.4: encoded as a SET, in DER).
fn signed_attributes(
    attributes: Element<'_>,
    content: &[u8],
) -> Result<Vec<u8>, InvalidSignedData> {
    if !attributes.definite {
        return Err(InvalidSignedData::Malformed);
    }
    let mut reader = Reader::new(attributes.value);
    let mut seen: Vec<&[u8]> = Vec::new();
    while !reader.is_at_end() {
        let name = check_attribute(reader.inside(SEQUENCE)?, content)?;
        if seen.contains(&name) {
            return Err(InvalidSignedData::Malformed);
        }
        seen.push(name);
    }
    if !seen.contains(&MESSAGE_DIGEST) || !seen.contains(&CONTENT_TYPE) {
        return Err(InvalidSignedData::Malformed);
    }
    let rest = attributes.raw.get(1..).unwrap_or_default();
    Ok([&[SET], rest].concat())
}

fn check_attribute<'a>(
    mut attribute: Reader<'a>,
    content: &[u8],
) -> Result<&'a [u8], InvalidSignedData> {
    let name = attribute.expect(OID)?.value;
    let mut values = attribute.inside(SET)?;
    attribute.end()?;
    match name {
        MESSAGE_DIGEST => {
            let digest = values.expect(ber::OCTET_STRING)?.value;
            values.end()?;
            if digest != Sha256::digest(content).as_slice() {
                return Err(InvalidSignedData::OtherContent);
            }
        }
        CONTENT_TYPE => {
            if values.expect(OID)?.value != ID_DATA {
                return Err(InvalidSignedData::Malformed);
            }
            values.end()?;
        }
        _ => {}
    }
    Ok(name)
}

#[cfg(test)]
mod tests;
