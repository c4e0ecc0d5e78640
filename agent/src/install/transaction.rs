//! Changes to a host that are all made or all taken back.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use eic_protocol::base64_text::Base64Bytes;
use serde::{Deserialize, Serialize};

use super::{InstallError, accounts};
use crate::atomic_file;
use crate::state_lock::StateLock;

/// A file's bytes, mode and owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    pub(super) bytes: Base64Bytes,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Content {
    /// A file of root's that everybody may read.
    pub(super) fn public(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: Base64Bytes(bytes.into()),
            mode: 0o644,
            uid: 0,
            gid: 0,
        }
    }

    /// What is there now; `None` where there is nothing.
    pub(super) fn of(path: &Path) -> Result<Option<Self>, InstallError> {
        match read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).map_err(|source| change_error(path, source)),
        }
    }
}

/// Largest file that is replaced and so kept for putting back, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

fn read(path: &Path) -> std::io::Result<Content> {
    let about = fs::symlink_metadata(path)?;
    // Following a link would change a file of somebody else's choice.
    if !about.is_file() || about.len() > MAX_BYTES {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let bytes = Base64Bytes(fs::read(path)?);
    Ok(Content {
        bytes,
        mode: about.permissions().mode() & 0o7777,
        uid: about.uid(),
        gid: about.gid(),
    })
}

fn change_error(path: &Path, source: std::io::Error) -> InstallError {
    InstallError::Change {
        path: path.to_path_buf(),
        source,
    }
}

/// How one step is taken back.
#[derive(Debug)]
enum Undo {
    File(PathBuf, Option<Content>),
    Folder(PathBuf),
    State(PathBuf),
    Account(String),
}

/// The steps so far, each with its way back.
#[derive(Debug, Default)]
pub(super) struct Transaction(Vec<Undo>);

impl Transaction {
    /// Writes or removes a file.
    pub(super) fn put(
        &mut self,
        path: &Path,
        content: Option<&Content>,
    ) -> Result<(), InstallError> {
        let before = Content::of(path)?;
        if before.as_ref() == content {
            return Ok(());
        }
        // Recorded first: a write that fails half-way is taken back as well.
        self.0.push(Undo::File(path.to_path_buf(), before));
        set(path, content).map_err(|source| change_error(path, source))
    }

    /// Makes a folder (0755) and those above it; returns those that were missing.
    pub(super) fn make_folder(&mut self, path: &Path) -> Result<Vec<PathBuf>, InstallError> {
        let missing: Vec<PathBuf> = path
            .ancestors()
            .take_while(|folder| !folder.exists())
            .map(Path::to_path_buf)
            .collect();
        for folder in missing.iter().rev() {
            fs::DirBuilder::new()
                .mode(0o755)
                .create(folder)
                .map_err(|source| change_error(folder, source))?;
            self.0.push(Undo::Folder(folder.clone()));
            // The umask may have closed it to the commands' account.
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
                .map_err(|source| change_error(folder, source))?;
        }
        Ok(missing)
    }

    /// Makes the state folder with its record inside and its lock held, in one step: there is never one without
    /// the others. Another installation that was first is not touched.
    pub(super) fn make_state(
        &mut self,
        folder: &Path,
        record: &Path,
        content: &Content,
    ) -> Result<StateLock, InstallError> {
        if folder.exists() {
            return Err(InstallError::Busy);
        }
        if let Some(above) = folder.parent() {
            self.make_folder(above)?;
        }
        let lock =
            make_state(folder, record, content).map_err(|source| change_error(folder, source))?;
        self.0.push(Undo::State(folder.to_path_buf()));
        Ok(lock)
    }

    /// Makes the commands' account.
    pub(super) fn make_account(&mut self, name: &str) -> Result<(), InstallError> {
        accounts::create(name)?;
        self.0.push(Undo::Account(name.to_owned()));
        Ok(())
    }

    /// Takes everything back, last step first; returns what could not be.
    pub(super) fn roll_back(self) -> Vec<String> {
        self.0
            .into_iter()
            .rev()
            .filter_map(|step| step.apply().err())
            .collect()
    }
}

impl Undo {
    fn apply(self) -> Result<(), String> {
        let told = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
        match self {
            Self::File(path, content) => set(&path, content.as_ref()).map_err(|e| told(&path, e)),
            Self::Folder(path) => fs::remove_dir(&path).map_err(|e| told(&path, e)),
            Self::State(path) => remove_state(&path).map_err(|e| told(&path, e)),
            Self::Account(name) => accounts::delete(&name).map_err(|e| e.to_string()),
        }
    }
}

fn make_state(folder: &Path, record: &Path, content: &Content) -> std::io::Result<StateLock> {
    let temporary = atomic_file::temporary_name(folder)?;
    let name = record.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    // Of a process of the same number that was killed.
    let _ = fs::remove_dir_all(&temporary);
    let outcome = fill_state(&temporary, name, content)
        // Onto a folder with a record in it, rename(2) fails.
        .and_then(|lock| fs::rename(&temporary, folder).map(|()| lock));
    if outcome.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    outcome
}

fn fill_state(temporary: &Path, name: &OsStr, content: &Content) -> std::io::Result<StateLock> {
    fs::DirBuilder::new().mode(0o755).create(temporary)?;
    // The umask may have closed it to the commands' account.
    fs::set_permissions(temporary, fs::Permissions::from_mode(0o755))?;
    set(&temporary.join(name), Some(content))?;
    StateLock::take(temporary, Duration::ZERO)
}

/// Removes the state folder with whatever is in it, in one step for everybody who looks.
pub(super) fn remove_state(folder: &Path) -> std::io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let temporary = atomic_file::temporary_name(folder)?;
    fs::rename(folder, &temporary)?;
    fs::remove_dir_all(&temporary)
}

