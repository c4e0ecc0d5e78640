//! People who log in again and again while something is done to the hosts' trust, and how each login ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use eic_lab::process::Output;
use eic_lab::{Client, Host};

use super::company::{PATIENCE, ubuntu_at, wait};

/// Where somebody logs in, and how.
pub(super) struct Worker {
    client: Client,
    targets: Vec<String>,
    anew: bool,
}

impl Worker {
    /// Logs in to each host in turn, with whatever the resident agent has at hand.
    pub(super) fn at(client: &Client, hosts: &[&Host]) -> Self {
        Self {
            client: client.clone(),
            targets: hosts.iter().map(|host| ubuntu_at(host)).collect(),
            anew: false,
        }
    }

    /// Signs out before each login, as a job on a fresh machine: each one takes a session and a certificate.
    pub(super) fn anew(mut self) -> Self {
        self.anew = true;
        self
    }

    fn log_in(&self, round: usize) -> Outcome {
        if self.anew {
            self.client.run("eic-login", ["logout"]).unwrap();
        }
        let target = self.targets[round % self.targets.len()].as_str();
        let options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=20"];
        let command = self.client.command("ssh").args(options);
        outcome(&command.args([target, "whoami"]).run().unwrap())
    }
}

/// How a login ended.
enum Outcome {
    In,
    /// Nobody judged it: sshd or the CA took no connection.
    Unreachable,
    Refused(String),
}

/// A refusal is whatever was judged, or is not known to be something else.
fn outcome(output: &Output) -> Outcome {
    let said = &output.stderr;
    if output.status.success() && output.stdout.trim() == "ubuntu" {
        return Outcome::In;
    }
    let judged = ["Permission denied", "verification failed", "Too many"];
    let away = [
        "Connection refused",
        "Connection reset by",
        "Connection closed by",
        "the CA cannot be reached",
        "the CA gave no answer",
    ];
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    match says(&away) && !says(&judged) {
        true => Outcome::Unreachable,
        false => Outcome::Refused(format!("{}: {said}", output.status)),
    }
}

/// What became of all logins.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) let_in: usize,
    pub(super) unreachable: usize,
    pub(super) refused: Vec<String>,
}

/// Logins under way.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    workers: Vec<(Arc<AtomicUsize>, JoinHandle<Tally>)>,
}

impl Traffic {
    pub(super) fn start<const N: usize>(workers: [Worker; N]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let workers = workers.map(|worker| {
            let (stop, made) = (Arc::clone(&stop), Arc::default());
            let count = Arc::clone(&made);
            (
                made,
                std::thread::spawn(move || work(&worker, &stop, &count)),
            )
        });
        Self {
            stop,
            workers: workers.into(),
        }
    }

    /// Waits until everybody has been let in so many times more.
    pub(super) fn goes_on(&self, more: usize) {
        for (made, _) in &self.workers {
            let wanted = made.load(Ordering::SeqCst) + more;
            wait("more logins", PATIENCE, || {
                made.load(Ordering::SeqCst) >= wanted
            });
        }
    }

    /// Ends it after the logins that are under way.
    pub(super) fn end(mut self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Tally::default();
        for (_, worker) in std::mem::take(&mut self.workers) {
            let one = worker.join().unwrap();
            all.let_in += one.let_in;
            all.unreachable += one.unreachable;
            all.refused.extend(one.refused);
        }
        println!(
            "{} logins, {} met nobody, {} refused",
            all.let_in,
            all.unreachable,
            all.refused.len()
        );
        all
    }
}

/// A scenario that fails leaves nobody behind who logs in, and says how far they came.
impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for (_, worker) in std::mem::take(&mut self.workers) {
            let tally = worker.join();
            println!(
                "{:?}",
                tally.map(|tally| (tally.let_in, tally.unreachable, tally.refused))
            );
        }
    }
}

fn work(worker: &Worker, stop: &AtomicBool, made: &AtomicUsize) -> Tally {
    let mut tally = Tally::default();
    for round in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        match worker.log_in(round) {
            Outcome::In => {
                tally.let_in += 1;
                made.fetch_add(1, Ordering::SeqCst);
            }
            Outcome::Unreachable => tally.unreachable += 1,
            Outcome::Refused(why) => tally.refused.push(why),
        }
    }
    tally
}
