//! Several ways at once: each has a head start over the next, the first that connects wins, the others are stopped.
//! Where one fails, the next begins at once.

use std::process::Child;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Link, Way};
use crate::exit_code::{self, Failure};

/// Head start of each way over the next: a direct connection that needs longer is rare, a tunnel costs quota.
pub const HEAD_START: Duration = Duration::from_millis(400);
/// Head start of a tunnel over the next one: it asks AWS first, and each of them costs quota.
pub const TUNNEL_HEAD_START: Duration = Duration::from_secs(5);

/// How one way is tried: blocking, on a thread of its own.
pub type Opener = Box<dyn FnOnce(&Canceller) -> Result<Link, Failure> + Send>;

/// Tries the ways in order.
///
/// # Errors
/// One [`Failure`] that names each way and why it failed.
pub fn race(ways: Vec<(Way, Opener)>) -> Result<(Way, Link), Failure> {
    race_with(ways, head_start)
}

fn race_with(
    ways: Vec<(Way, Opener)>,
    head_start: impl Fn(Way) -> Duration,
) -> Result<(Way, Link), Failure> {
    let (sender, results) = channel();
    let mut waiting = ways.into_iter();
    let mut running: Vec<(Way, Canceller)> = Vec::new();
    let mut failed: Vec<(Way, Failure)> = Vec::new();
    let mut patience = Duration::ZERO;
    loop {
        if let Some((way, open)) = waiting.next() {
            patience = head_start(way);
            running.push((way, start(way, open, sender.clone())));
        } else if failed.len() == running.len() {
            return Err(told(failed));
        }
        // Waits for good once all have begun: each has a deadline of its own.
        let result = match waiting.len() {
            0 => results.recv().map_err(|_| RecvTimeoutError::Disconnected),
            _ => results.recv_timeout(patience),
        };
        match result {
            Ok((way, Ok(link))) => {
                stop_others(&running, way);
                return Ok((way, link));
            }
            Ok((way, Err(failure))) => failed.push((way, failure)),
            Err(_) => {}
        }
    }
}

fn head_start(way: Way) -> Duration {
    match way {
        Way::Direct => HEAD_START,
        Way::Bastion | Way::Endpoint | Way::Ssm => TUNNEL_HEAD_START,
    }
}

type Outcome = (Way, Result<Link, Failure>);

fn start(way: Way, open: Opener, results: Sender<Outcome>) -> Canceller {
    let canceller = Canceller::default();
    let own = canceller.clone();
    // Ends with its attempt; a late winner's descriptor is closed with the channel.
    std::thread::spawn(move || results.send((way, open(&own))));
    canceller
}

fn stop_others(running: &[(Way, Canceller)], winner: Way) {
    for (_, canceller) in running.iter().filter(|(way, _)| *way != winner) {
        canceller.cancel();
    }
}

fn told(mut failed: Vec<(Way, Failure)>) -> Failure {
    if failed.len() == 1 {
        let only = failed.pop();
        return only.map_or_else(no_way, |(_, failure)| failure);
    }
    let Some((_, first)) = failed.first() else {
        return no_way();
    };
    let same = failed.iter().all(|(_, failure)| failure.code == first.code);
    let code = if same {
        first.code
    } else {
        exit_code::UNREACHABLE
    };
    let ways: Vec<String> = failed
        .iter()
        .map(|(way, failure)| format!("{way}: {}", failure.message))
        .collect();
    Failure::new(
        code,
        format!("the host was not reached; {}", ways.join("; ")),
    )
}

fn no_way() -> Failure {
    Failure::new(exit_code::UNREACHABLE, "there is no way to the host")
}

/// Stops an attempt: the process that makes it is killed.
#[derive(Clone, Debug, Default)]
pub struct Canceller(Arc<Mutex<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    child: Option<Child>,
    cancelled: bool,
}

impl Canceller {
    /// Names the attempt's process.
    pub fn watch(&self, child: Child) {
        let mut watched = self.watched();
        watched.child = Some(child);
        if watched.cancelled {
            watched.kill();
        }
    }

    /// The process has become the tunnel, or ended: it is left alone from now on.
    pub fn release(&self) {
        let child = self.watched().child.take();
        if let Some(mut child) = child {
            // Takes one that has ended out of the process table; one that lives is init's when we end.
            let _ = child.try_wait();
        }
    }

    /// Kills the process.
    pub fn cancel(&self) {
        let mut watched = self.watched();
        watched.cancelled = true;
        watched.kill();
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.child = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(20);

    fn fails(code: u8, why: &'static str) -> Opener {
        Box::new(move |_| Err(Failure::new(code, why)))
    }

    fn connects() -> Opener {
        Box::new(|_| Ok(Link::Carried(UnixStream::pair().unwrap().0)))
    }

    #[test]
    fn every_way_that_failed_is_named_with_its_reason() {
        let failed = race_with(
            vec![
                (Way::Direct, fails(exit_code::UNREACHABLE, "no answer")),
                (Way::Endpoint, fails(exit_code::DENIED, "not allowed")),
            ],
            |_| LONG,
        )
        .unwrap_err();
        assert_eq!(
            failed.message,
            "the host was not reached; direct: no answer; endpoint: not allowed"
        );
        assert_eq!(failed.code, exit_code::UNREACHABLE);
        let only = race_with(
            vec![(Way::Endpoint, fails(exit_code::DENIED, "not allowed"))],
            |_| LONG,
        )
        .unwrap_err();
        assert_eq!(
            (only.code, only.message.as_str()),
            (exit_code::DENIED, "not allowed")
        );
        assert!(race_with(Vec::new(), |_| LONG).is_err());
    }

    #[test]
    fn the_next_way_does_not_wait_for_one_that_failed() {
        let started = Instant::now();
        let ways = vec![(Way::Direct, fails(5, "x")), (Way::Endpoint, connects())];
        assert_eq!(race_with(ways, |_| LONG).unwrap().0, Way::Endpoint);
        assert!(started.elapsed() < LONG);
    }

    #[test]
    fn a_way_within_its_head_start_spends_nothing_on_the_next() {
        let never: Opener = Box::new(|_| panic!("begun"));
        let (way, _) = race_with(
            vec![(Way::Direct, connects()), (Way::Endpoint, never)],
            |_| LONG,
        )
        .unwrap();
        assert_eq!(way, Way::Direct);
    }

    #[test]
    fn the_loser_is_stopped() {
        let (mark, marked) = channel();
        let sleeps: Opener = Box::new(move |canceller| {
            let child = Command::new("sleep")
                .arg("60")
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            let pid = child.id();
            canceller.watch(child);
            mark.send(pid).unwrap();
            std::thread::sleep(Duration::from_secs(2));
            Err(Failure::new(5, "late"))
        });
        let ways = vec![(Way::Direct, sleeps), (Way::Endpoint, connects())];
        assert_eq!(
            race_with(ways, |_| Duration::from_millis(200)).unwrap().0,
            Way::Endpoint
        );
        let pid = marked.recv().unwrap();
        // Killed and waited for: gone from the process table.
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
