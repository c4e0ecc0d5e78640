//! One transaction's work: each action as prepared statements, the audit chain carried along.
//! It neither begins nor commits; a statement that fails undoes the whole transaction.

use eic_protocol::instance_id::InstanceId;
use eic_protocol::request_id::RequestId;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::recent_claims::RecentClaims;
use crate::audit::chain::{Head, Link};
use crate::store::error::StoreError;
use crate::store::replay::ReplayClaim;
use crate::store::revocation::Revocation;
use crate::store::write::{Action, AuditEntry, Ending, IssueEntry, JournalEntry, Orphan, Outcome};

mod hosts;
mod trust;

/// Old replay claims that are forgotten in one transaction, at most.
const PRUNED_AT_ONCE: u32 = 5_000;

/// The state of one transaction.
pub(super) struct Apply<'a> {
    transaction: &'a Transaction<'a>,
    writer: &'a str,
    recent: &'a mut RecentClaims,
    head: Head,
    chained: bool,
    snapshots_changed: bool,
    new_hosts: Vec<InstanceId>,
    prune_before: u64,
    /// The last signer that was noted.
    signer: String,
}

/// What a transaction changed of what is kept in memory.
pub(super) struct Changed {
    /// Everything is to be read again.
    pub(super) snapshots: bool,
    /// These got their first view, and that is all: reading a hundred thousand names for each new one would not do.
    pub(super) new_hosts: Vec<InstanceId>,
}

impl<'a> Apply<'a> {
    /// Reads the chain's head: another process may have written since the last transaction.
    pub(super) fn begin(
        transaction: &'a Transaction<'a>,
        writer: &'a str,
        recent: &'a mut RecentClaims,
    ) -> Result<Self, StoreError> {
        recent.begin(transaction)?;
        let mut statement =
            transaction.prepare_cached("SELECT seq, hash FROM audit_head WHERE writer = ?1")?;
        let head = statement
            .query_row([writer], |row| {
                Ok(Head {
                    seq: row.get(0)?,
                    hash: row.get(1)?,
                })
            })
            .optional()?;
        let head = head.unwrap_or_else(|| Head::genesis(writer));
        Ok(Self {
            transaction,
            writer,
            recent,
            head,
            chained: false,
            snapshots_changed: false,
            new_hosts: Vec::new(),
            prune_before: 0,
            signer: String::new(),
        })
    }

    /// Writes one action.
    pub(super) fn action(&mut self, action: &Action) -> Result<Outcome, StoreError> {
        match action {
            Action::Issue(entry) => self.issue(entry),
            Action::Complete { row, ending } => self.complete(*row, ending),
            Action::Claim(claim) => self.claim(claim).map(|new| {
                if new {
                    Outcome::Done
                } else {
                    Outcome::Replayed
                }
            }),
            Action::Append { claim, entry } => self.append_once(claim.as_ref(), entry),
            Action::Revoke {
                revocation,
                undo,
                entry,
            } => self.revoke(revocation, *undo, entry),
            Action::PinKey { name, key, now } => self.pin(name, key, *now),
            Action::NextView { instance, now } => self.next_view(instance, *now),
            Action::ForgetHost { instance, entry } => self.forget_host(instance, entry),
            Action::Host(write) => self.host(write),
            Action::Trust(write) => self.trust(write),
            Action::Reconcile { describe, now } => self.reconcile(*describe, *now),
        }
    }

    /// Writes the chain's new head; puts claims in their order and forgets old ones where `prune` says so. Returns what changed of what is kept in memory.
    pub(super) fn finish(self, prune: bool) -> Result<Changed, StoreError> {
        if self.chained {
            let sql = "INSERT INTO audit_head (writer, seq, hash) VALUES (?1, ?2, ?3)
                       ON CONFLICT (writer) DO UPDATE SET seq = excluded.seq, hash = excluded.hash";
            let mut statement = self.transaction.prepare_cached(sql)?;
            statement.execute(params![self.writer, self.head.seq, self.head.hash])?;
        }
        self.recent.finish(self.transaction, prune)?;
        if prune && self.prune_before > 0 {
            let sql = "DELETE FROM replay WHERE (forget_at, digest) IN
                       (SELECT forget_at, digest FROM replay WHERE forget_at < ?1 LIMIT ?2)";
            let mut statement = self.transaction.prepare_cached(sql)?;
            statement.execute(params![integer(self.prune_before), PRUNED_AT_ONCE])?;
        }
        Ok(Changed {
            snapshots: self.snapshots_changed,
            new_hosts: self.new_hosts,
        })
    }

