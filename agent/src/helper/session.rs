//! Live sessions of revoked certificates and keys: found by the helper itself and ended. The service only says "now":
//! it names no process, so that a service that was taken over cannot have a session of its choice ended.
//!
//! A session is ended where sshd's log names what is revoked for a process that is an sshd session of
//! root's, for the same account, begun when the log says. A line in a plain log file can be anybody's
//! (`logger -t sshd`); with the journal the sender is known.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eic_protocol::krl::Krl;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::run::login_line::{Accepted, Certificate};
use crate::run::login_log::{self, Entry, NoLog};
use crate::run::settings::LoginLog;

/// How long a login may take from the process's start to the "Accepted" line: LoginGraceTime's usual 120 s and slack.
const LOGIN_SECONDS: u64 = 600;
/// What a session has after SIGTERM before SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// Clock ticks per second of `/proc/PID/stat` (USER_HZ: 100 on every Linux that we run on).
const TICKS: u64 = 100;

/// A session that was ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ended {
    /// The account.
    pub user: String,
    /// The key's fingerprint.
    pub key: Option<String>,
    /// The certificate's serial.
    pub serial: Option<u64>,
    /// Its key id.
    pub key_id: Option<String>,
}

/// Ends every live session whose certificate `krl` revokes.
///
/// # Errors
/// The log cannot be read.
pub(super) fn end_revoked(
    log: &LoginLog,
    krl: &Krl,
    proc_folder: &Path,
) -> Result<Vec<Ended>, NoLog> {
    let live = processes(proc_folder);
    let Some(oldest) = live.iter().map(|process| process.started).min() else {
        return Ok(Vec::new());
    };
    let pids: Vec<u32> = live.iter().map(|process| process.pid).collect();
    let entries = login_log::of_processes(log, &pids, oldest)?;
    let doomed = live
        .iter()
        .filter_map(|process| Some((process, certificate_of(process, &entries)?)))
        .filter(|(_, login)| is_revoked(login, krl));
    Ok(doomed
        .filter(|(process, _)| end(process, proc_folder))
        .map(|(_, login)| ended(login))
        .collect())
}

fn ended(login: &Accepted) -> Ended {
    let certificate = login.certificate.as_ref();
    Ended {
        user: login.user.clone(),
        key: login.key.clone(),
        serial: certificate.map(|certificate| certificate.serial),
        key_id: certificate.map(|certificate| certificate.key_id.clone()),
    }
}

/// The last login that the log has for a process and that fits it.
fn certificate_of<'a>(process: &Process, entries: &'a [Entry]) -> Option<&'a Accepted> {
    let of_process = entries
        .iter()
        .rev()
        .find(|entry| entry.pid == process.pid)?;
    let window = process.started.saturating_sub(2)..=process.started.saturating_add(LOGIN_SECONDS);
    let in_time = of_process.time.is_none_or(|time| window.contains(&time));
    let same_user = of_process.login.user == process.user;
    (in_time && same_user).then_some(&of_process.login)
}

/// Whether the list revokes what the log tells: the key, or the certificate by serial, key id or CA key. A CA that is
/// merely retired ends no session: one that is retired because it was stolen is in the list.
fn is_revoked(login: &Accepted, krl: &Krl) -> bool {
    let ca = login
        .certificate
        .as_ref()
        .map(|certificate| certificate.ca.as_str());
    let named: BTreeSet<&str> = login.key.as_deref().into_iter().chain(ca).collect();
    let certificate = login.certificate.as_ref();
    certificate.is_some_and(|certificate| is_revoked_by_ca(certificate, krl))
        || revokes_fingerprint(krl, &named)
}

fn is_revoked_by_ca(certificate: &Certificate, krl: &Krl) -> bool {
    krl.cas().any(|(ca, revoked)| {
        ca.fingerprint() == certificate.ca
            && (revoked.serials.contains(certificate.serial)
                || revoked.key_ids.contains(certificate.key_id.as_str()))
    })
}

