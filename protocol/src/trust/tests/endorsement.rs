//! Tests of endorsements: who may endorse, and that nobody endorses more than he has.

use super::super::endorsement::{EndorsedKey, Endorsement, MAX_HOURS};
use super::*;

fn ca(key: &PrivateKey) -> CaKey {
    CaKey::new(subject(key)).unwrap()
}

pub(super) fn endorsed_key(key: &PrivateKey) -> EndorsedKey {
    EndorsedKey {
        key: ca(key),
        not_before: NOW,
        not_after: NOW + 3_600,
        users: None,
    }
}

pub(super) fn endorsement(by: &PrivateKey, keys: Vec<EndorsedKey>) -> Envelope {
    let document = Endorsement {
        endorser: ca(by),
        issued: NOW,
        keys,
    };
    envelope(Namespace::Endorsement, &document, &[by])
}

/// A change to the endorsed key, and the endorser's scope; what comes of it.
fn endorsed(
    change: impl FnOnce(&mut EndorsedKey),
    scope: Scope,
) -> Result<Vec<ScopedCa>, Untrusted> {
    let keys = keys();
    let mut root = root(&keys, 1, 1);
    root.user_cas[0].scope = scope;
    let mut key = endorsed_key(&private_key());
    change(&mut key);
    Endorsement::verified(&endorsement(&keys.ca, vec![key]), &root)
}

fn users(names: &[&str]) -> Option<BTreeSet<crate::os_user::OsUser>> {
    Some(names.iter().map(|name| name.parse().unwrap()).collect())
}

#[test]
fn only_a_user_ca_that_counts_may_endorse() {
    let keys = keys();
    let mut root = root(&keys, 1, 1);
    let fresh = || vec![endorsed_key(&private_key())];
    let good = endorsement(&keys.ca, fresh());
    assert_eq!(Endorsement::verified(&good, &root).unwrap().len(), 1);
    for stranger in [&private_key(), &keys.bundle, &keys.roots[0]] {
        assert!(Endorsement::verified(&endorsement(stranger, fresh()), &root).is_err());
    }
    // No chains: an endorsed key endorses nobody.
    root.user_cas[0].scope.endorsed = true;
    assert!(Endorsement::verified(&good, &root).is_err());
    root.user_cas[0].scope.endorsed = false;
    root.user_cas[0].state = KeyState::Announced;
    assert!(Endorsement::verified(&good, &root).is_ok());
    root.user_cas[0].state = KeyState::Retired;
    assert!(Endorsement::verified(&good, &root).is_err());
}

#[test]
fn a_signature_by_another_ca_or_for_another_purpose_is_refused() {
    // One CA cannot endorse in another's name, whose scope may be wider.
    let (keys, second) = (keys(), private_key());
    let mut root = root(&keys, 1, 1);
    root.user_cas.push(ScopedCa {
        key: ca(&second),
        ..root.user_cas[0].clone()
    });
    let document = Endorsement {
        endorser: ca(&keys.ca),
        issued: NOW,
        keys: vec![endorsed_key(&private_key())],
    };
    let by_other = envelope(Namespace::Endorsement, &document, &[&second]);
    assert!(Endorsement::verified(&by_other, &root).is_err());
    let as_bundle = envelope(Namespace::Bundle, &document, &[&keys.ca]);
    assert!(Endorsement::verified(&as_bundle, &root).is_err());
}

#[test]
fn hours_that_are_reversed_too_many_or_beyond_the_endorsers_are_refused() {
    let hours = |from: u64, to: u64| {
        move |key: &mut EndorsedKey| {
            key.not_before = from;
            key.not_after = to;
        }
    };
    let bounded = || Scope {
        not_before: Some(NOW),
        not_after: Some(NOW + 7_200),
        ..Scope::default()
    };
    assert!(endorsed(hours(NOW, NOW + 7_200), bounded()).is_ok());
    assert!(endorsed(hours(NOW, NOW + MAX_HOURS), Scope::default()).is_ok());
    for (from, to) in [
        (NOW + 1, NOW),
        (NOW, NOW),
        (NOW, NOW + MAX_HOURS + 1),
        (0, u64::MAX),
    ] {
        assert!(endorsed(hours(from, to), Scope::default()).is_err());
    }
    assert!(endorsed(hours(NOW - 1, NOW + 10), bounded()).is_err());
    assert!(endorsed(hours(NOW, NOW + 7_201), bounded()).is_err());
}

#[test]
fn a_key_with_another_purpose_or_type_is_refused() {
    let keys = keys();
    let root = root(&keys, 1, 1);
    let refused = |key: CaKey| {
        let key = EndorsedKey {
            key,
            ..endorsed_key(&private_key())
        };
        Endorsement::verified(&endorsement(&keys.ca, vec![key]), &root).is_err()
    };
    for taken in [&keys.ca, &keys.bundle, &keys.roots[0]] {
        assert!(refused(ca(taken)));
    }
    let ecdsa = crate::subject_key::tests::generated("ecdsa", "256");
    assert!(refused(ecdsa.parse().unwrap()));
    assert!(Endorsement::verified(&endorsement(&keys.ca, vec![]), &root).is_err());
    let many = (0..17).map(|_| endorsed_key(&private_key())).collect();
    assert!(Endorsement::verified(&endorsement(&keys.ca, many), &root).is_err());
}

#[test]
fn an_endorsed_key_never_opens_uid_0_or_more_users_than_its_endorser() {
    // J-17
    let (ubuntu, root_user) = ("ubuntu".parse().unwrap(), "root".parse().unwrap());
    let scope = |own: Option<BTreeSet<_>>, endorsers: Option<BTreeSet<_>>| {
        let endorser = Scope {
            users: endorsers,
            ..Scope::default()
        };
        let cas = endorsed(|key| key.users = own, endorser).unwrap();
        cas[0].scope.clone()
    };
    let free = scope(None, None);
    assert!(free.endorsed && free.admits(&ubuntu, false, NOW));
    assert!(!free.admits(&root_user, true, NOW));
    assert!(!free.admits(&ubuntu, false, NOW - 1) && !free.admits(&ubuntu, false, NOW + 3_600));
    assert_eq!(scope(None, users(&["deploy"])).users, users(&["deploy"]));
    let cut = scope(users(&["ubuntu", "deploy"]), users(&["deploy", "git"]));
    assert_eq!(cut.users, users(&["deploy"]));
    let nobody = scope(users(&["ubuntu"]), users(&["deploy"]));
    assert!(!nobody.admits(&ubuntu, false, NOW));
}
