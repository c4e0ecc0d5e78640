//! How often a host may report, and how many of its logins a day go to the audit one by one. A host that was
//! taken signs what it likes, and every report is work and disk for the CA. Kept in memory: a restart forgets it.
//! Not for requests of strangers: only hosts whose key signed have a budget, so enrolment bounds the table.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use eic_protocol::instance_id::InstanceId;

/// One report in this time, on average. Seconds; a host reports every five minutes.
const PACE: u64 = 60;
/// Reports at once: a host that starts again, or was away, sends a few.
const BURST: u64 = 5;
/// Logins of one host that are recorded one by one in a day.
const DAILY_LOGINS: usize = 5_000;
/// One day of the budget. Seconds.
const DAY: u64 = 86_400;
/// Hosts from which on those of other days are forgotten.
const MANY: usize = 65_536;

/// The hosts' budgets.
#[derive(Default)]
pub(super) struct ReportBudget(Mutex<HashMap<InstanceId, Spent>>);

#[derive(Default)]
struct Spent {
    /// When all of the burst is there again (the generic cell rate algorithm), in Unix seconds.
    full_at: u64,
    day: u64,
    logins: usize,
}

impl ReportBudget {
    /// One report at `now`, in Unix seconds; `false`: it is too many.
    #[must_use]
    pub(super) fn take_report(&self, host: &InstanceId, now: u64) -> bool {
        self.with(host, now, |spent| spent.take_report(now))
    }

    /// How many of `wanted` logins may be recorded one by one at `now`, in Unix seconds.
    #[must_use]
    pub(super) fn take_logins(&self, host: &InstanceId, wanted: usize, now: u64) -> usize {
        self.with(host, now, |spent| spent.take_logins(wanted, now / DAY))
    }

    fn with<T>(&self, host: &InstanceId, now: u64, take: impl FnOnce(&mut Spent) -> T) -> T {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MANY {
            hosts.retain(|_, spent| spent.day == now / DAY || spent.full_at > now);
        }
        take(hosts.entry(host.clone()).or_default())
    }
}

impl Spent {
    fn take_report(&mut self, now: u64) -> bool {
        let longest = now.saturating_add(PACE * BURST);
        // Beyond `longest` only where our clock was set back: that locks no host out.
        let from = if self.full_at > longest {
            now
        } else {
            self.full_at.max(now)
        };
        let next = from.saturating_add(PACE);
        let may = next <= longest;
        if may {
            self.full_at = next;
        }
        may
    }

    fn take_logins(&mut self, wanted: usize, day: u64) -> usize {
        if self.day != day {
            (self.day, self.logins) = (day, 0);
        }
        let taken = wanted.min(DAILY_LOGINS.saturating_sub(self.logins));
        self.logins = self.logins.saturating_add(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn host(last: u8) -> InstanceId {
        format!("i-0123456789abcdef{last:x}").parse().unwrap()
    }

    #[test]
    fn reports_beyond_the_burst_wait_and_other_hosts_do_not() {
        let budget = ReportBudget::default();
        let taken = |now| {
            (0..20)
                .filter(|_| budget.take_report(&host(0), now))
                .count()
        };
        assert_eq!(taken(NOW), 5);
        assert!(budget.take_report(&host(1), NOW));
        assert_eq!(taken(NOW + 59), 0);
        assert_eq!(taken(NOW + 60), 1);
        assert_eq!(taken(NOW + 86_400), 5);
    }

    #[test]
    fn a_clock_that_was_set_back_locks_no_host_out() {
        let budget = ReportBudget::default();
        assert!(budget.take_report(&host(0), NOW + 1_000_000));
        let taken = (0..20)
            .filter(|_| budget.take_report(&host(0), NOW))
            .count();
        assert_eq!(taken, 5);
    }

    #[test]
    fn a_flood_of_logins_is_recorded_up_to_the_days_budget() {
        let budget = ReportBudget::default();
        let recorded = |now| -> usize {
            let reports = 0..1_440;
            reports
                .map(|_| budget.take_logins(&host(0), 500, now))
                .sum()
        };
        let day = NOW - NOW % DAY;
        assert_eq!(recorded(day), 5_000);
        assert_eq!(recorded(day + DAY - 1), 0);
        assert_eq!(budget.take_logins(&host(1), 500, day), 500);
        assert_eq!(recorded(day + DAY), 5_000);
    }
}
