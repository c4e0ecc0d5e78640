//! Reading what is stored of hosts. Text that does not parse is a damaged store, never an absent row.

use std::collections::BTreeSet;
use std::str::FromStr;

use eic_protocol::instance_id::InstanceId;
use eic_protocol::request_id::RequestId;
use eic_protocol::subject_key::SubjectKey;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{HostRequest, RequestState, StoredReport, StoredToken};
use crate::host_identity::enrolment::{EnrolledHost, StoredHost};
use crate::host_identity::evidence::EvidenceKind;
use crate::store::error::StoreError;
use crate::store::reader::Reader;

const HOST: &str = "SELECT instance, account, region, evidence, keys, pending_time, enrolled_at, certified_at, ended_at, revision";
const REQUEST: &str = "SELECT enrolment, instance, account, region, evidence, keys, challenge, challenge_ends, state, asked_at, decided_by FROM host_requests";
const TOKEN: &str =
    "SELECT digest, instance, made_by, made_at, ends, used_at FROM enrolment_tokens";
const REPORT: &str = "SELECT instance, received_at, clock_offset, report FROM host_reports";

/// All that is stored of a host.
///
/// # Errors
/// The store's.
pub fn stored(reader: &Reader, id: &InstanceId) -> Result<StoredHost, StoreError> {
    reader.query(|connection| {
        // One transaction: all of one moment.
        let transaction = connection.unchecked_transaction()?;
        let host = |table: &str| {
            let sql = format!("{HOST} FROM {table} WHERE instance = ?1");
            let mut statement = transaction.prepare_cached(&sql)?;
            statement.query_row([id.as_str()], host_of).optional()
        };
        let sql = "SELECT 1 FROM blocked_hosts WHERE instance = ?1";
        let blocked = transaction.prepare_cached(sql)?.exists([id.as_str()])?;
        Ok(StoredHost {
            enrolled: host("hosts")?,
            legacy: host("legacy_hosts")?,
            blocked,
        })
    })
}

/// The hosts that an operator has shut out.
///
/// # Errors
/// The store's.
pub fn blocked(reader: &Reader) -> Result<BTreeSet<InstanceId>, StoreError> {
    let found = all(reader, "SELECT instance FROM blocked_hosts", |row| {
        parsed(row, 0)
    })?;
    Ok(found.into_iter().collect())
}

pub(super) fn enrolled(reader: &Reader) -> Result<Vec<InstanceId>, StoreError> {
    let sql = "SELECT instance FROM hosts WHERE ended_at IS NULL";
    all(reader, sql, |row| parsed(row, 0))
}

