//! Taking newer trust documents: verified from the pinned keys on, tried on the installed OpenSSH, then every
//! file staged before the first takes its place. A doubt leaves everything as it was.
//!
//! The order of the renames: the documents that count, then what each reader reads. Each state in between is
//! good: sshd and its commands have the old file or the new one, and `repair` makes the rest from the first.

use eic_protocol::krl::{self, Krl, TooLarge};
use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::envelope::Envelope;
use eic_protocol::trust::root::Root;
use eic_protocol::trust::state::{Documents, TrustState};

use super::Host;
use super::request::{Answer, Offer, TrustAnswer};
use super::revocations::{self, NotReadable};
use super::staged::{self, NotWritten, Staged};
use crate::install::{ca_keys, plan::CA_KEYS, revoked_keys};
use crate::run::status::Installed;
use crate::sshd::{Sshd, SshdError, Version};
use crate::state_lock::{self, StateLock};
use crate::trust_state::{InstalledList, LoginTrust};
use crate::trust_store::{self, DOCUMENTS_FILE, REVOKED_KEYS_FILE, StoreError, Stored, TRUST_FILE};

/// Every file that an installation writes, in the order in which they take their places.
pub(crate) const FILES: [&str; 4] = [DOCUMENTS_FILE, REVOKED_KEYS_FILE, CA_KEYS, TRUST_FILE];
/// The first sshd that knows SHA-256 fingerprints in a revocation list.
const FINGERPRINT_LISTS: Version = Version { major: 7, minor: 9 };
/// Largest of our files in bytes.
const MAX_BYTES: usize = 16 * 1024 * 1024;

pub(super) fn install(offer: &Offer, host: &Host, now: u64) -> Result<Answer, NotInstalled> {
    let _lock = locked(host)?;
    let documents = Documents {
        roots: &offer.roots,
        bundle: offer.bundle.as_ref(),
        view: offer.view.as_ref(),
    };
    let advance = host.state(now)?.advance(&documents, now);
    let mut answer = put_in_place(&advance.state, host)?;
    answer.refused = advance.refused.map(|refusal| refusal.to_string());
    Ok(Answer::Trust(answer))
}

pub(super) fn repair(host: &Host, now: u64) -> Result<Answer, NotInstalled> {
    let _lock = locked(host)?;
    let state = host.state(now)?;
    Ok(Answer::Trust(put_in_place(&state, host)?))
}

fn locked(host: &Host) -> Result<StateLock, NotInstalled> {
    let folder = &host.config.trust.state;
    let lock = StateLock::take(folder, state_lock::PATIENCE).map_err(NotInstalled::Lock)?;
    staged::sweep(folder, &FILES);
    staged::sweep(folder, &revocations::PROBES);
    for probe in revocations::PROBES {
        // Best effort: most often there is none.
        let _ = std::fs::remove_file(folder.join(probe));
    }
    Ok(lock)
}

fn put_in_place(state: &TrustState, host: &Host) -> Result<TrustAnswer, NotInstalled> {
    let settings = &host.config.service.sshd;
    let sshd = Sshd::find(&settings.program, &settings.config_dir)?;
    let mut warnings = Vec::new();
    let folder = &host.config.trust.state;
    let wanted = files(state, host, sshd.version, &mut warnings)?;
    let changed: Vec<(&str, Vec<u8>)> = wanted
        .into_iter()
        .filter(|(name, bytes)| {
            // A file that others could have written is replaced, whatever it holds.
            let present = host.trusted.read(&folder.join(name), MAX_BYTES);
            !present.is_ok_and(|present| present == *bytes)
        })
        .collect();
    let names = changed.iter().map(|(name, _)| (*name).to_owned()).collect();
    if !changed.is_empty() {
        Staged::write(folder, &changed)?.commit()?;
    }
    Ok(TrustAnswer {
        installed: installed(state),
        changed: names,
        refused: None,
        warnings,
    })
}

