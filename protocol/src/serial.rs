//! A certificate's serial: random, 63 bits, never 0.
//! OpenSSH's KRL ignores serial 0 (krl.c), so such a certificate could not be revoked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// 1 ..= 2^63 − 1; written in decimal, in JSON as a string (a JSON number is exact to 2^53 only).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(u64);

impl Serial {
    /// A serial from 8 random bytes; `None` for the two patterns that would give 0: draw again.
    #[must_use]
    pub fn from_random(bytes: [u8; 8]) -> Option<Self> {
        Self::new(u64::from_be_bytes(bytes) >> 1)
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
        assert_eq!(Serial::from_random([0, 0, 0, 0, 0, 0, 0, 1]), None);
        for bad in ["", "0", "-1", "+1", "9223372036854775808", "1 ", "0x1"] {
            assert!(bad.parse::<Serial>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_random_value_fits_63_bits() {
        assert_eq!(
            Serial::from_random([0xff; 8]).unwrap().value(),
            i64::MAX.unsigned_abs()
        );
    }
}
