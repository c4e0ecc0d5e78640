//! `eic-agent run`, `eic-agent helper` and `eic-agent harvest-host-keys`: what `eic-agent-service` does.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command as Process, ExitCode};

use super::{CommandError, FAILED, USAGE, complain};
use crate::command_line::{self, Command, HelperOptions, RunOptions};
use crate::config::Config;
use crate::helper::{self, HelperError, logins};
use crate::passwd;
use crate::run::{self, RunError};
use crate::trusted_file::Trusted;

/// The program that has TLS, private keys and the root helper in it, beside this one.
const SERVICE: &str = "eic-agent-service";

/// Becomes the service.
///
/// # Errors
/// Its program is not there.
pub(super) fn become_service(options: &RunOptions) -> Result<String, CommandError> {
    let mut process = beside()?;
    if let Some(config) = &options.config {
        process.arg("--config").arg(config);
    }
    become_it(process)
}

/// Becomes the root helper.
///
/// # Errors
/// Its program is not there.
pub(super) fn become_helper(options: &HelperOptions) -> Result<String, CommandError> {
    let mut process = beside()?;
    process.arg(HELPER);
    if let Some(config) = &options.config {
        process.arg("--config").arg(config);
    }
    if options.logins {
        process.arg("--logins");
    }
    if let Some(socket) = &options.listen {
        process.arg("--listen").arg(socket);
    }
    become_it(process)
}

/// Becomes the program that makes the host's keys known.
///
/// # Errors
/// Its program is not there.
pub(super) fn become_harvest(config: Option<&Path>) -> Result<String, CommandError> {
    let mut process = beside()?;
    process.arg(HARVEST);
    if let Some(config) = config {
        process.arg("--config").arg(config);
    }
    become_it(process)
}

fn beside() -> Result<Process, CommandError> {
    let own = std::env::current_exe().map_err(CommandError::Service)?;
    Ok(Process::new(own.with_file_name(SERVICE)))
}

fn become_it(mut process: Process) -> Result<String, CommandError> {
    use std::os::unix::process::CommandExt as _;
    // Comes back only where it failed.
    Err(CommandError::Service(process.exec()))
}

/// The words that make the service's program another one.
const HELPER: &str = "helper";
const HARVEST: &str = "harvest-host-keys";

/// `eic-agent-service [--config FILE]`, `eic-agent-service helper [--config FILE] [--logins] [--listen SOCKET]` and
/// `eic-agent-service harvest-host-keys [--config FILE]`.
pub fn serve(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut words = words.into_iter().peekable();
    let verb = words.next_if(|word| word == HELPER || word == HARVEST);
    let verb = verb.unwrap_or_else(|| OsString::from("run"));
    match command_line::parse(std::iter::once(verb).chain(words)) {
        Ok(Command::Helper(options)) => ended(help(&options)),
        Ok(Command::HarvestHostKeys(options)) => harvest(options.config.as_deref()),
        Ok(Command::Run(options)) => match run::serve(options.config.as_deref()) {
            Ok(never) => end(never),
            Err(e) => ended::<RunError>(Err(e)),
        },
        // Nothing but `--help` is left behind these verbs.
        Ok(_) => super::finish(Ok(command_line::HELP.to_owned())),
        Err(e) => {
            complain(&CommandError::Usage(e));
            ExitCode::from(USAGE)
        }
    }
}

/// Root becomes the service's account first: what talks to the network is never root (docs/decisions/0008).
fn harvest(config: Option<&Path>) -> ExitCode {
    if rustix::process::geteuid().is_root() {
        return super::finish(harvest_unprivileged(config));
    }
    match run::harvest(config) {
        Ok(told) => super::finish(Ok(told)),
        Err(e) => {
            complain(&e);
            ExitCode::from(e.exit_code())
        }
    }
}

fn harvest_unprivileged(config: Option<&Path>) -> Result<String, CommandError> {
    use std::os::unix::process::CommandExt as _;
    let trusted = Trusted::system();
    let user = Config::load(config, &trusted)?.service.user;
    let accounts = passwd::read(Path::new("/etc/passwd"), &trusted)?;
    let named = accounts.into_iter().find(|account| account.name == user);
    let account = named
        .filter(|account| account.uid != 0 && account.gid != 0)
        .ok_or(CommandError::NoAccount(user))?;
    let own = std::env::current_exe().map_err(CommandError::Service)?;
    let mut process = Process::new(own);
    process.arg(HARVEST).env_clear().current_dir("/");
    if let Some(config) = config {
        process.arg("--config").arg(config);
    }
    // The standard library drops root's further groups as well.
    process.gid(account.gid).uid(account.uid);
    become_it(process)
}

fn ended<E: std::error::Error + 'static>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            complain(&e);
            ExitCode::from(FAILED)
        }
    }
}

fn end(never: Infallible) -> ExitCode {
    match never {}
}

/// Serves one connection, or those of a socket.
fn help(options: &HelperOptions) -> Result<(), HelperError> {
    let config: Option<&Path> = options.config.as_deref();
    match (&options.listen, options.logins) {
        (Some(socket), false) => helper::listen(config, socket),
        (None, false) => helper::serve_standard_input(config),
        (Some(socket), true) => logins::listen(config, socket),
        (None, true) => logins::serve_standard_input(config),
    }
}
