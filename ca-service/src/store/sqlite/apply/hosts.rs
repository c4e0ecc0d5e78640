//! Changes of hosts within a transaction: each checks what it rests on first, and writes all of it or nothing.

use eic_protocol::instance_id::InstanceId;
use rusqlite::{OptionalExtension as _, params};

use super::{Apply, hex_bytes, integer};
use crate::host_identity::enrolment::EnrolledHost;
use crate::store::error::StoreError;
use crate::store::hosts::{
    HostChange, HostRequest, HostWrite, MAX_WAITING, REQUEST_LIFE, StoredReport, StoredToken, Uses,
    keys_digest, keys_text,
};
use crate::store::trust::{RevocationOrder, TrustChange, TrustWrite};
use crate::store::write::Outcome;

/// The table of hosts that have certificates.
const ENROLLED: &str = "hosts";
/// The table of those that made their keys known.
const LEGACY: &str = "legacy_hosts";
/// How long a token that has ended stays for who looks why it is refused. Seconds.
const TOKEN_GRACE: u64 = 30 * 86_400;

impl Apply<'_> {
    /// One change with its claim and its record.
    pub(super) fn host(&mut self, write: &HostWrite) -> Result<Outcome, StoreError> {
        if let Some(claim) = &write.claim
            && !self.claim(claim)?
        {
            return Ok(Outcome::Replayed);
        }
        if !self.change_host(&write.change)? {
            return Ok(Outcome::Unchanged);
        }
        if let Some(entry) = &write.audit {
            self.append(entry)?;
        }
        Ok(Outcome::Done)
    }

    fn change_host(&mut self, change: &HostChange) -> Result<bool, StoreError> {
        match change {
            HostChange::Nothing => Ok(true),
            HostChange::Enrol {
                host,
                expected,
                uses,
                revoked,
            } => Ok(self.enrol(host, *expected, uses)? && self.revoke_all(revoked)?),
            HostChange::Know {
                host,
                expected,
                uses,
            } => {
                let enrolled = "SELECT 1 FROM hosts WHERE instance = ?1";
                let enrolled = self.exists(enrolled, [host.instance.as_str()])?;
                Ok(!enrolled && self.keep(LEGACY, host, *expected, uses)?)
            }
            HostChange::Ask(request) => self.ask(request),
            HostChange::Decide {
                enrolment,
                state,
                by,
            } => {
                let sql = "UPDATE host_requests SET state = ?2, decided_by = ?3 WHERE enrolment = ?1 AND state = 'waiting'";
                self.changed(sql, params![hex_bytes(enrolment), state.as_str(), by])
            }
            HostChange::AddToken(token) => self.add_token(token),
            HostChange::Block { instance, revoked } => {
                Ok(!self.is_blocked(instance)? && self.revoke_all([revoked])?)
            }
            HostChange::Unblock { instance } => {
                let sql = "DELETE FROM blocked_hosts WHERE instance = ?1";
                self.changed(sql, [instance.as_str()])
            }
            HostChange::Remove { instance, revoked } => {
                Ok(self.remove(instance)? && self.revoke_all([revoked])?)
            }
            HostChange::End {
                instance,
                at,
                revoked,
            } => Ok(self.end(instance, *at)? && self.revoke_all([revoked])?),
            HostChange::Report(report) => self.report(report),
        }
    }

    /// In the same transaction, and recorded with what caused it.
    fn revoke_all<'o>(
        &mut self,
        orders: impl IntoIterator<Item = &'o RevocationOrder>,
    ) -> Result<bool, StoreError> {
        for order in orders {
            self.trust(&TrustWrite {
                claim: None,
                change: TrustChange::Revoke(order.clone()),
                audit: None,
            })?;
        }
        Ok(true)
    }

    fn is_blocked(&self, instance: &InstanceId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM blocked_hosts WHERE instance = ?1";
        self.exists(sql, [instance.as_str()])
    }

    /// What was known of it as a legacy host is part of the enrolled one from then on.
    fn enrol(
        &self,
        host: &EnrolledHost,
        expected: Option<u64>,
        uses: &Uses,
    ) -> Result<bool, StoreError> {
        let kept = self.keep(ENROLLED, host, expected, uses)?;
        if kept {
            let sql = "DELETE FROM legacy_hosts WHERE instance = ?1";
            let mut statement = self.transaction.prepare_cached(sql)?;
            statement.execute([host.instance.as_str()])?;
        }
        Ok(kept)
    }

    /// A host's new state in one of the two tables, where everything that it rests on still holds.
    fn keep(
        &self,
        table: &'static str,
        host: &EnrolledHost,
        expected: Option<u64>,
        uses: &Uses,
    ) -> Result<bool, StoreError> {
        let unchanged = self.revision(table, host)? == expected.map(integer);
        if !unchanged
            || self.is_blocked(&host.instance)?
            || !self.is_there(uses)?
            || self.has_other_owner(host)?
        {
            return Ok(false);
        }
        let sql = format!(
            "INSERT INTO {table} (instance, account, region, evidence, keys, pending_time, enrolled_at, certified_at, revision)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1)
             ON CONFLICT (instance) DO UPDATE SET evidence = excluded.evidence, keys = excluded.keys,
                 pending_time = excluded.pending_time, enrolled_at = excluded.enrolled_at,
                 certified_at = excluded.certified_at, ended_at = NULL, revision = revision + 1"
        );
        self.transaction.prepare_cached(&sql)?.execute(params![
            host.instance.as_str(),
            host.account.as_str(),
            host.region.as_str(),
            host.evidence.as_str(),
            keys_text(&host.keys),
            host.pending_time.map(integer),
            integer(host.enrolled_at),
            integer(host.certified_at),
        ])?;
        self.own_keys(host)?;
        self.use_up(uses)
    }

    fn use_up(&self, uses: &Uses) -> Result<bool, StoreError> {
        match uses {
            Uses::Nothing => Ok(true),
            Uses::Request(enrolment) => {
                let sql = "DELETE FROM host_requests WHERE enrolment = ?1";
                self.changed(sql, params![hex_bytes(enrolment)])
            }
            Uses::Token(digest, now) => {
                let sql = "UPDATE enrolment_tokens SET used_at = ?2 WHERE digest = ?1";
                self.changed(sql, params![digest, integer(*now)])
            }
        }
    }

    /// A key names one host for ever: its certificate would otherwise name two.
    fn has_other_owner(&self, host: &EnrolledHost) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM host_keys WHERE fingerprint = ?1 AND instance <> ?2";
        for key in &host.keys {
            if self.exists(sql, params![key.fingerprint(), host.instance.as_str()])? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn own_keys(&self, host: &EnrolledHost) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO host_keys (fingerprint, instance) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        for key in &host.keys {
            self.transaction
                .prepare_cached(sql)?
                .execute(params![key.fingerprint(), host.instance.as_str()])?;
        }
        Ok(())
    }

    /// The host's row is looked for first: what is not recorded as removed stays.
    fn remove(&self, instance: &InstanceId) -> Result<bool, StoreError> {
        let stored = "SELECT 1 FROM hosts WHERE instance = ?1
                      UNION ALL SELECT 1 FROM legacy_hosts WHERE instance = ?1";
        if !self.exists(stored, [instance.as_str()])? {
            return Ok(false);
        }
        for sql in [
            "DELETE FROM hosts WHERE instance = ?1",
            "DELETE FROM legacy_hosts WHERE instance = ?1",
            "DELETE FROM host_keys WHERE instance = ?1",
            "DELETE FROM host_requests WHERE instance = ?1",
            "DELETE FROM host_reports WHERE instance = ?1",
        ] {
            self.transaction.execute(sql, [instance.as_str()])?;
        }
        Ok(true)
    }

    /// The revision grows: a request that is under way rests on a host that was there.
    fn end(&self, instance: &InstanceId, at: u64) -> Result<bool, StoreError> {
        let mut ended = false;
        for table in [ENROLLED, LEGACY] {
            let sql = format!(
                "UPDATE {table} SET ended_at = ?2, revision = revision + 1 WHERE instance = ?1 AND ended_at IS NULL"
            );
            ended |= self.changed(&sql, params![instance.as_str(), integer(at)])?;
        }
        Ok(ended)
    }

    fn revision(
        &self,
        table: &'static str,
        host: &EnrolledHost,
    ) -> Result<Option<i64>, StoreError> {
        let sql = format!("SELECT revision FROM {table} WHERE instance = ?1");
        let read = |row: &rusqlite::Row<'_>| row.get(0);
        let mut statement = self.transaction.prepare_cached(&sql)?;
        Ok(statement
            .query_row([host.instance.as_str()], read)
            .optional()?)
    }

    fn is_there(&self, uses: &Uses) -> Result<bool, StoreError> {
        match uses {
            Uses::Nothing => Ok(true),
            Uses::Request(enrolment) => {
                let sql =
                    "SELECT 1 FROM host_requests WHERE enrolment = ?1 AND state <> 'rejected'";
                self.exists(sql, params![hex_bytes(enrolment)])
            }
            Uses::Token(digest, now) => {
                let sql = "SELECT 1 FROM enrolment_tokens WHERE digest = ?1 AND used_at IS NULL AND ends > ?2";
                self.exists(sql, params![digest, integer(*now)])
            }
        }
    }

    fn ask(&self, request: &HostRequest) -> Result<bool, StoreError> {
        let oldest = request.asked_at.saturating_sub(REQUEST_LIFE);
        let sql = "DELETE FROM host_requests WHERE asked_at < ?1";
        self.transaction
            .prepare_cached(sql)?
            .execute([integer(oldest)])?;
        let digest = keys_digest(&request.keys);
        if !self.may_wait(request, &digest)? {
            return Ok(false);
        }
        let sql = "INSERT INTO host_requests (enrolment, instance, keys_digest, account, region, evidence, keys, challenge, challenge_ends, state, asked_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                   ON CONFLICT (instance, keys_digest) DO UPDATE SET
                       challenge = excluded.challenge, challenge_ends = excluded.challenge_ends, asked_at = excluded.asked_at";
        let parameters = params![
            hex_bytes(&request.enrolment),
            request.instance.as_str(),
            digest,
            request.account.as_str(),
            request.region.as_str(),
            request.evidence.as_str(),
            keys_text(&request.keys),
            request.challenge.to_string(),
            integer(request.challenge_ends),
            request.state.as_str(),
            integer(request.asked_at),
        ];
        self.changed(sql, parameters)
    }

    /// Whoever holds the role's credentials can ask with ever new keys: a few of them at a time. Those that an
    /// operator rejected take no place from the host's own.
    fn may_wait(&self, request: &HostRequest, digest: &str) -> Result<bool, StoreError> {
        let sql = "SELECT count(*) FROM host_requests WHERE instance = ?1 AND keys_digest <> ?2 AND state <> 'rejected'";
        let read = |row: &rusqlite::Row<'_>| row.get::<_, u32>(0);
        let others = self
            .transaction
            .prepare_cached(sql)?
            .query_row(params![request.instance.as_str(), digest], read)?;
        Ok(others < MAX_WAITING)
    }

    fn add_token(&self, token: &StoredToken) -> Result<bool, StoreError> {
        let forgotten = integer(token.made_at.saturating_sub(TOKEN_GRACE));
        self.transaction
            .execute("DELETE FROM enrolment_tokens WHERE ends < ?1", [forgotten])?;
        let sql = "INSERT INTO enrolment_tokens (digest, instance, made_by, made_at, ends) VALUES (?1, ?2, ?3, ?4, ?5)";
        let parameters = params![
            token.digest,
            token.instance.as_str(),
            token.made_by,
            integer(token.made_at),
            integer(token.ends)
        ];
        self.changed(sql, parameters)
    }

    fn report(&self, report: &StoredReport) -> Result<bool, StoreError> {
        let sql = "INSERT INTO host_reports (instance, received_at, clock_offset, report) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (instance) DO UPDATE SET received_at = excluded.received_at,
                       clock_offset = excluded.clock_offset, report = excluded.report";
        let parameters = params![
            report.instance.as_str(),
            integer(report.received_at),
            report.clock_offset,
            report.report
        ];
        self.changed(sql, parameters)
    }

    fn changed(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<bool, StoreError> {
        Ok(self.transaction.prepare_cached(sql)?.execute(parameters)? > 0)
    }

    fn exists(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<bool, StoreError> {
        Ok(self.transaction.prepare_cached(sql)?.exists(parameters)?)
    }
}
