//! Several files replaced together, as far as a file system allows: all are written beside their places and
//! synced first, so that a full or failing disk changes nothing; then each takes its place by a rename.
//! Killed between two renames, what was staged is gone and `repair` makes the rest from the first file.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::atomic_file;

/// Mode of every file: sshd and its unprivileged commands read them, only root writes.
const MODE: u32 = 0o644;

/// Files that wait beside their places.
#[derive(Debug)]
pub(super) struct Staged {
    folder: PathBuf,
    files: Vec<(PathBuf, PathBuf)>,
}

impl Staged {
    /// Writes each `(name, bytes)` beside its place in `folder`, in the order in which they will take their places.
    ///
    /// # Errors
    /// [`NotWritten`]; nothing has changed and nothing is left.
    pub(super) fn write(folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<Self, NotWritten> {
        let mut staged = Self {
            folder: folder.to_path_buf(),
            files: Vec::new(),
        };
        for (name, bytes) in files {
            let place = folder.join(name);
            let failed = |source| NotWritten {
                path: place.clone(),
                source,
            };
            let beside = atomic_file::temporary_name(&place).map_err(failed)?;
            // Before the write: what it leaves half-done goes with the rest.
            staged.files.push((beside.clone(), place.clone()));
            atomic_file::write_new(&beside, bytes, MODE).map_err(failed)?;
        }
        Ok(staged)
    }

    /// Has each file take its place.
    ///
    /// # Errors
    /// [`NotWritten`]: files before the named one are new, it and those after it old.
    pub(super) fn commit(mut self) -> Result<(), NotWritten> {
        let mut files = std::mem::take(&mut self.files).into_iter();
        while let Some((beside, place)) = files.next() {
            if let Err(source) = std::fs::rename(&beside, &place) {
                self.files = std::iter::once((beside, place.clone()))
                    .chain(files)
                    .collect();
                return Err(NotWritten {
                    path: place,
                    source,
                });
            }
        }
        let folder = File::open(&self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(|source| NotWritten {
            path: self.folder.clone(),
            source,
        })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (beside, _) in &self.files {
            // Best effort: `sweep` takes what is left.
            let _ = std::fs::remove_file(beside);
        }
    }
}

/// Removes what an earlier run that was killed has left beside the named files. Only under the folder's lock.
pub(super) fn sweep(folder: &Path, names: &[&str]) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let inner = name.strip_prefix('.').and_then(|n| n.strip_suffix(".new"));
        let of = inner.and_then(|inner| inner.rsplit_once('.'));
        if of.is_some_and(|(of, _pid)| names.contains(&of)) {
            // Best effort: it only takes room.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// A file was not replaced.
#[derive(Debug, thiserror::Error)]
#[error("write `{}`", .path.display())]
pub(super) struct NotWritten {
    /// Which.
    pub path: PathBuf,
    /// The system's reason.
    pub source: std::io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_cannot_be_staged_changes_nothing() {
        // F-11
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "old").unwrap();
        let files = [("a", b"new".to_vec()), ("none/b", b"new".to_vec())];
        assert!(Staged::write(folder.path(), &files).is_err());
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn a_place_that_cannot_be_taken_leaves_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::write(folder.path().join("b/x"), "").unwrap();
        let files = [
            ("a", b"1".to_vec()),
            ("b", b"2".to_vec()),
            ("c", b"3".to_vec()),
        ];
        let staged = Staged::write(folder.path(), &files).unwrap();
        assert!(staged.commit().is_err());
        assert_eq!(names(folder.path()), ["a", "b"]);
    }

    #[test]
    fn what_a_killed_run_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            ".a.12.new",
            ".a.x.new",
            ".b.12.new",
            "a",
            ".a.12",
            "a.12.new",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        sweep(folder.path(), &["a"]);
        assert_eq!(
            names(folder.path()),
            [".a.12", ".b.12.new", "a", "a.12.new"]
        );
    }

    #[test]
    fn all_files_take_their_places() {
        let folder = tempfile::tempdir().unwrap();
        let files = [("a", b"1".to_vec()), ("b", b"2".to_vec())];
        Staged::write(folder.path(), &files)
            .unwrap()
            .commit()
            .unwrap();
        assert_eq!(names(folder.path()), ["a", "b"]);
    }
}
