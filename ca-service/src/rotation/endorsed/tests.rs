//! Tests of the parent module: which keys are not made and do not sign, then which.

use super::*;

const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3_600;
const RULES: EndorsedRules = EndorsedRules {
    sign: 12 * HOUR,
    overlap: 12 * HOUR,
    ahead: 1,
    propagation: HOUR,
};

fn held(hours: Hours, known_at: u64) -> Held {
    Held {
        hours,
        known_at: Some(known_at),
        revoked: false,
    }
}

/// The keys that are at hand after a start at [`NOW`].
fn two() -> [Held; 2] {
    let first = held(RULES.next(&[], None, NOW).unwrap(), NOW + HOUR);
    let second = held(RULES.next(&[first], None, NOW).unwrap(), NOW + HOUR);
    [first, second]
}

#[test]
fn a_key_that_no_bundle_named_or_hosts_cannot_have_yet_does_not_sign() {
    // F-16
    let [first, _] = two();
    let unnamed = Held {
        known_at: None,
        ..first
    };
    assert_eq!(choose(&[unnamed], NOW + 2 * HOUR), None);
    let late = held(first.hours, NOW + 2 * HOUR);
    assert_eq!(choose(&[late], NOW + 2 * HOUR - 1), None);
    assert_eq!(choose(&[late], NOW + 2 * HOUR), Some(0));
    assert_eq!(choose(&[first], NOW + HOUR - 1), None);
}

#[test]
fn a_revoked_key_does_not_sign_and_is_replaced() {
    let [first, second] = two();
    let revoked = Held {
        revoked: true,
        ..first
    };
    assert_eq!(choose(&[revoked, second], NOW + 2 * HOUR), None);
    assert!(RULES.next(&[revoked, second], None, NOW).is_some());
}

#[test]
fn a_key_signs_nothing_so_late_that_no_certificate_of_it_is_useful() {
    let [first, _] = two();
    assert!(choose(&[first], first.hours.not_after - 121).is_some());
    for now in [first.hours.not_after - 120, first.hours.not_after] {
        assert_eq!(choose(&[first], now), None);
    }
}

#[test]
fn no_key_goes_beyond_its_endorser() {
    let cut = RULES.next(&[], Some(NOW + 2 * HOUR), NOW).unwrap();
    assert_eq!(cut.not_after, NOW + 2 * HOUR);
    assert_eq!(RULES.next(&[], Some(NOW + HOUR + 120), NOW), None);
}

#[test]
fn there_are_as_many_keys_as_are_wanted_and_each_follows_the_one_before() {
    let [first, second] = two();
    assert_eq!(first.hours.signs_from, NOW + HOUR);
    assert_eq!(first.hours.not_before(), NOW + HOUR - 60);
    assert_eq!(second.hours.signs_from, first.hours.next_from);
    assert_eq!(second.hours.not_after, NOW + (1 + 24 + 12) * HOUR);
    assert_eq!(RULES.next(&[first, second], None, NOW), None);
    let later = first.hours.next_from;
    assert_eq!(RULES.next(&[first, second], None, later - 1), None);
    let third = RULES.next(&[first, second], None, later).unwrap();
    assert_eq!(third.signs_from, second.hours.next_from);
}

#[test]
fn the_oldest_key_signs_and_the_next_one_when_its_time_is_over() {
    let keys = two();
    assert_eq!(choose(&keys, NOW + HOUR), Some(0));
    assert_eq!(choose(&keys, keys[0].hours.next_from - 1), Some(0));
    assert_eq!(choose(&keys, keys[0].hours.next_from), Some(1));
}

#[test]
fn without_a_successor_the_key_that_counts_longest_signs_through_its_overlap() {
    let keys = two();
    let over = keys[1].hours.next_from;
    assert_eq!(choose(&keys, over), Some(1));
    assert_eq!(choose(&keys, keys[1].hours.not_after - 121), Some(1));
    assert_eq!(choose(&keys, keys[1].hours.not_after - 120), None);
}
