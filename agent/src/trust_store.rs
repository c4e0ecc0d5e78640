//! The trust documents on disk: one file that counts (`documents.json`), from which the helper makes what sshd
//! and its commands read. Reading only; writing is the helper's (`helper::installation`).
//!
//! `documents.json` holds every root since the pinned one, the bundle and the host view. `trust.json`, made from
//! it, is what the login path reads: without the revocation list, which may be half a megabyte. What
//! `eic-agent install` wrote (`root.json`, `host-view.json`) counts where it is newer: an administrator's word.

use std::path::Path;

use eic_protocol::instance_id::InstanceId;
use eic_protocol::krl::{self, Krl};
use eic_protocol::trust::envelope::Envelope;
use eic_protocol::trust::state::{Anchor, Documents, Refusal, TrustState};
use serde::{Deserialize, Serialize};

use crate::config::Trust;
use crate::trust_state::{
    Identity, InstalledList, LoginTrust, MAX_ENVELOPE, NoTrust, ROOT_FILE, VIEW_FILE,
};
use crate::trusted_file::{Trusted, UntrustedFile};

/// The file that counts.
pub const DOCUMENTS_FILE: &str = "documents.json";
/// The login path's extract of it.
pub const TRUST_FILE: &str = "trust.json";
/// sshd's RevokedKeys file in the state folder.
pub const REVOKED_KEYS_FILE: &str = "revoked-keys";
/// Largest `documents.json` in bytes: many roots, one bundle, one view.
const MAX_DOCUMENTS: usize = 16 * 1024 * 1024;

/// `documents.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// Roots by version, from the pinned one on.
    pub roots: Vec<Envelope>,
    /// The bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Envelope>,
    /// This host's view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<Envelope>,
}

impl Stored {
    /// What is kept of a state.
    #[must_use]
    pub fn of(state: &TrustState) -> Self {
        Self {
            roots: state.roots().to_vec(),
            bundle: state.bundle().map(|bundle| bundle.envelope.clone()),
            // One below the bundle's floor will never count again: floors only rise.
            view: state.view().map(|view| view.envelope.clone()),
        }
    }

    fn documents(&self) -> Documents<'_> {
        Documents {
            roots: &self.roots,
            bundle: self.bundle.as_ref(),
            view: self.view.as_ref(),
        }
    }
}

/// Reads and verifies what is installed. `now` (Unix seconds) decides only about what an administrator put beside.
///
/// # Errors
/// [`StoreError`]: nothing is installed, or nothing of it can be believed.
pub fn load(
    trust: &Trust,
    trusted: &Trusted,
    identity: &Identity,
    now: u64,
) -> Result<TrustState, StoreError> {
    if trust.root_fingerprints.is_empty() {
        return Err(NoTrust::NothingPinned.into());
    }
    let own = identity.id(trusted)?;
    let by_hand = read_by_hand(trust, trusted);
    let own_hand = |by_hand: &Stored| {
        TrustState::load(anchor(trust, trusted, &own), &by_hand.documents())
            .map_err(StoreError::from)
    };
    match (stored(trust, trusted)?, by_hand) {
        (None, by_hand) => own_hand(&by_hand?),
        (Some(stored), Err(_)) => verified(trust, trusted, &own, &stored),
        (Some(stored), Ok(by_hand)) => {
            let ours = verified(trust, trusted, &own, &stored);
            newest(ours, own_hand(&by_hand), &by_hand, now)
        }
    }
}

/// The service's documents. Where their file is gone, damaged or open to others, those of the login path, which
/// lack the bundle only: what was installed long ago must not come back over a damaged disk.
fn stored(trust: &Trust, trusted: &Trusted) -> Result<Option<Stored>, StoreError> {
    match read(&trust.state.join(DOCUMENTS_FILE), trusted, MAX_DOCUMENTS) {
        Ok(Some(stored)) => Ok(Some(stored)),
        Ok(None) | Err(StoreError::Form(_) | StoreError::File(UntrustedFile::Writable { .. })) => {
            let login = LoginTrust::read(trust, trusted).ok().flatten();
            Ok(login.map(|login| Stored {
                roots: login.roots,
                bundle: None,
                view: login.view,
            }))
        }
        Err(e) => Err(e),
    }
}

