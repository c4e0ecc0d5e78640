//! The command line. For sshd's two commands every word is a value, whatever it looks like:
//! sshd's tokens are expanded without a shell and without sanitising (sshd_config(5)).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use eic_protocol::key_fingerprint::{InvalidFingerprint, KeyFingerprint};
use eic_protocol::proof::Audience;

use crate::chained::tokens::{Token, Tokens};
use crate::doctor::DoctorOptions;
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
    /// Make the keys of a host without certificate known to the CA.
    HarvestHostKeys(RunOptions),
    /// Show the help.
    Help,
    /// Show the version.
    Version,
}

/// `run [--config FILE]` and `harvest-host-keys [--config FILE]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Another configuration than the default.
    pub config: Option<PathBuf>,
}

/// `helper [--config FILE] [--logins] [--listen SOCKET]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HelperOptions {
    /// Another configuration than the default.
    pub config: Option<PathBuf>,
    /// Where to wait for connections; none: standard input is one (with `logins`: the listening socket).
    pub listen: Option<PathBuf>,
    /// Serve sshd's command, not the service.
    pub logins: bool,
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
    pub ca: KeyFingerprint,
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
      --command-user NAME     whom sshd runs the commands as (default: eic, which is
                              created where it is missing)
      --ca URL                have the service keep this host's trust fresh from this CA: sets `[service] ca`
                              and enables the agent's systemd units
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

  eic-agent harvest-host-keys [--config FILE]  makes the keys of a host without certificate known to the CA

