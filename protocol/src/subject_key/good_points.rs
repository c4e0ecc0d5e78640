//! Ed25519 keys that were found good a moment ago by this thread: finding out takes a square root, and a key that asks
//! often is read in every request. Only what was good is kept, whole and by its own bytes, so that nothing passes
//! here that does not pass the check.

use std::cell::RefCell;

/// Kept at a time, each at the place that its first byte names.
const PLACES: usize = 64;

type Key = [u8; 32];

thread_local! {
    static GOOD: RefCell<[Option<Key>; PLACES]> = const { RefCell::new([None; PLACES]) };
}

/// What `check` says of the key, asked where it is not known to be good.
pub(super) fn known<E>(key: &Key, check: impl FnOnce(&Key) -> Result<(), E>) -> Result<(), E> {
    GOOD.with_borrow_mut(|good| {
        let [first, ..] = key;
        let Some(place) = good.get_mut(usize::from(*first) % PLACES) else {
            return check(key);
        };
        if place.as_ref() == Some(key) {
            return Ok(());
        }
        check(key)?;
        *place = Some(*key);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_refused_again_and_keeps_nobody_from_its_place() {
        let (bad, good) = ([7; 32], [7 + 64; 32]);
        for _ in 0..2 {
            assert_eq!(known(&bad, |_| Err("weak")), Err("weak"));
        }
        assert_eq!(known(&good, |_| Ok::<_, &str>(())), Ok(()));
        assert_eq!(known(&bad, |_| Err("weak")), Err("weak"));
        // Good still, unasked; another one of the same first byte is asked about.
        assert_eq!(known(&good, |_| Err("asked")), Ok(()));
        let mut other = good;
        other[31] ^= 1;
        assert_eq!(known(&other, |_| Err("asked")), Err("asked"));
    }
}
