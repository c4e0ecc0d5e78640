//! `eic-agent harvest-host-keys` (the official package's `eic_harvest_hostkeys`): makes the public keys of a host
//! that has no certificate known to the CA, with evidence of who the host is, so that clients need not believe the
//! first key that they see. One run, not a service: at boot, and after keys have changed.

use std::path::Path;
use std::time::Duration;

use eic_protocol::api::host_keys::HostKeysResponse;
use eic_protocol::grant::Nonce;
use eic_protocol::proof::Audience;
use eic_protocol::request_id::RequestId;

use super::helper_client::{Helper, NoHelp};
use super::host_request::{self, Facts, NotAsked, Purpose};
use super::http::{Client, HttpError};
use crate::clock::{ClockBeforeEpoch, Deadline, unix_seconds};
use crate::config::{Config, InvalidConfig};
use crate::helper::request::Request;
use crate::trusted_file::Trusted;

/// How long the CA is waited for to see the console: EC2 refreshes its copy within minutes.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Between two questions meanwhile, at first; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Makes this host's keys known; returns what came of it, for the terminal.
///
/// # Errors
/// [`NotHarvested`].
pub(crate) fn harvest(path: Option<&Path>) -> Result<String, NotHarvested> {
    let trusted = Trusted::system();
    let config = Config::load(path, &trusted)?;
    let service = &config.service;
    let ca = service.ca.clone().ok_or(NotHarvested::NoCa)?;
    let (roots, proxy) = (service.tls_roots.as_deref(), service.proxy.as_deref());
    let harvest = Harvest {
        client: Client::new(roots, proxy, &trusted)?,
        helper: Helper::at(&service.helper),
        config: &config,
        ca,
    };
    harvest.run(&Deadline::after(PATIENCE))
}

struct Harvest<'a> {
    config: &'a Config,
    client: Client,
    helper: Helper,
    ca: Audience,
}

impl Harvest<'_> {
    fn run(&self, patience: &Deadline) -> Result<String, NotHarvested> {
        let mut shown = None;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.ask(shown)? {
                HostKeysResponse::Known { keys, .. } => {
                    return Ok(format!("the CA knows {} keys of this host\n", keys.len()));
                }
                HostKeysResponse::Enrolled { .. } => {
                    return Ok("this host has a certificate, which speaks for it\n".to_owned());
                }
                HostKeysResponse::AwaitingApproval { enrolment, .. } => {
                    return Err(NotHarvested::Approval(enrolment));
                }
                HostKeysResponse::WriteToConsole { challenge, .. } => {
                    if shown != Some(challenge) {
                        let line = Request::WriteConsole {
                            challenge,
                            all: true,
                        };
                        self.helper.ask(&line)?;
                        shown = Some(challenge);
                    }
                }
            }
            let left = patience.remaining().ok_or(NotHarvested::Console)?;
            std::thread::sleep(left.min(pause));
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    fn ask(&self, challenge: Option<Nonce>) -> Result<HostKeysResponse, NotHarvested> {
        let now = unix_seconds()?;
        let facts = Facts::gather(Purpose::Keys, challenge, &self.helper, now)?;
        let evidence = facts.evidence(self.config, &self.client, &self.ca)?;
        let request = facts.signed(evidence, &self.helper)?;
        let answer = host_request::post(Purpose::Keys, &self.client, &self.ca, &request);
        Ok(answer?)
    }
}

impl NotHarvested {
    /// The exit code: 255 where this is no instance, as the official program has it; 75 (sysexits(3), EX_TEMPFAIL)
    /// where a later run may do better without anything changed here.
    #[must_use]
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Request(NotAsked::Identity(_)) => 255,
            Self::Approval(_) | Self::Console => 75,
            _ => 1,
        }
    }
}

/// Why the keys are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotHarvested {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// Nobody to tell.
    #[error("make the host keys known: set `[service] ca` in /etc/eic/agent.toml")]
    NoCa,
    /// Roots or proxy.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The clock.
    #[error(transparent)]
    Clock(#[from] ClockBeforeEpoch),
    /// The root helper.
    #[error(transparent)]
    Help(#[from] NoHelp),
    /// The CA gave no answer, or refused.
    #[error("make the host keys known")]
    Request(#[source] NotAsked),
    /// The CA leaves it to people.
    #[error(
        "make the host keys known: an operator must approve enrolment {0} at the CA; run this again afterwards"
    )]
    Approval(RequestId),
    /// The CA did not see what was written.
    #[error(
        "make the host keys known: the CA has not seen the line on this host's console within 15 minutes; run this again"
    )]
    Console,
}

impl From<NotAsked> for NotHarvested {
    fn from(source: NotAsked) -> Self {
        Self::Request(source)
    }
}
