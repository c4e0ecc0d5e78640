//! The commands, one file each, and the command line that names them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit_code::{self, Failure};
use crate::terminal;

mod agent;
mod connect;
mod issue;
mod known_hosts;
mod login;
mod logout;
mod options;
mod setup;
mod ssh;
mod status;

/// Runs the program with its arguments, and gives its exit code.
#[must_use]
pub fn run(args: Vec<OsString>) -> u8 {
    // What ssh starts for every login goes first: no command-line parser, no runtime.
    let rest = args.get(2..).unwrap_or_default();
    let result = match args.get(1).and_then(|name| name.to_str()) {
        Some("connect") => connect::run(rest),
        Some("known-hosts") => known_hosts::run(rest),
        Some("credentials") if rest.is_empty() => return crate::credentials::answer_parent(),
        Some("ssh") => ssh::run(rest),
        _ => return parsed(args),
    };
    result.map_or_else(|failure| terminal::fail(&failure), |()| exit_code::OK)
}

fn parsed(args: Vec<OsString>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                exit_code::USAGE
            } else {
                exit_code::OK
            };
        }
    };
    let result = match cli.command {
        None => login::run(),
        Some(Command::Setup(arguments)) => setup::run(&arguments),
        Some(Command::Status) => status::run(),
        Some(Command::Logout) => logout::run(),
        Some(Command::Agent(arguments)) => agent::run(&arguments),
        Some(Command::Issue(arguments)) => issue::run(&arguments),
    };
    result.map_or_else(|failure| terminal::fail(&failure), |()| exit_code::OK)
}

/// Sign in with AWS credentials; from then on plain ssh, scp, rsync and git reach EC2 instances by id or name.
///
/// Without a command: sign in, and show who the CA says you are and what you may reach.
#[derive(Debug, Parser)]
#[command(name = "eic-login", version, after_help = exit_codes())]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pin a CA and tell ssh about it; shows every change first. `--undo` takes all of it back.
    Setup(setup::Arguments),
    /// Show sessions, certificates and open logins of the resident agent.
    Status,
    /// End all sessions and wipe all keys.
    Logout,
    /// Run the resident agent in the foreground (it is started on demand otherwise).
    Agent(agent::Arguments),
    /// For jobs: write an ephemeral key and its certificate into a new folder.
    Issue(issue::Arguments),
}

fn exit_codes() -> String {
    let lines = exit_code::ALL
        .iter()
        .map(|(code, _, meaning)| format!("  {code}  {meaning}\n"));
    let more = "Also: `eic-login ssh [ssh options] [user@]host [command]` runs ssh with these settings.\n\
                ssh itself runs `eic-login connect` and `eic-login known-hosts`.\n";
    format!("{more}\nExit codes:\n{}", lines.collect::<String>())
}

/// The folders of this user.
fn paths() -> Result<crate::paths::Paths, Failure> {
    crate::paths::Paths::from_env().map_err(|e| Failure::usage(e.to_string()))
}

/// The folder of sockets that the configuration names.
fn run_dir(paths: &crate::paths::Paths) -> Result<PathBuf, Failure> {
    Ok(crate::config::Config::load(paths)?.run_dir(paths))
}

/// A runtime for commands that call out themselves.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::of(&e))
}

/// A moment as people read it, in UTC.
fn moment(unix: u64) -> String {
    let second = i64::try_from(unix)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok());
    second.map_or_else(|| unix.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_commands_and_options_end_with_the_usage_code() {
        for args in [
            &["eic-login", "fly"][..],
            &["eic-login", "setup"],
            &["eic-login", "status", "--all"],
            &["eic-login", "credentials", "x"],
        ] {
            assert_eq!(
                run(args.iter().map(OsString::from).collect()),
                exit_code::USAGE,
                "{args:?}"
            );
        }
    }

    #[test]
    fn the_help_names_every_exit_code() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        for (code, _, meaning) in exit_code::ALL {
            assert!(help.contains(&format!("{code}  {meaning}")), "{help}");
        }
    }
}
