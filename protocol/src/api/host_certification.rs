//! `POST /v1/hosts/certify`: a person or job asks, under a session grant, for the certificate of a host's key: for
//! hosts outside EC2 and for image pipelines. Policy decides (`eic:IssueHostCertificate` on the host's ARN).
//! The host's key signs too, for just this caller's key, so that nobody has a key certified that he does not hold.

use serde::{Deserialize, Serialize};

use crate::api::certificate::Reason;
use crate::api::host_certificate::{HostKeyProof, InvalidHostRequest, IssuedHostCertificate};
use crate::grant::Nonce;
use crate::instance_id::InstanceId;
use crate::proof::{Audience, CanonicalRequest, Fields, Route, Signed};
use crate::request_id::RequestId;
use crate::sshsig::{self, InvalidSignature, Namespace};
use crate::subject_key::SubjectKey;

/// Asks for the certificate of one host key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostCertificationRequest {
    /// Protocol version that the client speaks.
    pub protocol: u32,
    /// The host: the only name that the certificate gets.
    pub instance: InstanceId,
    /// When the host's key signed, in Unix seconds.
    pub time: u64,
    /// Makes two signatures of one second different.
    pub nonce: Nonce,
    /// The host's key, with its signature over [`HostKeyConsent`].
    pub host_key: HostKeyProof,
    /// Lifetime in seconds; absent: the CA's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Why; for policy and audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// What the host's key signs: that this caller's key may have it certified for this host.
#[derive(Clone, Copy, Debug)]
pub struct HostKeyConsent<'a> {
    /// The host.
    pub instance: &'a InstanceId,
    /// When, in Unix seconds.
    pub time: u64,
    /// [`HostCertificationRequest::nonce`]
    pub nonce: &'a Nonce,
    /// The host's key.
    pub host_key: &'a SubjectKey,
    /// The key that the caller's session is bound to.
    pub caller_key: &'a SubjectKey,
}

impl Signed for HostKeyConsent<'_> {
    const ROUTE: Route = Route::HostCertification;

    fn fields(&self, fields: &mut Fields) {
        // First what no request of the caller's begins with: neither signature stands for the other.
        fields
            .required("host-key-consent")
            .required(self.instance.as_str())
            .required(self.time.to_be_bytes())
            .required(self.nonce.as_bytes())
            .required(self.host_key.blob())
            .required(self.caller_key.blob());
    }
}

impl Signed for HostCertificationRequest {
    const ROUTE: Route = Route::HostCertification;

    fn fields(&self, fields: &mut Fields) {
        fields
            .required(self.protocol.to_be_bytes())
            .required(self.instance.as_str())
            .required(self.time.to_be_bytes())
            .required(self.nonce.as_bytes())
            .required(self.host_key.public_key.blob())
            .required(self.host_key.signature.as_slice())
            .optional(self.ttl_seconds.map(u64::to_be_bytes))
            .optional(self.reason.as_ref().map(Reason::as_str));
    }
}

impl HostCertificationRequest {
    /// Whether the key may be a host's.
    ///
    /// # Errors
    /// [`InvalidHostRequest::Keys`] for a key in a FIDO device.
    pub fn check(&self) -> Result<(), InvalidHostRequest> {
        let fido = self.host_key.public_key.is_fido();
        (!fido).then_some(()).ok_or(InvalidHostRequest::Keys)
    }

    /// The bytes that the host's key signs, for a caller whose session is bound to `caller_key`.
    #[must_use]
    pub fn consent(&self, audience: &Audience, caller_key: &SubjectKey) -> CanonicalRequest {
        let consent = HostKeyConsent {
            instance: &self.instance,
            time: self.time,
            nonce: &self.nonce,
            host_key: &self.host_key.public_key,
            caller_key,
        };
        CanonicalRequest::of(audience, &consent)
    }

    /// Checks the host key's signature.
    ///
    /// # Errors
    /// [`InvalidSignature`]
    pub fn check_possession(
        &self,
        audience: &Audience,
        caller_key: &SubjectKey,
    ) -> Result<(), InvalidSignature> {
        let HostKeyProof {
            public_key,
            signature,
        } = &self.host_key;
        let consent = self.consent(audience, caller_key);
        let message = consent.as_slice();
        sshsig::verify(
            Namespace::Request,
            public_key,
            message,
            signature.as_slice(),
        )
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCertificationResponse {
    /// The certificate.
    pub certificate: IssuedHostCertificate,
    /// The request's id, as in key id and audit.
    pub request_id: RequestId,
}
