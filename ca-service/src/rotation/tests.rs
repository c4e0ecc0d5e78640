//! Tests of the parent module.

use std::path::Path;
use std::sync::LazyLock;

use eic_protocol::trust::root::Root;

use super::*;
use crate::issuance::tests::{local_signer, subject};
use crate::keys::{KeyType, RootKeys, root, root_history};
use crate::signer::document::RootKey;

const DAY: u64 = 86_400;
const MADE: u64 = 1_800_000_000;
const ANNOUNCED: u64 = MADE + 10 * DAY;

/// A CA whose second root announces a spare key.
struct Ca {
    folder: tempfile::TempDir,
    root_key: RootKey,
    first: CaKey,
    spare: CaKey,
}

impl Ca {
    fn new() -> Self {
        let key = || CaKey::new(subject()).unwrap();
        let ca = Self {
            folder: tempfile::tempdir().unwrap(),
            root_key: RootKey::new(local_signer(KeyType::Ed25519)),
            first: key(),
            spare: key(),
        };
        let mut keys = RootKeys {
            user_ca: ca.first.clone(),
            spares: Vec::new(),
            host_ca: key(),
            bundle: subject(),
        };
        let first = root::first(&keys, ca.root_key.public(), MADE);
        root::write(&ca.path(), &ca.root_key.seal(&first).unwrap()).unwrap();
        keys.spares.push(ca.spare.clone());
        ca.succeed(&root::next(&first, &keys, ANNOUNCED).unwrap());
        ca
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("root.json")
    }

    fn succeed(&self, next: &Root) {
        let envelope = self.root_key.seal(next).unwrap();
        root_history::succeed(&self.path(), &envelope).unwrap();
    }

    fn roots(&self) -> RootHistory {
        RootHistory::read(&self.path()).unwrap()
    }

    fn gate(&self, key: &CaKey, last: Option<&CaKey>, now: u64) -> Result<(), NotYet> {
        let last = last.map(CaKey::fingerprint);
        judge(
            &answering(key),
            &by(&self.roots(), None, last.as_deref(), now),
        )
    }

    /// The chosen key of the configured first and spare ones.
    fn choice(&self, chosen: Option<&CaKey>, last: Option<&CaKey>, now: u64) -> Choice {
        let (chosen, last) = (chosen.map(CaKey::fingerprint), last.map(CaKey::fingerprint));
        let roots = self.roots();
        let candidates = [&self.first, &self.spare].map(answering);
        choose(
            &candidates,
            &by(&roots, chosen.as_deref(), last.as_deref(), now),
        )
    }
}

fn answering(key: &CaKey) -> Candidate<'_> {
    Candidate {
        key,
        revoked: false,
        answers: true,
    }
}

fn by<'a>(
    roots: &'a RootHistory,
    chosen: Option<&'a str>,
    last: Option<&'a str>,
    now: u64,
) -> Circumstances<'a> {
    Circumstances {
        roots,
        chosen,
        last,
        served: &SERVED,
        propagation: DAY,
        now,
    }
}

/// Both roots as soon as they were made.
static SERVED: LazyLock<BTreeMap<u64, u64>> = LazyLock::new(|| [(1, MADE), (2, ANNOUNCED)].into());

#[test]
fn a_key_that_hosts_cannot_have_yet_does_not_sign() {
    // F-16
    let ca = Ca::new();
    let known_at = ANNOUNCED + DAY;
    for now in [ANNOUNCED, known_at - 1] {
        let refused = ca.gate(&ca.spare, Some(&ca.first), now);
        assert_eq!(refused, Err(NotYet::Propagating(known_at)));
    }
    assert_eq!(ca.gate(&ca.spare, Some(&ca.first), known_at), Ok(()));
    let stranger = CaKey::new(subject()).unwrap();
    let refused = ca.gate(&stranger, Some(&ca.first), known_at);
    assert_eq!(refused, Err(NotYet::Unannounced));
}

#[test]
fn why_a_key_does_not_sign_is_told_in_hours_and_with_what_to_do() {
    let until = NotYet::Propagating(1_800_000_000);
    assert_eq!(
        until.to_string(),
        "hosts may not know it before 2027-01-15T08:00:00Z"
    );
    assert_eq!(
        until.told_at(1_800_000_000 - 3 * 3_600 - 12 * 60),
        "hosts may not know it before 2027-01-15T08:00:00Z (in 3 h 12 min)"
    );
    for gone in [NotYet::Retired, NotYet::Revoked] {
        let told = gone.told_at(MADE);
        assert!(
            told.contains("`spare_user_cas`") && told.contains("`eic-ca keys announce`"),
            "{told}"
        );
    }
}

