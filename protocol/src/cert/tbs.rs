//! The bytes of a certificate up to its signature, and the certificate around a signature
//! (draft-miller-ssh-cert §2). Encoding only: what may be in them is `lint`'s business.

use ssh_key::Signature;

use super::Profile;
use crate::subject_key::CaKey;
use crate::wire::{Reader, Writer};

/// `SSH2_CERT_TYPE_USER`
pub(super) const TYPE_USER: u32 = 1;
/// `SSH2_CERT_TYPE_HOST`
pub(super) const TYPE_HOST: u32 = 2;

/// 32 random bytes that make each body unpredictable to whoever chose its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertNonce([u8; 32]);

impl CertNonce {
    /// The nonce of these random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// A to-be-signed body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tbs(Vec<u8>);

impl Tbs {
    /// Encodes a certificate for `ca` to sign.
    #[must_use]
    pub fn encode(profile: &Profile, nonce: &CertNonce, ca: &CaKey) -> Self {
        let (name, fields) = split_key(profile.subject().blob());
        let mut w = Writer::new();
        w.string(&certificate_type(name))
            .string(&nonce.0)
            .raw(fields);
        w.u64(profile.serial().value()).u32(type_number(profile));
        w.string(profile.key_id().to_string().as_bytes());
        w.string(&strings(&profile.principals()));
        w.u64(profile.validity().after())
            .u64(profile.validity().before());
        w.string(&critical_options(profile))
            .string(&extensions(profile));
        w.string(b"").string(ca.key().blob());
        Self(w.into_bytes())
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The certificate blob with this signature.
    ///
    /// # Errors
    /// Where the signature cannot be encoded.
    pub(super) fn with_signature(&self, signature: &Signature) -> Result<Vec<u8>, ssh_key::Error> {
        let signature = Vec::<u8>::try_from(signature.clone())?;
        let mut w = Writer::new();
        w.raw(&self.0).string(&signature);
        Ok(w.into_bytes())
    }
}

/// A key's type name and its fields, which a certificate takes over as they are.
fn split_key(blob: &[u8]) -> (&[u8], &[u8]) {
    let mut r = Reader::new(blob);
    let name = r.string().unwrap_or_default();
    (name, r.rest())
}

/// `ssh-ed25519` → `ssh-ed25519-cert-v01@openssh.com`; FIDO names lose their `@openssh.com` first.
fn certificate_type(name: &[u8]) -> Vec<u8> {
    let stem = name.strip_suffix(b"@openssh.com").unwrap_or(name);
    [stem, b"-cert-v01@openssh.com"].concat()
}

fn type_number(profile: &Profile) -> u32 {
    match profile {
        Profile::User(_) => TYPE_USER,
        Profile::Host(_) => TYPE_HOST,
    }
}

fn strings(values: &[String]) -> Vec<u8> {
    let mut w = Writer::new();
    for value in values {
        w.string(value.as_bytes());
    }
    w.into_bytes()
}

/// Each option: `string name, string data`, the data itself holding a string.
fn critical_options(profile: &Profile) -> Vec<u8> {
    let mut w = Writer::new();
    for (name, value) in profile.critical_options() {
        let data = value.map_or_else(Vec::new, |v| strings(&[v]));
        w.string(name.as_bytes()).string(&data);
    }
    w.into_bytes()
}

fn extensions(profile: &Profile) -> Vec<u8> {
    let mut w = Writer::new();
    for name in profile.extensions() {
        w.string(name.as_bytes()).string(b"");
    }
    w.into_bytes()
}
