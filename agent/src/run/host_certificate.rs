//! The host-certificate task: asked for where there is none, renewed in time, installed by the helper.
//! Names are the CA's business; this host says only who it is and shows evidence.

mod judge;

use eic_protocol::api::host_certificate::evidence::EnrolmentToken;
use eic_protocol::api::host_certificate::{
    HostCertificateRequest, HostCertificateResponse, HostEvidence, IssuedHostCertificate,
};
use eic_protocol::grant::Nonce;
use eic_protocol::proof::Audience;
use ssh_key::Certificate;

use self::judge::{Flaw, Judge};
use super::evidence::{self, NoEvidence};
use super::helper_client::{Helper, NoHelp};
use super::host_request::{self, Facts, NotAsked, Purpose};
use super::http::Client;
use super::pace::{self, Pace};
use super::settings::{EvidenceKind, Service};
use crate::config::Config;
use crate::helper::request::{Answer, Request};

/// How soon to ask again once the console line is written: EC2 refreshes its copy now and then.
const CONSOLE_PAUSE: u64 = 30;

/// The least time between a certificate that has come and the next request: what is amiss with what the CA signs is
/// not mended by asking without end. More than the helper's own (`helper::host_certificate`).
const REST: u64 = 15;
/// A certificate that has been well for so long was no part of a series of bad ones. Seconds.
const WELL: u64 = 600;
/// Longest wait for an operator's approval between two requests, whatever the CA says.
const APPROVAL_PAUSE: u64 = 300;

/// The task with what it keeps between rounds.
#[derive(Debug, Default)]
pub(super) struct HostCertificate {
    /// When the certificate in place is renewed, in Unix seconds; none before this run has got one.
    due: Option<u64>,
    /// Before that time nothing is asked, whatever is amiss. Unix seconds.
    not_before: u64,
    /// What the CA waits for meanwhile.
    waiting: Option<&'static str>,
    /// Certificates in a row that were amiss.
    amiss: Pace,
    judge: Judge,
    /// What the CA wants to see on the console, and until when.
    challenge: Option<(Nonce, u64)>,
    /// The one-time token that the CA has refused: used before, most likely.
    refused_token: Option<EnrolmentToken>,
    /// Whether the CA has just refused this host's own key: a permit's host, or one that it does not know any more.
    key_refused: bool,
}

/// What a round works with.
pub(super) struct Scene<'a> {
    pub(super) config: &'a Config,
    pub(super) client: &'a Client,
    pub(super) helper: &'a Helper,
    /// The certificate in place, unverified.
    pub(super) in_place: Option<&'a Certificate>,
    /// In Unix seconds.
    pub(super) now: u64,
}

/// What a request is vouched for by.
#[derive(Debug, PartialEq, Eq)]
enum Voucher {
    /// An operator's one-time token.
    Token(EnrolmentToken),
    /// The host's own key.
    Key,
    /// What instance metadata gives.
    Metadata,
}

/// What came of a round.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Not yet due.
    Early,
    /// Installed.
    Installed(InPlace),
    /// The CA wants something first, or what it gave is not good.
    Waits(String),
}

/// A certificate where sshd finds it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InPlace {
    /// When it ends, in Unix seconds.
    pub(super) ends: u64,
    /// Why it has no effect, where it has none.
    pub(super) warning: Option<String>,
}

/// The certificate in place, unverified.
pub(super) fn in_place(config: &Config) -> Option<Certificate> {
    let path = config.trust.state.join(crate::install::HOST_CERTIFICATE);
    let line = std::fs::read_to_string(path).ok()?;
    Certificate::from_openssh(line.trim_end()).ok()
}

impl HostCertificate {
    /// Asks where a certificate is due: there is none, it is at half of its life, or something is amiss with the one
    /// in place.
    pub(super) fn renew(&mut self, scene: &Scene<'_>) -> Result<Outcome, NotRenewed> {
        let service = &scene.config.service;
        let Some(ca) = service.ca.clone().filter(|_| service.host_certificates) else {
            return Ok(Outcome::Early);
        };
        let flaw = self.judge.flaw(scene);
        if let Some(early) = self.early(scene, flaw) {
            return Ok(early);
        }
        if let (Some(flaw), true) = (flaw, scene.in_place.is_some()) {
            super::log(&format!("asks for a new host certificate: {flaw}"));
        }
        let voucher = self.voucher(service, scene.in_place.is_some())?;
        let request = self.request(scene, &ca, voucher)?;
        let response = host_request::post(Purpose::Certificate, scene.client, &ca, &request);
        self.note(request.evidence, response.as_ref().err());
        self.take(response.map_err(NotRenewed::from)?, flaw, scene)
    }

    /// What there is to tell where nothing is asked now.
    fn early(&mut self, scene: &Scene<'_>, flaw: Option<Flaw>) -> Option<Outcome> {
        let now = scene.now;
        let middle = |found: &Certificate| found.valid_after().midpoint(found.valid_before());
        let due = self.due.or(scene.in_place.map(middle)).unwrap_or(0);
        if flaw.is_none() && now < due {
            if now > self.not_before.saturating_add(WELL) {
                self.amiss = Pace::default();
            }
            return Some(Outcome::Early);
        }
        (now < self.not_before).then(|| match (self.waiting, flaw) {
            (Some(what), _) => Outcome::Waits(what.to_owned()),
            (None, Some(flaw)) => Outcome::Waits(flaw.to_string()),
            (None, None) => Outcome::Early,
        })
    }

    /// What the CA wants to read on the console, while it still counts.
    fn challenge(&self, now: u64) -> Option<Nonce> {
        let (challenge, expires_at) = self.challenge?;
        (now < expires_at).then_some(challenge)
    }

