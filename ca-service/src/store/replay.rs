//! Claims that make a signed message count once.
//! What is claimed and how fresh it must be is decided by whoever verified the signature.

use super::Log;
use super::error::StoreError;
use super::write::{Action, Outcome};

/// How long a claim is kept beyond its message's last acceptable moment, in seconds:
/// a clock that jumps forward and back must not reopen it.
const GRACE: u64 = 900;

/// "This message was used": its digest, and when it may be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayClaim {
    /// Claims to be forgotten before this moment are of no use any more, seen by this message's own time.
    pub(super) prune_before: u64,
    pub(super) forget_at: u64,
    pub(super) key: [u8; 32],
}

impl ReplayClaim {
    /// The claim of a message with this digest.
    ///
    /// `signed_at` must be the time that the message's own signature covers, and `window` the seconds
    /// for which such a message is accepted: a claim is found again by both its digest and its time.
    /// Never pass the current time, or a replay a second later would be another claim.
    #[must_use]
    pub fn of_signed_time(digest: [u8; 32], signed_at: u64, window: u64) -> Self {
        let forget_at = signed_at.saturating_add(window).saturating_add(GRACE);
        // A message that is accepted is at most its window ahead of now: a host whose clock runs an hour fast may report,
        // and must not take others' claims with it that are still needed.
        let prune_before = signed_at.saturating_sub(window).saturating_sub(GRACE);
        // SQLite's integers have 63 bits.
        let most = i64::MAX.unsigned_abs();
        Self {
            prune_before: prune_before.min(most),
            forget_at: forget_at.min(most),
            key: digest,
        }
    }
}

/// Claims alone, for requests that issue nothing.
#[derive(Clone)]
pub struct ReplayGuard(Log);

impl ReplayGuard {
    pub(super) fn new(log: Log) -> Self {
        Self(log)
    }

    /// Makes the claim durable.
    ///
    /// # Errors
    /// [`ClaimError::Replayed`] where it had been made before, else the store's error.
    pub async fn claim(&self, claim: ReplayClaim) -> Result<(), ClaimError> {
        match self.0.write(Action::Claim(claim)).await? {
            Outcome::Done => Ok(()),
            Outcome::Replayed => Err(ClaimError::Replayed),
            _ => Err(StoreError::Confused.into()),
        }
    }
}

/// Why a message does not count.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It was used before.
    #[error("the signed message was used before")]
    Replayed,
    /// The claim could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
}
