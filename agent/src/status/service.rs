//! What the service says of itself in its `status.json`, as a part of the whole report.

use eic_protocol::text::printable;
use serde::Serialize;

use super::{ToldProblem, problem};
use crate::calendar::rfc3339;
use crate::config::Config;
use crate::run::settings::Service;
use crate::run::status::Status;

/// The service; none where `[service]` names no source.
#[derive(Debug, Serialize)]
pub(super) struct ServiceReport {
    /// Whether it has written its state lately.
    pub(super) running: bool,
    pub(super) last_fetch: Option<String>,
    pub(super) bundle_sequence: Option<u64>,
    pub(super) last_report: Option<String>,
    pub(super) host_certificate_ends: Option<String>,
    /// This host's clock minus the CA's.
    pub(super) clock_offset_seconds: Option<i64>,
}

/// The service's state and its problems, where it is set up.
pub(super) fn look(config: &Config, now: u64) -> (Option<ServiceReport>, Vec<ToldProblem>) {
    let service = &config.service;
    if service.ca.is_none() && service.trust_from.is_none() {
        return (None, Vec::new());
    }
    let status = match Status::read(&service.status_path()) {
        Ok(status) => status.filter(|status| status.is_current(now)),
        Err(_) => None,
    };
    match status {
        Some(status) => (Some(told(&status)), problems(&status)),
        None => (Some(told(&Status::default())), vec![silent(service)]),
    }
}

fn told(status: &Status) -> ServiceReport {
    ServiceReport {
        running: status.updated > 0,
        last_fetch: status.last_fetch.map(rfc3339),
        bundle_sequence: status
            .installed
            .and_then(|installed| installed.bundle_sequence),
        last_report: status.last_report.map(rfc3339),
        host_certificate_ends: status.host_certificate_ends.map(rfc3339),
        clock_offset_seconds: status.clock_offset,
    }
}

fn silent(service: &Service) -> ToldProblem {
    let path = service.status_path();
    problem(
        format!("the service has not told its state in {}", path.display()),
        "systemctl enable --now eic-agent-helper.socket eic-agent.service",
    )
}

fn problems(status: &Status) -> Vec<ToldProblem> {
    let told = status.problems.iter().map(|(task, found)| {
        let since = rfc3339(found.since);
        // For root's terminal, from a file of the service's account.
        let what = format!(
            "the service's task `{}` has failed since {since}: {}",
            printable(task),
            printable(&found.reason)
        );
        problem(what, "journalctl -u eic-agent")
    });
    told.collect()
}

/// Lines for a terminal.
pub(super) fn lines(report: &ServiceReport) -> Vec<String> {
    let or_never = |time: &Option<String>| time.clone().unwrap_or_else(|| "never".to_owned());
    if !report.running {
        return vec!["service: not running".to_owned()];
    }
    let bundle = report
        .bundle_sequence
        .map_or("no".to_owned(), |sequence| sequence.to_string());
    vec![
        format!(
            "service: last fetch {}, bundle {bundle}",
            or_never(&report.last_fetch)
        ),
        format!(
            "  last report {}, host certificate ends {}",
            or_never(&report.last_report),
            or_never(&report.host_certificate_ends)
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &std::path::Path) -> Config {
        let text = format!(
            "[service]\nca = \"https://ca.example\"\nruntime = \"{}\"\n",
            folder.display()
        );
        Config::parse(&text).unwrap()
    }

    #[test]
    fn a_service_that_is_silent_stopped_or_failing_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let look_at = |now| {
            let (report, problems) = look(&config, now);
            (report.unwrap().running, problems)
        };
        assert!(matches!(look_at(1000), (false, problems) if problems.len() == 1));
        let mut status = Status::default();
        status.failed("trust", "no answer".to_owned(), 900);
        status.write(&config.service.status_path(), 1000).unwrap();
        let (running, problems) = look_at(1000);
        assert!(
            running
                && problems[0]
                    .what
                    .contains("since 1970-01-01T00:15:00Z: no answer")
        );
        status.failed("trust\u{1b}", "no\u{1b}[2J".to_owned(), 900);
        status.write(&config.service.status_path(), 1000).unwrap();
        let (_, problems) = look_at(1000);
        assert!(!problems.iter().any(|told| told.what.contains('\u{1b}')));
        assert!(matches!(look_at(100_000), (false, problems) if problems.len() == 1));
    }

    #[test]
    fn a_healthy_service_and_none_are_no_problem() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        Status::default()
            .write(&config.service.status_path(), 1000)
            .unwrap();
        let (report, problems) = look(&config, 1000);
        assert!(problems.is_empty() && lines(&report.unwrap())[0].contains("bundle no"));
        let (report, problems) = look(&Config::default(), 1000);
        assert!(report.is_none() && problems.is_empty());
    }
}