    fn request(
        &self,
        scene: &Scene<'_>,
        ca: &Audience,
        voucher: Voucher,
    ) -> Result<HostCertificateRequest, NotRenewed> {
        let &Scene { helper, now, .. } = scene;
        let purpose = Purpose::Certificate;
        let facts = Facts::gather(purpose, self.challenge(now), helper, now)?;
        let facts = facts.with_key_of(scene.in_place, helper)?;
        let evidence = match voucher {
            Voucher::Token(token) => HostEvidence::EnrolmentToken(token),
            Voucher::Key => HostEvidence::EnrolledKey {},
            Voucher::Metadata => facts.evidence(scene.config, scene.client, ca)?,
        };
        Ok(facts.signed(evidence, helper)?)
    }

    /// A token where the host has no certificate or its key has just been refused, but none that was refused. Beside
    /// tokens there is the key: also after a refused token, which a CA that then failed to sign may have used up.
    fn voucher(&mut self, service: &Service, enrolled: bool) -> Result<Voucher, NotRenewed> {
        // Once for each refusal: what ails a token must not end the requests by the key.
        let key_refused = std::mem::take(&mut self.key_refused);
        let token = match !enrolled || key_refused {
            true => self.token(service)?,
            false => None,
        };
        let by_tokens = service.evidence == EvidenceKind::EnrolmentToken;
        Ok(match token {
            Some(token) => Voucher::Token(token),
            None if by_tokens && (enrolled || self.refused_token.is_some()) => Voucher::Key,
            None => Voucher::Metadata,
        })
    }

    /// The token in its file, unless it is the very one that was refused.
    fn token(&self, service: &Service) -> Result<Option<EnrolmentToken>, NotRenewed> {
        let path = service.enrolment_token.as_deref();
        let path = path.filter(|path| path.exists());
        let token = path.map(evidence::enrolment_token).transpose()?;
        Ok(token.filter(|token| self.refused_token.as_ref() != Some(token)))
    }

    /// Keeps what the CA would not have.
    fn note(&mut self, shown: HostEvidence, failure: Option<&NotAsked>) {
        let refused = matches!(failure, Some(NotAsked::Answer(no)) if no.is_judgement());
        match shown {
            HostEvidence::EnrolmentToken(token) if refused => self.refused_token = Some(token),
            HostEvidence::EnrolledKey {} => self.key_refused = refused,
            _ => {}
        }
    }

    fn take(
        &mut self,
        response: HostCertificateResponse,
        flaw: Option<Flaw>,
        scene: &Scene<'_>,
    ) -> Result<Outcome, NotRenewed> {
        let &Scene { helper, now, .. } = scene;
        match response {
            HostCertificateResponse::Issued {
                certificates,
                renew_after,
                ..
            } => {
                self.challenge = None;
                self.waiting = None;
                // Where it is refused, the wait after a failure counts.
                let in_place = install(&certificates, helper)?;
                let rest = flaw.map_or(0, |_| self.amiss.failed(pace::random()).as_secs());
                self.not_before = now.saturating_add(rest.max(REST));
                let ends = in_place.ends;
                // Never later than half of what is left, whatever the CA says; never at once again.
                let half = now.saturating_add(ends.saturating_sub(now) / 2);
                self.due = Some(renew_after.min(half).max(now.saturating_add(CONSOLE_PAUSE)));
                Ok(Outcome::Installed(in_place))
            }
            HostCertificateResponse::WriteToConsole {
                challenge,
                expires_at,
                ..
            } => {
                let line = Request::WriteConsole {
                    challenge,
                    all: false,
                };
                helper.ask(&line)?;
                self.challenge = Some((challenge, expires_at));
                let until = now.saturating_add(CONSOLE_PAUSE);
                Ok(self.wait(
                    "the CA reads this host's console: that takes minutes",
                    until,
                ))
            }
            HostCertificateResponse::AwaitingApproval { retry_after, .. } => {
                let longest = now.saturating_add(APPROVAL_PAUSE);
                let until = retry_after.clamp(now.saturating_add(10), longest);
                Ok(self.wait("an operator must approve this host at the CA", until))
            }
        }
    }

    fn wait(&mut self, what: &'static str, until: u64) -> Outcome {
        (self.waiting, self.not_before) = (Some(what), until);
        Outcome::Waits(what.to_owned())
    }
}

fn install(certificates: &[IssuedHostCertificate], helper: &Helper) -> Result<InPlace, NotRenewed> {
    let first = certificates.first().ok_or(NotRenewed::Form)?;
    let request = Request::InstallHostCertificate {
        certificate: first.certificate.clone(),
    };
    match helper.ask(&request)? {
        Answer::Done {
            ends: Some(ends),
            warning,
            ..
        } => Ok(InPlace { ends, warning }),
        _ => Err(NoHelp::Answer.into()),
    }
}

/// Why there is no new host certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRenewed {
    #[error("get a host certificate")]
    Request(#[from] NotAsked),
    #[error("get a host certificate")]
    Evidence(#[from] NoEvidence),
    #[error("get a host certificate: the answer is none of a CA")]
    Form,
    #[error(transparent)]
    Help(#[from] NoHelp),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_that_has_ended_is_not_shown_again() {
        let challenge = Nonce::from_random([1; 16]);
        let task = HostCertificate {
            challenge: Some((challenge, 1000)),
            ..HostCertificate::default()
        };
        assert_eq!(task.challenge(1000), None);
        assert_eq!(task.challenge(999), Some(challenge));
        assert_eq!(HostCertificate::default().challenge(0), None);
    }
}
