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
use crate::store::hosts::{HostRequest, StoredReport, hosts, reports, requests};
use crate::store::{Reader, StoreError};

/// A host that reported nothing for so long is shown as silent: three reports were missed. Seconds.
const SILENT: u64 = 900;

/// `now` is in Unix seconds.
pub(super) fn list(reader: &Reader, as_json: bool, now: u64) -> Result<ExitCode, StoreError> {
    let mut reported = reported(reader)?;
    let hosts = hosts(reader)?;
    if !as_json {
        print(format_args!(
            "{:<20} {:<12} {:<14} {:<17} {:<10} {}\n",
            "INSTANCE", "ACCOUNT", "REGION", "EVIDENCE", "HEALTH", "REPORTED"
        ));
    }
    for host in &hosts {
        let report = reported.remove(&host.instance);
        if as_json {
            print(format_args!("{}\n", value(host, report.as_ref())));
        } else {
            print(format_args!("{}\n", row(host, report.as_ref(), now)));
        }
    }
    if hosts.is_empty() {
        eprintln!("eic-ca: no host is enrolled");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn one(
    reader: &Reader,
    instance: &InstanceId,
    as_json: bool,
) -> Result<ExitCode, StoreError> {
    let found = hosts(reader)?
        .into_iter()
        .find(|host| host.instance == *instance);
    let Some(host) = found else {
        eprintln!("eic-ca: {instance} is not enrolled");
        return Ok(ExitCode::FAILURE);
    };
    let report = reported(reader)?.remove(instance);
    let value = value(&host, report.as_ref());
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

fn row(host: &EnrolledHost, report: Option<&StoredReport>, now: u64) -> String {
    let parsed = report.and_then(parsed);
    let health = parsed.as_ref().map(|report| report.trust.health.as_str());
    let silent = report.is_none_or(|report| now.saturating_sub(report.received_at) > SILENT);
    let health = match (host.blocked, silent) {
        (true, _) => Some("blocked"),
        (false, true) => Some("silent"),
        (false, false) => health,
    };
    format!(
        "{:<20} {:<12} {:<14} {:<17} {:<10} {}",
        host.instance.as_str(),
        host.account.as_str(),
        host.region.as_str(),
        host.evidence.as_str(),
        health.unwrap_or("-"),
        report.map_or_else(|| "-".to_owned(), |report| time(report.received_at)),
    )
}

fn value(host: &EnrolledHost, report: Option<&StoredReport>) -> Value {
    json!({
        "instance": host.instance.as_str(),
        "account": host.account.as_str(),
        "region": host.region.as_str(),
        "evidence": host.evidence.as_str(),
        "blocked": host.blocked,
        "enrolled": time(host.enrolled_at),
        "certified": time(host.certified_at),
        "keys": fingerprints(&host.keys),
        "report": report.map(report_value),
    })
}

fn report_value(stored: &StoredReport) -> Value {
    let report: Value = serde_json::from_str(&stored.report).unwrap_or_default();
    json!({
        "received": time(stored.received_at),
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
        "asked": time(request.asked_at),
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

/// `2026-11-22T01:55:29Z`
fn time(seconds: u64) -> String {
    let signed = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(signed).map_or_else(|_| seconds.to_string(), |t| t.to_string())
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
