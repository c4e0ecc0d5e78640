//! Reading files that decide who may log in: only what nobody but root could have written.
//! sshd checks neither owner nor mode of TrustedUserCAKeys, so the agent does it for its own files.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Whose files are trusted, and from which folder downwards every folder is checked as well.
#[derive(Clone, Debug)]
pub struct Trusted {
    owner: u32,
    top: PathBuf,
}

impl Trusted {
    /// Root's files, every folder from `/` on checked.
    #[must_use]
    pub fn system() -> Self {
        Self {
            owner: 0,
            top: PathBuf::from("/"),
        }
    }

    /// Files of `owner` (or root) under `top`, for trees that are not the system's own: an image being built, a test.
    #[must_use]
    pub fn under(top: &Path, owner: u32) -> Self {
        Self {
            owner,
            top: top.to_path_buf(),
        }
    }

    /// The bytes of `path`, at most `cap` of them.
    ///
    /// # Errors
    /// The file is missing, no regular file, larger than `cap`, or somebody but its trusted owner could have
    /// changed it or a folder on the way (symbolic links are resolved first, so they cannot lead elsewhere).
    pub fn read(&self, path: &Path, cap: usize) -> Result<Vec<u8>, UntrustedFile> {
        let resolved = self.resolve(path)?;
        // NONBLOCK: opening a FIFO that was put there must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&resolved, flags, Mode::empty())
            .map_err(|e| unreadable(path, e.into()))?;
        let file = fs::File::from(opened);
        let about = file.metadata().map_err(|e| unreadable(path, e))?;
        self.check_file(path, &about)?;
        read_capped(file, path, cap)
    }

    /// Checks that `path` is a regular file that only its trusted owner can change, as sshd demands of the
    /// commands that it runs (`safe_path`), and returns it with links resolved.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn check(&self, path: &Path) -> Result<PathBuf, UntrustedFile> {
        let resolved = self.resolve(path)?;
        let about = fs::symlink_metadata(&resolved).map_err(|e| unreadable(path, e))?;
        self.check_file(path, &about)?;
        Ok(resolved)
    }

    fn resolve(&self, path: &Path) -> Result<PathBuf, UntrustedFile> {
        let resolved = fs::canonicalize(path).map_err(|e| unreadable(path, e))?;
        for folder in resolved
            .ancestors()
            .skip(1)
            .filter(|f| f.starts_with(&self.top))
        {
            let about = fs::symlink_metadata(folder).map_err(|e| unreadable(path, e))?;
            self.check_writers(path, folder, &about)?;
        }
        if resolved.starts_with(&self.top) {
            Ok(resolved)
        } else {
            Err(UntrustedFile::Outside(path.to_path_buf()))
        }
    }

    fn check_file(&self, path: &Path, about: &fs::Metadata) -> Result<(), UntrustedFile> {
        if !about.is_file() {
            return Err(UntrustedFile::NotAFile(path.to_path_buf()));
        }
        self.check_writers(path, path, about)
    }

    fn check_writers(
        &self,
        path: &Path,
        part: &Path,
        about: &fs::Metadata,
    ) -> Result<(), UntrustedFile> {
        use std::os::unix::fs::MetadataExt as _;
        let owned = about.uid() == 0 || about.uid() == self.owner;
        if owned && about.mode() & GROUP_OR_WORLD_WRITE == 0 {
            Ok(())
        } else {
            Err(UntrustedFile::Writable {
                path: path.to_path_buf(),
                part: part.to_path_buf(),
            })
        }
    }
}

const GROUP_OR_WORLD_WRITE: u32 = 0o022;

/// The bytes of anybody's file, at most `cap` of them. Whoever owns it may exchange it at any moment, so it is
/// opened once and judged open: a FIFO does not hold the reader up, a file that grows is cut off.
///
/// # Errors
/// The file is missing, no regular file, or larger than `cap`.
pub fn read_of_anybody(path: &Path, cap: usize) -> Result<Vec<u8>, UntrustedFile> {
    read_with(OFlags::empty(), path, cap)
}

/// As [`read_of_anybody`], where the file's own name is no link: in somebody's folder it could lead anywhere, also to
/// a device that does something when it is opened.
///
/// # Errors
/// As [`read_of_anybody`], and it is a symbolic link.
pub fn read_of_anybody_unlinked(path: &Path, cap: usize) -> Result<Vec<u8>, UntrustedFile> {
    read_with(OFlags::NOFOLLOW, path, cap)
}

fn read_with(more: OFlags, path: &Path, cap: usize) -> Result<Vec<u8>, UntrustedFile> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | more;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let file = fs::File::from(opened.map_err(|e| unreadable(path, e.into()))?);
    let about = file.metadata().map_err(|e| unreadable(path, e))?;
    if about.is_file() {
        read_capped(file, path, cap)
    } else {
        Err(UntrustedFile::NotAFile(path.to_path_buf()))
    }
}

