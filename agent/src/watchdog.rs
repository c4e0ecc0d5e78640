//! A time limit around work that the kernel may hold up (a disk, a FIFO, a dead mount).
//! sshd has no limit of its own short of LoginGraceTime, so a command that hangs holds a login for two minutes.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use crate::clock::Deadline;

/// Runs `work` on a thread of its own and waits at most `budget` for it.
///
/// After an overrun the thread is left behind: the caller must end the process, which ends it.
///
/// # Errors
/// [`Overrun`] when the time is up, or when the thread could not be started or died.
pub fn within<T: Send + 'static>(
    budget: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Overrun> {
    Worker::start(budget, move |done| _ = done.send(work()))?.next()
}

/// Work on a thread of its own that reports in pieces, all of them within one budget.
#[derive(Debug)]
pub struct Worker<T> {
    reports: Receiver<T>,
    budget: Duration,
    deadline: Deadline,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts `work` with the sender of its reports.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(
        budget: Duration,
        work: impl FnOnce(&SyncSender<T>) + Send + 'static,
    ) -> Result<Self, Overrun> {
        let (done, reports) = mpsc::sync_channel(2);
        thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || work(&done))
            .map_err(|_| Overrun(budget))?;
        Ok(Self {
            reports,
            budget,
            deadline: Deadline::after(budget),
        })
    }

    /// The next report.
    ///
    /// # Errors
    /// [`Overrun`] when the budget is used up, or the thread died.
    pub fn next(&self) -> Result<T, Overrun> {
        let left = self.deadline.remaining().unwrap_or_default();
        self.reports
            .recv_timeout(left)
            .map_err(|_| Overrun(self.budget))
    }

    /// The next report, if it comes within `head_start`; the work goes on either way.
    #[must_use]
    pub fn soon(&self, head_start: Duration) -> Option<T> {
        self.reports.recv_timeout(head_start).ok()
    }
}

/// Enough for certificate parsing, which recurses a few levels only.
const STACK_BYTES: usize = 1 << 20;

/// The work took too long, or died.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("finish within {} ms: nothing is printed", .0.as_millis())]
pub struct Overrun(Duration);

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_that_hangs_is_given_up() {
        // J-07
        let started = Instant::now();
        let (hold, never) = mpsc::channel::<()>();
        let outcome = within(Duration::from_millis(30), move || never.recv().is_ok());
        assert!(outcome.is_err());
        assert!(started.elapsed() < Duration::from_secs(10));
        drop(hold);
    }

    #[test]
    fn work_that_dies_is_an_error() {
        let outcome = within(Duration::from_secs(5), || panic!("deliberate"));
        assert_eq!(
            outcome.map(|(): ()| ()),
            Err(Overrun(Duration::from_secs(5)))
        );
    }

    #[test]
    fn all_reports_share_one_budget() {
        // Enough for the first on a busy machine.
        let budget = Duration::from_secs(2);
        let worker = Worker::start(budget, |done| {
            let _ = done.send(1);
            thread::sleep(Duration::from_secs(60));
        });
        let worker = worker.unwrap();
        assert_eq!(worker.next(), Ok(1));
        assert_eq!(worker.soon(Duration::from_millis(1)), None);
        assert_eq!(worker.next(), Err(Overrun(budget)));
    }

    #[test]
    fn work_that_ends_is_returned() {
        assert_eq!(within(Duration::from_secs(5), || 7), Ok(7));
    }
}
