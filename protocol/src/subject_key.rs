//! Public keys that may be certified, and public keys of CAs.
//! A subject key is checked here once, before anything is decided or signed with it;
//! whether its owner holds the private half is [`crate::sshsig`]'s business.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use ssh_encoding::{Decode as _, Encode as _};
use ssh_key::public::{EcdsaPublicKey, KeyData};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey};

use crate::text::printable;

mod good_points;
mod rsa;

/// Longest OpenSSH public-key line that is looked at; SendSSHPublicKey takes at most 4096 characters.
pub const MAX_LINE: usize = 4096;

/// A public key in OpenSSH form that passed the rules for its type.
///
/// Accepted: Ed25519 (canonical, not of small order), ECDSA P-256 and P-384 (on the curve),
/// RSA of 2048 to 8192 bits with a sound exponent and modulus, and the two FIDO types.
/// Refused: DSA, P-521, certificates, unknown types, trailing bytes.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubjectKey {
    key: KeyData,
    blob: Vec<u8>,
}

impl SubjectKey {
    /// Checks a key in SSH wire form.
    ///
    /// # Errors
    /// [`InvalidKey`] says what is wrong with it.
    pub fn from_blob(blob: &[u8]) -> Result<Self, InvalidKey> {
        // Checked before parsing: the largest key that is accepted, RSA-8192, has about 1,050 bytes.
        if blob.len() > MAX_LINE {
            return Err(InvalidKey::TooLong);
        }
        if is_certificate(blob) {
            return Err(InvalidKey::Certificate);
        }
        let mut rest = blob;
        let key = KeyData::decode(&mut rest).map_err(|_| InvalidKey::Malformed)?;
        if !rest.is_empty() {
            return Err(InvalidKey::Trailing);
        }
        check(&key)?;
        let canonical = key.encode_vec().map_err(|_| InvalidKey::Malformed)?;
        if canonical != blob {
            return Err(InvalidKey::Malformed);
        }
        Ok(Self {
            key,
            blob: canonical,
        })
    }

    /// The parsed key.
    #[must_use]
    pub fn key_data(&self) -> &KeyData {
        &self.key
    }

    /// The key in SSH wire form.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// `SHA256:…` as ssh-keygen shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// The key type's name: `ssh-ed25519`, `ecdsa-sha2-nistp256`, …
    #[must_use]
    pub fn algorithm_name(&self) -> String {
        self.key.algorithm().to_string()
    }

    /// Whether the private half lives in a FIDO authenticator.
    #[must_use]
    pub fn is_fido(&self) -> bool {
        matches!(
            self.key,
            KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_)
        )
    }
}

fn is_certificate(blob: &[u8]) -> bool {
    let name = crate::wire::Reader::new(blob).string().unwrap_or_default();
    name.ends_with(b"-cert-v01@openssh.com") || name.ends_with(b"-cert-v00@openssh.com")
}

fn check(key: &KeyData) -> Result<(), InvalidKey> {
    match key {
        KeyData::Ed25519(key) => check_ed25519(&key.0),
        KeyData::SkEd25519(key) => check_ed25519(&key.public_key().0),
        KeyData::Ecdsa(key) => check_ecdsa(key),
        KeyData::SkEcdsaSha2NistP256(key) => {
            check_ecdsa(&EcdsaPublicKey::NistP256(*key.ec_point()))
        }
        KeyData::Rsa(key) => rsa::check(key),
        _ => Err(InvalidKey::Type(printable(key.algorithm().as_str()))),
    }
}

fn check_ed25519(bytes: &[u8; 32]) -> Result<(), InvalidKey> {
    good_points::known(bytes, check_point)
}

fn check_point(bytes: &[u8; 32]) -> Result<(), InvalidKey> {
    let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| InvalidKey::Point)?;
    // The points whose x is 0, where the sign bit could lie, are of small order.
    if key.is_weak() || !is_reduced(bytes) {
        Err(InvalidKey::Point)
    } else {
        Ok(())
    }
}

/// Whether y < 2^255 − 19 (RFC 8032 §5.1.3): decompression takes larger encodings of the same point.
fn is_reduced(bytes: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = bytes;
    let all_ones = high & 0x7f == 0x7f && middle.iter().all(|b| *b == 0xff);
    !all_ones || *low < 0xed
}

fn check_ecdsa(key: &EcdsaPublicKey) -> Result<(), InvalidKey> {
    let on_curve = match key {
        EcdsaPublicKey::NistP256(point) => {
            p256::ecdsa::VerifyingKey::from_sec1_bytes(point.as_bytes()).is_ok()
        }
        EcdsaPublicKey::NistP384(point) => {
            p384::ecdsa::VerifyingKey::from_sec1_bytes(point.as_bytes()).is_ok()
        }
        EcdsaPublicKey::NistP521(_) => {
            return Err(InvalidKey::Type("ecdsa-sha2-nistp521".to_owned()));
        }
    };
    if on_curve {
        Ok(())
    } else {
        Err(InvalidKey::Point)
    }
}

