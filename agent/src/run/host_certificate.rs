//! The host-certificate task: asked for where there is none, renewed in time, installed by the helper.
//! Names are the CA's business; this host says only who it is and shows evidence.

use std::time::Duration;

use eic_protocol::api::host_certificate::evidence::Bound;
use eic_protocol::api::host_certificate::{
    HostCertificateBinding, HostCertificateRequest, HostCertificateResponse, HostEvidence,
    HostKeyProof, IssuedHostCertificate,
};
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::grant::Nonce;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::proof::{Audience, CanonicalRequest, Route};
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::text::printable;
use eic_protocol::version;
use serde::Deserialize;

use super::evidence::{self, Instance, NoEvidence};
use super::helper_client::{Helper, NoHelp};
use super::http::{Answer as HttpAnswer, Client, HttpError};
use super::settings::EvidenceKind;
use crate::config::{Config, InvalidConfig};
use crate::helper::request::{Answer, Request};
use crate::instance_connect::endpoint::Endpoint;
use crate::trust_state::{Identity, NoTrust};
use crate::trusted_file::Trusted;

/// For the request to the CA, which asks STS and EC2 meanwhile.
const DEADLINE: Duration = Duration::from_secs(30);
/// Largest answer in bytes.
const MAX_ANSWER: u64 = 64 * 1024;
/// How soon to ask again once the console line is written: EC2 refreshes its copy now and then.
const CONSOLE_PAUSE: u64 = 30;