/// Several people sign over days, or nobody serves it: what counts is when hosts could fetch it.
#[test]
fn a_key_whose_root_nobody_could_fetch_yet_does_not_sign() {
    // F-16
    let ca = Ca::new();
    let (roots, last) = (ca.roots(), ca.first.fingerprint());
    let gate = |served: &[(u64, u64)], now| {
        let served = served.iter().copied().collect();
        let by = Circumstances {
            served: &served,
            ..by(&roots, None, Some(&last), now)
        };
        judge(&answering(&ca.spare), &by)
    };
    let late = ANNOUNCED + 5 * DAY;
    assert_eq!(gate(&[], late), Err(NotYet::Unserved));
    assert_eq!(gate(&[(1, MADE)], late), Err(NotYet::Unserved));
    let served = [(1, MADE), (2, late)];
    assert_eq!(gate(&served, late), Err(NotYet::Propagating(late + DAY)));
    assert_eq!(gate(&served, late + DAY), Ok(()));
    // A root in between that was replaced at once came with the next one.
    assert_eq!(gate(&[(1, MADE), (3, late)], late + DAY), Ok(()));
}

#[test]
fn a_key_that_does_not_answer_signs_in_nobodys_place() {
    let ca = Ca::new();
    let (roots, known) = (ca.roots(), ANNOUNCED + DAY);
    let print = ca.first.fingerprint();
    let silent = |key| Candidate {
        answers: false,
        ..answering(key)
    };
    let choice = |first, spare, now| {
        let by = by(&roots, Some(&print), Some(&print), now);
        choose(&[first, spare], &by).signer
    };
    let (first, spare) = (&ca.first, &ca.spare);
    assert_eq!(choice(silent(first), answering(spare), known), Some(1));
    // Where no other may, it is waited for.
    assert_eq!(choice(silent(first), answering(spare), ANNOUNCED), Some(0));
    assert_eq!(choice(silent(first), silent(spare), known), Some(0));
}

