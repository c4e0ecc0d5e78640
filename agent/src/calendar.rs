//! Unix seconds as dates for people, and the dates of HTTP as Unix seconds. UTC only; no clock here.

const DAY: u64 = 86_400;

/// `2026-11-22T05:18:00Z` (RFC 3339).
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let (year, month, day) = date(seconds / DAY);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970 (proleptic Gregorian calendar, 400-year cycles from 1 March of year 0).
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// Unix seconds of an HTTP Date (`Sun, 22 Nov 2026 05:18:00 GMT`, RFC 9110 §5.6.7, the form that servers send).
#[must_use]
pub fn http_date(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_weekday, day, month, year, time, "GMT"] = words.as_slice() else {
        return None;
    };
    let month = MONTHS.iter().position(|name| name == month)?;
    let month = u64::try_from(month).ok()? + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let parts: Vec<u64> = time
        .split(':')
        .filter_map(|part| part.parse().ok())
        .collect();
    let [hour, minute, second] = parts.as_slice() else {
        return None;
    };
    let sound = (1970..10_000).contains(&year)
        && (1..=31).contains(&day)
        && *hour < 24
        && *minute < 60
        && *second < 61;
    let days = days_since_epoch(year, month, day);
    sound.then(|| days * DAY + hour * 3600 + minute * 60 + second)
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// For years from 1970 on.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 {
        year.saturating_sub(1)
    } else {
        year
    };
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day.saturating_sub(1);
    let day_of_era = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year;
    day_of_era.saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_no_http_date_are_refused() {
        for bad in [
            "",
            "Sun, 22 Nov 2026 05:18:00",
            "22 Nov 2026 05:18:00 GMT",
            "Sun, 22 Nov 2026 05:18 GMT",
            "Sun, 22 Nov 2026 24:18:00 GMT",
            "Sun, 32 Nov 2026 05:18:00 GMT",
            "Sun, 22 Foo 2026 05:18:00 GMT",
            "Sun, 22 Nov 99999999999 05:18:00 GMT",
        ] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn dates_are_those_of_date_1() {
        // `date -u -d @N +%FT%TZ`
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_799, "2024-02-28T23:59:59Z"),
            (1_781_524_800, "2026-06-15T12:00:00Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
        assert_eq!(
            http_date("Mon, 15 Jun 2026 12:00:00 GMT"),
            Some(1_781_524_800)
        );
        assert_eq!(
            http_date("Tue, 29 Feb 2000 00:00:00 GMT"),
            Some(951_782_400)
        );
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    }
}
