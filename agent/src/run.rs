//! `eic-agent run`: the service that keeps this host's trust fresh. Unprivileged; whatever it fetched is
//! verified again by the root helper (`helper`), which alone writes and signs.
//!
//! Four tasks in one loop, each with a pace of its own: trust documents, the host certificate, the report, and
//! live sessions of revoked certificates. One that fails is told in `status.json` and does not stop the others. Only
//! the CA is asked for trust on a thread of its own: it answers when there is news.

mod ca_answer;
mod evidence;
mod harvest;
pub mod helper_client;
mod host_certificate;
mod host_request;
pub mod http;
pub mod login_line;
pub mod login_log;
pub mod pace;
mod report;
mod s3;
pub mod settings;
mod sigv4;
mod source;
pub mod status;
mod trust;

pub(crate) use harvest::harvest;

use std::convert::Infallible;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eic_protocol::api::trust_bundle::MAX_WAIT;
use eic_protocol::grant::Nonce;

use crate::clock::{ClockBeforeEpoch, unix_seconds};
use crate::config::{Config, InvalidConfig};
use crate::helper::request::{Answer, Request, TrustAnswer};
use crate::trusted_file::{Trusted, UntrustedFile};
use helper_client::Helper;
use host_certificate::{HostCertificate, Outcome, Scene};
use http::{Client, HttpError};
use pace::Pace;
use report::Report;
use source::Source;
use status::Status;
use trust::{Answered, Trust};

/// Between two looks at the log and at the host certificate's time.
const OFTEN: Duration = Duration::from_secs(5);
/// Pauses between two long polls: a little, spread, so that a fleet does not come back in one instant.
const BETWEEN_POLLS: Duration = Duration::from_millis(500);

/// Runs the service until it is ended by a signal.
///
/// # Errors
/// [`RunError`]: the configuration cannot be used.
pub fn serve(config: Option<&Path>) -> Result<Infallible, RunError> {
    let mut service = Service::new(config)?;
    loop {
        let wait = service.round()?;
        service.trust.work.rest(wait);
    }
}

/// The service with what it keeps.
struct Service {
    config: Config,
    client: Arc<Client>,
    helper: Helper,
    files: Task<()>,
    trust: Task<Trust>,
    certificate: Task<HostCertificate>,
    report: Task<Report>,
    /// Whether the revocation list changed since sessions were last looked at.
    sessions_due: bool,
    status: Status,
}

/// A task and when it is next.
struct Task<T> {
    work: T,
    pace: Pace,
    next: Instant,
}

impl<T> Task<T> {
    fn new(work: T) -> Self {
        Self {
            work,
            pace: Pace::default(),
            next: Instant::now(),
        }
    }

    fn at(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    fn is_due(&self) -> bool {
        self.next <= Instant::now()
    }

    fn succeeded(&mut self, usual: Duration) {
        self.next = Instant::now() + self.pace.succeeded(usual, pace::random());
    }

    fn failed(&mut self) {
        self.next = Instant::now() + self.pace.failed(pace::random());
    }
}

/// What a fetch brought.
struct Fetch {
    news: bool,
    refused: Option<String>,
}

impl Service {
    fn new(path: Option<&Path>) -> Result<Self, RunError> {
        let trusted = Trusted::system();
        let config = Config::load(path, &trusted)?;
        let service = &config.service;
        let source = Source::configured(&config)?.ok_or(RunError::NoSource)?;
        let (roots, proxy) = (service.tls_roots.as_deref(), service.proxy.as_deref());
        Ok(Self {
            client: Arc::new(Client::new(roots, proxy, &trusted)?),
            helper: Helper::at(&service.helper),
            files: Task::new(()),
            trust: Task::new(Trust::new(source)).at(Pace::of_trust()),
            certificate: Task::new(HostCertificate::default()),
            report: Task::new(Report::new(&service.runtime)),
            sessions_due: service.end_revoked_sessions,
            status: Status::default(),
            config,
        })
    }

    /// Every task that is due, then the state for people; returns how long to sleep.
    fn round(&mut self) -> Result<Duration, RunError> {
        if self.files.is_due() {
            self.mend_files()?;
        }
        self.renew_trust()?;
        if self.sessions_due {
            self.end_sessions();
        }
        if self.certificate.is_due() {
            self.renew_certificate()?;
        }
        if self.report.is_due() {
            self.send_report()?;
        }
        self.write_status()?;
        let asks = (!self.trust.work.is_asking()).then_some(self.trust.next);
        let others = [self.files.next, self.certificate.next, self.report.next];
        let soonest = others
            .into_iter()
            .chain(asks)
            .min()
            .unwrap_or_else(Instant::now);
        Ok(soonest.saturating_duration_since(Instant::now()).min(OFTEN))
    }

