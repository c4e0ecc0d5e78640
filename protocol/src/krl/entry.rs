//! What can be revoked, one type for each form that a list has; each refuses what sshd would misread.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use ssh_encoding::Encode as _;
use ssh_key::Certificate;

use super::serial_ranges::SerialRange;
use crate::key_fingerprint::KeyFingerprint;
use crate::key_id::KeyId;
use crate::serial::Serial;
use crate::subject_key::{CaKey, SubjectKey};
use crate::text::printable;
use crate::wire::Reader;

/// Longest revoked key id; our own have at most 256 characters. sshd takes seconds for thousands of long ones.
const MAX_KEY_ID: usize = 256;
/// Longest comment of a list. Characters.
const MAX_COMMENT: usize = 256;
/// Longest plain key in wire form; RSA-16384 has about 2,100 bytes.
const MAX_KEY: usize = 4096;

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Certificates of one CA by serial.
    Serials(CaKey, SerialRange),
    /// Certificates of one CA by their exact key id.
    KeyId(CaKey, RevokedKeyId),
    /// A key and every certificate of it.
    Key(RevokedKey),
    /// The same, where only the fingerprint is known. An sshd before 7.9 cannot be told.
    Fingerprint(KeyFingerprint),
    /// A CA's key, and with it all of its certificates.
    CaKey(CaKey),
}

impl Target {
    /// One certificate of a CA by its serial.
    #[must_use]
    pub fn serial(ca: CaKey, serial: Serial) -> Self {
        Self::Serials(ca, SerialRange::one(serial))
    }

    /// What takes just this certificate out: its serial where that is one that sshd heeds, else its key
    /// id where that is one of ours (unique to a request), else its key.
    ///
    /// # Errors
    /// [`InvalidEntry`] where the CA's or the certified key is of no known form.
    pub fn certificate(certificate: &Certificate) -> Result<Self, InvalidEntry> {
        let ca = wire(certificate.signature_key())?;
        let ca = SubjectKey::from_blob(&ca).and_then(CaKey::new);
        if let (Ok(ca), Some(serial)) = (&ca, Serial::new(certificate.serial())) {
            return Ok(Self::serial(ca.clone(), serial));
        }
        let unique = certificate.key_id().parse::<KeyId>();
        if let (Ok(ca), Ok(key_id)) = (ca, unique) {
            return Ok(Self::KeyId(ca, key_id.to_string().parse()?));
        }
        RevokedKey::from_blob(&wire(certificate.public_key())?).map(Self::Key)
    }

    /// How many single revocations it stands for.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::Serials(_, range) => range.count(),
            _ => 1,
        }
    }
}

fn wire(key: &ssh_key::public::KeyData) -> Result<Vec<u8>, InvalidEntry> {
    key.encode_vec().map_err(|_| InvalidEntry::Key)
}

/// A key id to be revoked: 1 to 256 printable ASCII characters. A NUL would end it early in sshd.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevokedKeyId(String);

impl RevokedKeyId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RevokedKeyId {
    type Err = InvalidEntry;

    fn from_str(text: &str) -> Result<Self, InvalidEntry> {
        if is_printable(text) && (1..=MAX_KEY_ID).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidEntry::KeyId(printable(text)))
        }
    }
}

impl From<&KeyId> for RevokedKeyId {
    fn from(key_id: &KeyId) -> Self {
        // Within the grammar above by its own.
        Self(key_id.to_string())
    }
}

impl Borrow<str> for RevokedKeyId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A plain key to be revoked, in wire form. Weak and outdated types too: those are what gets revoked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevokedKey(Vec<u8>);

impl RevokedKey {
    /// A plain key in wire form.
    ///
    /// # Errors
    /// [`InvalidEntry::Key`] for a certificate, of which sshd would never compare the whole, and for
    /// bytes that are no key.
    pub fn from_blob(blob: &[u8]) -> Result<Self, InvalidEntry> {
        let mut r = Reader::new(blob);
        let name = r.string().map_err(|_| InvalidEntry::Key)?;
        if PLAIN_TYPES.contains(&name) && !r.is_at_end() && blob.len() <= MAX_KEY {
            Ok(Self(blob.to_vec()))
        } else {
            Err(InvalidEntry::Key)
        }
    }

    /// The key in wire form.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.0
    }
}

/// The plain key types of OpenSSH (sshkey.c).
const PLAIN_TYPES: [&[u8]; 8] = [
    b"ssh-ed25519",
    b"ssh-rsa",
    b"ssh-dss",
    b"ecdsa-sha2-nistp256",
    b"ecdsa-sha2-nistp384",
    b"ecdsa-sha2-nistp521",
    b"sk-ssh-ed25519@openssh.com",
    b"sk-ecdsa-sha2-nistp256@openssh.com",
];

impl From<&SubjectKey> for RevokedKey {
    fn from(key: &SubjectKey) -> Self {
        Self(key.blob().to_vec())
    }
}

impl From<&CaKey> for RevokedKey {
    fn from(key: &CaKey) -> Self {
        Self::from(key.key())
    }
}

impl Borrow<[u8]> for RevokedKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for RevokedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&KeyFingerprint::of_blob(&self.0), f)
    }
}

/// The comment of a list: up to 256 printable ASCII characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comment(String);

impl Comment {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Comment {
    type Err = InvalidEntry;

    fn from_str(text: &str) -> Result<Self, InvalidEntry> {
        if is_printable(text) && text.len() <= MAX_COMMENT {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidEntry::Comment)
        }
    }
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

/// Not something that can be revoked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// Empty, too long, or with other than printable ASCII.
    #[error("key id `{0}` cannot be revoked: use 1 to 256 printable ASCII characters")]
    KeyId(String),
    /// A certificate, or no key at all.
    #[error("the bytes are not a plain public key")]
    Key,
    /// Too long, or with other than printable ASCII.
    #[error("a list's comment has up to 256 printable ASCII characters")]
    Comment,
}
