//! The socket of `eic-login exec`: identities of several targets or of fleets, renewed when they are asked for,
//! for one command and gone with it. The asking process is the whole agent: its keys end with it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use eic_protocol::api::certificate::CertificateScope;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};

use zeroize::Zeroizing;

use super::login_board::{ACCEPT_PAUSE, MAX_SOCKET_PATH, peer};
use super::{LoginError, Resident, lock};
use crate::control::message::ConnectAsk;
use crate::control::run_folder;
use crate::credentials::Selection;
use crate::files;
use crate::key::KeyType;
use crate::ssh_agent::conversation::Step;
use crate::ssh_agent::lock::AgentLock;
use crate::ssh_agent::message;
use crate::ssh_agent::shared::{Identity, SharedConversation, Withdrawal};
use crate::terminal;

/// The socket's name in its folder.
pub(super) const SOCKET: &str = "agent.sock";
/// Most connections at a time: Ansible with 100 forks, twice.
const MAX_CONNECTIONS: usize = 256;
/// Most processes that are remembered; then those that have ended are forgotten.
const MAX_PROCESSES: usize = 4_096;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(600);
/// How long a command that is over waits for the CA to hear of its pushes; then they go on waiting in the queue.
const REPORT: Duration = Duration::from_secs(5);
/// A pushed key is pushed anew where it is older: it lives for 60 s. Seconds.
const PUSHED_FOR: u64 = 40;

/// What the command shall reach.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// One account on one host.
    Target(Box<ConnectAsk>),
    /// An account on every host of a fleet.
    Fleet(CertificateScope, Selection),
}

impl Wanted {
    /// As it was asked for.
    fn name(&self) -> String {
        match self {
            Self::Target(ask) => format!("{}@{}", ask.user, ask.host),
            Self::Fleet(scope, _) => scope.principal().to_string(),
        }
    }
}

/// The socket and what it offers.
#[derive(Debug)]
pub struct SharedSocket {
    resident: Arc<Resident>,
    held: Mutex<Vec<Held>>,
    lock: Arc<AgentLock>,
    own_agent: Option<PathBuf>,
    folder: PathBuf,
    /// What was told of renewals that failed: tools ask before each of their logins.
    told: std::sync::Mutex<HashSet<String>>,
    /// Those of ssh before 8.9.
    logged_in: std::sync::Mutex<HashSet<SshProcess>>,
}

/// A process whose program is called `ssh`, and when it began, since numbers of processes come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SshProcess {
    pid: u32,
    begun: u64,
}

impl SshProcess {
    /// proc(5): `/proc/PID/stat` is `PID (NAME) STATE …`, its 22nd field the beginning.
    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (before, after) = stat.rsplit_once(") ")?;
        let (_, name) = before.split_once(" (")?;
        let begun = after.split(' ').nth(19)?.parse().ok()?;
        (name == "ssh").then_some(Self { pid, begun })
    }
}

#[derive(Debug)]
struct Held {
    wanted: Wanted,
    identity: Option<Identity>,
    withdrawal: Withdrawal,
    /// When its key was pushed, in Unix seconds.
    pushed_at: Option<u64>,
    /// Under which credentials and kind of key it was pushed.
    pushed_with: Option<(Selection, KeyType)>,
}

