//! One installation at a time, and nothing of one that was killed: temporary files that it never renamed.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::InstallError;

/// Held while a host is changed; the system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

impl Lock {
    /// Locks sshd's configuration folder itself, so that no lock file can be left behind.
    ///
    /// # Errors
    /// Another installation is under way.
    pub(super) fn take(config_dir: &Path) -> Result<Self, InstallError> {
        let failed = |source| InstallError::Change {
            path: config_dir.to_path_buf(),
            source,
        };
        let folder = File::open(config_dir).map_err(failed)?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(folder)),
            Err(e) if e == rustix::io::Errno::WOULDBLOCK => Err(InstallError::Busy),
            Err(e) => Err(failed(e.into())),
        }
    }
}

/// Removes temporary files and folders of these files (`.NAME.PID.new`). The caller holds the lock, so
/// nobody is writing one.
pub(super) fn sweep<'a>(files: impl IntoIterator<Item = &'a Path>) {
    for path in files.into_iter().flat_map(temporaries) {
        // Best effort: what cannot go is only a hidden file that nobody reads.
        let _ = match std::fs::symlink_metadata(&path) {
            Ok(about) if about.is_dir() => std::fs::remove_dir_all(&path),
            _ => std::fs::remove_file(&path),
        };
    }
}

fn temporaries(file: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
        return Vec::new();
    };
    let start = format!(".{}.", name.to_string_lossy());
    let is_temporary = |name: &str| {
        name.strip_prefix(start.as_str())
            .and_then(|rest| rest.strip_suffix(".new"))
            .is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_temporary))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_installation_at_the_same_time_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        assert!(matches!(Lock::take(folder.path()), Err(InstallError::Busy)));
        drop(first);
        assert!(Lock::take(folder.path()).is_ok());
    }

    #[test]
    fn only_temporary_files_of_the_named_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("root.json");
        for name in [
            ".root.json.12.new",
            ".root.json.x.new",
            ".other.12.new",
            "root.json",
        ] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        std::fs::create_dir_all(folder.path().join(".state.7.new/inner")).unwrap();
        sweep([own.as_path(), &folder.path().join("state")]);
        let mut left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".other.12.new", ".root.json.x.new", "root.json"]);
    }
}
