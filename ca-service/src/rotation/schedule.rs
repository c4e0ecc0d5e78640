//! The schedule of user-CA keys: a spare takes over when the signing key's time is over, and the key before it is
//! retired when nothing of it lives any more. A failover by hand before that time retires nothing. Of the keys that are
//! exchanged by hand it tells whose time is over. Times in Unix seconds.

use eic_protocol::subject_key::{CaKey, SubjectKey};
use eic_protocol::trust::root::{KeyState, Root};

use super::{Standing, first_in_a_row};
use crate::keys::RootHistory;

/// How long a key that was replaced stays, so that a way back is open. Seconds.
const GRACE: u64 = 86_400;

/// A configured key as the schedule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Scheduled {
    /// What the roots say of it; none: nothing.
    pub standing: Option<Standing>,
    /// Whether it may sign.
    pub may_sign: bool,
    /// Since when it signs or signed; none: it never did. A root says `announced` of it until a root is made while it
    /// signs.
    pub signed: Option<u64>,
    /// Whether certificates of it live.
    pub lives: bool,
}

impl Scheduled {
    fn is(&self, state: KeyState) -> bool {
        self.standing.is_some_and(|known| known.state == state)
    }
}

/// What is to be done; numbers are those of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// This spare is to sign.
    Activate(usize),
    /// This replaced key is to be retired.
    Retire(usize),
    /// The signing key's time is over, but there is no spare that hosts know.
    NoSpare,
}

/// What is due at `now`. `signs_since`: when the operator or the schedule chose the signing key; none: it signs since
/// it was named. `after` in seconds.
#[must_use]
pub fn due(
    keys: &[Scheduled],
    signer: usize,
    signs_since: Option<u64>,
    after: u64,
    now: u64,
) -> Vec<Due> {
    let Some(known) = keys.get(signer).and_then(|key| key.standing) else {
        return Vec::new();
    };
    let since = signs_since.unwrap_or(known.named_at);
    let is_over = |since: u64| since.saturating_add(after) <= now;
    let over = is_over(since);
    let others = || (0..).zip(keys).filter(|(index, _)| *index != signer);
    let spare = others().find(|(_, key)| {
        let fresh = key.is(KeyState::Announced) && key.signed.is_none();
        key.may_sign && fresh
    });
    if let Some((index, _)) = spare.filter(|_| over) {
        return vec![Due::Activate(index)];
    }
    let replaced = others().find(|(_, key)| {
        // Not since it was named: most were spares for long before they signed.
        let own_time_over = key.signed.is_some_and(is_over);
        // One that only stood in stays, while there is no other to stand in.
        let stood_in = key.is(KeyState::Announced) && spare.is_some();
        own_time_over && !key.lives && (key.is(KeyState::Active) || stood_in)
    });
    let replaced = replaced.filter(|_| since.saturating_add(GRACE) <= now);
    let retire = replaced.map(|(index, _)| Due::Retire(index));
    over.then_some(Due::NoSpare)
        .into_iter()
        .chain(retire)
        .collect()
}

/// A key whose time is over and that only an operator exchanges: its successor and a root that names it are not made
/// by the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// The configuration's word for it.
    pub purpose: &'static str,
    /// Its fingerprint.
    pub key: String,
}

