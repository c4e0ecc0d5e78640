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
    let ask = |shown| harvest.ask(shown);
    let show = |challenge| harvest.show(challenge);
    until_known(&Deadline::after(PATIENCE), FIRST_PAUSE, ask, show)
}

/// Asks until the CA knows the keys, or leaves it to somebody else; what it wants on the console is shown there once.
fn until_known(
    patience: &Deadline,
    mut pause: Duration,
    ask: impl Fn(Option<Nonce>) -> Result<HostKeysResponse, NotHarvested>,
    show: impl Fn(Nonce) -> Result<(), NotHarvested>,
) -> Result<String, NotHarvested> {
    let mut shown = None;
    loop {
        match ask(shown)? {
            HostKeysResponse::Known { keys, .. } => {
                return Ok(format!("the CA knows {} keys of this host\n", keys.len()));
            }
            HostKeysResponse::Enrolled { .. } => {
                return Ok("this host has a certificate, which speaks for it\n".to_owned());
            }
            HostKeysResponse::AwaitingApproval { enrolment, .. } => {
                return Err(NotHarvested::Approval(enrolment));
            }
            HostKeysResponse::WriteToConsole { challenge, .. } if shown != Some(challenge) => {
                show(challenge)?;
                shown = Some(challenge);
            }
            HostKeysResponse::WriteToConsole { .. } => {}
        }
        let left = patience.remaining().ok_or(NotHarvested::Console)?;
        std::thread::sleep(left.min(pause));
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

struct Harvest<'a> {
    config: &'a Config,
    client: Client,
    helper: Helper,
    ca: Audience,
}

impl Harvest<'_> {
    /// Has the helper write what the CA wants to see.
    fn show(&self, challenge: Nonce) -> Result<(), NotHarvested> {
        let line = Request::WriteConsole {
            challenge,
            all: true,
        };
        self.helper.ask(&line)?;
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn wanted(challenge: u8) -> HostKeysResponse {
        HostKeysResponse::WriteToConsole {
            challenge: Nonce::from_random([challenge; 16]),
            expires_at: 0,
            request_id: RequestId::from_random([7; 16]),
        }
    }

    /// What came of it when the CA answered so, one answer after the other; and what was shown.
    fn outcome(
        patience: Duration,
        answers: Vec<HostKeysResponse>,
    ) -> (Result<String, NotHarvested>, Vec<Nonce>) {
        let (answers, shown) = (RefCell::new(answers.into_iter()), RefCell::new(Vec::new()));
        let last = Cell::new(None);
        let ask = |told| {
            assert_eq!(told, last.get(), "what was shown is told");
            Ok(answers.borrow_mut().next().unwrap())
        };
        let show = |challenge| {
            last.set(Some(challenge));
            shown.borrow_mut().push(challenge);
            Ok(())
        };
        let pause = Duration::from_millis(1);
        let outcome = until_known(&Deadline::after(patience), pause, ask, show);
        (outcome, shown.into_inner())
    }

    #[test]
    fn a_console_that_the_ca_does_not_see_in_time_is_told_and_worth_another_run() {
        let (outcome, shown) = outcome(Duration::ZERO, vec![wanted(1)]);
        let error = outcome.unwrap_err();
        assert!(matches!(error, NotHarvested::Console), "{error}");
        assert_eq!(error.exit_code(), 75);
        assert_eq!(shown, [Nonce::from_random([1; 16])]);
    }

    #[test]
    fn what_the_ca_wants_is_shown_once_and_shown_again_when_it_changes() {
        let enrolled = HostKeysResponse::Enrolled {
            request_id: RequestId::from_random([8; 16]),
        };
        let answers = vec![wanted(1), wanted(1), wanted(2), enrolled];
        let (outcome, shown) = outcome(Duration::from_secs(60), answers);
        assert!(outcome.unwrap().contains("has a certificate"));
        assert_eq!(shown, [1, 2].map(|seed| Nonce::from_random([seed; 16])));
    }
}
