//! Private keys in files of this machine: Ed25519, ECDSA P-256 and P-384, RSA of 3072 bits and more.
//! Read once at start; OpenSSH and PKCS#8 forms, never encrypted ones (a service has nobody to ask).

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use eic_protocol::subject_key::{CaKey, InvalidKey, SubjectKey};
use eic_protocol::wire::{Reader, Writer};
use ssh_key::private::KeypairData;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PrivateKey, Signature};
use zeroize::Zeroizing;

use super::SignerError;
use crate::keys::pem;

/// Largest key file: an RSA-8192 key has about 6.5 kB.
const MAX_FILE: u64 = 64 * 1024;

/// A private key in this process's memory.
pub struct LocalSigner {
    key: Key,
    public: CaKey,
}

enum Key {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaCurve, EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl LocalSigner {
    /// Reads a key file that nobody else can read.
    ///
    /// # Errors
    /// [`LocalKeyError`] says which file and what to do about it.
    pub fn load(path: &Path) -> Result<Self, LocalKeyError> {
        let text = read_private(path)?;
        Self::parse(&text).map_err(|flaw| LocalKeyError::Key {
            path: path.to_owned(),
            flaw,
        })
    }

    /// Reads a key's text.
    ///
    /// # Errors
    /// [`KeyFlaw`].
    pub fn parse(text: &str) -> Result<Self, KeyFlaw> {
        let key = if text.contains("BEGIN OPENSSH PRIVATE KEY") {
            from_openssh(text)?
        } else {
            from_pem(text)?
        };
        let public = CaKey::new(SubjectKey::from_blob(&key.public_blob())?)?;
        Ok(Self { key, public })
    }

    /// A new Ed25519 key that exists in this process's memory only. AWS-LC wipes what it frees.
    pub(super) fn fresh() -> Result<Self, SignerError> {
        let key = Key::Ed25519(Ed25519KeyPair::generate().map_err(|_| SignerError::Local)?);
        let public = SubjectKey::from_blob(&key.public_blob()).and_then(CaKey::new);
        let public = public.map_err(|_| SignerError::Local)?;
        Ok(Self { key, public })
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &CaKey {
        &self.public
    }

    /// RSA signs with SHA-512, never SHA-1 (D-23).
    pub(super) fn sign(&self, bytes: &[u8]) -> Result<Signature, SignerError> {
        let random = SystemRandom::new();
        let (algorithm, data) = match &self.key {
            Key::Ed25519(key) => (Algorithm::Ed25519, key.sign(bytes).as_ref().to_vec()),
            Key::Ecdsa(curve, key) => {
                let fixed = key.sign(&random, bytes).map_err(|_| SignerError::Local)?;
                (
                    Algorithm::Ecdsa { curve: *curve },
                    ecdsa_data(fixed.as_ref()),
                )
            }
            Key::Rsa(key) => {
                let mut data = vec![0; key.public_modulus_len()];
                let padding = &signature::RSA_PKCS1_SHA512;
                key.sign(padding, &random, bytes, &mut data)
                    .map_err(|_| SignerError::Local)?;
                (
                    Algorithm::Rsa {
                        hash: Some(HashAlg::Sha512),
                    },
                    data,
                )
            }
        };
        Signature::new(algorithm, data)
            .map_err(|_| SignerError::Answer("not a signature of the key's type"))
    }
}

/// `mpint r, mpint s` (RFC 5656 §3.1.2) of the two halves of a fixed-length signature.
pub(super) fn ecdsa_data(fixed: &[u8]) -> Vec<u8> {
    let (r, s) = fixed.split_at(fixed.len() / 2);
    let mut w = Writer::new();
    w.mpint(r).mpint(s);
    w.into_bytes()
}

/// Opened first and then looked at, so that what was checked is what is read.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<String>, LocalKeyError> {
    let unreadable = |cause| LocalKeyError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let owner = rustix::process::geteuid().as_raw();
    if metadata.uid() != owner && metadata.uid() != 0 {
        return Err(LocalKeyError::Owner {
            path: path.to_owned(),
            uid: metadata.uid(),
        });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(LocalKeyError::Mode {
            path: path.to_owned(),
            mode: metadata.mode() & 0o777,
        });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(text)
}

fn from_openssh(text: &str) -> Result<Key, KeyFlaw> {
    if let Some(key) = p256(text) {
        return Ok(key);
    }
    let key = PrivateKey::from_openssh(text).map_err(|_| KeyFlaw::Malformed)?;
    match key.key_data() {
        KeypairData::Ed25519(pair) => {
            let seed = Zeroizing::new(pair.private.to_bytes());
            let public = pair.public.0;
            let key = Ed25519KeyPair::from_seed_and_public_key(seed.as_ref(), &public);
            key.map(Key::Ed25519).map_err(|_| KeyFlaw::Malformed)
        }
        KeypairData::Ecdsa(pair) => {
            let (curve, algorithm) = ecdsa_algorithm(pair.curve())?;
            let (private, public) = (pair.private_key_bytes(), pair.public_key_bytes());
            let key = EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, public);
            key.map(|key| Key::Ecdsa(curve, key))
                .map_err(|_| KeyFlaw::Malformed)
        }
        KeypairData::Rsa(pair) => from_openssh_rsa(pair),
        KeypairData::Encrypted(_) => Err(KeyFlaw::Encrypted),
        _ => Err(KeyFlaw::Type),
    }
}

/// An unencrypted P-256 key (PROTOCOL.key). The library refuses one in 256 of them: those whose number is shorter than
/// 32 bytes, which is how OpenSSH writes it (RFC 4251 §5, mpint).
fn p256(text: &str) -> Option<Key> {
    let bytes = pem::decode(text, "OPENSSH PRIVATE KEY")?;
    let mut outer = Reader::new(bytes.strip_prefix(b"openssh-key-v1\0")?);
    let plain = [outer.string().ok()?, outer.string().ok()?] == [b"none", b"none"];
    let options = outer.string().ok()?;
    if !plain || !options.is_empty() || outer.u32().ok()? != 1 {
        return None;
    }
    let _public = outer.string().ok()?;
    let mut key = Reader::new(outer.string().ok()?);
    let checks = key.u32().ok()? == key.u32().ok()?;
    let named = key.string().ok()? == b"ecdsa-sha2-nistp256" && key.string().ok()? == b"nistp256";
    if !checks || !named {
        return None;
    }
    let (point, number) = (key.string().ok()?, key.string().ok()?);
    let number = match number {
        [0, rest @ ..] => rest,
        all => all,
    };
    let mut scalar = Zeroizing::new([0u8; 32]);
    let start = scalar.len().checked_sub(number.len())?;
    scalar.get_mut(start..)?.copy_from_slice(number);
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, scalar.as_ref(), point);
    pair.ok().map(|key| Key::Ecdsa(EcdsaCurve::NistP256, key))
}

