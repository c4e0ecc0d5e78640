//! Reading what is revoked and what was issued. Text that does not parse is a damaged store, never an absent row.

use std::collections::{BTreeMap, HashMap, HashSet};

use eic_protocol::instance_id::InstanceId;
use eic_protocol::key_fingerprint::KeyFingerprint;
use eic_protocol::krl::{RevocationSet, RevokedKey, Target};
use eic_protocol::request_id::RequestId;
use eic_protocol::serial::Serial;
use eic_protocol::subject_key::CaKey;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Endorsed;
use crate::store::error::StoreError;
use crate::store::reader::Reader;

/// All that is revoked, as of one moment.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// The entries.
    pub set: RevocationSet,
    /// The store's revision that they belong to.
    pub revision: u64,
    /// Whether entries were taken back since the last bundle.
    pub reset_wanted: bool,
    /// Entries of CAs that no root names: they cannot be listed.
    pub homeless: usize,
}

/// An entry and who made it.
#[derive(Clone, Debug)]
pub struct HandedIn {
    /// What is revoked.
    pub target: Target,
    /// When it ends by itself, in Unix seconds; none: never.
    pub end: Option<u64>,
    /// Who revoked it: a caller's ARN, a host's id, an operator.
    pub by: String,
    /// The call that it came with.
    pub call: Vec<u8>,
}

/// A certificate as the journal knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedRow {
    /// The serial.
    pub serial: Serial,
    /// Fingerprint of its CA's key.
    pub ca: String,
    /// ARN of the caller.
    pub caller: String,
    /// Unique id of the caller.
    pub caller_id: String,
    /// When it ends, in Unix seconds.
    pub valid_before: u64,
}

const ISSUED: &str = "SELECT serial, ca, caller, caller_id, valid_before FROM journal";

pub(super) fn revoked(reader: &Reader) -> Result<Revoked, StoreError> {
    reader.query(|connection| {
        // One transaction: entries and revision of one moment.
        let transaction = connection.unchecked_transaction()?;
        let (revision, reset_wanted) = transaction.query_row(
            "SELECT revision, reset_wanted FROM trust_numbers",
            [],
            |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?)),
        )?;
        let (set, homeless) = entries(&transaction)?;
        Ok(Revoked {
            set,
            revision,
            reset_wanted,
            homeless,
        })
    })
}

/// The list that got numbers last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedList {
    /// Its number: the sequence of the first bundle that holds it; 0: there is none.
    pub number: u64,
    /// Digest of it without number and time.
    pub content: Vec<u8>,
}

/// What is revoked, and the list that got numbers last: another one where nothing has put what is revoked into a bundle yet.
///
/// # Errors
/// The store's.
pub fn revoked_and_numbered(reader: &Reader) -> Result<(Revoked, NumberedList), StoreError> {
    // The list first: what is revoked meanwhile is in none yet, as far as it is known here.
    let sql = "SELECT number, content FROM trust_numbers";
    let numbered = reader.query(|connection| {
        connection.query_row(sql, [], |row| {
            Ok(NumberedList {
                number: row.get::<_, i64>(0)?.unsigned_abs(),
                content: row.get(1)?,
            })
        })
    })?;
    Ok((revoked(reader)?, numbered))
}

fn entries(connection: &Connection) -> rusqlite::Result<(RevocationSet, usize)> {
    let cas = cas(connection)?;
    let mut statement =
        connection.prepare_cached("SELECT kind, ca, value, expires FROM revoked ORDER BY id")?;
    let mut rows = statement.query([])?;
    let (mut set, mut homeless) = (RevocationSet::new(), 0);
    while let Some(row) = rows.next()? {
        let expires = row.get::<_, Option<i64>>(3)?.map(i64::unsigned_abs);
        match target(row, &cas)? {
            Some(target) => set.insert(target, expires),
            None => homeless += 1,
        }
    }
    Ok((set, homeless))
}

/// The entries with who made each of them. As costly as reading all that is revoked, and seldom needed.
///
/// # Errors
/// The store's.
pub fn handed_in(reader: &Reader) -> Result<Vec<HandedIn>, StoreError> {
    reader.query(|connection| {
        let cas = cas(connection)?;
        let sql = "SELECT kind, ca, value, expires, revoked_by, revocation FROM revoked";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let Some(target) = target(row, &cas)? else {
                continue;
            };
            entries.push(HandedIn {
                target,
                end: row.get::<_, Option<i64>>(3)?.map(i64::unsigned_abs),
                by: row.get(4)?,
                call: row.get(5)?,
            });
        }
        Ok(entries)
    })
}

