//! SSHSIG signatures (OpenSSH PROTOCOL.sshsig): possession of the bound key, and trust documents.
//! Verification only, plus the bytes to be signed: private keys stay with their holder.

use sha2::{Digest as _, Sha256, Sha512};
use signature::Verifier as _;
use ssh_key::{Algorithm, HashAlg, Signature};

use crate::subject_key::{InvalidKey, SubjectKey};
use crate::wire::{Reader, Truncated, Writer};

const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
/// FIDO "user present" flag (draft-miller-ssh-agent; U2F raw messages §4.3).
const FLAG_USER_PRESENT: u8 = 0x01;
/// Largest signature blob that is looked at: RSA-8192 key and signature are about 2.2 kB.
pub const MAX_BLOB: usize = 4096;

/// What a signature is for. A signature for one purpose never counts for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// An API request, signed by the key that it is bound to.
    Request,
    /// A root document.
    Root,
    /// A host view.
    HostView,
    /// A trust bundle.
    Bundle,
    /// Keys that a user CA's key lets sign for some hours.
    Endorsement,
}

impl Namespace {
    /// The namespace string.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "eic-request-v1",
            Self::Root => "eic-root-v1",
            Self::HostView => "eic-host-view-v1",
            Self::Bundle => "eic-bundle-v1",
            Self::Endorsement => "eic-endorsement-v1",
        }
    }
}

/// The bytes that the private key signs for `message` (hash: SHA-512).
#[must_use]
pub fn signed_data(namespace: Namespace, message: &[u8]) -> Vec<u8> {
    to_be_signed(namespace, "sha512", &Sha512::digest(message))
}

fn to_be_signed(namespace: Namespace, hash: &str, digest: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.raw(MAGIC)
        .string(namespace.as_str().as_bytes())
        .string(b"");
    w.string(hash.as_bytes()).string(digest);
    w.into_bytes()
}

/// The signature blob around a raw signature over [`signed_data`].
///
/// # Errors
/// [`InvalidSignature::Malformed`] where `signature` cannot be encoded.
pub fn blob(
    namespace: Namespace,
    key: &SubjectKey,
    signature: &Signature,
) -> Result<Vec<u8>, InvalidSignature> {
    let encoded =
        Vec::<u8>::try_from(signature.clone()).map_err(|_| InvalidSignature::Malformed)?;
    let mut w = Writer::new();
    w.raw(MAGIC)
        .u32(VERSION)
        .string(key.blob())
        .string(namespace.as_str().as_bytes())
        .string(b"");
    w.string(b"sha512").string(&encoded);
    Ok(w.into_bytes())
}

/// Checks that `blob` is a signature by `key` over `message` for this purpose.
///
/// # Errors
/// [`InvalidSignature`] names the first thing that does not hold.
pub fn verify(
    namespace: Namespace,
    key: &SubjectKey,
    message: &[u8],
    blob: &[u8],
) -> Result<(), InvalidSignature> {
    let parsed = parse(blob)?;
    if parsed.key != key.blob() {
        return Err(InvalidSignature::OtherKey);
    }
    if parsed.namespace != namespace.as_str().as_bytes() {
        return Err(InvalidSignature::Namespace);
    }
    let digest = match parsed.hash {
        b"sha512" => Sha512::digest(message).to_vec(),
        b"sha256" => Sha256::digest(message).to_vec(),
        _ => return Err(InvalidSignature::Algorithm),
    };
    let hash = if parsed.hash == b"sha512" {
        "sha512"
    } else {
        "sha256"
    };
    let data = to_be_signed(namespace, hash, &digest);
    verify_raw(key, &data, parsed.signature)
}

/// The key that a blob names, unverified: to find which pinned key to verify with.
///
/// # Errors
/// [`InvalidSignature`] where the blob or the key in it is malformed.
pub fn claimed_key(blob: &[u8]) -> Result<SubjectKey, InvalidSignature> {
    Ok(SubjectKey::from_blob(parse(blob)?.key)?)
}

/// Checks a plain SSH signature (`string algorithm, string data`) by `key` over `data`.
///
/// # Errors
/// [`InvalidSignature`]; SHA-1 RSA and FIDO signatures without user presence are refused.
pub fn verify_raw(key: &SubjectKey, data: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
    let signature = Signature::try_from(signature).map_err(|_| InvalidSignature::Malformed)?;
    if !algorithm_fits(key, &signature) {
        return Err(InvalidSignature::Algorithm);
    }
    if key.is_fido() && !user_present(&signature) {
        return Err(InvalidSignature::UserPresence);
    }
    key.key_data()
        .verify(data, &signature)
        .map_err(|_| InvalidSignature::Wrong)
}

fn algorithm_fits(key: &SubjectKey, signature: &Signature) -> bool {
    match (key.key_data().algorithm(), signature.algorithm()) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { hash }) => {
            matches!(hash, Some(HashAlg::Sha256 | HashAlg::Sha512))
        }
        (key, signature) => key == signature,
    }
}

fn user_present(signature: &Signature) -> bool {
    // The data ends with one byte of flags and a 32-bit counter.
    let flags = signature
        .as_bytes()
        .len()
        .checked_sub(5)
        .and_then(|at| signature.as_bytes().get(at));
    flags.is_some_and(|f| f & FLAG_USER_PRESENT != 0)
}

struct Parsed<'a> {
    key: &'a [u8],
    namespace: &'a [u8],
    hash: &'a [u8],
    signature: &'a [u8],
}

fn parse(blob: &[u8]) -> Result<Parsed<'_>, InvalidSignature> {
    if blob.len() > MAX_BLOB {
        return Err(InvalidSignature::Malformed);
    }
    let mut r = Reader::new(blob);
    if r.take(MAGIC.len())? != MAGIC || r.u32()? != VERSION {
        return Err(InvalidSignature::Malformed);
    }
    let (key, namespace, _reserved, hash) = (r.string()?, r.string()?, r.string()?, r.string()?);
    let parsed = Parsed {
        key,
        namespace,
        hash,
        signature: r.string()?,
    };
    if r.is_at_end() {
        Ok(parsed)
    } else {
        Err(InvalidSignature::Malformed)
    }
}

/// Why a signature does not count.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignature {
    /// Not an SSHSIG blob.
    #[error("the signature is malformed")]
    Malformed,
    /// By a key other than the bound one.
    #[error("the signature is by another key")]
    OtherKey,
    /// For another purpose.
    #[error("the signature was made for another purpose")]
    Namespace,
    /// An algorithm that does not belong to the key, or is not accepted.
    #[error("the signature's algorithm is not accepted for this key")]
    Algorithm,
    /// A FIDO signature without a touch.
    #[error("the security key did not record a touch")]
    UserPresence,
    /// It does not verify.
    #[error("the signature does not verify")]
    Wrong,
    /// The key in it is not acceptable.
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

impl From<Truncated> for InvalidSignature {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

#[cfg(test)]
mod tests;
