//! The only place that reads the time. Everything else takes `now` as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Unix seconds now.
///
/// # Errors
/// The clock stands before 1970. Time 0 instead would make every expiry lie in the future.
pub fn unix_seconds() -> Result<u64, ClockBeforeEpoch> {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(elapsed) => Ok(elapsed.as_secs()),
        Err(_) => Err(ClockBeforeEpoch),
    }
}

/// The system clock cannot be believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("read the time: the system clock stands before 1970, set it")]
pub struct ClockBeforeEpoch;

/// The moment at which a run gives up, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// `budget` from now.
    #[must_use]
    pub fn after(budget: Duration) -> Self {
        Self(Instant::now() + budget)
    }

    /// What is left; `None` once it has passed.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.0
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passed_deadline_leaves_nothing() {
        assert_eq!(Deadline::after(Duration::ZERO).remaining(), None);
        assert!(
            Deadline::after(Duration::from_secs(60))
                .remaining()
                .is_some()
        );
    }

    #[test]
    fn the_clock_runs_after_this_code_was_written() {
        assert!(unix_seconds().unwrap() > 1_700_000_000);
    }
}
