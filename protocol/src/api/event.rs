//! `POST /v1/events`: what a client did without the CA's signature, for the audit.
//! A report by its doer: the audit marks it as such.

use serde::{Deserialize, Serialize};

use crate::instance_id::InstanceId;
use crate::os_user::OsUser;
use crate::proof::{Fields, Route, Signed};
use crate::request_id::RequestId;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRequest {
    /// Protocol version that the client speaks.
    pub protocol: u32,
    /// What happened.
    pub event: ClientEvent,
}

/// What happened, one member named for its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClientEvent {
    /// The session's key was pushed to a host by Instance Connect.
    KeyPushed {
        /// The host.
        instance: InstanceId,
        /// The account.
        user: OsUser,
        /// `SHA256:…` of the key.
        fingerprint: String,
        /// Why no certificate was used.
        cause: PushCause,
        /// The request id that AWS answered.
        aws_request_id: String,
    },
}

/// Why a key was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PushCause {
    /// The inventory marks the host legacy.
    LegacyHost,
    /// The CA could not be reached at that time.
    CaUnreachable,
}

impl PushCause {
    /// The name as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LegacyHost => "legacy-host",
            Self::CaUnreachable => "ca-unreachable",
        }
    }
}

impl Signed for EventRequest {
    const ROUTE: Route = Route::Events;

    fn fields(&self, fields: &mut Fields) {
        fields.required(self.protocol.to_be_bytes());
        match &self.event {
            ClientEvent::KeyPushed {
                instance,
                user,
                fingerprint,
                cause,
                aws_request_id,
            } => fields
                .required("key-pushed")
                .required(instance.as_str())
                .required(user.as_str())
                .required(fingerprint)
                .required(cause.as_str())
                .required(aws_request_id),
        };
    }
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventResponse {
    /// The id under which the audit holds the event.
    pub request_id: RequestId,
}
