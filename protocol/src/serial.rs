//! A certificate's serial: 63 bits, never 0. Its upper 20 bits tell the moment at which it was drawn, within four and a half
//! hours; its lower 43 are random. OpenSSH's KRL ignores serial 0 (krl.c), so such a certificate could not be revoked.
//!
//! Nothing rests on its being hard to guess: what is signed begins with a nonce of 32 bytes. That it is used once is the
//! store's to keep.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Moments in a second.
const MOMENTS: u64 = 64;
/// Bits of a serial that are random.
const RANDOM_BITS: u32 = 43;

/// 1 ..= 2^63 − 1; written in decimal, in JSON as a string (a JSON number is exact to 2^53 only).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(u64);

impl Serial {
    /// A serial drawn at `moment` (since 1970) with these random bytes; `None` where it would be 0. Those of one moment are
    /// neighbours in an index of all serials, so that a group of certificates is written to one or two of its pages. By
    /// chance two are equal as seldom as with 63 random bits where there are many; at 10,000 a second, one in 10^10.
    #[must_use]
    pub fn drawn(moment: Duration, random: [u8; 8]) -> Option<Self> {
        let part = u64::from(moment.subsec_nanos()) * MOMENTS / 1_000_000_000;
        let moment = moment.as_secs().wrapping_mul(MOMENTS).wrapping_add(part);
        let random = u64::from_be_bytes(random) & ((1 << RANDOM_BITS) - 1);
        Self::new(((moment << RANDOM_BITS) | random) & (u64::MAX >> 1))
    }

    /// The serial with this value, where it is in range.
    #[must_use]
    pub fn new(value: u64) -> Option<Self> {
        (value != 0 && value >> 63 == 0).then_some(Self(value))
    }

    /// The value.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }
}

impl FromStr for Serial {
    type Err = InvalidSerial;

    fn from_str(text: &str) -> Result<Self, InvalidSerial> {
        let value = text
            .parse()
            .ok()
            .filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        value.and_then(Self::new).ok_or(InvalidSerial)
    }
}

impl TryFrom<String> for Serial {
    type Error = InvalidSerial;

    fn try_from(text: String) -> Result<Self, InvalidSerial> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.0.to_string()
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Not a serial.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a serial is a decimal number from 1 to 9223372036854775807")]
pub struct InvalidSerial;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_the_64th_bit_are_refused() {
        // D-05
        assert_eq!(Serial::new(0), None);
        assert_eq!(Serial::new(1 << 63), None);
        assert_eq!(Serial::drawn(Duration::ZERO, [0; 8]), None);
        for bad in ["", "0", "-1", "+1", "9223372036854775808", "1 ", "0x1"] {
            assert!(bad.parse::<Serial>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn whatever_the_clock_says_it_fits_63_bits() {
        for moment in [
            Duration::ZERO,
            Duration::from_secs(1_800_000_000),
            Duration::MAX,
        ] {
            let serial = Serial::drawn(moment, [0xff; 8]).unwrap();
            assert!(serial.value() >> 63 == 0, "{moment:?}");
        }
    }

    #[test]
    fn those_of_one_moment_are_neighbours_and_differ_in_all_of_43_bits() {
        let now = Duration::from_millis(1_800_000_000_500);
        let draw = |moment, random| Serial::drawn(moment, random).unwrap().value();
        let next = now + Duration::from_nanos(1_000_000_000 / MOMENTS);
        assert_eq!(draw(next, [0; 8]) - draw(now, [0; 8]), 1 << 43);
        assert_eq!(draw(now, [0xff; 8]) - draw(now, [0; 8]), (1 << 43) - 1);
        for bit in 0..64 {
            let differs = draw(now, (1_u64 << bit).to_be_bytes()) != draw(now, [0; 8]);
            assert_eq!(differs, bit < 43, "{bit}");
        }
    }
}
