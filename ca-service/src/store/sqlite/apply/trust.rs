//! Revocations, bundle numbers and fleet memberships within a transaction.

use std::collections::BTreeMap;

use eic_protocol::fleet::FleetName;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::key_fingerprint::KeyFingerprint;
use eic_protocol::krl::{RevokedKey, Target};
use eic_protocol::subject_key::CaKey;
use rusqlite::{OptionalExtension as _, params};

use super::{Apply, hex_bytes, integer};
use crate::clock::Moment;
use crate::store::error::StoreError;
use crate::store::revocation::{Revocations, RevokedCaller};
use crate::store::trust::{
    BundleNumbers, DraftedList, Endorsed, RevocationEffect, RevocationOrder, TrustChange,
    TrustOutcome, TrustWrite, What,
};
use crate::store::write::Outcome;

/// How long an entry that has ended stays stored: longer than any list names it. Seconds.
const FORGET_AFTER: u64 = 2 * 86_400;

/// Who revoked, why and when: the same for all entries of one revocation.
#[derive(Clone, Copy)]
pub(super) struct Stamp<'a> {
    pub(super) id: &'a [u8],
    pub(super) by: &'a str,
    pub(super) reason: Option<&'a str>,
    pub(super) at: u64,
}

/// One row of the list.
struct Entry<'a> {
    kind: &'static str,
    ca: &'a str,
    value: String,
    fingerprint: Option<String>,
    expires: Option<u64>,
}

