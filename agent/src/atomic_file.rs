//! Files that are replaced in one step: a reader sees the old content or the new, never a part,
//! never nothing (sshd reads its files at every attempt).

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Writes `bytes` to `path` with exactly `mode`, durably: temporary file in the same folder, fsync, rename, fsync.
///
/// # Errors
/// The system refused; the old file is untouched and no temporary file is left.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let temporary = temporary_name(path)?;
    let outcome =
        write_new(&temporary, bytes, mode).and_then(|()| std::fs::rename(&temporary, path));
    if outcome.is_err() {
        // Best effort: the error that is reported is the first one.
        let _ = std::fs::remove_file(&temporary);
    }
    outcome?;
    sync_folder(path)
}

/// Removes `path` durably.
///
/// # Errors
/// The system refused.
pub fn remove(path: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path)?;
    sync_folder(path)
}

/// A name that sshd's `*.conf` does not match, unique to this process.
pub(crate) fn temporary_name(path: &Path) -> std::io::Result<PathBuf> {
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.new", std::process::id()));
    Ok(path.with_file_name(hidden))
}

pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, mode)?);
    // The umask may have taken bits away at creation; it can never have added any.
    rustix::fs::fchmod(&file, mode)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        // F-11
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("target");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("inside"), "x").unwrap();
        assert!(write(&path, b"new", 0o644).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&folder.path().join("none/f"), b"new", 0o644).is_err());
    }

    #[test]
    fn a_link_is_replaced_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        std::fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        write(&link, b"new", 0o644).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        assert_eq!(std::fs::read(&link).unwrap(), b"new");
    }

    #[test]
    fn an_open_reader_keeps_the_old_content_and_the_mode_is_exact() {
        // F-10: another inode takes the name
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "old").unwrap();
        let mut reader = File::open(&path).unwrap();
        for mode in [0o644, 0o600, 0o755] {
            write(&path, b"new", mode).unwrap();
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
                mode
            );
        }
        assert_eq!(std::io::read_to_string(&mut reader).unwrap(), "old");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
