//! The hours of keys in memory: when the next one is needed, which one signs. Times in Unix seconds.
//!
//! ```text
//! made ─propagation─▶ signs ──────sign──────▶ the next one signs ──overlap──▶ counts no more
//! ```
//!
//! A key's last certificates end within the overlap. While none can be endorsed, the latest one signs on through
//! its overlap, with ever shorter certificates; then the endorser must sign itself.

use eic_protocol::validity::MAX_BACKDATE;

/// A key does not begin a certificate so shortly before its end. Seconds.
const LAST: u64 = 2 * MAX_BACKDATE;

/// How long keys in memory live. Seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndorsedRules {
    /// How long one signs before the next one does.
    pub sign: u64,
    /// For how long after that it still counts.
    pub overlap: u64,
    /// How many are announced beside the one that signs.
    pub ahead: u64,
    /// How long hosts may take to hear of one.
    pub propagation: u64,
}

/// The hours of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// When it is to begin to sign.
    pub signs_from: u64,
    /// When the next one takes over.
    pub next_from: u64,
    /// First second at which hosts take it no more.
    pub not_after: u64,
}

impl Hours {
    /// First second at which hosts take it: that of the first certificate's backdated start.
    #[must_use]
    pub fn not_before(&self) -> u64 {
        self.signs_from.saturating_sub(MAX_BACKDATE)
    }
}

/// A key that this process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its hours.
    pub hours: Hours,
    /// When every host can know it; none: no bundle has named it yet.
    pub known_at: Option<u64>,
    /// Whether hosts are told to refuse it.
    pub revoked: bool,
}

impl Held {
    fn may_sign(&self, now: u64) -> bool {
        let known = self.known_at.is_some_and(|known| known <= now);
        let ends = self.hours.not_after.saturating_sub(LAST);
        !self.revoked && known && self.hours.signs_from <= now && now < ends
    }
}

impl EndorsedRules {
    /// The hours of the key that is to be made now; none: there are enough. `end` is when hosts stop to trust
    /// the endorser.
    #[must_use]
    pub fn next(&self, held: &[Held], end: Option<u64>, now: u64) -> Option<Hours> {
        let mine = held.iter().filter(|key| !key.revoked).map(|key| key.hours);
        let lasting: Vec<_> = mine.filter(|hours| now < hours.next_from).collect();
        let enough = u64::try_from(lasting.len()).is_ok_and(|count| count > self.ahead);
        if enough {
            return None;
        }
        let last = lasting.iter().map(|hours| hours.next_from).max();
        let known = now.saturating_add(self.propagation);
        let signs_from = last.map_or(known, |last| last.max(known));
        let next_from = signs_from.saturating_add(self.sign);
        let not_after = next_from.saturating_add(self.overlap);
        let not_after = end.map_or(not_after, |end| end.min(not_after));
        let hours = Hours {
            signs_from,
            next_from,
            not_after,
        };
        (signs_from.saturating_add(LAST) < not_after).then_some(hours)
    }
}

/// Which of the keys signs at `now`: the oldest whose time is not over, else the one that counts longest.
/// None: the endorser itself.
#[must_use]
pub fn choose(held: &[Held], now: u64) -> Option<usize> {
    let able = held.iter().enumerate().filter(|(_, key)| key.may_sign(now));
    let ranked = able.min_by_key(|(_, key)| {
        let over = key.hours.next_from <= now;
        let longest = u64::MAX - key.hours.not_after;
        (over, if over { longest } else { key.hours.signs_from })
    });
    ranked.map(|(index, _)| index)
}

#[cfg(test)]
mod tests;
