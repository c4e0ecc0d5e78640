//! Further AuthorizedKeysCommands behind ours: sshd has room for one, the administrator may have more
//! (a directory service, an identity provider, a company's own).
//!
//! All of them run at once, each bounded in time and bytes: as the user that sshd runs us as or, those that name
//! another one, by the root helper (`elsewhere`, `errand`). What one of them does, however wrong, costs only its
//! own lines. Whether a line opens an account is sshd's to judge.

pub mod definition;
pub(crate) mod elsewhere;
pub(crate) mod errand;
mod lines;
mod process;
pub mod tokens;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

pub use self::definition::{ChainedCommand, ChainedCommands};
use self::process::{Limits, Program};
use self::tokens::Tokens;
use crate::clock::Deadline;
use crate::passwd::Account;
use crate::syslog::Log;
use crate::trusted_file::{Trusted, UntrustedFile};

/// Commands under way. Dropped early, they are killed.
#[derive(Debug)]
pub struct Running {
    names: Vec<String>,
    deadline: Deadline,
    results: Receiver<(usize, Result<String, NoLines>)>,
    cancelled: Arc<AtomicBool>,
}

/// What a command may take beyond its own deadline to be killed and reaped.
const GRACE: Duration = Duration::from_millis(200);

/// Starts every command with sshd's `tokens`; those of other users through the root helper at `door`.
#[must_use]
pub fn start(
    commands: &ChainedCommands,
    tokens: &Tokens,
    door: &Path,
    trusted: &Trusted,
) -> Running {
    let longest = commands.iter().map(|c| c.deadline).max();
    let (report, results) = mpsc::channel();
    let cancelled = Arc::new(AtomicBool::new(false));
    for (index, command) in commands.iter().enumerate() {
        let (command, tokens, trusted) = (command.clone(), tokens.clone(), trusted.clone());
        let (done, cancelled) = (report.clone(), Arc::clone(&cancelled));
        let door = door.to_path_buf();
        // A thread each: a path on a dead mount would hold up the check of every later command as well.
        let work = move || {
            let cancelled = || cancelled.load(Ordering::Acquire);
            let outcome = match &command.user {
                Some(_) => elsewhere::run(&command, &tokens, &door, &cancelled),
                None => run(&command, &tokens, None, &trusted, &cancelled),
            };
            done.send((index, outcome))
        };
        if let Err(e) = thread::Builder::new().stack_size(STACK_BYTES).spawn(work) {
            let _ = report.send((index, Err(NoLines::Start(e))));
        }
    }
    Running {
        names: commands.iter().map(|c| c.name.clone()).collect(),
        deadline: Deadline::after(longest.unwrap_or_default() + GRACE),
        results,
        cancelled,
    }
}

/// Room for one child's start and one bounded read loop.
const STACK_BYTES: usize = 256 * 1024;

impl Running {
    /// The key lines of every command that ended well, in the order of the configuration; waits for the slowest
    /// of them, at most to its deadline. Each failure is one line in the log.
    #[must_use]
    pub fn finish(self, log: &dyn Log) -> String {
        let mut lines: Vec<Option<String>> = vec![None; self.names.len()];
        let mut open = self.names.len();
        while open > 0
            && let Some(left) = self.deadline.remaining()
            && let Ok((index, result)) = self.results.recv_timeout(left)
        {
            open -= 1;
            let name = self.names.get(index).map_or("", String::as_str);
            let kept = result.unwrap_or_else(|e| {
                log.info(&complaint(name, &e));
                String::new()
            });
            if let Some(slot) = lines.get_mut(index) {
                *slot = Some(kept);
            }
        }
        for (name, _) in self.names.iter().zip(&lines).filter(|(_, l)| l.is_none()) {
            log.info(&complaint(name, &NoLines::Late));
        }
        lines.into_iter().flatten().collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
        // The threads kill their groups and drop their senders: the channel's end says that all are gone.
        let until = Deadline::after(GRACE);
        while let Some(left) = until.remaining()
            && self.results.recv_timeout(left).is_ok()
        {}
    }
}

fn complaint(name: &str, error: &NoLines) -> String {
    let reason = crate::commands::chain(error);
    format!("keys command `{name}` gives no keys: failed to {reason}")
}

/// The key lines of one command, run here and now: as ourselves, or by root as `account`.
///
/// # Errors
/// [`NoLines`].
pub(crate) fn run(
    command: &ChainedCommand,
    tokens: &Tokens,
    account: Option<&Account>,
    trusted: &Trusted,
    cancelled: &dyn Fn() -> bool,
) -> Result<String, NoLines> {
    let limits = Limits {
        deadline: Deadline::after(command.deadline),
        max_bytes: command.max_bytes,
    };
    let arguments = tokens.expand(command)?;
    // As sshd does before it runs a command (sshd_config(5), AuthorizedKeysCommand), and at each run:
    // what was safe at the last reading of the configuration may not be now.
    // What was checked is run, not what a link says a moment later.
    let checked = trusted.check(&command.program)?;
    let program = Program {
        file: &checked,
        name: &command.program,
        account,
    };
    let output = process::output(&program, &arguments, &limits, cancelled)?;
    Ok(lines::kept(&output))
}

/// Why a command gives no key lines.
#[derive(Debug, thiserror::Error)]
pub enum NoLines {
    /// The program, or a folder above it, is open to others.
    #[error("run it safely")]
    Unsafe(#[from] UntrustedFile),
    /// It uses a token that sshd's configuration does not pass on.
    #[error(
        "expand `%{0}`: sshd did not pass it; run `eic-agent install` again, or add `{0}=%{0}` to AuthorizedKeysCommand after `%f`"
    )]
    Token(char),
    /// The system refused to start it.
    #[error("start it")]
    Start(#[source] std::io::Error),
    /// Its output could not be read.
    #[error("read its output")]
    Read(#[source] std::io::Error),
    /// It ran longer than it may.
    #[error("hear from it in time: it was killed at its deadline_ms")]
    Late,
    /// It wrote more than it may.
    #[error("keep its output: more than max_bytes")]
    TooMuch,
    /// sshd discards the output of such a command as well.
    #[error("use its output: it ended with {status}{said}")]
    Status {
        /// How it ended.
        status: std::process::ExitStatus,
        /// The first line of its stderr, with a separator in front.
        said: String,
    },
    /// No helper, or it ended in the middle.
    #[error("have it run as its user: no answer at `{}`; is eic-agent-logins.socket active, and are the commands run as the account that `[service] command_user` names?", .door.display())]
    NoHelper {
        /// The helper's socket.
        door: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The socket is another group's.
    #[error("have it run as its user: the commands' account may not use `{}`; run `eic-agent install` again, or set SocketGroup= of eic-agent-logins.socket to that account's group", .0.display())]
    NotLetIn(PathBuf),
    /// The helper refused, or the command failed there.
    #[error("have it run as its user by the root helper, which {0}")]
    Helper(String),
    /// Somebody else answered first.
    #[error("wait for it: the offered key was found elsewhere")]
    Cancelled,
}

#[cfg(test)]
mod tests;