    /// Claim, serial, journal and audit: where one is refused, nothing of the others stays.
    fn issue(&mut self, entry: &IssueEntry) -> Result<Outcome, StoreError> {
        let Some(row) = self.journal(&entry.journal)? else {
            return Ok(Outcome::SerialTaken);
        };
        let fresh = entry
            .replay
            .as_ref()
            .map_or(Ok(true), |claim| self.claim(claim))?;
        if !fresh {
            self.transaction
                .prepare_cached("DELETE FROM journal WHERE id = ?1")?
                .execute([row])?;
            return Ok(Outcome::Replayed);
        }
        if entry.journal.kind == "user" {
            self.note_signer(&entry.journal)?;
        }
        self.append(&entry.audit)?;
        Ok(Outcome::Row(row))
    }

    /// With its first certificate a user CA is a spare no more; of a key in memory, the one that endorsed it.
    /// Once for a transaction's certificates: nearly all are by one key.
    fn note_signer(&mut self, entry: &JournalEntry) -> Result<(), StoreError> {
        if self.signer == entry.ca {
            return Ok(());
        }
        let sql = "INSERT INTO signers (ca, since)
                   VALUES (coalesce((SELECT endorser FROM endorsed WHERE fingerprint = ?1), ?1), ?2)
                   ON CONFLICT DO NOTHING";
        let mut statement = self.transaction.prepare_cached(sql)?;
        statement.execute(params![entry.ca, integer(entry.prepared_at)])?;
        self.signer.clone_from(&entry.ca);
        Ok(())
    }

