//! The sockets of logins that are being made: `DIR/<user>@<host>`, the one that ssh's `IdentityAgent` names.
//!
//! A socket offers its logins' identities for two minutes. After that its name leads to the user's own agent,
//! where there is one, so that `ssh -A` goes on working without any part of ours; else it is gone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eic_protocol::api::instance::InstanceView;
use eic_protocol::os_user::OsUser;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::settings::Setting;
use super::{LoginError, lock};
use crate::clock::unix_now;
use crate::control::message::ConnectAsk;
use crate::control::run_folder::{self, is_socket};
use crate::credentials::Selection;
use crate::files;
use crate::host_name::HostName;
use crate::ssh_agent::conversation::{Conversation, Login, Step};
use crate::ssh_agent::lock::AgentLock;
use crate::ssh_agent::message;

/// Longest path of a Unix socket, without its end (unix(7): `sun_path` has 108 bytes).
pub(super) const MAX_SOCKET_PATH: usize = 107;
/// How long a connection may be silent before ssh and the socket part. A person may be asked for a PIN meanwhile.
const SILENCE: Duration = Duration::from_secs(120);
/// Pause after an accept that failed.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most connections to all login sockets at a time, forwarded ones included.
const MAX_CONNECTIONS: usize = 256;

/// One login.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) ask: Arc<ConnectAsk>,
    pub(super) setting: Arc<Setting>,
    pub(super) view: InstanceView,
    /// The credentials with which AWS is asked about the host.
    pub(super) with: Selection,
    pub(super) login: Arc<Login>,
}

#[derive(Debug)]
pub(super) struct LoginBoard {
    run_dir: PathBuf,
    sockets: Mutex<HashMap<String, Socket>>,
    connections: Arc<Semaphore>,
}

#[derive(Debug)]
struct Socket {
    entries: Arc<Mutex<Vec<Entry>>>,
    listener: JoinHandle<()>,
}

impl LoginBoard {
    pub(super) fn new(run_dir: PathBuf) -> Self {
        Self {
            run_dir,
            sockets: Mutex::default(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        }
    }

    /// Removes what an agent that was killed left behind. Links to users' own agents stay: `ssh -A` sessions use them.
    pub(super) fn clean_up(&self) {
        let left = run_folder::login_entries(&self.run_dir);
        for path in left.iter().filter(|path| run_folder::is_dead(path)) {
            let _ = std::fs::remove_file(path);
        }
        for folder in run_folder::login_folders(&self.run_dir) {
            // Refused by the system where a link of a session that goes on is left in it.
            let _ = std::fs::remove_dir(folder);
        }
        let of_exec = run_folder::exec_folders(&self.run_dir);
        for folder in of_exec.iter().filter(|folder| is_deserted(folder)) {
            let _ = std::fs::remove_file(folder.join(super::shared::SOCKET));
            let _ = std::fs::remove_dir(folder);
        }
    }

    /// Opens the login's socket, or adds the login to the one of that name.
    pub(super) fn open(&self, entry: Entry) -> Result<(), LoginError> {
        let name = socket_name(&entry.ask.user, &entry.ask.host);
        let path = self.run_dir.join(&name);
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(LoginError::SocketName(name));
        }
        let mut sockets = lock(&self.sockets);
        if let Some(socket) = sockets.get(&name).filter(|_| is_socket(&path)) {
            socket.add(entry);
            return Ok(());
        }
        let listener = self.bind(&path)?;
        // A socket whose file somebody removed: its logins go on under the new one.
        let lost = sockets.remove(&name);
        let entries = lost.map(Socket::into_entries).unwrap_or_default();
        let serving = tokio::spawn(serve(
            listener,
            Arc::clone(&entries),
            self.run_dir.clone(),
            Arc::clone(&self.connections),
        ));
        let socket = Socket {
            entries,
            listener: serving,
        };
        socket.add(entry);
        sockets.insert(name, socket);
        Ok(())
    }

    /// Bound under another name and moved into place: whatever had the name before is replaced in one step.
    fn bind(&self, path: &Path) -> Result<UnixListener, LoginError> {
        // `user@place/name` has a folder of its own.
        if let Some(folder) = path.parent().filter(|folder| *folder != self.run_dir) {
            files::private_dir(folder)?;
        }
        let temporary = self.run_dir.join(format!(".{}", files::random_name()?));
        let listener = UnixListener::bind(&temporary).map_err(LoginError::Socket)?;
        std::fs::rename(&temporary, path).map_err(LoginError::Socket)?;
        Ok(listener)
    }

    /// The logins that a host key may be for: those of the asking ssh process to that user, host and port.
    pub(super) fn find(&self, ask: &ConnectAsk) -> Vec<Entry> {
        let sockets = lock(&self.sockets);
        let Some(socket) = sockets.get(&socket_name(&ask.user, &ask.host)) else {
            return Vec::new();
        };
        let now = unix_now();
        let open = lock(&socket.entries)
            .iter()
            .filter(|e| e.login.is_open(now) && e.ask.port == ask.port)
            .cloned()
            .collect();
        of_process(open, ask.ssh_pid)
    }

