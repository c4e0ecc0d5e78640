//! A detached process that carries one tunnel: it holds one end of a socket pair, the other end is ssh's. It is
//! told what to open on that very socket, answers there, and from then on the socket carries the bytes.
//! It never sees credentials: whoever starts it has asked the resident agent for one signed address already.

use std::ffi::OsString;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;
use tokio_rustls::client::TlsStream;

use super::hand_over::Pipes;
use super::order::{Opening, TunnelAsk};
use super::pump::{self, BEAT};
use super::race::Canceller;
use super::slots::{self, SlotError};
use super::ssm::{self, Session, SessionAsk, SessionError, SessionOpening};
use super::websocket::{self, Socket, UpgradeError};
use crate::cause::Cause;
use crate::control::client::Agent;
use crate::control::frame;
use crate::control::message::{Ask, Reply};
use crate::exit_code::{self, Failure};
use crate::terminal;

/// How long the order may take to arrive: its sender wrote it before it started us.
const ORDER: Duration = Duration::from_secs(10);
/// How long opening may take in all: a place 20 s, TCP 30 s, the websocket 15 s, a session's handshake 20 s.
const OPEN: Duration = Duration::from_secs(90);
/// How long a full endpoint is waited for. A signed address is good for 60 s.
const PLACE: Duration = Duration::from_secs(20);
/// What the process keeps of the environment: folders, the proxy and the roots of TLS. No `AWS_*`.
const KEPT: [&str; 18] = [
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "LANG",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TMPDIR",
    "XDG_CACHE_HOME",
];

/// What somebody wants to be opened, and with whose credentials.
#[derive(Debug)]
pub enum Wish {
    /// A tunnel through an EC2 Instance Connect Endpoint.
    Endpoint(TunnelAsk),
    /// A session of Session Manager.
    Session(SessionAsk),
}

/// What the process is told to open.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// Where places at endpoints are kept.
    run_dir: PathBuf,
    /// The tunnel.
    cargo: Cargo,
}

/// Signed addresses: each is good for a minute and for one destination.
#[derive(Debug, Serialize, Deserialize)]
enum Cargo {
    /// Of an EC2 Instance Connect Endpoint.
    Endpoint(Opening),
    /// Of Session Manager.
    Session(SessionOpening),
}

impl Order {
    /// Has the resident agent sign; the credentials of the wish go no further.
    ///
    /// # Errors
    /// A [`Failure`] of the agent, or what kept it from being asked.
    pub fn of(run_dir: PathBuf, wish: Wish) -> Result<Self, Failure> {
        let ask = match wish {
            Wish::Endpoint(ask) => Ask::Tunnel(ask),
            Wish::Session(ask) => Ask::Session(ask),
        };
        let cargo = match Agent::new(&run_dir)?.ask(ask)?.1 {
            Reply::Tunnel(opening) => Cargo::Endpoint(opening),
            Reply::Session(opening) => Cargo::Session(*opening),
            Reply::Failed(failure) => return Err(failure),
            _ => return Err(unexpected()),
        };
        Ok(Self { run_dir, cargo })
    }
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    /// Bytes follow.
    Up { notes: Vec<String> },
    /// Nothing follows.
    Failed(Failure),
}

/// Starts a carrier and waits until its tunnel is up.
///
/// # Errors
/// Its [`Failure`], or what kept it from starting.
pub fn open(order: &Order, canceller: &Canceller) -> Result<(UnixStream, Vec<String>), Failure> {
    let broken = |e: io::Error| Failure::of(&e).context("cannot start the tunnel's process");
    let (mut ours, theirs) = UnixStream::pair().map_err(broken)?;
    ours.set_read_timeout(Some(OPEN)).map_err(broken)?;
    ours.set_write_timeout(Some(ORDER)).map_err(broken)?;
    frame::write(&mut ours, order).map_err(broken)?;
    let child = Command::new(std::env::current_exe().map_err(broken)?)
        .arg("carry")
        .env_clear()
        .envs(kept_environment())
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .map_err(broken)?;
    canceller.watch(child);
    let notes = reported(&mut ours, canceller)?;
    ours.set_read_timeout(None).map_err(broken)?;
    ours.set_write_timeout(None).map_err(broken)?;
    Ok((ours, notes))
}

/// What a process that carries a tunnel keeps of the environment.
pub(super) fn kept_environment() -> impl Iterator<Item = (&'static str, OsString)> {
    let kept = KEPT.into_iter();
    kept.filter_map(|name| Some((name, std::env::var_os(name)?)))
}

/// Waits for the process's word. One that gives none is killed: nobody would take its tunnel any more, and it
/// would keep a place at the endpoint.
fn reported(socket: &mut UnixStream, canceller: &Canceller) -> Result<Vec<String>, Failure> {
    let report = frame::read(socket);
    match report {
        Err(_) => canceller.cancel(),
        Ok(_) => canceller.release(),
    }
    match report {
        Ok(Report::Up { notes }) => Ok(notes),
        Ok(Report::Failed(failure)) => Err(failure),
        Err(e) => Err(Failure::of(&e).context("the tunnel's process gave no answer")),
    }
}

