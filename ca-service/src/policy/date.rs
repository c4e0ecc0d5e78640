//! Times as IAM's Date operators compare them: the W3C profile of ISO 8601
//! (<https://www.w3.org/TR/NOTE-datetime>), or seconds since 1970.

use jiff::civil;

/// A point in time: seconds since 1970-01-01T00:00:00Z and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    seconds: i64,
    nanos: u32,
}

impl Moment {
    /// `YYYY`, `YYYY-MM`, `YYYY-MM-DD`, `…Thh:mmTZ`, `…Thh:mm:ssTZ`, `…Thh:mm:ss.sTZ` with TZ `Z` or `±hh:mm`,
    /// or at least five digits of Unix time. Four digits are a year.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let epoch = (5..=12).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if epoch {
            return text.parse().ok().map(|seconds| Self { seconds, nanos: 0 });
        }
        match text.split_once('T') {
            None => day(text)
                .and_then(|date| at(date, 0, 0, 0))
                .map(|seconds| Self { seconds, nanos: 0 }),
            Some((date, time)) => moment(date, time),
        }
    }
}

impl From<u64> for Moment {
    fn from(seconds: u64) -> Self {
        Self {
            seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
            nanos: 0,
        }
    }
}

/// `2026-11-22T01:34:50Z`, the form in which `aws:CurrentTime` is text.
pub(super) fn iso(seconds: u64) -> String {
    crate::moment::rfc3339(seconds)
}

fn moment(date: &str, time: &str) -> Option<Moment> {
    // A time needs a whole date, and always a zone.
    if date.len() != 10 {
        return None;
    }
    let (clock, offset) = zone(time)?;
    let mut parts = clock.split(':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let (second, nanos) = parts.next().map_or(Some((0, 0)), fraction)?;
    if parts.next().is_some() {
        return None;
    }
    let seconds = at(day(date)?, hour, minute, second)?.checked_sub(offset)?;
    Some(Moment { seconds, nanos })
}

/// Splits the zone off; the offset is in seconds east of Greenwich.
fn zone(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix('Z') {
        return Some((clock, 0));
    }
    let (clock, zone) = time.split_at_checked(time.len().checked_sub(6)?)?;
    let sign = match zone.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some((clock, sign * (hours * 3600 + minutes * 60)))
}

fn fraction(text: &str) -> Option<(i64, u32)> {
    let Some((seconds, fraction)) = text.split_once('.') else {
        return Some((digits(text, 2)?, 0));
    };
    let fits = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit());
    let nanos = fits.then(|| format!("{fraction:0<9}").parse().ok())??;
    Some((digits(seconds, 2)?, nanos))
}

fn day(text: &str) -> Option<civil::Date> {
    let mut parts = text.split('-');
    let year = i16::try_from(digits(parts.next()?, 4)?).ok()?;
    let mut two = |or: i64| parts.next().map_or(Some(or), |p| digits(p, 2));
    let (month, day) = (two(1)?, two(1)?);
    if parts.next().is_some() {
        return None;
    }
    civil::Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

/// Seconds since 1970 of that time of that day in UTC. A leap second is refused, as jiff and AWS have none.
fn at(date: civil::Date, hour: i64, minute: i64, second: i64) -> Option<i64> {
    let (hour, minute, second) = (
        i8::try_from(hour).ok()?,
        i8::try_from(minute).ok()?,
        i8::try_from(second).ok()?,
    );
    let time = civil::Time::new(hour, minute, second, 0).ok()?;
    let zoned = date
        .to_datetime(time)
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?;
    Some(zoned.timestamp().as_second())
}

fn digits(text: &str, length: usize) -> Option<i64> {
    let fits = text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_w3c_date_is_refused() {
        for bad in [
            "",
            "20",
            "202",
            "2020-1",
            "2020-13",
            "2020-02-30",
            "2020-02-01T",
            "2020-02-01T00:00",
            "2020-02-01T00:00:00",
            "2020-02-01 00:00Z",
            "2020-02-01T24:00Z",
            "2020-02-01T00:60Z",
            "2020-02-01T00:00:60Z",
            "2020-02-01T00:00:00.Z",
            "2020-02T00:00Z",
            "2020-02-01T00:00+1:00",
            "2020-02-01T00:00+0100",
            "2020-02-01T00Z",
            "-2020",
            "+2020",
            "2020-02-01t00:00z",
            "2020-02-01T00:00:00Z ",
            "1e9",
            "1234567890123",
            "2020-02-01T00:00:00.1234567890Z",
            "é020",
        ] {
            assert_eq!(Moment::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_form_means_the_same_moment() {
        let expected = Moment::from(1_583_020_800);
        for same in [
            "2020-03",
            "2020-03-01",
            "2020-03-01T00:00Z",
            "2020-03-01T00:00:00Z",
            "2020-03-01T00:00:00.000Z",
            "2020-03-01T01:00+01:00",
            "2020-02-29T18:30:00-05:30",
            "1583020800",
        ] {
            assert_eq!(Moment::parse(same), Some(expected), "{same}");
        }
        assert_eq!(Moment::parse("1970"), Some(Moment::from(0)));
    }

    #[test]
    fn fractions_of_a_second_count() {
        let half = Moment::parse("2020-03-01T00:00:00.5Z").unwrap();
        assert!(half > Moment::from(1_583_020_800));
        assert!(half < Moment::from(1_583_020_801));
        assert_eq!(iso(1_583_020_800), "2020-03-01T00:00:00Z");
    }
}
