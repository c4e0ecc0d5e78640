//! `eic-login connect`: ssh's ProxyCommand. Small: asks the resident agent, connects, hands the descriptor over.

use std::ffi::OsString;
use std::net::{IpAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::options::Options;
use crate::control::client::{Agent, Conversation};
use crate::control::message::{Ask, NotReached, Reply};
use crate::exit_code::{self, Failure};
use crate::terminal;
use crate::transport::{direct, hand_over};

/// Runs the command.
pub(super) fn run(args: &[OsString]) -> Result<(), Failure> {
    if args.is_empty() {
        // The form that ssh_config gives to names with a quote (H-03).
        return Err(Failure::usage(
            "this user or host name is refused: it contains a quote",
        ));
    }
    let options = Options::parse(args, &["dir", "user", "host", "port"])?.login()?;
    let agent = Agent::new(&options.dir)?;
    let (conversation, reply) = agent.ask(Ask::Connect(options.ask()))?;
    let stream = follow(conversation, reply)?;
    hand_over::hand_over(stream)
        .map_err(|e| Failure::new(exit_code::FAILURE, format!("the connection broke: {e}")))
}

/// The TCP connection is made while the certificate is on its way.
fn follow(mut conversation: Conversation, reply: Reply) -> Result<TcpStream, Failure> {
    let tcp = match reply {
        Reply::Route {
            addresses, port, ..
        } => start(addresses, port),
        Reply::Failed(failure) => return Err(failure),
        _ => return Err(unexpected()),
    };
    match conversation.answer()? {
        Reply::Ready { notes } => notes.iter().for_each(|note| terminal::note(note)),
        Reply::Failed(failure) => return Err(failure),
        _ => return Err(unexpected()),
    }
    let connected = tcp.recv().unwrap_or(Err(direct::NotReached::NoAddress));
    connected.map_err(|error| {
        // So that the next try asks for the addresses again; if that cannot be said, it expires by itself.
        let _ = conversation.tell(&NotReached);
        Failure::new(exit_code::UNREACHABLE, error.to_string())
    })
}

fn start(addresses: Vec<IpAddr>, port: u16) -> Receiver<Result<TcpStream, direct::NotReached>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(direct::connect(&addresses, port)));
    receiver
}

fn unexpected() -> Failure {
    Failure::new(
        exit_code::FAILURE,
        "the resident agent gave an unexpected answer: run `eic-login logout`, then try again",
    )
}
