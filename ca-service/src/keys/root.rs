//! The root document: made, renewed and compared with the keys that are really configured.
//!
//! A slip in the configuration would make every host trust another key: the service by itself does no more than
//! announce spares and retire what its schedule replaced. `eic-ca root update` does the rest, with the root key at hand.

use std::path::{Path, PathBuf};

use eic_protocol::subject_key::{CaKey, SubjectKey};
use eic_protocol::trust::envelope::{Envelope, MAX_DOCUMENT, Untrusted};
use eic_protocol::trust::root::{KeyState, Root, Scope, ScopedCa};
use serde_json::json;

use super::files::{self, FileError};
use crate::audit::{Actor, Event, EventName, Origin, event_request_id};
use crate::random::NoEntropy;
use crate::signer::document::{DocumentError, RootKey};

/// The public keys that a root document is to name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootKeys {
    /// Signs user certificates.
    pub user_ca: CaKey,
    /// Further user CAs, to be announced.
    pub spares: Vec<CaKey>,
    /// Signs host certificates.
    pub host_ca: CaKey,
    /// Signs host views.
    pub bundle: SubjectKey,
}

/// The first root of a CA. `now` is in Unix seconds.
#[must_use]
pub fn first(keys: &RootKeys, root_key: &SubjectKey, now: u64) -> Root {
    Root {
        version: 1,
        issued: now,
        root_keys: vec![root_key.clone()],
        threshold: 1,
        bundle_keys: vec![keys.bundle.clone()],
        user_cas: next_user_cas(&[], keys),
        host_cas: vec![keys.host_ca.clone()],
    }
}

/// The next root, in which the user CA `old` is retired and `signer`, the one that signs now, is active if it was
/// announced: who signs is no spare. Both by fingerprint; none: there is no CA `old`.
#[must_use]
pub fn with_retired(present: &Root, old: &str, signer: Option<&str>, now: u64) -> Option<Root> {
    let mut root = present.clone();
    let ca = |print: &str| {
        let mut named = present.user_cas.iter();
        named.position(|ca| ca.key.fingerprint() == print)
    };
    let signer = signer.and_then(ca);
    root.user_cas.get_mut(ca(old)?)?.state = KeyState::Retired;
    let signer = signer.and_then(|at| root.user_cas.get_mut(at));
    if let Some(signer) = signer.filter(|ca| ca.state == KeyState::Announced) {
        signer.state = KeyState::Active;
    }
    root.version = present.version.saturating_add(1);
    root.issued = now;
    Some(root)
}

/// The record of a root that is put in place, made before it is: a root without a record would be worse than the
/// other way round.
///
/// # Errors
/// [`NoEntropy`]
pub fn installation(root: &Root, by: Actor) -> Result<Event, NoEntropy> {
    let id = event_request_id()?;
    let mut event = Event::new(EventName::InstallRoot, by, Origin::default(), id);
    let in_state = |state| {
        let cas = root.user_cas.iter().filter(move |ca| ca.state == state);
        prints(cas.map(|ca| ca.key.key()))
    };
    event.parameters = Some(json!({
        "version": root.version,
        "threshold": root.threshold,
        "rootKeys": prints(&root.root_keys),
        "bundleKeys": prints(&root.bundle_keys),
        "hostCas": prints(root.host_cas.iter().map(CaKey::key)),
        "announced": in_state(KeyState::Announced),
        "active": in_state(KeyState::Active),
        "retired": in_state(KeyState::Retired),
    }));
    Ok(event)
}

fn prints<'a>(keys: impl IntoIterator<Item = &'a SubjectKey>) -> Vec<String> {
    keys.into_iter().map(SubjectKey::fingerprint).collect()
}

fn active(key: &CaKey) -> ScopedCa {
    ScopedCa {
        key: key.clone(),
        state: KeyState::Active,
        scope: Scope::default(),
    }
}