/// How many keys this host gave up that have not ended at `now` (Unix seconds).
pub(super) fn given_up(
    reader: &Reader,
    instance: &InstanceId,
    now: u64,
) -> Result<u64, StoreError> {
    reader.query(|connection| {
        let sql =
            "SELECT count(*) FROM revoked WHERE kind = 'key' AND revoked_by = ?1 AND expires > ?2";
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let count = connection
            .prepare_cached(sql)?
            .query_row(params![instance.as_str(), now], |row| row.get::<_, i64>(0))?;
        Ok(count.unsigned_abs())
    })
}

fn cas(connection: &Connection) -> rusqlite::Result<HashMap<String, CaKey>> {
    let mut statement =
        connection.prepare_cached("SELECT fingerprint, public_key FROM ca_known")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, ca_of(row, 1)?)))?;
    rows.collect()
}

/// `None`: its CA is not known.
fn target(row: &Row<'_>, cas: &HashMap<String, CaKey>) -> rusqlite::Result<Option<Target>> {
    let (kind, ca, value): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let ca = cas.get(&ca).cloned();
    let target = match kind.as_str() {
        "serial" => {
            let serial: Serial = value.parse().map_err(|_| damaged(2))?;
            ca.map(|ca| Target::serial(ca, serial))
        }
        "key-id" => {
            let id = value.parse().map_err(|_| damaged(2))?;
            ca.map(|ca| Target::KeyId(ca, id))
        }
        "key" => Some(Target::Key(key(&value)?)),
        "fingerprint" => {
            let print: KeyFingerprint = value.parse().map_err(|_| damaged(2))?;
            Some(Target::Fingerprint(print))
        }
        _ => Some(Target::CaKey(value.parse().map_err(|_| damaged(2))?)),
    };
    Ok(target)
}

fn key(value: &str) -> rusqlite::Result<RevokedKey> {
    let blob = hex::decode(value).map_err(|_| damaged(2))?;
    RevokedKey::from_blob(&blob).map_err(|_| damaged(2))
}

pub(super) fn by_serial(reader: &Reader, serial: u64) -> Result<Option<IssuedRow>, StoreError> {
    let Ok(serial) = i64::try_from(serial) else {
        return Ok(None);
    };
    reader.query(|connection| {
        let sql = format!("{ISSUED} WHERE serial = ?1");
        let mut statement = connection.prepare_cached(&sql)?;
        statement.query_row(params![serial], issued).optional()
    })
}

/// Of the living only, by the index of ends.
pub(super) fn has_living(
    reader: &Reader,
    (arn, id): (&str, &str),
    now: u64,
) -> Result<bool, StoreError> {
    reader.query(|connection| {
        let sql = "SELECT 1 FROM journal WHERE valid_before > ?1 AND caller_id = ?2 AND caller = ?3
                       AND state NOT IN ('failed', 'abandoned')";
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        connection
            .prepare_cached(sql)?
            .exists(params![now, id, arn])
    })
}

/// The journal has no index for it, and needs none: what was recorded before `since` has ended.
pub(super) fn by_request(
    reader: &Reader,
    id: RequestId,
    since: u64,
) -> Result<Option<IssuedRow>, StoreError> {
    let wanted = hex::decode(id.to_string()).unwrap_or_default();
    reader.query(|connection| {
        let sql = "SELECT serial, ca, caller, caller_id, valid_before, request_id, prepared_at
                   FROM journal ORDER BY id DESC";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(6)?.unsigned_abs() < since {
                return Ok(None);
            }
            if row.get::<_, Vec<u8>>(5)? == wanted {
                return issued(row).map(Some);
            }
        }
        Ok(None)
    })
}

/// Who signs user certificates, by fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signing {
    /// The operator's choice, or the schedule's, where there was one.
    pub chosen: Option<String>,
    /// When it was made, in Unix seconds.
    pub since: Option<u64>,
    /// Who signed the latest certificate; of a key in memory, who endorsed it.
    pub last: Option<String>,
    /// Who ever signed, and since when (Unix seconds); of keys in memory, who endorsed them.
    pub ever: BTreeMap<String, u64>,
    /// Since when hosts could fetch a root (Unix seconds), by its version.
    pub served: BTreeMap<u64, u64>,
}

