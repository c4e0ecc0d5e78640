//! Whether this machine's clock agrees with AWS's (threats G-15): a CA in the wrong hour signs certificates for it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::authn::AuthnError;

/// Largest difference with which anything is issued. Seconds.
pub const MAX_SKEW: u64 = 60;

/// The last difference seen, for the whole service.
#[derive(Debug, Default)]
pub struct ClockSkew(AtomicU64);

impl ClockSkew {
    /// Takes note of AWS's clock.
    pub(super) fn observe(&self, aws: u64, ours: u64) -> Result<(), AuthnError> {
        let skew = aws.abs_diff(ours);
        let before = self.0.swap(skew, Ordering::Relaxed);
        if skew > MAX_SKEW && before <= MAX_SKEW {
            tracing::error!(
                skew_seconds = skew,
                "the clock of this machine disagrees with AWS; nothing is issued"
            );
        }
        self.check()
    }

    /// Refuses while the last answer of AWS was too far from our clock.
    ///
    /// # Errors
    /// [`AuthnError::ClockSkew`]
    pub fn check(&self) -> Result<(), AuthnError> {
        match self.0.load(Ordering::Relaxed) {
            skew if skew > MAX_SKEW => Err(AuthnError::ClockSkew(skew)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_over_a_minute_off_stops_issuance_until_it_is_right() {
        // G-15
        let skew = ClockSkew::default();
        assert!(skew.observe(1_000, 1_060).is_ok());
        assert!(matches!(
            skew.observe(1_000, 1_061),
            Err(AuthnError::ClockSkew(61))
        ));
        assert!(matches!(skew.check(), Err(AuthnError::ClockSkew(61))));
        assert!(skew.observe(4_600, 1_000).is_err());
        assert!(skew.observe(1_000, 1_000).is_ok() && skew.check().is_ok());
    }
}
