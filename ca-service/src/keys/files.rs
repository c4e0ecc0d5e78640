//! Files that are whole or not there: written beside their place, synced, renamed, the folder synced.
//! Each has its mode from its creation on, so that a private key is never readable, not for a moment.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::random;

/// Mode of what must stay secret.
pub(super) const PRIVATE: u32 = 0o600;
/// Mode of what anybody may read.
pub(crate) const PUBLIC: u32 = 0o644;

/// Makes a folder that only this user enters; one that exists is taken as it is.
pub(super) fn make_private_folder(folder: &Path) -> Result<(), FileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|cause| FileError::Write {
        path: folder.to_owned(),
        cause,
    })
}

/// Makes a folder for files that others read.
pub(crate) fn make_folder(folder: &Path) -> Result<(), FileError> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.map_err(|cause| FileError::Write {
        path: folder.to_owned(),
        cause,
    })
}

/// Makes a new file; refuses where there is one, since a lost key cannot be had back.
pub(super) fn create(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |cause: io::Error| match cause.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
        _ => FileError::Write {
            path: path.to_owned(),
            cause,
        },
    };
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(path)
        .map_err(failed)?;
    let written = file
        .write_all(contents)
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder(path));
    written.map_err(failed)
}

/// Puts a file in place of what was there, in one step.
pub(crate) fn replace(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    let written = write_beside(path, contents, mode);
    written.map_err(|cause| FileError::Write {
        path: path.to_owned(),
        cause,
    })
}

fn write_beside(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let random = hex::encode(random::bytes::<8>().map_err(io::Error::other)?);
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{random}.new"));
    let beside = PathBuf::from(beside);
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(&beside)?;
    let placed = file
        .write_all(contents)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&beside, path))
        .and_then(|()| sync_folder(path));
    if placed.is_err() {
        // The half-written copy is of no use; the error that matters is the first one.
        let _ = std::fs::remove_file(&beside);
    }
    placed
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|f| !f.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is one already.
    #[error("make `{0}`: it exists, and keys are never overwritten; move it away first")]
    Exists(PathBuf),
    /// The system refused.
    #[error("write `{path}`: {cause}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn an_existing_file_is_not_overwritten_by_create() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create(&path, b"first", PRIVATE).unwrap();
        assert!(matches!(
            create(&path, b"second", PRIVATE),
            Err(FileError::Exists(_))
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_replaced_file_has_its_mode_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.json");
        for contents in [b"a", b"b"] {
            replace(&path, contents, PUBLIC).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), contents);
        }
        assert_eq!(mode(&path), 0o644);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace(&folder.path().join("no/such"), b"x", PUBLIC).is_err());
    }
}
