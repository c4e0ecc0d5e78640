//! Numbers as IAM's Numeric operators compare them: exact decimals, no exponents, no rounding.

/// Digits after the point that are kept.
const SCALE_DIGITS: usize = 9;
/// 10^9: one unit in the stored form.
const SCALE: i128 = 1_000_000_000;
/// Digits before the point; a larger number is nothing that a request carries.
const MAX_WHOLE_DIGITS: usize = 20;

/// A decimal number, in units of 10⁻⁹.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Decimal(i128);

impl Decimal {
    /// `-?[0-9]{1,20}(\.[0-9]{1,9})?`; anything else, also `1e9` and `+1`, is no number (C-13).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (digits, None),
        };
        let fraction = fraction.map_or(Some(0), fraction_units)?;
        let units = whole_units(whole)?.checked_add(fraction)?;
        Some(Self(if negative { -units } else { units }))
    }

    /// The largest `u64` that is not above this number; 0 for negative numbers.
    pub(super) fn floor_seconds(self) -> u64 {
        u64::try_from(self.0.max(0).div_euclid(SCALE)).unwrap_or(u64::MAX)
    }

    /// Whether nothing follows the point.
    pub(super) fn is_whole(self) -> bool {
        self.0 % SCALE == 0
    }
}

impl From<u64> for Decimal {
    fn from(value: u64) -> Self {
        // At most 2^64 · 10^9 < 2^94: it fits.
        Self(i128::from(value).saturating_mul(SCALE))
    }
}

fn whole_units(digits: &str) -> Option<i128> {
    let fits = (1..=MAX_WHOLE_DIGITS).contains(&digits.len()) && all_digits(digits);
    if !fits {
        return None;
    }
    digits.parse::<i128>().ok()?.checked_mul(SCALE)
}

fn fraction_units(digits: &str) -> Option<i128> {
    let fits = (1..=SCALE_DIGITS).contains(&digits.len()) && all_digits(digits);
    if !fits {
        return None;
    }
    format!("{digits:0<SCALE_DIGITS$}").parse().ok()
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_plain_decimal_is_no_number() {
        // C-13
        for bad in [
            "",
            "-",
            "+1",
            "1e9",
            "0x10",
            "1.",
            ".5",
            "1.2.3",
            " 1",
            "1 ",
            "1_000",
            "1,5",
            "NaN",
            "inf",
            "123456789012345678901",
            "1.1234567890",
            "--1",
            "\u{0661}",
        ] {
            assert_eq!(Decimal::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn decimals_compare_exactly() {
        let parse = |text| Decimal::parse(text).unwrap();
        assert!(parse("0.1") < parse("0.10000001"));
        assert_eq!(parse("1.50"), parse("1.5"));
        assert!(parse("-2") < parse("-1.5"));
        assert_eq!(parse("18446744073709551615"), Decimal::from(u64::MAX));
        assert_eq!(parse("007"), Decimal::from(7));
    }

    #[test]
    fn floors_never_round_up() {
        assert_eq!(Decimal::parse("59.999").unwrap().floor_seconds(), 59);
        assert_eq!(Decimal::parse("-1").unwrap().floor_seconds(), 0);
        assert_eq!(
            Decimal::parse("99999999999999999999")
                .unwrap()
                .floor_seconds(),
            u64::MAX
        );
        assert!(!Decimal::parse("59.999").unwrap().is_whole());
        assert!(Decimal::parse("60.0").unwrap().is_whole());
    }
}
