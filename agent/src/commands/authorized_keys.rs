//! `eic-agent authorized-keys USER [FINGERPRINT]`: sshd's AuthorizedKeysCommand.
//!
//! Instance Connect first; then the chained commands, unless the offered key has been found already. A slow
//! metadata service costs them nothing: after a short head start they run beside it.

use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use eic_protocol::trust::host_view::Stage;

use super::CommandError;
use crate::chained::tokens::Tokens;
use crate::chained::{self, ChainedCommands};
use crate::clock::{Deadline, unix_seconds};
use crate::command_line::KeysArguments;
use crate::config::{Config, Trust};
use crate::instance_connect::{Answer, Question, authorized_keys};
use crate::machine::Machine;
use crate::syslog::{Log as _, Syslog};
use crate::trust_state::{Identity, TrustState};
use crate::trusted_file::Trusted;
use crate::watchdog::Worker;

/// Our own part of a run, start to answer.
const LIMIT: Duration = Duration::from_secs(2);
/// The metadata service's share of it; what remains is for verification.
const METADATA_LIMIT: Duration = Duration::from_millis(1800);
/// How long the chained commands wait for Instance Connect's answer: ten times what a usual one takes.
const HEAD_START: Duration = Duration::from_millis(50);

/// The official agent's tag: administrators search for it.
const INSTANCE_CONNECT_TAG: &str = "ec2-instance-connect";

/// What sshd is told, and how it came about.
#[derive(Debug)]
pub(super) struct Given {
    /// The lines for sshd.
    pub(super) lines: String,
    /// What Instance Connect said; its lines are among [`Self::lines`].
    pub(super) instance_connect: Result<Answer, CommandError>,
}

/// Prints the keys that Instance Connect and the chained commands hold for a user.
///
/// # Errors
/// Whatever makes the answer doubtful; sshd then sees no key. Where commands are chained, a failure of
/// Instance Connect is only told: it must not cost the others.
pub(super) fn run(arguments: KeysArguments) -> Result<String, CommandError> {
    let given = given(arguments)?;
    match given.instance_connect {
        Err(e) if given.lines.is_empty() => Err(e),
        Err(e) => {
            super::complain(&e);
            Ok(given.lines)
        }
        Ok(_) => Ok(given.lines),
    }
}

/// The lines for sshd.
///
/// # Errors
/// The configuration cannot be used, or was not read in time.
pub(super) fn given(arguments: KeysArguments) -> Result<Given, CommandError> {
    let tokens = arguments.tokens;
    let is_one_key = arguments.fingerprint.is_some();
    let question = Question {
        user: arguments.user,
        fingerprint: arguments.fingerprint,
    };
    let deadline = Deadline::after(METADATA_LIMIT);
    let work = move |done: &SyncSender<Progress>| {
        ask_instance_connect(&question, arguments.config, deadline, done);
    };
    let worker = Worker::start(LIMIT, work)?;
    let Progress::Configured(further) = worker.next()? else {
        return Ok(Given::nothing());
    };
    let further = further?;
    if further.commands.is_empty() {
        return Ok(Given::only(answer(&worker)));
    }
    Ok(with_commands(&further, &tokens, &worker, is_one_key))
}

/// What is chained behind Instance Connect.
struct Further {
    commands: ChainedCommands,
    /// The root helper's socket for those of other users.
    door: PathBuf,
}

fn with_commands(
    further: &Further,
    tokens: &Tokens,
    worker: &Worker<Progress>,
    is_one_key: bool,
) -> Given {
    let early = worker.soon(HEAD_START).map(Progress::into_answer);
    if early.as_ref().is_some_and(|e| settles(e, is_one_key)) {
        return Given::only(early.unwrap_or_else(|| answer(worker)));
    }
    let trusted = Trusted::system();
    let running = chained::start(&further.commands, tokens, &further.door, &trusted);
    let instance_connect = early.unwrap_or_else(|| answer(worker));
    if settles(&instance_connect, is_one_key) {
        return Given::only(instance_connect);
    }
    let mut given = Given::only(instance_connect);
    given
        .lines
        .push_str(&running.finish(&Syslog::system("eic-agent")));
    given
}

/// sshd needs one line, that of the key it asked for; a question without a fingerprint may have more answers.
fn settles(answer: &Result<Answer, CommandError>, is_one_key: bool) -> bool {
    is_one_key && matches!(answer, Ok(Answer::Keys(lines)) if !lines.is_empty())
}

fn answer(worker: &Worker<Progress>) -> Result<Answer, CommandError> {
    worker.next()?.into_answer()
}

impl Given {
    fn only(instance_connect: Result<Answer, CommandError>) -> Self {
        let lines = match &instance_connect {
            Ok(answer) => answer.clone().into_lines(),
            Err(_) => String::new(),
        };
        Self {
            lines,
            instance_connect,
        }
    }

    fn nothing() -> Self {
        Self::only(Ok(Answer::NotHere))
    }
}

/// What the thread that may be held up reports, in this order.
enum Progress {
    /// The configuration is read: these commands are chained.
    Configured(Result<Further, CommandError>),
    /// Instance Connect has answered.
    Answered(Result<Answer, CommandError>),
}

impl Progress {
    fn into_answer(self) -> Result<Answer, CommandError> {
        match self {
            Self::Answered(answer) => answer,
            Self::Configured(_) => Ok(Answer::NotHere),
        }
    }
}

fn ask_instance_connect(
    question: &Question,
    config: Option<PathBuf>,
    deadline: Deadline,
    done: &SyncSender<Progress>,
) {
    let trusted = Trusted::system();
    match Config::load(config.as_deref(), &trusted) {
        Err(e) => _ = done.send(Progress::Configured(Err(e.into()))),
        Ok(config) => {
            let further = Further {
                commands: config.authorized_keys.command.clone(),
                door: config.service.logins.clone(),
            };
            let _ = done.send(Progress::Configured(Ok(further)));
            let answer = instance_connect_keys(question, &config, &trusted, deadline);
            let _ = done.send(Progress::Answered(answer));
        }
    }
}

fn instance_connect_keys(
    question: &Question,
    config: &Config,
    trusted: &Trusted,
    deadline: Deadline,
) -> Result<Answer, CommandError> {
    let now = unix_seconds()?;
    let log = Syslog::system(INSTANCE_CONNECT_TAG);
    let settings = config.instance_connect.settings(trusted)?;
    let answer = authorized_keys(question, &settings, &Machine::this(), &log, now, deadline)?;
    let has_keys = matches!(&answer, Answer::Keys(lines) if !lines.is_empty());
    if has_keys && takes_certificates_only(&config.trust, trusted, now) {
        log.info(
            "EC2 Instance Connect keys are switched off for this host by its signed host view.",
        );
        return Ok(Answer::Keys(String::new()));
    }
    Ok(answer)
}

/// A host whose documents do not verify keeps Instance Connect: it is the way in to repair them.
fn takes_certificates_only(trust: &Trust, trusted: &Trusted, now: u64) -> bool {
    let state = TrustState::load(trust, trusted, &Identity::this(), now);
    state.is_ok_and(|state| state.view.stage == Stage::CertificatesOnly)
}
