//! The `ec2-instance-connect` package's programs, done: see `official` for what they promise.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use super::authorized_keys::{self, Given};
use super::{CommandError, complain, print};
use crate::clock::unix_seconds;
use crate::command_line::KeysArguments;
use crate::config::Config;
use crate::instance_connect::files::{self, Unusable};
use crate::instance_connect::roots::Roots;
use crate::official::{
    PARSE_USAGE, ParseOptions, Program, code_of_answer, code_of_failure, code_of_signer, exit_code,
    log_line,
};
use crate::syslog::{Log, Syslog};
use crate::trusted_file::Trusted;
use crate::watchdog;

/// The official agent's tag.
const TAG: &str = "ec2-instance-connect";

/// Verification of files, start to output.
const LIMIT: Duration = Duration::from_secs(5);

/// Runs one of the package's programs with the words behind its name.
pub(super) fn run(program: Program, words: impl Iterator<Item = OsString>) -> ExitCode {
    let (output, code) = match program {
        Program::Run | Program::Curl => keys(words),
        Program::Parse => parse(words),
        // It takes no words, and comes back only where it cannot be started.
        Program::Harvest => return super::finish(super::run::become_harvest(None)),
    };
    match print(&output) {
        Ok(()) => ExitCode::from(code),
        Err(e) => {
            complain(&e);
            ExitCode::from(exit_code::FAILED)
        }
    }
}

type Outcome = (String, u8);

fn keys(words: impl Iterator<Item = OsString>) -> Outcome {
    let words: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let Some(user) = words.first().filter(|user| !user.is_empty()) else {
        Syslog::system(TAG).info(
            "EC2 Instance Connect was invoked without a user to authorize and will do nothing.",
        );
        return (String::new(), exit_code::FAILED);
    };
    let further = words.get(2..).unwrap_or_default();
    let arguments = KeysArguments::of(user, words.get(1).map(String::as_str), further);
    match arguments
        .map_err(CommandError::from)
        .and_then(authorized_keys::given)
    {
        Ok(given) => answered(given),
        Err(e) => failed(&e),
    }
}

fn answered(given: Given) -> Outcome {
    match given.instance_connect {
        // What a chained command found counts, whatever became of Instance Connect.
        _ if !given.lines.is_empty() => (given.lines, exit_code::DONE),
        Ok(answer) => (String::new(), code_of_answer(&answer)),
        Err(e) => failed(&e),
    }
}

fn failed(error: &CommandError) -> Outcome {
    complain(error);
    let code = match error {
        CommandError::Keys(e) => code_of_failure(e),
        CommandError::Overrun(_) => exit_code::TIMEOUT,
        _ => exit_code::FAILED,
    };
    (String::new(), code)
}

fn parse(words: impl Iterator<Item = OsString>) -> Outcome {
    let options = match ParseOptions::parse(words) {
        Ok(options) => options,
        Err(e) => {
            complain(&e);
            return (PARSE_USAGE.to_owned(), exit_code::FAILED);
        }
    };
    match watchdog::within(LIMIT, move || verify(&options)) {
        Ok(outcome) => outcome,
        Err(e) => failed(&e.into()),
    }
}

fn verify(options: &ParseOptions) -> Outcome {
    let log: Box<dyn Log> = if options.debug {
        Box::new(Aloud)
    } else {
        Box::new(Syslog::system(TAG))
    };
    let verified = pinned_roots().and_then(|pinned| {
        let now = unix_seconds()?;
        Ok(files::keys(options, pinned.as_ref(), log.as_ref(), now))
    });
    match verified {
        Ok(Ok(lines)) if lines.is_empty() => (lines, exit_code::NO_KEYS),
        Ok(Ok(lines)) => (lines, exit_code::DONE),
        Ok(Err(Unusable::Signer(e))) => {
            log.info(&log_line(&e));
            complain(&e);
            (String::new(), code_of_signer(&e))
        }
        Ok(Err(e)) => {
            complain(&e);
            (String::new(), exit_code::FAILED)
        }
        Err(e) => failed(&e),
    }
}

/// The roots that count in place of the stated anchors: those of the configuration, whenever nobody runs this by
/// hand. sshd gives its commands /dev/null as stdin; `-a /etc/ssl/certs` of the package's own scripts would
/// otherwise let every public CA vouch for a signer.
fn pinned_roots() -> Result<Option<Roots>, CommandError> {
    if !stdin_is_null() {
        return Ok(None);
    }
    let trusted = Trusted::system();
    let settings = Config::load(None, &trusted)?
        .instance_connect
        .settings(&trusted)?;
    let roots = settings
        .roots
        .load()
        .map_err(crate::instance_connect::NoKeys::from)?;
    Ok(Some(roots))
}

/// Character device 1:3 (null(4)); a stdin that cannot be looked at counts as it.
fn stdin_is_null() -> bool {
    rustix::fs::fstat(std::io::stdin()).map_or(true, |about| {
        let is_device = rustix::fs::FileType::from_raw_mode(about.st_mode).is_char_device();
        let number = (
            rustix::fs::major(about.st_rdev),
            rustix::fs::minor(about.st_rdev),
        );
        is_device && number == (1, 3)
    })
}

/// `-x true`: failures on stdout, successes nowhere.
struct Aloud;

impl Log for Aloud {
    fn info(&self, message: &str) {
        let is_success = ["Providing ", "Querying "]
            .iter()
            .any(|word| message.starts_with(word));
        if !is_success {
            // A reader that has gone away is noticed when the keys are written.
            let _ = writeln!(
                std::io::stdout(),
                "{}",
                eic_protocol::text::printable(message)
            );
        }
    }
}
