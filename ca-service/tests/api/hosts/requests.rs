//! A host that can ask for everything right, and each thing wrong.

use eic_aws::http_client::Answer;
use eic_aws::sigv4::sign_identity_proof;
use eic_protocol::api::host_certificate::evidence::{EnrolmentToken, IdentitySignature};
use eic_protocol::api::host_certificate::{
    HostCertificateRequest, HostCertificateResponse, HostEvidence, HostKeyProof,
    IssuedHostCertificate,
};
use eic_protocol::api::host_keys::{HostKeysRequest, HostKeysResponse};
use eic_protocol::api::problem::Problem;
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::grant::Nonce;
use eic_protocol::proof::{Audience, CanonicalRequest};
use serde_json::Value;

use super::aws::{HOST, HostWorld, document};
use crate::client::{Client, fresh_nonce};
use crate::program::real_now;
use crate::sts::{INSTANCE, Identity};
use crate::token_issuer::claims;
use crate::world::{AUDIENCE, read};

/// What a request says.
pub(crate) struct Ask<'k> {
    pub(crate) instance: &'static str,
    pub(crate) keys: Vec<&'k Client>,
    pub(crate) previous: Option<&'k Client>,
    pub(crate) challenge: Option<Nonce>,
    pub(crate) identity: Identity,
    pub(crate) document: Value,
    pub(crate) nonce: Nonce,
}

impl<'k> Ask<'k> {
    pub(crate) fn of(key: &'k Client) -> Self {
        Self {
            instance: HOST,
            keys: vec![key],
            previous: None,
            challenge: None,
            identity: INSTANCE,
            document: document(HOST, "2026-02-16T00:38:27Z"),
            nonce: random_nonce(),
        }
    }
}

/// The program's store outlives no test, but nonces of two tests must not meet in one second either.
fn random_nonce() -> Nonce {
    fresh_nonce()
}

impl HostWorld {
    /// The request with an identity document and the role's signature.
    pub(crate) fn with_document(&self, ask: &Ask<'_>) -> HostCertificateRequest {
        let bytes = serde_json::to_vec(&ask.document).unwrap();
        let signature = self.signer.sign(&bytes);
        self.signed_by_role(
            ask,
            bytes,
            IdentitySignature::Rsa2048(Base64Bytes(signature)),
        )
    }

    pub(crate) fn signed_by_role(
        &self,
        ask: &Ask<'_>,
        document: Vec<u8>,
        signature: IdentitySignature,
    ) -> HostCertificateRequest {
        let proof = |digest| {
            let region = "eu-west-1".parse().unwrap();
            let credentials = ask.identity.credentials();
            sign_identity_proof(&credentials, region, real_now(), &audience(), digest).unwrap()
        };
        // The proof is over the request's digest, which does not cover the proof itself.
        let empty = proof(
            unsigned(ask, HostEvidence::EnrolledKey {})
                .canonical(&audience())
                .digest(),
        );
        let evidence = |proof| HostEvidence::InstanceIdentity {
            document: Base64Bytes(document.clone()),
            signature: signature.clone(),
            proof,
        };
        let digest = unsigned(ask, evidence(empty))
            .canonical(&audience())
            .digest();
        signed(ask, evidence(proof(digest)))
    }

    pub(crate) fn with_web_identity(
        &self,
        ask: &Ask<'_>,
        change: impl FnOnce(&mut Value),
    ) -> HostCertificateRequest {
        let arn = format!(
            "arn:aws:ec2:eu-west-1:111122223333:instance/{}",
            ask.instance
        );
        let mut claims = claims(&self.issuer_url(), AUDIENCE, &arn, real_now());
        claims["jti"] = Value::from(ask.nonce.to_string());
        change(&mut claims);
        let token = self.issuer.token(&claims);
        signed(ask, HostEvidence::WebIdentity(token.parse().unwrap()))
    }

    pub(crate) async fn post_certificate(&self, request: &HostCertificateRequest) -> Answer {
        let body = serde_json::to_value(request).unwrap();
        self.world.post("/v1/certificates/host", None, &body).await
    }

    pub(crate) async fn ask(
        &self,
        request: &HostCertificateRequest,
    ) -> Result<HostCertificateResponse, Problem> {
        read(&self.post_certificate(request).await)
    }

    pub(crate) async fn post_keys(&self, request: &HostKeysRequest) -> Answer {
        let body = serde_json::to_value(request).unwrap();
        self.world.post("/v1/hosts/keys", None, &body).await
    }

    /// The request of a legacy host that makes its keys known.
    pub(crate) async fn harvest(&self, ask: &Ask<'_>) -> Result<HostKeysResponse, Problem> {
        let request = for_known_keys(ask, self.with_web_identity(ask, |_| {}));
        read(&self.post_keys(&request).await)
    }

    /// The certificates; a panic where there are none.
    pub(crate) async fn certified(
        &self,
        request: &HostCertificateRequest,
    ) -> Vec<IssuedHostCertificate> {
        match self.ask(request).await {
            Ok(HostCertificateResponse::Issued { certificates, .. }) => certificates,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn with_token(ask: &Ask<'_>, token: &EnrolmentToken) -> HostCertificateRequest {
    signed(ask, HostEvidence::EnrolmentToken(token.clone()))
}

pub(crate) fn with_key(ask: &Ask<'_>) -> HostCertificateRequest {
    signed(ask, HostEvidence::EnrolledKey {})
}

pub(crate) fn audience() -> Audience {
    AUDIENCE.parse().unwrap()
}

fn unsigned(ask: &Ask<'_>, evidence: HostEvidence) -> HostCertificateRequest {
    let proof = |key: &Client| HostKeyProof {
        public_key: key.public.clone(),
        signature: Base64Bytes::default(),
    };
    HostCertificateRequest {
        protocol: 1,
        instance: ask.instance.parse().unwrap(),
        time: real_now(),
        nonce: ask.nonce,
        host_keys: ask.keys.iter().map(|key| proof(key)).collect(),
        previous_key: ask.previous.map(proof),
        challenge: ask.challenge,
        evidence,
    }
}

/// The same request for the other route, for which its keys sign once more. Of evidence without a proof of the
/// role, which carries the digest of the first.
pub(crate) fn for_known_keys(ask: &Ask<'_>, request: HostCertificateRequest) -> HostKeysRequest {
    let mut request = HostKeysRequest(request);
    let canonical = request.canonical(&audience());
    sign_with(ask, &mut request.0, &canonical);
    request
}

fn signed(ask: &Ask<'_>, evidence: HostEvidence) -> HostCertificateRequest {
    let mut request = unsigned(ask, evidence);
    let canonical = request.canonical(&audience());
    sign_with(ask, &mut request, &canonical);
    request
}

fn sign_with(ask: &Ask<'_>, request: &mut HostCertificateRequest, canonical: &CanonicalRequest) {
    for (proof, key) in request.host_keys.iter_mut().zip(&ask.keys) {
        proof.signature = Base64Bytes(key.sign(canonical.as_slice()));
    }
    if let (Some(proof), Some(key)) = (&mut request.previous_key, ask.previous) {
        proof.signature = Base64Bytes(key.sign(canonical.as_slice()));
    }
}
