//! A time limit around work that the kernel may hold up (a disk, a FIFO, a dead mount).
//! sshd has no limit of its own short of LoginGraceTime, so a command that hangs holds a login for two minutes.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

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
    let (done, result) = mpsc::sync_channel(1);
    thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || done.send(work()))
        .map_err(|_| Overrun(budget))?;
    result.recv_timeout(budget).map_err(|_| Overrun(budget))
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
        assert!(started.elapsed() < Duration::from_secs(1));
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
    fn work_that_ends_is_returned() {
        assert_eq!(within(Duration::from_secs(5), || 7), Ok(7));
    }
}
