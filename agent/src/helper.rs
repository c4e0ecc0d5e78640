//! `eic-agent helper`: the one part of the service that is root. It has a closed list of verbs, serves root and
//! the service's account only, and believes neither: documents are verified here again from the pinned keys on,
//! what is signed is built here, which session ends is found here.
//!
//! One request a connection. systemd starts it with the connection as standard input
//! (`eic-agent-helper.socket`); elsewhere `--listen` makes it wait for connections itself. Behind a second door
//! (`logins`) it runs chained commands of other users for sshd's command, and does nothing else.

mod console;
mod host_certificate;
mod host_key;
mod host_report;
mod installation;
pub mod logins;
mod peer;
mod reload;
pub mod request;
mod revocations;
pub mod session;
mod staged;
mod ways_in;
pub(crate) mod wire;

use std::error::Error;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::clock::{ClockBeforeEpoch, unix_seconds};
use crate::config::{Config, InvalidConfig};
use crate::passwd::{self, Account};
use crate::trust_state::Identity;
use crate::trust_store::{self, StoreError};
use crate::trusted_file::{Trusted, UntrustedFile};
pub(crate) use installation::FILES;
use request::{Answer, Request};

/// The host that the helper works on.
#[derive(Debug)]
pub(crate) struct Host {
    config: Config,
    trusted: Trusted,
    identity: Identity,
    passwd: PathBuf,
    proc_folder: PathBuf,
    ssh_keygen: PathBuf,
}

impl Host {
    /// This host, as its configuration says.
    fn this(config: Option<&Path>) -> Result<Self, InvalidConfig> {
        let trusted = Trusted::system();
        Ok(Self {
            config: Config::load(config, &trusted)?,
            trusted,
            identity: Identity::this(),
            passwd: PathBuf::from("/etc/passwd"),
            proc_folder: PathBuf::from("/proc"),
            ssh_keygen: PathBuf::from("/usr/bin/ssh-keygen"),
        })
    }

    fn accounts(&self) -> Result<Vec<Account>, UntrustedFile> {
        passwd::read(&self.passwd, &self.trusted)
    }

    fn state(&self, now: u64) -> Result<eic_protocol::trust::state::TrustState, StoreError> {
        trust_store::load(&self.config.trust, &self.trusted, &self.identity, now)
    }
}

/// Serves the connection that is standard input.
///
/// # Errors
/// [`HelperError`]: not root, not a socket, a stranger, the peer is gone. What a verb refuses is an answer.
pub fn serve_standard_input(config: Option<&Path>) -> Result<(), HelperError> {
    demand_root()?;
    let host = Host::this(config)?;
    // Close-on-exec: what the helper starts has no business with the service.
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned();
    let descriptor = descriptor.map_err(HelperError::Socket)?;
    serve(&UnixStream::from(descriptor), &host)
}

/// Waits for connections at `socket` and serves them one after the other, until it is ended.
///
/// # Errors
/// [`HelperError`]: not root, or the socket cannot be made.
pub fn listen(config: Option<&Path>, socket: &Path) -> Result<(), HelperError> {
    demand_root()?;
    // A wrong configuration is told at once, not at the first request.
    Host::this(config)?;
    let listener = bind(socket).map_err(HelperError::Socket)?;
    loop {
        let outcome = listener
            .accept()
            .map_err(HelperError::Socket)
            // Read anew for each: the administrator may have changed it.
            .and_then(|(stream, _)| serve(&stream, &Host::this(config)?));
        if let Err(e) = outcome {
            crate::commands::complain(&e);
        }
    }
}

/// Everybody may connect; who is served is decided by the peer's uid.
fn bind(socket: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

fn demand_root() -> Result<(), HelperError> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(HelperError::NotRoot)
    }
}

fn serve(stream: &UnixStream, host: &Host) -> Result<(), HelperError> {
    let served = peer::Served {
        user: &host.config.service.user,
        setting: "user",
    };
    peer::check(stream, served, &host.accounts()?)?;
    let request: Request = wire::receive(stream, wire::REQUEST_WAIT).map_err(HelperError::Talk)?;
    let answer = answer(request, host)?;
    wire::send(stream, &answer).map_err(HelperError::Talk)
}

/// One line for each verb: the whole list.
fn answer(request: Request, host: &Host) -> Result<Answer, HelperError> {
    let now = unix_seconds()?;
    Ok(match request {
        Request::InstallTrust(offer) => told(installation::install(&offer, host, now)),
        Request::Repair {} => told(installation::repair(host, now)),
        Request::HostKeys {} => told(host_certificate::keys(host).map(Answer::HostKeys)),
        Request::SignHostRequest(request) => {
            told(host_certificate::sign(&request, host, now).map(Answer::Signatures))
        }
        Request::AllHostKeys {} => told(host_certificate::all_keys(host).map(Answer::HostKeys)),
        Request::SignHostKeys(request) => {
            told(host_certificate::sign_keys(&request, host, now).map(Answer::Signatures))
        }
        Request::InstallHostCertificate { certificate } => {
            told(host_certificate::install(&certificate, host, now))
        }
        Request::WriteConsole { challenge, all } => told(console::write(&challenge, all, host)),
        Request::SignReport(draft) => told(host_report::sign(*draft, host, now)),
        Request::EndRevokedSessions {} => told(end_revoked_sessions(host)),
    })
}

fn told<E: Error>(outcome: Result<Answer, E>) -> Answer {
    outcome.unwrap_or_else(|e| Answer::Refused { reason: chain(&e) })
}

/// The whole chain of causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    format!("failed to {}", crate::commands::chain(error))
}

fn end_revoked_sessions(host: &Host) -> Result<Answer, NotEnded> {
    if !host.config.service.end_revoked_sessions {
        return Err(NotEnded::Off);
    }
    let krl = trust_store::installed_list(&host.config.trust.state, &host.trusted);
    let krl = krl.ok_or(NotEnded::NoList)?;
    let log = &host.config.service.login_log;
    let ended = session::end_revoked(log, &krl, &host.proc_folder)?;
    Ok(Answer::Ended(ended))
}

/// Why no session was looked for.
#[derive(Debug, thiserror::Error)]
enum NotEnded {
    #[error("end sessions: `[service] end_revoked_sessions` is off")]
    Off,
    #[error("end sessions: there is no revocation list")]
    NoList,
    #[error(transparent)]
    Log(#[from] crate::run::login_log::NoLog),
}

/// Why the helper did not serve.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// Not root.
    #[error("help the service: this must run as root")]
    NotRoot,
    /// Commands of other users would share it.
    #[error("serve logins from a terminal: start this by systemd or setsid(1)")]
    Terminal,
    /// The configuration.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The clock.
    #[error(transparent)]
    Clock(#[from] ClockBeforeEpoch),
    /// A file.
    #[error(transparent)]
    File(#[from] UntrustedFile),
    /// The socket.
    #[error("use the helper's socket")]
    Socket(#[source] std::io::Error),
    /// The peer.
    #[error(transparent)]
    Stranger(#[from] peer::Stranger),
    /// The conversation.
    #[error("talk to the service")]
    Talk(#[source] std::io::Error),
}
