//! The service's only clock: whole Unix seconds.
//! Everything else takes `now` as an argument; `SystemTime::now` occurs in this file only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time. Clones share one source.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is set: for tests and for explaining a decision of the past.
    #[must_use]
    pub fn manual(now: u64) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(now))))
    }

    /// Seconds since 1970. A machine clock before 1970 reads as 0: every certificate and grant is
    /// then out of date, which refuses.
    #[must_use]
    pub fn now(&self) -> u64 {
        match &self.0 {
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_secs()),
            Source::Manual(now) => now.load(Ordering::SeqCst),
        }
    }

    /// Moves a manual clock; the machine's clock is not ours to set.
    pub fn set(&self, now: u64) {
        if let Source::Manual(time) = &self.0 {
            time.store(now, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_it_is_set() {
        let clock = Clock::manual(1_000);
        let same = clock.clone();
        assert_eq!(clock.now(), 1_000);
        same.set(2_000);
        assert_eq!(clock.now(), 2_000);
    }

    #[test]
    fn the_machines_clock_is_of_this_century() {
        let clock = Clock::system();
        clock.set(5);
        assert!(clock.now() > 1_700_000_000);
    }
}
