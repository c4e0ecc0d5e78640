//! The roots that led to the present one: `root.json`, and `root.<version>.json` beside it for those before.
//! Hosts walk them one by one; a root that is lost strands every host that has not seen it.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::envelope::Envelope;
use eic_protocol::trust::root::{MAX_WALK, Root};
use rustix::fs::FlockOperation;

use super::files::FileError;
use super::root::{self, RootError};

/// Every root from the oldest that is kept to the present one, each the successor of the one before.
#[derive(Clone, Debug)]
pub struct RootHistory {
    roots: Vec<(Root, Envelope)>,
}

impl RootHistory {
    /// Reads the history that ends with the document at `path`.
    ///
    /// # Errors
    /// [`RootError`] of the present document; an older one that cannot be read or does not lead here ends the history.
    pub fn read(path: &Path) -> Result<Self, RootError> {
        let (envelope, document) = root::read(path)?;
        let mut roots = vec![(document, envelope)];
        while roots.len() < MAX_WALK {
            let Some((next, next_envelope)) = roots.last() else {
                break;
            };
            let before = next.version.saturating_sub(1);
            let file = kept_file(path, before);
            if before == 0 || !file.exists() {
                break;
            }
            let (envelope, document) = match root::read(&file) {
                Ok(kept) => kept,
                // Hosts that are up to date lose nothing; a service that does not start helps none.
                Err(error) => {
                    tracing::error!(%error, "ALARM: a kept root cannot be read; hosts that have only older ones cannot follow: restore it from the backup");
                    break;
                }
            };
            if document.version != before || document.successor(next_envelope).is_err() {
                tracing::error!(file = %file.display(), "ALARM: a kept root does not lead to the next one; hosts that have only older ones cannot follow");
                break;
            }
            roots.push((document, envelope));
        }
        roots.reverse();
        Ok(Self { roots })
    }

    /// The present root.
    #[must_use]
    pub fn present(&self) -> Option<&Root> {
        self.roots.last().map(|(root, _)| root)
    }

    /// The present root's version; 0 is none.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.present().map_or(0, |root| root.version)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Every CA key that any of them names: a list names CAs by their keys, also those that a later root leaves out.
    #[must_use]
    pub fn cas(&self) -> Vec<CaKey> {
        let cas = self.roots.iter().flat_map(|(root, _)| {
            let users = root.user_cas.iter().map(|ca| &ca.key);
            users.chain(&root.host_cas)
        });
        let distinct: BTreeSet<_> = cas.cloned().collect();
        distinct.into_iter().collect()
    }

    /// Whether it leads from the present root of `earlier` to its own.
    #[must_use]
    pub fn continues(&self, earlier: &Self) -> bool {
        let last = earlier.roots.last().map(|(_, envelope)| envelope);
        last.is_none_or(|last| self.roots.iter().any(|(_, envelope)| envelope == last))
    }

    /// All, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Root, &Envelope)> {
        self.roots.iter().map(|(root, envelope)| (root, envelope))
    }
}

/// Where the root of this version is kept once there is a newer one.
#[must_use]
pub fn kept_file(path: &Path, version: u64) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}.{version}.json"))
}

/// Of two who put a successor in place at once (an operator, and the service's schedule) the second finds the first's: else
/// hosts that saw the first root could never follow.
fn lock(path: &Path) -> Result<File, RootError> {
    let path = path.with_extension("lock");
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path);
    let locked = opened.and_then(|file| {
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    });
    Ok(locked.map_err(|cause| FileError::Write { path, cause })?)
}

/// What [`succeed`] would put in place.
///
/// # Errors
/// [`RootError`]
pub fn judged(path: &Path, next: &Envelope) -> Result<Root, RootError> {
    let (_, document) = root::read(path)?;
    checked(path, &document, next)
}

fn checked(path: &Path, present: &Root, next: &Envelope) -> Result<Root, RootError> {
    let checked = present.successor(next);
    checked.map_err(|flaw| RootError::Untrusted {
        path: path.to_owned(),
        flaw,
    })
}

/// Puts a signed successor in place, and keeps the present root for those who have yet to walk past it.
///
/// # Errors
/// [`RootError`]; the present one stays.
pub fn succeed(path: &Path, next: &Envelope) -> Result<Root, RootError> {
    let _lock = lock(path)?;
    let (present, document) = root::read(path)?;
    let checked = checked(path, &document, next)?;
    root::write(&kept_file(path, document.version), &present)?;
    root::write(path, next)?;
    Ok(checked)
}
