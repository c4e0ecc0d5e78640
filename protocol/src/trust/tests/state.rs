//! Tests of the one function that takes newer documents: what goes together, and what is kept otherwise.

use super::super::bundle::{Bundle, Freshness};
use super::super::state::{Advance, Anchor, Documents, Refusal, TrustState};
use super::bundle::{HOUR, bundle, revocations, revoked};
use super::endorsement::{endorsed_key, endorsement};
use super::*;

/// A CA with its documents.
struct Ca {
    keys: Keys,
}

impl Ca {
    fn new() -> Self {
        Self { keys: keys() }
    }

    fn root_key(&self) -> &PrivateKey {
        &self.keys.roots[0]
    }

    fn root(&self, version: u64) -> Envelope {
        self.changed_root(version, |_| {})
    }

    fn changed_root(&self, version: u64, change: impl FnOnce(&mut Root)) -> Envelope {
        let mut document = root(&self.keys, version, 1);
        change(&mut document);
        envelope(Namespace::Root, &document, &[self.root_key()])
    }

    fn bundle(&self, document: &Bundle) -> Envelope {
        envelope(Namespace::Bundle, document, &[&self.keys.bundle])
    }

    fn view(&self, document: &HostView) -> Envelope {
        envelope(Namespace::HostView, document, &[&self.keys.bundle])
    }

    fn anchor(&self) -> Anchor {
        Anchor {
            instance: view().instance,
            pins: pins(self.root_key()),
            sequence_floor: 0,
            floor_key: None,
        }
    }

    /// Root 1, bundle 7, view 1.
    fn installed(&self) -> TrustState {
        let (roots, bundle, view) = (
            [self.root(1)],
            self.bundle(&bundle(7)),
            self.view(&long_view(1)),
        );
        let documents = Documents {
            roots: &roots,
            bundle: Some(&bundle),
            view: Some(&view),
        };
        TrustState::load(self.anchor(), &documents).unwrap()
    }
}

fn long_view(version: u64) -> HostView {
    HostView {
        version,
        hard_stop: None,
        ..view()
    }
}

fn sequence(state: &TrustState) -> u64 {
    state.bundle().map_or(0, |b| b.document.sequence)
}

fn view_version(state: &TrustState) -> u64 {
    state.view().map_or(0, |v| v.document.version)
}

/// What a restart would find: everything that is kept must verify from the pins on.
fn reloaded(ca: &Ca, state: &TrustState) -> TrustState {
    let documents = Documents {
        roots: state.roots(),
        bundle: state.bundle().map(|b| &b.envelope),
        view: state.view().map(|v| &v.envelope),
    };
    TrustState::load(ca.anchor(), &documents).unwrap()
}

fn bundles<'a>(roots: &'a [Envelope], bundle: &'a Envelope) -> Documents<'a> {
    Documents {
        roots,
        bundle: Some(bundle),
        view: None,
    }
}

#[test]
fn installed_documents_of_another_ca_or_host_are_refused() {
    let (ca, other) = (Ca::new(), Ca::new());
    let roots = [ca.root(1)];
    let load = |anchor, bundle: &Envelope, view: &Envelope| {
        let documents = Documents {
            roots: &roots,
            bundle: Some(bundle),
            view: Some(view),
        };
        TrustState::load(anchor, &documents).err()
    };
    let good = (ca.bundle(&bundle(7)), ca.view(&view()));
    assert_eq!(load(ca.anchor(), &good.0, &good.1), None);
    assert!(matches!(
        load(other.anchor(), &good.0, &good.1),
        Some(Refusal::Root(_))
    ));
    assert!(matches!(
        load(ca.anchor(), &other.bundle(&bundle(7)), &good.1),
        Some(Refusal::Bundle(_))
    ));
    let clone = Anchor {
        instance: "i-0123456789abcdef1".parse().unwrap(),
        ..ca.anchor()
    };
    assert!(matches!(
        load(clone, &good.0, &good.1),
        Some(Refusal::View(_))
    ));
    assert!(TrustState::load(ca.anchor(), &Documents::default()).is_err());
}

