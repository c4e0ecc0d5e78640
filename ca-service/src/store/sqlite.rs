//! SQLite as the store: WAL, synchronous FULL, one writer thread, group commit.
//!
//! The writer takes all that waits (up to [`GROUP`]), writes it in one transaction, and answers each
//! when that is durable. Where the transaction fails, all of it is undone and each is refused.

mod apply;
mod recent_claims;
mod schema;

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use recent_claims::RecentClaims;

use super::error::StoreError;
use super::hosts_seen::HostsSeen;
use super::queue::Queue;
use super::revocation::Revocations;
use super::trust::TrustWatch;
use super::write::{OpenEntry, Outcome, Write};
use crate::fault;

/// Most actions of one transaction: more adds latency, not throughput (one fsync is shared by all).
const GROUP: usize = 64;
/// How often the writer looks for what another process changed.
const POLL: Duration = Duration::from_millis(250);
/// How long to wait for another process's transaction (an operator's command: milliseconds).
const BUSY: Duration = Duration::from_secs(2);

/// The right to be the one service on a database: a lock that ends with the process.
pub(super) struct Lease {
    _file: File,
}

impl Lease {
    pub(super) fn take(database: &Path) -> Result<Self, StoreError> {
        make_folder(database)?;
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let file = private_file(&path)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse(path)),
            Err(errno) => Err(StoreError::File {
                path,
                cause: Arc::new(errno.into()),
            }),
        }
    }
}

/// Made with its mode, so that it is never readable by others, not even for a moment.
fn private_file(path: &Path) -> Result<File, StoreError> {
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path);
    opened.map_err(|cause| StoreError::File {
        path: path.to_owned(),
        cause: Arc::new(cause),
    })
}

fn make_folder(database: &Path) -> Result<(), StoreError> {
    let folder = database.parent().filter(|f| !f.as_os_str().is_empty());
    let made = folder.map_or(Ok(()), |f| {
        DirBuilder::new().recursive(true).mode(0o700).create(f)
    });
    made.map_err(|cause| StoreError::File {
        path: database.to_owned(),
        cause: Arc::new(cause),
    })
}

/// The writer's connection, with the schema in place.
pub(super) struct Database {
    connection: Connection,
    writer: String,
}

impl Database {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        make_folder(path)?;
        drop(private_file(path)?);
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        configure(&connection)?;
        let writer = schema::migrate(&mut connection)?;
        Ok(Self { connection, writer })
    }

    /// Journal mode, and the number of `synchronous` (2: FULL).
    #[cfg(test)]
    pub(super) fn durability(&self) -> (String, i64) {
        let text = |name| {
            self.connection
                .pragma_query_value(None, name, |row| row.get(0))
                .unwrap()
        };
        (
            text("journal_mode"),
            self.connection
                .pragma_query_value(None, "synchronous", |row| row.get(0))
                .unwrap(),
        )
    }

    /// As a disk that has no room for more than these pages beyond what is there.
    #[cfg(test)]
    pub(super) fn fill_disk(&self, room: i64) {
        let pages: i64 = self
            .connection
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap();
        self.connection
            .pragma_update(None, "max_page_count", pages + room)
            .unwrap();
    }
}