fn read_capped(file: fs::File, path: &Path, cap: usize) -> Result<Vec<u8>, UntrustedFile> {
    let limit = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(path, e))?;
    if bytes.len() > cap {
        return Err(UntrustedFile::TooLarge {
            path: path.to_path_buf(),
            cap,
        });
    }
    Ok(bytes)
}

fn unreadable(path: &Path, source: std::io::Error) -> UntrustedFile {
    if source.kind() == std::io::ErrorKind::NotFound {
        UntrustedFile::Missing(path.to_path_buf())
    } else {
        UntrustedFile::Unreadable {
            path: path.to_path_buf(),
            source,
        }
    }
}

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum UntrustedFile {
    /// There is no such file.
    #[error("read `{}`: no such file", .0.display())]
    Missing(PathBuf),
    /// The system refused.
    #[error("read `{}`", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A folder, FIFO, device or socket.
    #[error("trust `{}`: it is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Somebody else may change it.
    #[error("trust `{}`: `{}` must belong to root and be writable by nobody else (chown root, chmod go-w)", .path.display(), .part.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// The file itself or the folder that is open to others.
        part: PathBuf,
    },
    /// The file is implausibly large.
    #[error("read `{}`: larger than {cap} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        cap: usize,
    },
    /// A link leads out of the tree that is checked.
    #[error("trust `{}`: it lies outside the folder that is checked", .0.display())]
    Outside(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn tree() -> (tempfile::TempDir, Trusted) {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let top = folder.path().canonicalize().unwrap();
        let trusted = Trusted::under(&top, rustix::process::geteuid().as_raw());
        (folder, trusted)
    }

    fn file(folder: &tempfile::TempDir, name: &str, mode: u32) -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, "content").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn of_anybodys_files_only_regular_ones_of_a_sane_size_are_read() {
        use rustix::fs::{CWD, FileType, mknodat};
        let (folder, _) = tree();
        let path = file(&folder, "f", 0o666);
        assert_eq!(read_of_anybody(&path, 7).unwrap(), b"content");
        let outcome = read_of_anybody(&path, 6);
        assert!(matches!(outcome, Err(UntrustedFile::TooLarge { .. })));
        // Nobody will ever write to it.
        let fifo = folder.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for other in [fifo.as_path(), folder.path(), Path::new("/dev/zero")] {
            let outcome = read_of_anybody(other, 7);
            assert!(
                matches!(outcome, Err(UntrustedFile::NotAFile(_))),
                "{other:?}"
            );
        }
        let outcome = read_of_anybody(&folder.path().join("none"), 7);
        assert!(matches!(outcome, Err(UntrustedFile::Missing(_))));
    }

    #[test]
    fn files_that_others_may_write_are_refused() {
        // J-10, J-12
        let (folder, trusted) = tree();
        for mode in [0o664, 0o646, 0o666, 0o777] {
            let path = file(&folder, &format!("m{mode:o}"), mode);
            assert!(
                matches!(
                    trusted.read(&path, 100),
                    Err(UntrustedFile::Writable { .. })
                ),
                "{mode:o}"
            );
            assert!(trusted.check(&path).is_err());
        }
    }

    #[test]
    fn files_of_somebody_else_are_refused() {
        // J-10, J-12
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can give files away");
            return;
        }
        let (folder, trusted) = tree();
        let path = file(&folder, "given", 0o644);
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert!(matches!(
            trusted.read(&path, 100),
            Err(UntrustedFile::Writable { .. })
        ));
    }

    #[test]
    fn a_file_in_a_folder_that_others_may_write_is_refused() {
        let (folder, trusted) = tree();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::write(open.join("f"), "x").unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            trusted.read(&open.join("f"), 100),
            Err(UntrustedFile::Writable { .. })
        ));
    }

    #[test]
    fn a_link_out_of_the_checked_tree_is_refused() {
        // J-10: symlink into /tmp
        let (folder, trusted) = tree();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("f"), "x").unwrap();
        symlink(elsewhere.path().join("f"), folder.path().join("link")).unwrap();
        assert!(trusted.read(&folder.path().join("link"), 100).is_err());
    }

    #[test]
    fn a_fifo_is_refused_without_waiting() {
        // J-07
        let (folder, trusted) = tree();
        let path = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(matches!(
            trusted.read(&path, 100),
            Err(UntrustedFile::NotAFile(_))
        ));
    }

    #[test]
    fn folders_missing_and_large_files_are_refused() {
        let (folder, trusted) = tree();
        assert!(matches!(
            trusted.read(&folder.path().join("none"), 100),
            Err(UntrustedFile::Missing(_))
        ));
        assert!(trusted.read(folder.path(), 100).is_err());
        let path = file(&folder, "seven", 0o644);
        assert!(matches!(
            trusted.read(&path, 6),
            Err(UntrustedFile::TooLarge { .. })
        ));
        assert_eq!(trusted.read(&path, 7).unwrap(), b"content");
    }

    #[test]
    fn the_systems_own_files_are_readable() {
        assert!(
            Trusted::system()
                .read(Path::new("/etc/passwd"), 1 << 20)
                .is_ok()
        );
    }
}
