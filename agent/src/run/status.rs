//! The service's state for people and programs: one JSON file in the service's own folder in memory.
//! Told, not trusted: nothing that decides about a login reads it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::trusted_file::{self, UntrustedFile};

/// The file's mode: nothing in it is secret.
const MODE: u32 = 0o644;
/// Largest file that is read, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// A state older than this is that of a service that has stopped. Seconds: three of the longest waits.
pub const STALE_AFTER: u64 = 1200;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether everything that the service does works.
    pub healthy: bool,
    /// The service's version.
    pub version: String,
    /// When this was written, in Unix seconds.
    pub updated: u64,
    /// What does not work, by task.
    pub problems: BTreeMap<String, Problem>,
    /// When trust documents were last got, or confirmed to be the newest.
    pub last_fetch: Option<u64>,
    /// What is installed.
    pub installed: Option<Installed>,
    /// When the host certificate ends.
    pub host_certificate_ends: Option<u64>,
    /// When the CA last took a report.
    pub last_report: Option<u64>,
    /// This host's clock minus the CA's, in seconds.
    pub clock_offset: Option<i64>,
}

/// One task that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The whole chain of causes.
    pub reason: String,
    /// When it began, in Unix seconds.
    pub since: u64,
}

/// The documents in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The root's version.
    pub root_version: u64,
    /// The bundle's sequence, where there is one.
    pub bundle_sequence: Option<u64>,
    /// The host view's version.
    pub host_view_version: Option<u64>,
    /// When they should have been renewed, in Unix seconds.
    pub refresh_after: Option<u64>,
    /// When they stop counting, in Unix seconds.
    pub hard_stop: Option<u64>,
}

impl Status {
    /// A task failed: kept with the moment of its first failure in a row.
    pub fn failed(&mut self, task: &str, reason: String, now: u64) {
        let since = self.problems.get(task).map_or(now, |problem| problem.since);
        self.problems
            .insert(task.to_owned(), Problem { reason, since });
    }

    /// A task works.
    pub fn works(&mut self, task: &str) {
        self.problems.remove(task);
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The system refused.
    pub fn write(&mut self, path: &Path, now: u64) -> std::io::Result<()> {
        self.healthy = self.problems.is_empty();
        env!("CARGO_PKG_VERSION").clone_into(&mut self.version);
        self.updated = now;
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        atomic_file::write(path, &bytes, MODE)
    }

    /// Reads the file; `None` where no service has written one.
    ///
    /// Root reads it in a folder of the service's account, which may put anything there: what is no regular file is
    /// neither waited for nor followed (a link could lead to a device that does something when it is opened).
    ///
    /// # Errors
    /// It cannot be read, or is none of ours.
    pub fn read(path: &Path) -> std::io::Result<Option<Self>> {
        match trusted_file::read_of_anybody_unlinked(path, MAX_BYTES) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(UntrustedFile::Missing(_)) => Ok(None),
            Err(e) => Err(std::io::Error::other(e)),
        }
    }

    /// Whether the service still writes it at `now`.
    #[must_use]
    pub fn is_current(&self, now: u64) -> bool {
        now.saturating_sub(self.updated) <= STALE_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_fails_makes_the_host_unhealthy_with_the_first_moment_and_the_last_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(super::super::settings::STATUS_FILE);
        let mut status = Status::default();
        status.failed("trust", "no answer".to_owned(), 100);
        status.failed("trust", "HTML".to_owned(), 200);
        status.write(&path, 201).unwrap();
        let read = Status::read(&path).unwrap().unwrap();
        assert!(!read.healthy);
        let problem = &read.problems["trust"];
        assert_eq!((problem.reason.as_str(), problem.since), ("HTML", 100));
        status.works("trust");
        status.write(&path, 300).unwrap();
        assert!(Status::read(&path).unwrap().unwrap().healthy);
    }

    #[test]
    fn a_fifo_a_link_and_a_flood_in_its_place_are_refused_without_waiting() {
        use rustix::fs::{CWD, FileType, Mode, mknodat, symlinkat};
        // J-07
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real");
        Status::default().write(&real, 1).unwrap();
        assert!(Status::read(&real).unwrap().is_some());
        let [fifo, link, flood] = ["fifo", "link", "flood"].map(|name| folder.path().join(name));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        symlinkat(&real, CWD, &link).unwrap();
        std::fs::write(&flood, vec![b' '; MAX_BYTES + 1]).unwrap();
        for bad in [fifo, link, flood] {
            let outcome = crate::watchdog::within(std::time::Duration::from_secs(10), move || {
                Status::read(&bad).is_err()
            });
            assert_eq!(outcome, Ok(true));
        }
    }

    #[test]
    fn a_missing_state_is_none_and_an_old_one_is_not_current() {
        assert_eq!(
            Status::read(Path::new("/nonexistent/status.json")).unwrap(),
            None
        );
        let status = Status {
            updated: 1000,
            ..Status::default()
        };
        assert!(status.is_current(1000 + STALE_AFTER));
        assert!(!status.is_current(1001 + STALE_AFTER));
    }
}
