//! One helper at a time writes in the state folder: an advisory lock on the folder itself (flock(2)),
//! which the kernel drops with the process, however that ends.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::clock::Deadline;

/// Longest wait for another helper.
const PATIENCE: Duration = Duration::from_secs(20);

/// Held while this lives.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "holds the lock until it is dropped")] File);

impl Lock {
    pub(super) fn take(folder: &Path) -> std::io::Result<Self> {
        let file = File::open(folder)?;
        let deadline = Deadline::after(PATIENCE);
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(e) if deadline.remaining().is_none() => return Err(e.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}
