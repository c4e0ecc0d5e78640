//! Tests of the trust documents: every way to be signed by somebody else, or for somebody else.

use std::collections::BTreeSet;

use signature::Signer as _;
use ssh_key::PrivateKey;

use super::envelope::{Envelope, EnvelopeSignature, Untrusted};
use super::host_view::{HostView, Stage};
use super::root::{KeyState, Root, Scope, ScopedCa};
use crate::base64_text::Base64Bytes;
use crate::cert::tests::{private_key, subject};
use crate::sshsig::{Namespace, blob, signed_data};
use crate::subject_key::CaKey;

mod bundle;
mod endorsement;
mod state;

const NOW: u64 = 1_800_000_000;

fn envelope(
    namespace: Namespace,
    document: &impl serde::Serialize,
    keys: &[&PrivateKey],
) -> Envelope {
    let bytes = serde_json::to_vec(document).unwrap();
    let signatures = keys.iter().map(|key| {
        let public = subject(key);
        let signature = key.try_sign(&signed_data(namespace, &bytes)).unwrap();
        let signature = blob(namespace, &public, &signature).unwrap();
        EnvelopeSignature {
            key: public,
            signature: Base64Bytes(signature),
        }
    });
    Envelope {
        signatures: signatures.collect(),
        signed: Base64Bytes(bytes.clone()),
    }
}

struct Keys {
    roots: [PrivateKey; 3],
    bundle: PrivateKey,
    ca: PrivateKey,
}

fn keys() -> Keys {
    Keys {
        roots: [private_key(), private_key(), private_key()],
        bundle: private_key(),
        ca: private_key(),
    }
}

fn root(keys: &Keys, version: u64, threshold: usize) -> Root {
    Root {
        version,
        issued: NOW,
        root_keys: keys.roots.iter().map(subject).collect(),
        threshold,
        bundle_keys: vec![subject(&keys.bundle)],
        user_cas: vec![ScopedCa {
            key: CaKey::new(subject(&keys.ca)).unwrap(),
            state: KeyState::Active,
            scope: Scope::default(),
        }],
        host_cas: Vec::new(),
    }
}

fn pins(key: &PrivateKey) -> BTreeSet<String> {
    BTreeSet::from([subject(key).fingerprint()])
}

#[test]
fn a_root_by_an_unpinned_key_or_for_another_purpose_is_refused() {
    let keys = keys();
    let document = root(&keys, 1, 1);
    let [a, b, _] = &keys.roots;
    let good = envelope(Namespace::Root, &document, &[a]);
    assert!(Root::pinned(&good, &pins(a)).is_ok());
    assert!(matches!(
        Root::pinned(&good, &pins(b)),
        Err(Untrusted::Signatures { good: 0, needed: 1 })
    ));
    let other_purpose = envelope(Namespace::HostView, &document, &[a]);
    assert!(Root::pinned(&other_purpose, &pins(a)).is_err());
    let mut changed = good.clone();
    changed.signed.0.push(b' ');
    assert!(Root::pinned(&changed, &pins(a)).is_err());
}

#[test]
fn fewer_signatures_than_the_threshold_are_refused_and_one_key_counts_once() {
    let keys = keys();
    let document = root(&keys, 1, 2);
    let [a, b, _] = &keys.roots;
    let twice = envelope(Namespace::Root, &document, &[a, a]);
    assert!(matches!(
        Root::pinned(&twice, &pins(a)),
        Err(Untrusted::Signatures { good: 1, needed: 2 })
    ));
    assert!(Root::pinned(&envelope(Namespace::Root, &document, &[a, b]), &pins(a)).is_ok());
}

#[test]
fn a_root_with_an_impossible_threshold_is_refused() {
    let keys = keys();
    let [a, b, c] = &keys.roots;
    for threshold in [0, 4] {
        let signed = envelope(Namespace::Root, &root(&keys, 1, threshold), &[a, b, c]);
        assert!(
            matches!(
                Root::pinned(&signed, &pins(a)),
                Err(Untrusted::Malformed(_))
            ),
            "{threshold}"
        );
    }
}