/// The next root, naming these keys; `None` where the present one names them already.
///
/// Spare user CAs that it does not name are announced. A user CA that is not configured any more is retired and stays listed, so that it is never
/// certified itself. The host CA and bundle keys just before stay trusted until the next change, so
/// that hosts that have not heard of it are still known.
#[must_use]
pub fn next(present: &Root, keys: &RootKeys, now: u64) -> Option<Root> {
    if names(present, keys) {
        return None;
    }
    let mut root = present.clone();
    root.version = present.version.saturating_add(1);
    root.issued = now;
    root.user_cas = next_user_cas(&present.user_cas, keys);
    root.host_cas = newest_first(&present.host_cas, &keys.host_ca);
    root.bundle_keys = bundle_keys(present, &keys.bundle, now);
    Some(root)
}

/// For how long a change of other keys leaves the bundle key before the present one. Seconds. A host's view is by that
/// one as long as the host cannot be looked up; a root without it would end all that the host is told.
const VIEWS_RENEWED: u64 = 30 * 86_400;

fn bundle_keys(present: &Root, key: &SubjectKey, now: u64) -> Vec<SubjectKey> {
    let recent = now < present.issued.saturating_add(VIEWS_RENEWED);
    if recent && present.bundle_keys.first() == Some(key) {
        return present.bundle_keys.clone();
    }
    newest_first(&present.bundle_keys, key)
}

/// Whether all that is new in `next` are announced user CAs.
#[must_use]
pub fn only_announces(present: &Root, next: &Root) -> bool {
    let mut announced = next.user_cas.iter();
    let unchanged = present.user_cas.iter().all(|ca| next.user_cas.contains(ca));
    let added = |ca: &ScopedCa| !present.user_cas.contains(ca);
    unchanged
        && announced.all(|ca| !added(ca) || ca.state == KeyState::Announced)
        && present.host_cas == next.host_cas
        && present.bundle_keys == next.bundle_keys
}

fn next_user_cas(present: &[ScopedCa], keys: &RootKeys) -> Vec<ScopedCa> {
    let found = |key: &CaKey| present.iter().find(|ca| ca.key == *key);
    let current = match found(&keys.user_ca) {
        // What was retired stays so: `eic-ca keys retire` was meant.
        Some(ca) if ca.state == KeyState::Retired => ca.clone(),
        known => ScopedCa {
            scope: known.map(|ca| ca.scope.clone()).unwrap_or_default(),
            ..active(&keys.user_ca)
        },
    };
    let others = present.iter().filter(|ca| ca.key != keys.user_ca);
    let others = others.map(|ca| match ca.state {
        KeyState::Active if !keys.spares.contains(&ca.key) => ScopedCa {
            state: KeyState::Retired,
            ..ca.clone()
        },
        _ => ca.clone(),
    });
    let new = keys.spares.iter().filter(|key| found(key).is_none());
    let new = new.map(|key| ScopedCa {
        state: KeyState::Announced,
        ..active(key)
    });
    std::iter::once(current).chain(others).chain(new).collect()
}

/// `key`, and the one before it where it is new.
fn newest_first<T: Clone + PartialEq>(present: &[T], key: &T) -> Vec<T> {
    match present.first() {
        Some(first) if first != key => vec![key.clone(), first.clone()],
        _ => vec![key.clone()],
    }
}

fn names(root: &Root, keys: &RootKeys) -> bool {
    let next = next_user_cas(&root.user_cas, keys);
    // Their order says nothing: a configuration that names the key that signs now as the first one changes no root.
    let same =
        next.len() == root.user_cas.len() && next.iter().all(|ca| root.user_cas.contains(ca));
    same && root.host_cas.first() == Some(&keys.host_ca)
        && root.bundle_keys.first() == Some(&keys.bundle)
}

