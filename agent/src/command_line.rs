//! The command line. For sshd's two commands every word is a value, whatever it looks like:
//! sshd's tokens are expanded without a shell and without sanitising (sshd_config(5)).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::chained::tokens::{Token, Tokens};
use crate::doctor::DoctorOptions;
use crate::fingerprint::{Fingerprint, InvalidFingerprint};
use crate::install::{InstallOptions, SshdOptions, UninstallOptions};
use crate::status::StatusOptions;
use crate::ways_in::ListOptions;

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
    /// What this host trusts, and whether all is well.
    Status(StatusOptions),
    /// Why a login would be accepted or refused.
    Doctor(DoctorOptions),
    /// Name every way in.
    KeysList(ListOptions),
    /// Keep this host's trust fresh.
    Run(RunOptions),
    /// Do the service's part that needs root.
    Helper(HelperOptions),
    /// Show the help.
    Help,
    /// Show the version.
    Version,
}

/// `run [--config FILE]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Another configuration than the default.
    pub config: Option<PathBuf>,
}

/// `helper [--config FILE] [--listen SOCKET]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HelperOptions {
    /// Another configuration than the default.
    pub config: Option<PathBuf>,
    /// Where to wait for connections; none: standard input is one.
    pub listen: Option<PathBuf>,
}

/// `authorized-keys USER [FINGERPRINT [LETTER=VALUE…]]`
#[derive(Debug, PartialEq, Eq)]
pub struct KeysArguments {
    /// Another configuration than the default.
    pub config: Option<PathBuf>,
    /// `%u`
    pub user: String,
    /// `%f`
    pub fingerprint: Option<String>,
    /// What sshd passes for chained commands: `%u`, `%f` and each `LETTER=VALUE`.
    pub tokens: Tokens,
}

impl KeysArguments {
    /// The arguments in a command line's order, for the default configuration.
    ///
    /// # Errors
    /// A further word is not `LETTER=VALUE`, or repeats a letter.
    pub fn of(
        user: &str,
        fingerprint: Option<&str>,
        further: &[String],
    ) -> Result<Self, InvalidCommandLine> {
        let mut tokens = Tokens::default();
        tokens.insert(Token::User, user.to_owned());
        let fingerprint = fingerprint.filter(|text| !text.is_empty());
        if let Some(fingerprint) = fingerprint {
            tokens.insert(Token::Fingerprint, fingerprint.to_owned());
        }
        if !further.iter().all(|word| tokens.take_word(word)) {
            return Err(InvalidCommandLine::TooMany);
        }
        Ok(Self {
            config: None,
            user: user.to_owned(),
            fingerprint: fingerprint.map(str::to_owned),
            tokens,
        })
    }
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
      [LETTER=VALUE ...]      further tokens for chained commands, such as h=%h t=%t k=%k

root runs:
  eic-agent install --root-fingerprint SHA256:... --state-from DIR
      --root-fingerprint FP   the key that must have signed root.json (repeat for several)
      --state-from DIR        holds root.json and host-view.json, and host-cert.pub if there is one
      --command-user NAME     whom sshd runs the commands as (default: eic or ec2-instance-connect,
                              whichever exists, else eic is created)
      --replace               let another certificate authority of sshd's stop to count
      --dry-run               show what would change, and change nothing
  eic-agent uninstall         put every file back as it was
      --dry-run               show what would change, and change nothing
  both:
      --config-dir DIR        sshd's configuration (default: /etc/ssh)
      --sshd FILE             sshd itself (default: /usr/sbin/sshd)
      --pid-file FILE         the running sshd's (default: /run/sshd.pid)
      --no-reload             do not tell the running sshd

