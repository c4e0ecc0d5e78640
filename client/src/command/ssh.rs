//! `eic-login ssh …`: the installed ssh with the same arguments, for a machine where setup was not run,
//! and with the destination checked first. Started by execve, never through a shell.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use eic_protocol::os_user::OsUser;

use super::paths;
use crate::config::Config;
use crate::exit_code::Failure;
use crate::host_name::HostName;
use crate::ssh_config::block::Block;
use crate::ssh_config::installation::Installation;

/// ssh's options that take a value (ssh(1), 9.9).
const WITH_VALUE: &str = "BbcDEeFIiJLlmOoPpQRSWw";

/// Runs the command; returns only where ssh cannot be started.
pub(super) fn run(args: &[OsString]) -> Result<(), Failure> {
    let split = split(args)?;
    check_destination(split.destination)?;
    let paths = paths()?;
    let mut command = Command::new("ssh");
    if !Installation::new(&paths.ssh_dir).is_in_place() {
        let config = Config::load(&paths)?;
        let program = std::env::current_exe().map_err(|e| Failure::of(&e))?;
        let block = Block::new(&program, &config.run_dir(&paths), &config.patterns)
            .map_err(|e| Failure::usage(e.to_string()))?;
        command.args(
            block
                .options()
                .iter()
                .map(|(name, value)| format!("-o{name}={value}")),
        );
    }
    command
        .args(split.options)
        .arg("--")
        .arg(split.destination)
        .args(split.rest);
    Err(Failure::of(&command.exec()).context("cannot run ssh"))
}

/// ssh's command line in three parts.
#[derive(Debug, PartialEq, Eq)]
struct Split<'a> {
    options: &'a [OsString],
    destination: &'a OsStr,
    rest: &'a [OsString],
}

fn split(args: &[OsString]) -> Result<Split<'_>, Failure> {
    let mut at = 0;
    while let Some(option) = args
        .get(at)
        .and_then(|arg| arg.to_str())
        .filter(|arg| arg.starts_with('-') && arg.len() > 1)
    {
        if option == "--" {
            return parts(args, at, at + 1);
        }
        at += if takes_next(option) { 2 } else { 1 };
    }
    parts(args, at, at)
}

fn parts(
    args: &[OsString],
    end_of_options: usize,
    destination: usize,
) -> Result<Split<'_>, Failure> {
    let missing =
        || Failure::usage("name a host: eic-login ssh [ssh options] [user@]host [command]");
    Ok(Split {
        options: args.get(..end_of_options).ok_or_else(missing)?,
        destination: args.get(destination).ok_or_else(missing)?,
        rest: args.get(destination + 1..).unwrap_or_default(),
    })
}

/// Whether a cluster such as `-vp` ends with an option whose value is the next word (`-p22` carries it itself).
fn takes_next(cluster: &str) -> bool {
    let letters = cluster.get(1..).unwrap_or_default();
    letters
        .find(|c| WITH_VALUE.contains(c))
        .is_some_and(|at| at + 1 == letters.len())
}

/// `[user@]host`, or `ssh://[user@]host[:port]`.
fn check_destination(destination: &OsStr) -> Result<(), Failure> {
    let refused = |e: &dyn std::fmt::Display| Failure::usage(e.to_string());
    let text = destination
        .to_str()
        .ok_or_else(|| refused(&"the destination is not UTF-8"))?;
    let (text, is_url) = text
        .strip_prefix("ssh://")
        .map_or((text, false), |rest| (rest, true));
    let (user, host) = text
        .rsplit_once('@')
        .map_or((None, text), |(user, host)| (Some(user), host));
    if let Some(user) = user {
        user.parse::<OsUser>().map_err(|e| refused(&e))?;
    }
    let host = match host.rsplit_once(':').filter(|_| is_url) {
        Some((host, port)) => {
            port.trim_end_matches('/')
                .parse::<u16>()
                .map_err(|_| refused(&"the port is not a number"))?;
            host
        }
        None => host.trim_end_matches(if is_url { "/" } else { "" }),
    };
    host.parse::<HostName>()
        .map(|_| ())
        .map_err(|e| refused(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    #[test]
    fn destinations_that_are_options_or_commands_are_refused() {
        // H-03
        for bad in [
            "-oProxyCommand=touch /tmp/p",
            "$(id)@host",
            "a%rb@host",
            "x\ny@host",
            "-l",
            "a b",
            "host;id",
            "user@",
            "@host",
            "ssh://host:port",
            "ssh://host:99999",
            "ssh://$(id)@host",
            "Alice@host",
            "",
        ] {
            assert!(check_destination(OsStr::new(bad)).is_err(), "{bad:?}");
        }
        for good in [
            "i-01234567",
            "ubuntu@web-1",
            "ssh://ubuntu@web-1:2222",
            "ssh://web-1/",
            "fe80::1",
        ] {
            assert!(check_destination(OsStr::new(good)).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_command_line_without_a_host_is_refused() {
        for args in [&[][..], &["-p", "22"], &["-v"], &["--"], &["-vp", "22"]] {
            assert!(split(&words(args)).is_err(), "{args:?}");
        }
    }

    #[test]
    fn ssh_gets_its_arguments_as_they_were() {
        for (args, options, rest) in [
            (&["-p", "2222", "host", "ls", "-l"][..], 2, 2),
            (&["-vp2222", "host"], 1, 0),
            (&["-vp", "2222", "-A", "host", "echo", "a b; id"], 3, 2),
            (&["-o", "User=x", "--", "host", "-v"], 2, 1),
            (&["host", "-p", "22"], 0, 2),
        ] {
            let words = words(args);
            let split = split(&words).unwrap();
            assert_eq!(
                (split.destination, split.options.len(), split.rest.len()),
                (OsStr::new("host"), options, rest),
                "{args:?}"
            );
        }
    }
}
