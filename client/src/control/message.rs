//! What is said on the control socket. Both ends are of one version: the first member of a request names it,
//! and an agent of another version makes room for a new one.

use std::net::IpAddr;
use std::path::PathBuf;

use eic_protocol::api::instance::InstanceView;
use eic_protocol::api::session::CallerView;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;
use serde::{Deserialize, Serialize};

use crate::credentials::Selection;
use crate::exit_code::Failure;
use crate::host_name::HostName;

/// This build; the two ends of the socket must be the same one.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`] of the asking program.
    pub version: String,
    /// What is asked.
    pub ask: Ask,
}

impl Request {
    /// A request of this build.
    #[must_use]
    pub fn new(ask: Ask) -> Self {
        Self {
            version: VERSION.to_owned(),
            ask,
        }
    }
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Open one login: answered by [`Reply::Route`], then [`Reply::Ready`].
    Connect(ConnectAsk),
    /// Which host keys are good for a login: answered by [`Reply::KnownHost`].
    HostKey(HostKeyAsk),
    /// Prove the identity: answered by [`Reply::SignedIn`].
    SignIn(Selection),
    /// What the agent holds: answered by [`Reply::Status`].
    Status,
    /// Forget everything: answered by [`Reply::LoggedOut`].
    Logout,
}

/// A login that ssh is about to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectAsk {
    /// The account.
    pub user: OsUser,
    /// The host as typed.
    pub host: HostName,
    /// The port that ssh was given.
    pub port: u16,
    /// The ssh process, where known.
    pub ssh_pid: Option<u32>,
    /// The user's own agent, for `-A`.
    pub user_agent: Option<PathBuf>,
    /// Whose credentials.
    pub selection: Selection,
}

/// A host key that ssh was shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostKeyAsk {
    /// The login; it is opened now where `connect` did not do it (`ssh -J`).
    pub login: ConnectAsk,
    /// The key in base64; none while ssh orders its algorithms.
    pub key: Option<String>,
}

/// One answer.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Where to connect; the certificate is on its way.
    Route {
        /// The host that the name was resolved to.
        instance: InstanceId,
        /// Addresses to try, in order.
        addresses: Vec<IpAddr>,
        /// Port of sshd.
        port: u16,
    },
    /// The login's socket is open.
    Ready {
        /// Lines for stderr.
        notes: Vec<String>,
    },
    /// Host keys that may be trusted for the login.
    KnownHost {
        /// `type base64` each.
        keys: Vec<String>,
        /// Lines for stderr.
        notes: Vec<String>,
    },
    /// Who the caller is.
    SignedIn(SignedIn),
    /// What the agent holds.
    Status(Status),
    /// All is forgotten.
    LoggedOut {
        /// How many sessions there were.
        sessions: usize,
    },
    /// It did not work.
    Failed(Failure),
    /// The agent is of another version and ends: ask a new one.
    OtherVersion,
}

/// After [`Reply::Route`]: none of the addresses answered, so a remembered route is forgotten.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotReached;

/// Who the CA (or AWS) says the caller is, and what he may reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignedIn {
    /// The CA; none: Instance Connect only.
    pub ca: Option<String>,
    /// Who the CA says it is.
    pub caller: Option<CallerView>,
    /// When the session ends, in Unix seconds.
    pub expires_at: Option<u64>,
    /// Hosts that may be reached.
    pub instances: Vec<InstanceView>,
    /// Whether there are more.
    pub truncated: bool,
    /// What the selection is called.
    pub selection: String,
}

/// What the resident agent holds: no secret among it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Its process.
    pub pid: u32,
    /// Sessions.
    pub sessions: Vec<SessionStatus>,
    /// Certificates that are still good.
    pub certificates: Vec<CertificateStatus>,
    /// Names of open login sockets.
    pub logins: Vec<String>,
    /// Pushes that the CA has not been told of yet.
    pub unsent_events: usize,
}

/// One session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The CA.
    pub ca: String,
    /// What the selection is called.
    pub selection: String,
    /// Who the CA says it is.
    pub caller: CallerView,
    /// When it ends, in Unix seconds.
    pub expires_at: u64,
    /// `SHA256:…` of the session's key.
    pub key: String,
}

/// One certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Its principal.
    pub principal: String,
    /// Its serial.
    pub serial: u64,
    /// When it ends, in Unix seconds.
    pub valid_before: u64,
}
