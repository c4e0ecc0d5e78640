//! `POST /v1/sessions`: an identity proof in, a session grant out.

use serde::{Deserialize, Serialize};

use crate::arn::CallerArn;
use crate::base64_text::Base64Bytes;
use crate::grant::{GrantToken, Nonce};
use crate::proof::aws_sts::AwsStsProof;
use crate::proof::{Fields, Route, Signed};
use crate::request_id::RequestId;
use crate::subject_key::SubjectKey;

/// Asks for a grant that is bound to `public_key`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// Protocol version that the client speaks.
    pub protocol: u32,
    /// The key that all further requests are signed by, and that gets certified.
    pub public_key: SubjectKey,
    /// Makes two requests of one second different.
    pub nonce: Nonce,
    /// Who the caller is.
    pub proof: Proof,
    /// SSHSIG by `public_key` over the canonical request (namespace `eic-request-v1`).
    pub key_signature: Base64Bytes,
}

/// The identity proof, one member named for its kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Proof {
    /// A signed sts:GetCallerIdentity.
    AwsSts(AwsStsProof),
}

/// The part of a [`SessionRequest`] that is signed: all but the signatures themselves.
#[derive(Clone, Copy, Debug)]
pub struct SessionBinding<'a> {
    /// [`SessionRequest::protocol`]
    pub protocol: u32,
    /// [`SessionRequest::public_key`]
    pub public_key: &'a SubjectKey,
    /// [`SessionRequest::nonce`]
    pub nonce: &'a Nonce,
}

impl SessionRequest {
    /// What is signed.
    #[must_use]
    pub fn binding(&self) -> SessionBinding<'_> {
        SessionBinding {
            protocol: self.protocol,
            public_key: &self.public_key,
            nonce: &self.nonce,
        }
    }
}

impl Signed for SessionBinding<'_> {
    const ROUTE: Route = Route::Sessions;

    fn fields(&self, fields: &mut Fields) {
        fields
            .required(self.protocol.to_be_bytes())
            .required(self.public_key.blob())
            .required(self.nonce.as_bytes());
    }
}

/// A grant and whom it names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionResponse {
    /// Sent back with each further request.
    pub grant: GrantToken,
    /// When the grant ends, in Unix seconds.
    pub expires_at: u64,
    /// Who the CA says the caller is.
    pub caller: CallerView,
    /// The CA's clock, in Unix seconds.
    pub server_time: u64,
    /// The request's id, as in the audit.
    pub request_id: RequestId,
}

/// A caller as shown to himself and in the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerView {
    /// The ARN that STS answered.
    pub arn: CallerArn,
    /// The unique id that STS answered.
    pub user_id: String,
    /// The human-readable name within the ARN.
    pub name: String,
    /// Whether somebody other than the caller vouches for the name.
    pub name_standing: NameStanding,
}

/// Session names are chosen by the caller unless something pins them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameStanding {
    /// An IAM user, an SSO role, an instance, or a trust policy that pins the session name.
    Attested,
    /// The caller's own choice.
    Claimed,
}