/// Checks that the document names the configured keys.
///
/// # Errors
/// [`RootError::Outdated`] names the first key that is missing, and what to run.
pub fn check(root: &Root, keys: &RootKeys, path: &Path) -> Result<(), RootError> {
    let outdated = |purpose, key: String| {
        Err(RootError::Outdated {
            path: path.to_owned(),
            purpose,
            key,
        })
    };
    let named = |key: &CaKey| root.user_cas.iter().find(|ca| ca.key == *key);
    let own = || std::iter::once(&keys.user_ca).chain(&keys.spares);
    if let Some(key) = own().find(|key| named(key).is_none()) {
        return outdated("user_ca", key.fingerprint());
    }
    if own().all(|key| named(key).is_some_and(|ca| ca.state == KeyState::Retired)) {
        return outdated("user_ca", keys.user_ca.fingerprint());
    }
    if !root.host_cas.contains(&keys.host_ca) {
        return outdated("host_ca", keys.host_ca.fingerprint());
    }
    if !root.bundle_keys.contains(&keys.bundle) {
        return outdated("bundle", keys.bundle.fingerprint());
    }
    Ok(())
}

/// Reads a root document that its own root keys have signed.
///
/// # Errors
/// [`RootError`]
pub fn read(path: &Path) -> Result<(Envelope, Root), RootError> {
    let unreadable = |cause: std::io::Error| RootError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    // Base64 and signatures make an envelope at most twice its document.
    if metadata.len() > u64::try_from(MAX_DOCUMENT * 2).unwrap_or(u64::MAX) {
        return Err(RootError::Untrusted {
            path: path.to_owned(),
            flaw: Untrusted::TooLarge,
        });
    }
    let text = std::fs::read(path).map_err(unreadable)?;
    let malformed = |flaw: String| RootError::Untrusted {
        path: path.to_owned(),
        flaw: Untrusted::Malformed(flaw),
    };
    let envelope: Envelope = serde_json::from_slice(&text).map_err(|e| malformed(e.to_string()))?;
    let named: Root =
        serde_json::from_slice(envelope.signed.as_slice()).map_err(|e| malformed(e.to_string()))?;
    let fingerprints = named
        .root_keys
        .iter()
        .map(SubjectKey::fingerprint)
        .collect();
    let root = Root::pinned(&envelope, &fingerprints);
    let root = root.map_err(|flaw| RootError::Untrusted {
        path: path.to_owned(),
        flaw,
    })?;
    Ok((envelope, root))
}

/// The next root by the one root key that is needed, where one is. `now` is in Unix seconds.
///
/// # Errors
/// [`RootError`]
pub fn successor(
    present: &Root,
    keys: &RootKeys,
    root_key: &RootKey,
    now: u64,
) -> Result<Option<(Root, Envelope)>, RootError> {
    if !present.root_keys.contains(root_key.public()) {
        return Err(RootError::OtherRootKey(root_key.public().fingerprint()));
    }
    if present.threshold > 1 {
        return Err(RootError::Threshold(present.threshold));
    }
    let Some(next) = next(present, keys, now) else {
        return Ok(None);
    };
    let envelope = root_key.seal(&next)?;
    Ok(Some((next, envelope)))
}

/// Puts a signed root in place.
///
/// # Errors
/// [`RootError`]
pub fn write(path: &Path, envelope: &Envelope) -> Result<(), RootError> {
    let mut text = serde_json::to_vec_pretty(envelope).map_err(DocumentError::from)?;
    text.push(b'\n');
    Ok(files::replace(path, &text, files::PUBLIC)?)
}

/// What is wrong with a root document.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It cannot be read.
    #[error("read the root document `{path}`: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is not signed by its own keys.
    #[error("use the root document `{path}`: {flaw}")]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        flaw: Untrusted,
    },
    /// It names other keys than the configuration.
    #[error(
        "use the root document `{path}`: it does not name the configured {purpose} key {key}, so hosts would not trust it; run `eic-ca root update --config FILE` (with `--root-key FILE` where the root key is kept offline) and give hosts the new document"
    )]
    Outdated {
        /// The file.
        path: PathBuf,
        /// The key's purpose.
        purpose: &'static str,
        /// The key.
        key: String,
    },
    /// The root key at hand is not one of the document's.
    #[error("sign the next root: the root key {0} is not one that the present root names")]
    OtherRootKey(String),
    /// More than one signature is needed.
    #[error(
        "sign the next root: the present one needs {0} signatures; use `eic-ca root init`, `root sign` and `root install`"
    )]
    Threshold(usize),
    /// It was not signed.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It was not written.
    #[error(transparent)]
    File(#[from] FileError),
}
