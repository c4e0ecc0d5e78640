//! Why a login does not work: each step of it in turn, until the first that fails. Makes a real login at the end, with
//! the installed ssh and the very settings that it has; changes nothing on the host.

use std::path::PathBuf;
use std::time::Duration;

use eic_protocol::os_user::OsUser;
use eic_protocol::text::printable;
use serde::Serialize;

use crate::cause::Cause;
use crate::config::Config;
use crate::control::client::Agent;
use crate::control::message::{Ask, ConnectAsk, Explanation, Reply};
use crate::credentials::Selection;
use crate::exit_code::{self, Failure};
use crate::host_name::HostName;
use crate::paths::Paths;
use crate::ssh_config::home;
use crate::ssh_config::installation::Installation;
use crate::ssh_config::version::SshVersion;

mod reach;
mod ssh;
mod ssh_output;

pub use ssh::Ssh;

/// What is to be examined.
#[derive(Clone, Debug)]
pub struct Patient {
    /// The host as typed.
    pub host: HostName,
    /// The account, where one was named.
    pub user: Option<OsUser>,
    /// Whose folders.
    pub paths: Paths,
    /// Whose credentials.
    pub selection: Selection,
    /// How ssh is started.
    pub ssh: Ssh,
}

/// One step and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What was looked at.
    pub step: &'static str,
    /// Whether it is in order.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The kind.
    pub cause: Cause,
    /// What was found.
    pub detail: String,
    /// What to do.
    pub fix: &'static str,
    /// The exit code that goes with it.
    #[serde(skip)]
    pub code: u8,
}

/// All that was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Diagnosis {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The one thing that is wrong; none where the login works.
    pub finding: Option<Finding>,
}

impl Diagnosis {
    fn passed(&mut self, step: &'static str, detail: String) {
        self.steps.push(Step {
            step,
            ok: true,
            detail,
        });
    }

    fn noted(&mut self, step: &'static str, failure: &Failure) {
        self.steps.push(Step {
            step,
            ok: false,
            detail: failure.message.clone(),
        });
    }
}

/// How long the resident agent may take for one question: credentials 60 s, the CA and AWS 10 s each.
const LOGIN_DEADLINE: Duration = Duration::from_secs(90);

/// Examines a login.
#[must_use]
pub fn examine(patient: &Patient) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    if let Err((step, failure)) = steps(patient, &mut diagnosis) {
        if diagnosis.steps.last().is_none_or(|last| last.step != step) {
            diagnosis.noted(step, &failure);
        }
        diagnosis.finding = Some(Finding {
            cause: failure.cause,
            fix: failure.cause.fix(),
            code: failure.code,
            detail: failure.message,
        });
    }
    diagnosis
}