fn ecdsa_algorithm(
    curve: EcdsaCurve,
) -> Result<(EcdsaCurve, &'static EcdsaSigningAlgorithm), KeyFlaw> {
    match curve {
        EcdsaCurve::NistP256 => Ok((curve, &ECDSA_P256_SHA256_FIXED_SIGNING)),
        EcdsaCurve::NistP384 => Ok((curve, &ECDSA_P384_SHA384_FIXED_SIGNING)),
        EcdsaCurve::NistP521 => Err(KeyFlaw::Type),
    }
}

/// OpenSSH leaves out dP and dQ; going through PKCS#1 computes them.
fn from_openssh_rsa(pair: &ssh_key::private::RsaKeypair) -> Result<Key, KeyFlaw> {
    use rsa::pkcs1::EncodeRsaPrivateKey as _;
    let key = rsa::RsaPrivateKey::try_from(pair).map_err(|_| KeyFlaw::Malformed)?;
    let der = key.to_pkcs1_der().map_err(|_| KeyFlaw::Malformed)?;
    RsaKeyPair::from_der(der.as_bytes())
        .map(Key::Rsa)
        .map_err(|_| KeyFlaw::Malformed)
}

fn from_pem(text: &str) -> Result<Key, KeyFlaw> {
    if text.contains("ENCRYPTED") {
        return Err(KeyFlaw::Encrypted);
    }
    if text.contains("BEGIN RSA PRIVATE KEY") || text.contains("BEGIN EC PRIVATE KEY") {
        return Err(KeyFlaw::OldForm);
    }
    let der = pem::decode(text, "PRIVATE KEY").ok_or(KeyFlaw::Malformed)?;
    let ecdsa = |curve| {
        let (curve, algorithm) = ecdsa_algorithm(curve).ok()?;
        EcdsaKeyPair::from_pkcs8(algorithm, &der)
            .ok()
            .map(|key| Key::Ecdsa(curve, key))
    };
    let ed25519 = || {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
            .ok()
            .map(Key::Ed25519)
    };
    let rsa = || RsaKeyPair::from_pkcs8(&der).ok().map(Key::Rsa);
    let found = ed25519()
        .or_else(|| ecdsa(EcdsaCurve::NistP256))
        .or_else(|| ecdsa(EcdsaCurve::NistP384));
    found.or_else(rsa).ok_or(KeyFlaw::Type)
}

impl Key {
    /// The public key in SSH wire form, of the key that signs.
    fn public_blob(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Ed25519(key) => w.string(b"ssh-ed25519").string(key.public_key().as_ref()),
            Self::Ecdsa(EcdsaCurve::NistP384, key) => w
                .string(b"ecdsa-sha2-nistp384")
                .string(b"nistp384")
                .string(key.public_key().as_ref()),
            Self::Ecdsa(_, key) => w
                .string(b"ecdsa-sha2-nistp256")
                .string(b"nistp256")
                .string(key.public_key().as_ref()),
            Self::Rsa(key) => {
                let public = key.public_key();
                let exponent = public.exponent().big_endian_without_leading_zero();
                let modulus = public.modulus().big_endian_without_leading_zero();
                w.string(b"ssh-rsa").mpint(exponent).mpint(modulus)
            }
        };
        w.into_bytes()
    }
}

/// Why a key file is not used.
#[derive(Debug, thiserror::Error)]
pub enum LocalKeyError {
    /// It cannot be opened.
    #[error("read the key `{path}`: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Others may read it.
    #[error("use the key `{path}`: mode {mode:03o} lets others read it; run `chmod 600 {path}`")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("use the key `{path}`: it belongs to uid {uid}, neither to this user nor to root")]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// Its contents.
    #[error("use the key `{path}`: {flaw}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        flaw: KeyFlaw,
    },
}

/// What is wrong with a private key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFlaw {
    /// Not a key.
    #[error("it is not an OpenSSH or PKCS#8 private key")]
    Malformed,
    /// It has a passphrase.
    #[error("it has a passphrase; use a file without one that only this user can read, or KMS")]
    Encrypted,
    /// PKCS#1 or SEC1.
    #[error("it is of an old form; convert it with `openssl pkcs8 -topk8 -nocrypt`")]
    OldForm,
    /// Not a type that may be a CA's.
    #[error("its type is not Ed25519, ECDSA P-256, ECDSA P-384 or RSA")]
    Type,
    /// Too short or otherwise not a CA's.
    #[error(transparent)]
    Public(#[from] InvalidKey),
}