    /// Closes what is over.
    pub(super) fn sweep(&self, now: u64) {
        lock(&self.sockets).retain(|name, socket| {
            let mut entries = lock(&socket.entries);
            if entries.iter().any(|entry| entry.login.is_open(now)) {
                return true;
            }
            socket.listener.abort();
            let own_agent = entries
                .iter()
                .rev()
                .find_map(|entry| own_agent(entry, &self.run_dir));
            entries.clear();
            retire(&self.run_dir, name, own_agent.as_deref());
            false
        });
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        for (name, socket) in lock(&self.sockets).drain() {
            socket.listener.abort();
            lock(&socket.entries).clear();
            retire(&self.run_dir, &name, None);
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = lock(&self.sockets).keys().cloned().collect();
        names.sort();
        names
    }

    /// Whether a login is being made, or a connection goes on.
    pub(super) fn is_busy(&self) -> bool {
        !lock(&self.sockets).is_empty() || self.connections.available_permits() < MAX_CONNECTIONS
    }
}

impl Socket {
    fn add(&self, entry: Entry) {
        let mut entries = lock(&self.entries);
        let now = unix_now();
        entries.retain(|other| other.login.is_open(now));
        entries.push(entry);
    }

    fn into_entries(self) -> Arc<Mutex<Vec<Entry>>> {
        self.listener.abort();
        self.entries
    }
}

fn socket_name(user: &OsUser, host: &HostName) -> String {
    format!("{user}@{host}")
}

/// The folder of an `eic-login exec` that was killed: nobody answers in it.
fn is_deserted(folder: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(folder.join(super::shared::SOCKET)).is_err()
}

/// Puts a link to the user's own agent in the socket's place, or nothing.
fn retire(run_dir: &Path, name: &str, own_agent: Option<&Path>) {
    let path = run_dir.join(name);
    let linked = own_agent.and_then(|agent| {
        let temporary = run_dir.join(format!(".{}", files::random_name().ok()?));
        std::os::unix::fs::symlink(agent, &temporary).ok()?;
        std::fs::rename(&temporary, &path).ok()
    });
    if linked.is_none() {
        let _ = std::fs::remove_file(&path);
        if let Some(folder) = path.parent().filter(|folder| *folder != run_dir) {
            // Refused by the system while another login's socket is in it.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// The agent that `connect` named, unless that is one of our own sockets (ssh started by ssh).
fn own_agent(entry: &Entry, run_dir: &Path) -> Option<PathBuf> {
    let agent = entry.ask.user_agent.clone()?;
    (agent.is_absolute() && !agent.starts_with(run_dir)).then_some(agent)
}

/// The logins of the asking process, and those whose process is not known. Another ssh's login is not offered, even
/// to the same host: it may be another identity's (H-14), and a connection that ssh's child forwards has none at all.
fn of_process(entries: Vec<Entry>, pid: Option<u32>) -> Vec<Entry> {
    let may_be = |entry: &Entry| match (entry.ask.ssh_pid, pid) {
        (Some(own), Some(asking)) => own == asking,
        _ => true,
    };
    entries.into_iter().filter(may_be).collect()
}

async fn serve(
    listener: UnixListener,
    entries: Arc<Mutex<Vec<Entry>>>,
    run_dir: PathBuf,
    connections: Arc<Semaphore>,
) {
    let socket_lock = Arc::new(AgentLock::default());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: they come back when connections end.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            continue;
        };
        let Some(pid) = peer(&stream) else { continue };
        let all = lock(&entries).clone();
        let own_agent = all.iter().rev().find_map(|e| own_agent(e, &run_dir));
        let mine = of_process(all, pid);
        let socket_lock = Arc::clone(&socket_lock);
        tokio::spawn(async move {
            // A broken connection is ssh's business.
            let _ = talk(stream, &mine, socket_lock, own_agent).await;
            drop(permit);
        });
    }
}

/// The peer's process, where the peer is the same user. Others cannot reach the folder; this is the second lock.
pub(super) fn peer(stream: &UnixStream) -> Option<Option<u32>> {
    let credentials = stream.peer_cred().ok()?;
    let same = credentials.uid() == rustix::process::geteuid().as_raw();
    same.then(|| u32::try_from(credentials.pid()?).ok())
}

async fn talk(
    mut stream: UnixStream,
    entries: &[Entry],
    socket_lock: Arc<AgentLock>,
    own_agent: Option<PathBuf>,
) -> std::io::Result<()> {
    let logins = entries.iter().map(|entry| Arc::clone(&entry.login));
    let mut conversation = Conversation::new(logins.collect(), socket_lock);
    loop {
        let next = tokio::time::timeout(SILENCE, message::read(&mut stream)).await;
        let Some(request) = next.map_err(|_| std::io::ErrorKind::TimedOut)?? else {
            return Ok(());
        };
        // It may hold a passphrase.
        let request = Zeroizing::new(request);
        match conversation.step(&request, unix_now()) {
            Step::Answer(answer) => message::write(&mut stream, &answer, SILENCE).await?,
            Step::AnswerAfter(pause, answer) => {
                tokio::time::sleep(pause).await;
                message::write(&mut stream, &answer, SILENCE).await?;
            }
            Step::Forward => return forward(stream, own_agent, &request).await,
        }
    }
}

/// The rest of the connection belongs to the user's own agent; without one it ends.
async fn forward(
    mut stream: UnixStream,
    agent: Option<PathBuf>,
    request: &[u8],
) -> std::io::Result<()> {
    let Some(agent) = agent else {
        return stream.write_all(&message::failure()).await;
    };
    let mut agent = UnixStream::connect(agent).await?;
    agent.write_all(&message::framed(request)).await?;
    copy_bidirectional(&mut stream, &mut agent)
        .await
        .map(|_| ())
}

#[cfg(test)]
mod tests;
