//! A client of the API that can do everything right, and each thing wrong.

use std::sync::atomic::{AtomicU64, Ordering};

use ed25519_dalek::{Signer as _, SigningKey};
use eic_aws::http_client::Answer;
use eic_aws::sigv4::sign_identity_proof;
use eic_protocol::api::certificate::{UserCertificateRequest, UserCertificateResponse};
use eic_protocol::api::problem::Problem;
use eic_protocol::api::session::{Proof, SessionBinding, SessionRequest, SessionResponse};
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::grant::{Authorization, GrantToken, Nonce};
use eic_protocol::proof::{Audience, CanonicalRequest, Signed};
use eic_protocol::sshsig::{self, Namespace};
use eic_protocol::subject_key::SubjectKey;
use serde_json::{Value, json};

use crate::sts::Identity;
use crate::world::{AUDIENCE, NOW, World, read};

/// A key pair, and the signatures that go with it.
#[derive(Clone)]
pub(crate) struct Client {
    private: SigningKey,
    pub(crate) public: SubjectKey,
}

/// What a sign-in may do otherwise.
pub(crate) struct SignIn {
    pub(crate) identity: Identity,
    pub(crate) audience: &'static str,
    pub(crate) time: u64,
    pub(crate) nonce: Nonce,
}

impl SignIn {
    pub(crate) fn of(identity: Identity) -> Self {
        Self {
            identity,
            audience: AUDIENCE,
            time: NOW,
            nonce: fresh_nonce(),
        }
    }
}

/// A nonce of its own for each call.
pub(crate) fn fresh_nonce() -> Nonce {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Nonce::from_random(bytes)
}

impl Client {
    pub(crate) fn new(seed: u8) -> Self {
        let private = SigningKey::from_bytes(&[seed; 32]);
        let public = ssh_key::public::Ed25519PublicKey(private.verifying_key().to_bytes());
        let public = ssh_key::PublicKey::from(public)
            .to_openssh()
            .unwrap()
            .parse()
            .unwrap();
        Self { private, public }
    }

    /// SSHSIG for requests.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self
            .private
            .sign(&sshsig::signed_data(Namespace::Request, message));
        let signature =
            ssh_key::Signature::new(ssh_key::Algorithm::Ed25519, signature.to_bytes().to_vec())
                .unwrap();
        sshsig::blob(Namespace::Request, &self.public, &signature).unwrap()
    }

    /// A complete request for a session.
    pub(crate) fn session_request(&self, sign_in: &SignIn) -> SessionRequest {
        let audience: Audience = sign_in.audience.parse().unwrap();
        let binding = SessionBinding {
            protocol: 1,
            public_key: &self.public,
            nonce: &sign_in.nonce,
        };
        let canonical = CanonicalRequest::of(&audience, &binding);
        let region = "eu-west-1".parse().unwrap();
        let credentials = sign_in.identity.credentials();
        let proof = sign_identity_proof(
            &credentials,
            region,
            sign_in.time,
            &audience,
            canonical.digest(),
        )
        .unwrap();
        SessionRequest {
            protocol: 1,
            public_key: self.public.clone(),
            nonce: sign_in.nonce,
            proof: Proof::AwsSts(proof),
            key_signature: Base64Bytes(self.sign(canonical.as_slice())),
        }
    }

    pub(crate) async fn sign_in(&self, world: &World, identity: Identity) -> SessionResponse {
        let answer = self.try_to_sign_in(world, identity).await;
        answer.unwrap_or_else(|problem| panic!("{problem:?}"))
    }

    /// The same where a refusal is expected.
    pub(crate) async fn try_to_sign_in(
        &self,
        world: &World,
        identity: Identity,
    ) -> Result<SessionResponse, Problem> {
        let request = self.session_request(&SignIn {
            time: world.clock.now(),
            ..SignIn::of(identity)
        });
        read(&open_session(world, &request).await)
    }

    /// The header of a granted request.
    pub(crate) fn authorization<R: Signed>(
        &self,
        grant: &GrantToken,
        request: &R,
        time: u64,
        nonce: Nonce,
    ) -> String {
        let audience: Audience = AUDIENCE.parse().unwrap();
        let message = CanonicalRequest::of_granted(&audience, time, nonce.as_bytes(), request);
        let signature = self.sign(message.as_slice());
        Authorization {
            grant: grant.clone(),
            time,
            nonce,
            signature,
        }
        .to_header()
        .reveal()
        .clone()
    }

    /// Asks for a certificate as `user` on `instance`, with further members.
    pub(crate) fn certificate_request(
        &self,
        user: &str,
        instance: &str,
        more: &Value,
    ) -> UserCertificateRequest {
        self.scoped_request(
            &json!({ "target": { "user": user, "instance": instance } }),
            more,
        )
    }

    pub(crate) fn scoped_request(&self, scope: &Value, more: &Value) -> UserCertificateRequest {
        let mut request =
            json!({ "protocol": 1, "public_key": self.public.to_string(), "scope": scope });
        for (name, value) in more.as_object().into_iter().flatten() {
            request[name] = value.clone();
        }
        serde_json::from_value(request).unwrap()
    }

    pub(crate) async fn certificate(
        &self,
        world: &World,
        grant: &GrantToken,
        request: &UserCertificateRequest,
    ) -> Result<UserCertificateResponse, Problem> {
        let header = self.authorization(grant, request, world.clock.now(), fresh_nonce());
        read(&issue(world, Some(header), request).await)
    }
}

pub(crate) async fn open_session(world: &World, request: &SessionRequest) -> Answer {
    world
        .post(
            "/v1/sessions",
            None,
            &serde_json::to_value(request).unwrap(),
        )
        .await
}

pub(crate) async fn issue(
    world: &World,
    authorization: Option<String>,
    request: &UserCertificateRequest,
) -> Answer {
    world
        .post(
            "/v1/certificates/user",
            authorization,
            &serde_json::to_value(request).unwrap(),
        )
        .await
}
