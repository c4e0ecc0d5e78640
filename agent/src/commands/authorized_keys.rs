//! `eic-agent authorized-keys USER [FINGERPRINT]`: sshd's AuthorizedKeysCommand.

use std::time::Duration;

use eic_protocol::trust::host_view::Stage;

use super::CommandError;
use crate::clock::{Deadline, unix_seconds};
use crate::command_line::KeysArguments;
use crate::config::{Config, Trust};
use crate::instance_connect::{Question, authorized_keys};
use crate::machine::Machine;
use crate::syslog::{Log as _, Syslog};
use crate::trust_state::{Identity, TrustState};
use crate::trusted_file::Trusted;
use crate::watchdog;

/// The whole run, start to output.
const LIMIT: Duration = Duration::from_secs(2);
/// The metadata service's share of it; what remains is for verification.
const METADATA_LIMIT: Duration = Duration::from_millis(1800);

/// Prints the keys that Instance Connect holds for a user.
///
/// # Errors
/// Whatever makes the answer doubtful; sshd then sees no key.
pub(super) fn run(arguments: KeysArguments) -> Result<String, CommandError> {
    let deadline = Deadline::after(METADATA_LIMIT);
    watchdog::within(LIMIT, move || keys(&arguments, deadline))?
}

fn keys(arguments: &KeysArguments, deadline: Deadline) -> Result<String, CommandError> {
    let now = unix_seconds()?;
    let trusted = Trusted::system();
    // The official agent's tag: administrators search for it.
    let log = Syslog::system("ec2-instance-connect");
    let config = Config::load(arguments.config.as_deref(), &trusted)?;
    let settings = config.instance_connect.settings(&trusted)?;
    let question = Question {
        user: arguments.user.clone(),
        fingerprint: arguments.fingerprint.clone(),
    };
    let lines = authorized_keys(&question, &settings, &Machine::this(), &log, now, deadline)?;
    if !lines.is_empty() && takes_certificates_only(&config.trust, &trusted, now) {
        log.info(
            "EC2 Instance Connect keys are switched off for this host by its signed host view.",
        );
        return Ok(String::new());
    }
    Ok(lines)
}

/// A host whose documents do not verify keeps Instance Connect: it is the way in to repair them.
fn takes_certificates_only(trust: &Trust, trusted: &Trusted, now: u64) -> bool {
    let state = TrustState::load(trust, trusted, &Identity::this(), now);
    state.is_ok_and(|state| state.view.stage == Stage::CertificatesOnly)
}
