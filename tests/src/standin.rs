//! Our own stand-in for what moto lacks, in front of it: Instance Connect with a memory, instance metadata, Ed25519
//! keys in KMS, console output, stale dates, and faults on demand.
//!
//! It runs inside the test's process, on a thread in the control room's network. Every request that it does not know
//! goes to moto unchanged, and moto judges signature and IAM policy of those that it does know, too. Not judged by
//! anyone here: IAM `Condition`s (moto ignores them) and resource-level permissions of Instance Connect.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::aws::{Call, Credentials, Moto};
use crate::clock::Clock;
use crate::error::{Context, Result};
use crate::exchange::exchange;
use crate::room::Room;

mod answer;
mod console;
mod fault;
mod front;
mod instance_connect;
pub mod issuer;
pub(crate) mod key_service;
mod metadata;
mod prepared;
mod runtime;
mod signed_request;
mod tunnels;

pub use fault::{Fault, Faults, Times};
pub use instance_connect::PushedKey;
pub use metadata::{Metadata, MetadataFault};
pub(crate) use runtime::Runtime;
pub use tunnels::{ENDPOINT_QUOTA, Tunnels, TunnelsSeen};

/// Where clients of the lab find AWS: `AWS_ENDPOINT_URL` is `http://` and this.
const ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 4566);

/// The stand-in and its thread.
#[derive(Debug)]
pub struct Standin {
    pub(crate) shared: Arc<Shared>,
    pub(crate) runtime: Runtime,
}

/// What the front and all metadata services know together.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Arc<Clock>,
    pub(crate) faults: Faults,
    /// An administrator's key of each account, for the look-ups that the stand-in makes itself.
    administrators: Mutex<HashMap<String, Credentials>>,
    /// Who owns which access key: learned from the answers that made them.
    callers: Mutex<HashMap<String, Caller>>,
    /// The same keys themselves, for the signatures that moto never sees.
    handed_out: Mutex<HashMap<String, Credentials>>,
    pub(crate) tunnels: tunnels::State,
    expired: Mutex<HashSet<String>>,
    pushed: Mutex<Vec<PushedKey>>,
    ed25519: Mutex<BTreeMap<String, ed25519_dalek::SigningKey>>,
    console: Mutex<HashMap<String, String>>,
    seen: Mutex<Vec<SeenRequest>>,
}

/// The owner of an access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) arn: String,
    pub(crate) account: String,
}

/// One request that reached the front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRequest {
    /// `service:Action`.
    pub action: String,
    /// Who signed it, if anyone.
    pub access_key_id: String,
    /// The Host header.
    pub host: String,
    /// The status of the answer.
    pub status: u16,
}

impl Standin {
    /// Starts the front in the control room. moto must be there.
    pub(crate) fn start(control: &Room, clock: Arc<Clock>) -> Result<Standin> {
        let shared = Arc::new(Shared {
            clock,
            faults: Faults::default(),
            administrators: Mutex::default(),
            callers: Mutex::default(),
            handed_out: Mutex::default(),
            tunnels: tunnels::State::default(),
            expired: Mutex::default(),
            pushed: Mutex::default(),
            ed25519: Mutex::default(),
            console: Mutex::default(),
            seen: Mutex::default(),
        });
        let runtime = Runtime::start(control)?;
        let listener = control
            .in_network(|| std::net::TcpListener::bind(ADDRESS))?
            .context(|| "listen for AWS calls")?;
        runtime.serve(listener, front::router(Arc::clone(&shared)))?;
        Ok(Standin { shared, runtime })
    }

    /// Where it listens in the control room.
    pub(crate) fn address() -> SocketAddr {
        ADDRESS.into()
    }

    /// Faults to come.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Every request so far, oldest first.
    pub fn requests(&self) -> Vec<SeenRequest> {
        locked(&self.shared.seen).clone()
    }

    /// Lets AWS say from now on that this session has expired.
    pub fn expire(&self, credentials: &Credentials) {
        locked(&self.shared.expired).insert(credentials.access_key_id.clone());
    }

    /// Sets what `ec2:GetConsoleOutput` says of an instance.
    pub fn set_console(&self, instance_id: &str, text: &str) {
        locked(&self.shared.console).insert(instance_id.to_owned(), text.to_owned());
    }

    /// The keys that an instance's metadata holds for a user now.
    pub fn pushed_keys(&self, instance_id: &str, user: &str) -> Vec<PushedKey> {
        self.shared.active_keys(instance_id, user)
    }

    /// Puts a key into an instance's metadata without any API call.
    pub fn push(&self, key: PushedKey) {
        locked(&self.shared.pushed).push(key);
    }

    pub(crate) fn add_administrator(&self, account: &str, credentials: Credentials) {
        let caller = Caller {
            arn: format!("arn:aws:iam::{account}:user/lab-administrator"),
            account: account.to_owned(),
        };
        locked(&self.shared.callers).insert(credentials.access_key_id.clone(), caller);
        locked(&self.shared.administrators).insert(account.to_owned(), credentials);
    }

    /// The administrator of an account.
    pub(crate) fn administrator(&self, account: &str) -> Result<Credentials> {
        self.shared.administrator(account)
    }
}

impl Shared {
    fn administrator(&self, account: &str) -> Result<Credentials> {
        let administrators = locked(&self.administrators);
        administrators.get(account).cloned().context(|| {
            format!(
                "find the account {account}: the lab has {:?}",
                administrators.keys()
            )
        })
    }

    fn caller(&self, access_key_id: &str) -> Option<Caller> {
        locked(&self.callers).get(access_key_id).cloned()
    }

    /// A call to moto as an account's administrator.
    async fn ask(&self, account: &str, call: &Call) -> Result<String> {
        let request = call.signed(
            Moto::address(),
            &self.administrator(account)?,
            self.clock.now(),
        )?;
        call.accepted(exchange(Moto::address(), request).await?)
    }
}

/// A lock whose holder panicked still guards usable data here.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
