//! New private keys, as text for a file. Keys in KMS are made in KMS.

use std::str::FromStr;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::encoding::Pkcs8V1Der;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};
use zeroize::Zeroizing;

use super::pem;
use crate::random::{self, NoEntropy};

/// The types of key that a CA may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// The default.
    Ed25519,
    /// For hosts in FIPS mode.
    EcdsaP256,
    /// The same with P-384.
    EcdsaP384,
    /// For hosts that know nothing else.
    Rsa3072,
    /// The same, longer.
    Rsa4096,
}

impl KeyType {
    /// All, with the names that the command line takes.
    pub const ALL: [(&'static str, Self); 5] = [
        ("ed25519", Self::Ed25519),
        ("ecdsa-p256", Self::EcdsaP256),
        ("ecdsa-p384", Self::EcdsaP384),
        ("rsa-3072", Self::Rsa3072),
        ("rsa-4096", Self::Rsa4096),
    ];
}

impl FromStr for KeyType {
    type Err = GenerateError;

    fn from_str(text: &str) -> Result<Self, GenerateError> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, kind)| kind).ok_or(GenerateError::Type)
    }
}

/// A new private key's text: Ed25519 in OpenSSH's form, the others in PKCS#8.
///
/// # Errors
/// [`GenerateError`]
pub fn generate(kind: KeyType, comment: &str) -> Result<Zeroizing<String>, GenerateError> {
    match kind {
        KeyType::Ed25519 => ed25519(comment),
        KeyType::EcdsaP256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
        KeyType::EcdsaP384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
        KeyType::Rsa3072 => rsa(KeySize::Rsa3072),
        KeyType::Rsa4096 => rsa(KeySize::Rsa4096),
    }
}

fn ed25519(comment: &str) -> Result<Zeroizing<String>, GenerateError> {
    let seed = Zeroizing::new(random::bytes::<32>()?);
    let key = PrivateKey::new(Ed25519Keypair::from_seed(&seed).into(), comment)
        .map_err(|_| GenerateError::Library)?;
    key.to_openssh(LineEnding::LF)
        .map_err(|_| GenerateError::Library)
}

fn ecdsa(
    algorithm: &'static aws_lc_rs::signature::EcdsaSigningAlgorithm,
) -> Result<Zeroizing<String>, GenerateError> {
    let key = EcdsaKeyPair::generate(algorithm).and_then(|key| key.to_pkcs8v1());
    let key = key.map_err(|_| GenerateError::Library)?;
    Ok(pem::encode(key.as_ref(), "PRIVATE KEY"))
}

fn rsa(size: KeySize) -> Result<Zeroizing<String>, GenerateError> {
    let key = RsaKeyPair::generate(size).map_err(|_| GenerateError::Library)?;
    let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| GenerateError::Library)?;
    Ok(pem::encode(der.as_ref(), "PRIVATE KEY"))
}

/// A secret for session grants.
pub(super) fn grant_secret() -> Result<Zeroizing<[u8; 32]>, GenerateError> {
    Ok(Zeroizing::new(random::bytes()?))
}

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The library.
    #[error("make a key: the cryptographic library refused")]
    Library,
    /// Not a type.
    #[error("make a key: its type must be ed25519, ecdsa-p256, ecdsa-p384, rsa-3072 or rsa-4096")]
    Type,
}
