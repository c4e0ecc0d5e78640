//! The enrolment line on the serial console (`ec2:GetConsoleOutput` shows it to the CA): composed here from the
//! host's own id and keys, so that the challenge is all that comes from outside.

use std::io::Write as _;

use eic_protocol::api::host_certificate::console;
use eic_protocol::grant::Nonce;

use super::Host;
use super::host_certificate::{self, NotCertified};
use super::request::Answer;

pub(super) fn write(challenge: &Nonce, all: bool, host: &Host) -> Result<Answer, NotShown> {
    let instance = host
        .identity
        .id(&host.trusted)
        .map_err(NotCertified::Identity)?;
    let keys = if all {
        host_certificate::all_keys(host)?
    } else {
        host_certificate::keys(host)?
    };
    let line = console::line(&instance, challenge, &keys);
    let mut console = std::fs::OpenOptions::new()
        .write(true)
        .open(&host.config.service.console)
        .map_err(NotShown::Console)?;
    // A line of its own, whatever stands on the console already.
    console
        .write_all(format!("\r\n{line}\r\n").as_bytes())
        .map_err(NotShown::Console)?;
    Ok(Answer::Done {
        said: "the enrolment line was written to the console".to_owned(),
        ends: None,
        warning: None,
    })
}

/// Why the line was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotShown {
    #[error(transparent)]
    Keys(#[from] NotCertified),
    #[error("write to the console")]
    Console(#[source] std::io::Error),
}
