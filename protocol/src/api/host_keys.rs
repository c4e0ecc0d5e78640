//! `POST /v1/hosts/keys`: a legacy host, which has no certificate, makes its public keys known, for clients to
//! expect them. It shows who it is as for a certificate, in the same form, and signs for this route alone.
//! Whether the keys count is the CA's business.

use serde::{Deserialize, Serialize};

use crate::api::host_certificate::{
    HostCertificateBinding, HostCertificateRequest, InvalidHostRequest,
};
use crate::grant::Nonce;
use crate::proof::{Audience, CanonicalRequest, Fields, Route, Signed};
use crate::request_id::RequestId;
use crate::sshsig::InvalidSignature;
use crate::subject_key::SubjectKey;

/// Asks that the host's keys become known. Every key signs, and so does `previous_key` where one was replaced.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostKeysRequest(pub HostCertificateRequest);

/// The part of a [`HostKeysRequest`] that is signed: the same fields, for another route.
#[derive(Clone, Copy, Debug)]
pub struct HostKeysBinding<'a>(pub HostCertificateBinding<'a>);

impl Signed for HostKeysBinding<'_> {
    const ROUTE: Route = Route::HostKeys;

    fn fields(&self, fields: &mut Fields) {
        self.0.fields(fields);
    }
}

impl HostKeysRequest {
    /// Reads a request: bounded, strict.
    ///
    /// # Errors
    /// [`InvalidHostRequest`] says what is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidHostRequest> {
        HostCertificateRequest::parse(body).map(Self)
    }

    /// The canonical request: what each host key signs, and whose digest a proof of the role carries.
    #[must_use]
    pub fn canonical(&self, audience: &Audience) -> CanonicalRequest {
        let keys = self.0.keys();
        CanonicalRequest::of(audience, &HostKeysBinding(self.0.binding(&keys)))
    }

    /// Checks that every key in the request signed it for this audience and this route.
    ///
    /// # Errors
    /// [`InvalidSignature`] of the first that did not.
    pub fn check_possession(&self, audience: &Audience) -> Result<(), InvalidSignature> {
        self.0.check_signatures(&self.canonical(audience))
    }
}

/// The answer, one member named for its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostKeysResponse {
    /// Clients are told these keys from now on.
    Known {
        /// The host's keys as the CA knows them now.
        keys: Vec<SubjectKey>,
        /// The CA's clock, in Unix seconds.
        server_time: u64,
        /// The request's id, as in the audit.
        request_id: RequestId,
    },
    /// The host is enrolled: its certificate speaks for it, and nothing was stored.
    Enrolled {
        /// The request's id.
        request_id: RequestId,
    },
    /// Write [`console::line`](super::host_certificate::console::line) to the serial console and ask again with
    /// the challenge.
    WriteToConsole {
        /// To be written.
        challenge: Nonce,
        /// Until when it counts, in Unix seconds.
        expires_at: u64,
        /// The request's id, as in the audit.
        request_id: RequestId,
    },
    /// An operator must approve; ask again later.
    AwaitingApproval {
        /// What the operator approves.
        enrolment: RequestId,
        /// When to ask again, in Unix seconds.
        retry_after: u64,
        /// The request's id, as in the audit.
        request_id: RequestId,
    },
}
