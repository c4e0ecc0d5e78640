//! `eic-agent status`: what this host trusts and since when, whether sshd asks this agent, and who came in by
//! which way. Healthy means that a certificate of the CA opens this host and goes on doing so.

mod logins;
mod service;
mod text;

use std::path::{Path, PathBuf};

use eic_protocol::trust::host_view::Stage;
use eic_protocol::trust::root::{KeyState, ScopedCa};
use serde::Serialize;

use self::logins::Logins;
use crate::calendar::rfc3339;
use crate::commands::{cannot, chain};
use crate::config::Config;
use crate::install::inspection::{Inspection, Problem};
use crate::install::{InstallError, SshdOptions, System, demand_root};
use crate::instance_connect::metadata::Metadata;
use crate::trust_state::{ROOT_FILE, TrustState, VIEW_FILE};
use crate::trust_store::TRUST_FILE;

/// `eic-agent status …`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusOptions {
    /// JSON instead of text.
    pub json: bool,
    /// Which sshd.
    pub sshd: SshdOptions,
}

/// What a command found, for the terminal, and whether all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The whole output.
    pub text: String,
    /// Whether the exit code is 0.
    pub good: bool,
}

/// Looks at this host.
///
/// # Errors
/// Not root: sshd's configuration and the logs cannot be read.
pub fn status(options: &StatusOptions, system: &System) -> Result<Judged, InstallError> {
    demand_root()?;
    let now = crate::clock::unix_seconds()?;
    let report = Report::make(options, system, now);
    let text = if options.json {
        // A report of texts and numbers always has a JSON form.
        serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
    } else {
        text::render(&report)
    };
    Ok(Judged {
        text,
        good: report.healthy,
    })
}

