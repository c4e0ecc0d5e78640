//! Reads records back: by filter, newest or oldest first, and as they are written.

use std::io;
use std::time::Duration;

use rusqlite::{Connection, params};
use serde_json::Value;

use crate::store::{Reader, StoreError};

/// How often a followed audit is looked at.
const POLL: Duration = Duration::from_millis(250);
/// Records read at once.
const PAGE: i64 = 500;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place in the store; grows with each record.
    pub id: i64,
    /// When it was written, in Unix seconds.
    pub time: u64,
    /// One line of ASCII JSON, as it was hashed.
    pub json: String,
}

impl Entry {
    /// The record's fields.
    #[must_use]
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or(Value::Null)
    }
}

/// Which records. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not before, in Unix seconds.
    pub since: Option<u64>,
    /// Before, in Unix seconds.
    pub until: Option<u64>,
    /// `eventName`.
    pub event: Option<String>,
    /// ARN, user id or name of the caller, in full.
    pub caller: Option<String>,
    /// `requestID`.
    pub request_id: Option<String>,
    /// A certificate's serial.
    pub serial: Option<String>,
    /// Instance id of the host.
    pub instance: Option<String>,
    /// Only refusals and failures.
    pub errors_only: bool,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

impl Filter {
    /// Whether a record is one of those.
    #[must_use]
    pub fn admits(&self, entry: &Entry) -> bool {
        let in_time =
            self.since.is_none_or(|t| t <= entry.time) && self.until.is_none_or(|t| entry.time < t);
        in_time && (!self.looks_inside() || self.admits_value(&entry.value()))
    }

    fn looks_inside(&self) -> bool {
        let any = [
            &self.event,
            &self.caller,
            &self.request_id,
            &self.serial,
            &self.instance,
        ];
        self.errors_only || any.into_iter().any(Option::is_some)
    }

    fn admits_value(&self, record: &Value) -> bool {
        let is = |wanted: &Option<String>, pointers: &[&str]| {
            let wanted = wanted.as_deref();
            wanted.is_none_or(|w| {
                pointers
                    .iter()
                    .any(|p| record.pointer(p).and_then(Value::as_str) == Some(w))
            })
        };
        is(&self.event, &["/eventName"])
            && is(&self.caller, &CALLER_FIELDS)
            && is(&self.request_id, &["/requestID"])
            && is(
                &self.serial,
                &["/responseElements/serial", "/additionalEventData/serial"],
            )
            && self
                .instance
                .as_deref()
                .is_none_or(|instance| names_instance(record, instance))
            && (!self.errors_only || record.get("errorCode").is_some())
    }

    /// A text that every wanted record holds: SQLite finds it without reading JSON.
    fn needle(&self) -> Option<&str> {
        let texts = [
            &self.request_id,
            &self.serial,
            &self.instance,
            &self.caller,
            &self.event,
        ];
        texts.into_iter().find_map(Option::as_deref)
    }
}

/// As the host of a certificate or pushed key, or within the principal that was refused.
fn names_instance(record: &Value, instance: &str) -> bool {
    let field = |name: &str| record.pointer(name).and_then(Value::as_str);
    let principal = field("/requestParameters/principal").and_then(|p| p.split_once('@'));
    field("/requestParameters/instanceId") == Some(instance)
        || principal.is_some_and(|(_, host)| host == instance)
}

const CALLER_FIELDS: [&str; 5] = [
    "/userIdentity/arn",
    "/userIdentity/principalId",
    "/userIdentity/userName",
    "/userIdentity/sessionContext/sessionIssuer/userName",
    "/userIdentity/sessionContext/sessionIssuer/principalId",
];

/// The records that a filter admits, oldest first.
///
/// # Errors
/// The store's.
pub fn query(reader: &Reader, filter: &Filter) -> Result<Vec<Entry>, StoreError> {
    let limit = filter.limit.unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut before = i64::MAX;
    // Newest first, so that a limit ends the search early.
    while found.len() < limit {
        let page = reader.query(|connection| page_before(connection, before, filter))?;
        let Some(last) = page.last() else { break };
        before = last.id;
        found.extend(page.into_iter().filter(|entry| filter.admits(entry)));
    }
    found.truncate(limit);
    found.reverse();
    Ok(found)
}

fn page_before(
    connection: &Connection,
    before: i64,
    filter: &Filter,
) -> rusqlite::Result<Vec<Entry>> {
    let sql = "SELECT id, time, record FROM audit
               WHERE id < ?1 AND time >= ?2 AND (?3 IS NULL OR instr(record, ?3) > 0)
               ORDER BY id DESC LIMIT ?4";
    let since = filter
        .since
        .and_then(|t| i64::try_from(t).ok())
        .unwrap_or(0);
    entries(
        connection,
        sql,
        params![before, since, filter.needle(), PAGE],
    )
}

fn page_after(connection: &Connection, after: i64) -> rusqlite::Result<Vec<Entry>> {
    let sql = "SELECT id, time, record FROM audit WHERE id > ?1 ORDER BY id LIMIT ?2";
    entries(connection, sql, params![after, PAGE])
}

fn entries(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, |row| {
        Ok(Entry {
            id: row.get(0)?,
            time: row.get::<_, i64>(1)?.unsigned_abs(),
            json: row.get(2)?,
        })
    })?;
    rows.collect()
}

/// Gives each record that is written after `after` to `show`, until that says `false`.
///
/// # Errors
/// The store's, or `show`'s.
pub fn tail(
    reader: &Reader,
    filter: &Filter,
    after: i64,
    mut show: impl FnMut(&Entry) -> io::Result<bool>,
) -> Result<(), TailError> {
    let mut last = after;
    loop {
        let page = reader.query(|connection| page_after(connection, last))?;
        for entry in &page {
            last = entry.id;
            if filter.admits(entry) && !show(entry)? {
                return Ok(());
            }
        }
        if page.is_empty() {
            std::thread::sleep(POLL);
        }
    }
}

/// Why following the audit ended.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whoever reads has gone.
    #[error("show the record: {0}")]
    Show(#[from] io::Error),
}
