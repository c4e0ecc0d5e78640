//! Where this program keeps things, from the environment of the user who runs it.
//! Configuration and state are folders of mode 0700; sockets live in a folder with a short name.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The folders of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `$XDG_CONFIG_HOME/eic` or `~/.config/eic`.
    pub config_dir: PathBuf,
    /// `$XDG_STATE_HOME/eic` or `~/.local/state/eic`.
    pub state_dir: PathBuf,
    /// `$XDG_CACHE_HOME/eic` or `~/.cache/eic`.
    pub cache_dir: PathBuf,
    /// Where sockets go unless the configuration says otherwise.
    pub run_dir: PathBuf,
    /// `~/.ssh`.
    pub ssh_dir: PathBuf,
}

impl Paths {
    /// From the process's environment.
    ///
    /// # Errors
    /// [`NoHome`] where `HOME` is not an absolute path.
    pub fn from_env() -> Result<Self, NoHome> {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// From variables that `lookup` gives.
    ///
    /// # Errors
    /// [`NoHome`].
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, NoHome> {
        // The XDG base directory specification: relative values count as unset.
        let absolute = |name: &str| {
            lookup(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let home = absolute("HOME").ok_or(NoHome)?;
        let base = |name: &str, default: &str| {
            absolute(name)
                .unwrap_or_else(|| home.join(default))
                .join("eic")
        };
        let runtime = absolute("XDG_RUNTIME_DIR")
            .filter(|path| is_ours(path))
            .map(|path| path.join("eic"));
        Ok(Self {
            config_dir: base("XDG_CONFIG_HOME", ".config"),
            state_dir: base("XDG_STATE_HOME", ".local/state"),
            cache_dir: base("XDG_CACHE_HOME", ".cache"),
            run_dir: runtime.unwrap_or_else(|| home.join(".eic/run")),
            ssh_dir: home.join(".ssh"),
        })
    }

    /// The configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config_dir.join("config.toml")
    }

    /// The pinned root document.
    #[must_use]
    pub fn root_file(&self) -> PathBuf {
        self.config_dir.join("root.json")
    }
}

/// `sudo` keeps `XDG_RUNTIME_DIR` of the user who ran it: a folder of somebody else is not used.
fn is_ours(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw())
}

/// There is no home folder.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("HOME is not set to an absolute path")]
pub struct NoHome;

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(variables: &[(&str, &str)]) -> Result<Paths, NoHome> {
        Paths::from_lookup(|name| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| value.into())
        })
    }

    #[test]
    fn relative_and_foreign_folders_are_not_used() {
        assert_eq!(paths(&[]), Err(NoHome));
        assert_eq!(paths(&[("HOME", "relative")]), Err(NoHome));
        let found = paths(&[
            ("HOME", "/h"),
            ("XDG_STATE_HOME", "rel"),
            ("XDG_RUNTIME_DIR", "/nonexistent/run"),
        ])
        .unwrap();
        assert_eq!(found.state_dir, Path::new("/h/.local/state/eic"));
        assert_eq!(found.run_dir, Path::new("/h/.eic/run"));
    }

    #[test]
    fn the_runtime_folder_of_the_user_is_preferred() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path().to_str().unwrap();
        let found = paths(&[
            ("HOME", "/h"),
            ("XDG_RUNTIME_DIR", runtime),
            ("XDG_CONFIG_HOME", "/c"),
        ])
        .unwrap();
        assert_eq!(found.run_dir, dir.path().join("eic"));
        assert_eq!(found.config_file(), Path::new("/c/eic/config.toml"));
    }
}
