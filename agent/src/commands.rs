//! What the command line asks for, done: output on stdout in one piece, one line on stderr where it failed.

mod authorized_keys;
mod authorized_principals;
mod keys_list;
mod official;
pub mod run;

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
use crate::official::Program;
use crate::status::Judged;
use crate::trust_state::NoTrust;
use crate::trusted_file::UntrustedFile;
use crate::watchdog::Overrun;
use crate::ways_in::ListError;

/// sshd takes no output from a command that ends with anything but 0.
const FAILED: u8 = 1;
/// The command line is wrong (sysexits(3) has 64; shells and getopt programs use 2).
const USAGE: u8 = 2;

/// Runs the program with `words`, its own name first: under another program's name it is that program.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut words = words.into_iter();
    if let Some(program) = words.next().and_then(|own_name| Program::named(&own_name)) {
        return official::run(program, words);
    }
    match command_line::parse(words) {
        Ok(Command::Status(options)) => {
            judged(crate::status::status(&options, &install::System::this()))
        }
        Ok(Command::Doctor(options)) => {
            judged(crate::doctor::doctor(&options, &install::System::this()))
        }
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
        Command::KeysList(options) => keys_list::run(&options),
        Command::Run(options) => run::become_service(&options),
        Command::Helper(options) => run::become_helper(&options),
        Command::HarvestHostKeys(options) => run::become_harvest(options.config.as_deref()),
        // Their exit code is a verdict; `run` has them.
        Command::Status(_) | Command::Doctor(_) => Ok(String::new()),
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

/// Shows what was found; a bad verdict is exit code 1 without a complaint.
fn judged(outcome: Result<Judged, InstallError>) -> ExitCode {
    match outcome {
        Ok(found) if found.good => finish(Ok(found.text)),
        Ok(found) => {
            let printed = finish(Ok(found.text));
            if printed == ExitCode::SUCCESS {
                ExitCode::from(FAILED)
            } else {
                printed
            }
        }
        Err(e) => finish(Err(e.into())),
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
pub(crate) fn complain(error: &dyn Error) {
    let line = format!("eic-agent: failed to {}", chain(error));
    let shown: Vec<String> = line.lines().map(shown_whole).collect();
    let _ = writeln!(std::io::stderr(), "{}", shown.join("\n"));
}

/// An error and its causes; a cause that the error's own text ends with is not said twice.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(&format!(": {said}"));
        }
        source = cause.source();
    }
    text
}

/// An error as a sentence of a report: errors are worded to follow "failed to".
pub(crate) fn cannot(error: &dyn Error) -> String {
    format!("cannot {}", chain(error))
}

/// Made harmless in pieces: our own words are not cut, however long a chain of causes gets.
fn shown_whole(line: &str) -> String {
    let characters: Vec<char> = line.chars().collect();
    characters
        .chunks(150)
        .map(|piece| printable(&piece.iter().collect::<String>()))
        .collect()
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
    #[error(
        "become `{0}`: `[service] user` names no unprivileged account of /etc/passwd, run `eic-agent install` or name one"
    )]
    NoAccount(String),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    List(#[from] ListError),
    #[error("start `eic-agent-service`: it belongs beside this program")]
    Service(#[source] std::io::Error),
    #[error("write the output")]
    Output(#[source] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Nested {
        #[error("open the door")]
        Outer(#[source] Box<Nested>),
        #[error("find the key: {0}")]
        Repeating(#[source] std::fmt::Error),
    }

    #[test]
    fn causes_are_told_once_and_in_order() {
        let nested = Nested::Outer(Box::new(Nested::Repeating(std::fmt::Error)));
        let cause = std::fmt::Error.to_string();
        assert_eq!(
            chain(&nested),
            format!("open the door: find the key: {cause}")
        );
    }

    #[test]
    fn long_complaints_are_not_cut_and_stay_harmless() {
        let long = "x".repeat(1000);
        assert_eq!(shown_whole(&long), long);
        assert_eq!(shown_whole("a\u{1b}b"), "a\\u{1b}b");
    }
}