/// Name and content of each file, in order.
fn files(
    state: &TrustState,
    host: &Host,
    version: Version,
    warnings: &mut Vec<String>,
) -> Result<Vec<(&'static str, Vec<u8>)>, NotInstalled> {
    let cas = state.user_cas();
    let lines = ca_keys::lines(cas.iter().map(|ca| &ca.key), version);
    match (&lines, cas.is_empty()) {
        (Some(_), _) => {}
        // Else a root that closes everything would leave the host with the one before, and without revocations.
        (None, true) => warnings.push(
            "the root names no user CA that is not retired: no certificate counts on this host"
                .to_owned(),
        ),
        (None, false) => return Err(NotInstalled::NoCaKeys(version)),
    }
    if let Some(bundle) = state.bundle() {
        let refused = bundle.document.endorsed(state.root()).refused;
        warnings.extend(
            refused
                .iter()
                .map(|flaw| format!("an endorsement is not taken: {flaw}")),
        );
    }
    let list = list(state, host, version, warnings)?;
    let login = LoginTrust {
        list: noted(&list, state, host),
        ..login_trust(state, host)
    };
    let mut files = vec![
        (DOCUMENTS_FILE, json(&Stored::of(state))),
        (REVOKED_KEYS_FILE, list),
    ];
    // The file of CA keys is never empty: `trust.json` says that none of them counts.
    files.extend(lines.map(|lines| (CA_KEYS, lines.into_bytes())));
    files.push((TRUST_FILE, json(&login)));
    Ok(files)
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Lists and texts always have a JSON form.
    serde_json::to_vec(value).unwrap_or_default()
}

/// The revocation list: the bundle's, unless the one in place is newer by numbers that still count; without a
/// bundle the one in place. By state and files alone: killed after any step, `repair` comes to the same list.
fn list(
    state: &TrustState,
    host: &Host,
    version: Version,
    warnings: &mut Vec<String>,
) -> Result<Vec<u8>, NotInstalled> {
    let in_place = trust_store::installed_list(&host.config.trust.state, &host.trusted);
    let Some(bundle) = state.bundle() else {
        return Ok(kept(host).unwrap_or_else(revoked_keys::empty));
    };
    let offered = &bundle.document.revocations;
    // A list by bundle keys that were all replaced may have any number, and be anybody's.
    if state.floor_counts()
        && in_place.is_some_and(|krl| krl.version > offered.number)
        && let Some(kept) = kept(host)
    {
        warnings.push("the revocation list in place is newer than the installed bundle".to_owned());
        return Ok(kept);
    }
    let krl = offered.read().map_err(NotInstalled::List)?;
    let bytes = for_version(&krl, offered.krl.as_slice(), version, warnings)?;
    let cas: Vec<CaKey> = state
        .root()
        .user_cas
        .iter()
        .map(|ca| ca.key.clone())
        .collect();
    revocations::check(
        &bytes,
        &krl,
        &cas,
        &host.config.trust.state,
        &host.ssh_keygen,
    )?;
    Ok(bytes)
}

/// What is in place, where sshd can read it: ours, or the empty one of the installation.
fn kept(host: &Host) -> Option<Vec<u8>> {
    let path = host.config.trust.state.join(REVOKED_KEYS_FILE);
    let bytes = host.trusted.read(&path, krl::MAX_SIZE).ok()?;
    (krl::read(&bytes).is_ok() || bytes == revoked_keys::empty()).then_some(bytes)
}

fn for_version(
    krl: &Krl,
    bytes: &[u8],
    version: Version,
    warnings: &mut Vec<String>,
) -> Result<Vec<u8>, NotInstalled> {
    if version >= FINGERPRINT_LISTS || krl.fingerprints().next().is_none() {
        return Ok(bytes.to_vec());
    }
    warnings.push(format!(
        "{version} cannot read revocations by fingerprint: {} are not in force here",
        krl.fingerprints().count()
    ));
    Ok(krl.without_fingerprints().encode()?.bytes)
}