fn revokes_fingerprint(krl: &Krl, named: &BTreeSet<&str>) -> bool {
    let of_keys = krl
        .keys()
        .map(|key| eic_protocol::key_fingerprint::KeyFingerprint::of_blob(key.blob()).to_string());
    let listed = krl.fingerprints().map(ToString::to_string);
    of_keys
        .chain(listed)
        .any(|fingerprint| named.contains(fingerprint.as_str()))
}

/// An sshd session's privileged process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    user: String,
    /// Unix seconds.
    started: u64,
    /// In ticks, to know it again.
    ticks: u64,
}

fn processes(proc_folder: &Path) -> Vec<Process> {
    let Some(boot) = boot_time(proc_folder) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(proc_folder) else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| process(proc_folder, pid, boot))
        .collect()
}

fn process(proc_folder: &Path, pid: u32, boot: u64) -> Option<Process> {
    let folder = proc_folder.join(pid.to_string());
    let comm = read(folder.join("comm"))?;
    let named = matches!(comm.trim_end(), "sshd" | "sshd-session");
    let user = session_user(&read(folder.join("cmdline"))?)?;
    let ticks = start_ticks(&read(folder.join("stat"))?)?;
    (named && is_roots(&read(folder.join("status"))?)).then(|| Process {
        pid,
        user,
        started: boot.saturating_add(ticks / TICKS),
        ticks,
    })
}

fn read(path: PathBuf) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// `sshd: alice [priv]`, or `sshd: root@pts/0` for root, whose session has one process only (setproctitle in
/// session.c and monitor.c); `sshd-session: …` from 9.8 on. A listener or an unfinished login names no user.
fn session_user(cmdline: &str) -> Option<String> {
    let title = cmdline.trim_end_matches('\0');
    let rest = ["sshd: ", "sshd-session: "]
        .into_iter()
        .find_map(|prefix| title.strip_prefix(prefix))?;
    let user = match rest.strip_suffix(" [priv]") {
        // With the domain of a directory, where it has one.
        Some(user) => user,
        None => rest.split_once('@').map(|(user, _)| user)?,
    };
    let plain = !user.is_empty() && !user.contains([' ', '[', '/']);
    plain.then(|| user.to_owned())
}

/// All four uids: a session's unprivileged half, or a program that only calls itself sshd, has another.
fn is_roots(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.is_some_and(|uids| {
        let uids: Vec<&str> = uids.split_whitespace().collect();
        uids.len() == 4 && uids.iter().all(|uid| *uid == "0")
    })
}

/// Field 22 (proc(5)); the second, the name in brackets, may hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

fn boot_time(proc_folder: &Path) -> Option<u64> {
    let stat = read(proc_folder.join("stat"))?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// SIGTERM, which sshd passes to its session; SIGKILL where that was not enough. Whether it was signalled.
fn end(process: &Process, proc_folder: &Path) -> bool {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    // The descriptor first, then the look: a process that took the number meanwhile is not signalled.
    let handle = pidfd_open(pid, PidfdFlags::empty()).ok();
    if !still_there(process, proc_folder) {
        return false;
    }
    let send = |signal| match &handle {
        Some(handle) => pidfd_send_signal(handle, signal),
        // Linux before 5.3.
        None => kill_process(pid, signal),
    };
    if send(Signal::TERM).is_err() {
        return false;
    }
    let deadline = Instant::now() + GRACE;
    while still_there(process, proc_folder) {
        if Instant::now() >= deadline {
            return send(Signal::KILL).is_ok();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn still_there(process: &Process, proc_folder: &Path) -> bool {
    let folder = proc_folder.join(process.pid.to_string());
    let ticks = read(folder.join("stat")).and_then(|stat| start_ticks(&stat));
    // A zombie has no command line.
    let titled = read(folder.join("cmdline")).is_some_and(|title| !title.is_empty());
    titled && ticks == Some(process.ticks)
}

#[cfg(test)]
mod tests;
