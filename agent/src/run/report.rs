//! The report task: logins that sshd accepted or that ended, and the host's state, sent to the CA with the
//! host key's signature. Logins wait, bounded, while the CA is away.

use std::path::{Path, PathBuf};

use eic_protocol::api::host_report::{
    AcceptedLogin, Credential, HostReportResponse, MAX_LOGINS, ReportedSerial,
};
use eic_protocol::key_fingerprint::KeyFingerprint;
use eic_protocol::proof::{Audience, Route};
use eic_protocol::text::Line;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ca_answer::{self, NoAnswer};
use super::helper_client::{Helper, NoHelp};
use super::http::Client;
use super::login_line::Accepted;
use super::login_log::{self, Cursor, End, Entry, NoLog, Told};
use super::settings::LoginLog;
use super::status::Status;
use crate::atomic_file;
use crate::helper::request::{Answer, ReportDraft, Request};

/// The log's cursor in the service's folder.
const CURSOR_FILE: &str = "login-cursor.json";
/// The sessions that go on, beside it.
const LIVE_FILE: &str = "live-logins.json";
/// A login that is so young has just ended where its process is gone. Seconds.
const FRESH: u64 = 60;
/// How far back a service without a cursor looks. Seconds.
const FIRST_LOOK: u64 = 3600;
/// Most sessions whose end is watched for.
const MAX_LIVE: usize = 2000;
/// How often the CA hears of a quiet host, unless it says otherwise. Seconds.
const USUAL: u64 = 300;
/// `/proc/PID/sessionid` of a process without an audit session.
const NO_SESSION: u32 = u32::MAX;

/// The task with what it keeps between rounds.
#[derive(Debug)]
pub(super) struct Report {
    cursor_file: PathBuf,
    cursor: Option<Cursor>,
    waiting: Vec<AcceptedLogin>,
    lost: u64,
    live_file: PathBuf,
    live: Vec<Live>,
    due: u64,
}

/// A login whose end is watched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Live {
    pid: u32,
    login: AcceptedLogin,
    /// When it ended, as the log says. Believed once the process is gone.
    left: Option<u64>,
    /// Whether the moment at which the process is found gone is about that of the end.
    seen: bool,
}

impl Report {
    /// Begins where the last run ended.
    pub(super) fn new(runtime: &Path) -> Self {
        let cursor_file = runtime.join(CURSOR_FILE);
        let live_file = runtime.join(LIVE_FILE);
        Self {
            cursor: kept(&cursor_file),
            cursor_file,
            waiting: Vec::new(),
            lost: 0,
            live: kept(&live_file).unwrap_or_default(),
            live_file,
            due: 0,
        }
    }

    /// Reads the log and looks which sessions ended.
    pub(super) fn collect(&mut self, log: &LoginLog, now: u64) -> Result<(), NoLog> {
        let proc_folder = Path::new("/proc");
        let since = now.saturating_sub(FIRST_LOOK);
        let read = login_log::read(log, self.cursor.as_ref(), since);
        for told in read.iter().flat_map(|read| &read.told) {
            match told {
                Told::Login(entry) => self.note(entry, now, proc_folder),
                Told::End(end) => self.note_left(end, now),
            }
        }
        // After the log, which says when.
        self.note_ended(now, proc_folder);
        self.cursor = read?.cursor;
        Ok(())
    }

    /// Sends what is due. `now` is in Unix seconds.
    pub(super) fn send(
        &mut self,
        ca: &Audience,
        client: &Client,
        helper: &Helper,
        status: &Status,
        now: u64,
    ) -> Result<bool, NotSent> {
        if now < self.due && self.waiting.is_empty() {
            return Ok(false);
        }
        let count = self.waiting.len().min(MAX_LOGINS);
        let draft = self.draft(count, status);
        let Answer::Report(report) = helper.ask(&Request::SignReport(Box::new(draft)))? else {
            return Err(NoHelp::Answer.into());
        };
        // Texts and lists always have a JSON form.
        let body = serde_json::to_vec(&report).unwrap_or_default();
        let again = post(ca, client, &body)?;
        self.waiting.drain(..count);
        self.lost = 0;
        self.due = now.saturating_add(again.clamp(10, 3600));
        self.save();
        Ok(true)
    }

    fn draft(&self, count: usize, status: &Status) -> ReportDraft {
        let reasons = status.problems.iter();
        let reasons = reasons.map(|(task, p)| Line::of(&format!("{task}: {}", p.reason)));
        ReportDraft {
            clock_offset_ms: status
                .clock_offset
                .map(|seconds| seconds.saturating_mul(1000)),
            reasons: reasons.take(8).collect(),
            logins: self.waiting.iter().take(count).cloned().collect(),
            lost_logins: self.lost,
        }
    }