/// Everything that is told; times are RFC 3339 in UTC.
#[derive(Debug, Serialize)]
struct Report {
    healthy: bool,
    problems: Vec<ToldProblem>,
    trust: Option<TrustReport>,
    instance_connect: InstanceConnectReport,
    sshd: SshdReport,
    service: Option<service::ServiceReport>,
    logins: Logins,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ToldProblem {
    what: String,
    fix: String,
}

#[derive(Debug, Serialize)]
struct TrustReport {
    instance: String,
    pinned_root_keys: Vec<String>,
    root: DocumentReport,
    host_view: DocumentReport,
    age_seconds: u64,
    refresh_after: String,
    hard_stop: Option<String>,
    stage: Stage,
    fleets: Vec<String>,
    user_cas: Vec<CaReport>,
}

#[derive(Debug, Serialize)]
struct DocumentReport {
    file: String,
    version: u64,
    issued: String,
    /// When the file was written on this host.
    in_place_since: Option<String>,
}

#[derive(Debug, Serialize)]
struct CaReport {
    fingerprint: String,
    key_type: String,
    state: KeyState,
    endorsed: bool,
    users: Option<Vec<String>>,
    not_before: Option<String>,
    not_after: Option<String>,
}

#[derive(Debug, Serialize)]
struct InstanceConnectReport {
    /// Whether the signed host view leaves it on.
    on: bool,
    /// `answers`, or why not.
    metadata: String,
    chained_commands: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SshdReport {
    version: Option<String>,
    lines_in: Option<String>,
    effective: bool,
    installed: Option<String>,
    host_certificate: Option<String>,
}

impl Report {
    fn make(options: &StatusOptions, system: &System, now: u64) -> Self {
        let mut problems = Vec::new();
        let config = Config::load(Some(&system.agent_toml), &system.trusted).unwrap_or_else(|e| {
            problems.push(problem(cannot(&e), "eic-agent install"));
            Config::default()
        });
        let trust = match TrustState::load(&config.trust, &system.trusted, &system.identity, now) {
            Ok(state) => Some(state),
            Err(e) => {
                problems.push(problem(
                    cannot(&e),
                    "put the documents of your CA in place again with `eic-agent install`",
                ));
                None
            }
        };
        problems.extend(trust.as_ref().and_then(|state| out_of_date(state, now)));
        let found = Inspection::make(&options.sshd, system, &config, trust.as_ref());
        problems.extend(found.problems.iter().map(told));
        problems.extend(host_certificate_problem(&found, trust.as_ref(), now));
        let (service, failing) = service::look(&config, now);
        problems.extend(failing);
        Self {
            healthy: problems.is_empty(),
            problems,
            instance_connect: instance_connect(&config, trust.as_ref(), system),
            trust: trust.map(|state| trust_report(&state, &config, now)),
            sshd: sshd_report(&found),
            service,
            logins: logins::read(),
            notes: found.remarks,
        }
    }
}

fn problem(what: String, fix: &str) -> ToldProblem {
    ToldProblem {
        what,
        fix: fix.to_owned(),
    }
}

fn told(found: &Problem) -> ToldProblem {
    problem(found.what.clone(), &found.fix)
}

fn out_of_date(state: &TrustState, now: u64) -> Option<ToldProblem> {
    let due = state.view.refresh_after;
    (due <= now).then(|| {
        let what = format!("the host view should have been renewed by {}", rfc3339(due));
        problem(
            what,
            "a new host view from your CA; until then certificates still count",
        )
    })
}

fn host_certificate_problem(
    found: &Inspection,
    trust: Option<&TrustState>,
    now: u64,
) -> Option<ToldProblem> {
    let path = found.host_certificate.as_deref()?;
    let state = trust?;
    let line = std::fs::read_to_string(path).ok();
    let key = line.and_then(|line| crate::install::host_certificate::key(&line, state, now).err());
    let missing = !path.exists();
    if missing {
        let what = format!("the host certificate {} is missing", path.display());
        return Some(problem(what, "eic-agent install with a new host-cert.pub"));
    }
    key.map(|unfit| {
        problem(
            format!("the host certificate does not count: {}", chain(&unfit)),
            "a new host-cert.pub from your CA",
        )
    })
}

fn trust_report(state: &TrustState, config: &Config, now: u64) -> TrustReport {
    let (root, view) = (&state.root, &state.view);
    let folder = &config.trust.state;
    TrustReport {
        instance: view.instance.to_string(),
        pinned_root_keys: config
            .trust
            .root_fingerprints
            .iter()
            .map(ToString::to_string)
            .collect(),
        root: document(&source(folder, ROOT_FILE), root.version, root.issued),
        host_view: document(&source(folder, VIEW_FILE), view.version, view.issued),
        age_seconds: now.saturating_sub(view.issued),
        refresh_after: rfc3339(view.refresh_after),
        hard_stop: view.hard_stop.map(rfc3339),
        stage: view.stage,
        fleets: view.fleets.iter().map(|f| f.name.to_string()).collect(),
        user_cas: root
            .user_cas
            .iter()
            .chain(&state.endorsed)
            .map(ca_report)
            .collect(),
    }
}

/// The service's extract where it keeps one, else what `install` wrote.
fn source(folder: &Path, by_hand: &str) -> PathBuf {
    let renewed = folder.join(TRUST_FILE);
    if renewed.exists() {
        renewed
    } else {
        folder.join(by_hand)
    }
}

fn document(file: &Path, version: u64, issued: u64) -> DocumentReport {
    let written = std::fs::metadata(file).and_then(|about| about.modified());
    let since = written
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    DocumentReport {
        file: file.display().to_string(),
        version,
        issued: rfc3339(issued),
        in_place_since: since.map(|elapsed| rfc3339(elapsed.as_secs())),
    }
}

fn ca_report(ca: &ScopedCa) -> CaReport {
    let users = ca.scope.users.as_ref();
    CaReport {
        fingerprint: ca.key.fingerprint(),
        key_type: ca.key.key().algorithm_name(),
        state: ca.state,
        endorsed: ca.scope.endorsed,
        users: users.map(|users| users.iter().map(ToString::to_string).collect()),
        not_before: ca.scope.not_before.map(rfc3339),
        not_after: ca.scope.not_after.map(rfc3339),
    }
}

fn instance_connect(
    config: &Config,
    trust: Option<&TrustState>,
    system: &System,
) -> InstanceConnectReport {
    let commands = config.authorized_keys.command.iter();
    InstanceConnectReport {
        on: trust.is_none_or(|state| state.view.stage == Stage::Hybrid),
        metadata: metadata(config, system).map_or_else(|e| e, |()| "answers".to_owned()),
        chained_commands: commands.map(|command| command.name.clone()).collect(),
    }
}

/// Whether the metadata service hands out a token.
fn metadata(config: &Config, system: &System) -> Result<(), String> {
    let settings = config.instance_connect.settings(&system.trusted);
    let endpoint = settings.map_err(|e| cannot(&e))?.endpoint;
    let deadline = crate::clock::Deadline::after(std::time::Duration::from_millis(1500));
    Metadata::open(&endpoint, deadline)
        .map(drop)
        .map_err(|e| cannot(&e))
}

fn sshd_report(found: &Inspection) -> SshdReport {
    SshdReport {
        version: found.sshd.as_ref().map(|sshd| sshd.version.to_string()),
        lines_in: found
            .lines_in
            .as_ref()
            .map(|path| path.display().to_string()),
        effective: found.effective,
        installed: found.installed.map(rfc3339),
        host_certificate: found
            .host_certificate
            .as_ref()
            .map(|path| path.display().to_string()),
    }
}
