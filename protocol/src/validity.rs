//! When a certificate is good: from `after`, before `before`, in seconds, without leeway
//! (sshkey.c: `valid_after <= now < valid_before`). No clock here; `now` is an argument.

use serde::{Deserialize, Serialize};

/// How far `after` may lie before the moment of signing, for hosts whose clock is late. Seconds.
pub const MAX_BACKDATE: u64 = 60;
/// Shortest lifetime that is worth a certificate. Seconds.
pub const MIN_TTL: u64 = 5;
/// Lifetime of a target certificate when none was asked for. Seconds.
pub const DEFAULT_TARGET_TTL: u64 = 300;
/// Longest lifetime of a target certificate. Seconds.
pub const MAX_TARGET_TTL: u64 = 3_600;
/// Lifetime of a fleet certificate when none was asked for. Seconds.
pub const DEFAULT_FLEET_TTL: u64 = 3_600;
/// Longest lifetime of a fleet certificate. Seconds.
pub const MAX_FLEET_TTL: u64 = 12 * 3_600;
/// Longest lifetime of a host certificate. Seconds.
pub const MAX_HOST_TTL: u64 = 24 * 3_600;

/// A non-empty span of time, both ends in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validity {
    after: u64,
    before: u64,
}

impl Validity {
    /// From `now − 60 s` to `now + ttl`.
    ///
    /// # Errors
    /// [`InvalidValidity`] where `ttl` is under 5 s or over `max_ttl`, or the sum leaves the range.
    pub fn starting_at(now: u64, ttl: u64, max_ttl: u64) -> Result<Self, InvalidValidity> {
        if !(MIN_TTL..=max_ttl).contains(&ttl) {
            return Err(InvalidValidity::Lifetime { ttl, max_ttl });
        }
        let before = now.checked_add(ttl).ok_or(InvalidValidity::Range)?;
        Self::new(now.saturating_sub(MAX_BACKDATE), before)
    }

    /// The span between two instants.
    ///
    /// # Errors
    /// [`InvalidValidity::Range`] where it is empty, or `before` is beyond 2^63 (OpenSSH's "forever").
    pub fn new(after: u64, before: u64) -> Result<Self, InvalidValidity> {
        if after < before && before >> 63 == 0 {
            Ok(Self { after, before })
        } else {
            Err(InvalidValidity::Range)
        }
    }

    /// First second at which the certificate is good.
    #[must_use]
    pub fn after(self) -> u64 {
        self.after
    }

    /// First second at which it is not good any more.
    #[must_use]
    pub fn before(self) -> u64 {
        self.before
    }

    /// Whether `now` lies within.
    #[must_use]
    pub fn contains(self, now: u64) -> bool {
        self.after <= now && now < self.before
    }
}

/// Not a span that a certificate may have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValidity {
    /// The lifetime is out of bounds.
    #[error("a lifetime of {ttl} s is not between {MIN_TTL} s and {max_ttl} s")]
    Lifetime {
        /// What was asked for, in seconds.
        ttl: u64,
        /// The longest possible, in seconds.
        max_ttl: u64,
    },
    /// The ends are reversed, equal, or out of range.
    #[error("the times of a certificate are reversed or out of range")]
    Range,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_out_of_bounds_are_refused() {
        // C-13, D-08
        for ttl in [0, 4, 301, u64::MAX] {
            assert!(Validity::starting_at(1_000_000, ttl, 300).is_err(), "{ttl}");
        }
        assert_eq!(
            Validity::starting_at(u64::MAX - 10, 100, 300),
            Err(InvalidValidity::Range)
        );
        assert_eq!(Validity::new(5, 5), Err(InvalidValidity::Range));
        assert_eq!(Validity::new(0, u64::MAX), Err(InvalidValidity::Range));
    }

    #[test]
    fn the_ends_are_those_of_openssh() {
        let v = Validity::starting_at(1_000, 300, 300).unwrap();
        assert_eq!((v.after(), v.before()), (940, 1_300));
        assert!(!v.contains(939) && v.contains(940) && v.contains(1_299) && !v.contains(1_300));
    }
}
