//! Reading the command line: own options, ssh's flags, the target, the remote command, in this order of trust.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;

use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;
use eic_protocol::text::printable;

use super::{Line, Program};
use crate::zone::InvalidZone;

/// The account where none is named.
const DEFAULT_USER: &str = "ec2-user";
/// ssh's flags that take a value (ssh(1), 9.9).
const SSH_WITH_VALUE: &str = "BbcDEeFIiJLlmOoPpQRSWw";
/// sftp's (sftp(1), 9.9).
const SFTP_WITH_VALUE: &str = "BbcDFiJloPRSsX";
/// Own options with a value, long and short.
const VALUED: [(&str, char); 4] = [
    ("instance_id", 't'),
    ("profile", 'u'),
    ("zone", 'z'),
    ("region", 'r'),
];
/// Own options without one.
const PLAIN: [(&str, char); 2] = [("debug", 'd'), ("help", 'h')];

/// Why nothing is started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `-h`: the usage, on stdout.
    #[error("help")]
    Help,
    /// The option parser's: on stderr, exit code 2.
    #[error("error: {0}")]
    Option(String),
    /// What the words mean: on stdout before the usage, exit code 1.
    #[error("{0}")]
    Meaning(String),
}

impl Refusal {
    /// The documented exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Help => 0,
            Self::Option(_) => 2,
            Self::Meaning(_) => 1,
        }
    }
}

#[derive(Debug, Default)]
struct Reading {
    instance_id: Option<String>,
    profile: Option<String>,
    zone: Option<String>,
    region: Option<String>,
    debug: bool,
    login_name: Option<String>,
    flags: Vec<OsString>,
    target: Option<String>,
    command: Vec<OsString>,
}

pub(super) fn parse(program: Program, words: &[OsString]) -> Result<Line, Refusal> {
    let mut reading = Reading::default();
    let mut rest = words;
    // As ssh itself: options may follow the target, and end with the command's first word.
    while let Some((word, after)) = rest.split_first() {
        let text = word.to_str().ok_or_else(|| meaning("Invalid target"))?;
        rest = match text {
            "--" => {
                reading.finish(after)?;
                break;
            }
            _ if text.starts_with("--") => reading.long(text, after)?,
            _ if text.starts_with('-') && text.len() > 1 => {
                reading.short(program, word, text, after)?
            }
            _ if reading.target.is_none() => {
                reading.target = Some(text.to_owned());
                after
            }
            _ => {
                reading.command = rest.to_vec();
                break;
            }
        };
    }
    reading.line(program)
}

fn meaning(text: impl Into<String>) -> Refusal {
    Refusal::Meaning(text.into())
}

impl Reading {
    /// After `--`: the target, where it was not named yet, and the command.
    fn finish(&mut self, after: &[OsString]) -> Result<(), Refusal> {
        let mut after = after.iter();
        if self.target.is_none() {
            let target = after
                .next()
                .map(|word| word.to_str().ok_or_else(|| meaning("Invalid target")));
            self.target = target.transpose()?.map(str::to_owned);
        }
        self.command = after.cloned().collect();
        Ok(())
    }

