//! The record of an installation: what every file was before, so that it can be put back byte for byte.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::InstallError;
use super::transaction::Content;
use crate::trusted_file::{Trusted, UntrustedFile};

/// The record's file in the state folder.
pub(super) const NAME: &str = "install.json";

/// Largest record in bytes: a few documents in base64.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// What was there before, and what was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// Each file that is ours now: its content before the first installation.
    pub(super) originals: BTreeMap<PathBuf, Option<Content>>,
    /// Each file as the last installation wrote it, by SHA-256.
    pub(super) written: BTreeMap<PathBuf, String>,
    /// Folders that did not exist.
    pub(super) folders: Vec<PathBuf>,
    /// The account that did not exist.
    pub(super) account: Option<String>,
    /// Units of this agent's service that were enabled, and were not before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) units: Vec<String>,
    /// When the first installation was made, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) installed: Option<u64>,
}

impl Manifest {
    /// The record in a state folder; `None` where nothing is installed.
    pub(super) fn load(state: &Path, trusted: &Trusted) -> Result<Option<Self>, InstallError> {
        let path = state.join(NAME);
        match trusted.read(&path, MAX_BYTES) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|_| InstallError::Manifest(path)),
            Err(UntrustedFile::Missing(_)) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The record as a file that only root can read (it may hold old configuration).
    pub(super) fn content(&self) -> Content {
        // A map of paths and texts always has a JSON form.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        Content {
            mode: 0o600,
            ..Content::public(bytes)
        }
    }

    /// Whether a file is still as it was written.
    pub(super) fn is_untouched(&self, path: &Path, now: Option<&Content>) -> bool {
        now.is_some_and(|content| {
            self.written
                .get(path)
                .is_some_and(|hash| *hash == sha256(content))
        })
    }
}

pub(super) fn sha256(content: &Content) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, &content.bytes.0);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let trusted = Trusted::under(&top, rustix::process::geteuid().as_raw());
        assert!(matches!(Manifest::load(&top, &trusted), Ok(None)));
        std::fs::write(top.join(NAME), "{\"originals\":{}}").unwrap();
        assert!(matches!(
            Manifest::load(&top, &trusted),
            Err(InstallError::Manifest(_))
        ));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let trusted = Trusted::under(&top, rustix::process::geteuid().as_raw());
        let mut manifest = Manifest {
            account: Some("eic".to_owned()),
            ..Manifest::default()
        };
        manifest
            .originals
            .insert("/f".into(), Some(Content::public("old\u{0}bytes")));
        manifest.originals.insert("/g".into(), None);
        std::fs::write(top.join(NAME), &manifest.content().bytes.0).unwrap();
        assert_eq!(Manifest::load(&top, &trusted).unwrap(), Some(manifest));
    }

    #[test]
    fn edited_and_missing_files_are_noticed() {
        let content = Content::public("a");
        let mut manifest = Manifest::default();
        manifest.written.insert("/f".into(), sha256(&content));
        assert!(manifest.is_untouched(Path::new("/f"), Some(&content)));
        assert!(!manifest.is_untouched(Path::new("/f"), Some(&Content::public("b"))));
        assert!(!manifest.is_untouched(Path::new("/f"), None));
        assert!(!manifest.is_untouched(Path::new("/g"), Some(&content)));
    }
}