/// What the process does. Returns when the tunnel is over.
///
/// # Errors
/// A [`Failure`] where stdin is no such socket; what fails later is told on it or on stderr.
pub fn carry() -> Result<(), Failure> {
    // A signal for ssh's process group is not for the tunnel: it ends with its socket.
    let _ = rustix::process::setsid();
    crate::key::protect_memory().map_err(|e| Failure::of(&e))?;
    let (mut socket, order) = order().map_err(|_| {
        Failure::usage("`carry` is started by `eic-login connect` and does nothing by itself")
    })?;
    let runtime = runtime()?;
    let carried = match order.cargo {
        Cargo::Endpoint(opening) => match enter(&runtime, &order.run_dir, opening) {
            Ok(open) if up(&mut socket, &open.notes) => carry_to(&runtime, open, socket),
            Ok(_) => Ok(()),
            Err(failure) => return down(&mut socket, failure),
        },
        Cargo::Session(opening) => match open_session(&runtime, &opening) {
            Ok(open) if up(&mut socket, &[]) => carry_session(&runtime, open, socket),
            Ok(_) => Ok(()),
            Err(failure) => return down(&mut socket, failure),
        },
    };
    if let Err(failure) = carried {
        // The reason for ssh's own "Connection closed".
        terminal::note(&failure.message);
    }
    Ok(())
}

/// What fails before the tunnel is up is told to whoever asked.
fn down(socket: &mut UnixStream, failure: Failure) -> Result<(), Failure> {
    let _ = frame::write(socket, &Report::Failed(failure));
    Ok(())
}

/// Whether anybody still wants it: he may have taken another way meanwhile.
fn up(socket: &mut UnixStream, notes: &[String]) -> bool {
    let notes = notes.to_vec();
    frame::write(socket, &Report::Up { notes }).is_ok()
}

fn order() -> io::Result<(UnixStream, Order)> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_read_timeout(Some(ORDER))?;
    let order = frame::read(&mut socket)?;
    socket.set_read_timeout(None)?;
    Ok((socket, order))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|e| Failure::of(&e))
}

/// An open tunnel and its place at the endpoint.
#[derive(Debug)]
pub struct Open {
    socket: Socket,
    notes: Vec<String>,
    _slot: slots::Slot,
}

/// Opens a tunnel: asks the resident agent for a signed address, takes a place, and connects.
///
/// # Errors
/// A [`Failure`] that says which of these did not work.
pub fn open_endpoint(
    runtime: &tokio::runtime::Runtime,
    run_dir: &Path,
    ask: TunnelAsk,
) -> Result<Open, Failure> {
    let order = Order::of(run_dir.to_owned(), Wish::Endpoint(ask))?;
    match order.cargo {
        Cargo::Endpoint(opening) => enter(runtime, run_dir, opening),
        Cargo::Session(_) => Err(unexpected()),
    }
}

fn unexpected() -> Failure {
    Failure::new(
        exit_code::FAILURE,
        "the resident agent gave an unexpected answer",
    )
}

/// Takes a place at the endpoint, and connects.
fn enter(
    runtime: &tokio::runtime::Runtime,
    run_dir: &Path,
    opening: Opening,
) -> Result<Open, Failure> {
    let slot = slots::take(run_dir, &opening.endpoint, PLACE)?;
    let socket = connect(runtime, &opening).map_err(|e| {
        Failure::from(e).context(&format!("no tunnel through {}", opening.endpoint))
    })?;
    Ok(Open {
        socket,
        notes: opening.notes,
        _slot: slot,
    })
}

fn connect(runtime: &tokio::runtime::Runtime, opening: &Opening) -> Result<Socket, UpgradeError> {
    let host = opening.host.as_str();
    let tcp = websocket::dial(host, opening.proxy.as_ref())?;
    runtime.block_on(websocket::upgrade(tcp, host, opening.path.reveal(), &[]))
}

/// Opens a session that was started: this process speaks its data channel.
fn open_session(
    runtime: &tokio::runtime::Runtime,
    opening: &SessionOpening,
) -> Result<Session<TlsStream<tokio::net::TcpStream>>, Failure> {
    let host = opening.host.as_str();
    let connected = websocket::dial(host, opening.proxy.as_ref()).and_then(|tcp| {
        let path = opening.path.reveal();
        runtime.block_on(websocket::upgrade(tcp, host, path, &opening.headers))
    });
    let socket = connected.map_err(|e| Failure::from(e).context("no session"))?;
    let opened = runtime.block_on(async {
        ssm::open(socket.into_messages().await, &opening.token, now_in_ms()).await
    });
    opened.map_err(session_failure)
}

fn session_failure(error: SessionError) -> Failure {
    let failure = Failure::new(exit_code::UNREACHABLE, error.to_string());
    if error.is_the_plugins() {
        failure.because(Cause::SessionPlugin)
    } else {
        failure
    }
}