type Failed = (&'static str, Failure);

fn steps(patient: &Patient, diagnosis: &mut Diagnosis) -> Result<(), Failed> {
    let at = |step: &'static str| move |failure: Failure| (step, failure);
    diagnosis.passed("ssh", ssh_version().map_err(at("ssh"))?);
    let config = Config::in_force(&patient.paths).map_err(|e| ("configuration", e.into()))?;
    let ca = config.ca.as_ref().map(|ca| ca.url.to_string());
    let told = ca.unwrap_or_else(|| "no CA: EC2 Instance Connect only".to_owned());
    diagnosis.passed("configuration", told);
    let settings = patient.ssh.settings(patient).map_err(at("ssh settings"))?;
    let settings_wrong = settings.wrong(patient, &config);
    match &settings_wrong {
        None => diagnosis.passed(
            "ssh settings",
            "ssh uses this program for the host".to_owned(),
        ),
        Some(failure) => diagnosis.noted("ssh settings", failure),
    }
    let agent = Agent::new(&config.run_dir(&patient.paths));
    let agent = agent.map_err(|e| ("agent", e.into()))?;
    diagnosis.passed(
        "identity",
        identity(patient, &agent).map_err(at("identity"))?,
    );
    let login = login(patient, &settings);
    let told = explain(&agent, &login).map_err(at("host"))?;
    diagnosis.passed("host", host_told(&told));
    let route = prepare(&agent, &login).map_err(at("permission"))?;
    diagnosis.passed("permission", told.now.clone());
    let reached = reach::reach(&route.addresses, route.port);
    match &reached {
        Ok(banner) => diagnosis.passed("network", banner.clone()),
        Err(failure) => diagnosis.noted("network", failure),
    }
    let made = patient.ssh.log_in(patient, &login, LOGIN_DEADLINE);
    let blamed = |failure: Failure| blame(failure, settings_wrong.as_ref(), reached.err());
    diagnosis.passed("login", made.map_err(blamed)?);
    settings_wrong.map_or(Ok(()), |failure| Err(("ssh settings", failure)))
}

/// What comes first is the cause: a host that was not reached, then settings that lead ssh elsewhere, then what ssh
/// itself says, unless our own commands said why.
fn blame(failure: Failure, settings: Option<&Failure>, network: Option<Failure>) -> Failed {
    let says_little = matches!(
        failure.cause,
        Cause::Other | Cause::ClosedEarly | Cause::Refused | Cause::TimedOut
    );
    match (network, settings) {
        (Some(network), _) if says_little => ("network", network),
        (_, Some(settings)) => ("ssh settings", settings.clone()),
        _ => ("login", failure),
    }
}

fn ssh_version() -> Result<String, Failure> {
    match SshVersion::installed() {
        Ok(SshVersion(major, minor)) => Ok(format!("OpenSSH {major}.{minor}")),
        Err(e) => Err(Failure::usage(e.to_string()).because(Cause::SshVersion)),
    }
}

fn identity(patient: &Patient, agent: &Agent) -> Result<String, Failure> {
    match agent.ask(Ask::SignIn(patient.selection.clone()))?.1 {
        Reply::SignedIn(told) => Ok(match (told.caller, told.ca) {
            (Some(caller), Some(ca)) => format!(
                "{} at {ca}, by {}",
                printable(&caller.identity()),
                told.selection
            ),
            _ => format!("AWS credentials of {}", told.selection),
        }),
        other => Err(unexpected(other)),
    }
}

fn login(patient: &Patient, settings: &ssh::Settings) -> ConnectAsk {
    let named = patient.user.clone();
    ConnectAsk {
        default_user: named.is_none() && settings.is_local_user(),
        user: named.unwrap_or_else(|| settings.user.clone()),
        host: patient.host.clone(),
        port: settings.port,
        ssh_pid: None,
        user_agent: None,
        selection: patient.selection.clone(),
        given: None,
    }
}

fn explain(agent: &Agent, login: &ConnectAsk) -> Result<Explanation, Failure> {
    match agent.ask(Ask::Explain(login.clone()))?.1 {
        Reply::Explained(told) => Ok(*told),
        other => Err(unexpected(other)),
    }
}

fn host_told(told: &Explanation) -> String {
    let by = if told.told_by_ca { "the CA" } else { "EC2" };
    let name = told.host.name.as_deref().unwrap_or("no name");
    let (id, region) = (&told.host.id, told.host.region);
    format!(
        "{id} ({name}) in {region}, as {by} says; account {}",
        told.user
    )
}

/// Where the host is.
struct Route {
    addresses: Vec<std::net::IpAddr>,
    port: u16,
}

/// All of a login but the connection: the CA is asked, a key is pushed where the rules say so.
fn prepare(agent: &Agent, login: &ConnectAsk) -> Result<Route, Failure> {
    let (mut conversation, reply) = agent.ask(Ask::Connect(login.clone()))?;
    let route = match reply {
        Reply::Route {
            addresses, port, ..
        } => Route { addresses, port },
        other => return Err(unexpected(other)),
    };
    match conversation.answer()? {
        Reply::Ready { .. } => Ok(route),
        other => Err(unexpected(other)),
    }
}

fn unexpected(reply: Reply) -> Failure {
    match reply {
        Reply::Failed(failure) => failure,
        _ => Failure::new(
            exit_code::FAILURE,
            "the resident agent gave an unexpected answer",
        )
        .because(Cause::Agent),
    }
}

/// Whether setup was run for these folders, and ssh reads them.
fn is_set_up(paths: &Paths) -> bool {
    Installation::new(&paths.ssh_dir).is_in_place() && home::not_read(&paths.ssh_dir).is_none()
}

/// Why what setup wrote does not count, where ssh reads another folder.
fn not_read(paths: &Paths) -> Option<String> {
    let written = Installation::new(&paths.ssh_dir).is_in_place();
    written.then(|| home::not_read(&paths.ssh_dir)).flatten()
}

/// ssh's configuration file, where another than the user's own is to be examined.
pub type SshConfigFile = Option<PathBuf>;