fn set(path: &Path, content: Option<&Content>) -> std::io::Result<()> {
    match content {
        Some(content) => {
            atomic_file::write(path, &content.bytes.0, content.mode)?;
            let about = fs::symlink_metadata(path)?;
            if (about.uid(), about.gid()) == (content.uid, content.gid) {
                Ok(())
            } else {
                chown(path, Some(content.uid), Some(content.gid))
            }
        }
        None => match atomic_file::remove(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_lock;

    fn own(bytes: &str, mode: u32) -> Content {
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        Content {
            bytes: Base64Bytes(bytes.as_bytes().to_vec()),
            mode,
            uid,
            gid,
        }
    }

    #[test]
    fn everything_is_taken_back_in_reverse_order() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, new) = (folder.path().join("kept"), folder.path().join("a/b/new"));
        set(&kept, Some(&own("original\n", 0o640))).unwrap();
        let gone = folder.path().join("gone");
        set(&gone, Some(&own("x", 0o600))).unwrap();

        let mut transaction = Transaction::default();
        assert_eq!(
            transaction
                .make_folder(new.parent().unwrap())
                .unwrap()
                .len(),
            2
        );
        transaction.put(&new, Some(&own("new", 0o644))).unwrap();
        transaction.put(&kept, Some(&own("first", 0o644))).unwrap();
        transaction.put(&kept, Some(&own("second", 0o600))).unwrap();
        transaction.put(&gone, None).unwrap();
        assert!(
            transaction
                .put(&folder.path().join("none/f"), Some(&own("x", 0o644)))
                .is_err()
        );
        assert!(!gone.exists() && new.exists());

        assert_eq!(transaction.roll_back(), Vec::<String>::new());
        assert!(!folder.path().join("a").exists());
        assert_eq!(Content::of(&kept).unwrap(), Some(own("original\n", 0o640)));
        assert_eq!(Content::of(&gone).unwrap(), Some(own("x", 0o600)));
    }

    #[test]
    fn what_cannot_be_taken_back_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        let mut transaction = Transaction::default();
        transaction.make_folder(&inner).unwrap();
        fs::write(inner.join("of somebody else"), "x").unwrap();
        assert_eq!(transaction.roll_back().len(), 1);
    }

    #[test]
    fn the_state_folder_comes_with_its_record_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("lib/eic");
        let record = state.join("install.json");
        let mut transaction = Transaction::default();
        let lock = transaction
            .make_state(&state, &record, &own("{}", 0o600))
            .unwrap();
        assert_eq!(Content::of(&record).unwrap(), Some(own("{}", 0o600)));
        // Whoever comes second is refused, and takes nothing of it away.
        let held = StateLock::take(&state, Duration::ZERO).unwrap_err();
        assert!(state_lock::is_held(&held));
        let mut second = Transaction::default();
        let busy = second.make_state(&state, &record, &own("{ }", 0o600));
        assert!(matches!(busy, Err(InstallError::Busy)));
        assert!(make_state(&state, &record, &own("{ }", 0o600)).is_err());
        assert_eq!(second.roll_back(), Vec::<String>::new());
        assert_eq!(Content::of(&record).unwrap(), Some(own("{}", 0o600)));
        drop(lock);
        assert_eq!(transaction.roll_back(), Vec::<String>::new());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(
            Transaction::default()
                .put(&link, Some(&own("x", 0o644)))
                .is_err()
        );
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}
