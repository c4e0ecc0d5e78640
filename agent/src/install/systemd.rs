//! systemctl(1), asked with a limit on time: for units of sshd's and of this agent's own service. What belongs into a
//! unit is said elsewhere (`service`, `units`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::child;

/// Folders of units, the one that counts most first (systemd.unit(5)).
pub(super) const FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Longest wait for a unit: systemd's own limits for stop and start are 90 s each.
const LIMIT: Duration = Duration::from_secs(200);

/// Whether systemd runs this host.
pub(super) fn is_there() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether a unit's file is in one of the folders.
pub(super) fn is_installed(unit: &str) -> bool {
    FOLDERS
        .iter()
        .any(|folder| Path::new(folder).join(unit).exists())
}

/// Where a drop-in of ours for a unit goes.
pub(super) fn drop_in(unit: &str, name: &str) -> PathBuf {
    let [top, ..] = FOLDERS;
    Path::new(top).join(format!("{unit}.d")).join(name)
}

/// What systemctl answers to a question (`is-active`, `is-enabled`) about a unit.
pub(super) fn says(question: &str, unit: &str) -> bool {
    let mut command = Command::new("systemctl");
    command.args([question, "--quiet", unit]);
    child::output(&mut command, child::LIMIT).is_ok_and(|output| output.status.success())
}

/// Has systemctl do something.
///
/// # Errors
/// It did not start or end, or refused.
pub(super) fn run(arguments: &[&str]) -> Result<(), SystemctlError> {
    let mut command = Command::new("systemctl");
    command.args(arguments);
    let output = child::output(&mut command, LIMIT).map_err(SystemctlError::Start)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = eic_protocol::text::printable(said.trim());
    Err(SystemctlError::Refused(said))
}

/// Why a unit is not as it was to be.
#[derive(Debug, thiserror::Error)]
pub enum SystemctlError {
    /// It did not start, or not end in time.
    #[error("run systemctl: {0}")]
    Start(std::io::Error),
    /// In its own words.
    #[error("systemctl said `{0}`")]
    Refused(String),
}
