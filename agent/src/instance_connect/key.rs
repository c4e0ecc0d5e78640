//! The public key of a record: which types sshd is given, and the one way in which it is written.
//! Only its form is judged; whether it may be used here is the record's signature's business.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use eic_protocol::wire::{Reader, Truncated};
use ring::digest::{SHA256, digest};
use serde::Deserialize;

/// A plain public key of an accepted type, in SSH wire form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedKey {
    kind: &'static str,
    blob: Vec<u8>,
}

/// Key types beyond RSA and Ed25519, which Instance Connect itself takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum ExtraKeyType {
    /// NIST P-256.
    #[serde(rename = "ecdsa-sha2-nistp256")]
    P256,
    /// NIST P-384.
    #[serde(rename = "ecdsa-sha2-nistp384")]
    P384,
    /// NIST P-521.
    #[serde(rename = "ecdsa-sha2-nistp521")]
    P521,
    /// Ed25519 in a FIDO authenticator.
    #[serde(rename = "sk-ssh-ed25519@openssh.com")]
    SkEd25519,
    /// NIST P-256 in a FIDO authenticator.
    #[serde(rename = "sk-ecdsa-sha2-nistp256@openssh.com")]
    SkP256,
}

impl PushedKey {
    /// Reads `type base64 [comment]`.
    ///
    /// # Errors
    /// [`UnusableKey`]: a certificate, a type that is not accepted, a weak RSA key, not the canonical encoding.
    pub fn parse(line: &str, extra: &BTreeSet<ExtraKeyType>) -> Result<Self, UnusableKey> {
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let (name, encoded) = (
            words.next().unwrap_or_default(),
            words.next().ok_or(UnusableKey::Malformed)?,
        );
        let kind = accepted_type(name, extra).ok_or(UnusableKey::Type)?;
        let blob = STANDARD
            .decode(encoded)
            .map_err(|_| UnusableKey::Malformed)?;
        check_blob(kind, &blob)?;
        Ok(Self { kind, blob })
    }

    /// `SHA256:…` as sshd's `%f` has it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!(
            "SHA256:{}",
            STANDARD_NO_PAD.encode(digest(&SHA256, &self.blob))
        )
    }

    /// `type base64`: no options, no comment, nothing as it was received.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.kind, STANDARD.encode(&self.blob))
    }
}

const RSA: &str = "ssh-rsa";
const ED25519: &str = "ssh-ed25519";

fn accepted_type(name: &str, extra: &BTreeSet<ExtraKeyType>) -> Option<&'static str> {
    match name {
        RSA => Some(RSA),
        ED25519 => Some(ED25519),
        _ => extra
            .iter()
            .map(|kind| kind.name())
            .find(|kind| *kind == name),
    }
}

impl ExtraKeyType {
    fn name(self) -> &'static str {
        match self {
            Self::P256 => "ecdsa-sha2-nistp256",
            Self::P384 => "ecdsa-sha2-nistp384",
            Self::P521 => "ecdsa-sha2-nistp521",
            Self::SkEd25519 => "sk-ssh-ed25519@openssh.com",
            Self::SkP256 => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }
}

/// Checks the fields of RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4 and PROTOCOL.u2f, to the last byte.
fn check_blob(kind: &str, blob: &[u8]) -> Result<(), UnusableKey> {
    let mut r = Reader::new(blob);
    if r.string()? != kind.as_bytes() {
        return Err(UnusableKey::Malformed);
    }
    match kind {
        RSA => check_rsa(&mut r)?,
        ED25519 => check_length(r.string()?, 32)?,
        "ecdsa-sha2-nistp256" => check_point(&mut r, b"nistp256", 65)?,
        "ecdsa-sha2-nistp384" => check_point(&mut r, b"nistp384", 97)?,
        "ecdsa-sha2-nistp521" => check_point(&mut r, b"nistp521", 133)?,
        "sk-ssh-ed25519@openssh.com" => {
            check_length(r.string()?, 32)?;
            check_application(r.string()?)?;
        }
        _ => {
            check_point(&mut r, b"nistp256", 65)?;
            check_application(r.string()?)?;
        }
    }
    if r.is_at_end() {
        Ok(())
    } else {
        Err(UnusableKey::Malformed)
    }
}

/// Smallest RSA modulus: sshd's RequiredRSASize is 1024 by default, NIST SP 800-131A asks for 2048.
const MIN_RSA_BITS: usize = 2048;
/// Largest: OpenSSH reads no longer numbers (SSHBUF_MAX_BIGNUM).
const MAX_RSA_BITS: usize = 16384;

fn check_rsa(r: &mut Reader<'_>) -> Result<(), UnusableKey> {
    let exponent = magnitude(r.string()?)?;
    let modulus = magnitude(r.string()?)?;
    let leading_zeros = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = (modulus.len() * 8).saturating_sub(usize::try_from(leading_zeros).unwrap_or(0));
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let exponent_is_sound = odd(exponent) && exponent != [1] && exponent.len() <= 8;
    if exponent_is_sound && odd(modulus) && (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        Ok(())
    } else {
        Err(UnusableKey::WeakRsa)
    }
}

/// The digits of a positive mpint in its only encoding (RFC 4251 §5).
fn magnitude(mpint: &[u8]) -> Result<&[u8], UnusableKey> {
    match mpint {
        [0, rest @ ..] if rest.first().is_some_and(|byte| byte & 0x80 != 0) => Ok(rest),
        [first, ..] if (1..0x80).contains(first) => Ok(mpint),
        _ => Err(UnusableKey::Malformed),
    }
}

fn check_point(r: &mut Reader<'_>, curve: &[u8], length: usize) -> Result<(), UnusableKey> {
    if r.string()? != curve {
        return Err(UnusableKey::Malformed);
    }
    let point = r.string()?;
    // Uncompressed form only, as OpenSSH writes it (RFC 5656 §3.1).
    if point.first() == Some(&4) {
        check_length(point, length)
    } else {
        Err(UnusableKey::Malformed)
    }
}

fn check_length(bytes: &[u8], length: usize) -> Result<(), UnusableKey> {
    if bytes.len() == length {
        Ok(())
    } else {
        Err(UnusableKey::Malformed)
    }
}

fn check_application(name: &[u8]) -> Result<(), UnusableKey> {
    let sound = (1..=255).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
    if sound {
        Ok(())
    } else {
        Err(UnusableKey::Malformed)
    }
}

/// Why a key is not printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableKey {
    /// A certificate, DSA, or a type that needs `extra_key_types`.
    #[error("its key type is not accepted here")]
    Type,
    /// RSA below 2048 bits or with an unsound exponent.
    #[error("its RSA key is too weak")]
    WeakRsa,
    /// Not one canonical public key.
    #[error("its public key is malformed")]
    Malformed,
}

impl From<Truncated> for UnusableKey {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

#[cfg(test)]
pub(crate) mod tests;