    /// Whatever the CA does: sshd's files are what was installed.
    fn mend_files(&mut self) -> Result<(), RunError> {
        match self.trust.work.repair(&self.config, &self.helper) {
            Ok(answer) => {
                self.status.works("files");
                self.files.succeeded(OFTEN);
                if let Some(answer) = answer {
                    self.note_installed(&answer);
                }
            }
            Err(e) => {
                self.files.failed();
                self.tell("files", &e, unix_seconds()?);
            }
        }
        Ok(())
    }

    /// Asks where it is time to, and takes what was answered.
    fn renew_trust(&mut self) -> Result<(), RunError> {
        if !self.trust.work.is_asking() && self.trust.is_due() {
            self.ask_for_trust()?;
        }
        if let Some(answered) = self.trust.work.answer() {
            self.take_trust(answered)?;
        }
        Ok(())
    }

    fn ask_for_trust(&mut self) -> Result<(), RunError> {
        let (wait, now) = (self.poll_wait(), unix_seconds()?);
        let work = &mut self.trust.work;
        match work.ask(&self.config, &self.client, wait, now) {
            // What is answered at once comes before the other tasks: at the start they go by what is newest.
            Ok(()) if wait.is_zero() => work.rest(OFTEN),
            Ok(()) => {}
            Err(e) => {
                self.tell("trust", &e, now);
                self.trust.failed();
            }
        }
        Ok(())
    }

    fn take_trust(&mut self, answered: Answered) -> Result<(), RunError> {
        let now = unix_seconds()?;
        let (wait, took) = (answered.wait, answered.took);
        let outcome = self.take_fetched(answered, now);
        match outcome {
            Ok(Fetch { news, refused }) => {
                match refused {
                    Some(reason) => self.tell("trust", &trust::NotRenewed::Refused(reason), now),
                    None => self.status.works("trust"),
                }
                self.status.last_fetch = Some(now);
                // A server that answers at once although asked to wait is looked at now and then only.
                let patient = self.trust.work.waits() && took + OFTEN >= wait;
                let usual = match news || patient {
                    true if self.trust.work.waits() => BETWEEN_POLLS,
                    _ => Duration::from_secs(self.config.service.poll_seconds.max(1)),
                };
                self.trust.succeeded(usual);
            }
            Err(e) => {
                self.tell("trust", &*e, now);
                self.trust.failed();
            }
        }
        match trust::check_fresh(&self.config, now) {
            Ok(()) => self.status.works("freshness"),
            Err(e) => self.tell("freshness", &e, now),
        }
        Ok(())
    }

    /// Nothing is waited for before the first answer and after a failure.
    fn poll_wait(&self) -> Duration {
        if !self.trust.work.waits()
            || self.trust.pace.failures() > 0
            || self.status.last_fetch.is_none()
        {
            return Duration::ZERO;
        }
        let usual = Duration::from_secs(self.config.service.poll_seconds);
        usual.min(Duration::from_secs(MAX_WAIT))
    }

    fn take_fetched(&mut self, answered: Answered, now: u64) -> Result<Fetch, Box<dyn Error>> {
        let (config, helper) = (&self.config, &self.helper);
        let fetched = answered.fetched.map_err(trust::NotRenewed::from)?;
        let round = self.trust.work.take(config, helper, &fetched, now)?;
        if let Some(answer) = &round.installed {
            self.note_installed(answer);
        }
        if let Some(theirs) = round.server_time {
            let ours = i64::try_from(unix_seconds()?)?;
            self.status.clock_offset = Some(ours.saturating_sub(i64::try_from(theirs)?));
        }
        Ok(Fetch {
            news: round.news,
            refused: round.refused,
        })
    }

    fn note_installed(&mut self, answer: &TrustAnswer) {
        let list = crate::trust_store::REVOKED_KEYS_FILE;
        if answer.changed.iter().any(|name| name == list) {
            self.sessions_due = self.config.service.end_revoked_sessions;
        }
        if !answer.changed.is_empty() {
            log(&format!("new in place: {}", answer.changed.join(", ")));
        }
        for warning in &answer.warnings {
            log(warning);
        }
        self.status.installed = Some(answer.installed);
    }

