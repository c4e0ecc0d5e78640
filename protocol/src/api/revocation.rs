//! `POST /v1/revocations`: what shall count no more, and where hosts learn of it.
//! Who may revoke what is policy's business (`eic:Revoke`; one's own always).

use serde::{Deserialize, Serialize};

use crate::api::certificate::Reason;
use crate::instance_id::InstanceId;
use crate::key_fingerprint::KeyFingerprint;
use crate::proof::{Fields, Route, Signed};
use crate::request_id::RequestId;
use crate::serial::Serial;
use crate::subject_key::{MAX_LINE, SubjectKey};
use crate::text::Line;

/// Asks for one revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationRequest {
    /// Protocol version that the client speaks.
    pub protocol: u32,
    /// What to revoke.
    pub target: RevocationTarget,
    /// Why; into the audit.
    pub reason: Reason,
}

/// What to revoke: exactly one member, named for its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RevocationTarget {
    /// One certificate by its CA and serial.
    Serial {
        /// Fingerprint of the CA key.
        ca: KeyFingerprint,
        /// The serial.
        serial: Serial,
    },
    /// The certificate of one request, by the id in its key id and in the audit.
    RequestId(RequestId),
    /// A key: every certificate of it, and the key itself.
    PublicKey(SubjectKey),
    /// The same, where only the fingerprint is known.
    Fingerprint(KeyFingerprint),
    /// A certificate at hand.
    Certificate(CertificateLine),
    /// A caller: its certificates and grants, and no new ones until it is unblocked. Its name as in
    /// the audit: an ARN, or the name that an OIDC issuer's entry gives.
    Caller(Line),
    /// A host: its host certificates.
    Host(InstanceId),
    /// A CA key, by fingerprint: all that it ever signed.
    CaKey(KeyFingerprint),
}

impl RevocationTarget {
    /// The kind as in JSON.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Serial { .. } => "serial",
            Self::RequestId(_) => "request-id",
            Self::PublicKey(_) => "public-key",
            Self::Fingerprint(_) => "fingerprint",
            Self::Certificate(_) => "certificate",
            Self::Caller(_) => "caller",
            Self::Host(_) => "host",
            Self::CaKey(_) => "ca-key",
        }
    }

    fn fields(&self, fields: &mut Fields) {
        fields.required(self.kind());
        match self {
            Self::Serial { ca, serial } => fields
                .required(ca.as_bytes())
                .required(serial.value().to_be_bytes()),
            Self::RequestId(id) => fields.required(id.to_string()),
            Self::PublicKey(key) => fields.required(key.blob()),
            Self::Fingerprint(print) | Self::CaKey(print) => fields.required(print.as_bytes()),
            Self::Certificate(line) => fields.required(line.as_str()),
            Self::Caller(name) => fields.required(name.as_str()),
            Self::Host(instance) => fields.required(instance.as_str()),
        };
    }
}

impl Signed for RevocationRequest {
    const ROUTE: Route = Route::Revocations;

    fn fields(&self, fields: &mut Fields) {
        fields.required(self.protocol.to_be_bytes());
        self.target.fields(fields);
        fields.required(self.reason.as_str());
    }
}

/// One OpenSSH certificate line of at most 16 kB; parsed by whoever acts on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateLine(String);

impl CertificateLine {
    /// The line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CertificateLine {
    type Error = NotCertificateLine;

    fn try_from(text: String) -> Result<Self, NotCertificateLine> {
        // A certificate of ours has at most 4,096 bytes and its signature, before base64.
        let short = text.len() <= 4 * MAX_LINE;
        let printable = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        let kind = text.split(' ').next().unwrap_or_default();
        if short && printable && kind.ends_with("-cert-v01@openssh.com") {
            Ok(Self(text))
        } else {
            Err(NotCertificateLine)
        }
    }
}

impl From<CertificateLine> for String {
    fn from(line: CertificateLine) -> Self {
        line.0
    }
}

/// Not a certificate line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one OpenSSH certificate line, `…-cert-v01@openssh.com base64`")]
pub struct NotCertificateLine;

/// The answer: recorded, and in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationResponse {
    /// The revocation's id.
    pub id: RequestId,
    /// The first bundle that holds it.
    pub bundle_sequence: u64,
    /// How many certificates it ended that had not ended by themselves.
    pub certificates: u64,
    /// The request's id, as in the audit.
    pub request_id: RequestId,
}
