//! `mssh` and `msftp`: this program under those names. Prints what they print, and starts ssh or sftp by execve.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::{aws_options, paths};
use crate::config::Config;
use crate::control::client::Agent;
use crate::control::message::{Ask, ConnectAsk, Given, Reply};
use crate::credentials::Selection;
use crate::exit_code::{self, Failure};
use crate::host_name::HostName;
use crate::mssh::{Line, Program, Refusal};
use crate::ssh_config::block::Block;
use crate::terminal::{self, one_line};

/// Runs the program under one of its other names; gives its exit code.
pub(super) fn run(program: Program, words: &[OsString]) -> u8 {
    let line = match Line::parse(program, words) {
        Ok(line) => line,
        Err(refusal) => return refused(program, &refusal),
    };
    match command(&line) {
        Err(failure) => failed(&failure),
        Ok(mut command) => {
            let error = Failure::of(&command.exec());
            failed(&error.context(&format!("cannot run {}", program.runs())))
        }
    }
}

/// Exit code 1 whatever it was, as documented; what a service said goes to stdout, other things to stderr.
fn failed(failure: &Failure) -> u8 {
    let text = one_line(&failure.message);
    match failure.code {
        exit_code::DENIED => terminal::print(&format!("{text}\n")),
        _ => eprint_lines(&format!("Failed with: {text}\n")),
    }
    exit_code::FAILURE
}

fn refused(program: Program, refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::Help => terminal::print(&program.usage()),
        Refusal::Option(_) => {
            let usage = program.usage();
            eprint_lines(&format!("{usage}{}: {refusal}\n", program.name()));
        }
        Refusal::Meaning(text) => terminal::print(&format!("{text}\n{}", program.usage())),
    }
    refusal.exit_code()
}

fn eprint_lines(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn command(line: &Line) -> Result<Command, Failure> {
    let paths = paths()?;
    let config = Config::in_force(&paths)?;
    let program = std::env::current_exe().map_err(|e| Failure::of(&e))?;
    let block = Block::new(&program, &config.run_dir(&paths), &config.patterns)
        .map_err(|e| Failure::usage(e.to_string()))?;
    let address = line
        .address()
        .map_err(|e| Failure::of(&e).context("the target has no address"))?;
    let selection = aws_options::selection(line.profile.as_deref(), line.region);
    resolve(line, &config.run_dir(&paths), &selection)?;
    let zone = line.zone.as_ref();
    let zone = zone.map_or_else(String::new, |zone| format!(" --zone '{zone}'"));
    let mut command = Command::new(line.program.runs());
    for (name, value) in block.options() {
        // An address of the user's own choice instead of the instance's.
        let more = address.filter(|_| name == "ProxyCommand");
        let more = more.map_or_else(String::new, |address| {
            format!(" --address '{address}'{zone}")
        });
        command.arg(format!("-o{name}={value}{more}"));
    }
    command.args(line.arguments());
    aws_options::apply(&selection, &mut command);
    Ok(command)
}

/// Asks for the instance first, so that a wrong one ends here and not within ssh. The resident agent keeps the
/// answer for the login itself.
fn resolve(line: &Line, run_dir: &Path, selection: &Selection) -> Result<(), Failure> {
    let host = line.instance.as_str().parse::<HostName>();
    let ask = ConnectAsk {
        user: line.user.clone(),
        default_user: false,
        host: host.map_err(|e| Failure::usage(e.to_string()))?,
        port: 22,
        ssh_pid: None,
        user_agent: None,
        selection: selection.clone(),
        given: line.host.is_some().then(|| Given {
            zone: line.zone.clone(),
        }),
    };
    match Agent::new(run_dir)?.ask(Ask::Explain(ask))?.1 {
        Reply::Explained(_) => Ok(()),
        Reply::Failed(failure) => Err(documented(line, failure)),
        _ => Err(Failure::new(
            exit_code::FAILURE,
            "the resident agent gave an unexpected answer",
        )),
    }
}

/// The class of the documented message in front of what we know.
fn documented(line: &Line, failure: Failure) -> Failure {
    let is_unknown = failure.message.contains(line.instance.as_str());
    match (failure.code, is_unknown) {
        (exit_code::DENIED, true) => failure.context(
            "An error occurred (InvalidInstanceID.NotFound) when calling the DescribeInstances operation",
        ),
        _ => failure,
    }
}
