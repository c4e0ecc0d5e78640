//! The host-certificate task: asked for where there is none, renewed in time, installed by the helper.
//! Names are the CA's business; this host says only who it is and shows evidence.

use eic_protocol::api::host_certificate::evidence::EnrolmentToken;
use eic_protocol::api::host_certificate::{
    HostCertificateRequest, HostCertificateResponse, HostEvidence, IssuedHostCertificate,
};
use eic_protocol::grant::Nonce;
use eic_protocol::proof::Audience;
use eic_protocol::subject_key::SubjectKey;

use super::evidence::{self, NoEvidence};
use super::helper_client::{Helper, NoHelp};
use super::host_request::{self, Facts, NotAsked, Purpose};
use super::http::Client;
use super::settings::{EvidenceKind, Service};
use crate::config::Config;
use crate::helper::request::{Answer, Request};

/// How soon to ask again once the console line is written: EC2 refreshes its copy now and then.
const CONSOLE_PAUSE: u64 = 30;

/// The task with what it keeps between rounds.
#[derive(Debug, Default)]
pub(super) struct HostCertificate {
    /// When to ask, in Unix seconds; 0 at the start.
    due: u64,
    /// What the CA wants to see on the console, and until when.
    challenge: Option<(Nonce, u64)>,
    /// The one-time token that the CA has refused: used before, most likely.
    refused_token: Option<EnrolmentToken>,
    /// Whether the CA has just refused this host's own key: a permit's host, or one that it does not know any more.
    key_refused: bool,
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
    /// The CA wants something first.
    Waits(&'static str),
}

/// A certificate where sshd finds it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InPlace {
    /// When it ends, in Unix seconds.
    pub(super) ends: u64,
    /// Why it has no effect, where it has none.
    pub(super) warning: Option<String>,
}

/// The certificate in place, unverified: only its times are looked at here.
pub(super) fn in_place(config: &Config) -> Option<ssh_key::Certificate> {
    let path = config.trust.state.join(crate::install::HOST_CERTIFICATE);
    let line = std::fs::read_to_string(path).ok()?;
    ssh_key::Certificate::from_openssh(line.trim_end()).ok()
}

impl HostCertificate {
    /// Due at half of the life of the certificate in place; at once where it is not for a key of this host.
    pub(super) fn beginning(config: &Config) -> Self {
        let certificate = in_place(config).filter(|found| is_for_own_key(found, config));
        let due = certificate.map(|found| found.valid_after().midpoint(found.valid_before()));
        Self {
            due: due.unwrap_or(0),
            ..Self::default()
        }
    }

    /// Asks where a certificate is due. `ends` is when the one in place ends.
    pub(super) fn renew(
        &mut self,
        config: &Config,
        client: &Client,
        helper: &Helper,
        ends: Option<u64>,
        now: u64,
    ) -> Result<Outcome, NotRenewed> {
        let Some(ca) = config
            .service
            .ca
            .clone()
            .filter(|_| config.service.host_certificates)
        else {
            return Ok(Outcome::Early);
        };
        if now < self.due && ends.is_some_and(|ends| now < ends) {
            return Ok(Outcome::Early);
        }
        let voucher = self.voucher(&config.service, ends.is_some())?;
        let request = self.request(config, client, helper, &ca, voucher, now)?;
        let response = host_request::post(Purpose::Certificate, client, &ca, &request);
        self.note(request.evidence, response.as_ref().err());
        self.take(response.map_err(NotRenewed::from)?, helper, now)
    }

    /// When the next round may be due, in seconds from `now`.
    pub(super) fn pause(&self, now: u64) -> u64 {
        self.due.saturating_sub(now)
    }

    /// What the CA wants to read on the console, while it still counts.
    fn challenge(&self, now: u64) -> Option<Nonce> {
        let (challenge, expires_at) = self.challenge?;
        (now < expires_at).then_some(challenge)
    }

    fn request(
        &self,
        config: &Config,
        client: &Client,
        helper: &Helper,
        ca: &Audience,
        voucher: Voucher,
        now: u64,
    ) -> Result<HostCertificateRequest, NotRenewed> {
        let purpose = Purpose::Certificate;
        let facts = Facts::gather(purpose, self.challenge(now), helper, now)?;
        let evidence = match voucher {
            Voucher::Token(token) => HostEvidence::EnrolmentToken(token),
            Voucher::Key => HostEvidence::EnrolledKey {},
            Voucher::Metadata => facts.evidence(config, client, ca)?,
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
        helper: &Helper,
        now: u64,
    ) -> Result<Outcome, NotRenewed> {
        match response {
            HostCertificateResponse::Issued {
                certificates,
                renew_after,
                ..
            } => {
                self.challenge = None;
                let in_place = install(&certificates, helper)?;
                let ends = in_place.ends;
                // Never later than half of what is left, whatever the CA says; never at once again.
                let half = now.saturating_add(ends.saturating_sub(now) / 2);
                self.due = renew_after.min(half).max(now.saturating_add(CONSOLE_PAUSE));
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
                self.due = now.saturating_add(CONSOLE_PAUSE);
                Ok(Outcome::Waits(
                    "the CA reads this host's console: that takes minutes",
                ))
            }
            HostCertificateResponse::AwaitingApproval { retry_after, .. } => {
                self.due = retry_after.clamp(now.saturating_add(10), now.saturating_add(3600));
                Ok(Outcome::Waits(
                    "an operator must approve this host at the CA",
                ))
            }
        }
    }
}

fn is_for_own_key(certificate: &ssh_key::Certificate, config: &Config) -> bool {
    let Ok(files) = std::fs::read_dir(&config.service.sshd.config_dir) else {
        return false;
    };
    files.flatten().any(|file| {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        let key = text.trim_end().parse::<SubjectKey>();
        key.is_ok_and(|key| key.key_data() == certificate.public_key())
    })
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
            due: 0,
            challenge: Some((challenge, 1000)),
            ..HostCertificate::default()
        };
        assert_eq!(task.challenge(1000), None);
        assert_eq!(task.challenge(999), Some(challenge));
        assert_eq!(HostCertificate::default().challenge(0), None);
    }
}
