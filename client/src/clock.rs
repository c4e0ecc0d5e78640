//! The only place of this crate that reads the clock; everything else takes `now` as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in Unix seconds; 0 where the clock is before 1970, which every check then refuses.
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
