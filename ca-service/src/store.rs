//! The store: issuance journal, serials, replay claims, revocations, CA key pins, hosts seen, audit.
//!
//! 1. One writer owns the database. What is to be written queues up in front of it, bounded, and is
//!    made durable in groups: one fsync for all that waited (see `sqlite`).
//! 2. An answer leaves the store only after its transaction is durable, so "recorded" means on disk.
//! 3. Each part of the service gets the narrowest handle: issuance an [`IssuanceLog`], authentication
//!    a [`ReplayGuard`] and [`Revocations`], readers a [`Reader`]. Nobody gets the whole.
//! 4. `write::Action` is the seam for another database: a backend is whatever takes actions
//!    from the queue and answers them.
//!
//! It decides nothing about certificates, and it never reads JSON back on the way to an answer.

pub mod error;
pub mod hosts;
pub mod hosts_seen;
pub mod reader;
pub mod replay;
pub mod revocation;
pub mod trust;

mod queue;
mod sqlite;
pub(crate) mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use eic_protocol::instance_id::InstanceId;
use tokio::sync::oneshot;

pub use error::StoreError;
pub use hosts_seen::HostsSeen;
use queue::{Queue, Refused};
pub use reader::Reader;
pub use replay::{ClaimError, ReplayClaim, ReplayGuard};
pub use revocation::{Revocation, Revocations, RevokedCaller};
pub use write::Orphan;
use write::{Action, AuditEntry, IssueEntry, OpenEntry, Outcome, Write};

/// Longest wait for durability. Clients give up after 10 s; a disk that needs longer is broken.
const DEADLINE: Duration = Duration::from_secs(5);
/// Requests that may wait for the writer: at the 3,000 commits/s of a quiet disk some 10 ms of work.
const QUEUE: usize = 2048;

/// Where the store is and how long it may take.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The SQLite file; made with mode 0600 where it is missing.
    pub path: PathBuf,
    /// Longest wait for durability.
    pub deadline: Duration,
    /// Requests that may wait for the writer; more are answered "overloaded".
    pub queue: usize,
}

impl StoreConfig {
    /// The store in this file, with the usual bounds.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            deadline: DEADLINE,
            queue: QUEUE,
        }
    }
}

/// An open store. Dropping it writes what waits and ends the writer.
pub struct Store {
    queue: Arc<Queue>,
    log: Log,
    revocations: Revocations,
    seen: HostsSeen,
    trust: trust::TrustWatch,
    reader: Reader,
    writer: Option<JoinHandle<()>>,
    _lease: Option<sqlite::Lease>,
}

impl Store {
    /// Opens the store for the one service that issues from it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where another service has it open, and what the database says.
    pub fn serve(config: &StoreConfig) -> Result<Self, StoreError> {
        let lease = sqlite::Lease::take(&config.path)?;
        Self::start(config, Some(lease))
    }

