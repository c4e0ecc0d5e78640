//! Files and folders that only their owner may read: made with their final mode, replaced in one step,
//! never through a symbolic link that somebody put there before.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// How long another process may hold a file: it reads and writes 8 MB at most.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);
/// How often a lock is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Makes `path` (and what is missing above it) as a folder of ours with mode 0700, or checks that it is one.
///
/// # Errors
/// [`FileError::Unsafe`] where it is a link, somebody else's, or open to others.
pub fn private_dir(path: &Path) -> Result<(), FileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| FileError::new("create the folder", path, e))?;
    check_private_dir(path)
}

/// Makes `path` with mode 0700 where nothing is there; what is there stays as it is.
///
/// # Errors
/// [`FileError`].
pub fn private_dir_unless_there(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        Ok(())
    } else {
        private_dir(path)
    }
}

/// Checks that `path` is a folder of ours that nobody else can enter.
///
/// # Errors
/// [`FileError::Unsafe`] says what is wrong with it.
pub fn check_private_dir(path: &Path) -> Result<(), FileError> {
    let meta = std::fs::symlink_metadata(path).map_err(|e| FileError::new("look at", path, e))?;
    let why = if !meta.is_dir() {
        "it is not a folder"
    } else if meta.uid() != rustix::process::geteuid().as_raw() {
        "it belongs to somebody else"
    } else if meta.mode() & 0o077 != 0 {
        "others can enter it: run chmod 700 on it"
    } else {
        return Ok(());
    };
    Err(FileError::Unsafe {
        path: path.to_owned(),
        why,
    })
}

/// Replaces `path` by `bytes` in one step: a reader sees the old file or the new one, also after a crash.
///
/// # Errors
/// [`FileError`].
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let folder = path.parent().ok_or_else(|| FileError::Unsafe {
        path: path.to_owned(),
        why: "it has no folder",
    })?;
    let temporary = folder.join(format!(".eic-{}", random_name()?));
    let failed = |e| FileError::new("write", path, e);
    let written = create_new(&temporary, bytes, mode)
        .and_then(|()| std::fs::rename(&temporary, path).map_err(failed));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

/// Writes a file that must not exist yet (`O_EXCL`), with exactly this mode.
///
/// # Errors
/// [`FileError`]; also where something of that name exists, a link included.
pub fn create_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let write = || {
        // O_EXCL follows no link either (open(2)).
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        // The umask can only have taken bits away.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| FileError::new("create", path, e))
}

/// The file's bytes, or `None` where there is no file.
///
/// # Errors
/// [`FileError`]; also where it is larger than `max` bytes.
pub fn read_capped(path: &Path, max: u64) -> Result<Option<Vec<u8>>, FileError> {
    let failed = |e: io::Error| FileError::new("read", path, e);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if length > max {
        return Err(FileError::Unsafe {
            path: path.to_owned(),
            why: "it is too large",
        });
    }
    Ok(Some(bytes))
}

/// A file that only this process changes for now. Ends when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct FileLock {
    _file: OwnedFd,
}

/// Keeps other processes from changing `path`, whose folder must exist: the lock is on [`lock_file`], since a
/// replaced file is another file. Whoever replaces the whole of `path` reads it again under the lock first.
///
/// # Errors
/// [`FileError`]; also where another process holds it for longer than ten seconds.
pub fn lock(path: &Path) -> Result<FileLock, FileError> {
    let failed = |e: Errno| FileError::new("lock", path, e.into());
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::open(lock_file(path), flags, mode).map_err(failed)?;
    let until = Instant::now() + LOCK_DEADLINE;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(FileLock { _file: file }),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(e) => return Err(failed(e)),
        }
    }
}

/// The empty file beside `path` that is locked; it stays.
#[must_use]
pub fn lock_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Removes a file; one that is not there is no error.
///
/// # Errors
/// [`FileError`].
pub fn remove(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", path, e)),
        _ => Ok(()),
    }
}

/// 16 random hex digits.
///
/// # Errors
/// [`FileError`] where the system has no randomness.
pub fn random_name() -> Result<String, FileError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| FileError::Random(e.to_string()))?;
    Ok(hex::encode(bytes))
}

/// A file or folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system said no.
    #[error("cannot {doing} `{path}`: {cause}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: String,
        /// Why not.
        cause: io::Error,
    },
    /// It is not safe to use.
    #[error("`{path}` is not used: {why}", path = path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// No random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl FileError {
    fn new(doing: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.display().to_string(),
            cause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_link_planted_at_the_path_is_refused() {
        // H-04
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        symlink(&target, &link).unwrap();
        assert!(create_new(&link, b"key", 0o600).is_err());
        assert!(!target.exists());
    }

    #[test]
    fn a_lock_is_one_processes_and_no_link_is_followed_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        let held = lock(&file).unwrap();
        let other = rustix::fs::open(lock_file(&file), OFlags::RDWR, Mode::empty()).unwrap();
        let try_it = || rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(try_it(), Err(Errno::WOULDBLOCK));
        drop(held);
        assert_eq!(try_it(), Ok(()));
        assert_eq!(mode(&lock_file(&file)), 0o600);
        // H-04
        let planted = dir.path().join("planted");
        symlink(dir.path().join("target"), lock_file(&planted)).unwrap();
        assert!(lock(&planted).is_err());
    }

    #[test]
    fn folders_of_others_links_and_open_folders_are_refused() {
        // H-04
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(private_dir(&open).is_err());
        let real = dir.path().join("real");
        private_dir(&real).unwrap();
        let link = dir.path().join("link");
        symlink(&real, &link).unwrap();
        assert!(private_dir(&link).is_err());
    }

    #[test]
    fn modes_are_exact_from_the_first_moment() {
        // H-04: whatever the umask is.
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        private_dir(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
        let file = folder.join("f");
        write_atomic(&file, b"one", 0o600).unwrap();
        write_atomic(&file, b"two", 0o600).unwrap();
        assert_eq!(
            (mode(&file), std::fs::read(&file).unwrap()),
            (0o600, b"two".to_vec())
        );
        assert_eq!(
            std::fs::read_dir(&folder).unwrap().count(),
            1,
            "a temporary file was left"
        );
    }

    #[test]
    fn files_beyond_the_cap_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, b"12345").unwrap();
        assert!(read_capped(&file, 4).is_err());
        assert_eq!(read_capped(&file, 5).unwrap().unwrap(), b"12345");
        assert!(read_capped(&dir.path().join("none"), 5).unwrap().is_none());
    }
}
