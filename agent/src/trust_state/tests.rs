//! Documents that must not be believed, then those that are.

use super::*;
use crate::machine;
use eic_protocol::sshsig::Namespace;
use std::path::Path;

#[path = "../../tests/support/documents.rs"]
mod documents;
pub(crate) use documents::*;

pub(crate) fn fingerprint(seed: u8) -> KeyFingerprint {
    public(seed).fingerprint().parse().unwrap()
}

pub(crate) fn pins() -> BTreeSet<KeyFingerprint> {
    [fingerprint(ROOT_KEY)].into()
}

impl Documents {
    pub(crate) fn state(&self) -> TrustState {
        TrustState {
            root: self.root.clone(),
            view: self.view.clone(),
            endorsed: Vec::new(),
        }
    }
}

fn verify(root: &[u8], view: &[u8]) -> Result<TrustState, NoTrust> {
    TrustState::verify(root, view, &pins(), &INSTANCE.parse().unwrap(), NOW)
}

fn refused(change: impl FnOnce(&mut Documents)) -> NoTrust {
    let mut documents = Documents::new();
    change(&mut documents);
    verify(&documents.root_json(), &documents.view_json()).unwrap_err()
}

#[test]
fn nothing_is_believed_without_a_pin() {
    let documents = Documents::new();
    let own = INSTANCE.parse().unwrap();
    let outcome = TrustState::verify(
        &documents.root_json(),
        &documents.view_json(),
        &BTreeSet::new(),
        &own,
        NOW,
    );
    assert!(matches!(outcome, Err(NoTrust::NothingPinned)));
}

#[test]
fn roots_signed_by_other_keys_are_refused() {
    let documents = Documents::new();
    let bytes = serde_json::to_vec(&documents.root).unwrap();
    for signers in [&[][..], &[BUNDLE_KEY], &[CA_KEY], &[99]] {
        let root = signed(Namespace::Root, &bytes, signers);
        assert!(
            matches!(
                verify(&root, &documents.view_json()),
                Err(NoTrust::Document {
                    file: ROOT_FILE,
                    ..
                })
            ),
            "{signers:?}"
        );
    }
    // A root key's signature for another purpose
    let root = signed(Namespace::HostView, &bytes, &[ROOT_KEY]);
    assert!(verify(&root, &documents.view_json()).is_err());
}

#[test]
fn views_signed_by_other_keys_are_refused() {
    let documents = Documents::new();
    let bytes = serde_json::to_vec(&documents.view).unwrap();
    for signers in [&[][..], &[ROOT_KEY], &[CA_KEY], &[99]] {
        let view = signed(Namespace::HostView, &bytes, signers);
        assert!(
            matches!(
                verify(&documents.root_json(), &view),
                Err(NoTrust::Document {
                    file: VIEW_FILE,
                    ..
                })
            ),
            "{signers:?}"
        );
    }
}

#[test]
fn changed_documents_are_refused() {
    let documents = Documents::new();
    let mut envelope: Envelope = serde_json::from_slice(&documents.root_json()).unwrap();
    let at = envelope.signed.0.len() - 2;
    envelope.signed.0[at] ^= 1;
    let changed = serde_json::to_vec(&envelope).unwrap();
    assert!(verify(&changed, &documents.view_json()).is_err());
    for garbage in [b"".as_slice(), b"<html>", b"{}", b"null", b"[]"] {
        assert!(matches!(
            verify(garbage, &documents.view_json()),
            Err(NoTrust::Envelope(ROOT_FILE))
        ));
        assert!(matches!(
            verify(&documents.root_json(), garbage),
            Err(NoTrust::Envelope(VIEW_FILE))
        ));
    }
}

#[test]
fn views_of_other_hosts_old_roots_and_past_hard_stops_are_refused() {
    // J-16, mix and match
    let document = |error| {
        matches!(
            error,
            NoTrust::Document {
                file: VIEW_FILE,
                ..
            }
        )
    };
    assert!(document(refused(
        |d| d.view.instance = "i-0fedcba9876543210".parse().unwrap()
    )));
    assert!(document(refused(|d| d.view.root_version = 6)));
    assert!(document(refused(|d| d.view.hard_stop = Some(NOW))));
    let mut documents = Documents::new();
    documents.view.hard_stop = Some(NOW + 1);
    assert!(verify(&documents.root_json(), &documents.view_json()).is_ok());
}

