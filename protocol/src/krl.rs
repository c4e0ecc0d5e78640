//! Key revocation lists (OpenSSH PROTOCOL.krl) for sshd's `RevokedKeys`: content, writer, strict reader.
//! What is revoked and until when is [`RevocationSet`]; the file without the times is [`Krl`].
//! Signing and delivery are the trust bundle's work: the file carries no signature section,
//! which sshd up to 9.3 would check and later ones skip.
//!
//! sshd refuses *every* key when it cannot read this file, so each way to write such a file is closed here:
//! it is never empty, never text, has no section that an sshd since 6.2 does not know except SHA-256
//! fingerprints (7.9), which [`Krl::without_fingerprints`] takes out for older ones.

use std::collections::{BTreeMap, BTreeSet};

use ssh_encoding::Encode as _;
use ssh_key::Certificate;

use crate::key_fingerprint::KeyFingerprint;
use crate::subject_key::CaKey;

pub mod entry;
mod reader;
pub mod serial_ranges;
mod set;
mod writer;

pub use entry::{Comment, RevokedKey, RevokedKeyId, Target};
pub use reader::{UnreadableKrl, read};
pub use serial_ranges::{SerialRange, SerialRanges};
pub use set::{Expiring, PRUNE_GRACE, RevocationSet};
pub use writer::{EncodedKrl, OverBudget, TooLarge};

/// Size up to which logins stay fast: sshd reads the file four times a login (key and CA, twice each),
/// each time in about 5 ms at this size. Bytes.
pub const SIZE_BUDGET: usize = 128 * 1024;
/// Largest file that is written or read: what a bundle of 1 MiB can carry. Bytes.
pub const MAX_SIZE: usize = 512 * 1024;

const MAGIC: &[u8; 8] = b"SSHKRL\n\0";
const FORMAT: u32 = 1;
const SECTION_CERTIFICATES: u8 = 1;
const SECTION_KEYS: u8 = 2;
const SECTION_SHA256: u8 = 5;
const SERIAL_LIST: u8 = 0x20;
const SERIAL_RANGE: u8 = 0x21;
const SERIAL_BITMAP: u8 = 0x22;
const KEY_IDS: u8 = 0x23;

/// A revocation list as sshd reads it. Per CA always; the form that counts for every CA is never written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Krl {
    /// Grows with each list; at least 1.
    pub version: u64,
    /// When it was made, in Unix seconds.
    pub generated: u64,
    /// For people.
    pub comment: Comment,
    cas: BTreeMap<CaKey, CaRevocations>,
    keys: BTreeSet<RevokedKey>,
    fingerprints: BTreeSet<KeyFingerprint>,
}

/// What is revoked of one CA's certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaRevocations {
    /// By serial.
    pub serials: SerialRanges,
    /// By key id; sshd compares the whole text.
    pub key_ids: BTreeSet<RevokedKeyId>,
}

impl CaRevocations {
    fn is_empty(&self) -> bool {
        self.serials.is_empty() && self.key_ids.is_empty()
    }
}

/// What a list is asked about a certificate.
#[derive(Clone, Copy, Debug)]
pub struct CertificateFacts<'a> {
    /// The certified key, plain, in wire form.
    pub key: &'a [u8],
    /// The CA's key in wire form.
    pub ca: &'a [u8],
    /// Any serial; 0 is never revoked by serial.
    pub serial: u64,
    /// The key id as in the certificate.
    pub key_id: &'a str,
}

impl Krl {
    /// Whether sshd refuses this plain key (wire form): named itself or by fingerprint.
    #[must_use]
    pub fn revokes_key(&self, blob: &[u8]) -> bool {
        self.keys.contains(blob)
            || (!self.fingerprints.is_empty()
                && self.fingerprints.contains(&KeyFingerprint::of_blob(blob)))
    }

    /// Whether sshd refuses this certificate: by key, CA key, serial or key id (krl.c, `ssh_krl_check_key`).
    #[must_use]
    pub fn revokes_certificate(&self, facts: &CertificateFacts<'_>) -> bool {
        let by_ca = self.cas.iter().any(|(ca, revoked)| {
            ca.key().blob() == facts.ca
                && (revoked.serials.contains(facts.serial)
                    || revoked.key_ids.contains(facts.key_id))
        });
        by_ca || self.revokes_key(facts.key) || self.revokes_key(facts.ca)
    }

    /// As [`Self::revokes_certificate`]; a certificate whose keys cannot be encoded counts as revoked.
    #[must_use]
    pub fn is_revoked(&self, certificate: &Certificate) -> bool {
        let keys = (
            certificate.public_key().encode_vec(),
            certificate.signature_key().encode_vec(),
        );
        let (Ok(key), Ok(ca)) = keys else {
            return true;
        };
        self.revokes_certificate(&CertificateFacts {
            key: &key,
            ca: &ca,
            serial: certificate.serial(),
            key_id: certificate.key_id(),
        })
    }

    /// What is revoked of each CA's certificates.
    pub fn cas(&self) -> impl Iterator<Item = (&CaKey, &CaRevocations)> {
        self.cas.iter()
    }

    /// Revoked keys, CA keys included.
    pub fn keys(&self) -> impl Iterator<Item = &RevokedKey> {
        self.keys.iter()
    }

    /// Keys that are revoked by fingerprint.
    pub fn fingerprints(&self) -> impl Iterator<Item = &KeyFingerprint> {
        self.fingerprints.iter()
    }

    /// The same list for an sshd before 7.9, which would refuse every login over a section that it
    /// does not know. What is left out is not enforced there: report it.
    #[must_use]
    pub fn without_fingerprints(&self) -> Self {
        Self {
            fingerprints: BTreeSet::new(),
            ..self.clone()
        }
    }

    /// How many revocations it holds; a range counts for each of its serials.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.missing_in(&Self::empty())
    }

    /// How many of its revocations `other` does not hold.
    #[must_use]
    pub fn missing_in(&self, other: &Self) -> u64 {
        let nothing = CaRevocations::default();
        let of_cas = self.cas.iter().map(|(ca, own)| {
            let theirs = other.cas.get(ca).unwrap_or(&nothing);
            let serials = own.serials.missing_in(&theirs.serials);
            serials.saturating_add(difference(&own.key_ids, &theirs.key_ids))
        });
        of_cas
            .fold(0, u64::saturating_add)
            .saturating_add(difference(&self.keys, &other.keys))
            .saturating_add(difference(&self.fingerprints, &other.fingerprints))
    }

    fn empty() -> Self {
        Self {
            version: 1,
            generated: 0,
            comment: Comment::default(),
            cas: BTreeMap::new(),
            keys: BTreeSet::new(),
            fingerprints: BTreeSet::new(),
        }
    }
}

fn difference<T: Ord>(own: &BTreeSet<T>, theirs: &BTreeSet<T>) -> u64 {
    u64::try_from(own.difference(theirs).count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