    fn journal(&self, entry: &JournalEntry) -> Result<Option<i64>, StoreError> {
        let sql = "INSERT INTO journal (serial, request_id, kind, caller, caller_id, principals, tbs_hash, ca,
                                        valid_before, state, prepared_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'prepared', ?10)
                   ON CONFLICT (serial) DO NOTHING";
        let inserted = self.transaction.prepare_cached(sql)?.execute(params![
            integer(entry.serial.value()),
            hex_bytes(&entry.request_id),
            entry.kind,
            entry.caller,
            entry.caller_id,
            entry.principals,
            entry.tbs_hash,
            entry.ca,
            integer(entry.valid_before),
            integer(entry.prepared_at),
        ])?;
        Ok((inserted == 1).then(|| self.transaction.last_insert_rowid()))
    }

    fn claim(&mut self, claim: &ReplayClaim) -> Result<bool, StoreError> {
        self.prune_before = self.prune_before.max(claim.prune_before);
        self.recent.claim(self.transaction, claim)
    }

    /// One signed message makes one record, however often it is sent.
    fn append_once(
        &mut self,
        claim: Option<&ReplayClaim>,
        entry: &AuditEntry,
    ) -> Result<Outcome, StoreError> {
        if !claim.map_or(Ok(true), |claim| self.claim(claim))? {
            return Ok(Outcome::Replayed);
        }
        self.append(entry).map(|()| Outcome::Done)
    }

    fn append(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let Link {
            seq,
            previous,
            hash,
        } = self.head.append(entry.json.as_bytes());
        let sql = "INSERT INTO audit (writer, seq, time, record, previous, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut statement = self.transaction.prepare_cached(sql)?;
        statement.execute(params![
            self.writer,
            seq,
            integer(entry.time),
            entry.json,
            previous,
            hash
        ])?;
        self.chained = true;
        Ok(())
    }

    /// A certificate that turns out to be signed is so, even when its row was taken for an orphan's.
    fn complete(&mut self, row: i64, ending: &Ending) -> Result<Outcome, StoreError> {
        let (state, hash, at) = match ending {
            Ending::Issued {
                certificate_hash,
                at,
            } => ("issued", Some(certificate_hash), Some(integer(*at))),
            Ending::Failed { at, .. } => ("failed", None, Some(integer(*at))),
            Ending::Abandoned => ("abandoned", None, None),
        };
        let sql = "UPDATE journal SET state = ?2, certificate_hash = ?3, completed_at = ?4
                   WHERE id = ?1 AND state IN ('prepared', 'orphan')";
        self.transaction
            .prepare_cached(sql)?
            .execute(params![row, state, hash, at])?;
        if let Ending::Failed {
            audit: Some(entry), ..
        } = ending
        {
            self.append(entry)?;
        }
        Ok(Outcome::Done)
    }

    fn revoke(
        &mut self,
        revocation: &Revocation,
        undo: bool,
        entry: &AuditEntry,
    ) -> Result<Outcome, StoreError> {
        let who = revocation.who.as_str();
        let changed = if undo {
            self.transaction
                .execute("DELETE FROM revocations WHERE who = ?1", [who])?
        } else {
            let stamp = trust::Stamp {
                id: &[],
                by: &revocation.by,
                reason: revocation.reason.as_deref(),
                at: revocation.at,
            };
            self.block_caller(&revocation.who, stamp)?;
            self.revoke_certificates_of(&revocation.who, stamp, revocation.at)?;
            1
        };
        if changed == 0 {
            return Ok(Outcome::Unchanged);
        }
        self.revise()?;
        self.append(entry)?;
        Ok(Outcome::Done)
    }

    fn pin(&self, name: &str, key: &str, now: u64) -> Result<Outcome, StoreError> {
        let sql = "INSERT INTO ca_keys (name, public_key, first_seen) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        self.transaction
            .execute(sql, params![name, key, integer(now)])?;
        let sql = "SELECT public_key FROM ca_keys WHERE name = ?1";
        Ok(Outcome::Pinned(self.transaction.query_row(
            sql,
            [name],
            |row| row.get(0),
        )?))
    }

    fn next_view(&mut self, instance: &InstanceId, now: u64) -> Result<Outcome, StoreError> {
        let known = self
            .transaction
            .prepare_cached("SELECT 1 FROM hosts_seen WHERE instance = ?1 AND forgotten = 0")?
            .exists([instance.as_str()])?;
        let sql = "INSERT INTO hosts_seen (instance, first_seen, last_seen, view_version) VALUES (?1, ?2, ?2, 1)
                   ON CONFLICT (instance) DO UPDATE SET last_seen = ?2, view_version = view_version + 1, forgotten = 0
                   RETURNING view_version";
        let read = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        let version =
            self.transaction
                .query_row(sql, params![instance.as_str(), integer(now)], read)?;
        // A later view of a host that is known changes nothing in memory.
        if !known {
            self.new_hosts.push(instance.clone());
        }
        Ok(Outcome::Version(version.unsigned_abs()))
    }

    fn forget_host(
        &mut self,
        instance: &InstanceId,
        entry: &AuditEntry,
    ) -> Result<Outcome, StoreError> {
        let sql = "UPDATE hosts_seen SET forgotten = 1 WHERE instance = ?1 AND forgotten = 0";
        if self.transaction.execute(sql, [instance.as_str()])? == 0 {
            return Ok(Outcome::Unchanged);
        }
        self.snapshots_changed = true;
        self.append(entry)?;
        Ok(Outcome::Done)
    }

    fn reconcile(
        &mut self,
        describe: fn(&Orphan, u64) -> Option<AuditEntry>,
        now: u64,
    ) -> Result<Outcome, StoreError> {
        let orphans = self.open_rows()?;
        for orphan in &orphans {
            self.append(&describe(orphan, now).ok_or(StoreError::NoEntropy)?)?;
        }
        self.transaction.execute(
            "UPDATE journal SET state = 'orphan' WHERE state = 'prepared'",
            [],
        )?;
        Ok(Outcome::Orphans(orphans))
    }

    fn open_rows(&self) -> Result<Vec<Orphan>, StoreError> {
        let sql = "SELECT serial, request_id, caller, principals, prepared_at, valid_before
                   FROM journal WHERE state = 'prepared' ORDER BY id";
        let mut statement = self.transaction.prepare(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(Orphan {
                serial: row.get::<_, i64>(0)?.unsigned_abs(),
                request_id: RequestId::from_random(row.get(1)?),
                caller: row.get(2)?,
                principals: row.get(3)?,
                prepared_at: row.get::<_, i64>(4)?.unsigned_abs(),
                valid_before: row.get::<_, i64>(5)?.unsigned_abs(),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// SQLite's integers are signed; all of ours have 63 bits (times and serials are checked where they are made).
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The id's 16 bytes.
fn hex_bytes(id: &RequestId) -> Vec<u8> {
    hex::decode(id.to_string()).unwrap_or_default()
}