    /// Opens the store beside a running service, for one command of an operator.
    ///
    /// # Errors
    /// What the database says.
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        Self::start(config, None)
    }

    fn start(config: &StoreConfig, lease: Option<sqlite::Lease>) -> Result<Self, StoreError> {
        Self::with_database(config, lease, sqlite::Database::open(&config.path)?)
    }

    fn with_database(
        config: &StoreConfig,
        lease: Option<sqlite::Lease>,
        database: sqlite::Database,
    ) -> Result<Self, StoreError> {
        let queue = Arc::new(Queue::new(config.queue));
        let (revocations, seen) = (Revocations::default(), HostsSeen::default());
        let trust = trust::TrustWatch::default();
        let snapshots = sqlite::Snapshots {
            revocations: revocations.clone(),
            seen: seen.clone(),
            trust: trust.clone(),
        };
        let writer = sqlite::Writer::new(database, Arc::clone(&queue), snapshots)?;
        let log = Log {
            queue: Arc::clone(&queue),
            deadline: config.deadline,
        };
        let reader = Reader::new(&config.path);
        Ok(Self {
            queue,
            log,
            revocations,
            seen,
            trust,
            reader,
            writer: Some(writer.spawn(&config.path)?),
            _lease: lease,
        })
    }

    /// For `audit`: what must be durable before a certificate is signed.
    #[must_use]
    pub fn issuance_log(&self) -> IssuanceLog {
        IssuanceLog(self.log.clone())
    }

    /// For `audit`: records that belong to no certificate.
    #[must_use]
    pub fn audit_log(&self) -> AuditLog {
        AuditLog(self.log.clone())
    }

    /// For authentication.
    #[must_use]
    pub fn replay_guard(&self) -> ReplayGuard {
        ReplayGuard::new(self.log.clone())
    }

    /// For authentication and issuance: who is revoked, at most half a second old.
    #[must_use]
    pub fn revocations(&self) -> Revocations {
        self.revocations.clone()
    }

    /// For the inventory: which hosts got a view of this CA, at most half a second old.
    #[must_use]
    pub fn hosts_seen(&self) -> HostsSeen {
        self.seen.clone()
    }

    /// For the start of the service: which keys were used before.
    #[must_use]
    pub fn key_pins(&self) -> KeyPins {
        KeyPins(Pins::Kept(self.log.clone(), self.reader.clone()))
    }

    /// For host views.
    #[must_use]
    pub fn host_register(&self) -> HostRegister {
        HostRegister(self.log.clone())
    }

    /// For the enrolment of hosts.
    #[must_use]
    pub fn host_book(&self) -> hosts::HostBook {
        hosts::HostBook::new(self.log.clone(), self.reader.clone())
    }

    /// For revocation and the trust bundle.
    #[must_use]
    pub fn trust_book(&self) -> trust::TrustBook {
        let (log, reader) = (self.log.clone(), self.reader.clone());
        trust::TrustBook::new(log, reader, self.trust.clone())
    }

    /// For whoever only reads.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Whether the writer runs: for `/readyz`.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.writer.as_ref().is_some_and(|w| !w.is_finished())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing more to say.
            let _ = writer.join();
        }
    }
}

/// Puts actions in the queue and waits for their outcome, with a deadline.
#[derive(Clone)]
pub(crate) struct Log {
    queue: Arc<Queue>,
    deadline: Duration,
}

impl Log {
    async fn write(&self, action: Action) -> Result<Outcome, StoreError> {
        let (reply, outcome) = oneshot::channel();
        self.queue
            .push(Write {
                action,
                reply: Some(reply),
            })
            .map_err(|refused| match refused {
                Refused::Full => StoreError::Overloaded,
                Refused::Closed => StoreError::Closed,
            })?;
        match tokio::time::timeout(self.deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(StoreError::Closed),
            Err(_) => Err(StoreError::Timeout(self.deadline.as_millis())),
        }
    }
}

/// The handle of issuance: one durable transaction per certificate. `audit` alone uses it.
#[derive(Clone)]
pub struct IssuanceLog(Log);

/// Why a certificate was not recorded.
#[derive(Debug)]
pub(crate) enum NotRecorded {
    /// The request was used before.
    Replayed,
    /// The serial is in use: draw again.
    SerialTaken,
    /// The store.
    Store(StoreError),
}

impl IssuanceLog {
    pub(crate) async fn record(&self, entry: IssueEntry) -> Result<OpenEntry, NotRecorded> {
        match self
            .0
            .write(Action::Issue(Box::new(entry)))
            .await
            .map_err(NotRecorded::Store)?
        {
            Outcome::Recorded(open) => Ok(open),
            Outcome::Replayed => Err(NotRecorded::Replayed),
            Outcome::SerialTaken => Err(NotRecorded::SerialTaken),
            _ => Err(NotRecorded::Store(StoreError::Confused)),
        }
    }
}

/// The handle of audit for all that is not a certificate.
#[derive(Clone)]
pub struct AuditLog(Log);

impl AuditLog {
    pub(crate) async fn append(&self, entry: AuditEntry) -> Result<(), StoreError> {
        let claim = None;
        self.0
            .write(Action::Append { claim, entry })
            .await
            .map(drop)
    }