/// A bundle that the roots do not verify (a crash between two files cannot leave that, a damaged disk can)
/// costs the bundle only: roots and view go on, and the floor keeps an older bundle out.
fn verified(
    trust: &Trust,
    trusted: &Trusted,
    own: &InstanceId,
    stored: &Stored,
) -> Result<TrustState, StoreError> {
    let whole = TrustState::load(anchor(trust, trusted, own), &stored.documents());
    let Err(Refusal::Bundle(_)) = whole else {
        return Ok(whole?);
    };
    let without = Documents {
        bundle: None,
        ..stored.documents()
    };
    Ok(TrustState::load(anchor(trust, trusted, own), &without)?)
}

/// The service's documents with what is newer by hand; the administrator's alone where their root is ahead.
fn newest(
    ours: Result<TrustState, StoreError>,
    by_hand: Result<TrustState, StoreError>,
    files: &Stored,
    now: u64,
) -> Result<TrustState, StoreError> {
    let Ok(ours) = ours else {
        // The first error tells more than the second.
        return by_hand.or(ours);
    };
    let advanced = ours.advance(&files.documents(), now).state;
    match by_hand {
        Ok(hand) if hand.root().version > advanced.root().version => Ok(hand),
        _ => Ok(advanced),
    }
}

fn anchor(trust: &Trust, trusted: &Trusted, own: &InstanceId) -> Anchor {
    let pins = trust.root_fingerprints.iter();
    let list = installed_list(&trust.state, trusted);
    let noted = list.as_ref().and_then(|list| noted(trust, trusted, list));
    Anchor {
        instance: own.clone(),
        pins: pins.map(ToString::to_string).collect(),
        // The list's number never exceeds its bundle's sequence.
        sequence_floor: list.map_or(0, |krl| krl.version),
        floor_key: noted.map(|noted| noted.bundle_key),
    }
}

/// What was written down of this list, and not of another one.
pub(crate) fn noted(trust: &Trust, trusted: &Trusted, list: &Krl) -> Option<InstalledList> {
    let login = LoginTrust::read(trust, trusted).ok().flatten()?;
    login.list.filter(|noted| noted.number == list.version)
}

/// The revocation list that sshd reads; `None` where there is none of ours.
#[must_use]
pub fn installed_list(state: &Path, trusted: &Trusted) -> Option<Krl> {
    let bytes = trusted
        .read(&state.join(REVOKED_KEYS_FILE), krl::MAX_SIZE)
        .ok()?;
    krl::read(&bytes).ok()
}

fn read_by_hand(trust: &Trust, trusted: &Trusted) -> Result<Stored, StoreError> {
    let one = |name: &'static str| -> Result<Envelope, StoreError> {
        let path = trust.state.join(name);
        let envelope = read(&path, trusted, MAX_ENVELOPE)?;
        envelope.ok_or(StoreError::File(UntrustedFile::Missing(path)))
    };
    Ok(Stored {
        roots: vec![one(ROOT_FILE)?],
        bundle: None,
        view: Some(one(VIEW_FILE)?),
    })
}

fn read<T: serde::de::DeserializeOwned>(
    path: &Path,
    trusted: &Trusted,
    cap: usize,
) -> Result<Option<T>, StoreError> {
    match trusted.read(path, cap) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|_| StoreError::Form(path.to_path_buf())),
        Err(UntrustedFile::Missing(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Why nothing is installed that can be believed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing pinned, or this host is not known.
    #[error(transparent)]
    Host(#[from] NoTrust),
    /// A file is missing or open to others.
    #[error(transparent)]
    File(#[from] UntrustedFile),
    /// A file is none of ours.
    #[error("read `{}`: it holds no signed documents", .0.display())]
    Form(std::path::PathBuf),
    /// A document does not verify.
    #[error("trust what is installed")]
    Refused(#[from] Refusal),
}
