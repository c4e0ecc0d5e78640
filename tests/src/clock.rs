//! The lab's time: the machine's, plus what a test added. The only place of this crate that asks the system.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The time that the AWS stand-ins live in. sshd, moto and our programs keep the machine's.
#[derive(Debug, Default)]
pub struct Clock {
    /// Seconds that a test has added.
    offset: AtomicI64,
}

impl Clock {
    /// Seconds since 1970 in the stand-ins' time.
    pub fn now(&self) -> u64 {
        let machine = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        machine.saturating_add_signed(self.offset.load(Ordering::SeqCst))
    }

    /// Moves the stand-ins' time; negative goes back.
    pub fn advance(&self, seconds: i64) {
        self.offset.fetch_add(seconds, Ordering::SeqCst);
    }
}