    /// The record and the claim that makes its message count once: both, or neither.
    pub(crate) async fn append_once(
        &self,
        claim: ReplayClaim,
        entry: AuditEntry,
    ) -> Result<(), ClaimError> {
        let claim = Some(claim);
        match self.0.write(Action::Append { claim, entry }).await? {
            Outcome::Done => Ok(()),
            Outcome::Replayed => Err(ClaimError::Replayed),
            _ => Err(StoreError::Confused.into()),
        }
    }

    /// Adds or ends a revocation with its record. `false`: there was none to end.
    pub(crate) async fn revoke(
        &self,
        revocation: Revocation,
        undo: bool,
        entry: AuditEntry,
    ) -> Result<bool, StoreError> {
        match self
            .0
            .write(Action::Revoke {
                revocation,
                undo,
                entry,
            })
            .await?
        {
            Outcome::Done => Ok(true),
            Outcome::Unchanged => Ok(false),
            _ => Err(StoreError::Confused),
        }
    }

    /// Forgets that a host got a view, with its record. `false`: it got none.
    pub(crate) async fn forget_host(
        &self,
        instance: InstanceId,
        entry: AuditEntry,
    ) -> Result<bool, StoreError> {
        match self.0.write(Action::ForgetHost { instance, entry }).await? {
            Outcome::Done => Ok(true),
            Outcome::Unchanged => Ok(false),
            _ => Err(StoreError::Confused),
        }
    }

    /// Names what an earlier process left open.
    pub(crate) async fn reconcile(
        &self,
        describe: fn(&Orphan, u64) -> Option<AuditEntry>,
        now: u64,
    ) -> Result<Vec<Orphan>, StoreError> {
        match self.0.write(Action::Reconcile { describe, now }).await? {
            Outcome::Orphans(orphans) => Ok(orphans),
            _ => Err(StoreError::Confused),
        }
    }
}

/// Which public key goes with a signer's name: the first one seen stays.
#[derive(Clone)]
pub struct KeyPins(Pins);

#[derive(Clone)]
enum Pins {
    Kept(Log, Reader),
    /// Beside a service, or before there was one: nothing is written.
    Read(Reader),
}

impl KeyPins {
    /// The pins of the store in this file, for a look at them; no file: no pins.
    #[must_use]
    pub fn read_only(path: &Path) -> Self {
        Self(Pins::Read(Reader::new(path)))
    }

    /// The key pinned under `name`; `key` where there was none. `now` is in Unix seconds.
    ///
    /// # Errors
    /// The store's.
    pub async fn pin(&self, name: &str, key: &str, now: u64) -> Result<String, StoreError> {
        match &self.0 {
            Pins::Kept(log, _) => Self::keep(log, name, key, now).await,
            Pins::Read(reader) if !reader.is_there() => Ok(key.to_owned()),
            Pins::Read(reader) => Ok(reader.pinned(name)?.unwrap_or_else(|| key.to_owned())),
        }
    }

    /// The key pinned under `name`, where there is one.
    ///
    /// # Errors
    /// The store's.
    pub fn known(&self, name: &str) -> Result<Option<String>, StoreError> {
        match &self.0 {
            Pins::Read(reader) if !reader.is_there() => Ok(None),
            Pins::Kept(_, reader) | Pins::Read(reader) => reader.pinned(name),
        }
    }

    async fn keep(log: &Log, name: &str, key: &str, now: u64) -> Result<String, StoreError> {
        let action = Action::PinKey {
            name: name.to_owned(),
            key: key.to_owned(),
            now,
        };
        match log.write(action).await? {
            Outcome::Pinned(key) => Ok(key),
            _ => Err(StoreError::Confused),
        }
    }
}

/// Hosts that got a view, and the version of their latest.
#[derive(Clone)]
pub struct HostRegister(Log);

impl HostRegister {
    /// The next version of this host's view, from 1. `now` is in Unix seconds.
    ///
    /// # Errors
    /// The store's.
    pub async fn next_view(&self, instance: &InstanceId, now: u64) -> Result<u64, StoreError> {
        match self
            .0
            .write(Action::NextView {
                instance: instance.clone(),
                now,
            })
            .await?
        {
            Outcome::Version(version) => Ok(version),
            _ => Err(StoreError::Confused),
        }
    }
}

#[cfg(test)]
mod tests;