/// The task with what it keeps between rounds.
#[derive(Debug, Default)]
pub(super) struct HostCertificate {
    /// When to ask, in Unix seconds; 0 at the start.
    due: u64,
    /// What the CA wants to see on the console, and until when.
    challenge: Option<(Nonce, u64)>,
    /// Whether the CA has refused the one-time token: used before, most likely.
    token_refused: bool,
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
        let request = self.request(config, client, helper, &ca, ends.is_some(), now)?;
        let by_token = matches!(request.evidence, HostEvidence::EnrolmentToken(_));
        let response = ask(client, &ca, &request);
        self.token_refused |= by_token && matches!(response, Err(NotRenewed::Refused { .. }));
        self.take(response?, helper, now)
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
        enrolled: bool,
        now: u64,
    ) -> Result<HostCertificateRequest, NotRenewed> {
        let keys = match helper.ask(&Request::HostKeys {})? {
            Answer::HostKeys(keys) => keys,
            _ => return Err(NoHelp::Answer.into()),
        };
        let facts = Facts {
            instance: Identity::this().id(&Trusted::system())?,
            nonce: super::nonce().ok_or(NotRenewed::Random)?,
            keys,
            challenge: self.challenge(now),
            now,
        };
        let first = !enrolled && !self.token_refused;
        let token = config.service.enrolment_token.as_deref();
        let evidence = match token.filter(|path| first && path.exists()) {
            Some(path) => HostEvidence::EnrolmentToken(evidence::enrolment_token(path)?),
            None => facts.evidence(config, client, ca, enrolled)?,
        };
        facts.signed(evidence, helper)
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
                helper.ask(&Request::WriteConsole { challenge })?;
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

/// What a request is made of.
struct Facts {
    instance: InstanceId,
    nonce: Nonce,
    keys: Vec<SubjectKey>,
    challenge: Option<Nonce>,
    now: u64,
}

impl Facts {
    fn evidence(
        &self,
        config: &Config,
        client: &Client,
        ca: &Audience,
        enrolled: bool,
    ) -> Result<HostEvidence, NotRenewed> {
        let service = &config.service;
        match service.evidence {
            EvidenceKind::EnrolmentToken if enrolled => Ok(HostEvidence::EnrolledKey {}),
            EvidenceKind::EnrolmentToken => Err(NotRenewed::NoToken),
            EvidenceKind::WebIdentity => {
                let instance = Instance::read(&endpoint(config)?)?;
                let token = instance.web_identity(ca, service.sts.as_ref(), client, self.now)?;
                Ok(HostEvidence::WebIdentity(token))
            }
            EvidenceKind::InstanceRole => {
                let instance = Instance::read(&endpoint(config)?)?;
                let canonical = CanonicalRequest::of(ca, &self.binding(instance.bound()));
                Ok(instance.evidence(ca, canonical.digest(), self.now)?)
            }
        }
    }

    fn binding<'a>(&'a self, evidence: Bound<'a>) -> HostCertificateBinding<'a> {
        HostCertificateBinding {
            protocol: version::CURRENT,
            instance: &self.instance,
            time: self.now,
            nonce: &self.nonce,
            host_keys: &self.keys,
            previous_key: None,
            challenge: self.challenge.as_ref(),
            evidence,
        }
    }

    /// The request with the signatures that only the helper can make.
    fn signed(
        self,
        evidence: HostEvidence,
        helper: &Helper,
    ) -> Result<HostCertificateRequest, NotRenewed> {
        let unsigned = self.keys.into_iter().map(|public_key| HostKeyProof {
            public_key,
            signature: Base64Bytes(Vec::new()),
        });
        let mut request = HostCertificateRequest {
            protocol: version::CURRENT,
            instance: self.instance,
            time: self.now,
            nonce: self.nonce,
            host_keys: unsigned.collect(),
            previous_key: None,
            challenge: self.challenge,
            evidence,
        };
        let question = Request::SignHostRequest(Box::new(request.clone()));
        let Answer::Signatures(signatures) = helper.ask(&question)? else {
            return Err(NoHelp::Answer.into());
        };
        for (proof, signature) in request.host_keys.iter_mut().zip(signatures) {
            proof.signature = signature;
        }
        Ok(request)
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

fn endpoint(config: &Config) -> Result<Endpoint, NotRenewed> {
    let configured = config.instance_connect.imds_endpoint.as_deref();
    let endpoint = configured.map_or(Ok(Endpoint::default()), str::parse);
    Ok(endpoint.map_err(InvalidConfig::from)?)
}

fn ask(
    client: &Client,
    ca: &Audience,
    request: &HostCertificateRequest,
) -> Result<HostCertificateResponse, NotRenewed> {
    // Texts and lists always have a JSON form.
    let body = serde_json::to_vec(request).unwrap_or_default();
    let url = format!("{ca}{}", Route::HostCertificates.path());
    let headers = [("content-type", "application/json")];
    let answer = client.post(&url, &headers, &body, MAX_ANSWER, DEADLINE)?;
    if !matches!(answer.status, 200..=202) {
        return Err(refused(&answer));
    }
    serde_json::from_slice(&answer.body).map_err(|_| NotRenewed::Form)
}

/// What a problem document says (RFC 9457), made harmless.
fn refused(answer: &HttpAnswer) -> NotRenewed {
    NotRenewed::Refused {
        status: answer.status,
        reason: super::problem_text(&answer.body),
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
    #[error(transparent)]
    Evidence(#[from] NoEvidence),
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error(transparent)]
    Identity(#[from] NoTrust),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("get a host certificate: the CA answered {status}: {reason}")]
    Refused { status: u16, reason: String },
    #[error("get a host certificate: the answer is none of a CA")]
    Form,
    #[error(
        "get a host certificate: set `[service] enrolment_token` to a file with a new token of your CA's operator"
    )]
    NoToken,
    #[error("draw random bytes")]
    Random,
    #[error(transparent)]
    Help(#[from] NoHelp),
}

/// A problem document as far as it is told.
#[derive(Deserialize)]
pub(super) struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

impl Problem {
    pub(super) fn text(&self) -> String {
        match (self.title.as_str(), self.detail.as_str()) {
            ("", detail) => printable(detail),
            (title, "") => printable(title),
            (title, detail) => printable(&format!("{title}: {detail}")),
        }
    }
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

    #[test]
    fn problem_documents_are_shown_without_their_escapes() {
        // H-15
        let evil = b"{\"title\":\"no\",\"detail\":\"\\u001b[31mred\"}";
        let shown = super::super::problem_text(evil);
        assert!(
            shown.starts_with("no: ") && !shown.contains('\u{1b}'),
            "{shown}"
        );
        assert_eq!(super::super::problem_text(b"<html>"), "no reason was given");
    }
}