systemd runs:
  eic-agent run    [--config FILE]            keeps trust, host certificate and reports fresh; not as root
  eic-agent helper [--config FILE]            the service's part that is root's, for the connection on stdin
      --logins                runs chained commands of other users instead, for sshd's command
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
        Some("install") => parse_install(arguments),
        Some("uninstall") => parse_uninstall(arguments),
        Some("status") => parse_status(arguments),
        Some("doctor") => parse_doctor(arguments),
        Some("keys") => parse_keys_list(arguments),
        Some("run") => parse_run(arguments, Command::Run),
        Some("harvest-host-keys") => parse_run(arguments, Command::HarvestHostKeys),
        Some("helper") => parse_helper(arguments),
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
    let verb = arguments.next().unwrap_or_default();
    if verb != "list" {
        let verb = format!("keys {}", verb.to_string_lossy());
        return Err(InvalidCommandLine::Verb(verb.trim_end().to_owned()));
    }
    let mut options = ListOptions::default();
    let help = read_options(arguments, |name, value| {
        match name {
            "user" => options.user = Some(value.text()?),
            "json" => options.json = true,
            "config-dir" => options.config_dir = Some(value.path()?),
            "sshd" => options.sshd = Some(value.path()?),
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    Ok(unless(help, Command::KeysList(options)))
}

fn parse_install(arguments: impl Iterator<Item = OsString>) -> Result<Command, InvalidCommandLine> {
    let mut options = InstallOptions {
        fingerprints: BTreeSet::new(),
        state_from: PathBuf::new(),
        command_user: None,
        ca: None,
        replace: false,
        dry_run: false,
        sshd: SshdOptions::default(),
    };
    let help = read_options(arguments, |name, value| {
        match name {
            "root-fingerprint" => _ = options.fingerprints.insert(value.text()?.parse()?),
            "state-from" => options.state_from = value.path()?,
            "command-user" => options.command_user = Some(value.text()?),
            "ca" => options.ca = Some(origin(&value.text()?)?),
            "replace" => options.replace = true,
            "dry-run" => options.dry_run = true,
            _ => return sshd_option(name, value, &mut options.sshd),
        }
        Ok(Taken::Yes)
    })?;
    match help {
        Help::Wanted => Ok(Command::Help),
        Help::No if options.fingerprints.is_empty() => {
            Err(InvalidCommandLine::Required("--root-fingerprint"))
        }
        Help::No if options.state_from.as_os_str().is_empty() => {
            Err(InvalidCommandLine::Required("--state-from"))
        }
        Help::No => Ok(Command::Install(options)),
    }
}

fn origin(text: &str) -> Result<Audience, InvalidCommandLine> {
    text.parse()
        .map_err(|_| InvalidCommandLine::Ca(eic_protocol::text::printable(text)))
}

fn parse_uninstall(
    arguments: impl Iterator<Item = OsString>,
) -> Result<Command, InvalidCommandLine> {
    let mut options = UninstallOptions::default();
    let help = read_options(arguments, |name, value| match name {
        "dry-run" => {
            options.dry_run = true;
            Ok(Taken::Yes)
        }
        _ => sshd_option(name, value, &mut options.sshd),
    })?;
    Ok(unless(help, Command::Uninstall(options)))
}

fn parse_status(arguments: impl Iterator<Item = OsString>) -> Result<Command, InvalidCommandLine> {
    let mut options = StatusOptions::default();
    let help = read_options(arguments, |name, value| match name {
        "json" => {
            options.json = true;
            Ok(Taken::Yes)
        }
        _ => inspected_sshd_option(name, value, &mut options.sshd),
    })?;
    Ok(unless(help, Command::Status(options)))
}

fn parse_doctor(arguments: impl Iterator<Item = OsString>) -> Result<Command, InvalidCommandLine> {
    let mut options = DoctorOptions::default();
    let help = read_options(arguments, |name, value| {
        match name {
            "user" => options.user = Some(value.text()?),
            "key" => options.key = Some(value.path()?),
            "cert" => options.certificate = Some(value.path()?),
            "json" => options.json = true,
            _ => return inspected_sshd_option(name, value, &mut options.sshd),
        }
        Ok(Taken::Yes)
    })?;
    Ok(unless(help, Command::Doctor(options)))
}

fn parse_run(
    arguments: impl Iterator<Item = OsString>,
    command: impl FnOnce(RunOptions) -> Command,
) -> Result<Command, InvalidCommandLine> {
    let mut options = RunOptions::default();
    let help = read_options(arguments, |name, value| {
        if name != "config" {
            return Ok(Taken::No);
        }
        options.config = Some(value.path()?);
        Ok(Taken::Yes)
    })?;
    Ok(unless(help, command(options)))
}

fn parse_helper(arguments: impl Iterator<Item = OsString>) -> Result<Command, InvalidCommandLine> {
    let mut options = HelperOptions::default();
    let help = read_options(arguments, |name, value| {
        match name {
            "config" => options.config = Some(value.path()?),
            "listen" => options.listen = Some(value.path()?),
            "logins" => options.logins = true,
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    Ok(unless(help, Command::Helper(options)))
}

/// As [`sshd_option`], without those that only a change has.
fn inspected_sshd_option(
    name: &str,
    value: &mut Value<'_>,
    sshd: &mut SshdOptions,
) -> Result<Taken, InvalidCommandLine> {
    match name {
        "no-reload" => Ok(Taken::No),
        _ => sshd_option(name, value, sshd),
    }
}

fn sshd_option(
    name: &str,
    value: &mut Value<'_>,
    sshd: &mut SshdOptions,
) -> Result<Taken, InvalidCommandLine> {
    match name {
        "config-dir" => sshd.config_dir = value.path()?,
        "sshd" => sshd.program = value.path()?,
        "pid-file" => sshd.pid_file = value.path()?,
        "no-reload" => sshd.reload = false,
        _ => return Ok(Taken::No),
    }
    Ok(Taken::Yes)
}

/// Whether an option is one of the command's.
enum Taken {
    Yes,
    No,
}

/// Whether the help was asked for.
enum Help {
    Wanted,
    No,
}

fn unless(help: Help, command: Command) -> Command {
    match help {
        Help::Wanted => Command::Help,
        Help::No => command,
    }
}

/// The value behind an option, read only when it is asked for.
struct Value<'a>(&'a mut lexopt::Parser);

impl Value<'_> {
    fn path(&mut self) -> Result<PathBuf, InvalidCommandLine> {
        Ok(self.0.value()?.into())
    }

    fn text(&mut self) -> Result<String, InvalidCommandLine> {
        let value = self.0.value()?;
        value.into_string().map_err(|_| InvalidCommandLine::NotText)
    }
}

/// Reads `--NAME [VALUE]` options only; `take` says which are known.
fn read_options(
    arguments: impl Iterator<Item = OsString>,
    mut take: impl FnMut(&str, &mut Value<'_>) -> Result<Taken, InvalidCommandLine>,
) -> Result<Help, InvalidCommandLine> {
    use lexopt::Arg::{Long, Short};
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        let name = match argument {
            Long("help") | Short('h') => return Ok(Help::Wanted),
            Long(name) => name.to_owned(),
            other => return Err(other.unexpected().into()),
        };
        if let Taken::No = take(&name, &mut Value(&mut parser))? {
            return Err(lexopt::Error::UnexpectedOption(format!("--{name}")).into());
        }
    }
    Ok(Help::No)
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
    /// `--ca` is no origin.
    #[error("read the command line: `{0}` is no CA, write `https://host`")]
    Ca(String),
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
            "helper --login",
            "harvest-host-keys extra",
            "status --no-reload",
            "install --ca http://ca.example",
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
            "install --root-fingerprint {PIN} --state-from /d --command-user u --ca https://ca.example --replace --dry-run --config-dir /c --sshd /s --pid-file /p --no-reload"
        );
        let Ok(Command::Install(options)) = words(&line) else {
            panic!()
        };
        assert_eq!(
            (options.state_from, options.command_user, options.ca),
            (
                "/d".into(),
                Some("u".to_owned()),
                "https://ca.example".parse().ok()
            )
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