pub(super) fn signing(reader: &Reader) -> Result<Signing, StoreError> {
    reader.query(|connection| {
        let one = |sql| {
            let found = connection.query_row(sql, [], |row| row.get::<_, String>(0));
            found.optional()
        };
        let since = one("SELECT value FROM meta WHERE name = 'signing_since'")?;
        Ok(Signing {
            chosen: one("SELECT value FROM meta WHERE name = 'signing_user_ca'")?,
            since: since.and_then(|since| since.parse().ok()),
            last: one(
                "SELECT coalesce((SELECT endorser FROM endorsed WHERE fingerprint = journal.ca), ca)
                 FROM journal WHERE kind = 'user' ORDER BY id DESC LIMIT 1",
            )?,
            ever: ever_signed(connection)?,
            served: roots_served(connection)?,
        })
    })
}

fn ever_signed(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut statement = connection.prepare_cached("SELECT ca, since FROM signers")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
    })?;
    rows.collect()
}

fn roots_served(connection: &Connection) -> rusqlite::Result<BTreeMap<u64, u64>> {
    let mut statement = connection.prepare_cached("SELECT version, since FROM roots_served")?;
    let value = |row: &Row<'_>, at| row.get::<_, i64>(at).map(i64::unsigned_abs);
    let rows = statement.query_map([], |row| Ok((value(row, 0)?, value(row, 1)?)))?;
    rows.collect()
}

pub(super) fn last_end(reader: &Reader, ca: &str, now: u64) -> Result<Option<u64>, StoreError> {
    reader.query(|connection| {
        let cas = with_endorsed(connection, ca)?;
        let sql = "SELECT ca, valid_before FROM journal
                   WHERE valid_before > ?1 AND state NOT IN ('failed', 'abandoned')";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([i64::try_from(now).unwrap_or(i64::MAX)])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            if cas.contains(&row.get::<_, String>(0)?) {
                last = last.max(Some(row.get::<_, i64>(1)?.unsigned_abs()));
            }
        }
        Ok(last)
    })
}

/// The CA and every key that it endorsed, by fingerprint.
fn with_endorsed(connection: &Connection, ca: &str) -> rusqlite::Result<HashSet<String>> {
    let sql = "SELECT ?1 UNION SELECT fingerprint FROM endorsed WHERE endorser = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([ca], |row| row.get(0))?;
    rows.collect()
}

pub(super) fn endorsed(reader: &Reader, now: u64) -> Result<Vec<Endorsed>, StoreError> {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    reader.query(|connection| {
        let sql = "SELECT public_key, endorser, document, signs_from, not_after, known_at,
                       EXISTS (SELECT 1 FROM revoked WHERE kind = 'ca-key'
                               AND revoked.fingerprint IN (endorsed.fingerprint, endorsed.endorser))
                   FROM endorsed JOIN ca_known USING (fingerprint)
                   WHERE not_after > ?1 ORDER BY signs_from, fingerprint";
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map([now], endorsed_row)?;
        rows.collect()
    })
}

fn endorsed_row(row: &Row<'_>) -> rusqlite::Result<Endorsed> {
    let document: String = row.get(2)?;
    let seconds = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
    Ok(Endorsed {
        key: ca_of(row, 0)?,
        endorser: row.get(1)?,
        document: serde_json::from_str(&document).map_err(|_| damaged(2))?,
        signs_from: seconds(3)?,
        not_after: seconds(4)?,
        known_at: row.get::<_, Option<i64>>(5)?.map(i64::unsigned_abs),
        revoked: row.get(6)?,
    })
}

pub(super) fn ca(reader: &Reader, fingerprint: &str) -> Result<Option<CaKey>, StoreError> {
    reader.query(|connection| {
        let sql = "SELECT public_key FROM ca_known WHERE fingerprint = ?1";
        let mut statement = connection.prepare_cached(sql)?;
        statement
            .query_row([fingerprint], |row| ca_of(row, 0))
            .optional()
    })
}

fn issued(row: &Row<'_>) -> rusqlite::Result<IssuedRow> {
    let serial = Serial::new(row.get::<_, i64>(0)?.unsigned_abs());
    Ok(IssuedRow {
        serial: serial.ok_or_else(|| damaged(0))?,
        ca: row.get(1)?,
        caller: row.get(2)?,
        caller_id: row.get(3)?,
        valid_before: row.get::<_, i64>(4)?.unsigned_abs(),
    })
}

fn ca_of(row: &Row<'_>, index: usize) -> rusqlite::Result<CaKey> {
    let text: String = row.get(index)?;
    text.parse().map_err(|_| damaged(index))
}

fn damaged(index: usize) -> rusqlite::Error {
    let flaw = "the stored text is damaged";
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, flaw.into())
}
