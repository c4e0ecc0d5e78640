//! The service's only clock: whole Unix seconds.
//! Everything else takes `now` as an argument; `SystemTime::now` occurs in this file only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far the machine's clock may run ahead of the one that nobody sets and be believed: a correction by NTP.
const BELIEVED: Duration = Duration::from_secs(300);

/// Tells the time. Clones share one source.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System(Start),
    Manual(Arc<AtomicU64>),
}

impl Default for Source {
    fn default() -> Self {
        Self::System(Start {
            wall: SystemTime::now(),
            steady: Instant::now(),
        })
    }
}

/// One moment by the clock that is set, and by the one that only runs.
#[derive(Clone, Copy, Debug)]
struct Start {
    wall: SystemTime,
    steady: Instant,
}

impl Start {
    /// Where the machine slept, less than has passed: what waits for it waits longer.
    fn passed(&self) -> SystemTime {
        let by_now = self.steady.elapsed().saturating_add(BELIEVED);
        self.wall.checked_add(by_now).unwrap_or(self.wall)
    }
}

/// A time, and the time that has surely come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the clock, in Unix seconds.
    pub now: u64,
    /// Not after `now`, and not moved by a clock that jumps ahead: only what ended before may be forgotten, since a clock
    /// that is a day ahead for a minute would take every revocation of that day back. Unix seconds.
    pub passed: u64,
}

impl Moment {
    /// A moment about which there is no doubt, in Unix seconds.
    #[must_use]
    pub fn of(now: u64) -> Self {
        Self { now, passed: now }
    }
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
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
            Source::System(_) => unix(SystemTime::now()),
            Source::Manual(now) => now.load(Ordering::SeqCst),
        }
    }

    /// The time, and the time that has surely come.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let now = self.now();
        let passed = match &self.0 {
            Source::System(start) => unix(start.passed()),
            Source::Manual(_) => now,
        };
        Moment {
            now,
            passed: passed.min(now),
        }
    }

    /// Moves a manual clock; the machine's clock is not ours to set.
    pub fn set(&self, now: u64) {
        if let Source::Manual(time) = &self.0 {
            time.store(now, Ordering::SeqCst);
        }
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumped_ahead_makes_nothing_pass() {
        let day = Duration::from_secs(86_400);
        let clock = Clock(Source::System(Start {
            wall: SystemTime::now() - day,
            steady: Instant::now(),
        }));
        let moment = clock.moment();
        assert_eq!(moment.now, Clock::system().now());
        assert!(moment.passed + 86_000 < moment.now, "{moment:?}");
        // One that went back is believed: nothing is forgotten too early.
        let clock = Clock(Source::System(Start {
            wall: SystemTime::now() + day,
            steady: Instant::now(),
        }));
        assert_eq!(clock.moment().passed, clock.moment().now);
        assert_eq!(Clock::system().moment(), Moment::of(Clock::system().now()));
    }

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
