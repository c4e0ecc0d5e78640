//! What can be audited: the names, who acted, from where. Values only; `record` gives them CloudTrail's form.

use std::net::IpAddr;

use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::request_id::RequestId;
use serde_json::Value;

use crate::caller::Caller;

macro_rules! event_names {
    ($($variant:ident $doc:literal;)*) => {
        /// Every event that the audit knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventName {
            $(#[doc = $doc] $variant,)*
        }

        impl EventName {
            /// All, for documentation and for the command line.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name as in `eventName`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),* }
            }
        }
    };
}

event_names! {
    CreateSession "A caller proved who he is and got a session grant.";
    RefuseSession "An identity proof was refused.";
    IssueUserCertificate "A user certificate was recorded; with `errorCode`: signing it failed.";
    IssueHostCertificate "A host certificate was recorded; with `errorCode`: signing it failed.";
    DenyUserCertificate "A user certificate was refused.";
    RevokeCaller "A caller was revoked.";
    UnrevokeCaller "A caller's revocation was ended.";
    PushKeyReported "A client says that it pushed a key by Instance Connect.";
    ReloadPolicy "The policy was read again.";
    StartService "The service started.";
    OrphanFound "A certificate was recorded by a process that ended before saying what came of it.";
}

/// Who acted.
#[derive(Clone, Debug)]
pub enum Actor {
    /// An authenticated caller.
    Caller(Box<Caller>),
    /// Somebody whose identity was not proven; the access key id is what he claimed.
    Unproven {
        /// As claimed.
        access_key_id: Option<String>,
    },
    /// A person at the CA's own machine.
    Operator(Operator),
    /// The service itself.
    Service,
}

/// A person at the CA's own machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Unix user id.
    pub uid: u32,
    /// Name of the account, where the environment tells (`SUDO_USER`, `USER`): a hint, not a proof.
    pub name: Option<String>,
}

impl Operator {
    /// Whoever runs this process.
    #[must_use]
    pub fn current() -> Self {
        let name = ["SUDO_USER", "USER", "LOGNAME"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok());
        Self {
            uid: rustix::process::getuid().as_raw(),
            name: name.filter(|n| !n.is_empty()),
        }
    }
}

/// Where a request came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The peer, or what a trusted proxy says of it.
    pub source: Option<IpAddr>,
    /// The client's own words.
    pub user_agent: Option<String>,
}

/// One event that is not the issuance of a certificate.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub name: EventName,
    /// Who did it.
    pub actor: Actor,
    /// From where.
    pub origin: Origin,
    /// The request.
    pub request_id: RequestId,
    /// The Region of the host, or of the STS endpoint.
    pub region: Option<AwsRegion>,
    /// The account that owns the host; absent: the caller's.
    pub account: Option<AccountId>,
    /// What was asked.
    pub parameters: Option<Value>,
    /// What was answered.
    pub response: Option<Value>,
    /// Why it was refused: the real reason, which the caller is not always told.
    pub error: Option<EventError>,
    /// What CloudTrail has no field for: policy hash, statement, tags used, …; an object.
    pub additional: Option<Value>,
}

impl Event {
    /// An event with all that is optional left out.
    #[must_use]
    pub fn new(name: EventName, actor: Actor, origin: Origin, request_id: RequestId) -> Self {
        Self {
            name,
            actor,
            origin,
            request_id,
            region: None,
            account: None,
            parameters: None,
            response: None,
            error: None,
            additional: None,
        }
    }
}

/// Why something was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventError {
    /// A stable code: the problem's, where there is one.
    pub code: String,
    /// For the auditor.
    pub message: String,
}
