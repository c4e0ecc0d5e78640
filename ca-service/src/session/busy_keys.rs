//! The multiples of keys that ask often, for the few that do so at a time. It saves work and decides nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ed25519::{Verifier, Window};

/// Keys whose multiples are kept at a time, of 80 KiB each.
const MOST: usize = 64;
/// A key that was silent for so long gives its place to another one. Making multiples costs as much as four
/// verifications without them: where more keys than places are busy, nobody is pushed out. Seconds.
const SILENT: u64 = 5;

/// By public key, so that a job's next session finds them.
#[derive(Default)]
pub(super) struct BusyKeys(Mutex<HashMap<[u8; 32], Busy>>);

struct Busy {
    verifier: Arc<Verifier>,
    /// In Unix seconds.
    used_at: u64,
}

impl BusyKeys {
    /// The key's multiples, where they are kept. `now` is in Unix seconds.
    pub(super) fn find(&self, public: &[u8; 32], now: u64) -> Option<Arc<Verifier>> {
        let mut kept = self.lock();
        let busy = kept.get_mut(public)?;
        busy.used_at = now;
        Some(Arc::clone(&busy.verifier))
    }

    /// Makes them, where there is a place. Two requests at once may make them twice; one of them is kept.
    pub(super) fn make(&self, public: &[u8; 32], now: u64) -> Option<Arc<Verifier>> {
        if !has_place(&mut self.lock(), now) {
            return None;
        }
        let verifier = Arc::new(Verifier::of(*public, Window::Narrow)?);
        let mut kept = self.lock();
        if has_place(&mut kept, now) {
            let verifier = Arc::clone(&verifier);
            let used_at = now;
            kept.insert(*public, Busy { verifier, used_at });
        }
        Some(verifier)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Busy>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

/// Whether there is a place, after those of silent keys were given free.
fn has_place(kept: &mut HashMap<[u8; 32], Busy>, now: u64) -> bool {
    if kept.len() >= MOST {
        kept.retain(|_, busy| now.abs_diff(busy.used_at) < SILENT);
    }
    kept.len() < MOST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(n: u8) -> [u8; 32] {
        let key = ed25519_dalek::SigningKey::from_bytes(&[n; 32]);
        key.verifying_key().to_bytes()
    }

    #[test]
    fn so_many_are_kept_and_only_silent_ones_give_way() {
        let keys = BusyKeys::default();
        let most = u8::try_from(MOST).unwrap();
        for n in 0..most {
            assert!(keys.make(&public(n), 100).is_some());
        }
        assert!(keys.make(&public(most), 100).is_none());
        assert!(keys.find(&public(0), 100 + SILENT).is_some());
        assert_eq!(keys.len(), MOST);
        assert!(keys.make(&public(most), 100 + SILENT).is_some());
        // The one that asked meanwhile, and the new one.
        assert_eq!(keys.len(), 2);
        assert!(keys.find(&public(0), 100 + SILENT).is_some());
        assert!(keys.find(&public(1), 100 + SILENT).is_none());
    }
}