fn configure(connection: &Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    // FULL: the WAL is synced at each commit. NORMAL would lose the last commits at a power cut.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // KiB; the service's resident memory is meant to stay under 48 MiB.
    connection.pragma_update(None, "cache_size", -8192)?;
    // Pages. Small and often: with 2,000 and more, the slowest in a hundred commits took twice as long.
    connection.pragma_update(None, "wal_autocheckpoint", 1000)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// What the service keeps in memory of the database: its own changes show at once, those of other
/// processes within [`POLL`].
pub(super) struct Snapshots {
    pub(super) revocations: Revocations,
    pub(super) seen: HostsSeen,
    pub(super) trust: TrustWatch,
}

/// The thread that owns the connection.
pub(super) struct Writer {
    database: Database,
    queue: Arc<Queue>,
    snapshots: Snapshots,
    recent: RecentClaims,
    seen_version: i64,
    polled: Instant,
    pruned: Instant,
}

impl Writer {
    pub(super) fn new(
        database: Database,
        queue: Arc<Queue>,
        snapshots: Snapshots,
    ) -> Result<Self, StoreError> {
        let now = Instant::now();
        let writer = Self {
            database,
            queue,
            snapshots,
            recent: RecentClaims::default(),
            seen_version: 0,
            polled: now,
            pruned: now,
        };
        // Before the first answer: a service that starts must not forget who is revoked.
        writer.load_snapshots()?;
        Ok(writer)
    }

    pub(super) fn spawn(self, path: &Path) -> Result<JoinHandle<()>, StoreError> {
        let spawned = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || self.run());
        spawned.map_err(|cause| StoreError::File {
            path: path.to_owned(),
            cause: Arc::new(cause),
        })
    }

    fn run(mut self) {
        // However this thread ends, nobody may queue up behind it.
        let _close = CloseOnDrop(Arc::clone(&self.queue));
        while let Some(batch) = self.queue.take(GROUP, POLL) {
            if self.polled.elapsed() >= POLL {
                self.poll();
            }
            if !batch.is_empty() {
                self.write(batch);
            }
        }
    }

    /// Writes a batch and answers it: after the commit, never before.
    fn write(&mut self, batch: Vec<Write>) {
        let wanted: Vec<Write> = batch.into_iter().filter(Write::is_wanted).collect();
        if wanted.is_empty() {
            return;
        }
        match self.commit(&wanted) {
            Ok(outcomes) => self.answer(wanted, outcomes),
            Err(error) => self.refuse(wanted, &error),
        }
    }

    /// New work is refused. What completes earlier work waits for better times: else certificates
    /// that were issued would be taken for orphans.
    fn refuse(&self, batch: Vec<Write>, error: &StoreError) {
        tracing::error!(%error, actions = batch.len(), "a transaction failed; nothing of it was written");
        let (new, completions): (Vec<Write>, Vec<Write>) =
            batch.into_iter().partition(|w| w.reply.is_some());
        for reply in new.into_iter().filter_map(|write| write.reply) {
            let _ = reply.send(Err(error.clone()));
        }
        if !completions.is_empty() && !self.queue.is_closed() {
            completions
                .into_iter()
                .for_each(|write| self.queue.push_completion(write));
            std::thread::sleep(POLL);
        }
    }

    fn commit(&mut self, batch: &[Write]) -> Result<Vec<Outcome>, StoreError> {
        let prune = self.pruned.elapsed() >= POLL;
        let transaction = self
            .database
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut apply = apply::Apply::begin(&transaction, &self.database.writer, &mut self.recent)?;
        let outcomes: Result<Vec<Outcome>, StoreError> =
            batch.iter().map(|w| apply.action(&w.action)).collect();
        let outcomes = outcomes?;
        let changed = apply.finish(prune)?;
        fault::point("in-transaction");
        transaction.commit()?;
        self.recent.committed();
        fault::point("after-commit");
        if prune {
            self.pruned = Instant::now();
        }
        self.snapshots.seen.add(changed.new_hosts);
        if changed.snapshots
            && let Err(error) = self.load_snapshots()
        {
            tracing::error!(%error, "revocations and enrolled hosts could not be read again");
            // What was committed stays committed; the next poll tries again.
            self.seen_version = -1;
        }
        Ok(outcomes)
    }

    /// A reply whose asker went away drops its outcome, which closes a journal row as abandoned.
    fn answer(&self, batch: Vec<Write>, outcomes: Vec<Outcome>) {
        for (write, outcome) in batch.into_iter().zip(outcomes) {
            let outcome = match outcome {
                Outcome::Row(row) => {
                    Outcome::Recorded(OpenEntry::new(Arc::clone(&self.queue), row))
                }
                other => other,
            };
            if let Some(reply) = write.reply {
                let _ = reply.send(Ok(outcome));
            }
        }
    }

    /// `data_version` changes with commits of other connections only: our own cost nothing here.
    fn poll(&mut self) {
        self.polled = Instant::now();
        let version = self
            .database
            .connection
            .pragma_query_value(None, "data_version", |row| row.get(0));
        let outcome = version.map_err(StoreError::from).and_then(|version: i64| {
            if version != self.seen_version {
                self.load_snapshots()?;
                self.seen_version = version;
            }
            Ok(())
        });
        if let Err(error) = outcome {
            tracing::error!(%error, "revocations and enrolled hosts could not be read again");
        }
    }

    fn load_snapshots(&self) -> Result<(), StoreError> {
        let revoked = self.names("SELECT who FROM revocations")?;
        self.snapshots.revocations.replace(revoked);
        let seen = self.names("SELECT instance FROM hosts_seen WHERE forgotten = 0")?;
        let seen = seen.iter().filter_map(|id| id.parse().ok()).collect();
        self.snapshots.seen.replace(seen);
        let keys = self.names("SELECT fingerprint FROM revoked WHERE fingerprint IS NOT NULL")?;
        let sql = "SELECT revision FROM trust_numbers";
        let connection = &self.database.connection;
        let revision: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        // Last: whoever is told of the revision finds everything else in place.
        self.snapshots.trust.replace(keys, revision.unsigned_abs());
        Ok(())
    }

    fn names(&self, sql: &str) -> Result<HashSet<String>, StoreError> {
        let mut statement = self.database.connection.prepare_cached(sql)?;
        let names = statement.query_map([], |row| row.get::<_, String>(0))?;
        Ok(names.collect::<rusqlite::Result<_>>()?)
    }
}

struct CloseOnDrop(Arc<Queue>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}
