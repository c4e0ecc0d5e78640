//! What is said on the control socket. Both ends are of one version: the first member of a request names it,
//! and an agent of another version makes room for a new one.

use std::net::IpAddr;
use std::path::PathBuf;

use eic_protocol::api::instance::InstanceView;
use eic_protocol::api::session::CallerView;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;
use eic_protocol::subject_key::SubjectKey;
use serde::{Deserialize, Serialize};

use crate::credentials::Selection;
use crate::exit_code::Failure;
use crate::host_cache::Listing;
use crate::host_name::HostName;
use crate::oidc::Tokens;
use crate::transport::Via;
use crate::transport::bastion::Bastion;
use crate::transport::endpoint::{Administration, EndpointId, EndpointStatus};
use crate::transport::order::{Opening, TunnelAsk};
use crate::transport::ssm::{PluginSession, SessionAsk, SessionBy, SessionOpening};
use crate::zone::Zone;

/// This build; the two ends of the socket must be the same one.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`] of the asking program.
    pub version: String,
    /// The folder of the configuration that it goes by: the agent must go by the same one.
    pub config_dir: PathBuf,
    /// What is asked.
    pub ask: Ask,
}

impl Request {
    /// A request of this build.
    #[must_use]
    pub fn new(config_dir: PathBuf, ask: Ask) -> Self {
        Self {
            version: VERSION.to_owned(),
            config_dir,
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
    /// The same for somebody who has just signed in at his issuer: answered by [`Reply::SignedIn`].
    SignInAs(Box<PersonAsk>),
    /// The key that such a sign-in is to be bound to, made for it: answered by [`Reply::PersonKey`].
    PersonKey,
    /// List the hosts anew: answered by [`Reply::Hosts`].
    Hosts(Selection),
    /// Push a key of somebody's own: answered by [`Reply::Pushed`].
    Push(PushAsk),
    /// Tell what a login would do, without doing it: answered by [`Reply::Explained`].
    Explain(ConnectAsk),
    /// Sign the address of a tunnel: answered by [`Reply::Tunnel`].
    Tunnel(TunnelAsk),
    /// List, make or remove endpoints: answered by [`Reply::Endpoints`].
    Endpoints(EndpointsAsk),
    /// Start a session of Session Manager: answered by [`Reply::Session`] or [`Reply::PluginSession`].
    Session(SessionAsk),
    /// What the agent holds: answered by [`Reply::Status`].
    Status,
    /// Forget everything: answered by [`Reply::LoggedOut`].
    Logout,
}

/// Somebody who signed in at his issuer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PersonAsk {
    /// In which environment.
    pub selection: Selection,
    /// What came of it.
    pub tokens: Tokens,
    /// The key of [`Reply::PersonKey`] that it is bound to.
    pub key: SubjectKey,
}

/// A login that ssh is about to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectAsk {
    /// The account.
    pub user: OsUser,
    /// Whether nobody named the account: then it is what this machine's user is called.
    pub default_user: bool,
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
    /// Where no address of EC2's is needed: what is known of the instance without EC2.
    pub given: Option<Given>,
}

/// What the command line says of an instance, beside its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Its zone.
    pub zone: Option<Zone>,
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
        /// What is configured about the way.
        ways: RouteWays,
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
    /// The key for a sign-in that is about to be made.
    PersonKey(SubjectKey),
    /// Who the caller is.
    SignedIn(SignedIn),
    /// The hosts are in the cache.
    Hosts(HostsListed),
    /// The key is pushed.
    Pushed(Pushed),
    /// What a login would do.
    Explained(Box<Explanation>),
    /// The signed address of a tunnel.
    Tunnel(Opening),
    /// The endpoints that it was about.
    Endpoints(Vec<EndpointStatus>),
    /// A session that was started.
    Session(Box<SessionOpening>),
    /// One for AWS's plugin.
    PluginSession(Box<PluginSession>),
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
    /// The agent goes by another configuration.
    OtherConfiguration {
        /// The folder of that one.
        serves: PathBuf,
        /// Whether it ends: ask a new one.
        ends: bool,
    },
}

/// Where a new listing is: [`crate::host_cache`] has no bound on its length, a frame has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostsListed {
    /// What the listing is called in the cache.
    pub source: String,
    /// The listing itself, where it could not be kept.
    pub unkept: Option<Listing>,
    /// Lines for stderr.
    pub notes: Vec<String>,
}

/// A key to push.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PushAsk {
    /// For whom and where.
    pub login: ConnectAsk,
    /// The public key.
    pub key: SubjectKey,
    /// To the serial console, where no account is named, rather than to sshd.
    pub serial_console: bool,
}

/// A key that was pushed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pushed {
    /// Where to.
    pub instance: InstanceId,
    /// The Region, which the serial console's address names.
    pub region: AwsRegion,
    /// AWS's request id.
    pub aws_request_id: String,
    /// Lines for stderr.
    pub notes: Vec<String>,
}

/// What a login would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The host.
    pub host: InstanceView,
    /// Whether the CA told of it, rather than EC2.
    pub told_by_ca: bool,
    /// The CA that is configured.
    pub ca: Option<String>,
    /// Why the CA could not be asked.
    pub ca_absent: Option<String>,
    /// The account that the login would use.
    pub user: OsUser,
    /// Whether that account is the profile's, or among those that tag, image or policy name; none: nobody says.
    pub user_known: Option<bool>,
    /// What happens while the CA answers: nothing is pushed, a key is, or why not.
    pub now: String,
    /// What happens while it does not.
    pub without_ca: String,
    /// How the host's key is judged.
    pub host_key: String,
    /// Lines for stderr.
    pub notes: Vec<String>,
}

/// What is to be done about endpoints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointsAsk {
    /// Whose credentials, and in which Region.
    pub selection: Selection,
    /// What.
    pub what: Administration,
}

/// What the configuration says about the way to a host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RouteWays {
    /// Which way to take.
    pub via: Via,
    /// The bastion for it.
    pub bastion: Option<Bastion>,
    /// The endpoint for it; none: the one that fits.
    pub endpoint: Option<EndpointId>,
    /// Who speaks the data channel of its sessions.
    pub session_by: SessionBy,
    /// Hosts for which the same way is the best: account and Region.
    pub group: String,
    /// Whether it is a machine outside EC2 (`mi-…`).
    pub is_managed: bool,
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
    /// Whether it is renewed without anybody doing anything.
    pub renews: bool,
    /// Hosts that may be reached.
    pub instances: Vec<InstanceView>,
    /// Whether there are more.
    pub truncated: bool,
    /// What the selection is called.
    pub selection: String,
    /// Lines for stderr.
    pub notes: Vec<String>,
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
    /// Why keys may be swapped out; none: their memory is locked.
    pub keys_not_locked: Option<String>,
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