fn now_in_ms() -> u64 {
    crate::clock::unix_now().saturating_mul(1000)
}

/// Pumps an open tunnel to a local connection until one side ends.
///
/// # Errors
/// A [`Failure`] with the service's reason where it ended the tunnel.
pub fn carry_to<L: Local>(
    runtime: &tokio::runtime::Runtime,
    open: Open,
    local: L,
) -> Result<(), Failure> {
    runtime.block_on(async { pumped(open, local.into_async()?).await })
}

fn carry_session(
    runtime: &tokio::runtime::Runtime,
    session: Session<TlsStream<tokio::net::TcpStream>>,
    socket: UnixStream,
) -> Result<(), Failure> {
    runtime.block_on(async {
        let pumped = session.pump(socket.into_async()?).await;
        pumped.map_err(session_failure)
    })
}

/// A connection on this machine that a tunnel is pumped to.
pub trait Local {
    /// What the runtime waits for.
    type Async: AsyncRead + AsyncWrite;

    /// The same connection for the runtime, within which this is called.
    ///
    /// # Errors
    /// The system's error.
    fn into_async(self) -> Result<Self::Async, Failure>;
}

impl Local for UnixStream {
    type Async = tokio::net::UnixStream;

    fn into_async(self) -> Result<Self::Async, Failure> {
        let ready = self.set_nonblocking(true);
        let stream = ready.and_then(|()| tokio::net::UnixStream::from_std(self));
        stream.map_err(|e| Failure::of(&e))
    }
}

impl Local for TcpStream {
    type Async = tokio::net::TcpStream;

    fn into_async(self) -> Result<Self::Async, Failure> {
        let ready = self.set_nonblocking(true);
        let stream = ready.and_then(|()| tokio::net::TcpStream::from_std(self));
        stream.map_err(|e| Failure::of(&e))
    }
}

impl Local for Pipes {
    type Async = tokio::io::Join<pipe::Receiver, pipe::Sender>;

    fn into_async(self) -> Result<Self::Async, Failure> {
        let reader = pipe::Receiver::from_owned_fd(self.stdin).map_err(|e| Failure::of(&e))?;
        let writer = pipe::Sender::from_owned_fd(self.stdout).map_err(|e| Failure::of(&e))?;
        Ok(tokio::io::join(reader, writer))
    }
}

/// The place at the endpoint is kept until the end.
async fn pumped(open: Open, local: impl AsyncRead + AsyncWrite) -> Result<(), Failure> {
    let Open { socket, _slot, .. } = open;
    pump::pump(socket, local, BEAT)
        .await
        .map_err(|e| Failure::new(exit_code::UNREACHABLE, e.to_string()))
}

impl Open {
    /// Lines for stderr.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl From<SlotError> for Failure {
    fn from(error: SlotError) -> Self {
        Self::new(exit_code::UNREACHABLE, error.to_string())
    }
}

impl From<UpgradeError> for Failure {
    fn from(error: UpgradeError) -> Self {
        let code = match error {
            UpgradeError::Tls(_) => exit_code::UNTRUSTED,
            UpgradeError::Refused {
                status: 400..=499, ..
            } => exit_code::DENIED,
            _ => exit_code::UNREACHABLE,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::socket_path;
    use crate::credentials::Selection;
    use std::os::unix::net::UnixListener;

    /// An agent that answers one request so.
    fn agent(run_dir: &Path, reply: Reply) {
        crate::files::private_dir(run_dir).unwrap();
        let listener = UnixListener::bind(socket_path(run_dir)).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let asked: serde_json::Value = frame::read(&mut stream).unwrap();
            assert!(asked.to_string().contains("canary"), "the agent needs them");
            frame::write(&mut stream, &reply).unwrap();
        });
    }

    #[test]
    fn no_credentials_are_in_what_the_process_is_told() {
        // H-14
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let opening: SessionOpening = serde_json::from_value(serde_json::json!({
            "id": "s-1", "host": "ssmmessages.eu-west-1.amazonaws.com", "path": "/signed", "headers": [], "token": "t",
        }))
        .unwrap();
        agent(&run_dir, Reply::Session(Box::new(opening)));
        let secret = ("AWS_SECRET_ACCESS_KEY".to_owned(), "canary".to_owned());
        let ask = SessionAsk {
            selection: Selection::from_variables([secret]),
            host: "i-01234567".parse().unwrap(),
            port: 22,
            by_plugin: false,
        };
        let order = Order::of(run_dir, Wish::Session(ask)).unwrap();
        let told = serde_json::to_string(&order).unwrap();
        assert!(
            told.contains("/signed") && !told.contains("canary"),
            "{told}"
        );
    }

    #[test]
    fn a_process_that_gives_no_answer_is_killed() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let child = Command::new("sleep")
            .arg("60")
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .unwrap();
        let pid = child.id();
        let canceller = Canceller::default();
        canceller.watch(child);
        let failure = reported(&mut ours, &canceller).unwrap_err();
        assert!(failure.message.contains("no answer"), "{failure:?}");
        // Killed and waited for: gone from the process table.
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
