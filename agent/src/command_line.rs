//! The command line. For sshd's two commands every word is a value, whatever it looks like:
//! sshd's tokens are expanded without a shell and without sanitising (sshd_config(5)).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::fingerprint::{Fingerprint, InvalidFingerprint};
use crate::install::{InstallOptions, SshdOptions, UninstallOptions};

/// What the program was asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// sshd's AuthorizedKeysCommand.
    AuthorizedKeys(KeysArguments),
    /// sshd's AuthorizedPrincipalsCommand.
    AuthorizedPrincipals(PrincipalsArguments),
    /// Set this host up.
    Install(InstallOptions),
    /// Take the set-up back.
    Uninstall(UninstallOptions),
    /// Show the help.
    Help,
    /// Show the version.
    Version,
}

/// `authorized-keys USER [FINGERPRINT]`
#[derive(Debug, PartialEq, Eq)]
pub struct KeysArguments {
    /// Another configuration than the default.
    pub config: Option<PathBuf>,
    /// `%u`
    pub user: String,
    /// `%f`
    pub fingerprint: Option<String>,
}

/// `authorized-principals USER CA-FINGERPRINT`
#[derive(Debug, PartialEq, Eq)]
pub struct PrincipalsArguments {
    /// Another configuration than the default.
    pub config: Option<PathBuf>,
    /// `%u`
    pub user: String,
    /// `%F`
    pub ca: Fingerprint,
}

/// The help text.
pub const HELP: &str = "\
eic-agent: logs users in by CA certificates and EC2 Instance Connect keys, behind stock sshd

sshd runs:
  eic-agent authorized-principals [--config FILE] USER CA-FINGERPRINT     (%u %F)
  eic-agent authorized-keys       [--config FILE] USER [FINGERPRINT]      (%u %f)

root runs:
  eic-agent install --root-fingerprint SHA256:... --state-from DIR
      --root-fingerprint FP   the key that must have signed root.json (repeat for several)
      --state-from DIR        holds root.json and host-view.json, and host-cert.pub if there is one
      --command-user NAME     whom sshd runs the commands as (default: eic or ec2-instance-connect,
                              whichever exists, else eic is created)
      --dry-run               show what would change, and change nothing
  eic-agent uninstall         put every file back as it was
      --dry-run               show what would change, and change nothing
  both:
      --config-dir DIR        sshd's configuration (default: /etc/ssh)
      --sshd FILE             sshd itself (default: /usr/sbin/sshd)
      --pid-file FILE         the running sshd's (default: /run/sshd.pid)
      --no-reload             do not tell the running sshd

  eic-agent --help | --version
Configuration: /etc/eic/agent.toml
";

/// Reads the arguments that follow the program's name.
///
/// # Errors
/// [`InvalidCommandLine`] says which word is wrong.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, InvalidCommandLine> {
    let mut arguments = arguments.into_iter();
    let verb = arguments.next().ok_or(InvalidCommandLine::NoVerb)?;
    match verb.to_str() {
        Some("authorized-keys") => parse_keys(Values::read(arguments)?),
        Some("authorized-principals") => parse_principals(Values::read(arguments)?),
        Some("install") => parse_install(lexopt::Parser::from_args(arguments)),
        Some("uninstall") => parse_uninstall(lexopt::Parser::from_args(arguments)),
        Some("--help" | "-h" | "help") => Ok(Command::Help),
        Some("--version" | "-V") => Ok(Command::Version),
        _ => Err(InvalidCommandLine::Verb(
            verb.to_string_lossy().into_owned(),
        )),
    }
}

/// `--config FILE` and up to two values, in any order.
struct Values {
    config: Option<PathBuf>,
    first: Option<String>,
    second: Option<String>,
}

