//! Where AWS's tunnels begin and end: the web proxy by which a lab's clients reach names of AWS (they do not resolve
//! here), and behind it an EC2 Instance Connect Endpoint and Session Manager's websocket with the agent that answers
//! there. Each checks what AWS checks before it opens a tunnel to a real host of the lab, within AWS's quotas.
//!
//! Not judged: IAM policy of `ec2-instance-connect:OpenTunnel`. moto judges that of the calls before it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use crate::error::{Context, Result};
use crate::room::{Room, write};
use crate::standin::{Shared, Standin, locked};

mod door;
pub(crate) mod endpoint;
mod frame;
mod message;
pub(crate) mod session;
mod signature;

/// The proxy in the control room.
const PROXY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 4567);

/// Connections that an endpoint takes (Amazon VPC quotas; not adjustable).
pub const ENDPOINT_QUOTA: usize = 20;

/// The tunnels of a lab. Dropping it ends them.
#[derive(Debug)]
pub struct Tunnels {
    shared: Arc<Shared>,
    roots: PathBuf,
    server: AbortHandle,
}

/// What the tunnels have seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelsSeen {
    /// Open now, through the endpoint or by Session Manager.
    pub open: usize,
    /// Most that the endpoint had open at once.
    pub most_open: usize,
    /// Opened through the endpoint.
    pub through_endpoint: usize,
    /// Opened by Session Manager.
    pub by_session: usize,
    /// StartSession calls that came too fast.
    pub throttled: usize,
    /// Pings of quiet clients.
    pub pings: usize,
    /// Why tunnels were refused.
    pub refused: Vec<String>,
}

/// What the front and the tunnels know together.
#[derive(Debug, Default)]
pub(crate) struct State(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    seen: TunnelsSeen,
    /// Places at the endpoint that are taken by the lab's clients.
    places: usize,
    /// Places that other people have.
    others: usize,
    /// How long a tunnel may be silent before something on the way forgets it.
    quiet: Option<Duration>,
    /// Sessions that were started and whose websocket has not come yet, by its path.
    waiting: HashMap<String, session::Waiting>,
    /// How many sessions may still be started, and when that was so.
    starts: Option<(f64, Instant)>,
}

impl Tunnels {
    pub(crate) fn start(standin: &Standin, control: &Room, lab: &Path) -> Result<Tunnels> {
        let roots = lab.join("tunnel-roots.pem");
        let (tls, authority) = door::tls()?;
        write(&roots, &authority, 0o644)?;
        let listener = control
            .in_network(|| TcpListener::bind(PROXY))?
            .context(|| "listen for tunnels")?;
        let shared = Arc::clone(&standin.shared);
        let server = standin
            .runtime
            .accept(listener, move |stream| {
                door::open(stream, tls.clone(), Arc::clone(&shared))
            })
            .context(|| "listen for tunnels")?;
        let shared = Arc::clone(&standin.shared);
        Ok(Tunnels {
            shared,
            roots,
            server,
        })
    }

    /// The variables with which a program of the lab finds the tunnels and trusts them.
    pub fn env(&self) -> [(&'static str, String); 3] {
        [
            ("HTTPS_PROXY", format!("http://{}", SocketAddr::from(PROXY))),
            ("NO_PROXY", "localhost,127.0.0.0/8".to_owned()),
            ("SSL_CERT_FILE", self.roots.display().to_string()),
        ]
    }

    /// What they have seen so far.
    pub fn seen(&self) -> TunnelsSeen {
        self.record(|record| record.seen.clone())
    }

    /// Other people take or leave places at the endpoint: so many of its 20 are theirs from now on.
    pub fn occupy(&self, places: usize) {
        self.record(|record| record.others = places);
    }

    /// From now on something on the way forgets a tunnel that was silent for so long, as network devices do.
    pub fn forget_quiet_ones(&self, after: Duration) {
        self.record(|record| record.quiet = Some(after));
    }

    fn record<T>(&self, work: impl FnOnce(&mut Record) -> T) -> T {
        self.shared.tunnels.with(work)
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    fn with<T>(&self, work: impl FnOnce(&mut Record) -> T) -> T {
        work(&mut locked(&self.0))
    }
}
