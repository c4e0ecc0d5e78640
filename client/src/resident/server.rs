//! The control socket's serving end: one agent per folder, one request per connection, an end when nobody asks.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};

use super::Resident;
use super::login_board::{ACCEPT_PAUSE, peer};
use crate::clock::unix_now;
use crate::control::message::{Ask, Reply, VERSION};
use crate::control::{frame, lock_path, run_folder, socket_path};
use crate::exit_code::{self, Failure};
use crate::files::{self, FileError};

/// A request must arrive within this.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// How long a conversation may take in all: [`crate::control::client`] gives up at 100 s, TCP at 17 s.
const CONVERSATION_DEADLINE: Duration = Duration::from_secs(130);
/// Most conversations at a time: an Ansible run with 100 forks and their host keys.
const MAX_CONVERSATIONS: usize = 512;
/// How long an agent that was started for a socket waits for the one before it to end.
const SUCCESSION: Duration = Duration::from_secs(10);
/// How often sockets that are over are closed.
const SWEEP: Duration = Duration::from_secs(5);

/// Serves until it is told to end, or nobody asked for `idle` and no sign-in would be lost: on `inherited`, or on a socket of its own.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    resident: Arc<Resident>,
    run_dir: &Path,
    inherited: Option<std::os::unix::net::UnixListener>,
    idle: Duration,
) -> Result<(), ServeError> {
    run_folder::make(run_dir)?;
    // Whoever passed the socket starts nobody else: one that is just ending still has the lock.
    let patience = inherited.as_ref().map_or(Duration::ZERO, |_| SUCCESSION);
    let _lock = lock_within(run_dir, patience).await?;
    resident.logins.clean_up();
    let (listener, own) = match inherited {
        Some(listener) => (
            UnixListener::from_std(listener).map_err(ServeError::Socket)?,
            None,
        ),
        None => (bind(run_dir)?, identity(&socket_path(run_dir))),
    };
    let server = Arc::new(Server {
        resident,
        end: Notify::new(),
        is_activated: own.is_none(),
        conversations: Arc::new(Semaphore::new(MAX_CONVERSATIONS)),
    });
    let ended = server.run(&listener, idle).await;
    server.resident.forget_all();
    // One that systemd opened at the same place meanwhile stays.
    if own.is_some() && identity(&socket_path(run_dir)) == own {
        let _ = std::fs::remove_file(socket_path(run_dir));
    }
    ended
}

/// Which file this is.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

struct Server {
    resident: Arc<Resident>,
    end: Notify,
    /// Whether somebody else holds its socket, and starts it again with the same environment.
    is_activated: bool,
    conversations: Arc<Semaphore>,
}

/// The part of a request that every version has.
#[derive(Deserialize)]
struct RawRequest {
    version: String,
    config_dir: Option<PathBuf>,
    ask: Box<RawValue>,
}

