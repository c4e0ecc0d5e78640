//! What can be audited: the names, who acted, from where. Values only; `record` gives them CloudTrail's form.

use std::net::IpAddr;
use std::sync::Arc;

use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::request_id::RequestId;
use serde_json::Value;

use crate::caller::Caller;
use crate::random::{self, NoEntropy};

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
    RequestHostEnrolment "A host asked for certificates of keys that still need the console or an operator.";
    EnrolHost "A host's keys were enrolled.";
    DenyHostCertificate "A caller was refused the certificate of a host's key.";
    KnowHostKeys "A legacy host made its keys known.";
    RefuseHostKeys "The keys of a legacy host were refused.";
    EndHost "The inventory showed that a host is gone; its certificates are revoked.";
    RefuseHostCertificate "A host that AWS or its key confirmed got no certificate.";
    ApproveHost "An operator let a host have certificates for the keys that it asked for.";
    RejectHost "An operator refused them.";
    CreateEnrolmentToken "An operator made a one-time token for a host.";
    BlockHost "An operator shut a host out.";
    UnblockHost "An operator let a host in again.";
    RemoveHost "An operator had a host and its keys forgotten.";
    ReportHostLogins "A host reported logins; with `errorCode`: certificates of this CA do not explain them all.";
    RevokeCaller "A caller was revoked.";
    UnrevokeCaller "A caller's revocation was ended.";
    Revoke "Certificates, a key, a host or a CA key were revoked.";
    DenyRevocation "A revocation was refused.";
    TakeBackRevocation "An operator took a revocation back.";
    ActivateKey "An operator chose another key to sign user certificates.";
    RetireKey "An operator retired a CA key.";
    InstallRoot "A new root document was put in place.";
    EndorseKey "The user CA's key let a key in memory sign for some hours.";
    JoinFleet "A host's tags select it for a fleet from now on.";
    SignHostView "An operator signed what one host needs to know.";
    ForgetHost "An operator let an enrolled host count as one that never was.";
    PushKeyReported "A client says that it pushed a key by Instance Connect.";
    ReloadPolicy "The policy was read again.";
    StartService "The service started.";
    OrphanFound "A certificate was recorded by a process that ended before saying what came of it.";
}

/// Who acted.
#[derive(Clone, Debug)]
pub enum Actor {
    /// An authenticated caller.
    Caller(Arc<Caller>),
    /// Somebody whose identity was not proven; the access key id is what he claimed.
    Unproven {
        /// As claimed.
        access_key_id: Option<String>,
    },
    /// A host that was shown to be itself.
    Host(Box<HostActor>),
    /// A person at the CA's own machine.
    Operator(Operator),
    /// The service itself.
    Service,
}

/// A host that was shown to be itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostActor {
    /// Which.
    pub instance: InstanceId,
    /// Its account.
    pub account: AccountId,
    /// The role, or role session, that AWS named.
    pub arn: Option<String>,
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
    /// The name, or the user id where there is none.
    #[must_use]
    pub fn label(&self) -> String {
        let name = self.name.clone();
        name.unwrap_or_else(|| format!("uid {}", self.uid))
    }

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

impl Event {
    /// An event that whoever runs this process caused.
    ///
    /// # Errors
    /// [`NoEntropy`]
    pub fn of_operator(name: EventName) -> Result<Self, NoEntropy> {
        let actor = Actor::Operator(Operator::current());
        let request_id = random::request_id()?;
        Ok(Self::new(name, actor, Origin::default(), request_id))
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
