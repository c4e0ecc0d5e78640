//! `eic-agent run` and `eic-agent helper`: the service and its root helper.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command as Process, ExitCode};

use super::{CommandError, FAILED, USAGE, complain};
use crate::command_line::{self, Command, HelperOptions, RunOptions};
use crate::helper::{self, HelperError};
use crate::run::{self, RunError};

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
    if let Some(socket) = &options.listen {
        process.arg("--listen").arg(socket);
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

/// The word that makes the service's program the helper.
const HELPER: &str = "helper";

/// `eic-agent-service [--config FILE]` and `eic-agent-service helper [--config FILE] [--listen SOCKET]`.
pub fn serve(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut words = words.into_iter().peekable();
    let is_helper = words.next_if(|word| word == HELPER).is_some();
    let verb = OsString::from(if is_helper { HELPER } else { "run" });
    match command_line::parse(std::iter::once(verb).chain(words)) {
        Ok(Command::Helper(options)) => ended(help(&options)),
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
    match &options.listen {
        Some(socket) => helper::listen(config, socket),
        None => helper::serve_standard_input(config),
    }
}