    /// Best effort: without it the next run reports the last hour again, and the CA knows what it has.
    fn save(&self) {
        if let Some(Ok(bytes)) = self.cursor.as_ref().map(serde_json::to_vec) {
            let _ = atomic_file::write(&self.cursor_file, &bytes, 0o600);
        }
        // As they were at the cursor: what came after it is read again.
        if let Ok(bytes) = serde_json::to_vec(&self.live) {
            let _ = atomic_file::write(&self.live_file, &bytes, 0o600);
        }
    }

    fn note(&mut self, entry: &Entry, now: u64, proc_folder: &Path) {
        let started = entry.time.unwrap_or(now);
        let Some(mut login) = accepted(&entry.login, started) else {
            self.lost = self.lost.saturating_add(1);
            return;
        };
        self.end_former(entry.pid, started);
        let process = proc_folder.join(entry.pid.to_string());
        login.audit_session = audit_session(&process);
        if self.live.len() < MAX_LIVE {
            self.live.push(Live {
                pid: entry.pid,
                login: login.clone(),
                left: None,
                seen: process.exists() || started.saturating_add(FRESH) >= now,
            });
        }
        self.queue(login);
    }

    /// A process number that another login has now: the former one is over.
    fn end_former(&mut self, pid: u32, by: u64) {
        let of_pid = |live: &Live| live.pid == pid;
        if let Some(at) = self.live.iter().position(of_pid) {
            let former = self.live.remove(at);
            self.ended(former, by);
        }
    }

    fn note_left(&mut self, end: &End, now: u64) {
        let is_it = |live: &&mut Live| {
            let peer = end.left.peer.as_ref().is_some_and(|(user, source, port)| {
                live.login.user == Line::of(user)
                    && live.login.source == source.parse().ok()
                    && live.login.source_port == Some(*port)
            });
            peer || live.pid == end.pid
        };
        if let Some(live) = self.live.iter_mut().rev().find(is_it) {
            live.left = Some(end.time.unwrap_or(now));
        }
    }

    fn note_ended(&mut self, now: u64, proc_folder: &Path) {
        let gone = |live: &Live| !proc_folder.join(live.pid.to_string()).exists();
        let (ended, live) = std::mem::take(&mut self.live).into_iter().partition(gone);
        self.live = live;
        for live in ended {
            // A login of long ago without an end in the log: nobody knows when.
            if live.left.is_some() || live.seen {
                self.ended(live, now);
            }
        }
    }

    /// Queues the end: the log's, or `by` where it has none.
    fn ended(&mut self, live: Live, by: u64) {
        let mut login = live.login;
        login.ended = Some(live.left.unwrap_or(by).max(login.started));
        self.queue(login);
    }

    /// The oldest go first where the CA is away for long: the newest are what an alarm needs.
    fn queue(&mut self, login: AcceptedLogin) {
        if self.waiting.len() >= 2 * MAX_LOGINS {
            self.waiting.remove(0);
            self.lost = self.lost.saturating_add(1);
        }
        self.waiting.push(login);
    }
}

