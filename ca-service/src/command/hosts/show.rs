//! What `eic-ca hosts` prints. Text of hosts is escaped: a terminal is no place for it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use eic_protocol::api::host_report::HostReport;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::text::printable;
use serde_json::{Value, json};

use crate::command::output::print;
use crate::host_identity::enrolment::EnrolledHost;
use crate::moment::rfc3339;
use crate::store::hosts::{
    HostRequest, StoredReport, blocked, hosts, legacy_hosts, reports, requests, stored,
};
use crate::store::{Reader, StoreError};

/// A host that reported nothing for so long is shown as silent: three reports were missed. Seconds.
const SILENT: u64 = 900;

/// What a host that is up to date has reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Present {
    /// Version of the root document.
    pub(super) root: u64,
    /// Sequence of the first bundle with all that is revoked; none: no bundle has it yet.
    pub(super) bundle: Option<u64>,
}

impl Present {
    /// Whether the host reported both.
    fn is_at(&self, host: &Shown) -> bool {
        let trust = host.report.as_ref().and_then(parsed).map(|r| r.trust);
        trust.is_some_and(|trust| {
            let bundle = self.bundle.is_some() && trust.bundle_sequence >= self.bundle;
            bundle && trust.root_version >= self.root
        })
    }

    /// The last line: how many of those that are to follow do.
    fn summary(&self, hosts: &[Shown]) -> String {
        let Some(bundle) = self.bundle else {
            return "what is revoked now is in no bundle yet: a running service makes one within a second, `eic-ca bundle publish` at once".to_owned();
        };
        let followers = || hosts.iter().filter(|host| host.follows());
        let (all, there) = (
            followers().count(),
            followers().filter(|host| self.is_at(host)).count(),
        );
        let root = self.root;
        format!("{there} of {all} hosts report bundle ≥ {bundle} and root ≥ {root}")
    }
}

