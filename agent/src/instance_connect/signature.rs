//! X.509 signature algorithms and public keys: one list for certificates and revocation staples.
//! No SHA-1 anywhere in it.

use der::asn1::{AnyRef, BitStringRef};
use der::{Decode as _, Encode as _, Sequence, Tag};
use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::ring;

/// What a signature in the chain may be made with.
pub const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    ring::RSA_PKCS1_2048_8192_SHA256,
    ring::RSA_PKCS1_2048_8192_SHA384,
    ring::RSA_PKCS1_2048_8192_SHA512,
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P256_SHA384,
    ring::ECDSA_P384_SHA256,
    ring::ECDSA_P384_SHA384,
];

/// A certificate's public key (RFC 5280 §4.1.2.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Vec<u8>,
    bits: Vec<u8>,
}

#[derive(Sequence)]
struct Spki<'a> {
    algorithm: AnyRef<'a>,
    key: BitStringRef<'a>,
}

/// AlgorithmIdentifier of rsaEncryption with its NULL, without the outer header (RFC 8017 appendix A.1).
const RSA_ENCRYPTION: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// It is not DER, or its key is not a whole number of bytes.
    pub fn from_der(spki: &[u8]) -> der::Result<Self> {
        let parsed = Spki::from_der(spki)?;
        let bits = parsed.key.as_bytes().ok_or(Tag::BitString.value_error())?;
        Ok(Self {
            algorithm: parsed.algorithm.value().to_vec(),
            bits: bits.to_vec(),
        })
    }

    /// The key itself: what OCSP hashes, and for RSA a PKCS#1 RSAPublicKey.
    #[must_use]
    pub fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Whether this is a plain RSA key, the only kind that makes PSS signatures for records.
    #[must_use]
    pub fn is_rsa(&self) -> bool {
        self.algorithm == RSA_ENCRYPTION
    }

    /// Whether `signature`, made with the AlgorithmIdentifier `algorithm` (without its outer header), is over `message`.
    #[must_use]
    pub fn has_signed(&self, message: &[u8], algorithm: &[u8], signature: &[u8]) -> bool {
        let fits = |candidate: &&&dyn SignatureVerificationAlgorithm| {
            candidate.signature_alg_id().as_ref() == algorithm
                && candidate.public_key_alg_id().as_ref() == self.algorithm
        };
        let found = ALGORITHMS.iter().find(fits);
        found.is_some_and(|known| {
            known
                .verify_signature(&self.bits, message, signature)
                .is_ok()
        })
    }
}

/// `contents` with the header of a SEQUENCE in front: webpki hands names and keys out without theirs.
///
/// # Errors
/// More bytes than DER can hold.
pub fn sequence(contents: &[u8]) -> der::Result<Vec<u8>> {
    AnyRef::new(Tag::Sequence, contents)?.to_der()
}
