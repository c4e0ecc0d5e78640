//! Waiting on a condition with a limit, never sleeping and hoping.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How often a condition is looked at: short against a login, long against a system call.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks `probe` until it yields something.
///
/// # Errors
/// [`Error::Deadline`] when `limit` is over; it names `what`.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(Error::Deadline {
                what: what.to_owned(),
                seconds: limit.as_secs(),
            });
        }
        thread::sleep(PAUSE);
    }
}
