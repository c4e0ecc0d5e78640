//! Which of two sets of documents counts, and what `trust.json` can take away but never give.

use super::*;
use crate::trust_state::tests::{
    BUNDLE_KEY, Documents, INSTANCE, NOW, ROOT_KEY, fingerprint, signed,
};
use eic_protocol::sshsig::Namespace;

fn envelope(json: &[u8]) -> Envelope {
    serde_json::from_slice(json).unwrap()
}

fn renewed(documents: &Documents) -> LoginTrust {
    LoginTrust {
        roots: vec![envelope(&documents.root_json())],
        view: Some(envelope(&documents.view_json())),
        endorsements: Vec::new(),
        list: None,
        oldest_view: 0,
        hard_stop: None,
    }
}

fn by_hand(documents: &Documents) -> ByHand {
    ByHand {
        root: envelope(&documents.root_json()),
        view: envelope(&documents.view_json()),
    }
}

fn state(renewed: &LoginTrust, hand: Option<&Documents>) -> Result<TrustState, NoTrust> {
    let pins = [fingerprint(ROOT_KEY).to_string()].into();
    let hand = hand.map(by_hand);
    renewed.state(hand.as_ref(), &pins, &INSTANCE.parse().unwrap(), NOW)
}

fn with_versions(root: u64, view: u64) -> Documents {
    let mut documents = Documents::new();
    documents.root.version = root;
    documents.view.root_version = root;
    documents.view.version = view;
    documents
}

#[test]
fn documents_that_no_pinned_key_signed_are_not_believed() {
    let mut foreign = renewed(&Documents::new());
    let bytes = serde_json::to_vec(&Documents::new().root).unwrap();
    foreign.roots = vec![envelope(&signed(Namespace::Root, &bytes, &[BUNDLE_KEY]))];
    assert!(state(&foreign, None).is_err());
    foreign.roots.clear();
    assert!(state(&foreign, Some(&Documents::new())).is_err());
}

#[test]
fn limits_take_away() {
    let documents = Documents::new();
    let mut limited = renewed(&documents);
    limited.hard_stop = Some(NOW);
    assert!(state(&limited, None).is_err());
    limited.hard_stop = Some(NOW + 1);
    assert!(state(&limited, None).is_ok());
    limited.oldest_view = documents.view.issued + 1;
    assert!(matches!(state(&limited, None), Err(NoTrust::OldView)));
}

#[test]
fn the_newer_of_two_sets_counts() {
    let service = renewed(&with_versions(5, 20));
    for (hand, expected) in [
        (with_versions(5, 9), (5, 20)),
        (with_versions(5, 21), (5, 21)),
        (with_versions(6, 1), (6, 1)),
        (with_versions(4, 99), (5, 99)),
    ] {
        let state = state(&service, Some(&hand)).unwrap();
        assert_eq!((state.root.version, state.view.version), expected);
    }
}

#[test]
fn a_newer_claim_without_a_signature_is_passed_over() {
    let service = renewed(&with_versions(5, 20));
    let mut forged = by_hand(&with_versions(9, 99));
    forged.root.signatures.clear();
    forged.view.signatures.clear();
    let pins = [fingerprint(ROOT_KEY).to_string()].into();
    let state = service
        .state(Some(&forged), &pins, &INSTANCE.parse().unwrap(), NOW)
        .unwrap();
    assert_eq!((state.root.version, state.view.version), (5, 20));
}