/// The host CA and the bundle key of the present root, where it and those before it have named them for `after`
/// seconds at `now`.
#[must_use]
pub fn overdue(roots: &RootHistory, after: u64, now: u64) -> Vec<Overdue> {
    let Some(present) = roots.present() else {
        return Vec::new();
    };
    let is_over = |names: &dyn Fn(&Root) -> bool| {
        let first = first_in_a_row(roots, names);
        first.is_some_and(|root| root.issued.saturating_add(after) <= now)
    };
    let host = present.host_cas.first();
    let host = host.filter(|key| is_over(&|root| root.host_cas.contains(key)));
    let bundle = present.bundle_keys.first();
    let bundle = bundle.filter(|key| is_over(&|root| root.bundle_keys.contains(key)));
    let keys = [("host_ca", host.map(CaKey::key)), ("bundle", bundle)];
    let over = keys.into_iter().filter_map(|(purpose, key)| {
        let key = key.map(SubjectKey::fingerprint)?;
        Some(Overdue { purpose, key })
    });
    over.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const MADE: u64 = 1_800_000_000;
    const YEAR: u64 = 365 * DAY;

    fn key(state: KeyState, named_at: u64) -> Scheduled {
        Scheduled {
            standing: Some(Standing {
                state,
                announced_at: named_at,
                announced_in: 1,
                named_at,
            }),
            may_sign: true,
            signed: (state == KeyState::Active).then_some(named_at),
            lives: false,
        }
    }

    fn two() -> [Scheduled; 2] {
        [key(KeyState::Active, MADE), key(KeyState::Announced, MADE)]
    }

    #[test]
    fn nothing_is_due_before_the_time() {
        assert_eq!(due(&two(), 0, None, YEAR, MADE + YEAR - 1), []);
        // A failover by hand: the key before it is young and stays.
        let failed_over = Some(MADE + 10 * DAY);
        assert_eq!(due(&two(), 1, failed_over, YEAR, MADE + 100 * DAY), []);
    }

    #[test]
    fn a_spare_that_hosts_cannot_know_is_none() {
        let [first, mut spare] = two();
        spare.may_sign = false;
        let is_due = due(&[first, spare], 0, None, YEAR, MADE + YEAR);
        assert_eq!(is_due, [Due::NoSpare]);
        let alone = due(&[first], 0, None, YEAR, MADE + YEAR);
        assert_eq!(alone, [Due::NoSpare]);
    }

    #[test]
    fn a_key_that_has_signed_is_no_spare_whatever_the_root_calls_it() {
        let [first, mut stood_in] = two();
        stood_in.signed = Some(MADE + DAY);
        // It stays for the next failover, until there is a fresh one.
        let is_due = due(&[first, stood_in], 0, None, YEAR, MADE + YEAR);
        assert_eq!(is_due, [Due::NoSpare]);
        let fresh = key(KeyState::Announced, MADE + YEAR);
        let keys = [first, stood_in, fresh];
        assert_eq!(due(&keys, 0, None, YEAR, MADE + YEAR), [Due::Activate(2)]);
        let since = Some(MADE + YEAR);
        let mut third = fresh;
        third.signed = since;
        let later = MADE + YEAR + DAY;
        let keys = [key(KeyState::Retired, MADE), stood_in, third];
        assert_eq!(due(&keys, 2, since, YEAR, later), []);
        let [retired, stood_in, third] = keys;
        let keys = [retired, stood_in, third, key(KeyState::Announced, later)];
        assert_eq!(due(&keys, 2, since, YEAR, later), [Due::Retire(1)]);
    }

    #[test]
    fn a_spare_takes_over_and_the_key_before_it_goes_when_nothing_of_it_lives() {
        let [mut first, mut spare] = two();
        let over = MADE + YEAR;
        assert_eq!(
            due(&[first, spare], 0, None, YEAR, over),
            [Due::Activate(1)]
        );
        spare.signed = Some(over);
        let due = |first, since, now| due(&[first, spare], 1, Some(since), YEAR, now);
        assert_eq!(due(first, over, over + DAY - 1), []);
        first.lives = true;
        assert_eq!(due(first, over, over + DAY), []);
        first.lives = false;
        assert_eq!(due(first, over, over + DAY), [Due::Retire(0)]);
        let retired = key(KeyState::Retired, MADE);
        assert_eq!(due(retired, over, over + DAY), []);
        // The key that signed for a year needs a spare of its own.
        assert_eq!(due(retired, over, over + YEAR), [Due::NoSpare]);
    }

    #[test]
    fn a_key_that_was_a_spare_for_long_and_failed_over_soon_is_not_retired() {
        let mut primary = key(KeyState::Active, MADE + YEAR);
        primary.signed = Some(MADE + 2 * YEAR);
        let failed_over = MADE + 2 * YEAR + 70 * DAY;
        let mut spare = key(KeyState::Announced, MADE + 2 * YEAR);
        spare.signed = Some(failed_over);
        let keys = [primary, spare];
        let due = |now| due(&keys, 1, Some(failed_over), YEAR, now);
        assert_eq!(due(failed_over + DAY), []);
        assert_eq!(due(MADE + 3 * YEAR - 1), []);
        assert_eq!(due(MADE + 3 * YEAR), [Due::Retire(0)]);
    }

    #[test]
    fn the_last_spare_is_not_retired_when_it_has_only_stood_in() {
        let [first, mut stood_in] = two();
        stood_in.signed = Some(MADE + 10 * DAY);
        let back = Some(MADE + 11 * DAY);
        let now = MADE + 10 * DAY + YEAR;
        assert_eq!(due(&[first, stood_in], 0, back, YEAR, now), []);
        let fresh = key(KeyState::Announced, now - DAY);
        let keys = [first, stood_in, fresh];
        assert_eq!(due(&keys, 0, back, YEAR, now), [Due::Retire(1)]);
        // One that hosts cannot know yet stands in for nobody.
        let mut unknown = fresh;
        unknown.may_sign = false;
        assert_eq!(due(&[first, stood_in, unknown], 0, back, YEAR, now), []);
    }

    /// Where the root key is not at hand, nobody may ever retire it.
    #[test]
    fn a_replaced_key_that_stays_holds_the_next_exchange_up_no_longer() {
        let [first, mut second] = two();
        let since = Some(MADE + YEAR);
        second.signed = since;
        let now = MADE + 2 * YEAR;
        let both = due(&[first, second], 1, since, YEAR, now);
        assert_eq!(both, [Due::NoSpare, Due::Retire(0)]);
        let third = key(KeyState::Announced, now - DAY);
        let is_due = due(&[first, second, third], 1, since, YEAR, now);
        assert_eq!(is_due, [Due::Activate(2)]);
    }
}
