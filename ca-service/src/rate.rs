//! Token buckets: so many requests per second on average, so many at once, for each of many keys.
//! Memory is bounded: an attacker with a million addresses costs no more than a table of a fixed size.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Parts of the table, so that requests of different keys seldom wait for each other.
const SHARDS: usize = 16;

/// One bucket for each key.
pub struct Buckets<K> {
    shards: Vec<Mutex<HashMap<K, Bucket>>>,
    hasher: RandomState,
    /// Time that one token takes to grow.
    interval: Duration,
    burst: u32,
    max_keys: usize,
}

/// A bucket as the moment at which it will be full again (the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy)]
struct Bucket {
    full_at: Instant,
}

impl<K: Hash + Eq> Buckets<K> {
    /// `rate` tokens per second, at most `burst` at once, for at most about `max_keys` keys at a time.
    #[must_use]
    pub fn new(rate: u32, burst: u32, max_keys: usize) -> Self {
        let interval = Duration::from_secs(1)
            .checked_div(rate.max(1))
            .unwrap_or(Duration::from_secs(1));
        Self::paced(interval, burst, max_keys)
    }

    /// One token in each `interval`; else as [`Self::new`].
    #[must_use]
    pub fn paced(interval: Duration, burst: u32, max_keys: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let max_keys = max_keys.div_ceil(SHARDS).max(1);
        Self {
            shards,
            hasher: RandomState::new(),
            interval,
            burst: burst.max(1),
            max_keys,
        }
    }