#[test]
fn names_with_structure_are_refused_at_load() {
    // J-05: sshd cuts at `#`, reads options before a blank, keeps CR
    let good = String::from_utf8(serde_json::to_vec(&Documents::new().view).unwrap()).unwrap();
    for evil in [
        "a#b",
        "a b",
        "a\\tb",
        "a\\rb",
        "a\\nroot@web",
        "a\\\"b",
        "a,b",
        "*",
        "restrict a",
    ] {
        let view = good.replace("\"web\"", &format!("\"{evil}\""));
        let view = signed(Namespace::HostView, view.as_bytes(), &[BUNDLE_KEY]);
        assert!(
            matches!(
                verify(&Documents::new().root_json(), &view),
                Err(NoTrust::Document {
                    file: VIEW_FILE,
                    ..
                })
            ),
            "{evil}"
        );
    }
}

#[test]
fn unknown_and_repeated_members_are_refused() {
    let good = String::from_utf8(serde_json::to_vec(&Documents::new().view).unwrap()).unwrap();
    for extra in ["\"new\":1,", "\"version\":9,"] {
        let view = good.replacen('{', &format!("{{{extra}"), 1);
        let view = signed(Namespace::HostView, view.as_bytes(), &[BUNDLE_KEY]);
        assert!(
            verify(&Documents::new().root_json(), &view).is_err(),
            "{extra}"
        );
    }
}

fn identity(folder: &Path, tag: Option<&str>, file: Option<&str>) -> (Identity, Trusted) {
    let top = folder.canonicalize().unwrap();
    let machine = match tag {
        Some(tag) => machine::tests::nitro(&top, tag),
        None => Machine::at(top.join("none")),
    };
    if let Some(text) = file {
        std::fs::write(top.join("instance-id"), text).unwrap();
    }
    let trusted = Trusted::under(&top, rustix::process::geteuid().as_raw());
    (
        Identity {
            machine,
            file: top.join("instance-id"),
        },
        trusted,
    )
}

#[test]
fn a_file_never_names_an_ec2_instance() {
    // J-16: a copied disk carries the file along
    for text in [
        "i-0123456789abcdef0\n",
        "",
        "mi-short",
        "mi-0123456789abcdef0\nx",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (identity, trusted) = identity(folder.path(), None, Some(text));
        assert!(identity.id(&trusted).is_err(), "{text:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (own, trusted) = identity(
        folder.path(),
        Some("i-0fedcba9876543210\n"),
        Some("mi-0123456789abcdef0\n"),
    );
    assert_eq!(own.id(&trusted).unwrap().as_str(), "i-0fedcba9876543210");
}

#[test]
fn xen_instances_and_hosts_without_a_name_have_no_id() {
    let folder = tempfile::tempdir().unwrap();
    let (none, trusted) = identity(folder.path(), None, None);
    assert!(matches!(none.id(&trusted), Err(NoTrust::NoId)));
    std::fs::create_dir_all(folder.path().join("none/hypervisor")).unwrap();
    std::fs::write(folder.path().join("none/hypervisor/uuid"), "ec2abc").unwrap();
    assert!(matches!(none.id(&trusted), Err(NoTrust::Xen)));
}

#[test]
fn hybrid_hosts_have_the_id_of_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let (own, trusted) = identity(folder.path(), None, Some("mi-0123456789abcdef0\n"));
    assert_eq!(own.id(&trusted).unwrap().as_str(), "mi-0123456789abcdef0");
}

#[test]
fn a_state_folder_is_read_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let (own, trusted) = identity(folder.path(), Some(INSTANCE), None);
    let documents = Documents::new();
    let trust = Trust {
        root_fingerprints: pins(),
        state: folder.path().to_path_buf(),
        bare_principals: false,
    };
    std::fs::write(folder.path().join(ROOT_FILE), documents.root_json()).unwrap();
    assert!(matches!(
        TrustState::load(&trust, &trusted, &own, NOW),
        Err(NoTrust::File(UntrustedFile::Missing(_)))
    ));
    std::fs::write(folder.path().join(VIEW_FILE), documents.view_json()).unwrap();
    let state = TrustState::load(&trust, &trusted, &own, NOW).unwrap();
    assert_eq!((state.root.version, state.view.version), (5, 9));
}
