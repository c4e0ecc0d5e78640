//! When a task is tried next: jitter, so that a fleet does not come at once; backoff, so that a CA that
//! is down is not kept down. Pure; randomness comes in as a number.

use std::time::Duration;

/// First wait after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait after failures of what can wait.
const LONGEST: Duration = Duration::from_secs(300);
/// Longest wait of the trust task: hosts hear of revocations within a minute of an outage's end.
const LONGEST_FOR_TRUST: Duration = Duration::from_secs(60);

/// The waits of one task.
#[derive(Clone, Debug)]
pub struct Pace {
    failures: u32,
    longest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            failures: 0,
            longest: LONGEST,
        }
    }
}

impl Pace {
    /// The waits of the task that brings revocations.
    #[must_use]
    pub fn of_trust() -> Self {
        Self {
            failures: 0,
            longest: LONGEST_FOR_TRUST,
        }
    }

    /// The wait after a success: `usual`, less or more by up to a tenth.
    pub fn succeeded(&mut self, usual: Duration, random: u32) -> Duration {
        self.failures = 0;
        let spread = usual / 10;
        let offset = scaled(spread.saturating_mul(2), random);
        (usual + offset).saturating_sub(spread)
    }

    /// The wait after a failure: doubled each time, then between half and all of it (RFC 9110 leaves it to us).
    pub fn failed(&mut self, random: u32) -> Duration {
        let doubled = FIRST.saturating_mul(1_u32 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        let limit = doubled.min(self.longest);
        limit / 2 + scaled(limit / 2, random)
    }

    /// How many failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// `limit` × `random` / 2³².
fn scaled(limit: Duration, random: u32) -> Duration {
    let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis.saturating_mul(u64::from(random)) >> 32)
}

/// 32 random bits of the system; the middle where it has none (only spreading is lost).
#[must_use]
pub fn random() -> u32 {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; 4];
    match ring::rand::SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u32::from_be_bytes(bytes),
        Err(_) => u32::MAX / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_wait_longer_and_longer_up_to_five_minutes_and_of_trust_up_to_one() {
        for (mut pace, longest) in [(Pace::default(), LONGEST), (Pace::of_trust(), LONGEST / 5)] {
            let mut last = Duration::ZERO;
            for _ in 0..40 {
                let wait = pace.failed(u32::MAX);
                assert!(wait >= last && wait <= longest);
                last = wait;
            }
            assert!(last > longest - Duration::from_millis(2));
            assert!(pace.failed(0) >= longest / 2);
        }
    }

    #[test]
    fn a_success_forgets_failures_and_spreads_by_a_tenth() {
        let mut pace = Pace::default();
        for _ in 0..5 {
            pace.failed(7);
        }
        let usual = Duration::from_secs(60);
        let (low, high) = (pace.succeeded(usual, 0), pace.succeeded(usual, u32::MAX));
        assert_eq!(low, Duration::from_secs(54));
        assert!(high > Duration::from_secs(65) && high <= Duration::from_secs(66));
        assert!(pace.failed(u32::MAX) <= FIRST);
    }
}