impl Ord for SubjectKey {
    /// By wire form: the order in which trust documents and revocation lists hold keys.
    fn cmp(&self, other: &Self) -> Ordering {
        self.blob.cmp(&other.blob)
    }
}

impl PartialOrd for SubjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for SubjectKey {
    type Err = InvalidKey;

    /// Reads `type base64 [comment]`; the comment is dropped.
    fn from_str(line: &str) -> Result<Self, InvalidKey> {
        if line.len() > MAX_LINE {
            return Err(InvalidKey::TooLong);
        }
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let encoded = words.next().ok_or(InvalidKey::Malformed)?;
        let blob = decode_base64(encoded).ok_or(InvalidKey::Malformed)?;
        let named = crate::wire::Reader::new(&blob)
            .string()
            .map_err(|_| InvalidKey::Malformed)?;
        if named != name.as_bytes() {
            return Err(InvalidKey::Malformed);
        }
        Self::from_blob(&blob)
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

impl fmt::Display for SubjectKey {
    /// `type base64`, without a comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = PublicKey::from(self.key.clone())
            .to_openssh()
            .map_err(|_| fmt::Error)?;
        f.write_str(text.trim_end())
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

impl TryFrom<String> for SubjectKey {
    type Error = InvalidKey;

    fn try_from(line: String) -> Result<Self, InvalidKey> {
        line.parse()
    }
}

impl From<SubjectKey> for String {
    fn from(key: SubjectKey) -> Self {
        key.to_string()
    }
}

/// A CA's public key: a plain key of a type that every sshd accepts as a CA.
/// Ed25519, ECDSA P-256 and P-384, RSA of at least 3072 bits; never a certificate
/// (a certificate as signature key is how others were forged).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaKey(SubjectKey);

/// Smallest RSA CA key, in bits (NIST SP 800-57: 128-bit strength until 2030 and beyond).
pub const MIN_CA_RSA_BITS: u32 = 3072;

impl CaKey {
    /// Checks that `key` may be a CA's.
    ///
    /// # Errors
    /// [`InvalidKey`] for FIDO keys and short RSA keys.
    pub fn new(key: SubjectKey) -> Result<Self, InvalidKey> {
        match key.key_data() {
            KeyData::Rsa(rsa) if rsa.key_size() < MIN_CA_RSA_BITS => Err(InvalidKey::RsaSize {
                bits: rsa.key_size(),
                min: MIN_CA_RSA_BITS,
            }),
            _ if key.is_fido() => Err(InvalidKey::Type(key.algorithm_name())),
            _ => Ok(Self(key)),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &SubjectKey {
        &self.0
    }

    /// `SHA256:…`, sshd's `%F`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint()
    }

    /// The signature algorithm that certificates of this CA carry; RSA always SHA-2.
    #[must_use]
    pub fn signature_algorithms(&self) -> &'static [&'static str] {
        match self.0.key_data().algorithm() {
            Algorithm::Ecdsa {
                curve: EcdsaCurve::NistP256,
            } => &["ecdsa-sha2-nistp256"],
            Algorithm::Ecdsa {
                curve: EcdsaCurve::NistP384,
            } => &["ecdsa-sha2-nistp384"],
            Algorithm::Rsa { .. } => &["rsa-sha2-512", "rsa-sha2-256"],
            _ => &["ssh-ed25519"],
        }
    }
}

impl fmt::Display for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for CaKey {
    type Err = InvalidKey;

    fn from_str(line: &str) -> Result<Self, InvalidKey> {
        Self::new(line.parse()?)
    }
}

impl TryFrom<String> for CaKey {
    type Error = InvalidKey;

    fn try_from(line: String) -> Result<Self, InvalidKey> {
        line.parse()
    }
}

impl From<CaKey> for String {
    fn from(key: CaKey) -> Self {
        key.to_string()
    }
}

/// Why a public key is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Too many bytes to be looked at.
    #[error("the public key is longer than {MAX_LINE} characters")]
    TooLong,
    /// Not `type base64`, or the two disagree, or not the canonical encoding.
    #[error("the public key is malformed: expected one OpenSSH line `type base64`")]
    Malformed,
    /// Bytes after the key.
    #[error("the public key has bytes after its end")]
    Trailing,
    /// A certificate instead of a key.
    #[error("a certificate was given where a plain public key belongs")]
    Certificate,
    /// A type that is not accepted.
    #[error(
        "key type `{0}` is not accepted: use ssh-ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384 or RSA"
    )]
    Type(String),
    /// A point that is not on the curve, of small order, or not canonical.
    #[error("the public key is not a valid point of its curve")]
    Point,
    /// An RSA modulus of the wrong length.
    #[error("the RSA key has {bits} bits; {min} to 8192 are accepted")]
    RsaSize {
        /// Length of the modulus.
        bits: u32,
        /// Shortest accepted.
        min: u32,
    },
    /// An RSA key that is known to be breakable.
    #[error("the RSA key is weak: {0}")]
    RsaWeak(&'static str),
}

#[cfg(test)]
pub(crate) mod tests;
