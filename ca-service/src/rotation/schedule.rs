//! The schedule of user-CA keys: a spare takes over when the signing key's time is over, and the key before it is
//! retired when nothing of it lives any more. A failover by hand before that time retires nothing. Times in Unix seconds.

use eic_protocol::trust::root::KeyState;

use super::Standing;

/// How long a key that was replaced stays, so that a way back is open. Seconds.
const GRACE: u64 = 86_400;

/// A configured key as the schedule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Scheduled {
    /// What the roots say of it; none: nothing.
    pub standing: Option<Standing>,
    /// Whether it may sign.
    pub may_sign: bool,
    /// Whether certificates of it live.
    pub lives: bool,
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
) -> Option<Due> {
    let named = keys.get(signer)?.standing?.named_at;
    let since = signs_since.unwrap_or(named);
    let is_over = |since: u64| since.saturating_add(after) <= now;
    let others = || {
        keys.iter()
            .enumerate()
            .filter(|(index, _)| *index != signer)
    };
    let in_state = |key: &Scheduled, state| key.standing.is_some_and(|s| s.state == state);
    let replaced = others().find(|(_, key)| {
        let own_time_over = key.standing.is_some_and(|s| is_over(s.named_at));
        in_state(key, KeyState::Active) && own_time_over && !key.lives
    });
    if let Some((index, _)) = replaced
        && since.saturating_add(GRACE) <= now
    {
        return Some(Due::Retire(index));
    }
    if !is_over(since) {
        return None;
    }
    // A key that has signed before is `active` in the root, and no spare.
    let spare = others().find(|(_, key)| key.may_sign && in_state(key, KeyState::Announced));
    Some(spare.map_or(Due::NoSpare, |(index, _)| Due::Activate(index)))
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
                named_at,
            }),
            may_sign: true,
            lives: false,
        }
    }

    fn two() -> [Scheduled; 2] {
        [key(KeyState::Active, MADE), key(KeyState::Announced, MADE)]
    }

    #[test]
    fn nothing_is_due_before_the_time() {
        assert_eq!(due(&two(), 0, None, YEAR, MADE + YEAR - 1), None);
        // A failover by hand: the key before it is young and stays.
        let failed_over = Some(MADE + 10 * DAY);
        assert_eq!(due(&two(), 1, failed_over, YEAR, MADE + 100 * DAY), None);
    }

    #[test]
    fn a_spare_that_hosts_cannot_know_is_none() {
        let [first, mut spare] = two();
        spare.may_sign = false;
        let is_due = due(&[first, spare], 0, None, YEAR, MADE + YEAR);
        assert_eq!(is_due, Some(Due::NoSpare));
        assert_eq!(
            due(&[first], 0, None, YEAR, MADE + YEAR),
            Some(Due::NoSpare)
        );
    }

    #[test]
    fn a_spare_takes_over_and_the_key_before_it_goes_when_nothing_of_it_lives() {
        let [mut first, spare] = two();
        let over = MADE + YEAR;
        let due = |first, signer, since, now| due(&[first, spare], signer, since, YEAR, now);
        assert_eq!(due(first, 0, None, over), Some(Due::Activate(1)));
        assert_eq!(due(first, 1, Some(over), over + DAY - 1), None);
        first.lives = true;
        assert_eq!(due(first, 1, Some(over), over + DAY), None);
        first.lives = false;
        assert_eq!(due(first, 1, Some(over), over + DAY), Some(Due::Retire(0)));
        let retired = key(KeyState::Retired, MADE);
        assert_eq!(due(retired, 1, Some(over), over + DAY), None);
        // The key that signed for a year needs a spare of its own.
        assert_eq!(due(retired, 1, Some(over), over + YEAR), Some(Due::NoSpare));
    }
}
