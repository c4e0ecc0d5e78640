//! The commands, one file each, and the command line that names them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use eic_protocol::os_user::OsUser;

use crate::control::message::ConnectAsk;
use crate::credentials::{PROXIED, Selection};
use crate::exit_code::{self, Failure};
use crate::host_name::HostName;
use crate::terminal;

mod agent;
mod allowlist;
mod aws_options;
mod aws_ssh;
mod completion;
mod connect;
mod doctor;
mod endpoint;
mod exec;
mod explain;
mod hosts;
mod inventory;
mod issue;
mod known_hosts;
mod login;
mod logout;
mod man;
mod mssh;
mod options;
#[cfg(test)]
mod pages;
mod push;
mod setup;
mod sign_in;
mod ssh;
mod ssh_caller;
mod status;
mod tunnel;

/// Runs the program with its arguments, and gives its exit code.
#[must_use]
pub fn run(args: Vec<OsString>) -> u8 {
    if let Some(program) = args.first().and_then(crate::mssh::Program::of) {
        return mssh::run(program, args.get(1..).unwrap_or_default());
    }
    // What ssh starts for every login goes first: no command-line parser, no runtime.
    let rest = args.get(2..).unwrap_or_default();
    let result = match args.get(1).and_then(|name| name.to_str()) {
        Some("connect") => connect::run(rest),
        Some("known-hosts") => known_hosts::run(rest),
        Some("credentials") if rest.is_empty() || rest == [PROXIED] => {
            return crate::credentials::answer_parent(!rest.is_empty());
        }
        Some("ssh") => ssh::run(rest),
        Some("carry") if rest.is_empty() => crate::transport::carrier::carry(),
        Some("complete-host") => completion::hosts(rest),
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
        None => login::run(&cli.sign_in),
        Some(Command::Setup(arguments)) => setup::run(&arguments),
        Some(Command::Status(arguments)) => status::run(&arguments),
        Some(Command::Logout) => logout::run(),
        Some(Command::Endpoint(arguments)) => endpoint::run(&arguments),
        Some(Command::Tunnel(arguments)) => tunnel::run(&arguments),
        Some(Command::Agent(arguments)) => agent::run(&arguments),
        Some(Command::Issue(arguments)) => issue::run(&arguments),
        Some(Command::Hosts(arguments)) => hosts::run(&arguments),
        Some(Command::Exec(arguments)) => {
            return exec::run(&arguments).unwrap_or_else(|failure| terminal::fail(&failure));
        }
        Some(Command::Doctor(arguments)) => {
            return doctor::run(&arguments).unwrap_or_else(|failure| terminal::fail(&failure));
        }
        Some(Command::Inventory(arguments)) => inventory::run(&arguments),
        Some(Command::Push(arguments)) => push::run(&arguments),
        Some(Command::Explain(arguments)) => explain::run(&arguments),
        Some(Command::Allowlist(arguments)) => allowlist::run(&arguments),
        Some(Command::Completion(arguments)) => completion::run(&arguments),
        Some(Command::Man(arguments)) => man::run(&arguments),
    };
    result.map_or_else(|failure| terminal::fail(&failure), |()| exit_code::OK)
}

/// Sign in with AWS credentials or at an issuer; from then on plain ssh, scp, rsync and git reach EC2 instances by id or name.
///
/// Without a command: sign in, and show who the CA says you are and what you may reach.
#[derive(Debug, Parser)]
#[command(name = "eic-login", version, after_help = exit_codes(), args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    sign_in: login::Arguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pin a CA and tell ssh about it; shows every change first. `--undo` takes all of it back.
    Setup(setup::Arguments),
    /// List the hosts that you may see, and the ways into each.
    Hosts(hosts::Arguments),
    /// Run a command with an SSH agent of its own, for tools that use SSH_AUTH_SOCK.
    Exec(exec::Arguments),
    /// Find out why a login does not work, step by step.
    Doctor(doctor::Arguments),
    /// The hosts as an Ansible inventory.
    Inventory(inventory::Arguments),
    /// Push a public key of your own by EC2 Instance Connect, to sshd or to the serial console.
    Push(push::Arguments),
    /// Tell what a login would do and why, without making it.
    Explain(explain::Arguments),
    /// Print the addresses from which the EC2 console connects, for a security group.
    Allowlist(allowlist::Arguments),
    /// Print a shell's completion of commands and hosts.
    Completion(completion::Arguments),
    /// Write the manual pages into a folder.
    Man(man::Arguments),
    /// Show sessions, certificates and open logins of the resident agent.
    Status(status::Arguments),
    /// End all sessions and wipe all keys.
    Logout,
    /// TCP through an EC2 Instance Connect Endpoint: any port of a host, here on localhost or on stdin and stdout.
    Tunnel(tunnel::Arguments),
    /// EC2 Instance Connect Endpoints: list, plan, make, remove.
    Endpoint(endpoint::Arguments),
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
                Under the names mssh and msftp, this program takes their command lines.\n\
                ssh itself runs `eic-login connect` and `eic-login known-hosts`.\n";
    format!("{more}\nExit codes:\n{}", lines.collect::<String>())
}

/// `[user@]host`, as somebody types it for our own commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    user: Option<OsUser>,
    host: HostName,
}

impl std::str::FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, host) = match text.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, text),
        };
        let user = user.map(str::parse).transpose();
        Ok(Self {
            user: user.map_err(|e: eic_protocol::os_user::InvalidOsUser| e.to_string())?,
            host: host
                .parse()
                .map_err(|e: crate::host_name::InvalidHostName| e.to_string())?,
        })
    }
}

impl Destination {
    /// The login that is meant; an account must be named, here or by `--user`.
    fn login(
        &self,
        user: Option<&OsUser>,
        run_dir: &std::path::Path,
    ) -> Result<ConnectAsk, Failure> {
        let user = self.user.as_ref().or(user);
        let missing = || Failure::usage(format!("name the account: USER@{}", self.host));
        Ok(ConnectAsk {
            user: user.ok_or_else(missing)?.clone(),
            default_user: false,
            host: self.host.clone(),
            port: 22,
            ssh_pid: None,
            user_agent: options::user_agent(run_dir, None),
            selection: Selection::from_env(),
            given: None,
        })
    }
}

/// The folders of this user.
fn paths() -> Result<crate::paths::Paths, Failure> {
    crate::paths::Paths::from_env().map_err(|e| Failure::usage(e.to_string()))
}

/// The folder of sockets that the configuration names.
fn run_dir(paths: &crate::paths::Paths) -> Result<PathBuf, Failure> {
    Ok(crate::config::Config::in_force(paths)?.run_dir(paths))
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