/// What the last run kept.
fn kept<T: DeserializeOwned>(file: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

fn accepted(login: &Accepted, started: u64) -> Option<AcceptedLogin> {
    let by = match (&login.certificate, &login.key) {
        (Some(certificate), _) => Credential::Certificate {
            serial: ReportedSerial(certificate.serial),
            key_id: Line::of(&certificate.key_id),
            ca: fingerprint(&certificate.ca)?,
        },
        (None, Some(key)) => Credential::Key {
            fingerprint: fingerprint(key)?,
        },
        (None, None) => Credential::Other {
            method: Line::of(&login.method),
        },
    };
    Some(AcceptedLogin {
        user: Line::of(&login.user),
        by,
        source: login.source.parse().ok(),
        source_port: Some(login.port),
        audit_session: None,
        started,
        ended: None,
    })
}

fn fingerprint(text: &str) -> Option<KeyFingerprint> {
    text.parse().ok()
}

fn audit_session(process: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(process.join("sessionid")).ok()?;
    text.trim().parse().ok().filter(|id| *id != NO_SESSION)
}

fn post(ca: &Audience, client: &Client, body: &[u8]) -> Result<u64, NotSent> {
    let response: HostReportResponse = ca_answer::to_post(client, ca, &Route::HostReports, body)?;
    Ok(if response.report_again_after == 0 {
        USUAL
    } else {
        response.report_again_after
    })
}

/// Why no report was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSent {
    #[error(transparent)]
    Help(#[from] NoHelp),
    #[error("report to the CA")]
    Answer(#[from] NoAnswer),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::login_line::Left;

    fn login(key: &str) -> Accepted {
        Accepted::parse(&format!(
            "Accepted publickey for alice from 10.0.0.7 port 9 ssh2: {key}"
        ))
        .unwrap()
    }

    fn report() -> Report {
        Report::new(Path::new("/nonexistent"))
    }

    fn entry(pid: u32) -> Entry {
        let key = format!("ED25519 SHA256:{}", "A".repeat(43));
        Entry {
            time: Some(1000),
            pid,
            login: login(&key),
        }
    }

    #[test]
    fn logins_that_cannot_be_told_are_counted() {
        let mut report = report();
        let mut odd = entry(1);
        odd.login = login("ED25519 SHA256:short");
        report.note(&odd, 2000, Path::new("/nonexistent"));
        assert_eq!((report.waiting.len(), report.lost), (0, 1));
    }

    #[test]
    fn a_ca_that_is_away_for_long_costs_the_oldest_logins_and_no_memory() {
        let mut report = report();
        for pid in 0..3000 {
            report.note(&entry(pid), 2000, Path::new("/nonexistent"));
        }
        assert_eq!(report.waiting.len(), 2 * MAX_LOGINS);
        assert_eq!(report.lost, 3000 - 2 * 500);
    }

    fn left(pid: u32, message: &str) -> End {
        End {
            time: Some(1005),
            pid,
            left: Left::parse(message).unwrap(),
        }
    }

    fn ends(report: &Report) -> Vec<Option<u64>> {
        report.waiting.iter().map(|login| login.ended).collect()
    }

    #[test]
    fn a_login_that_was_over_before_the_log_was_read_ends_when_the_log_says() {
        let nowhere = Path::new("/nonexistent");
        for end in [
            left(12, "pam_unix(sshd:session): session closed for user alice"),
            left(12, "Received disconnect from 10.0.0.7 port 9:11: bye"),
            left(13, "Disconnected from user alice 10.0.0.7 port 9"),
        ] {
            let mut report = report();
            report.note(&entry(12), 2000, nowhere);
            report.note_left(
                &left(13, "Disconnected from user bob 10.0.0.7 port 9"),
                2000,
            );
            report.note_left(&end, 2000);
            report.note_ended(2000, nowhere);
            assert_eq!(ends(&report), [None, Some(1005)], "{end:?}");
        }
    }

    #[test]
    fn an_end_that_the_log_does_not_tell_is_told_for_young_logins_only() {
        let nowhere = Path::new("/nonexistent");
        for (now, wanted) in [(2000, vec![None]), (1010, vec![None, Some(1010)])] {
            let mut report = report();
            report.note(&entry(12), now, nowhere);
            report.note_ended(now, nowhere);
            assert_eq!(ends(&report), wanted);
        }
    }

    #[test]
    fn a_line_ends_no_session_whose_process_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("12")).unwrap();
        let mut report = report();
        report.note(&entry(12), 2000, folder.path());
        report.note_left(&left(12, "Connection closed by x"), 2000);
        report.note_ended(2001, folder.path());
        assert_eq!(ends(&report), [None]);
        // Another login by the same number: the first is over.
        let mut next = entry(12);
        next.time = Some(1100);
        report.note(&next, 2000, folder.path());
        assert_eq!(ends(&report), [None, Some(1005), None]);
    }

    #[test]
    fn sessions_that_go_on_are_known_to_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("12")).unwrap();
        let mut report = Report::new(folder.path());
        report.note(&entry(12), 2000, folder.path());
        report.save();
        let mut next = Report::new(folder.path());
        next.note_left(&left(12, "Connection closed by x"), 3000);
        std::fs::remove_dir_all(folder.path().join("12")).unwrap();
        next.note_ended(3000, folder.path());
        assert_eq!(ends(&next), [Some(1005)]);
    }

    #[test]
    fn a_session_that_ends_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("12")).unwrap();
        std::fs::write(folder.path().join("12/sessionid"), "7\n").unwrap();
        let mut report = report();
        report.note(&entry(12), 2000, folder.path());
        report.note_ended(2010, folder.path());
        assert_eq!(report.waiting.len(), 1);
        std::fs::remove_dir_all(folder.path().join("12")).unwrap();
        report.note_ended(2020, folder.path());
        report.note_ended(2030, folder.path());
        let ended: Vec<_> = report.waiting.iter().map(|login| login.ended).collect();
        assert_eq!(ended, [None, Some(2020)]);
        assert_eq!(report.waiting[1].audit_session, Some(7));
        assert_eq!(report.waiting[1].started, 1000);
    }
}
