//! The report as lines for a terminal: the verdict first, then what it rests on.

use super::Report;
use super::logins::Logins;
use eic_protocol::trust::host_view::Stage;
use eic_protocol::trust::root::KeyState;

pub(super) fn render(report: &Report) -> String {
    let mut lines = Vec::new();
    if report.healthy {
        lines.push("healthy: certificates of the CA open this host".to_owned());
    }
    for problem in &report.problems {
        lines.push(format!("unhealthy: {}", problem.what));
        lines.push(format!("  fix: {}", problem.fix));
    }
    trust(report, &mut lines);
    sshd(report, &mut lines);
    instance_connect(report, &mut lines);
    lines.extend(report.service.iter().flat_map(super::service::lines));
    lines.extend(logins(&report.logins));
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn trust(report: &Report, lines: &mut Vec<String>) {
    let Some(trust) = &report.trust else {
        lines.push("trust: no certificate counts here".to_owned());
        return;
    };
    lines.push(format!("trust: this host is {}", trust.instance));
    for (name, document) in [("root", &trust.root), ("host view", &trust.host_view)] {
        let since = document.in_place_since.as_deref().unwrap_or("unknown");
        lines.push(format!(
            "  {name} version {}, issued {}, in place since {since} ({})",
            document.version, document.issued, document.file
        ));
    }
    let stop = trust.hard_stop.as_deref().unwrap_or("never");
    lines.push(format!(
        "  to be renewed by {}, certificates end: {stop}",
        trust.refresh_after
    ));
    lines.push(format!("  pinned: {}", trust.pinned_root_keys.join(", ")));
    lines.push(format!("  fleets: {}", or_none(&trust.fleets)));
    lines.extend(trust.user_cas.iter().map(ca));
}

fn ca(ca: &super::CaReport) -> String {
    let state = match ca.state {
        KeyState::Announced => "announced",
        KeyState::Active => "active",
        KeyState::Retired => "retired, not trusted",
    };
    let mut line = format!("  user CA {} {} ({state}", ca.key_type, ca.fingerprint);
    if ca.endorsed {
        line.push_str(", never uid 0");
    }
    if let Some(users) = &ca.users {
        line.push_str(&format!(", users: {}", or_none(users)));
    }
    if let Some(from) = &ca.not_before {
        line.push_str(&format!(", from {from}"));
    }
    if let Some(until) = &ca.not_after {
        line.push_str(&format!(", until {until}"));
    }
    line + ")"
}

fn sshd(report: &Report, lines: &mut Vec<String>) {
    let sshd = &report.sshd;
    let version = sshd.version.as_deref().unwrap_or("no sshd");
    let asks = match (&sshd.lines_in, sshd.effective) {
        (Some(file), true) => format!("asks this agent ({file})"),
        (Some(file), false) => format!("does not ask this agent for everybody ({file})"),
        (None, _) => "is not set up".to_owned(),
    };
    lines.push(format!("sshd: {version} {asks}"));
    if let Some(installed) = &sshd.installed {
        lines.push(format!("  installed {installed}"));
    }
    let certificate = sshd.host_certificate.as_deref().unwrap_or("none");
    lines.push(format!("  host certificate: {certificate}"));
}

fn instance_connect(report: &Report, lines: &mut Vec<String>) {
    let connect = &report.instance_connect;
    let stage = match report.trust.as_ref().map(|trust| trust.stage) {
        Some(Stage::CertificatesOnly) => "off, by the signed host view",
        Some(Stage::Hybrid) | None => "on",
    };
    lines.push(format!(
        "Instance Connect: {stage}; metadata service: {}",
        connect.metadata
    ));
    lines.push(format!(
        "  chained commands: {}",
        or_none(&connect.chained_commands)
    ));
}

fn logins(logins: &Logins) -> Vec<String> {
    let Some(source) = &logins.source else {
        return vec!["logins: no log could be read".to_owned()];
    };
    vec![
        format!("logins, from {source}:"),
        format!("  by a certificate of this CA  {}", logins.certificate),
        format!("  by an Instance Connect key   {}", logins.instance_connect),
        format!(
            "  by another certificate       {}",
            logins.other_certificate
        ),
        format!("  by another key               {}", logins.other_key),
        format!("  by other means               {}", logins.other),
    ]
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
