//! The units of this agent's own service: enabled where `--ca` names a CA for it and they are there, disabled again
//! by `uninstall`. Logins rest on none of them, so whatever goes wrong here is a remark.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::reload::is_systemd;
use super::service::FOLDERS;
use super::{InstallOptions, SshdOptions};
use crate::child;
use crate::config::Config;

/// The service and its root helper.
const UNITS: [&str; 2] = ["eic-agent-helper.socket", "eic-agent.service"];
/// The helper's door for chained commands of other users.
const LOGINS: &str = "eic-agent-logins.socket";
/// The account that the units name.
pub(super) const USER: &str = "eic";

/// systemd's own limit for a start is 90 s.
const LIMIT: Duration = Duration::from_secs(100);

/// What `--ca` has enabled.
pub(super) fn wanted(options: &InstallOptions, config: &Config) -> Vec<String> {
    if options.ca.is_none() {
        return Vec::new();
    }
    let mut commands = config.authorized_keys.command.iter();
    let logins = commands.any(|command| command.user.is_some());
    let units = UNITS.into_iter().chain(logins.then_some(LOGINS));
    units.map(str::to_owned).collect()
}

/// Enables and starts the units; says what was done, or why not and what to do.
pub(super) fn enable(units: &[String], command_user: &str, sshd: &SshdOptions) -> Option<String> {
    let by_hand = format!("systemctl enable --now {}", units.join(" "));
    let missing = || units.iter().find(|unit| !is_installed(unit));
    let reason = if units.is_empty() {
        return None;
    } else if !sshd.reload {
        "--no-reload".to_owned()
    } else if !is_systemd() {
        "there is no systemd; start `eic-agent helper --listen` and `eic-agent run`".to_owned()
    } else if let Some(unit) = missing() {
        format!("{unit} is not in {}", FOLDERS.join(", "))
    } else if command_user != USER {
        format!("they run as `{USER}` and serve its group; change that to `{command_user}` first")
    } else {
        match systemctl("enable", units) {
            Ok(()) => return Some(format!("{by_hand}\n")),
            Err(said) => said,
        }
    };
    Some(format!(
        "note: the service was not enabled ({reason}); then: {by_hand}\n"
    ))
}

/// Stops and disables the units of an installation; the reason where that failed.
pub(super) fn disable(units: &[String]) -> Option<String> {
    let there: Vec<String> = units.iter().filter(|u| is_installed(u)).cloned().collect();
    if there.is_empty() || !is_systemd() {
        return None;
    }
    systemctl("disable", &there).err()
}

fn is_installed(unit: &str) -> bool {
    FOLDERS
        .iter()
        .any(|folder| Path::new(folder).join(unit).exists())
}

fn systemctl(verb: &str, units: &[String]) -> Result<(), String> {
    let mut command = Command::new("systemctl");
    command.args([verb, "--now"]).args(units);
    let output = child::output(&mut command, LIMIT).map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "systemctl said `{}`",
        eic_protocol::text::printable(said.trim())
    ))
}
