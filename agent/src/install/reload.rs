//! Telling the running sshd to read its configuration again, without ending a session.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::SshdOptions;
use super::systemd::{self, SystemctlError};

/// Tells sshd; returns what was done, for the terminal. Options on its command line (`units`: a unit was
/// changed) go only with a restart, which leaves open sessions alone (`KillMode=process`).
pub(crate) fn reload(options: &SshdOptions, units: bool) -> Result<String, ReloadError> {
    if !options.reload {
        return Ok(if units {
            "sshd was not told (--no-reload): `systemctl daemon-reload` and restart it".to_owned()
        } else {
            "sshd was not told (--no-reload)".to_owned()
        });
    }
    if systemd::is_there() && units {
        systemd::run(&["daemon-reload"])?;
    }
    if let Some(unit) = active_unit() {
        let verb = if units { "restart" } else { "reload" };
        systemd::run(&[verb, unit])?;
        return Ok(format!("systemctl {verb} {unit}"));
    }
    match running_sshd(&options.pid_file) {
        Some(pid) => {
            kill_process(pid, Signal::HUP).map_err(|source| ReloadError::Signal(source.into()))?;
            Ok(format!(
                "sshd (process {}) reads its configuration again",
                pid.as_raw_nonzero()
            ))
        }
        None => Ok("no sshd is running: it will read the configuration when it starts".to_owned()),
    }
}

/// The process in the pid file, if it is an sshd.
pub(super) fn running_sshd(pid_file: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(pid_file).ok()?;
    // A negative number would name a process group.
    let number = text.trim().parse().ok().filter(|number| *number > 0)?;
    let pid = Pid::from_raw(number)?;
    let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).ok()?;
    // A stale file must not have a stranger signalled.
    (name.trim_end() == "sshd").then_some(pid)
}

/// Debian calls the unit `ssh`, others `sshd`.
fn active_unit() -> Option<&'static str> {
    let mut units = ["ssh", "sshd"].into_iter();
    systemd::is_there()
        .then(|| units.find(|unit| systemd::says("is-active", unit)))
        .flatten()
}

/// Why sshd was not told.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The system refused.
    #[error("tell the running sshd")]
    Signal(#[source] std::io::Error),
    /// systemctl refused.
    #[error("reload sshd: {0}")]
    Systemctl(#[from] SystemctlError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_that_names_no_sshd_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        assert_eq!(running_sshd(&path), None);
        for text in [
            "",
            "x",
            "0",
            "-1",
            "1\n2",
            &std::process::id().to_string(),
            "4194304999",
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(running_sshd(&path), None, "{text}");
        }
    }

    #[test]
    fn nothing_is_told_when_that_was_asked_for() {
        let options = SshdOptions {
            reload: false,
            ..SshdOptions::default()
        };
        assert_eq!(
            reload(&options, false).unwrap(),
            "sshd was not told (--no-reload)"
        );
    }
}
