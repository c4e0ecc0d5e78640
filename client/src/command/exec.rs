//! `eic-login exec`: a command with an SSH agent of its own in `SSH_AUTH_SOCK`, for tools that bring their own SSH:
//! paramiko, asyncssh, libssh2, Ansible with either. The credentials live as long as the command.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;

use clap::Args;
use eic_protocol::api::certificate::CertificateScope;
use eic_protocol::os_user::OsUser;
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Destination, paths, runtime, sign_in};
use crate::config::Config;
use crate::credentials::Selection;
use crate::exit_code::Failure;
use crate::key::protect_memory;
use crate::resident::{Resident, SharedSocket, Wanted};
use crate::terminal;

/// Most identities on one socket: sshd takes six tries (`MaxAuthTries`), a fleet's certificate is one.
const MAX_IDENTITIES: usize = 6;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A fleet of the CA's configuration: USER@NAME.
    #[arg(long, value_name = "USER@NAME", required_unless_present = "target")]
    fleet: Vec<String>,
    /// An account on one host: USER@HOST.
    #[arg(long, value_name = "USER@HOST")]
    target: Vec<Destination>,
    /// The account, where fleet or host name none.
    #[arg(long)]
    user: Option<OsUser>,
    /// The command, after `--`.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Runs the command; returns its exit code, 128 and the number where a signal ended it.
pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    protect_memory().map_err(|e| Failure::of(&e).context("core dumps cannot be switched off"))?;
    let paths = paths()?;
    let config = Config::in_force(&paths)?;
    let dir = config.run_dir(&paths);
    let wanted = wanted(arguments, &dir)?;
    let program = std::env::current_exe().map_err(|e| Failure::of(&e))?;
    let resident = Arc::new(Resident::new(&paths, &dir, program)?);
    sign_in::for_this_command(&resident, &config)?;
    let own_agent = std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from);
    runtime()?.block_on(async {
        // Before the socket: no moment at which a signal would leave it behind.
        let signals = Signals::new().map_err(|e| Failure::of(&e))?;
        let (socket, notes) = SharedSocket::open(resident, &dir, wanted, own_agent)
            .await
            .map_err(sign_in::failure_of_this_command)?;
        notes.iter().for_each(|note| terminal::note(note));
        // While the command runs, and once more after it: a push is told as soon as the CA can be reached.
        let reporting = tokio::spawn({
            let socket = Arc::clone(&socket);
            async move { socket.report().await }
        });
        let ended = supervise(arguments, &socket, signals).await;
        let _ = reporting.await;
        socket.report().await;
        socket.close();
        ended.map(code)
    })
}

fn wanted(arguments: &Arguments, dir: &std::path::Path) -> Result<Vec<Wanted>, Failure> {
    let mut wanted = Vec::new();
    for fleet in &arguments.fleet {
        let scope = fleet_scope(fleet, arguments.user.as_ref())?;
        wanted.push(Wanted::Fleet(scope, Selection::from_env()));
    }
    for target in &arguments.target {
        let login = target.login(arguments.user.as_ref(), dir)?;
        wanted.push(Wanted::Target(Box::new(login)));
    }
    if wanted.len() > MAX_IDENTITIES {
        return Err(Failure::usage(format!(
            "at most {MAX_IDENTITIES} fleets and targets: sshd refuses whoever offers more keys; use a fleet, \
             or plain ssh, which offers each host its own"
        )));
    }
    Ok(wanted)
}

fn fleet_scope(text: &str, user: Option<&OsUser>) -> Result<CertificateScope, Failure> {
    let wrong = |e: &dyn std::fmt::Display| Failure::usage(format!("--fleet: {e}"));
    let (own, name) = match text.split_once('@') {
        Some((user, name)) => (Some(user.parse::<OsUser>().map_err(|e| wrong(&e))?), name),
        None => (None, text),
    };
    let user = own.or_else(|| user.cloned());
    Ok(CertificateScope::Fleet {
        user: user.ok_or_else(|| wrong(&format!("name the account: USER@{name}")))?,
        fleet: name.parse().map_err(|e| wrong(&e))?,
    })
}

/// The signals that end a program. The command gets them too: a terminal sends them to both, others to one.
struct Signals {
    terminate: Signal,
    hang_up: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// The next one that the terminal does not send to the command by itself.
    async fn next(&mut self) -> rustix::process::Signal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return rustix::process::Signal::TERM,
                _ = self.hang_up.recv() => return rustix::process::Signal::HUP,
                _ = self.interrupt.recv() => {}
                _ = self.quit.recv() => {}
            }
        }
    }
}

async fn supervise(
    arguments: &Arguments,
    socket: &SharedSocket,
    mut signals: Signals,
) -> Result<ExitStatus, Failure> {
    let (program, rest) = arguments
        .command
        .split_first()
        .ok_or_else(|| Failure::usage("name a command after --"))?;
    let mut child = Command::new(program)
        .args(rest)
        .env("SSH_AUTH_SOCK", socket.path())
        .env_remove("SSH_AGENT_PID")
        .spawn()
        .map_err(|e| {
            let shown = program.to_string_lossy();
            Failure::usage(format!("cannot run `{}`: {e}", terminal::one_line(&shown)))
        })?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw);
    loop {
        tokio::select! {
            status = child.wait() => return status.map_err(|e| Failure::of(&e)),
            signal = signals.next() => if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, signal);
            },
        }
    }
}

/// As a shell has it.
fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fleets_without_an_account_or_a_name_are_refused() {
        for bad in ["web", "@web", "root@", "$(id)@web", "deploy@Web", "a@b@c"] {
            assert!(fleet_scope(bad, None).is_err(), "{bad}");
        }
        let user = "deploy".parse().unwrap();
        let told = |text: &str| {
            fleet_scope(text, Some(&user))
                .unwrap()
                .principal()
                .to_string()
        };
        assert_eq!(told("web"), "deploy@fleet/web");
        assert_eq!(told("ubuntu@web"), "ubuntu@fleet/web");
    }

    #[test]
    fn more_identities_than_sshd_tries_are_refused() {
        let target: Destination = "a@web".parse().unwrap();
        let arguments = Arguments {
            fleet: Vec::new(),
            target: vec![target; MAX_IDENTITIES + 1],
            user: None,
            command: vec!["true".into()],
        };
        let refused = wanted(&arguments, std::path::Path::new("/run")).unwrap_err();
        assert!(refused.message.contains("use a fleet"), "{refused:?}");
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        for (raw, expected) in [(0, 0), (7 << 8, 7), (15, 143), (9, 137)] {
            assert_eq!(code(ExitStatus::from_raw(raw)), expected, "{raw}");
        }
    }
}
