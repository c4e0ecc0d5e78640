//! Ephemeral private keys: made in memory that is not swapped out, wiped when dropped, never written by this module.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA512};
use rsa::RsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey as _;
use serde::{Deserialize, Serialize};
use signature::Signer as _;
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData, RsaKeypair};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, Signature};
use zeroize::Zeroizing;

use eic_protocol::sshsig::{self, Namespace};
use eic_protocol::subject_key::SubjectKey;

use locked::LockedSecret;

mod locked;

/// Which kind of key a host profile asks for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    /// Ed25519.
    #[default]
    Ed25519,
    /// ECDSA on P-256, for hosts in FIPS mode. Instance Connect's own host scripts skip such keys.
    EcdsaP256,
    /// RSA of 3072 bits, for hosts in FIPS mode that take pushed keys by those scripts.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
}

/// What is hashed with in a signature (RFC 8332 §3 for RSA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureHash {
    /// What the key's type prescribes; SHA-512 for RSA.
    OfKey,
    /// `rsa-sha2-256`
    RsaSha256,
    /// `rsa-sha2-512`
    RsaSha512,
}

/// A key pair that lives as long as this value. Its secret is in one place; what a signature needs is made from it then.
pub struct EphemeralKey {
    kind: KeyType,
    /// Ed25519: the seed; ECDSA: the scalar; RSA: PKCS #8.
    secret: LockedSecret,
    public: SubjectKey,
}