    fn end_sessions(&mut self) {
        match self.helper.ask(&Request::EndRevokedSessions {}) {
            Ok(Answer::Ended(ended)) => {
                self.sessions_due = false;
                self.status.works("sessions");
                for session in ended {
                    let by = match (session.serial, &session.key_id) {
                        (Some(serial), Some(id)) => format!("certificate (serial {serial}, {id})"),
                        _ => format!("key ({})", session.key.unwrap_or_default()),
                    };
                    log(&format!(
                        "ended the session of {}: its {by} is revoked",
                        session.user
                    ));
                }
            }
            Ok(_) => {}
            // Tried again with the next round: `sessions_due` stays.
            Err(e) => {
                let now = unix_seconds().unwrap_or(self.status.updated);
                self.tell("sessions", &e, now);
            }
        }
    }

    fn renew_certificate(&mut self) -> Result<(), RunError> {
        let now = unix_seconds()?;
        let in_place = host_certificate::in_place(&self.config);
        let ends = in_place.as_ref().map(ssh_key::Certificate::valid_before);
        let scene = Scene {
            config: &self.config,
            client: &self.client,
            helper: &self.helper,
            in_place: in_place.as_ref(),
            now,
        };
        let task = &mut self.certificate;
        let outcome = task.work.renew(&scene);
        match outcome {
            Ok(outcome) => {
                task.succeeded(OFTEN);
                self.certificate_outcome(&outcome, ends, now);
            }
            Err(e) => {
                task.failed();
                self.tell("host certificate", &e, now);
            }
        }
        Ok(())
    }

    fn certificate_outcome(&mut self, outcome: &Outcome, ends: Option<u64>, now: u64) {
        self.status.host_certificate_ends = ends;
        match outcome {
            Outcome::Early => self.status.works("host certificate"),
            Outcome::Installed(in_place) => {
                self.status.works("host certificate");
                self.status.host_certificate_ends = Some(in_place.ends);
                log("a new host certificate is in place");
                match &in_place.warning {
                    Some(warning) => {
                        self.status
                            .failed("shown host certificate", warning.clone(), now)
                    }
                    None => self.status.works("shown host certificate"),
                }
            }
            Outcome::Waits(what) => {
                self.status.failed("host certificate", what.clone(), now);
            }
        }
    }

    fn send_report(&mut self) -> Result<(), RunError> {
        let now = unix_seconds()?;
        let service = &self.config.service;
        let Some(ca) = service.ca.clone().filter(|_| service.report) else {
            self.report.succeeded(Duration::from_secs(3600));
            return Ok(());
        };
        match self.report.work.collect(&service.login_log, now) {
            Ok(()) => self.status.works("login log"),
            Err(e) => self.tell("login log", &e, now),
        }
        let work = &mut self.report.work;
        match work.send(&ca, &self.client, &self.helper, &self.status, now) {
            Ok(sent) => {
                self.status.works("report");
                if sent {
                    self.status.last_report = Some(now);
                }
                self.report.succeeded(OFTEN);
            }
            Err(e) => {
                self.tell("report", &e, now);
                self.report.failed();
            }
        }
        Ok(())
    }

    /// A problem in the state for people; in the log when it begins or its reason changes.
    fn tell(&mut self, task: &str, error: &dyn Error, now: u64) {
        let reason = crate::helper::chain(error);
        let known = self
            .status
            .problems
            .get(task)
            .is_some_and(|p| p.reason == reason);
        if !known {
            log(&format!("{task}: {reason}"));
        }
        self.status.failed(task, reason, now);
    }

    fn write_status(&mut self) -> Result<(), RunError> {
        let (path, now) = (self.config.service.status_path(), unix_seconds()?);
        self.status
            .write(&path, now)
            .map_err(|source| RunError::Status { path, source })
    }
}

/// A line for the system's log: systemd takes standard error.
fn log(text: &str) {
    use std::io::Write as _;
    // Where it is closed, nobody wants to know.
    let line = eic_protocol::text::printable(text);
    let _ = writeln!(std::io::stderr(), "eic-agent: {line}");
}

/// Sixteen random bytes; `None` where the system has none.
fn nonce() -> Option<Nonce> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; 16];
    ring::rand::SystemRandom::new().fill(&mut bytes).ok()?;
    Some(Nonce::from_random(bytes))
}

/// Why the service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// Nowhere to fetch from.
    #[error("run the service: set `[service] ca` or `trust_from` in /etc/eic/agent.toml")]
    NoSource,
    /// Roots or proxy.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A file.
    #[error(transparent)]
    File(#[from] UntrustedFile),
    /// The clock.
    #[error(transparent)]
    Clock(#[from] ClockBeforeEpoch),
    /// The state cannot be told: an administrator would see an old one.
    #[error("write `{}`", .path.display())]
    Status {
        /// The file.
        path: std::path::PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}
