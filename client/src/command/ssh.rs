//! `eic-login ssh …`: the installed ssh with the same arguments, for a machine where setup was not run,
//! and with the destination checked first. Started by execve, never through a shell.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use eic_protocol::os_user::OsUser;

use super::connect::MAX_WAIT;
use super::paths;
use crate::config::Config;
use crate::exit_code::Failure;
use crate::host_name::HostName;
use crate::ssh_config::block::Block;
use crate::transport::Via;
use crate::transport::bastion::Bastion;

/// ssh's options that take a value (ssh(1), 9.9).
pub(super) const WITH_VALUE: &str = "BbcDEeFIiJLlmOoPpQRSWw";

/// How long `--wait` waits for a booting instance where no number is given. Seconds.
const DEFAULT_WAIT: u64 = 300;

/// Runs the command; returns only where ssh cannot be started.
pub(super) fn run(args: &[OsString]) -> Result<(), Failure> {
    let (own, args) = own_options(args)?;
    // ssh itself has no long options: these are those of AWS's own client.
    if own.is_empty() && is_long(args) {
        return super::aws_ssh::run(args);
    }
    let split = checked(args)?;
    let paths = paths()?;
    let config = Config::in_force(&paths)?;
    let program = std::env::current_exe().map_err(|e| Failure::of(&e))?;
    let block = Block::new(&program, &config.run_dir(&paths), &config.patterns)
        .map_err(|e| Failure::usage(e.to_string()))?;
    let mut command = command(&block, &own, &split);
    Err(Failure::of(&command.exec()).context("cannot run ssh"))
}

/// All settings every time: what setup has written need not cover this host, and without them ssh would go wherever
/// DNS leads, with the user's own keys.
fn command(block: &Block, own: &str, split: &Split<'_>) -> Command {
    let mut command = Command::new("ssh");
    let options = block.options().into_iter();
    command.args(options.map(|(name, value)| match name {
        "ProxyCommand" => format!("-o{name}={value}{own}"),
        _ => format!("-o{name}={value}"),
    }));
    command
        .args(split.options)
        .arg("--")
        .arg(split.destination)
        .args(split.rest);
    command
}

/// Whether `args` are a command line of ssh's options with ours in front.
#[cfg(test)]
pub(super) fn check(args: &[OsString]) -> Result<(), Failure> {
    let (_, args) = own_options(args)?;
    checked(args).map(|_| ())
}

fn checked(args: &[OsString]) -> Result<Split<'_>, Failure> {
    let split = split(args)?;
    check_destination(split.destination)?;
    Ok(split)
}

fn is_long(args: &[OsString]) -> bool {
    let first = args.first().and_then(|arg| arg.to_str());
    first.is_some_and(|arg| arg.starts_with("--") && arg.len() > 2)
}

/// `--wait[=SECONDS]`, `--via WAY` and `--bastion HOST` in front of ssh's own options, as options of `connect`.
/// Their grammars have no quotes and no blanks.
fn own_options(args: &[OsString]) -> Result<(String, &[OsString]), Failure> {
    let (wait, mut args) = waiting(args)?;
    let mut own = wait.map_or_else(String::new, |seconds| format!(" --wait {seconds}"));
    while let Some(name) = args.first().and_then(|arg| arg.to_str()) {
        let parse = match name {
            "--via" => |text: &str| {
                text.parse::<Via>()
                    .map(|via| via.to_string())
                    .map_err(|e| e.to_string())
            },
            "--bastion" => |text: &str| {
                text.parse::<Bastion>()
                    .map(|b| b.to_string())
                    .map_err(|e| e.to_string())
            },
            _ => break,
        };
        let value = args.get(1).and_then(|arg| arg.to_str());
        let value = value.ok_or_else(|| Failure::usage(format!("{name} needs a value")))?;
        own.push_str(&format!(
            " {name} '{}'",
            parse(value).map_err(Failure::usage)?
        ));
        args = args.get(2..).unwrap_or_default();
    }
    Ok((own, args))
}

/// `--wait` or `--wait=SECONDS` in front of ssh's own options.
fn waiting(args: &[OsString]) -> Result<(Option<u64>, &[OsString]), Failure> {
    let first = args.first().and_then(|arg| arg.to_str());
    let Some(value) = first.and_then(|arg| arg.strip_prefix("--wait")) else {
        return Ok((None, args));
    };
    let seconds = match value.strip_prefix('=') {
        Some(text) => text.parse().ok().filter(|s| *s <= MAX_WAIT),
        None => value.is_empty().then_some(DEFAULT_WAIT),
    };
    let wrong = || Failure::usage(format!("--wait: give --wait=SECONDS, at most {MAX_WAIT}"));
    let seconds: u64 = seconds.ok_or_else(wrong)?;
    Ok((Some(seconds), args.get(1..).unwrap_or_default()))
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
    fn waiting_is_asked_for_before_the_options_of_ssh() {
        for bad in ["--wait=", "--wait=x", "--wait=3601", "--waiting"] {
            assert!(waiting(&words(&[bad, "host"])).is_err(), "{bad}");
        }
        let args = words(&["--wait", "-v", "host"]);
        assert_eq!(waiting(&args).unwrap(), (Some(DEFAULT_WAIT), &args[1..]));
        let args = words(&["host", "--wait"]);
        assert_eq!(waiting(&args).unwrap(), (None, &args[..]));
    }

    #[test]
    fn the_way_is_named_in_front_and_nothing_else_gets_into_the_proxy_command() {
        // H-03
        for bad in [
            &["--via"][..],
            &["--via", "x"],
            &["--bastion", "a'b"],
            &["--bastion", "-l"],
        ] {
            assert!(own_options(&words(bad)).is_err(), "{bad:?}");
        }
        let args = words(&[
            "--wait=9",
            "--via",
            "bastion",
            "--bastion",
            "ops@jump:22",
            "-v",
            "host",
        ]);
        let (own, rest) = own_options(&args).unwrap();
        assert_eq!(own, " --wait 9 --via 'bastion' --bastion 'ops@jump:22'");
        assert_eq!(rest, &args[5..]);
        assert!(
            is_long(&words(&["--instance-id", "x"]))
                && !is_long(&words(&["--", "x"]))
                && !is_long(&words(&["-v"]))
        );
    }

    #[test]
    fn a_host_that_no_installed_pattern_covers_gets_every_setting() {
        // H-10: ssh itself is the judge; `-G` prints what it would use.
        let (dir, run_dir) = (
            tempfile::tempdir().unwrap(),
            std::path::Path::new("/run/eic"),
        );
        let program = std::path::Path::new("/opt/eic-login");
        let block = Block::new(program, run_dir, &["web-*".to_owned()]).unwrap();
        let users_own = "Host *\n  StrictHostKeyChecking no\n  ProxyCommand none\n";
        let file = dir.path().join("config");
        std::fs::write(&file, format!("{}{users_own}", block.render())).unwrap();
        let (file, host) = (file.to_str().unwrap(), "db-1.example.org");
        let args = words(&["-G", "-F", file, "-l", "alice", host]);
        let own = " --wait 9";
        let output = command(&block, own, &split(&args).unwrap()).output();
        let shown = String::from_utf8(output.unwrap().stdout).unwrap();
        for told in [
            "proxycommand '/opt/eic-login' connect",
            "stricthostkeychecking true",
            "userknownhostsfile /dev/null",
            "knownhostscommand \"/opt/eic-login\" known-hosts",
            "identityagent /run/eic/alice@db-1.example.org",
            own,
        ] {
            assert!(shown.contains(told), "{told}: {shown}");
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
