//! Sets of serials as sorted, disjoint, merged ranges. Serial 0 is not in any: sshd ignores it (krl.c).

use crate::serial::Serial;

/// Widest range that may be revoked at once: 2^32 serials. Whoever wants more means the CA's key.
pub const MAX_SPAN: u64 = 1 << 32;

/// Serials from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SerialRange {
    first: Serial,
    last: Serial,
}

impl SerialRange {
    /// The range between two serials.
    ///
    /// # Errors
    /// [`InvalidRange`] where it is inverted or holds more than 2^32 serials.
    pub fn new(first: Serial, last: Serial) -> Result<Self, InvalidRange> {
        match last.value().checked_sub(first.value()) {
            None => Err(InvalidRange::Inverted),
            Some(span) if span >= MAX_SPAN => Err(InvalidRange::TooWide),
            Some(_) => Ok(Self { first, last }),
        }
    }

    /// Just this serial.
    #[must_use]
    pub fn one(serial: Serial) -> Self {
        Self {
            first: serial,
            last: serial,
        }
    }

    /// First serial.
    #[must_use]
    pub fn first(self) -> u64 {
        self.first.value()
    }

    /// Last serial.
    #[must_use]
    pub fn last(self) -> u64 {
        self.last.value()
    }

    /// How many serials it holds.
    #[must_use]
    pub fn count(self) -> u64 {
        // Serials have 63 bits, so that this cannot overflow.
        self.last().saturating_sub(self.first()).saturating_add(1)
    }

    /// Both ends as they stand, however far apart: what a reader found, or what merging made.
    pub(super) fn unbounded(first: u64, last: u64) -> Option<Self> {
        let range = Self {
            first: Serial::new(first)?,
            last: Serial::new(last)?,
        };
        (first <= last).then_some(range)
    }
}

/// Not a range that may be revoked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRange {
    /// The first serial is greater than the last.
    #[error("the serial range is inverted: give the lower serial first")]
    Inverted,
    /// More than 2^32 serials.
    #[error("the serial range holds more than 4294967296 serials: revoke the CA key instead")]
    TooWide,
}

/// A set of serials: sorted, disjoint ranges, neighbours merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SerialRanges(Vec<SerialRange>);

impl SerialRanges {
    /// The ranges in ascending order, with at least one serial between two of them.
    pub fn iter(&self) -> impl Iterator<Item = SerialRange> + '_ {
        self.0.iter().copied()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it holds this serial; never 0.
    #[must_use]
    pub fn contains(&self, serial: u64) -> bool {
        let at = self.0.partition_point(|range| range.last() < serial);
        self.0.get(at).is_some_and(|range| range.first() <= serial)
    }

    /// How many serials it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        let counts = self.0.iter().map(|range| range.count());
        counts.fold(0, u64::saturating_add)
    }

    /// How many of its serials `other` does not hold.
    #[must_use]
    pub fn missing_in(&self, other: &Self) -> u64 {
        let shared = self.iter().map(|range| other.overlap(range));
        self.count()
            .saturating_sub(shared.fold(0, u64::saturating_add))
    }

    fn overlap(&self, range: SerialRange) -> u64 {
        let from = self.0.partition_point(|own| own.last() < range.first());
        let own = self.0.iter().skip(from);
        own.take_while(|own| own.first() <= range.last())
            .map(|own| shared(*own, range))
            .fold(0, u64::saturating_add)
    }
}

/// How many serials two overlapping ranges share.
fn shared(a: SerialRange, b: SerialRange) -> u64 {
    let (first, last) = (a.first().max(b.first()), a.last().min(b.last()));
    last.saturating_sub(first).saturating_add(1)
}

impl FromIterator<SerialRange> for SerialRanges {
    fn from_iter<I: IntoIterator<Item = SerialRange>>(ranges: I) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut merged: Vec<SerialRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(last) if range.first() <= last.last().saturating_add(1) => {
                    last.last = last.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serial(value: u64) -> Serial {
        Serial::new(value).unwrap()
    }

    fn set(ranges: &[(u64, u64)]) -> SerialRanges {
        let ranges = ranges.iter();
        ranges
            .map(|(a, b)| SerialRange::new(serial(*a), serial(*b)).unwrap())
            .collect()
    }

    #[test]
    fn inverted_and_huge_ranges_are_refused() {
        // F-03
        let all = serial(i64::MAX.unsigned_abs());
        assert_eq!(
            SerialRange::new(serial(2), serial(1)),
            Err(InvalidRange::Inverted)
        );
        assert_eq!(SerialRange::new(serial(1), all), Err(InvalidRange::TooWide));
        assert_eq!(
            SerialRange::new(serial(1), serial(MAX_SPAN + 1)),
            Err(InvalidRange::TooWide)
        );
        assert!(SerialRange::new(serial(1), serial(MAX_SPAN)).is_ok());
    }

    #[test]
    fn overlapping_and_adjacent_ranges_become_one() {
        let merged = set(&[(30, 40), (10, 12), (13, 13), (11, 20), (35, 36), (22, 22)]);
        assert_eq!(merged, set(&[(10, 20), (22, 22), (30, 40)]));
        assert_eq!(merged.iter().count(), 3);
        assert_eq!(merged.count(), 23);
        let held: Vec<_> = (0..50).filter(|n| merged.contains(*n)).collect();
        let expected: Vec<_> = (10..=20).chain(22..=22).chain(30..=40).collect();
        assert_eq!(held, expected);
    }

    #[test]
    fn what_another_set_lacks_is_counted() {
        let old = set(&[(10, 20), (30, 40)]);
        assert_eq!(old.missing_in(&old), 0);
        assert_eq!(old.missing_in(&SerialRanges::default()), 22);
        assert_eq!(old.missing_in(&set(&[(1, 12), (18, 31), (50, 60)])), 14);
        assert_eq!(SerialRanges::default().missing_in(&old), 0);
    }
}
