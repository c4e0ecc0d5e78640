//! How many tunnels through one endpoint are open: an endpoint takes 20 connections and no more (its quota cannot
//! be raised). Each tunnel of this user holds a lock on one of 20 files, which ends with its process, however that ends.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

use super::endpoint::EndpointId;
use crate::files::{self, FileError};

/// Connections that one endpoint takes (Amazon VPC and EC2 Instance Connect Endpoint quotas).
pub const QUOTA: usize = 20;
/// How often a full endpoint is looked at again.
const AGAIN: Duration = Duration::from_millis(100);

/// A place at an endpoint; free again when dropped.
#[derive(Debug)]
pub struct Slot {
    _lock: OwnedFd,
}

/// Takes a place, waiting for one as long as `patience`.
///
/// # Errors
/// [`SlotError::Full`] where none became free.
pub fn take(run_dir: &Path, endpoint: &EndpointId, patience: Duration) -> Result<Slot, SlotError> {
    let folder = folder(run_dir);
    files::private_dir(&folder)?;
    let until = Instant::now() + patience;
    loop {
        if let Some(slot) = take_now(&folder, endpoint)? {
            return Ok(slot);
        }
        if Instant::now() >= until {
            return Err(SlotError::Full(endpoint.clone()));
        }
        std::thread::sleep(AGAIN);
    }
}

/// Where the files are.
#[must_use]
pub fn folder(run_dir: &Path) -> PathBuf {
    run_dir.join("tunnels")
}

/// Those that are there (`eice-….NUMBER`), for whoever removes them.
#[must_use]
pub fn files(run_dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(run_dir)).into_iter().flatten();
    let paths = entries.flatten().map(|entry| entry.path());
    let is_slot = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let parts = name.and_then(|name| name.split_once('.'));
        parts.is_some_and(|(endpoint, number)| {
            endpoint.parse::<EndpointId>().is_ok() && number.parse::<usize>().is_ok()
        })
    };
    paths.filter(is_slot).collect()
}

fn take_now(folder: &Path, endpoint: &EndpointId) -> Result<Option<Slot>, SlotError> {
    for number in 0..QUOTA {
        let path = folder.join(format!("{endpoint}.{number}"));
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |e: rustix::io::Errno| SlotError::Lock {
            path: path.clone(),
            cause: e.into(),
        };
        let file = open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(Slot { _lock: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(None)
}

/// No place.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// All are taken.
    #[error(
        "{QUOTA} tunnels through {0} are open, which is all that an endpoint takes: close one, share one \
         (ControlMaster), or use another way"
    )]
    Full(EndpointId),
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FileError),
    /// A file.
    #[error("cannot lock `{}`: {cause}", .path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twenty_first_tunnel_waits_for_a_place_and_is_then_refused() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let endpoint: EndpointId = "eice-0123456789abcdef0".parse().unwrap();
        let other: EndpointId = "eice-0fedcba9876543210".parse().unwrap();
        let take = |endpoint: &EndpointId| take(&run_dir, endpoint, Duration::from_millis(150));
        let mut held: Vec<Slot> = (0..QUOTA).map(|_| take(&endpoint).unwrap()).collect();
        let full = take(&endpoint).unwrap_err();
        assert!(
            full.to_string()
                .contains("20 tunnels through eice-0123456789abcdef0")
        );
        assert!(take(&other).is_ok());
        held.pop();
        assert!(take(&endpoint).is_ok());
    }
}