#[test]
fn newer_documents_are_taken_together() {
    let ca = Ca::new();
    let (roots, bundle, view) = ([ca.root(2)], ca.bundle(&bundle(8)), ca.view(&long_view(2)));
    let offered = Documents {
        roots: &roots,
        bundle: Some(&bundle),
        view: Some(&view),
    };
    let Advance { state, refused } = ca.installed().advance(&offered, NOW);
    assert_eq!(refused, None);
    assert_eq!(
        (state.root().version, sequence(&state), view_version(&state)),
        (2, 8, 2)
    );
    let again = reloaded(&ca, &state).advance(&offered, NOW);
    assert_eq!((again.refused, again.state.roots().len()), (None, 2));
}

#[test]
fn rollback_of_bundle_view_and_root_is_refused() {
    // F-07
    let ca = Ca::new();
    let installed = ca.installed();
    let older = ca.bundle(&bundle(6));
    let kept = installed.advance(&bundles(&[], &older), NOW);
    assert!(matches!(kept.refused, Some(Refusal::Bundle(_))));
    assert_eq!(sequence(&kept.state), 7);
    let old_view = ca.view(&long_view(0));
    let offered = Documents {
        view: Some(&old_view),
        ..Documents::default()
    };
    let kept = installed.advance(&offered, NOW);
    assert!(matches!(kept.refused, Some(Refusal::View(_))));
    assert_eq!(view_version(&kept.state), 1);
    // An old root is passed over, not gone back to.
    let next = installed
        .advance(&bundles(&[ca.root(2)], &ca.bundle(&bundle(8))), NOW)
        .state;
    let back = next.advance(&bundles(&[ca.root(1)], &ca.bundle(&bundle(9))), NOW);
    assert_eq!((back.refused, back.state.root().version), (None, 2));
}

#[test]
fn two_views_of_one_version_are_refused() {
    let ca = Ca::new();
    let other = HostView {
        stage: Stage::CertificatesOnly,
        ..long_view(1)
    };
    let offered = ca.view(&other);
    let offered = Documents {
        view: Some(&offered),
        ..Documents::default()
    };
    let kept = ca.installed().advance(&offered, NOW);
    assert!(matches!(kept.refused, Some(Refusal::View(_))));
}

#[test]
fn a_deleted_state_does_not_make_an_old_bundle_good() {
    // F-07: the floor came with the installation.
    let ca = Ca::new();
    let anchor = |floor| Anchor {
        sequence_floor: floor,
        ..ca.anchor()
    };
    let roots = [ca.root(1)];
    let fresh = |floor| {
        let documents = Documents {
            roots: &roots,
            ..Documents::default()
        };
        TrustState::load(anchor(floor), &documents).unwrap()
    };
    let offered = ca.bundle(&bundle(7));
    let kept = fresh(8).advance(&bundles(&[], &offered), NOW);
    assert!(matches!(kept.refused, Some(Refusal::Bundle(_))));
    let taken = fresh(7).advance(&bundles(&[], &offered), NOW);
    assert_eq!((taken.refused, sequence(&taken.state)), (None, 7));
    // With the keys that it came with, the floor ends.
    let second = private_key();
    let replaced = ca.changed_root(2, |root| root.bundle_keys = vec![subject(&second)]);
    let first = envelope(Namespace::Bundle, &bundle(1), &[&second]);
    let taken = fresh(8).advance(&bundles(&[replaced], &first), NOW);
    assert_eq!((taken.refused, sequence(&taken.state)), (None, 1));
}

#[test]
fn numbers_count_as_a_floor_until_a_root_has_replaced_all_of_their_keys() {
    let ca = Ca::new();
    let (old, second) = (ca.keys.bundle.clone(), private_key());
    let named = |version, keys: &[&PrivateKey]| {
        let keys = keys.iter().map(|key| subject(key)).collect();
        ca.changed_root(version, |root| root.bundle_keys = keys)
    };
    let roots = [ca.root(1), named(2, &[&second, &old]), named(3, &[&second])];
    let counts = |known: usize, by: Option<&PrivateKey>| {
        let anchor = Anchor {
            floor_key: by.map(|key| subject(key).fingerprint()),
            ..ca.anchor()
        };
        let state = TrustState::load(anchor, &roots_only(&roots[..known])).unwrap();
        state.floor_counts()
    };
    let by = |key| [1, 2, 3].map(|known| counts(known, key));
    assert_eq!(by(None), [true, true, false]);
    assert_eq!(by(Some(&old)), [true, true, false]);
    // A list that came with the second key is no older for the first one's end.
    assert_eq!(by(Some(&second)), [false, true, true]);
}

