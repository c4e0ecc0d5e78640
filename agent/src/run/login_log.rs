//! Where sshd's messages are found: systemd's journal, or a file of syslog lines.
//! In the journal the sender is the kernel's word (`_UID`, `_PID`); in a file anybody's, so that what
//! hangs on a line is checked against the process itself (`helper::session`).

mod file;
mod journal;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::login_line::{Accepted, Left};
use super::settings::LoginLog;

/// Most bytes of log that are read at a time.
pub(crate) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// A login in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was written in Unix seconds, where the log says so.
    pub time: Option<u64>,
    /// The sshd process that wrote it: the session's privileged one.
    pub pid: u32,
    /// What it says.
    pub login: Accepted,
}

/// What the log tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Somebody was let in.
    Login(Entry),
    /// A session ended.
    End(End),
}

/// The end of a session in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When it was written in Unix seconds, where the log says so.
    pub time: Option<u64>,
    /// The sshd process that wrote it.
    pub pid: u32,
    /// What it says.
    pub left: Left,
}

/// How far the log has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Cursor {
    /// The journal's own.
    Journal(String),
    /// A file by its inode, and a place in it.
    File {
        /// The inode: another one is another file.
        inode: u64,
        /// Bytes read.
        offset: u64,
    },
}

/// Logins and ends, and where reading goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// In the log's order.
    pub told: Vec<Told>,
    /// For the next time; the old one where nothing was read.
    pub cursor: Option<Cursor>,
}

/// The logins and ends after `cursor`; without one, those since `since` (Unix seconds; a file: its last 4 MiB).
///
/// # Errors
/// [`NoLog`].
pub fn read(log: &LoginLog, cursor: Option<&Cursor>, since: u64) -> Result<Read, NoLog> {
    match log {
        LoginLog::Journal => journal::read(cursor, since),
        LoginLog::File(path) => file::read(path, cursor),
    }
}

/// The logins of these processes, as far as the log still has them; the oldest began at `since` (Unix seconds).
///
/// # Errors
/// [`NoLog`].
pub fn of_processes(log: &LoginLog, pids: &[u32], since: u64) -> Result<Vec<Entry>, NoLog> {
    let read = match log {
        LoginLog::Journal => journal::of_processes(pids, since)?,
        LoginLog::File(path) => file::read(path, None)?,
    };
    let logins = read.told.into_iter().filter_map(|told| match told {
        Told::Login(entry) => Some(entry),
        Told::End(_) => None,
    });
    Ok(logins.collect())
}

/// `sshd[123]: message` of a syslog line, whatever stands before it.
fn split_line(line: &str) -> Option<(u32, &str)> {
    ["sshd[", "sshd-session["].into_iter().find_map(|tag| {
        // The first tag is sshd's own: what follows its colon may be anything.
        let (before, rest) = line.split_once(tag)?;
        let (pid, message) = rest.split_once("]: ")?;
        let whole_tag = before.is_empty() || before.ends_with([' ', '>']);
        pid.parse()
            .ok()
            .filter(|_| whole_tag)
            .map(|pid| (pid, message))
    })
}

fn told(time: Option<u64>, pid: u32, message: &str) -> Option<Told> {
    let login = Accepted::parse(message);
    let login = login.map(|login| Told::Login(Entry { time, pid, login }));
    login.or_else(|| {
        let left = Left::parse(message)?;
        Some(Told::End(End { time, pid, left }))
    })
}

/// Why the log tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum NoLog {
    /// The file cannot be read.
    #[error("read `{}`: set `[service] login_log`, or let the service's account read it", .path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// journalctl could not be started or failed.
    #[error("read the journal: {0}")]
    Journal(String),
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> NoLog + '_ {
    |source| NoLog::File {
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_programs_are_not_sshds() {
        for line in [
            "Nov 22 04:58:01 host sudo[12]: Accepted publickey",
            "Nov 22 04:58:01 host not-sshd[12]: Accepted x",
            "Nov 22 04:58:01 host sshd[x]: Accepted",
            "Nov 22 04:58:01 host sshd: Accepted",
        ] {
            assert_eq!(split_line(line), None, "{line}");
        }
    }

    #[test]
    fn every_form_of_syslog_line_is_split() {
        for line in [
            "Nov 22 04:58:01 host sshd[12]: message",
            "2026-11-22T04:58:01.123456+00:00 host sshd-session[12]: message",
            "<86>sshd[12]: message",
            "<86>Nov 22 04:58:01 sshd[12]: message",
            "sshd[12]: message",
        ] {
            assert_eq!(split_line(line), Some((12, "message")), "{line}");
        }
        let quoting = "host sshd[12]: Accepted x ID sshd[13]: y";
        assert_eq!(split_line(quoting), Some((12, "Accepted x ID sshd[13]: y")));
    }
}
