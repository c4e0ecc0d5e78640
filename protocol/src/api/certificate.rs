//! `POST /v1/certificates/user`: what a certificate is asked for, and the certificate.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::api::instance::InstanceView;
use crate::cert::options::{Extension, ForceCommand, SourceAddresses};
use crate::fleet::FleetName;
use crate::instance_id::InstanceId;
use crate::os_user::OsUser;
use crate::principal::Principal;
use crate::proof::{Fields, Route, Signed};
use crate::request_id::RequestId;
use crate::serial::Serial;
use crate::subject_key::SubjectKey;
use crate::text::printable;
use crate::validity::Validity;

/// Asks for one user certificate. Absent members mean the policy's defaults, never "all".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserCertificateRequest {
    /// Protocol version that the client speaks.
    pub protocol: u32,
    /// The key to be certified: the one that the grant is bound to.
    pub public_key: SubjectKey,
    /// What the certificate shall open.
    pub scope: CertificateScope,
    /// Lifetime in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// The only command that the certificate shall run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_command: Option<ForceCommand>,
    /// The only addresses that the certificate shall be good from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_addresses: Option<SourceAddresses>,
    /// What the session may do; absent: `permit-pty` and `permit-port-forwarding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<BTreeSet<Extension>>,
    /// Why access is needed; reaches policy as `eic:Reason` and the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// One user on one host, or on one fleet; one member named for its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CertificateScope {
    /// One host.
    Target {
        /// The account on the host.
        user: OsUser,
        /// The host.
        instance: InstanceId,
    },
    /// One fleet.
    Fleet {
        /// The account on each host.
        user: OsUser,
        /// The fleet.
        fleet: FleetName,
    },
}

impl CertificateScope {
    /// The principal that a certificate of this scope names.
    #[must_use]
    pub fn principal(&self) -> Principal {
        match self {
            Self::Target { user, instance } => Principal::Target(user.clone(), instance.clone()),
            Self::Fleet { user, fleet } => Principal::Fleet(user.clone(), fleet.clone()),
        }
    }

    /// The account that it opens.
    #[must_use]
    pub fn os_user(&self) -> &OsUser {
        match self {
            Self::Target { user, .. } | Self::Fleet { user, .. } => user,
        }
    }
}

impl Signed for UserCertificateRequest {
    const ROUTE: Route = Route::UserCertificates;

    fn fields(&self, fields: &mut Fields) {
        fields
            .required(self.protocol.to_be_bytes())
            .required(self.public_key.blob())
            .required(self.scope.principal().to_string())
            .optional(self.ttl_seconds.map(u64::to_be_bytes))
            .optional(self.force_command.as_ref().map(ForceCommand::as_str))
            .optional(self.source_addresses.as_ref().map(ToString::to_string))
            .optional(self.extensions.as_ref().map(Extension::join))
            .optional(self.reason.as_ref().map(Reason::as_str));
    }
}

/// Why access is needed: 1 to 256 printable characters, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reason(String);

impl Reason {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Reason {
    type Err = InvalidReason;

    fn from_str(text: &str) -> Result<Self, InvalidReason> {
        let printable_only = !text.chars().any(char::is_control);
        if printable_only && (1..=256).contains(&text.chars().count()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidReason(printable(text)))
        }
    }
}

impl TryFrom<String> for Reason {
    type Error = InvalidReason;

    fn try_from(text: String) -> Result<Self, InvalidReason> {
        text.parse()
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0))
    }
}

/// Not a reason.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a reason: use 1 to 256 printable characters")]
pub struct InvalidReason(String);

/// The certificate, and what the client needs to use it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserCertificateResponse {
    /// One OpenSSH line, `…-cert-v01@openssh.com base64`.
    pub certificate: String,
    /// Its serial.
    pub serial: Serial,
    /// The request's id, as in key id and audit.
    pub request_id: RequestId,
    /// When it is good.
    pub validity: Validity,
    /// What it opens.
    pub principal: Principal,
    /// Whether it carries a forced command, source addresses or fewer extensions than the default:
    /// then a pushed key, which cannot carry them, must never stand in for it.
    pub restricted: bool,
    /// The host of a target certificate, as the inventory knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceView>,
}
