//! `eic-login connect`: ssh's ProxyCommand. Small: asks the resident agent, connects, hands the descriptor over.

use std::ffi::OsString;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::options::Options;
use crate::control::client::Agent;
use crate::control::message::{self, Ask, ConnectAsk, NotReached, Reply};
use crate::exit_code::{self, Failure};
use crate::terminal;
use crate::transport::chain::Chain;
use crate::transport::{Link, hand_over};

mod ways;

use ways::{Given, Ways};

/// Longest `--wait`. Seconds; an instance that is not up after an hour will not be.
pub(super) const MAX_WAIT: u64 = 3_600;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_secs(2);
/// How long one answer of the agent is tried with: a pushed key is good for 60 s.
const READY_FOR: Duration = Duration::from_secs(40);

/// Its options. Beside those that ssh_config gives: how long to wait, and the way.
const KNOWN: [&str; 12] = [
    "dir",
    "user",
    "host",
    "port",
    "wait",
    "via",
    "bastion",
    "address",
    "zone",
    "endpoint",
    "dns-name",
    "max-duration",
];

/// Runs the command.
pub(super) fn run(args: &[OsString]) -> Result<(), Failure> {
    if args.is_empty() {
        // The form that ssh_config gives to names with a quote (H-03).
        return Err(Failure::usage(
            "this user or host name is refused: it contains a quote",
        ));
    }
    let options = Options::parse(args, &KNOWN)?;
    let patience = options.seconds("wait", MAX_WAIT)?;
    let given = Given {
        via: options.optional("via")?,
        bastion: options.optional("bastion")?,
        address: options.optional("address")?,
        endpoint: options.optional("endpoint")?,
        dns_name: options.optional("dns-name")?,
        max_duration: options.optional("max-duration")?,
        behind: Chain::from_env()?,
    };
    let login = options.login()?;
    let agent = Agent::new(&login.dir)?;
    let zone = options.optional("zone")?;
    let ask = ConnectAsk {
        // A tunnel is planned by what EC2 says of the instance.
        given: given.needs_no_tunnel().then_some(message::Given { zone }),
        ..login.ask()?
    };
    let link = reach(&agent, &ask, &given, Instant::now() + patience)?;
    hand_over::hand_over(link)
        .map_err(|e| Failure::new(exit_code::FAILURE, format!("the connection broke: {e}")))
}

/// Tries until `deadline` where what is wrong may pass by itself; once where the deadline is now.
fn reach(
    agent: &Agent,
    ask: &ConnectAsk,
    given: &Given,
    deadline: Instant,
) -> Result<Link, Failure> {
    let mut told = false;
    loop {
        match try_once(agent, ask, given, deadline) {
            Err(failure) if failure.passing && Instant::now() + PAUSE < deadline => {
                if !told {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let host = &ask.host;
                    terminal::note(&format!(
                        "waiting up to {} s for {host}: {}",
                        left.as_secs(),
                        failure.message
                    ));
                }
                told = true;
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

/// The TCP connection is made while the certificate is on its way.
fn try_once(
    agent: &Agent,
    ask: &ConnectAsk,
    given: &Given,
    deadline: Instant,
) -> Result<Link, Failure> {
    let (mut conversation, reply) = agent.ask(Ask::Connect(ask.clone()))?;
    let ways = match reply {
        Reply::Route {
            instance,
            addresses,
            port,
            ways,
        } => {
            let behind = given.behind.with(&instance)?;
            let given = Given {
                behind,
                ..given.clone()
            };
            Ways::new(agent.run_dir.clone(), ask, &given, addresses, port, ways)
        }
        Reply::Failed(failure) => return Err(failure),
        _ => return Err(unexpected()),
    };
    let opening = start(ways.clone());
    match conversation.answer()? {
        Reply::Ready { notes } => notes.iter().for_each(|note| terminal::note(note)),
        Reply::Failed(failure) => return Err(failure),
        _ => return Err(unexpected()),
    }
    let mut connected = opening.recv().unwrap_or_else(|_| Err(unexpected()));
    // While the pushed key is still good: asking again would push one more.
    let while_ready = deadline.min(Instant::now() + READY_FOR);
    while connected.is_err() && ways.has_addresses() && Instant::now() + PAUSE < while_ready {
        std::thread::sleep(PAUSE);
        connected = ways.open();
    }
    connected.inspect_err(|_| {
        // So that the next try asks for the addresses again; if that cannot be said, it expires by itself.
        let _ = conversation.tell(&NotReached);
    })
}

fn start(ways: Ways) -> Receiver<Result<Link, Failure>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(ways.open()));
    receiver
}

fn unexpected() -> Failure {
    Failure::new(
        exit_code::FAILURE,
        "the resident agent gave an unexpected answer: run `eic-login logout`, then try again",
    )
}