/// All hosts; with `behind` only those that are to have what is present and have not reported it. `now` is in Unix
/// seconds.
pub(super) fn list(
    reader: &Reader,
    as_json: bool,
    behind: Option<Present>,
    now: u64,
) -> Result<ExitCode, StoreError> {
    let all = all(reader)?;
    if !as_json {
        print(format_args!("{}\n", row(&COLUMNS)));
    }
    let wanted = |host: &&Shown| behind.is_none_or(|at| host.follows() && !at.is_at(host));
    for host in all.iter().filter(wanted) {
        if as_json {
            print(format_args!("{}\n", host.value()));
        } else {
            print(format_args!("{}\n", host.row(now)));
        }
    }
    if all.is_empty() {
        eprintln!("eic-ca: no host is enrolled, and no legacy host's keys are known");
    }
    match behind.map(|present| present.summary(&all)) {
        // Among JSON objects it is none.
        Some(summary) if as_json => eprintln!("eic-ca: {summary}"),
        Some(summary) => print(format_args!("{summary}\n")),
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

const COLUMNS: [&str; 8] = [
    "INSTANCE", "ACCOUNT", "REGION", "EVIDENCE", "HEALTH", "ROOT", "BUNDLE", "REPORTED",
];

fn row(columns: &[&str; 8]) -> String {
    let [
        instance,
        account,
        region,
        evidence,
        health,
        root,
        bundle,
        reported,
    ] = columns;
    format!(
        "{instance:<20} {account:<12} {region:<14} {evidence:<17} {health:<10} {root:<5} {bundle:<8} {reported}"
    )
}

/// Enrolled hosts, then legacy ones.
fn all(reader: &Reader) -> Result<Vec<Shown>, StoreError> {
    let (mut reported, blocked) = (reported(reader)?, blocked(reader)?);
    let enrolled = hosts(reader)?.into_iter().map(|host| (host, true));
    let legacy = legacy_hosts(reader)?.into_iter().map(|host| (host, false));
    let shown = enrolled.chain(legacy).map(|(host, enrolled)| Shown {
        blocked: blocked.contains(&host.instance),
        report: reported.remove(&host.instance),
        enrolled,
        host,
    });
    Ok(shown.collect())
}

pub(super) fn one(
    reader: &Reader,
    instance: &InstanceId,
    as_json: bool,
) -> Result<ExitCode, StoreError> {
    let stored = stored(reader, instance)?;
    let enrolled = stored.enrolled.is_some();
    let Some(host) = stored.enrolled.or(stored.legacy) else {
        let more = if stored.blocked {
            "; it is blocked"
        } else {
            ""
        };
        eprintln!("eic-ca: {instance} is not enrolled{more}");
        return Ok(ExitCode::FAILURE);
    };
    let shown = Shown {
        blocked: stored.blocked,
        report: reported(reader)?.remove(instance),
        enrolled,
        host,
    };
    let value = shown.value();
    if as_json {
        print(format_args!("{value}\n"));
    } else {
        print_members(&value, "");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn pending(reader: &Reader, as_json: bool) -> Result<ExitCode, StoreError> {
    let requests = requests(reader)?;
    for request in &requests {
        let namesakes = requests
            .iter()
            .filter(|other| other.instance == request.instance)
            .count();
        let value = request_value(request, namesakes);
        if as_json {
            print(format_args!("{value}\n"));
        } else {
            print_members(&value, "");
            print(format_args!("\n"));
        }
    }
    if requests.is_empty() {
        eprintln!("eic-ca: no host waits");
    }
    Ok(ExitCode::SUCCESS)
}

fn reported(reader: &Reader) -> Result<BTreeMap<InstanceId, StoredReport>, StoreError> {
    let reports = reports(reader)?.into_iter();
    Ok(reports
        .map(|report| (report.instance.clone(), report))
        .collect())
}

/// A host with all that is told of it.
struct Shown {
    host: EnrolledHost,
    /// Else its keys are known, for clients.
    enrolled: bool,
    blocked: bool,
    report: Option<StoredReport>,
}

impl Shown {
    /// Whether it is to follow the CA and can say how far it has got: the reports of a blocked host are refused.
    fn follows(&self) -> bool {
        self.enrolled && !self.blocked && self.host.ended_at.is_none()
    }

    fn row(&self, now: u64) -> String {
        let (host, report) = (&self.host, self.report.as_ref());
        let trust = report.and_then(parsed).map(|report| report.trust);
        let absent = || "-".to_owned();
        let told = |number: Option<u64>| number.map_or_else(absent, |number| number.to_string());
        row(&[
            host.instance.as_str(),
            host.account.as_str(),
            host.region.as_str(),
            host.evidence.as_str(),
            self.health(now),
            &told(trust.as_ref().map(|trust| trust.root_version)),
            &told(trust.and_then(|trust| trust.bundle_sequence)),
            &report.map_or_else(absent, |report| rfc3339(report.received_at)),
        ])
    }

    fn health(&self, now: u64) -> &'static str {
        let report = self.report.as_ref();
        let silent = report.is_none_or(|report| now.saturating_sub(report.received_at) > SILENT);
        let parsed = report.and_then(parsed);
        match (self.blocked, self.host.ended_at, self.enrolled) {
            (true, ..) => "blocked",
            (false, Some(_), _) => "gone",
            (false, None, false) => "legacy",
            (false, None, true) if silent => "silent",
            (false, None, true) => parsed.map_or("-", |report| report.trust.health.as_str()),
        }
    }

    fn value(&self) -> Value {
        let host = &self.host;
        json!({
            "instance": host.instance.as_str(),
            "account": host.account.as_str(),
            "region": host.region.as_str(),
            "evidence": host.evidence.as_str(),
            "legacy": !self.enrolled,
            "blocked": self.blocked,
            "enrolled": rfc3339(host.enrolled_at),
            "certified": rfc3339(host.certified_at),
            "gone": host.ended_at.map(rfc3339),
            "keys": fingerprints(&host.keys),
            "report": self.report.as_ref().map(report_value),
        })
    }
}

fn report_value(stored: &StoredReport) -> Value {
    let report: Value = serde_json::from_str(&stored.report).unwrap_or_default();
    json!({
        "received": rfc3339(stored.received_at),
        "clockOffsetSeconds": stored.clock_offset,
        "versions": report.get("versions"),
        "trust": report.get("trust"),
        "sshPorts": report.get("ssh_ports"),
        "waysIn": report.get("ways_in"),
        "lostLogins": report.get("lost_logins"),
    })
}

fn request_value(request: &HostRequest, namesakes: usize) -> Value {
    json!({
        "enrolment": request.enrolment.to_string(),
        "instance": request.instance.as_str(),
        "account": request.account.as_str(),
        "region": request.region.as_str(),
        "evidence": request.evidence.as_str(),
        "keys": fingerprints(&request.keys),
        "state": request.state.as_str(),
        "asked": rfc3339(request.asked_at),
        "decidedBy": request.decided_by.as_deref().map(printable),
        "requestsForThisHost": namesakes,
    })
}

fn parsed(stored: &StoredReport) -> Option<HostReport> {
    serde_json::from_str(&stored.report).ok()
}

fn fingerprints(keys: &[SubjectKey]) -> Vec<String> {
    let text = |key: &SubjectKey| format!("{} {}", key.algorithm_name(), key.fingerprint());
    keys.iter().map(text).collect()
}

/// One member a line, inner ones behind the names around them.
fn print_members(value: &Value, around: &str) {
    let Value::Object(members) = value else {
        return;
    };
    for (name, value) in members {
        let path = if around.is_empty() {
            name.clone()
        } else {
            format!("{around}.{name}")
        };
        match value {
            Value::Object(_) => print_members(value, &path),
            Value::Null => {}
            Value::Array(items) => items
                .iter()
                .for_each(|item| print(format_args!("{path}: {}\n", printable(&plain(item))))),
            other => print(format_args!("{path}: {}\n", printable(&plain(other)))),
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
