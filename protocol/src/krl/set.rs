//! What is revoked, and until when it matters: the logical content behind the lists that hosts get.
//! Storing it is the CA's work; no clock here.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Comment, RevokedKey, Target};
use super::{CaRevocations, Krl, SerialRange};
use crate::subject_key::CaKey;

/// How much longer than the certificate's life an entry is kept, for hosts whose clock is late. Seconds.
pub const PRUNE_GRACE: u64 = 3_600;
/// Entries are dropped at full hours, so that a bundle's account of them stays short. Seconds.
const HOUR: u64 = 3_600;

/// Revocations with the moment at which each stops to matter; one that is repeated keeps the later moment.
#[derive(Clone, Debug, Default)]
pub struct RevocationSet(BTreeMap<Target, Option<u64>>);

impl RevocationSet {
    /// Nothing revoked.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a revocation. `expires`: when what is revoked ends by itself, in Unix seconds; `None`: never.
    pub fn insert(&mut self, target: Target, expires: Option<u64>) {
        let entry = self.0.entry(target).or_insert(expires);
        *entry = match (*entry, expires) {
            (Some(old), Some(new)) => Some(old.max(new)),
            _ => None,
        };
    }

    /// Takes a revocation back; whether it was there. Hosts take a list that lacks it only with a
    /// reset (`RevocationList::reset_at`).
    pub fn remove(&mut self, target: &Target) -> bool {
        self.0.remove(target).is_some()
    }

    /// Drops what has ended long enough ago that no host can still take it for good; returns how many.
    pub fn prune(&mut self, now: u64) -> usize {
        let before = self.0.len();
        self.0
            .retain(|_, expires| expires.is_none_or(|end| droppable_at(end) > now));
        before.saturating_sub(self.0.len())
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries and when each ends.
    pub fn iter(&self) -> impl Iterator<Item = (&Target, Option<u64>)> {
        self.0.iter().map(|(target, expires)| (target, *expires))
    }

    /// The list of all entries; `generated` is in Unix seconds. Prune first.
    #[must_use]
    pub fn krl(&self, version: u64, generated: u64, comment: Comment) -> Krl {
        Krl {
            version: version.max(1),
            generated,
            comment,
            cas: self.cas(),
            keys: self.keys(),
            fingerprints: self.fingerprints(),
        }
    }

    /// When how many revocations may leave the list, sorted; those without an end are not in it.
    #[must_use]
    pub fn expiring(&self) -> Vec<Expiring> {
        let mut hours: BTreeMap<u64, u64> = BTreeMap::new();
        for (target, expires) in &self.0 {
            if let Some(end) = expires {
                let count = hours.entry(droppable_at(*end)).or_default();
                *count = count.saturating_add(target.count());
            }
        }
        let hours = hours.into_iter();
        hours.map(|(at, count)| Expiring { at, count }).collect()
    }

    fn cas(&self) -> BTreeMap<CaKey, CaRevocations> {
        let mut ranges: BTreeMap<&CaKey, Vec<SerialRange>> = BTreeMap::new();
        let mut cas: BTreeMap<CaKey, CaRevocations> = BTreeMap::new();
        for target in self.0.keys() {
            match target {
                Target::Serials(ca, range) => ranges.entry(ca).or_default().push(*range),
                Target::KeyId(ca, id) => {
                    let ca = cas.entry(ca.clone()).or_default();
                    ca.key_ids.insert(id.clone());
                }
                Target::Key(_) | Target::Fingerprint(_) | Target::CaKey(_) => {}
            }
        }
        for (ca, ranges) in ranges {
            cas.entry(ca.clone()).or_default().serials = ranges.into_iter().collect();
        }
        cas
    }

    fn keys(&self) -> BTreeSet<RevokedKey> {
        let keys = self.0.keys().filter_map(|target| match target {
            Target::Key(key) => Some(key.clone()),
            Target::CaKey(ca) => Some(RevokedKey::from(ca)),
            _ => None,
        });
        keys.collect()
    }

    fn fingerprints(&self) -> BTreeSet<crate::key_fingerprint::KeyFingerprint> {
        let fingerprints = self.0.keys().filter_map(|target| match target {
            Target::Fingerprint(fingerprint) => Some(*fingerprint),
            _ => None,
        });
        fingerprints.collect()
    }
}

/// The first full hour after an entry's end and the grace.
fn droppable_at(expires: u64) -> u64 {
    let end = expires.saturating_add(PRUNE_GRACE);
    end.div_ceil(HOUR).saturating_mul(HOUR)
}

/// How many revocations may leave the list at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expiring {
    /// Unix seconds.
    pub at: u64,
    /// At most so many.
    pub count: u64,
}
