//! One at a time changes what an installation owns: installer, uninstaller and helper take the same lock. Whether
//! the files are right is not asked here.
//!
//! flock(2) needs no more than an open file, so the lock is on a file that only root can open: on a folder that
//! everybody may read, any account could hold up renewals and installations for good.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::clock::Deadline;

/// The locked file's name in the state folder.
pub(crate) const NAME: &str = ".lock";

/// Longest wait for another installer or helper.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Held while this lives; the kernel releases it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct StateLock(#[expect(dead_code, reason = "held for its lock")] File);

impl StateLock {
    /// Locks the state folder, waiting at most `patience` for whoever has it.
    ///
    /// # Errors
    /// `WouldBlock`: somebody had it all the time. `NotFound`: there is no such folder. Or the system refused.
    pub(crate) fn take(folder: &Path, patience: Duration) -> std::io::Result<Self> {
        let path = path(folder);
        let deadline = Deadline::after(patience);
        loop {
            match attempt(&path) {
                Ok(Some(file)) => return Ok(Self(file)),
                // Replaced under our hands: the next attempt finds the new one.
                Ok(None) if deadline.remaining().is_some() => {}
                Ok(None) => return Err(std::io::ErrorKind::WouldBlock.into()),
                Err(e) if !is_held(&e) || deadline.remaining().is_none() => return Err(e),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }
}

/// Whether an error of [`StateLock::take`] says that somebody else holds the lock.
pub(crate) fn is_held(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}

/// Removes the lock's file; only its holder may.
pub(crate) fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_file(path(folder)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// The locked file; `None` where the name stands for another file by now.
fn attempt(path: &Path) -> std::io::Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    let about = file.metadata()?;
    if !is_closed_to_others(&about) {
        // Somebody may have it open and locked already: a new one takes its place.
        fs::remove_file(path)?;
        return Ok(None);
    }
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    // A lock on a file that the last holder has removed excludes nobody.
    let named = fs::symlink_metadata(path);
    let same = named.is_ok_and(|named| (named.dev(), named.ino()) == (about.dev(), about.ino()));
    Ok(same.then_some(file))
}

fn is_closed_to_others(about: &fs::Metadata) -> bool {
    let own = about.uid() == rustix::process::geteuid().as_raw();
    own && about.is_file() && about.permissions().mode() & 0o077 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn a_second_holder_at_the_same_time_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateLock::take(folder.path(), SHORT).unwrap();
        let second = StateLock::take(folder.path(), SHORT).unwrap_err();
        assert!(is_held(&second));
        drop(first);
        assert!(StateLock::take(folder.path(), SHORT).is_ok());
    }

    #[test]
    fn what_others_can_open_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let own = File::open(folder.path()).unwrap();
        flock(&own, FlockOperation::NonBlockingLockExclusive).unwrap();
        // A file that was open to others, and is held by one of them.
        let path = folder.path().join(NAME);
        let loose = File::create(&path).unwrap();
        loose
            .set_permissions(fs::Permissions::from_mode(0o644))
            .unwrap();
        flock(&loose, FlockOperation::NonBlockingLockShared).unwrap();
        let _lock = StateLock::take(folder.path(), SHORT).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn links_are_not_followed_and_missing_folders_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        std::os::unix::fs::symlink(&target, folder.path().join(NAME)).unwrap();
        assert!(StateLock::take(folder.path(), SHORT).is_err());
        assert!(!target.exists());
        let missing = StateLock::take(&folder.path().join("none"), SHORT).unwrap_err();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    }

    #[test]
    fn a_lock_on_a_removed_file_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateLock::take(folder.path(), SHORT).unwrap();
        let patient = folder.path().to_path_buf();
        let waiting = std::thread::spawn(move || StateLock::take(&patient, PATIENCE));
        remove(folder.path()).unwrap();
        let second = waiting.join().unwrap().unwrap();
        drop(first);
        assert!(is_held(&StateLock::take(folder.path(), SHORT).unwrap_err()));
        drop(second);
    }
}