impl SharedSocket {
    /// Gets everything that is wanted once, and opens the socket in a folder of its own under `run_dir`. The second
    /// value are lines for stderr.
    ///
    /// # Errors
    /// [`LoginError`] of the first identity that cannot be had: a command that can reach half of its hosts is worse
    /// than none.
    pub async fn open(
        resident: Arc<Resident>,
        run_dir: &Path,
        wanted: Vec<Wanted>,
        own_agent: Option<PathBuf>,
    ) -> Result<(Arc<Self>, Vec<String>), LoginError> {
        run_folder::make(run_dir)?;
        let folder = run_dir.join(format!("exec-{}", files::random_name()?));
        let socket = Arc::new(Self {
            resident,
            held: Mutex::new(wanted.into_iter().map(Held::new).collect()),
            lock: Arc::default(),
            own_agent,
            folder,
            told: std::sync::Mutex::default(),
            logged_in: std::sync::Mutex::default(),
        });
        let notes = socket.get_all().await?;
        let path = socket.path();
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(LoginError::SocketName(path.display().to_string()));
        }
        files::private_dir(&socket.folder)?;
        let listener = UnixListener::bind(&path).map_err(LoginError::Socket)?;
        tokio::spawn(Arc::clone(&socket).serve(listener));
        Ok((socket, notes))
    }

    /// For `SSH_AUTH_SOCK`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }

    /// Tells the CA of the pushes that were made for this command: no other process may ever run as the same person.
    pub async fn report(&self) {
        let telling = async {
            let Ok(setting) = self.resident.settings.current() else {
                return;
            };
            let Some(ca) = &setting.ca else { return };
            for (with, kind) in self.pushers().await {
                self.resident.send_events(ca, &with, kind).await;
            }
        };
        // What was not told stays in the queue.
        let _ = tokio::time::timeout(REPORT, telling).await;
    }

    /// Copies: the command is waiting for its identities while the CA is told.
    async fn pushers(&self) -> Vec<(Selection, KeyType)> {
        let held = self.held.lock().await;
        held.iter().filter_map(|h| h.pushed_with.clone()).collect()
    }

    /// Removes the socket; connections that are open end with the process.
    pub fn close(&self) {
        let _ = std::fs::remove_file(self.path());
        let _ = std::fs::remove_dir(&self.folder);
    }

    async fn serve(self: Arc<Self>, listener: UnixListener) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
                return;
            };
            let Some(pid) = peer(&stream) else { continue };
            let ssh = pid.and_then(SshProcess::of);
            let socket = Arc::clone(&self);
            tokio::spawn(async move {
                // A broken connection is the tool's business.
                let _ = socket.talk(stream, ssh).await;
                drop(permit);
            });
        }
    }

    async fn talk(&self, mut stream: UnixStream, ssh: Option<SshProcess>) -> std::io::Result<()> {
        let is_after_login = ssh.is_some_and(|ssh| lock(&self.logged_in).contains(&ssh));
        let mut conversation = SharedConversation::new(Arc::clone(&self.lock), is_after_login);
        loop {
            let next = tokio::time::timeout(SILENCE, message::read(&mut stream)).await;
            let Some(request) = next.map_err(|_| std::io::ErrorKind::TimedOut)?? else {
                return Ok(());
            };
            // It may hold a passphrase.
            let request = Zeroizing::new(request);
            if request.first() == Some(&message::REQUEST_IDENTITIES) {
                let failed = self.renew().await;
                failed.iter().for_each(|line| terminal::note(line));
            }
            let identities = self.identities().await;
            let step = conversation.step(&request, &identities);
            if let Some(ssh) = ssh.filter(|_| conversation.has_signed_unbound()) {
                // Before the signature leaves: the host that gets it may ask at once.
                self.remember(ssh);
            }
            match step {
                Step::Answer(answer) => message::write(&mut stream, &answer, SILENCE).await?,
                Step::AnswerAfter(pause, answer) => {
                    tokio::time::sleep(pause).await;
                    message::write(&mut stream, &answer, SILENCE).await?;
                }
                Step::Forward => return self.forward(stream, &request).await,
            }
        }
    }

    fn remember(&self, ssh: SshProcess) {
        let mut logged_in = lock(&self.logged_in);
        if logged_in.len() >= MAX_PROCESSES {
            logged_in.retain(|known| SshProcess::of(known.pid) == Some(*known));
        }
        logged_in.insert(ssh);
    }

    async fn forward(&self, mut stream: UnixStream, request: &[u8]) -> std::io::Result<()> {
        let Some(agent) = &self.own_agent else {
            return stream.write_all(&message::failure()).await;
        };
        let mut agent = UnixStream::connect(agent).await?;
        agent.write_all(&message::framed(request)).await?;
        copy_bidirectional(&mut stream, &mut agent)
            .await
            .map(|_| ())
    }

    async fn identities(&self) -> Vec<Identity> {
        let held = self.held.lock().await;
        held.iter().filter_map(|h| h.identity.clone()).collect()
    }

    /// All or nothing; returns lines for stderr.
    async fn get_all(&self) -> Result<Vec<String>, LoginError> {
        let mut notes = Vec::new();
        for held in self.held.lock().await.iter_mut() {
            notes.extend(self.renew_one(held).await?);
        }
        Ok(notes)
    }

    /// One renewal at a time; certificates that are still good are kept ones. What cannot be renewed now keeps no other
    /// from it, and is offered as it is: it may still be good, and the host decides. Returns what was not told before.
    async fn renew(&self) -> Vec<String> {
        let mut news = Vec::new();
        for held in self.held.lock().await.iter_mut() {
            let Err(error) = self.renew_one(held).await else {
                continue;
            };
            let line = format!("{} cannot be renewed: {error}", held.wanted.name());
            if lock(&self.told).insert(line.clone()) {
                news.push(line);
            }
        }
        news
    }

    async fn renew_one(&self, held: &mut Held) -> Result<Vec<String>, LoginError> {
        let now = self.resident.now();
        if held.withdrawal.is_final() {
            return Ok(Vec::new());
        }
        if held
            .pushed_at
            .is_some_and(|at| now.saturating_sub(at) < PUSHED_FOR)
        {
            return Ok(Vec::new());
        }
        match &held.wanted {
            Wanted::Fleet(scope, selection) => {
                let withdrawal = held.withdrawal.clone();
                let identity = self.resident.of_fleet(scope, selection).await?;
                held.identity = Some(Identity {
                    withdrawal,
                    ..identity
                });
                Ok(Vec::new())
            }
            Wanted::Target(ask) => {
                let begun = self.resident.begin((**ask).clone()).await?;
                let kind = begun.profile.key_type;
                let prepared = self.resident.prepare(begun).await?;
                held.pushed_at = prepared.is_pushed.then_some(now);
                if prepared.is_pushed {
                    held.pushed_with = Some((prepared.target.with.clone(), kind));
                }
                held.identity = Some(Identity {
                    user: ask.user.clone(),
                    key: prepared.key,
                    offered: prepared.offered,
                    withdrawal: held.withdrawal.clone(),
                });
                Ok(prepared.notes)
            }
        }
    }
}

impl Held {
    fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            identity: None,
            withdrawal: Withdrawal::default(),
            pushed_at: None,
            pushed_with: None,
        }
    }
}

impl Drop for SharedSocket {
    fn drop(&mut self) {
        self.close();
    }
}

impl Resident {
    async fn of_fleet(
        &self,
        scope: &CertificateScope,
        selection: &Selection,
    ) -> Result<Identity, LoginError> {
        let setting = self.settings.current()?;
        let ca = setting.ca.as_ref().ok_or(LoginError::NoCa)?;
        let principal = scope.principal().to_string();
        let profile = setting.config.profile(&principal);
        let selection = selection.clone().filtered();
        let issued = self.certificate_of(ca, &selection, scope, &profile).await?;
        Ok(Identity {
            user: scope.os_user().clone(),
            key: Arc::clone(&issued.key),
            offered: vec![(issued.blob.clone(), format!("{principal} certificate"))],
            withdrawal: Withdrawal::default(),
        })
    }
}

#[cfg(test)]
mod tests;