impl Values {
    fn read(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, InvalidCommandLine> {
        let mut values = Self {
            config: None,
            first: None,
            second: None,
        };
        while let Some(argument) = arguments.next() {
            if argument == "--config" {
                values.config = Some(arguments.next().ok_or(InvalidCommandLine::Config)?.into());
                continue;
            }
            let text = argument
                .into_string()
                .map_err(|_| InvalidCommandLine::NotText)?;
            let free = [&mut values.first, &mut values.second]
                .into_iter()
                .find(|slot| slot.is_none());
            *free.ok_or(InvalidCommandLine::TooMany)? = Some(text);
        }
        Ok(values)
    }
}

fn parse_keys(values: Values) -> Result<Command, InvalidCommandLine> {
    let user = values.first.ok_or(InvalidCommandLine::NoUser)?;
    let fingerprint = values.second.filter(|text| !text.is_empty());
    Ok(Command::AuthorizedKeys(KeysArguments {
        config: values.config,
        user,
        fingerprint,
    }))
}

fn parse_principals(values: Values) -> Result<Command, InvalidCommandLine> {
    let user = values.first.ok_or(InvalidCommandLine::NoUser)?;
    let ca = values.second.ok_or(InvalidCommandLine::NoCa)?.parse()?;
    Ok(Command::AuthorizedPrincipals(PrincipalsArguments {
        config: values.config,
        user,
        ca,
    }))
}

fn parse_install(mut parser: lexopt::Parser) -> Result<Command, InvalidCommandLine> {
    use lexopt::prelude::*;
    let mut fingerprints = BTreeSet::new();
    let (mut state_from, mut command_user, mut dry_run) = (None, None, false);
    let mut sshd = SshdOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("root-fingerprint") => _ = fingerprints.insert(parser.value()?.string()?.parse()?),
            Long("state-from") => state_from = Some(PathBuf::from(parser.value()?)),
            Long("command-user") => command_user = Some(parser.value()?.string()?),
            Long("dry-run") => dry_run = true,
            Long("help") | Short('h') => return Ok(Command::Help),
            Long(name) => {
                let name = name.to_owned();
                sshd_option(&name, &mut parser, &mut sshd)?;
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if fingerprints.is_empty() {
        return Err(InvalidCommandLine::Required("--root-fingerprint"));
    }
    let state_from = state_from.ok_or(InvalidCommandLine::Required("--state-from"))?;
    Ok(Command::Install(InstallOptions {
        fingerprints,
        state_from,
        command_user,
        dry_run,
        sshd,
    }))
}

fn parse_uninstall(mut parser: lexopt::Parser) -> Result<Command, InvalidCommandLine> {
    use lexopt::prelude::*;
    let mut options = UninstallOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("dry-run") => options.dry_run = true,
            Long("help") | Short('h') => return Ok(Command::Help),
            Long(name) => {
                let name = name.to_owned();
                sshd_option(&name, &mut parser, &mut options.sshd)?;
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Uninstall(options))
}

fn sshd_option(
    name: &str,
    parser: &mut lexopt::Parser,
    sshd: &mut SshdOptions,
) -> Result<(), InvalidCommandLine> {
    match name {
        "config-dir" => sshd.config_dir = parser.value()?.into(),
        "sshd" => sshd.program = parser.value()?.into(),
        "pid-file" => sshd.pid_file = parser.value()?.into(),
        "no-reload" => sshd.reload = false,
        _ => return Err(lexopt::Error::UnexpectedOption(format!("--{name}")).into()),
    }
    Ok(())
}

/// What is wrong with the command line.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCommandLine {
    /// No command.
    #[error("read the command line: name a command, see --help")]
    NoVerb,
    /// An unknown command.
    #[error("read the command line: `{0}` is no command, see --help")]
    Verb(String),
    /// The user is missing.
    #[error("read the command line: USER is missing")]
    NoUser,
    /// The CA's fingerprint is missing.
    #[error("read the command line: CA-FINGERPRINT is missing")]
    NoCa,
    /// `--config` without its file.
    #[error("read the command line: `--config` needs a FILE")]
    Config,
    /// A third value.
    #[error("read the command line: too many words")]
    TooMany,
    /// Not UTF-8.
    #[error("read the command line: a word is not UTF-8")]
    NotText,
    /// An option that cannot be left out.
    #[error("read the command line: `{0}` is required")]
    Required(&'static str),
    /// Not a fingerprint.
    #[error("read the command line: {0}")]
    Fingerprint(#[from] InvalidFingerprint),
    /// Anything else.
    #[error("read the command line: {0}")]
    Option(#[from] lexopt::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn words(line: &str) -> Result<Command, InvalidCommandLine> {
        parse(
            line.split(' ')
                .filter(|word| !word.is_empty())
                .map(OsString::from),
        )
    }

    #[test]
    fn incomplete_and_unknown_lines_are_refused() {
        for bad in [
            "",
            "authorized_keys root",
            "authorized-keys",
            "authorized-keys --config",
            "authorized-keys a b c",
            "authorized-principals root",
            "authorized-principals root MD5:00",
            "install",
            "install --root-fingerprint SHA256:x --state-from d",
            "install --state-from d",
            "install --force",
            "uninstall extra",
            "uninstall --state-from d",
        ] {
            assert!(words(bad).is_err(), "{bad}");
        }
        assert!(words(&format!("install --root-fingerprint {PIN}")).is_err());
    }

    #[test]
    fn words_that_look_like_options_are_values_of_sshds_commands() {
        // I-01: `-x` is a user that nobody can have, not an option
        let Ok(Command::AuthorizedKeys(arguments)) = words("authorized-keys -x --version") else {
            panic!()
        };
        assert_eq!(
            (arguments.user.as_str(), arguments.fingerprint.as_deref()),
            ("-x", Some("--version"))
        );
    }

    #[test]
    fn the_configuration_may_be_named_anywhere() {
        for line in [
            "authorized-keys --config /c root",
            "authorized-keys root --config /c",
        ] {
            let Ok(Command::AuthorizedKeys(arguments)) = words(line) else {
                panic!()
            };
            assert_eq!(
                (arguments.config, arguments.user.as_str()),
                (Some("/c".into()), "root")
            );
        }
    }

    #[test]
    fn every_option_of_install_is_read() {
        let line = format!(
            "install --root-fingerprint {PIN} --state-from /d --command-user u --dry-run --config-dir /c --sshd /s --pid-file /p --no-reload"
        );
        let Ok(Command::Install(options)) = words(&line) else {
            panic!()
        };
        assert_eq!(
            (options.state_from, options.command_user, options.dry_run),
            ("/d".into(), Some("u".to_owned()), true)
        );
        let sshd = SshdOptions {
            config_dir: "/c".into(),
            program: "/s".into(),
            pid_file: "/p".into(),
            reload: false,
        };
        assert_eq!(options.sshd, sshd);
    }
}