#[test]
fn a_host_that_slept_walks_every_root_and_no_gap() {
    let ca = Ca::new();
    let roots: Vec<_> = (2..=40).map(|version| ca.root(version)).collect();
    let newest = Bundle {
        root_version: 40,
        ..bundle(500)
    };
    let newest = ca.bundle(&newest);
    let awake = ca.installed().advance(&bundles(&roots, &newest), NOW);
    assert_eq!(awake.refused, None);
    assert_eq!(reloaded(&ca, &awake.state).root().version, 40);
    let gap = [&roots[..10], &roots[11..]].concat();
    let kept = ca.installed().advance(&bundles(&gap, &newest), NOW);
    assert!(matches!(kept.refused, Some(Refusal::Root(_))));
    assert_eq!((kept.state.root().version, sequence(&kept.state)), (1, 7));
    // Without the roots that it goes with, the bundle does not count.
    let kept = ca.installed().advance(&bundles(&[], &newest), NOW);
    assert!(matches!(kept.refused, Some(Refusal::Bundle(_))));
}

/// F-07: a host that changes its roots for years must not find the way to the next one full.
#[test]
fn roots_that_later_ones_do_without_are_left_out() {
    let ca = Ca::new();
    let mut replaced = Ca::new();
    replaced.keys.bundle = ca.keys.bundle.clone();
    let both = [ca.root_key(), replaced.root_key()];
    let handover = |version| envelope(Namespace::Root, &root(&replaced.keys, version, 1), &both);
    let mut state = ca.installed();
    for version in 2..=700 {
        let next = match version {
            ..=299 => ca.root(version),
            300 => handover(version),
            _ => replaced.root(version),
        };
        let advance = state.advance(&roots_only(&[next]), NOW);
        assert_eq!(
            advance.state.root().version,
            version,
            "{:?}",
            advance.refused
        );
        state = advance.state;
    }
    assert!(state.roots().len() < 512, "{}", state.roots().len());
    let versions = |state: &TrustState| (state.root().version, state.roots().len());
    let again = TrustState::load(ca.anchor(), &roots_only(state.roots())).unwrap();
    assert_eq!(versions(&again), versions(&state));
    let kept = Root::history(state.roots(), &pins(ca.root_key())).unwrap();
    assert_eq!(kept.version, 700);
    assert!(matches!(
        Root::served(state.roots(), &pins(ca.root_key())),
        Err(Untrusted::Gap { .. })
    ));
}

fn roots_only(roots: &[Envelope]) -> Documents<'_> {
    Documents {
        roots,
        ..Documents::default()
    }
}

#[test]
fn a_forged_root_anywhere_on_the_way_is_refused() {
    let (ca, other) = (Ca::new(), Ca::new());
    let newest = ca.bundle(&bundle(8));
    for roots in [vec![other.root(2)], vec![ca.root(2), other.root(3)]] {
        let kept = ca.installed().advance(&bundles(&roots, &newest), NOW);
        assert!(matches!(kept.refused, Some(Refusal::Root(_))));
        assert_eq!(kept.state.root().version, 1);
    }
    // A forgery with a version that was walked already is passed over and not kept.
    let roots = [ca.root(2), other.root(2)];
    let taken = ca.installed().advance(&bundles(&roots, &newest), NOW);
    assert_eq!((taken.refused, taken.state.roots().len()), (None, 2));
}

#[test]
fn root_keys_are_replaced_step_by_step() {
    let (old, new) = (Ca::new(), Ca::new());
    let handover = Root {
        version: 2,
        root_keys: vec![subject(new.root_key())],
        ..root(&old.keys, 2, 1)
    };
    let both = envelope(
        Namespace::Root,
        &handover,
        &[old.root_key(), new.root_key()],
    );
    let last = Root {
        version: 3,
        ..handover
    };
    let last = envelope(Namespace::Root, &last, &[new.root_key()]);
    let newest = old.bundle(&bundle(8));
    let walked = old
        .installed()
        .advance(&bundles(&[both, last], &newest), NOW);
    assert_eq!((walked.refused, walked.state.root().version), (None, 3));
    // The pin is still the first root's key, and the history still leads from it.
    assert_eq!(reloaded(&old, &walked.state).root().version, 3);
}