impl Apply<'_> {
    /// One change with its claim and its record.
    pub(super) fn trust(&mut self, write: &TrustWrite) -> Result<Outcome, StoreError> {
        if let Some(claim) = &write.claim
            && !self.claim(claim)?
        {
            return Ok(Outcome::Replayed);
        }
        let (outcome, happened) = self.change_trust(&write.change)?;
        if let Some(entry) = write.audit.as_ref().filter(|_| happened) {
            self.append(entry)?;
        }
        Ok(Outcome::Trust(outcome))
    }

    /// The outcome, and whether there is anything to record.
    fn change_trust(&mut self, change: &TrustChange) -> Result<(TrustOutcome, bool), StoreError> {
        match change {
            TrustChange::Revoke(order) => Ok((TrustOutcome::Revoked(self.carry_out(order)?), true)),
            TrustChange::TakeBack(target) => {
                let there = self.take_back(target)?;
                Ok((TrustOutcome::TakenBack(there), there))
            }
            TrustChange::Sweep { since, now } => {
                self.sweep(*since, *now)?;
                Ok((TrustOutcome::Done, false))
            }
            TrustChange::KnowCas(cas) => {
                self.know_cas(cas)?;
                Ok((TrustOutcome::Done, false))
            }
            TrustChange::Choose { ca, now } => {
                let sql = "INSERT OR REPLACE INTO meta (name, value)
                           VALUES ('signing_user_ca', ?1), ('signing_since', ?2)";
                self.transaction.execute(sql, [ca, &now.to_string()])?;
                self.revise()?;
                Ok((TrustOutcome::Done, true))
            }
            TrustChange::Served {
                version,
                issued,
                now,
            } => {
                let sql = "INSERT INTO roots_served (version, since)
                           SELECT ?1, iif(EXISTS (SELECT 1 FROM roots_served), ?3, ?2) WHERE TRUE
                           ON CONFLICT DO NOTHING";
                let row = params![integer(*version), integer(*issued), integer(*now)];
                self.transaction.execute(sql, row)?;
                Ok((TrustOutcome::Done, false))
            }
            TrustChange::Endorse(key) => {
                self.endorse(key)?;
                Ok((TrustOutcome::Done, true))
            }
            TrustChange::Known { fingerprint, at } => {
                let sql = "UPDATE endorsed SET known_at = ?2 WHERE fingerprint = ?1";
                let named = params![fingerprint, integer(*at)];
                self.transaction.execute(sql, named)?;
                Ok((TrustOutcome::Done, false))
            }
            TrustChange::ForgetUnused { now } => {
                let sql = "DELETE FROM endorsed WHERE signs_from > ?1 OR known_at IS NULL OR known_at > ?1";
                self.transaction.execute(sql, [integer(*now)])?;
                Ok((TrustOutcome::Done, false))
            }
            TrustChange::Number { list, at } => {
                Ok((TrustOutcome::Numbers(self.number(list, *at)?), false))
            }
            TrustChange::Join {
                instance,
                fleets,
                now,
            } => self.join(instance, fleets, *now),
        }
    }

    fn carry_out(&mut self, order: &RevocationOrder) -> Result<RevocationEffect, StoreError> {
        let id = hex_bytes(&order.id);
        let stamp = Stamp {
            id: &id,
            by: &order.by,
            reason: order.reason.as_deref(),
            at: order.at,
        };
        let certificates = match &order.what {
            What::Entry(target, expires) => self.revoke_entry(target, *expires, stamp)?,
            What::Caller(who) => {
                self.block_caller(who, stamp)?;
                self.revoke_certificates_of(who, stamp, order.at)?
            }
            What::Host(instance) => {
                self.block_host(instance, stamp)?;
                self.revoke_host_certificates(instance, stamp)?
            }
            What::HostCertificates(instance) => self.revoke_host_certificates(instance, stamp)?,
        };
        let revision = self.revise()?;
        Ok(RevocationEffect {
            certificates,
            revision,
        })
    }

    /// What is revoked has changed: tells all who keep it in memory.
    pub(super) fn revise(&mut self) -> Result<u64, StoreError> {
        self.snapshots_changed = true;
        let sql = "UPDATE trust_numbers SET revision = revision + 1 RETURNING revision";
        let revision: i64 = self.transaction.query_row(sql, [], |row| row.get(0))?;
        Ok(revision.unsigned_abs())
    }

    pub(super) fn block_caller(
        &self,
        who: &RevokedCaller,
        stamp: Stamp<'_>,
    ) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO revocations (who, revoked_by, reason, at) VALUES (?1, ?2, ?3, ?4)";
        self.transaction.execute(
            sql,
            params![who.as_str(), stamp.by, stamp.reason, integer(stamp.at)],
        )?;
        Ok(())
    }

    /// The caller's certificates that have not ended, those that he had made for hosts too; returns how many were not revoked before.
    pub(super) fn revoke_certificates_of(
        &self,
        who: &RevokedCaller,
        stamp: Stamp<'_>,
        now: u64,
    ) -> Result<u64, StoreError> {
        let one = Revocations::only(who);
        // By the index of ends: of a day's million certificates only the living are read.
        let sql = "SELECT serial, ca, valid_before, caller, caller_id FROM journal
                   WHERE valid_before > ?1 AND state NOT IN ('failed', 'abandoned')";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let mut rows = statement.query([integer(now)])?;
        let mut revoked = 0;
        while let Some(row) = rows.next()? {
            if one.covers_row(&row.get::<_, String>(3)?, &row.get::<_, String>(4)?) {
                revoked += u64::from(self.revoke_row(row, stamp)?);
            }
        }
        Ok(revoked)
    }

    /// Enrolled or not: a host that was broken into must not come in by a first enrolment either.
    fn block_host(&self, instance: &InstanceId, stamp: Stamp<'_>) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO blocked_hosts (instance, blocked_by, reason, at) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (instance) DO NOTHING";
        let parameters = params![instance.as_str(), stamp.by, stamp.reason, integer(stamp.at)];
        self.transaction.execute(sql, parameters)?;
        let sql = "UPDATE hosts SET revision = revision + 1 WHERE instance = ?1";
        self.transaction.execute(sql, [instance.as_str()])?;
        Ok(())
    }

    /// Those that may exist and have not ended; returns how many were not revoked before.
    fn revoke_host_certificates(
        &self,
        instance: &InstanceId,
        stamp: Stamp<'_>,
    ) -> Result<u64, StoreError> {
        let sql = "SELECT serial, ca, valid_before FROM journal
                   WHERE kind = 'host' AND principals = ?1 AND valid_before > ?2
                       AND state NOT IN ('failed', 'abandoned')";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let mut rows = statement.query(params![instance.as_str(), integer(stamp.at)])?;
        let mut revoked = 0;
        while let Some(row) = rows.next()? {
            revoked += u64::from(self.revoke_row(row, stamp)?);
        }
        Ok(revoked)
    }

    /// The certificate of a row that begins with serial, CA and end; whether it was not revoked before.
    fn revoke_row(&self, row: &rusqlite::Row<'_>, stamp: Stamp<'_>) -> Result<bool, StoreError> {
        let ca: String = row.get(1)?;
        let entry = Entry {
            kind: "serial",
            ca: &ca,
            value: row.get::<_, i64>(0)?.to_string(),
            fingerprint: None,
            expires: Some(row.get::<_, i64>(2)?.unsigned_abs()),
        };
        self.insert(&entry, stamp)
    }

    fn revoke_entry(
        &self,
        target: &Target,
        expires: Option<u64>,
        stamp: Stamp<'_>,
    ) -> Result<u64, StoreError> {
        let print;
        let ca = match target {
            Target::Serials(ca, _) | Target::KeyId(ca, _) => {
                self.know_ca(ca)?;
                print = ca.fingerprint();
                print.as_str()
            }
            _ => "",
        };
        let mut new = 0;
        for (kind, value, fingerprint) in rows_of(target) {
            let entry = Entry {
                kind,
                ca,
                value,
                fingerprint,
                expires,
            };
            new += u64::from(self.insert(&entry, stamp)?);
        }
        if let Target::CaKey(ca) = target {
            self.revoke_endorsed_by(ca, stamp)?;
        }
        let counted = matches!(target, Target::Serials(..) | Target::KeyId(..));
        Ok(if counted { new } else { 0 })
    }

    /// sshd looks up the key that signed a certificate, never who endorsed it.
    fn revoke_endorsed_by(&self, ca: &CaKey, stamp: Stamp<'_>) -> Result<(), StoreError> {
        let sql = "SELECT public_key, fingerprint, not_after FROM endorsed JOIN ca_known USING (fingerprint)
                   WHERE endorser = ?1 AND not_after > ?2";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let mut rows = statement.query(params![ca.fingerprint(), integer(stamp.at)])?;
        while let Some(row) = rows.next()? {
            let entry = Entry {
                kind: "ca-key",
                ca: "",
                value: row.get(0)?,
                fingerprint: Some(row.get(1)?),
                expires: Some(row.get::<_, i64>(2)?.unsigned_abs()),
            };
            self.insert(&entry, stamp)?;
        }
        Ok(())
    }

    /// Whether it is new; the later end of two counts.
    fn insert(&self, entry: &Entry<'_>, stamp: Stamp<'_>) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM revoked WHERE kind = ?1 AND ca = ?2 AND value = ?3";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let known = statement.exists(params![entry.kind, entry.ca, entry.value])?;
        let sql = "INSERT INTO revoked (kind, ca, value, fingerprint, expires, revocation, revoked_by, reason, at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                   ON CONFLICT (kind, ca, value) DO UPDATE SET expires =
                       CASE WHEN expires IS NULL OR excluded.expires IS NULL THEN NULL
                            ELSE max(expires, excluded.expires) END";
        self.transaction.prepare_cached(sql)?.execute(params![
            entry.kind,
            entry.ca,
            entry.value,
            entry.fingerprint,
            entry.expires.map(integer),
            stamp.id,
            stamp.by,
            stamp.reason,
            integer(stamp.at),
        ])?;
        Ok(!known)
    }

    fn take_back(&mut self, target: &Target) -> Result<bool, StoreError> {
        let ca = match target {
            Target::Serials(ca, _) | Target::KeyId(ca, _) => ca.fingerprint(),
            _ => String::new(),
        };
        let mut gone = 0;
        for (kind, value, _) in rows_of(target) {
            let sql = "DELETE FROM revoked WHERE kind = ?1 AND ca = ?2 AND value = ?3";
            gone += self.transaction.execute(sql, params![kind, ca, value])?;
        }
        if gone == 0 {
            return Ok(false);
        }
        let sql = "UPDATE trust_numbers SET reset_wanted = 1";
        self.transaction.execute(sql, [])?;
        self.revise()?;
        Ok(true)
    }

    fn sweep(&mut self, since: u64, now: u64) -> Result<(), StoreError> {
        let recent: Vec<(String, String, Option<String>, i64)> = {
            let sql = "SELECT who, revoked_by, reason, at FROM revocations WHERE at >= ?1";
            let mut statement = self.transaction.prepare_cached(sql)?;
            let rows = statement.query_map([integer(since)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        let mut new = 0;
        for (who, by, reason, at) in &recent {
            let Ok(who) = who.parse::<RevokedCaller>() else {
                continue;
            };
            let stamp = Stamp {
                id: &[],
                by,
                reason: reason.as_deref(),
                at: at.unsigned_abs(),
            };
            new += self.revoke_certificates_of(&who, stamp, now)?;
        }
        if new > 0 {
            self.revise()?;
        }
        Ok(())
    }

    /// The next bundle names it.
    fn endorse(&mut self, key: &Endorsed) -> Result<(), StoreError> {
        self.know_ca(&key.key)?;
        let document = serde_json::to_string(&key.document).map_err(|_| StoreError::Confused)?;
        let sql = "INSERT INTO endorsed (fingerprint, endorser, document, signs_from, not_after)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        self.transaction.execute(
            sql,
            params![
                key.key.fingerprint(),
                key.endorser,
                document,
                integer(key.signs_from),
                integer(key.not_after),
            ],
        )?;
        self.revise().map(drop)
    }

    fn know_cas(&self, cas: &[CaKey]) -> Result<(), StoreError> {
        cas.iter().try_for_each(|ca| self.know_ca(ca))
    }

    fn know_ca(&self, ca: &CaKey) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO ca_known (fingerprint, public_key) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        self.transaction
            .prepare_cached(sql)?
            .execute([ca.fingerprint(), ca.to_string()])?;
        Ok(())
    }

    /// The list's number is the sequence of the bundle that it first came with: it never is above it. What was taken back
    /// after the list was read stays wanted: else hosts with this list would refuse the next one, which lacks an entry.
    fn number(&self, list: &DraftedList, at: Moment) -> Result<BundleNumbers, StoreError> {
        let sql = "UPDATE trust_numbers SET
                       sequence = sequence + 1,
                       number = CASE WHEN content <> ?1 OR reset_wanted THEN sequence + 1 ELSE number END,
                       generated = CASE WHEN content <> ?1 OR reset_wanted THEN max(generated, ?2) ELSE generated END,
                       reset_at = CASE WHEN reset_wanted OR (?4 AND content <> ?1) THEN sequence + 1 ELSE reset_at END,
                       reset_wanted = CASE WHEN revision = ?3 THEN 0 ELSE reset_wanted END,
                       content = ?1
                   RETURNING sequence, number, generated, reset_at";
        let value =
            |row: &rusqlite::Row<'_>, at: usize| row.get::<_, i64>(at).map(i64::unsigned_abs);
        let numbers = self.transaction.query_row(
            sql,
            params![
                list.content,
                integer(at.now),
                integer(list.revision),
                list.lacks_entries
            ],
            |row| {
                Ok(BundleNumbers {
                    sequence: value(row, 0)?,
                    number: value(row, 1)?,
                    generated: value(row, 2)?,
                    reset_at: value(row, 3)?,
                })
            },
        )?;
        let sql = "DELETE FROM revoked WHERE expires < ?1";
        self.transaction
            .execute(sql, [integer(at.passed.saturating_sub(FORGET_AFTER))])?;
        Ok(numbers)
    }

    fn join(
        &self,
        instance: &InstanceId,
        fleets: &[FleetName],
        now: u64,
    ) -> Result<(TrustOutcome, bool), StoreError> {
        let mut joined = BTreeMap::new();
        let mut new = false;
        for fleet in fleets {
            let names = params![instance.as_str(), fleet.as_str()];
            let sql = "SELECT since FROM fleet_joins WHERE instance = ?1 AND fleet = ?2";
            let known: Option<i64> = self
                .transaction
                .query_row(sql, names, |row| row.get(0))
                .optional()?;
            new |= known.is_none();
            joined.insert(fleet.clone(), known.map_or(now, i64::unsigned_abs));
        }
        let sql = "DELETE FROM fleet_joins WHERE instance = ?1";
        self.transaction.execute(sql, [instance.as_str()])?;
        for (fleet, since) in &joined {
            let sql = "INSERT INTO fleet_joins (instance, fleet, since) VALUES (?1, ?2, ?3)";
            self.transaction.execute(
                sql,
                params![instance.as_str(), fleet.as_str(), integer(*since)],
            )?;
        }
        Ok((TrustOutcome::Joined(joined), new))
    }
}

/// Kind, value and, of keys, the fingerprint by which requests are checked.
fn rows_of(target: &Target) -> Vec<(&'static str, String, Option<String>)> {
    match target {
        Target::Serials(_, range) => (range.first()..=range.last())
            .map(|serial| ("serial", serial.to_string(), None))
            .collect(),
        Target::KeyId(_, id) => vec![("key-id", id.as_str().to_owned(), None)],
        Target::Key(key) => vec![("key", hex::encode(key.blob()), Some(print(key)))],
        Target::Fingerprint(hash) => {
            vec![("fingerprint", hash.to_string(), Some(hash.to_string()))]
        }
        Target::CaKey(ca) => vec![("ca-key", ca.to_string(), Some(ca.fingerprint()))],
    }
}

fn print(key: &RevokedKey) -> String {
    KeyFingerprint::of_blob(key.blob()).to_string()
}