    /// `--region X`, `--region=X`, and prefixes that mean one option only.
    fn long<'a>(&mut self, text: &str, after: &'a [OsString]) -> Result<&'a [OsString], Refusal> {
        let body = text.trim_start_matches('-');
        let (name, attached) = body
            .split_once('=')
            .map_or((body, None), |(n, v)| (n, Some(v)));
        let mut known = VALUED
            .iter()
            .chain(&PLAIN)
            .filter(|(long, _)| !name.is_empty() && long.starts_with(name));
        let letter = match (known.next(), known.next()) {
            (Some((_, letter)), None) => *letter,
            (Some(_), Some(_)) => {
                return Err(Refusal::Option(format!(
                    "ambiguous option: {}",
                    printable(text)
                )));
            }
            (None, _) => {
                return Err(Refusal::Option(format!(
                    "unrecognized arguments: {}",
                    printable(text)
                )));
            }
        };
        match (self.plain(letter)?, attached) {
            (true, None) => Ok(after),
            (true, Some(_)) => Err(Refusal::Option(format!(
                "argument --{name}: ignored explicit argument"
            ))),
            (false, Some(value)) => {
                self.take(letter, value);
                Ok(after)
            }
            (false, None) => self.next_value(letter, after),
        }
    }

    fn short<'a>(
        &mut self,
        program: Program,
        word: &OsStr,
        text: &str,
        after: &'a [OsString],
    ) -> Result<&'a [OsString], Refusal> {
        let letters = text.get(1..).unwrap_or_default();
        let letter = letters.chars().next().unwrap_or_default();
        let attached = letters
            .get(letter.len_utf8()..)
            .filter(|rest| !rest.is_empty());
        if letters.len() == 1 && self.plain(letter)? {
            return Ok(after);
        }
        if VALUED.iter().any(|(_, own)| *own == letter) {
            let next = after.first().and_then(|word| word.to_str());
            if attached.is_none() && is_sshs_own(program, letter, next) {
                self.flags.push(word.to_owned());
                return Ok(after);
            }
            match attached {
                None => return self.next_value(letter, after),
                Some(value) if is_value(letter, value) => {
                    self.take(letter, value);
                    return Ok(after);
                }
                Some(_) => {}
            }
        }
        self.flag(program, word, letters, after)
    }

    /// A flag of ssh or sftp, with its value where it has one.
    fn flag<'a>(
        &mut self,
        program: Program,
        word: &OsStr,
        letters: &str,
        after: &'a [OsString],
    ) -> Result<&'a [OsString], Refusal> {
        let with_value = match program {
            Program::Mssh => SSH_WITH_VALUE,
            Program::Msftp => SFTP_WITH_VALUE,
        };
        let valued = letters
            .char_indices()
            .find(|(_, letter)| with_value.contains(*letter));
        if valued.is_some_and(|(_, letter)| letter == 'i') {
            let name = program.name();
            return Err(meaning(format!(
                "'-i' is not supported when using {name}. When using {name}, the key is made for the one login"
            )));
        }
        self.flags.push(word.to_owned());
        let Some((at, letter)) = valued else {
            return Ok(after);
        };
        let attached = letters.get(at + 1..).filter(|rest| !rest.is_empty());
        let (value, after) = match (attached, after.split_first()) {
            (Some(value), _) => (value.to_owned(), after),
            (None, Some((value, after))) => {
                self.flags.push(value.clone());
                (value.to_string_lossy().into_owned(), after)
            }
            (None, None) => {
                return Err(Refusal::Option(format!(
                    "argument -{letter}: expected one argument"
                )));
            }
        };
        if program == Program::Mssh && letter == 'l' {
            self.login_name = Some(value);
        }
        Ok(after)
    }

    fn plain(&mut self, letter: char) -> Result<bool, Refusal> {
        match letter {
            'd' => self.debug = true,
            'h' => return Err(Refusal::Help),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn next_value<'a>(
        &mut self,
        letter: char,
        after: &'a [OsString],
    ) -> Result<&'a [OsString], Refusal> {
        let long = VALUED
            .iter()
            .find(|(_, own)| *own == letter)
            .map_or("", |(long, _)| long);
        let missing = || {
            Refusal::Option(format!(
                "argument -{letter}/--{long}: expected one argument"
            ))
        };
        let (value, after) = after.split_first().ok_or_else(missing)?;
        let value = value
            .to_str()
            .filter(|value| !value.starts_with('-'))
            .ok_or_else(missing)?;
        self.take(letter, value);
        Ok(after)
    }

    fn take(&mut self, letter: char, value: &str) {
        let slot = match letter {
            't' => &mut self.instance_id,
            'u' => &mut self.profile,
            'z' => &mut self.zone,
            _ => &mut self.region,
        };
        *slot = Some(value.to_owned());
    }

    fn line(self, program: Program) -> Result<Line, Refusal> {
        let target = self
            .target
            .as_deref()
            .filter(|t| !t.is_empty())
            .ok_or_else(|| meaning("Missing target"))?;
        let (user, place) = target
            .split_once('@')
            .map_or((None, target), |(user, place)| (Some(user), place));
        let (place, file) = match program {
            Program::Mssh => (place, None),
            Program::Msftp => place
                .split_once(':')
                .map_or((place, None), |(place, file)| (place, Some(file))),
        };
        let (instance, host) = destination(self.instance_id.as_deref(), place)?;
        let region = self.region.as_deref().map(region).transpose()?;
        let zone = self.zone.as_deref().map(str::parse).transpose();
        let zone = zone.map_err(|e: InvalidZone| meaning(e.to_string()))?;
        if program == Program::Msftp && !self.command.is_empty() {
            let words: Vec<_> = self
                .command
                .iter()
                .map(|w| printable(&w.to_string_lossy()))
                .collect();
            return Err(Refusal::Option(format!(
                "unrecognized arguments: {}",
                words.join(" ")
            )));
        }
        let user = user.or(self.login_name.as_deref()).unwrap_or(DEFAULT_USER);
        let user: OsUser = user
            .parse()
            .map_err(|_| meaning(format!("{} is not a valid UNIX username", printable(user))))?;
        Ok(Line {
            program,
            instance,
            user,
            host,
            profile: self.profile,
            region,
            zone,
            debug: self.debug,
            flags: self.flags,
            command: self.command,
            file: file.map(str::to_owned),
        })
    }
}

/// Where a letter is both ours and ssh's (`-t` of ssh, `-r` of sftp), its next word decides.
fn is_sshs_own(program: Program, letter: char, next: Option<&str>) -> bool {
    let shared = match program {
        Program::Mssh => letter == 't',
        Program::Msftp => letter == 'r',
    };
    shared && next.is_some_and(|next| !is_value(letter, next))
}

fn is_value(letter: char, value: &str) -> bool {
    match letter {
        't' => value
            .strip_prefix("i-")
            .is_some_and(|id| id.bytes().all(|b| b.is_ascii_hexdigit())),
        'r' => value.contains('-') && !value.contains('@') && !value.starts_with("i-"),
        _ => true,
    }
}

/// The instance, and where to connect instead of its own addresses.
fn destination(named: Option<&str>, place: &str) -> Result<(InstanceId, Option<String>), Refusal> {
    let instance = |text: &str| {
        let id = text
            .parse::<InstanceId>()
            .ok()
            .filter(|id| !id.is_managed());
        id.ok_or_else(|| meaning("Invalid instance_id"))
    };
    match named {
        Some(id) if id == place => Ok((instance(id)?, None)),
        Some(id) => Ok((instance(id)?, Some(host(place)?))),
        None if place.starts_with("i-") => Ok((instance(place)?, None)),
        None => Err(meaning("Missing instance_id")),
    }
}

/// An address or a DNS name.
fn host(text: &str) -> Result<String, Refusal> {
    let label = |label: &str| {
        let plain = label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-')
    };
    let is_name = text.len() <= 253 && text.trim_end_matches('.').split('.').all(label);
    if is_name || text.parse::<IpAddr>().is_ok() {
        Ok(text.to_owned())
    } else {
        Err(meaning("Invalid target"))
    }
}

fn region(text: &str) -> Result<AwsRegion, Refusal> {
    text.parse()
        .map_err(|_| meaning(format!("{} is not a valid region", printable(text))))
}
