//! Moments as people read them: RFC 3339 in UTC, and how far off they are. Pure; what time it is is an argument.

/// A moment in Unix seconds as RFC 3339 has it: `2026-11-22T01:55:29Z`. One that no calendar has stays a number.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let timestamp = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    timestamp.map_or_else(|| seconds.to_string(), |t| t.to_string())
}

/// The same, with how far off it is at `now`: `2026-11-22T01:55:29Z (in 3 h 12 min)`. Both in Unix seconds.
#[must_use]
pub fn seen_from(now: u64, seconds: u64) -> String {
    let moment = rfc3339(seconds);
    if seconds < now {
        format!("{moment} ({} ago)", span(now - seconds))
    } else {
        format!("{moment} (in {})", span(seconds - now))
    }
}

/// A length in the two largest units that it has.
fn span(seconds: u64) -> String {
    let minutes = seconds / 60;
    let hours = minutes / 60;
    match (hours / 24, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0 | 1, ..) => format!("{hours} h {} min", minutes % 60),
        (days, ..) => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_312_529;

    #[test]
    fn what_no_calendar_has_stays_a_number() {
        assert_eq!(rfc3339(u64::MAX), u64::MAX.to_string());
        assert_eq!(rfc3339(NOW), "2026-11-22T01:55:29Z");
    }

    #[test]
    fn a_moment_is_told_with_how_far_off_it_is() {
        for (seconds, told) in [
            (0, "in 0 s"),
            (59, "in 59 s"),
            (60, "in 1 min"),
            (3 * 3_600 + 12 * 60 + 59, "in 3 h 12 min"),
            (47 * 3_600, "in 47 h 0 min"),
            (48 * 3_600, "in 2 d 0 h"),
            (30 * 86_400 + 5 * 3_600, "in 30 d 5 h"),
        ] {
            let seen = seen_from(NOW, NOW + seconds);
            assert_eq!(seen, format!("{} ({told})", rfc3339(NOW + seconds)));
        }
        assert_eq!(seen_from(NOW + 90, NOW), "2026-11-22T01:55:29Z (1 min ago)");
        assert!(seen_from(u64::MAX, 0).contains("ago"));
    }
}
