//! What the command line asks for, done: output on stdout in one piece, one line on stderr where it failed.

mod authorized_keys;
mod authorized_principals;

use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use eic_protocol::text::printable;

use crate::clock::ClockBeforeEpoch;
use crate::command_line::{self, Command, InvalidCommandLine};
use crate::config::InvalidConfig;
use crate::install::{self, InstallError};
use crate::instance_connect::NoKeys;
use crate::trust_state::NoTrust;
use crate::trusted_file::UntrustedFile;
use crate::watchdog::Overrun;

/// sshd takes no output from a command that ends with anything but 0.
const FAILED: u8 = 1;
/// The command line is wrong (sysexits(3) has 64; shells and getopt programs use 2).
const USAGE: u8 = 2;

/// Runs the program with `arguments` (without its own name).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match command_line::parse(arguments) {
        Ok(command) => finish(execute(command)),
        Err(e) => {
            complain(&CommandError::Usage(e));
            ExitCode::from(USAGE)
        }
    }
}

fn execute(command: Command) -> Result<String, CommandError> {
    match command {
        Command::AuthorizedKeys(arguments) => authorized_keys::run(arguments),
        Command::AuthorizedPrincipals(arguments) => authorized_principals::run(arguments),
        Command::Install(options) => Ok(install::install(&options, &install::System::this())?),
        Command::Uninstall(options) => Ok(install::uninstall(&options, &install::System::this())?),
        Command::Help => Ok(command_line::HELP.to_owned()),
        Command::Version => Ok(format!("eic-agent {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

fn finish(outcome: Result<String, CommandError>) -> ExitCode {
    match outcome.and_then(|output| print(&output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            complain(&e);
            ExitCode::from(FAILED)
        }
    }
}

/// Everything at once and at the end: half of the output must never count.
fn print(output: &str) -> Result<(), CommandError> {
    if output.is_empty() {
        return Ok(());
    }
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(output.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(CommandError::Output)
}

/// One line with the whole chain of causes. sshd passes stderr on; where it is closed, nobody wants to know.
fn complain(error: &dyn Error) {
    let mut line = format!("eic-agent: failed to {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let shown: Vec<String> = line.lines().map(printable).collect();
    let _ = writeln!(std::io::stderr(), "{}", shown.join("\n"));
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Usage(#[from] InvalidCommandLine),
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error(transparent)]
    Clock(#[from] ClockBeforeEpoch),
    #[error(transparent)]
    Overrun(#[from] Overrun),
    #[error(transparent)]
    Keys(#[from] NoKeys),
    #[error(transparent)]
    Trust(#[from] NoTrust),
    #[error(transparent)]
    File(#[from] UntrustedFile),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error("write the output")]
    Output(#[source] std::io::Error),
}
