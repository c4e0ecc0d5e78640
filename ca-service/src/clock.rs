//! The service's only clock: whole Unix seconds.
//! Everything else takes `now` as an argument; `SystemTime::now` occurs in this file only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How fast what has surely passed follows a clock that is ahead: one that is a day ahead for ten minutes moves it by forty,
/// less than the grace that revocations have; one that was set right after the start has it right in a third of the error.
const HURRY: u32 = 4;

/// Tells the time. Clones share one source.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System(Arc<Mutex<Passed>>),
    Manual(Arc<AtomicU64>),
}

impl Default for Source {
    fn default() -> Self {
        let start = Passed {
            time: SystemTime::now(),
            at: Instant::now(),
        };
        Self::System(Arc::new(Mutex::new(start)))
    }
}

/// The time that has surely come, as of a moment of the clock that nobody sets.
#[derive(Clone, Copy, Debug)]
struct Passed {
    time: SystemTime,
    at: Instant,
}

impl Passed {
    /// Where the machine slept, less than has passed: what waits for it waits longer.
    fn by(&mut self, wall: SystemTime, at: Instant) -> SystemTime {
        let since = at.saturating_duration_since(self.at);
        let limit = self.time.checked_add(since.saturating_mul(HURRY));
        let time = wall.min(limit.unwrap_or(wall));
        *self = Self { time, at };
        time
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
            Source::System(passed) => {
                let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
                unix(passed.by(SystemTime::now(), Instant::now()))
            }
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_jumps_ahead_makes_little_pass_and_one_that_was_set_right_all_of_it() {
        let (minute, day) = (Duration::from_secs(60), Duration::from_secs(86_400));
        let (start, at) = (SystemTime::now(), Instant::now());
        let mut passed = Passed { time: start, at };
        assert_eq!(passed.by(start + minute, at + minute), start + minute);
        // A day ahead for ten minutes.
        let mut steady = at + minute;
        let mut ahead = start;
        for _ in 0..10 {
            steady += minute;
            ahead = passed.by(start + day, steady);
        }
        assert!(ahead < start + 60 * minute, "{ahead:?}");
        // Back again: it never is behind what has come, and never after now.
        assert_eq!(
            passed.by(start + 12 * minute, steady + minute),
            start + 12 * minute
        );
        // A clock that stays is right after a while.
        let wall = start + day;
        assert!(passed.by(wall, steady + 2 * minute) < wall);
        assert_eq!(passed.by(wall, steady + day), wall);
        // The second may change between two looks.
        let (clock, before) = (Clock::system(), Clock::system().now());
        let passed = clock.moment().passed;
        assert!((before..=clock.now()).contains(&passed), "{passed}");
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