impl Server {
    async fn run(
        self: &Arc<Self>,
        listener: &UnixListener,
        idle: Duration,
    ) -> Result<(), ServeError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Socket)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Socket)?;
        let mut sweep = tokio::time::interval(SWEEP.min(idle));
        let mut last = Instant::now();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    last = Instant::now();
                    match accepted {
                        Ok((stream, _)) => self.accept(stream),
                        // Out of descriptors: they come back when conversations end.
                        Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                    }
                }
                _ = sweep.tick() => {
                    self.resident.logins.sweep(unix_now());
                    if self.is_idle(0) && last.elapsed() >= idle {
                        return Ok(());
                    }
                }
                () = self.end.notified() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
            }
        }
    }

    /// Whether nothing would be lost with it; `conversations` are those that are over with their answer.
    fn is_idle(&self, conversations: usize) -> bool {
        let others = self.conversations.available_permits() + conversations < MAX_CONVERSATIONS;
        // Who signed in with a browser for half a day does not do so again because of a quiet hour.
        !self.resident.logins.is_busy() && !self.resident.people.is_waiting(unix_now()) && !others
    }

    fn accept(self: &Arc<Self>, stream: UnixStream) {
        let Ok(permit) = Arc::clone(&self.conversations).try_acquire_owned() else {
            return;
        };
        if peer(&stream).is_none() {
            return;
        }
        let server = Arc::clone(self);
        tokio::spawn(async move {
            // A peer that went away needs no answer.
            let _ = tokio::time::timeout(CONVERSATION_DEADLINE, server.converse(stream)).await;
            drop(permit);
        });
    }

    async fn converse(&self, mut stream: UnixStream) -> io::Result<()> {
        let request = tokio::time::timeout(
            REQUEST_DEADLINE,
            frame::read_async::<RawRequest>(&mut stream),
        );
        let request = request.await.map_err(|_| io::ErrorKind::TimedOut)??;
        if request.version != VERSION {
            frame::write_async(&mut stream, &Reply::OtherVersion).await?;
            self.end.notify_one();
            return Ok(());
        }
        let ask = serde_json::from_str(request.ask.get());
        let reply = match ask {
            Err(e) => Some(Reply::Failed(Failure::new(
                exit_code::USAGE,
                format!("the request is malformed: {e}"),
            ))),
            Ok(ask) => match self.other_configuration(request.config_dir.as_deref(), &ask) {
                Some(reply) => Some(reply),
                None => self.answer(ask, &mut stream).await,
            },
        };
        let ends = matches!(reply, Some(Reply::OtherConfiguration { ends: true, .. }));
        match reply {
            Some(reply) => frame::write_async(&mut stream, &reply).await?,
            None => return Ok(()),
        }
        if ends {
            self.end.notify_one();
        }
        Ok(())
    }

    /// For a caller who goes by another configuration: his logins must not follow this one, which may know no CA that
    /// hears of pushes (D22). The agent makes room, unless somebody needs it; anybody may end it.
    fn other_configuration(&self, theirs: Option<&Path>, ask: &Ask) -> Option<Reply> {
        let ours = &self.resident.settings.paths().config_dir;
        if matches!(ask, Ask::Logout) || theirs.is_some_and(|theirs| is_same_folder(theirs, ours)) {
            return None;
        }
        // Asking for the status changes nothing.
        let is_needed = matches!(ask, Ask::Status) || self.is_activated || !self.is_idle(1);
        Some(Reply::OtherConfiguration {
            serves: ours.clone(),
            ends: !is_needed,
        })
    }

    /// The answer that is still to be sent.
    async fn answer(&self, ask: Ask, stream: &mut UnixStream) -> Option<Reply> {
        let resident = &self.resident;
        let result = match ask {
            Ask::Connect(ask) => {
                return resident
                    .connect(ask, stream)
                    .await
                    .err()
                    .map(|e| Reply::Failed(e.into()));
            }
            Ask::HostKey(ask) => resident.host_key(ask).await,
            Ask::SignIn(selection) => resident.sign_in(selection).await.map(Reply::SignedIn),
            Ask::SignInAs(ask) => resident.sign_in_as(*ask).await.map(Reply::SignedIn),
            Ask::PersonKey => resident.person_key().map(Reply::PersonKey),
            Ask::Hosts(selection) => resident.hosts(selection).await.map(Reply::Hosts),
            Ask::Push(ask) => resident.push_by_hand(ask).await.map(Reply::Pushed),
            Ask::Explain(ask) => {
                let explained = resident.explain(ask).await;
                explained.map(|told| Reply::Explained(Box::new(told)))
            }
            Ask::Tunnel(ask) => resident.tunnel(ask).await,
            Ask::Endpoints(ask) => resident.endpoints(ask).await,
            Ask::Session(ask) => resident.start_session(ask).await,
            Ask::Status => Ok(Reply::Status(resident.status())),
            Ask::Logout => {
                let reply = Reply::LoggedOut {
                    sessions: resident.forget_all(),
                };
                let _ = frame::write_async(stream, &reply).await;
                // The process ends after its answer: no memory outlives a logout.
                self.end.notify_one();
                return None;
            }
        };
        Some(result.unwrap_or_else(|error| Reply::Failed(error.into())))
    }
}

/// By whatever links they are reached.
fn is_same_folder(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    one == other || real(one).is_some_and(|one| real(other) == Some(one))
}

async fn lock_within(run_dir: &Path, patience: Duration) -> Result<OwnedFd, ServeError> {
    let until = Instant::now() + patience;
    loop {
        match lock(run_dir) {
            Err(ServeError::Running) if Instant::now() < until => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            other => return other,
        }
    }
}

fn lock(run_dir: &Path) -> Result<OwnedFd, ServeError> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(lock_path(run_dir), flags, Mode::RUSR | Mode::WUSR);
    let file = file.map_err(|e| ServeError::Socket(e.into()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ServeError::Running),
        Err(e) => Err(ServeError::Socket(e.into())),
    }
}

/// Only the holder of the lock comes here: a socket file that is there is a dead agent's.
fn bind(run_dir: &Path) -> Result<UnixListener, ServeError> {
    let path = socket_path(run_dir);
    files::remove(&path)?;
    let listener = UnixListener::bind(&path).map_err(ServeError::Socket)?;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&path, mode).map_err(ServeError::Socket)?;
    Ok(listener)
}

/// The agent cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another one does.
    #[error(
        "a resident agent is running already: `eic-login status` shows it, `eic-login logout` ends it"
    )]
    Running,
    /// The folder or the socket's file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The socket.
    #[error("cannot serve the control socket: {0}")]
    Socket(io::Error),
}

#[cfg(test)]
mod tests;