pub(super) fn other_owner(
    reader: &Reader,
    id: &InstanceId,
    fingerprints: &[String],
) -> Result<Option<InstanceId>, StoreError> {
    let sql = "SELECT instance FROM host_keys WHERE fingerprint = ?1 AND instance <> ?2";
    for fingerprint in fingerprints {
        let parameters = [fingerprint.as_str(), id.as_str()];
        if let Some(owner) = one(reader, sql, parameters, |row| parsed(row, 0))? {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}

pub(super) fn owner(reader: &Reader, fingerprint: &str) -> Result<Option<InstanceId>, StoreError> {
    let sql = "SELECT instance FROM host_keys WHERE fingerprint = ?1";
    one(reader, sql, [fingerprint], |row| parsed(row, 0))
}

/// Every enrolled host, by id.
///
/// # Errors
/// The store's.
pub fn hosts(reader: &Reader) -> Result<Vec<EnrolledHost>, StoreError> {
    all(
        reader,
        &format!("{HOST} FROM hosts ORDER BY instance"),
        host_of,
    )
}

/// Every legacy host that made its keys known, by id.
///
/// # Errors
/// The store's.
pub fn legacy_hosts(reader: &Reader) -> Result<Vec<EnrolledHost>, StoreError> {
    all(
        reader,
        &format!("{HOST} FROM legacy_hosts ORDER BY instance"),
        host_of,
    )
}

pub(super) fn request(
    reader: &Reader,
    id: &InstanceId,
    keys_digest: &str,
) -> Result<Option<HostRequest>, StoreError> {
    let sql = format!("{REQUEST} WHERE instance = ?1 AND keys_digest = ?2");
    one(reader, &sql, [id.as_str(), keys_digest], request_of)
}

/// Every request for enrolment, the latest first.
///
/// # Errors
/// The store's.
pub fn requests(reader: &Reader) -> Result<Vec<HostRequest>, StoreError> {
    all(
        reader,
        &format!("{REQUEST} ORDER BY asked_at DESC"),
        request_of,
    )
}

pub(super) fn token(reader: &Reader, digest: &str) -> Result<Option<StoredToken>, StoreError> {
    one(
        reader,
        &format!("{TOKEN} WHERE digest = ?1"),
        [digest],
        token_of,
    )
}

/// Every host's latest report, by id.
///
/// # Errors
/// The store's.
pub fn reports(reader: &Reader) -> Result<Vec<StoredReport>, StoreError> {
    all(reader, &format!("{REPORT} ORDER BY instance"), report_of)
}

/// What the journal says of a serial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalMatch {
    /// `user` or `host`.
    pub kind: String,
    /// Joined by commas.
    pub principals: String,
    /// Fingerprint of the CA key.
    pub ca: String,
    /// Whoever got the certificate.
    pub caller: String,
    /// The request, as in key id and audit.
    pub request_id: RequestId,
    /// Whether a certificate may have left: everything but `failed` and `abandoned`.
    pub may_exist: bool,
}

/// The journal's row of a serial.
///
/// # Errors
/// The store's.
pub fn journal_match(reader: &Reader, serial: u64) -> Result<Option<JournalMatch>, StoreError> {
    // Serials that this CA draws have 63 bits.
    let Ok(serial) = i64::try_from(serial) else {
        return Ok(None);
    };
    let sql = "SELECT kind, principals, ca, caller, request_id,
               state NOT IN ('failed', 'abandoned') FROM journal WHERE serial = ?1";
    one(reader, sql, params![serial], |row| {
        Ok(JournalMatch {
            kind: row.get(0)?,
            principals: row.get(1)?,
            ca: row.get(2)?,
            caller: row.get(3)?,
            request_id: RequestId::from_random(row.get(4)?),
            may_exist: row.get(5)?,
        })
    })
}

fn host_of(row: &Row<'_>) -> rusqlite::Result<EnrolledHost> {
    Ok(EnrolledHost {
        instance: parsed(row, 0)?,
        account: parsed(row, 1)?,
        region: parsed(row, 2)?,
        evidence: named(row, 3, &EvidenceKind::NAMES)?,
        keys: keys(row, 4)?,
        pending_time: row.get::<_, Option<i64>>(5)?.map(i64::unsigned_abs),
        enrolled_at: unsigned(row, 6)?,
        certified_at: unsigned(row, 7)?,
        ended_at: row.get::<_, Option<i64>>(8)?.map(i64::unsigned_abs),
        revision: unsigned(row, 9)?,
    })
}

fn request_of(row: &Row<'_>) -> rusqlite::Result<HostRequest> {
    Ok(HostRequest {
        enrolment: RequestId::from_random(row.get(0)?),
        instance: parsed(row, 1)?,
        account: parsed(row, 2)?,
        region: parsed(row, 3)?,
        evidence: named(row, 4, &EvidenceKind::NAMES)?,
        keys: keys(row, 5)?,
        challenge: parsed(row, 6)?,
        challenge_ends: unsigned(row, 7)?,
        state: named(row, 8, &RequestState::NAMES)?,
        asked_at: unsigned(row, 9)?,
        decided_by: row.get(10)?,
    })
}

fn token_of(row: &Row<'_>) -> rusqlite::Result<StoredToken> {
    Ok(StoredToken {
        digest: row.get(0)?,
        instance: parsed(row, 1)?,
        made_by: row.get(2)?,
        made_at: unsigned(row, 3)?,
        ends: unsigned(row, 4)?,
        used_at: row.get::<_, Option<i64>>(5)?.map(i64::unsigned_abs),
    })
}

fn report_of(row: &Row<'_>) -> rusqlite::Result<StoredReport> {
    Ok(StoredReport {
        instance: parsed(row, 0)?,
        received_at: unsigned(row, 1)?,
        clock_offset: row.get(2)?,
        report: row.get(3)?,
    })
}

fn one<T>(
    reader: &Reader,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    reader.query(|connection: &Connection| {
        let mut statement = connection.prepare_cached(sql)?;
        statement.query_row(parameters, read).optional()
    })
}

fn all<T>(
    reader: &Reader,
    sql: &str,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    reader.query(|connection: &Connection| {
        let mut statement = connection.prepare_cached(sql)?;
        statement.query_map([], read)?.collect()
    })
}

fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(i64::unsigned_abs)
}

fn parsed<T: FromStr>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    let text: String = row.get(index)?;
    text.parse().map_err(|_| damaged(index))
}

fn named<T: Copy>(row: &Row<'_>, index: usize, names: &[(&'static str, T)]) -> rusqlite::Result<T> {
    let text: String = row.get(index)?;
    let found = names.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| damaged(index))
}

fn keys(row: &Row<'_>, index: usize) -> rusqlite::Result<Vec<SubjectKey>> {
    let text: String = row.get(index)?;
    let lines = text.lines().map(str::parse);
    lines.collect::<Result<_, _>>().map_err(|_| damaged(index))
}

fn damaged(index: usize) -> rusqlite::Error {
    let flaw = "the stored text is damaged";
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, flaw.into())
}