  eic-agent status            what this host trusts, since when, and who came in by which way;
                              exit code 0: healthy, 1: unhealthy, with the reason
      --json                  for programs
  eic-agent doctor            why a login would be accepted or refused, one line per finding
      --user NAME             the account
      --key FILE              the public key that is offered
      --cert FILE             the certificate that is offered
      --json                  for programs
      (status and doctor: --config-dir, --sshd, --pid-file as above)
  eic-agent keys list         name every way in that sshd would accept here
      --user NAME             for this account only
      --json                  for programs
      (--config-dir, --sshd as above)

systemd runs:
  eic-agent run    [--config FILE]            keeps trust, host certificate and reports fresh; not as root
  eic-agent helper [--config FILE]            the service's part that is root's, for the connection on stdin
      --listen SOCKET         wait for connections instead, where there is no systemd

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
        Some("status") => parse_status(lexopt::Parser::from_args(arguments)),
        Some("doctor") => parse_doctor(lexopt::Parser::from_args(arguments)),
        Some("keys") => parse_keys_list(arguments),
        Some("run") => parse_run(lexopt::Parser::from_args(arguments)),
        Some("helper") => parse_helper(lexopt::Parser::from_args(arguments)),
        Some("--help" | "-h" | "help") => Ok(Command::Help),
        Some("--version" | "-V") => Ok(Command::Version),
        _ => Err(InvalidCommandLine::Verb(
            verb.to_string_lossy().into_owned(),
        )),
    }
}

/// `--config FILE` and up to two values, in any order; behind them more words.
struct Values {
    config: Option<PathBuf>,
    first: Option<String>,
    second: Option<String>,
    more: Vec<String>,
}

impl Values {
    fn read(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, InvalidCommandLine> {
        let mut values = Self {
            config: None,
            first: None,
            second: None,
            more: Vec::new(),
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
            match free {
                Some(slot) => *slot = Some(text),
                None => values.more.push(text),
            }
        }
        Ok(values)
    }
}

fn parse_keys(values: Values) -> Result<Command, InvalidCommandLine> {
    let user = values.first.ok_or(InvalidCommandLine::NoUser)?;
    let arguments = KeysArguments::of(&user, values.second.as_deref(), &values.more)?;
    Ok(Command::AuthorizedKeys(KeysArguments {
        config: values.config,
        ..arguments
    }))
}

fn parse_principals(values: Values) -> Result<Command, InvalidCommandLine> {
    let user = values.first.ok_or(InvalidCommandLine::NoUser)?;
    let ca = values.second.ok_or(InvalidCommandLine::NoCa)?.parse()?;
    if !values.more.is_empty() {
        return Err(InvalidCommandLine::TooMany);
    }
    Ok(Command::AuthorizedPrincipals(PrincipalsArguments {
        config: values.config,
        user,
        ca,
    }))
}

/// `keys list [--user NAME] [--json] [--config-dir DIR] [--sshd FILE]`
fn parse_keys_list(
    mut arguments: impl Iterator<Item = OsString>,
) -> Result<Command, InvalidCommandLine> {
    use lexopt::prelude::*;
    let verb = arguments.next().unwrap_or_default();
    if verb != "list" {
        let verb = format!("keys {}", verb.to_string_lossy());
        return Err(InvalidCommandLine::Verb(verb.trim_end().to_owned()));
    }
    let mut options = ListOptions::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("user") => options.user = Some(parser.value()?.string()?),
            Long("json") => options.json = true,
            Long("config-dir") => options.config_dir = Some(parser.value()?.into()),
            Long("sshd") => options.sshd = Some(parser.value()?.into()),
            Long("help") | Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::KeysList(options))
}

fn parse_install(mut parser: lexopt::Parser) -> Result<Command, InvalidCommandLine> {
    use lexopt::prelude::*;
    let mut fingerprints = BTreeSet::new();
    let (mut state_from, mut command_user) = (None, None);
    let (mut replace, mut dry_run) = (false, false);
    let mut sshd = SshdOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("root-fingerprint") => _ = fingerprints.insert(parser.value()?.string()?.parse()?),
            Long("state-from") => state_from = Some(PathBuf::from(parser.value()?)),
            Long("command-user") => command_user = Some(parser.value()?.string()?),
            Long("replace") => replace = true,
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
        replace,
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

fn parse_status(mut parser: lexopt::Parser) -> Result<Command, InvalidCommandLine> {
    use lexopt::prelude::*;
    let mut options = StatusOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("json") => options.json = true,
            Long("help") | Short('h') => return Ok(Command::Help),
            Long(name) => {
                let name = name.to_owned();
                inspected_sshd_option(&name, &mut parser, &mut options.sshd)?;
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Status(options))
}

fn parse_doctor(mut parser: lexopt::Parser) -> Result<Command, InvalidCommandLine> {
    use lexopt::prelude::*;
    let mut options = DoctorOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("user") => options.user = Some(parser.value()?.string()?),
            Long("key") => options.key = Some(parser.value()?.into()),
            Long("cert") => options.certificate = Some(parser.value()?.into()),
            Long("json") => options.json = true,
            Long("help") | Short('h') => return Ok(Command::Help),
            Long(name) => {
                let name = name.to_owned();
                inspected_sshd_option(&name, &mut parser, &mut options.sshd)?;
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Doctor(options))
}

/// As [`sshd_option`], without those that only a change has.
fn inspected_sshd_option(
    name: &str,
    parser: &mut lexopt::Parser,
    sshd: &mut SshdOptions,
) -> Result<(), InvalidCommandLine> {
    if name == "no-reload" {
        return Err(lexopt::Error::UnexpectedOption(format!("--{name}")).into());
    }
    sshd_option(name, parser, sshd)
}

fn parse_run(mut parser: lexopt::Parser) -> Result<Command, InvalidCommandLine> {
    use lexopt::prelude::*;
    let mut options = RunOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") => options.config = Some(parser.value()?.into()),
            Long("help") | Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Run(options))
}

