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

/// `now` is in Unix seconds.
pub(super) fn list(reader: &Reader, as_json: bool, now: u64) -> Result<ExitCode, StoreError> {
    let (mut reported, blocked) = (reported(reader)?, blocked(reader)?);
    if !as_json {
        print(format_args!(
            "{:<20} {:<12} {:<14} {:<17} {:<10} {}\n",
            "INSTANCE", "ACCOUNT", "REGION", "EVIDENCE", "HEALTH", "REPORTED"
        ));
    }
    let enrolled = hosts(reader)?.into_iter().map(|host| (host, true));
    let legacy = legacy_hosts(reader)?.into_iter().map(|host| (host, false));
    let mut empty = true;
    for (host, enrolled) in enrolled.chain(legacy) {
        let shown = Shown {
            blocked: blocked.contains(&host.instance),
            report: reported.remove(&host.instance),
            enrolled,
            host,
        };
        empty = false;
        if as_json {
            print(format_args!("{}\n", shown.value()));
        } else {
            print(format_args!("{}\n", shown.row(now)));
        }
    }
    if empty {
        eprintln!("eic-ca: no host is enrolled, and no legacy host's keys are known");
    }
    Ok(ExitCode::SUCCESS)
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
    fn row(&self, now: u64) -> String {
        let (host, report) = (&self.host, self.report.as_ref());
        format!(
            "{:<20} {:<12} {:<14} {:<17} {:<10} {}",
            host.instance.as_str(),
            host.account.as_str(),
            host.region.as_str(),
            host.evidence.as_str(),
            self.health(now),
            report.map_or_else(|| "-".to_owned(), |report| rfc3339(report.received_at)),
        )
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