    /// Takes a token of `key`; `false` where there is none.
    ///
    /// A full table forgets the keys whose buckets are full again, which changes nothing for them.
    /// If it is still full, a key that is not in it gets no token: strangers wait before regulars do.
    #[must_use]
    pub fn take<Q>(&self, key: &Q, now: Instant) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let Some(mut shard) = self.shard(key) else {
            return false;
        };
        if let Some(bucket) = shard.get_mut(key) {
            return bucket.take(self.interval, self.burst, now);
        }
        if shard.len() >= self.max_keys {
            shard.retain(|_, bucket| bucket.full_at > now);
        }
        if shard.len() >= self.max_keys {
            return false;
        }
        let mut bucket = Bucket { full_at: now };
        let taken = bucket.take(self.interval, self.burst, now);
        shard.insert(key.to_owned(), bucket);
        taken
    }

    /// Takes `tokens` more of a key that took one, for work that turned out to be dear: they may be owed, and nothing is
    /// given until they are paid, but never more than a whole burst of them.
    pub fn charge<Q>(&self, key: &Q, tokens: u32, now: Instant)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.change(key, |bucket| {
            let most = now + self.interval.saturating_mul(self.burst.saturating_mul(2));
            let owed = bucket.full_at.max(now) + self.interval.saturating_mul(tokens);
            bucket.full_at = owed.min(most);
        });
    }

    /// Whether a key has been [charged](Self::charge) more than it had.
    #[must_use]
    pub fn owes<Q>(&self, key: &Q, now: Instant) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let shard = self.shard(key);
        let bucket = shard.as_ref().and_then(|shard| shard.get(key));
        let had = self.interval.saturating_mul(self.burst);
        bucket.is_some_and(|bucket| bucket.full_at.saturating_duration_since(now) > had)
    }

    /// Puts a token back that turned out not to be owed.
    pub fn give_back<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.change(key, |bucket| {
            // One that is full already stays so: `take` counts from now at the earliest.
            bucket.full_at = bucket
                .full_at
                .checked_sub(self.interval)
                .unwrap_or(bucket.full_at);
        });
    }

    /// Changes the bucket of a key that has one.
    fn change<Q>(&self, key: &Q, change: impl FnOnce(&mut Bucket))
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut shard = self.shard(key);
        if let Some(bucket) = shard.as_mut().and_then(|shard| shard.get_mut(key)) {
            change(bucket);
        }
    }

    fn shard<Q>(&self, key: &Q) -> Option<MutexGuard<'_, HashMap<K, Bucket>>>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let index = usize::try_from(self.hasher.hash_one(key)).unwrap_or_default() % SHARDS;
        let shard = self.shards.get(index)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Bucket {
    fn take(&mut self, interval: Duration, burst: u32, now: Instant) -> bool {
        let from = self.full_at.max(now);
        let next = from + interval;
        if next.duration_since(now) > interval.saturating_mul(burst) {
            return false;
        }
        self.full_at = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_beyond_its_burst_waits_and_others_do_not() {
        // G-13
        let buckets: Buckets<String> = Buckets::new(10, 3, 1_000);
        let start = Instant::now();
        assert_eq!((0..5).filter(|_| buckets.take("a", start)).count(), 3);
        assert!(buckets.take("b", start));
        assert!(!buckets.take("a", start + Duration::from_millis(99)));
        assert!(buckets.take("a", start + Duration::from_millis(100)));
        assert_eq!(
            (0..50)
                .filter(|_| buckets.take("a", start + Duration::from_secs(60)))
                .count(),
            3
        );
    }

    #[test]
    fn a_token_that_was_given_back_is_there_again_and_no_more_than_that() {
        let buckets: Buckets<String> = Buckets::new(1, 2, 1_000);
        let start = Instant::now();
        assert_eq!((0..5).filter(|_| buckets.take("a", start)).count(), 2);
        buckets.give_back("a");
        assert_eq!((0..5).filter(|_| buckets.take("a", start)).count(), 1);
        let later = start + Duration::from_secs(60);
        for _ in 0..10 {
            buckets.give_back("a");
        }
        assert_eq!((0..5).filter(|_| buckets.take("a", later)).count(), 2);
    }

    #[test]
    fn what_is_owed_is_paid_before_anything_is_given_and_never_more_than_a_burst() {
        // G-13
        let buckets = Buckets::<String>::new(10, 20, 1_000);
        let start = Instant::now();
        let takes = |key: &str, seconds: u64| {
            let now = start + Duration::from_secs(seconds);
            (0..50).filter(|_| buckets.take(key, now)).count()
        };
        assert!(buckets.take("a", start) && buckets.take("b", start));
        buckets.charge("a", 29, start);
        buckets.charge("b", u32::MAX, start);
        buckets.charge("nobody", 5, start);
        let owes = |key: &str, seconds| buckets.owes(key, start + Duration::from_secs(seconds));
        assert!(owes("a", 0) && !owes("a", 1) && owes("b", 1) && !owes("b", 2) && !owes("c", 0));
        assert_eq!([takes("a", 0), takes("a", 1), takes("a", 2)], [0, 0, 10]);
        assert_eq!([takes("b", 1), takes("b", 2), takes("b", 3)], [0, 0, 10]);
        assert_eq!(takes("nobody", 0), 20);
    }

    #[test]
    fn a_pace_slower_than_a_second_waits_as_long() {
        let buckets = Buckets::<String>::paced(Duration::from_secs(60), 5, 1_000);
        let start = Instant::now();
        let taken = |at: u64| {
            let now = start + Duration::from_secs(at);
            (0..20).filter(|_| buckets.take("a", now)).count()
        };
        assert_eq!(
            [taken(0), taken(59), taken(60), taken(86_400)],
            [5, 0, 1, 5]
        );
    }

    #[test]
    fn a_million_keys_take_bounded_memory_and_full_buckets_are_forgotten() {
        // G-14
        let buckets = Buckets::new(1, 1, 1_600);
        let start = Instant::now();
        for key in 0..1_000_000_u32 {
            let _ = buckets.take(&key, start);
        }
        let kept: usize = buckets.shards.iter().map(|s| s.lock().unwrap().len()).sum();
        assert!(kept <= 1_600, "{kept}");
        assert!(buckets.take(&2_000_000, start + Duration::from_secs(2)));
    }
}
