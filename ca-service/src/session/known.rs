//! Grants that were verified lately, so that a grant of many requests is decoded once.
//! It saves work and decides nothing: the end of a grant, the signature of each request, revocation,
//! replay and policy are looked at every time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eic_protocol::grant::{GrantToken, MAX_GRANT_TTL};
use sha2::{Digest as _, Sha256};

use super::Grant;

/// Grants of a generation; two of them take some 4 MiB at most.
const MAX: usize = 1_024;

/// Two generations of grants, by the digest of their text: the text itself is not kept.
#[derive(Default)]
pub(super) struct KnownGrants(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<[u8; 32], Arc<Grant>>,
    old: HashMap<[u8; 32], Arc<Grant>>,
    /// When the young were the first of theirs, in Unix seconds.
    began: u64,
}

impl KnownGrants {
    /// The grant of this text: as it was verified before, or as `read` verifies it now. `now` is in Unix seconds.
    pub(super) fn get(
        &self,
        token: &GrantToken,
        now: u64,
        read: impl FnOnce() -> Option<Grant>,
    ) -> Option<Arc<Grant>> {
        let digest: [u8; 32] = Sha256::digest(token.reveal()).into();
        let known = {
            let mut generations = self.lock();
            generations.age(now);
            generations.find(&digest)
        };
        if known.is_some() {
            return known;
        }
        let grant = Arc::new(read()?);
        self.lock().keep(digest, Arc::clone(&grant));
        Some(grant)
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn find(&mut self, digest: &[u8; 32]) -> Option<Arc<Grant>> {
        if let Some(grant) = self.young.get(digest) {
            return Some(Arc::clone(grant));
        }
        let grant = self.old.remove(digest)?;
        self.keep(*digest, Arc::clone(&grant));
        Some(grant)
    }

    /// What nobody has shown for as long as a grant lasts is over: it must not take the room of living ones.
    fn age(&mut self, now: u64) {
        if now.abs_diff(self.began) >= MAX_GRANT_TTL {
            self.old = std::mem::take(&mut self.young);
            self.began = now;
        }
    }

    fn keep(&mut self, digest: [u8; 32], grant: Arc<Grant>) {
        if self.young.len() >= MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, grant);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
impl KnownGrants {
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

#[cfg(test)]
pub(super) const MOST: usize = 2 * MAX;
