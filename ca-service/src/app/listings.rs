//! One listing of all hosts at a time for each caller. What a listing costs is known when it is made: a storm of
//! them would be let in by the caller's rate before the first has been paid for.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use tokio::sync::{Mutex, MutexGuard};

/// Callers that may wait for each other without being the same.
const PLACES: usize = 64;

/// Whose listing is being made.
pub(super) struct Listings {
    places: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Default for Listings {
    fn default() -> Self {
        Self {
            places: (0..PLACES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Listings {
    /// Waits until no other listing of `who` is made. None only where there are no places.
    pub(super) async fn turn(&self, who: &str) -> Option<MutexGuard<'_, ()>> {
        let place = usize::try_from(self.hasher.hash_one(who)).unwrap_or_default() % PLACES;
        Some(self.places.get(place)?.lock().await)
    }
}
