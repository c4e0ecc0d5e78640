//! People who log in again and again while something is done to the hosts' trust, and how each login ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eic_lab::aws::Credentials;
use eic_lab::process::{Output, RoomCommand};
use eic_lab::{Ca, Client, Host, Lab};

use super::company::{PATIENCE, key_file, ubuntu_at, wait};
use crate::aws_calls::{INSTANCE_CONNECT, push};

/// Where somebody logs in, and how.
pub(super) struct Worker {
    client: Client,
    targets: Vec<Target>,
    way: Way,
}

struct Target {
    id: String,
    address: String,
    ssh: String,
}

/// What opens the hosts.
enum Way {
    /// A certificate of the resident agent's, as it is at hand.
    Agent,
    /// The same after signing out, as a job on a fresh machine: each login takes a session and a certificate.
    Anew,
    /// A key pushed by Instance Connect, and an ssh that has never heard of ours: it knows host CAs by known_hosts.
    Pushed(Pushed),
}

/// A key, who pushes it, and when that was last done.
struct Pushed {
    lab: Lab,
    credentials: Credentials,
    key: String,
    last: Option<Instant>,
}

/// A pushed key lives a minute.
const PUSHED_FOR: Duration = Duration::from_secs(20);

/// Where a machine without our client has its host CAs, below the home folder.
const KNOWN_CAS: &str = ".ssh/known_cas";

/// A machine that has stock ssh, a key and AWS credentials to push it, and trusts this CA's first host CA.
pub(super) fn pusher(lab: &Lab, ca: &Ca, name: &str) -> Client {
    let client = lab.client(name).unwrap();
    client.make_key("id_ed25519").unwrap();
    trust_host_ca(&client, ca, "host-ca");
    client
}

/// One more host CA for a [`pusher`], as its administrators would have it.
pub(super) fn trust_host_ca(client: &Client, ca: &Ca, name: &str) {
    let file = client.home().join(KNOWN_CAS);
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    let key = key_file(ca, name).with_added_extension("pub");
    let key = std::fs::read_to_string(key).unwrap();
    let line = format!("@cert-authority * {}\n", key.trim_end());
    // In one step: logins are under way.
    let new = file.with_added_extension("new");
    std::fs::write(&new, known + &line).unwrap();
    std::fs::rename(new, file).unwrap();
}

impl Worker {
    /// Logs in to each host in turn, with whatever the resident agent has at hand.
    pub(super) fn at(client: &Client, hosts: &[&Host]) -> Self {
        let target = |host: &&Host| Target {
            id: host.id().to_owned(),
            address: host.address().to_string(),
            ssh: ubuntu_at(host),
        };
        Self {
            client: client.clone(),
            targets: hosts.iter().map(target).collect(),
            way: Way::Agent,
        }
    }

    /// Signs out before each login.
    pub(super) fn anew(mut self) -> Self {
        self.way = Way::Anew;
        self
    }

    /// Logs in with a pushed key; the machine is a [`pusher`].
    pub(super) fn by_pushed_key(mut self, lab: &Lab) -> Self {
        let public = self.client.home().join(".ssh/id_ed25519.pub");
        let user = format!("pushes-{}", self.client.name());
        self.way = Way::Pushed(Pushed {
            lab: lab.clone(),
            credentials: lab.aws().unwrap().user(&user, INSTANCE_CONNECT).unwrap(),
            key: std::fs::read_to_string(public).unwrap(),
            last: None,
        });
        self
    }

    /// What a tally calls it.
    fn name(&self) -> String {
        let way = match self.way {
            Way::Agent => "certificate",
            Way::Anew => "new sign-in and certificate",
            Way::Pushed(_) => "pushed key",
        };
        format!("{} ({way})", self.client.name())
    }

    fn log_in(&mut self, round: usize) -> Outcome {
        let target = &self.targets[round % self.targets.len()];
        let options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=20"];
        let command = self.client.command("ssh").args(options);
        let command = match &mut self.way {
            Way::Agent => command.arg(&target.ssh),
            Way::Anew => {
                self.client.run("eic-login", ["logout"]).unwrap();
                command.arg(&target.ssh)
            }
            Way::Pushed(pushed) => {
                pushed.push(&self.targets);
                stock(command, target)
            }
        };
        outcome(&command.arg("whoami").run().unwrap())
    }
}

impl Pushed {
    fn push(&mut self, targets: &[Target]) {
        if self.last.is_some_and(|last| last.elapsed() < PUSHED_FOR) {
            return;
        }
        let aws = self.lab.aws().unwrap();
        for target in targets {
            let call = push(&target.id, "ubuntu", &self.key);
            aws.call(&self.credentials, &call).unwrap();
        }
        self.last = Some(Instant::now());
    }
}

/// The host certificate is for the instance's id.
fn stock(command: RoomCommand, target: &Target) -> RoomCommand {
    let options = [
        "IdentitiesOnly=yes".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        format!("UserKnownHostsFile={KNOWN_CAS}"),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        format!("HostKeyAlias={}", target.id),
    ];
    let command = command.args(["-F", "none", "-i", ".ssh/id_ed25519"]);
    let command = options
        .iter()
        .fold(command, |command, option| command.args(["-o", option]));
    command.arg(format!("ubuntu@{}", target.address))
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

impl Tally {
    fn line(&self) -> String {
        format!(
            "{} logins, {} met nobody (sshd or the CA was just starting), {} refused",
            self.let_in,
            self.unreachable,
            self.refused.len()
        )
    }
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
                std::thread::spawn(move || work(worker, &stop, &count)),
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

    /// Waits until all together have been let in so many times since the start.
    pub(super) fn reaches(&self, wanted: usize) {
        let made = || {
            let each = self.workers.iter();
            each.map(|(made, _)| made.load(Ordering::SeqCst)).sum()
        };
        let mut before: usize = made();
        while before < wanted {
            wait("more logins", PATIENCE, || made() > before);
            before = made();
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
        println!("all: {}", all.line());
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

fn work(mut worker: Worker, stop: &AtomicBool, made: &AtomicUsize) -> Tally {
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
    println!("{}: {}", worker.name(), tally.line());
    tally
}
