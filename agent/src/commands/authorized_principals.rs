//! `eic-agent authorized-principals USER CA-FINGERPRINT`: sshd's AuthorizedPrincipalsCommand.

use std::path::Path;
use std::time::Duration;

use super::CommandError;
use crate::clock::unix_seconds;
use crate::command_line::PrincipalsArguments;
use crate::config::Config;
use crate::principals::{self, Local, Question};
use crate::syslog::{Log as _, Syslog};
use crate::trust_state::{Identity, TrustState};
use crate::trusted_file::Trusted;
use crate::watchdog;

/// The whole run; it only reads a few local files. A debug build is tested on busy machines, where a second goes by
/// beside other tests' writes to the disk.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

/// Prints the names by which a certificate of a CA may open an account.
///
/// # Errors
/// Whatever makes the answer doubtful; sshd then sees no name.
pub(super) fn run(arguments: PrincipalsArguments) -> Result<String, CommandError> {
    watchdog::within(LIMIT, move || names(arguments))?
}

fn names(arguments: PrincipalsArguments) -> Result<String, CommandError> {
    let now = unix_seconds()?;
    let trusted = Trusted::system();
    let config = Config::load(arguments.config.as_deref(), &trusted)?;
    let state = TrustState::load(&config.trust, &trusted, &Identity::this(), now)?;
    if state.view.refresh_after <= now {
        Syslog::system("eic-agent")
            .info("the host view is out of date: logins go on, this host needs a new one");
    }
    let question = Question {
        user: arguments.user,
        ca: arguments.ca,
    };
    let local = Local {
        passwd: Path::new("/etc/passwd"),
        trusted: &trusted,
        bare_principals: config.trust.bare_principals,
    };
    Ok(principals::lines(&question, &state, &local, now)?)
}