impl EphemeralKey {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError`] where the system gives no random bytes.
    pub fn generate(kind: KeyType) -> Result<Self, KeyError> {
        let secret = match kind {
            KeyType::Ed25519 => ed25519()?,
            KeyType::EcdsaP256 => ecdsa_p256()?,
            KeyType::Rsa3072 => rsa_3072()?,
        };
        let public = private(kind, &secret)?.public_key().to_openssh();
        let public = public.map_err(|_| KeyError::Encoding)?;
        Ok(Self {
            kind,
            secret,
            public: public.parse().map_err(|_| KeyError::Encoding)?,
        })
    }

    /// Which kind it is of.
    #[must_use]
    pub fn kind(&self) -> KeyType {
        self.kind
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &SubjectKey {
        &self.public
    }

    /// Why the system may write the private half to swap; none: its memory is locked.
    #[must_use]
    pub fn not_locked(&self) -> Option<&str> {
        self.secret.refusal()
    }

    /// A plain SSH signature over `data`, in wire form (`string algorithm, string signature`).
    ///
    /// # Errors
    /// [`KeyError`]; also for an RSA hash with a key of another type.
    pub fn sign(&self, data: &[u8], hash: SignatureHash) -> Result<Vec<u8>, KeyError> {
        Vec::try_from(self.signature(data, hash)?).map_err(|_| KeyError::Encoding)
    }

    /// An SSHSIG blob over `message` for an API request.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn sign_request(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.signature(
            &sshsig::signed_data(Namespace::Request, message),
            SignatureHash::OfKey,
        )?;
        sshsig::blob(Namespace::Request, &self.public, &signature).map_err(|_| KeyError::Encoding)
    }

    /// The private key as OpenSSH text: for `eic-login issue` alone, which says that it writes it.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn reveal_openssh(&self) -> Result<Zeroizing<String>, KeyError> {
        private(self.kind, &self.secret)?
            .to_openssh(LineEnding::LF)
            .map_err(|_| KeyError::Encoding)
    }

    fn signature(&self, data: &[u8], hash: SignatureHash) -> Result<Signature, KeyError> {
        match (self.kind, hash) {
            (KeyType::Rsa3072, SignatureHash::RsaSha256) => {
                rsa_signature(&self.secret, data, HashAlg::Sha256)
            }
            (KeyType::Rsa3072, _) => rsa_signature(&self.secret, data, HashAlg::Sha512),
            (kind, SignatureHash::OfKey) => private(kind, &self.secret)?
                .try_sign(data)
                .map_err(|_| KeyError::Encoding),
            _ => Err(KeyError::Encoding),
        }
    }
}

fn ed25519() -> Result<LockedSecret, KeyError> {
    let mut seed = LockedSecret::zeroed(32);
    getrandom::fill(seed.bytes_mut()).map_err(|e| KeyError::Random(e.to_string()))?;
    Ok(seed)
}

/// Any 32 bytes below the group's order; one draw in 2^32 is none.
fn ecdsa_p256() -> Result<LockedSecret, KeyError> {
    let mut scalar = ed25519()?;
    while p256::SecretKey::from_slice(scalar.bytes()).is_err() {
        getrandom::fill(scalar.bytes_mut()).map_err(|e| KeyError::Random(e.to_string()))?;
    }
    Ok(scalar)
}

/// Made by aws-lc, which needs a tenth of a second.
fn rsa_3072() -> Result<LockedSecret, KeyError> {
    let failed = |what: &dyn std::fmt::Display| KeyError::Random(what.to_string());
    let pair = KeyPair::generate(KeySize::Rsa3072).map_err(|e| failed(&e))?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|e| failed(&e))?;
    let mut secret = LockedSecret::zeroed(der.as_ref().len());
    if secret.bytes().len() != der.as_ref().len() {
        return Err(KeyError::Encoding);
    }
    secret.bytes_mut().copy_from_slice(der.as_ref());
    Ok(secret)
}

/// The pair in SSH's form, wiped when dropped.
fn private(kind: KeyType, secret: &LockedSecret) -> Result<PrivateKey, KeyError> {
    let bytes = secret.bytes();
    let pair = match kind {
        KeyType::Ed25519 => {
            let seed = bytes.try_into().map_err(|_| KeyError::Encoding)?;
            KeypairData::Ed25519(Ed25519Keypair::from_seed(seed))
        }
        KeyType::EcdsaP256 => {
            let secret = p256::SecretKey::from_slice(bytes).map_err(|_| KeyError::Encoding)?;
            let public = secret.public_key().into();
            let private = secret.into();
            KeypairData::Ecdsa(EcdsaKeypair::NistP256 { public, private })
        }
        KeyType::Rsa3072 => {
            let private = RsaPrivateKey::from_pkcs8_der(bytes).map_err(|_| KeyError::Encoding)?;
            let pair = RsaKeypair::try_from(&private).map_err(|_| KeyError::Encoding)?;
            KeypairData::Rsa(pair)
        }
    };
    PrivateKey::new(pair, "").map_err(|_| KeyError::Encoding)
}

/// RFC 8332 §3, by aws-lc: constant-time, and a tenth of what the `rsa` crate needs.
fn rsa_signature(secret: &LockedSecret, data: &[u8], hash: HashAlg) -> Result<Signature, KeyError> {
    let pair = KeyPair::from_pkcs8(secret.bytes()).map_err(|_| KeyError::Encoding)?;
    let padding = match hash {
        HashAlg::Sha256 => &RSA_PKCS1_SHA256,
        _ => &RSA_PKCS1_SHA512,
    };
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(padding, &SystemRandom::new(), data, &mut signature)
        .map_err(|_| KeyError::Encoding)?;
    Signature::new(Algorithm::Rsa { hash: Some(hash) }, signature).map_err(|_| KeyError::Encoding)
}

impl std::fmt::Debug for EphemeralKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EphemeralKey({})", self.public.fingerprint())
    }
}

/// Switches core dumps off and, on Linux, hides the process's memory from others of the same user (H-05).
/// A system that refuses is told on stderr by the caller; the keys are still wiped when dropped.
///
/// # Errors
/// The system's error.
pub fn protect_memory() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    hide_memory()
}

/// prctl(2), PR_SET_DUMPABLE.
#[cfg(target_os = "linux")]
fn hide_memory() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// macOS asks for the user's password before it lets another program read this one's memory.
#[cfg(not(target_os = "linux"))]
fn hide_memory() -> std::io::Result<()> {
    Ok(())
}

/// A key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    /// A key or signature has no SSH form; cannot happen for the kinds that exist.
    #[error("a key cannot be written in SSH form")]
    Encoding,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_the_fingerprint_only() {
        // H-05
        let key = EphemeralKey::generate(KeyType::Ed25519).unwrap();
        let pem = key.reveal_openssh().unwrap();
        let body = pem.lines().nth(2).unwrap();
        let shown = format!("{key:?}");
        assert!(shown.contains("SHA256:") && !shown.contains(body) && !shown.contains("PRIVATE"));
    }

    #[test]
    fn signatures_verify_for_each_kind_of_key() {
        for kind in [KeyType::Ed25519, KeyType::EcdsaP256, KeyType::Rsa3072] {
            let key = EphemeralKey::generate(kind).unwrap();
            let signature = key.sign(b"data", SignatureHash::OfKey).unwrap();
            sshsig::verify_raw(key.public(), b"data", &signature).unwrap();
            assert!(sshsig::verify_raw(key.public(), b"date", &signature).is_err());
            let blob = key.sign_request(b"message").unwrap();
            sshsig::verify(Namespace::Request, key.public(), b"message", &blob).unwrap();
        }
    }

    #[test]
    fn an_rsa_hash_is_refused_by_keys_of_other_types() {
        let key = EphemeralKey::generate(KeyType::Ed25519).unwrap();
        for hash in [SignatureHash::RsaSha256, SignatureHash::RsaSha512] {
            assert!(key.sign(b"data", hash).is_err());
        }
    }

    #[test]
    fn two_keys_are_never_the_same() {
        let a = EphemeralKey::generate(KeyType::EcdsaP256).unwrap();
        let b = EphemeralKey::generate(KeyType::EcdsaP256).unwrap();
        assert_ne!(a.public(), b.public());
    }

    #[test]
    fn core_dumps_are_off_once_memory_is_protected() {
        // H-05: in a process of its own, since the limit cannot be raised again.
        if std::env::var_os("EIC_TEST_PROTECT").is_some() {
            protect_memory().unwrap();
            let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
            assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
            return;
        }
        let name = "key::tests::core_dumps_are_off_once_memory_is_protected";
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env("EIC_TEST_PROTECT", "1")
            .status()
            .unwrap();
        assert!(status.success());
    }
}