#[test]
fn a_refused_bundle_does_not_hold_back_the_retirement_of_a_ca() {
    // F-15
    let ca = Ca::new();
    let retired = ca.changed_root(2, |root| root.user_cas[0].state = KeyState::Retired);
    let emptied = Bundle {
        revocations: revocations(2, NOW, &revoked(&[])),
        ..bundle(8)
    };
    let offered = ca.bundle(&emptied);
    let half = ca.installed().advance(&bundles(&[retired], &offered), NOW);
    assert!(matches!(half.refused, Some(Refusal::Bundle(_))));
    assert_eq!((half.state.root().version, sequence(&half.state)), (2, 7));
    assert!(half.state.user_cas().is_empty());
}

#[test]
fn a_root_that_no_longer_trusts_what_stays_is_not_taken_alone() {
    let ca = Ca::new();
    let second = private_key();
    let replaced = [ca.changed_root(2, |root| root.bundle_keys = vec![subject(&second)])];
    let alone = Documents {
        roots: &replaced,
        ..Documents::default()
    };
    let kept = ca.installed().advance(&alone, NOW);
    assert_eq!(kept.refused, Some(Refusal::Orphaned("bundle")));
    assert_eq!(kept.state.root().version, 1);
    // With documents by the new key it is, and the sequence begins anew.
    let (bundle, view) = (
        envelope(Namespace::Bundle, &bundle(1), &[&second]),
        envelope(Namespace::HostView, &long_view(0), &[&second]),
    );
    let whole = Documents {
        roots: &replaced,
        bundle: Some(&bundle),
        view: Some(&view),
    };
    let taken = ca.installed().advance(&whole, NOW);
    assert_eq!((taken.refused, sequence(&taken.state)), (None, 1));
    assert_eq!(reloaded(&ca, &taken.state).root().version, 2);
}

#[test]
fn a_view_below_the_bundles_floor_does_not_count() {
    // Mix-and-match: an old view, with fleets that the host has left, beside a new bundle.
    let ca = Ca::new();
    let floor = Bundle {
        issued: NOW + 10,
        oldest_view: NOW + 1,
        ..bundle(8)
    };
    let raised = ca.bundle(&floor);
    let state = ca.installed().advance(&bundles(&[], &raised), NOW).state;
    assert!(state.view().is_none() && sequence(&state) == 8);
    let old = ca.view(&long_view(2));
    let offered = Documents {
        view: Some(&old),
        ..Documents::default()
    };
    assert!(matches!(
        state.advance(&offered, NOW).refused,
        Some(Refusal::View(_))
    ));
    let new = ca.view(&HostView {
        issued: NOW + 1,
        ..long_view(2)
    });
    let offered = Documents {
        view: Some(&new),
        ..Documents::default()
    };
    assert_eq!(view_version(&state.advance(&offered, NOW).state), 2);
}

#[test]
fn a_frozen_host_is_told_and_a_stopped_bundle_is_not_taken() {
    // F-19: the same bundle for ever.
    let ca = Ca::new();
    let installed = ca.installed();
    assert_eq!(installed.freshness(NOW), Freshness::Fresh);
    let same = ca.bundle(&bundle(7));
    let later = installed.advance(&bundles(&[], &same), NOW + 2 * HOUR);
    assert_eq!(later.refused, None);
    assert_eq!(later.state.freshness(NOW + 2 * HOUR), Freshness::Stale);
    let stop = NOW + 30 * 24 * HOUR;
    let stopped = installed.advance(&bundles(&[], &ca.bundle(&bundle(8))), stop);
    assert!(matches!(stopped.refused, Some(Refusal::Bundle(_))));
    assert_eq!(
        (sequence(&stopped.state), stopped.state.freshness(stop)),
        (7, Freshness::Stopped)
    );
}

#[test]
fn the_cas_of_a_state_are_the_roots_and_the_endorsed() {
    let ca = Ca::new();
    let key = private_key();
    let with_key = Bundle {
        endorsements: vec![endorsement(&ca.keys.ca, vec![endorsed_key(&key)])],
        ..bundle(8)
    };
    let offered = ca.bundle(&with_key);
    let state = ca.installed().advance(&bundles(&[], &offered), NOW).state;
    let cas = state.user_cas();
    assert_eq!(cas.len(), 2);
    assert!(cas[1].scope.endorsed && cas[1].key.key() == &subject(&key));
}