fn parse_helper(mut parser: lexopt::Parser) -> Result<Command, InvalidCommandLine> {
    use lexopt::prelude::*;
    let mut options = HelperOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") => options.config = Some(parser.value()?.into()),
            Long("listen") => options.listen = Some(parser.value()?.into()),
            Long("help") | Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Helper(options))
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
    #[error("read the command line")]
    Fingerprint(#[from] InvalidFingerprint),
    /// Anything else.
    #[error("read the command line")]
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
            "authorized-keys a b u=c",
            "authorized-keys a b h=/x h=/y",
            "authorized-keys a b x=/x",
            "authorized-principals a SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA h=/x",
            "authorized-principals root",
            "authorized-principals root MD5:00",
            "install",
            "install --root-fingerprint SHA256:x --state-from d",
            "install --state-from d",
            "install --force",
            "uninstall extra",
            "run extra",
            "run --listen /s",
            "helper --config",
            "keys",
            "keys lists",
            "keys list extra",
            "keys list --user",
            "uninstall --state-from d",
            "status extra",
            "status --no-reload",
            "status --user a",
            "doctor a",
            "doctor --key",
            "doctor --no-reload",
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
    fn further_tokens_are_read_behind_the_fingerprint() {
        let line = "authorized-keys u SHA256:x h=/home/u k=AAAA==";
        let Ok(Command::AuthorizedKeys(arguments)) = words(line) else {
            panic!()
        };
        let mut expected = Tokens::default();
        expected.insert(Token::User, "u".to_owned());
        expected.insert(Token::Fingerprint, "SHA256:x".to_owned());
        expected.insert(Token::Home, "/home/u".to_owned());
        expected.insert(Token::Key, "AAAA==".to_owned());
        assert_eq!(arguments.tokens, expected);
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
    fn every_option_of_status_and_doctor_is_read() {
        let sshd = SshdOptions {
            config_dir: "/c".into(),
            ..SshdOptions::default()
        };
        let status = words("status --json --config-dir /c").unwrap();
        assert_eq!(
            status,
            Command::Status(StatusOptions {
                json: true,
                sshd: sshd.clone()
            })
        );
        let line = "doctor --user u --key /k --cert /x --json --config-dir /c";
        let expected = DoctorOptions {
            user: Some("u".to_owned()),
            key: Some("/k".into()),
            certificate: Some("/x".into()),
            json: true,
            sshd,
        };
        assert_eq!(words(line).unwrap(), Command::Doctor(expected));
    }

    #[test]
    fn every_option_of_install_is_read() {
        let line = format!(
            "install --root-fingerprint {PIN} --state-from /d --command-user u --replace --dry-run --config-dir /c --sshd /s --pid-file /p --no-reload"
        );
        let Ok(Command::Install(options)) = words(&line) else {
            panic!()
        };
        assert_eq!(
            (options.state_from, options.command_user),
            ("/d".into(), Some("u".to_owned()))
        );
        let sshd = SshdOptions {
            config_dir: "/c".into(),
            program: "/s".into(),
            pid_file: "/p".into(),
            reload: false,
        };
        assert_eq!(options.sshd, sshd);
        assert!(options.dry_run && options.replace);
    }
}
