//! A host's request to the CA: what is said, the evidence for it, the signatures of the helper, the way there. For a
//! certificate, or to make the keys known of a host that has none.

use eic_protocol::api::host_certificate::evidence::Bound;
use eic_protocol::api::host_certificate::{
    HostCertificateBinding, HostCertificateRequest, HostEvidence, HostKeyProof,
};
use eic_protocol::api::host_keys::{HostKeysBinding, HostKeysRequest};
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::grant::Nonce;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::proof::{Audience, CanonicalRequest, Route};
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::version;
use serde::de::DeserializeOwned;
use ssh_key::Certificate;

use super::ca_answer::{self, NoAnswer};
use super::evidence::{Instance, NoEvidence};
use super::helper_client::{Helper, NoHelp};
use super::http::Client;
use super::settings::EvidenceKind;
use crate::config::{Config, InvalidConfig};
use crate::helper::request::{Answer, Request};
use crate::trust_state::{Identity, NoTrust};
use crate::trusted_file::Trusted;

/// What a request is for: the same form, another route, other signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A certificate of the preferred key.
    Certificate,
    /// All keys, for clients to expect.
    Keys,
}

impl Purpose {
    fn route(self) -> Route {
        match self {
            Self::Certificate => Route::HostCertificates,
            Self::Keys => Route::HostKeys,
        }
    }

    fn keys(self) -> Request {
        match self {
            Self::Certificate => Request::HostKeys {},
            Self::Keys => Request::AllHostKeys {},
        }
    }

    fn to_sign(self, request: HostCertificateRequest) -> Request {
        match self {
            Self::Certificate => Request::SignHostRequest(Box::new(request)),
            Self::Keys => Request::SignHostKeys(Box::new(HostKeysRequest(request))),
        }
    }
}

/// What a request is made of.
pub(super) struct Facts {
    purpose: Purpose,
    instance: InstanceId,
    nonce: Nonce,
    keys: Vec<SubjectKey>,
    previous: Option<SubjectKey>,
    challenge: Option<Nonce>,
    now: u64,
}

impl Facts {
    /// What this host says of itself at `now` (Unix seconds); `challenge` is what the CA wanted to see on the console.
    pub(super) fn gather(
        purpose: Purpose,
        challenge: Option<Nonce>,
        helper: &Helper,
        now: u64,
    ) -> Result<Self, NotAsked> {
        let Answer::HostKeys(keys) = helper.ask(&purpose.keys())? else {
            return Err(NoHelp::Answer.into());
        };
        Ok(Self {
            purpose,
            instance: Identity::this().id(&Trusted::system())?,
            nonce: super::nonce().ok_or(NotAsked::Random)?,
            keys,
            previous: None,
            challenge,
            now,
        })
    }

    /// Has another key of this host's sign too, where the certificate in place is for it: the CA then takes the new
    /// key from a host that it knows by the old one.
    pub(super) fn with_key_of(
        mut self,
        in_place: Option<&Certificate>,
        helper: &Helper,
    ) -> Result<Self, NotAsked> {
        let Some(certified) = in_place.map(Certificate::public_key) else {
            return Ok(self);
        };
        let is_certified = |key: &SubjectKey| key.key_data() == certified;
        if !self.keys.iter().any(is_certified) {
            let Answer::HostKeys(all) = helper.ask(&Request::AllHostKeys {})? else {
                return Err(NoHelp::Answer.into());
            };
            self.previous = all.into_iter().find(is_certified);
        }
        Ok(self)
    }

    /// What instance metadata gives, as the configuration wants it.
    pub(super) fn evidence(
        &self,
        config: &Config,
        client: &Client,
        ca: &Audience,
    ) -> Result<HostEvidence, NotAsked> {
        let service = &config.service;
        if service.evidence == EvidenceKind::EnrolmentToken {
            return Err(match self.purpose {
                Purpose::Certificate => NotAsked::NoToken,
                Purpose::Keys => NotAsked::TokenForKeys,
            });
        }
        let instance = Instance::read(&config.instance_connect.endpoint()?)?;
        if service.evidence == EvidenceKind::WebIdentity {
            let token = instance.web_identity(ca, service.sts.as_ref(), client, self.now)?;
            return Ok(HostEvidence::WebIdentity(token));
        }
        let binding = self.binding(instance.bound());
        let canonical = match self.purpose {
            Purpose::Certificate => CanonicalRequest::of(ca, &binding),
            Purpose::Keys => CanonicalRequest::of(ca, &HostKeysBinding(binding)),
        };
        Ok(instance.evidence(ca, canonical.digest(), self.now)?)
    }

    fn binding<'a>(&'a self, evidence: Bound<'a>) -> HostCertificateBinding<'a> {
        HostCertificateBinding {
            protocol: version::CURRENT,
            instance: &self.instance,
            time: self.now,
            nonce: &self.nonce,
            host_keys: &self.keys,
            previous_key: self.previous.as_ref(),
            challenge: self.challenge.as_ref(),
            evidence,
        }
    }

    /// The request with the signatures that only the helper can make.
    pub(super) fn signed(
        self,
        evidence: HostEvidence,
        helper: &Helper,
    ) -> Result<HostCertificateRequest, NotAsked> {
        let unsigned = |public_key| HostKeyProof {
            public_key,
            signature: Base64Bytes(Vec::new()),
        };
        let mut request = HostCertificateRequest {
            protocol: version::CURRENT,
            instance: self.instance,
            time: self.now,
            nonce: self.nonce,
            host_keys: self.keys.into_iter().map(unsigned).collect(),
            previous_key: self.previous.map(unsigned),
            challenge: self.challenge,
            evidence,
        };
        let question = self.purpose.to_sign(request.clone());
        let Answer::Signatures(signatures) = helper.ask(&question)? else {
            return Err(NoHelp::Answer.into());
        };
        let proofs = request
            .host_keys
            .iter_mut()
            .chain(&mut request.previous_key);
        for (proof, signature) in proofs.zip(signatures) {
            proof.signature = signature;
        }
        Ok(request)
    }
}

/// Sends a request; the CA's answer to it.
pub(super) fn post<T: DeserializeOwned>(
    purpose: Purpose,
    client: &Client,
    ca: &Audience,
    request: &HostCertificateRequest,
) -> Result<T, NotAsked> {
    // Texts and lists always have a JSON form.
    let body = serde_json::to_vec(request).unwrap_or_default();
    Ok(ca_answer::to_post(client, ca, &purpose.route(), &body)?)
}

/// Why the CA gave no answer to a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAsked {
    #[error(transparent)]
    Evidence(#[from] NoEvidence),
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error(transparent)]
    Identity(#[from] NoTrust),
    #[error(transparent)]
    Answer(#[from] NoAnswer),
    #[error(
        "show evidence: set `[service] enrolment_token` to a file with a new token of your CA's operator"
    )]
    NoToken,
    #[error(
        "show evidence: keys are made known by `evidence = \"instance-role\"` or `\"web-identity\"` only"
    )]
    TokenForKeys,
    #[error("draw random bytes")]
    Random,
    #[error(transparent)]
    Help(#[from] NoHelp),
}