#[test]
fn of_two_successors_at_once_the_second_is_refused() {
    let ca = Ca::new();
    let present = ca.roots().present().unwrap().clone();
    let retired = |at| {
        let next = root::with_retired(&present, &ca.first.fingerprint(), None, at);
        ca.root_key.seal(&next.unwrap()).unwrap()
    };
    let (first, second) = (retired(ANNOUNCED + 1), retired(ANNOUNCED + 2));
    let lock = std::fs::File::create(ca.path().with_extension("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let path = ca.path();
    let waiting = std::thread::spawn(move || root_history::succeed(&path, &second));
    // Were there no lock, it would be in place in this time.
    let end = std::time::Instant::now() + std::time::Duration::from_millis(200);
    while !waiting.is_finished() && std::time::Instant::now() < end {
        std::thread::yield_now();
    }
    root::write(&ca.path(), &first).unwrap();
    drop(lock);
    assert!(waiting.join().unwrap().is_err());
    assert_eq!(root::read(&ca.path()).unwrap().0, first);
}

#[test]
fn who_signs_when_a_root_retires_another_key_is_active_in_it() {
    let ca = Ca::new();
    let present = ca.roots().present().unwrap().clone();
    let (first, spare) = (ca.first.fingerprint(), ca.spare.fingerprint());
    let next = root::with_retired(&present, &first, Some(&spare), ANNOUNCED + DAY).unwrap();
    let states: Vec<_> = next.user_cas.iter().map(|ca| ca.state).collect();
    assert_eq!(states, [KeyState::Retired, KeyState::Active]);
    ca.succeed(&next);
    // The configuration may name it as the first one from then on, in any order: that changes no root.
    let keys = RootKeys {
        user_ca: ca.spare.clone(),
        spares: Vec::new(),
        host_ca: next.host_cas[0].clone(),
        bundle: next.bundle_keys[0].clone(),
    };
    assert_eq!(root::next(&next, &keys, ANNOUNCED + 2 * DAY), None);
    // From announced to active is more than an announcement.
    let activates = root::next(&present, &keys, ANNOUNCED + DAY).unwrap();
    assert!(!root::only_announces(&present, &activates));
    assert_eq!(
        root::with_retired(&present, "SHA256:none", Some(&spare), 0),
        None
    );
}

#[test]
fn the_key_that_signs_goes_on_and_the_first_one_needs_no_wait() {
    let ca = Ca::new();
    assert_eq!(ca.gate(&ca.first, Some(&ca.first), MADE), Ok(()));
    // From the first root on: every host has it.
    assert_eq!(ca.gate(&ca.first, Some(&ca.spare), MADE), Ok(()));
    assert_eq!(ca.gate(&ca.spare, Some(&ca.spare), ANNOUNCED), Ok(()));
    // Where nothing was ever signed, no host can be behind.
    assert_eq!(ca.gate(&ca.spare, None, ANNOUNCED), Ok(()));
}

#[test]
fn a_retired_key_signs_nothing_and_no_change_of_the_configuration_brings_it_back() {
    let ca = Ca::new();
    let print = ca.first.fingerprint();
    let present = ca.roots().present().unwrap().clone();
    let next = root::with_retired(&present, &print, None, ANNOUNCED + 1).unwrap();
    ca.succeed(&next);
    let refused = ca.gate(&ca.first, Some(&ca.first), ANNOUNCED + DAY);
    assert_eq!(refused, Err(NotYet::Retired));
    let keys = RootKeys {
        user_ca: ca.first.clone(),
        spares: vec![ca.spare.clone()],
        host_ca: next.host_cas[0].clone(),
        bundle: next.bundle_keys[0].clone(),
    };
    assert_eq!(root::next(&next, &keys, ANNOUNCED + 2), None);
    assert!(root::check(&next, &keys, Path::new("root.json")).is_ok());
}

#[test]
fn a_revoked_key_signs_nothing_and_another_one_takes_its_place() {
    let ca = Ca::new();
    let known = ANNOUNCED + DAY;
    let roots = ca.roots();
    let print = ca.first.fingerprint();
    let by = by(&roots, Some(&print), Some(&print), known);
    let first = Candidate {
        revoked: true,
        ..answering(&ca.first)
    };
    let spare = answering(&ca.spare);
    let choice = choose(&[first, spare], &by);
    assert_eq!(choice.judged, [Err(NotYet::Revoked), Ok(())]);
    assert_eq!(choice.signer, Some(1));
    assert_eq!(choose(&[first], &by).signer, None);
}

#[test]
fn the_operators_choice_signs_where_it_may_else_the_key_that_signed_last_goes_on() {
    let ca = Ca::new();
    let (first, spare) = (&ca.first, &ca.spare);
    let (before, known) = (ANNOUNCED, ANNOUNCED + DAY);
    assert_eq!(ca.choice(Some(spare), Some(first), before).signer, Some(0));
    assert_eq!(ca.choice(Some(spare), Some(first), known).signer, Some(1));
    // Without a choice the first one configured, also where another one signed last.
    assert_eq!(ca.choice(None, Some(spare), known).signer, Some(0));
    let gone = CaKey::new(subject()).unwrap();
    assert_eq!(ca.choice(Some(&gone), Some(spare), known).signer, Some(0));
}

#[test]
fn every_root_is_kept_for_those_who_have_yet_to_walk_past_it() {
    let ca = Ca::new();
    let versions =
        |roots: &RootHistory| -> Vec<u64> { roots.iter().map(|(root, _)| root.version).collect() };
    assert_eq!(versions(&ca.roots()), [1, 2]);
    // One that does not lead to the next is not served.
    let kept = root_history::kept_file(&ca.path(), 1);
    let stranger = RootKey::new(local_signer(KeyType::Ed25519));
    let mut forged = ca.roots().present().unwrap().clone();
    forged.version = 1;
    forged.root_keys = vec![stranger.public().clone()];
    root::write(&kept, &stranger.seal(&forged).unwrap()).unwrap();
    assert_eq!(versions(&ca.roots()), [2]);
    // Nor does a damaged one keep the service from starting.
    std::fs::write(&kept, "{").unwrap();
    assert_eq!(versions(&ca.roots()), [2]);
}

#[test]
fn keys_that_an_operator_exchanges_are_asked_for_when_their_own_time_is_over() {
    let ca = Ca::new();
    let asked = |after: u64, now: u64| -> Vec<_> {
        let over = overdue(&ca.roots(), after, now).into_iter();
        over.map(|key| (key.purpose, key.key)).collect()
    };
    let year = 365 * DAY;
    assert_eq!(asked(year, MADE + year - 1), []);
    // The second root changed neither.
    let purposes: Vec<_> = asked(year, MADE + year).iter().map(|(p, _)| *p).collect();
    assert_eq!(purposes, ["host_ca", "bundle"]);
    let mut next = ca.roots().present().unwrap().clone();
    let (host, old) = (CaKey::new(subject()).unwrap(), next.bundle_keys[0].clone());
    next.version += 1;
    next.issued = MADE + year;
    next.host_cas.insert(0, host.clone());
    ca.succeed(&next);
    // The host CA's key has its own time; the one before it, which is still trusted, is not asked for.
    let bundle = ("bundle", old.fingerprint());
    assert_eq!(asked(year, MADE + year), std::slice::from_ref(&bundle));
    let host = ("host_ca", host.fingerprint());
    assert_eq!(asked(year, MADE + 2 * year), [host, bundle]);
}

#[test]
fn a_change_of_other_keys_leaves_the_bundle_key_that_views_may_still_be_by() {
    // Else a host that could not be looked up since then would hear of no root and no revocation any more.
    let key = || CaKey::new(subject()).unwrap();
    let mut keys = RootKeys {
        user_ca: key(),
        spares: Vec::new(),
        host_ca: key(),
        bundle: subject(),
    };
    let old = keys.bundle.clone();
    let first = root::first(&keys, &subject(), MADE);
    keys.bundle = subject();
    let second = root::next(&first, &keys, MADE + DAY).unwrap();
    assert_eq!(second.bundle_keys, [keys.bundle.clone(), old.clone()]);
    keys.spares.push(key());
    let bundle_keys = |now| root::next(&second, &keys, now).unwrap().bundle_keys;
    assert_eq!(bundle_keys(MADE + 30 * DAY), second.bundle_keys);
    assert_eq!(bundle_keys(MADE + 31 * DAY), [keys.bundle.clone()]);
    // A second new key ends the first one's at once, as after a theft.
    keys.bundle = subject();
    let third = root::next(&second, &keys, MADE + DAY).unwrap();
    assert!(!third.bundle_keys.contains(&old));
}
