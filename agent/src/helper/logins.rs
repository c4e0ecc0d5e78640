//! The helper's door for logins: runs a chained command of another user (`user =` in `[[authorized_keys.command]]`)
//! for AuthorizedKeysCommandUser, whom sshd has left with no rights to do that itself. A door of its own: whoever
//! has taken that account over can ask for nothing else here, and the service's verbs are not reachable from it.
//!
//! Which program runs, as whom, and for how long is root's file's word, read anew for each errand. The peer's are
//! the command's name and tokens in sshd's forms. No errand ever runs as root.

mod bounds;

use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::bounds::{Bounds, Place};
use super::wire::{self, Patience};
use super::{HelperError, Host, bind, chain, demand_root, peer};
use crate::chained::errand::{Errand, MAX_ERRAND, Outcome};
use crate::chained::tokens::{StrangeToken, Tokens};
use crate::chained::{self, NoLines};
use crate::clock::Deadline;
use crate::passwd::Account;

/// How long an errand may take to arrive: it is sent in one go.
const ARRIVAL: Duration = Duration::from_secs(2);
/// After so long without an errand a program that systemd has started ends: nothing of root's waits in memory.
const IDLE: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

/// Serves the listening socket that is standard input, until nobody has come for a minute.
///
/// # Errors
/// [`HelperError`]: not root, no listening socket, on a terminal, a wrong configuration.
pub fn serve_standard_input(config: Option<&Path>) -> Result<(), HelperError> {
    // Close-on-exec: a command of another user must not accept at root's door.
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned();
    let descriptor = descriptor.map_err(HelperError::Socket)?;
    match rustix::net::sockopt::socket_acceptconn(&descriptor) {
        Ok(true) => serve(&UnixListener::from(descriptor), config, Some(&IDLE)),
        Ok(false) => Err(HelperError::Socket(std::io::ErrorKind::InvalidInput.into())),
        Err(e) => Err(HelperError::Socket(e.into())),
    }
}

/// Serves connections at `socket` until it is ended.
///
/// # Errors
/// As [`serve_standard_input`].
pub fn listen(config: Option<&Path>, socket: &Path) -> Result<(), HelperError> {
    demand_root()?;
    serve(&bind(socket).map_err(HelperError::Socket)?, config, None)
}

fn serve(
    listener: &UnixListener,
    config: Option<&Path>,
    idle: Option<&Timespec>,
) -> Result<(), HelperError> {
    demand_root()?;
    // A command could put words into root's shell (TIOCSTI).
    if std::fs::File::open("/dev/tty").is_ok() {
        return Err(HelperError::Terminal);
    }
    // A wrong configuration is told at once, not at the first login.
    Host::this(config)?;
    let bounds = Bounds::new();
    loop {
        if !is_readable(listener, idle)? {
            if bounds.is_idle() {
                return Ok(());
            }
            continue;
        }
        if let Err(e) = listener
            .accept()
            .map_err(HelperError::Socket)
            .and_then(|(stream, _)| admit(stream, config, &bounds))
        {
            crate::commands::complain(&e);
        }
    }
}

fn is_readable(listener: &UnixListener, at_most: Option<&Timespec>) -> Result<bool, HelperError> {
    let mut waited = [PollFd::new(listener, PollFlags::IN)];
    match poll(&mut waited, at_most) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(e) => Err(HelperError::Socket(e.into())),
    }
}

/// Lets AuthorizedKeysCommandUser in, within bounds, and does its errand on a thread of its own.
fn admit(
    stream: UnixStream,
    config: Option<&Path>,
    bounds: &Arc<Bounds>,
) -> Result<(), HelperError> {
    // Read anew for each: the administrator may have changed it.
    let host = Host::this(config)?;
    let accounts = host.accounts()?;
    let served = peer::Served {
        user: host.config.service.command_user(&accounts),
        setting: "command_user",
    };
    peer::check(&stream, served, &accounts)?;
    let Some(place) = bounds.enter(Instant::now()) else {
        let busy = Outcome::Failed("is asked too often at the moment".to_owned());
        return wire::send(&stream, &busy).map_err(HelperError::Talk);
    };
    let work = move || do_errand(&stream, &host, &accounts, place);
    let started = thread::Builder::new().spawn(work);
    started.map(drop).map_err(HelperError::Socket)
}

/// `place` is given up at the end, whatever happens.
fn do_errand(stream: &UnixStream, host: &Host, accounts: &[Account], place: Place) {
    let patience = Patience {
        deadline: Deadline::after(ARRIVAL),
        cancelled: &|| false,
    };
    let received = wire::receive_within::<Errand>(stream, MAX_ERRAND, &patience);
    let done = received.and_then(|errand| {
        let outcome = match run(&errand, host, accounts, &|| has_hung_up(stream)) {
            Ok(lines) => Outcome::Lines(lines),
            Err(e) => Outcome::Failed(chain(&e)),
        };
        wire::send(stream, &outcome)
    });
    drop(place);
    if let Err(e) = done {
        crate::commands::complain(&HelperError::Talk(e));
    }
}

/// Somebody who does not wait for the answer wants nothing to go on running.
fn has_hung_up(stream: &UnixStream) -> bool {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut asked = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::RDHUP)];
    poll(&mut asked, Some(&at_once)).is_ok_and(|count| count > 0)
}

fn run(
    errand: &Errand,
    host: &Host,
    accounts: &[Account],
    gone: &dyn Fn() -> bool,
) -> Result<String, NotRun> {
    let tokens = Tokens::of_a_stranger(&errand.tokens)?;
    let commands = &host.config.authorized_keys.command;
    let (command, user) = commands
        .of_another_user(&errand.command)
        .ok_or_else(|| NotRun::Unlisted(eic_protocol::text::printable(&errand.command)))?;
    let account = account(user, accounts)?;
    Ok(chained::run(
        command,
        &tokens,
        Some(account),
        &host.trusted,
        gone,
    )?)
}

/// Gid 0 is refused as well: root's group may write what only root should, and as that group the kernel would let
/// a helper without CAP_SETGID keep root's further groups.
fn account<'a>(user: &str, accounts: &'a [Account]) -> Result<&'a Account, NotRun> {
    let named = accounts.iter().find(|account| account.name == user);
    let account = named.ok_or_else(|| NotRun::NoAccount(user.to_owned()))?;
    if account.uid == 0 || account.gid == 0 {
        return Err(NotRun::Root(account.name.clone()));
    }
    Ok(account)
}

/// Why a command was not run, or gave nothing.
#[derive(Debug, thiserror::Error)]
enum NotRun {
    #[error(transparent)]
    Token(#[from] StrangeToken),
    #[error("find `{0}` among the chained commands that have a `user`")]
    Unlisted(String),
    #[error("run it as `{0}`: there is no such account in /etc/passwd")]
    NoAccount(String),
    #[error("run it as `{0}`: that account has root's uid or group")]
    Root(String),
    #[error(transparent)]
    Command(#[from] NoLines),
}