/// Who signed the list: the bundle's key, or, of one that stays in place, who it was.
fn noted(list: &[u8], state: &TrustState, host: &Host) -> Option<InstalledList> {
    let list = krl::read(list).ok()?;
    let offered = state.bundle().map(|bundle| &bundle.document.revocations);
    if offered.is_some_and(|offered| offered.number == list.version) {
        let bundle_key = state.bundle_signer()?.fingerprint();
        let number = list.version;
        return Some(InstalledList { number, bundle_key });
    }
    trust_store::noted(&host.config.trust, &host.trusted, &list)
}

fn login_trust(state: &TrustState, host: &Host) -> LoginTrust {
    let bundle = state.bundle().map(|bundle| &bundle.document);
    LoginTrust {
        roots: since_last_pinned(state, host),
        view: state.view().map(|view| view.envelope.clone()),
        endorsements: bundle.map(|b| b.endorsements.clone()).unwrap_or_default(),
        list: None,
        oldest_view: bundle.map_or(0, |bundle| bundle.oldest_view),
        hard_stop: bundle.and_then(|bundle| bundle.hard_stop),
    }
}

/// The newest root that a pinned key signed, and those after it: a login need not walk years of roots.
fn since_last_pinned(state: &TrustState, host: &Host) -> Vec<Envelope> {
    let pins = host.config.trust.root_fingerprints.iter();
    let pins = pins.map(ToString::to_string).collect();
    let roots = state.roots();
    let last = roots
        .iter()
        .rposition(|root| Root::pinned(root, &pins).is_ok());
    roots.get(last.unwrap_or(0)..).unwrap_or_default().to_vec()
}

fn installed(state: &TrustState) -> Installed {
    let bundle = state.bundle().map(|bundle| &bundle.document);
    let view = state.view().map(|view| &view.document);
    let refresh = [
        bundle.map(|b| b.refresh_after),
        view.map(|v| v.refresh_after),
    ];
    let stops = [
        bundle.and_then(|b| b.hard_stop),
        view.and_then(|v| v.hard_stop),
    ];
    Installed {
        root_version: state.root().version,
        bundle_sequence: bundle.map(|bundle| bundle.sequence),
        host_view_version: view.map(|view| view.version),
        refresh_after: refresh.into_iter().flatten().min(),
        hard_stop: stops.into_iter().flatten().min(),
    }
}

/// Why nothing was changed; after `Write` of a rename, a repair is due.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotInstalled {
    #[error("have the state folder to oneself")]
    Lock(#[source] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sshd(#[from] SshdError),
    #[error("install the CA keys: the documents name none that this sshd ({0}) can read")]
    NoCaKeys(Version),
    #[error("read the revocation list")]
    List(#[source] krl::UnreadableKrl),
    #[error("write the revocation list")]
    Encode(#[from] TooLarge),
    #[error(transparent)]
    NotReadable(#[from] NotReadable),
    #[error(transparent)]
    Write(#[from] NotWritten),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust_state::tests::public;
    use eic_protocol::key_fingerprint::KeyFingerprint;
    use eic_protocol::krl::{RevocationSet, RevokedKey, Target};

    #[test]
    fn fingerprints_are_left_out_for_an_sshd_that_would_refuse_every_key_over_them() {
        let mut set = RevocationSet::new();
        let fingerprint = KeyFingerprint::of_blob(public(40).blob());
        set.insert(Target::Fingerprint(fingerprint), None);
        set.insert(
            Target::Key(RevokedKey::from_blob(public(41).blob()).unwrap()),
            None,
        );
        let krl = set.krl(3, 1_000, "test".parse().unwrap());
        let bytes = krl.encode().unwrap().bytes;
        let mut told = Vec::new();
        let old = Version { major: 7, minor: 4 };
        let shown = for_version(&krl, &bytes, old, &mut told).unwrap();
        let read = krl::read(&shown).unwrap();
        assert!(read.revokes_key(public(41).blob()) && !read.revokes_key(public(40).blob()));
        assert!(told[0].contains("1 are not in force"), "{told:?}");
        let new = Version { major: 9, minor: 2 };
        assert_eq!(for_version(&krl, &bytes, new, &mut told).unwrap(), bytes);
        assert_eq!(told.len(), 1);
    }
}
