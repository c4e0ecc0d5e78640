//! OpenSSH's file of an unencrypted private key (PROTOCOL.key), Ed25519 and ECDSA, into ring's key pairs.
//! No other form: what sshd's own `ssh-keygen -A` makes is of this one since 7.8, Ed25519 since 6.5.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eic_protocol::secret::Secret;
use eic_protocol::wire::{Reader, Writer};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use ssh_key::{Algorithm, EcdsaCurve, Signature};

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// A private half that can sign.
pub(super) enum PrivateHalf {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaCurve, EcdsaKeyPair),
}

/// The public half in wire form, and the private half; `None` for any other file.
pub(super) fn read(file: &[u8]) -> Option<(Vec<u8>, PrivateHalf)> {
    let bytes = decode(file)?;
    let mut r = Reader::new(bytes.reveal());
    let magic = r.take(MAGIC.len()).ok()? == MAGIC;
    let plain = r.string().ok()? == b"none" && r.string().ok()? == b"none";
    let _options = r.string().ok()?;
    if !(magic && plain && r.u32().ok()? == 1) {
        return None;
    }
    let public = r.string().ok()?.to_vec();
    let private = read_private(r.string().ok()?)?;
    r.is_at_end().then_some((public, private))
}

fn decode(file: &[u8]) -> Option<Secret<Vec<u8>>> {
    let text = std::str::from_utf8(file).ok()?;
    let inner = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let joined: Secret<String> = Secret::new(inner.split_whitespace().collect());
    STANDARD.decode(joined.reveal()).ok().map(Secret::new)
}

fn read_private(bytes: &[u8]) -> Option<PrivateHalf> {
    let mut r = Reader::new(bytes);
    // Equal where the section was read right: with encryption a wrong passphrase shows here.
    if r.u32().ok()? != r.u32().ok()? {
        return None;
    }
    match r.string().ok()? {
        b"ssh-ed25519" => {
            let public = r.string().ok()?;
            let seed = r.string().ok()?.get(..32)?;
            let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()?;
            Some(PrivateHalf::Ed25519(pair))
        }
        b"ecdsa-sha2-nistp256" => ecdsa(&mut r, EcdsaCurve::NistP256, 32),
        b"ecdsa-sha2-nistp384" => ecdsa(&mut r, EcdsaCurve::NistP384, 48),
        _ => None,
    }
}

fn ecdsa(r: &mut Reader<'_>, curve: EcdsaCurve, size: usize) -> Option<PrivateHalf> {
    let _name = r.string().ok()?;
    let public = r.string().ok()?;
    let scalar = Secret::new(padded(r.string().ok()?, size)?);
    let algorithm = match curve {
        EcdsaCurve::NistP256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
        EcdsaCurve::NistP384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        EcdsaCurve::NistP521 => return None,
    };
    let random = SystemRandom::new();
    let pair =
        EcdsaKeyPair::from_private_key_and_public_key(algorithm, scalar.reveal(), public, &random);
    Some(PrivateHalf::Ecdsa(curve, pair.ok()?))
}

/// An mpint (RFC 4251 §5) with a fixed size.
fn padded(mpint: &[u8], size: usize) -> Option<Vec<u8>> {
    let start = mpint
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(mpint.len());
    let digits = mpint.get(start..)?;
    let mut bytes = vec![0; size.checked_sub(digits.len())?];
    bytes.extend(digits);
    Some(bytes)
}

impl PrivateHalf {
    /// A signature in SSH's form; `None` where ring has no randomness.
    pub(super) fn sign(&self, data: &[u8]) -> Option<Signature> {
        match self {
            Self::Ed25519(pair) => {
                let made = pair.sign(data).as_ref().to_vec();
                Signature::new(Algorithm::Ed25519, made).ok()
            }
            Self::Ecdsa(curve, pair) => {
                let made = pair.sign(&SystemRandom::new(), data).ok()?;
                let (r, s) = made.as_ref().split_at_checked(made.as_ref().len() / 2)?;
                let mut w = Writer::new();
                w.string(&mpint(r)).string(&mpint(s));
                Signature::new(Algorithm::Ecdsa { curve: *curve }, w.into_bytes()).ok()
            }
        }
    }
}

/// A positive number without leading zeros, but with one where its first bit would be a sign.
fn mpint(number: &[u8]) -> Vec<u8> {
    let start = number
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(number.len());
    let digits = number.get(start..).unwrap_or_default();
    let sign = digits.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut bytes = if sign { vec![0] } else { Vec::new() };
    bytes.extend(digits);
    bytes
}