#[test]
fn a_successor_needs_the_old_keys_the_new_keys_and_the_next_version() {
    let (old, new) = (keys(), keys());
    let current = root(&old, 1, 1);
    let (old_key, new_key) = (&old.roots[0], &new.roots[0]);
    let next = root(&new, 2, 1);
    assert!(
        current
            .successor(&envelope(Namespace::Root, &next, &[old_key, new_key]))
            .is_ok()
    );
    assert!(
        current
            .successor(&envelope(Namespace::Root, &next, &[old_key]))
            .is_err()
    );
    assert!(
        current
            .successor(&envelope(Namespace::Root, &next, &[new_key]))
            .is_err()
    );
    for version in [0, 1, 3, u64::MAX] {
        let wrong = envelope(
            Namespace::Root,
            &root(&new, version, 1),
            &[old_key, new_key],
        );
        assert!(
            matches!(
                current.successor(&wrong),
                Err(Untrusted::Rollback { .. } | Untrusted::Gap { .. })
            ),
            "{version}"
        );
    }
}

fn view() -> HostView {
    HostView {
        version: 1,
        instance: "i-0123456789abcdef0".parse().unwrap(),
        fleets: Vec::new(),
        stage: Stage::Hybrid,
        os_users: Vec::new(),
        root_version: 1,
        issued: NOW,
        refresh_after: NOW + 3_600,
        hard_stop: Some(NOW + 100),
    }
}

#[test]
fn a_view_of_another_host_by_another_key_or_after_its_hard_stop_is_refused() {
    // J-16
    let keys = keys();
    let root = root(&keys, 1, 1);
    let here = view().instance;
    let good = envelope(Namespace::HostView, &view(), &[&keys.bundle]);
    assert_eq!(HostView::verified(&good, &root, &here, NOW), Ok(view()));
    let clone = "i-0123456789abcdef1".parse().unwrap();
    assert!(matches!(
        HostView::verified(&good, &root, &clone, NOW),
        Err(Untrusted::OtherHost(_))
    ));
    assert_eq!(
        HostView::verified(&good, &root, &here, NOW + 100),
        Err(Untrusted::HardStop)
    );
    let by_root = envelope(Namespace::HostView, &view(), &[&keys.roots[0]]);
    assert!(HostView::verified(&by_root, &root, &here, NOW).is_err());
    let newer = HostView {
        root_version: 2,
        ..view()
    };
    let newer = envelope(Namespace::HostView, &newer, &[&keys.bundle]);
    assert!(matches!(
        HostView::verified(&newer, &root, &here, NOW),
        Err(Untrusted::Rollback { .. })
    ));
}

#[test]
fn duplicate_and_unknown_members_are_refused() {
    // F-18
    let keys = keys();
    let text = serde_json::to_string(&view()).unwrap();
    let root = root(&keys, 1, 1);
    for bad in [
        text.replacen('{', "{\"version\":2,", 1),
        text.replacen('{', "{\"more\":2,", 1),
        format!("{text} x"),
    ] {
        let signature = keys
            .bundle
            .try_sign(&signed_data(Namespace::HostView, bad.as_bytes()))
            .unwrap();
        let key = subject(&keys.bundle);
        let signature = Base64Bytes(blob(Namespace::HostView, &key, &signature).unwrap());
        let signed = Envelope {
            signed: Base64Bytes(bad.into_bytes()),
            signatures: vec![EnvelopeSignature { key, signature }],
        };
        let refused = HostView::verified(&signed, &root, &view().instance, NOW);
        assert!(
            matches!(refused, Err(Untrusted::Malformed(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn scopes_bound_users_hours_and_uid_0() {
    // J-17
    let (ubuntu, root) = ("ubuntu".parse().unwrap(), "root".parse().unwrap());
    let endorsed = Scope {
        endorsed: true,
        not_before: Some(10),
        not_after: Some(20),
        ..Scope::default()
    };
    assert!(endorsed.admits(&ubuntu, false, 10) && endorsed.admits(&ubuntu, false, 19));
    assert!(!endorsed.admits(&ubuntu, false, 9) && !endorsed.admits(&ubuntu, false, 20));
    assert!(!endorsed.admits(&root, true, 15));
    let named = Scope {
        users: Some(BTreeSet::from([ubuntu.clone()])),
        ..Scope::default()
    };
    assert!(named.admits(&ubuntu, false, 0) && !named.admits(&root, true, 0));
}

#[test]
fn retired_cas_are_not_found() {
    let keys = keys();
    let mut document = root(&keys, 1, 1);
    let fingerprint = document.user_cas[0].key.fingerprint();
    assert!(document.user_ca(&fingerprint).is_some());
    document.user_cas[0].state = KeyState::Retired;
    assert!(document.user_ca(&fingerprint).is_none());
}
