//! How many of a host's logins a day go to the audit one by one. A host that was taken signs what it likes, and every
//! record is disk for the CA. Kept in memory: a restart forgets it. How often a host may report is a rate as others.
//! Not for requests of strangers: only hosts whose key signed have a budget, so enrolment bounds the table.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use eic_protocol::instance_id::InstanceId;

/// Logins of one host that are recorded one by one in a day.
const DAILY_LOGINS: usize = 5_000;
/// One day of the budget. Seconds.
const DAY: u64 = 86_400;
/// Hosts from which on those of other days are forgotten.
const MANY: usize = 65_536;

/// The hosts' budgets.
#[derive(Default)]
pub(super) struct LoginBudget(Mutex<HashMap<InstanceId, Spent>>);

#[derive(Default)]
struct Spent {
    day: u64,
    logins: usize,
}

impl LoginBudget {
    /// How many of `wanted` logins may be recorded one by one at `now`, in Unix seconds.
    #[must_use]
    pub(super) fn take(&self, host: &InstanceId, wanted: usize, now: u64) -> usize {
        let (mut hosts, day) = (
            self.0.lock().unwrap_or_else(PoisonError::into_inner),
            now / DAY,
        );
        if hosts.len() >= MANY {
            hosts.retain(|_, spent| spent.day == day);
        }
        hosts.entry(host.clone()).or_default().take(wanted, day)
    }
}

impl Spent {
    fn take(&mut self, wanted: usize, day: u64) -> usize {
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
    fn a_flood_of_logins_is_recorded_up_to_the_days_budget() {
        let budget = LoginBudget::default();
        let recorded = |now| -> usize {
            let reports = 0..1_440;
            reports.map(|_| budget.take(&host(0), 500, now)).sum()
        };
        let day = NOW - NOW % DAY;
        assert_eq!(recorded(day), 5_000);
        assert_eq!(recorded(day + DAY - 1), 0);
        assert_eq!(budget.take(&host(1), 500, day), 500);
        assert_eq!(recorded(day + DAY), 5_000);
    }
}
