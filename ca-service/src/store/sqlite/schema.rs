//! The tables, made by numbered migrations (`PRAGMA user_version`). A step that was released never changes.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use crate::random;
use crate::store::error::StoreError;

/// Each step brings the schema from its index to the next version.
const STEPS: &[&str] = &[
    VERSION_1,
    VERSION_2,
    HOSTS,
    TRUST,
    LEGACY_HOSTS,
    ENDORSED,
    LIVING,
    ROTATION,
    RECENT_CLAIMS,
];

const VERSION_1: &str = "
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each certificate that was ever meant to be signed.
CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    serial INTEGER NOT NULL UNIQUE CHECK (serial > 0),
    request_id BLOB NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('user', 'host')),
    caller TEXT NOT NULL,
    caller_id TEXT NOT NULL,
    principals TEXT NOT NULL CHECK (principals <> ''),
    tbs_hash BLOB NOT NULL,
    ca TEXT NOT NULL,
    valid_before INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('prepared', 'issued', 'failed', 'abandoned', 'orphan')),
    prepared_at INTEGER NOT NULL,
    completed_at INTEGER,
    certificate_hash BLOB
) STRICT;
-- Small: rows leave it when they are completed. Makes the start after a crash immediate.
CREATE INDEX journal_open ON journal (id) WHERE state = 'prepared';

-- In the order of time, so that neighbours share pages and old claims leave together.
CREATE TABLE replay (
    forget_at INTEGER NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (forget_at, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE revocations (
    who TEXT PRIMARY KEY,
    revoked_by TEXT NOT NULL,
    reason TEXT,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE hosts_seen (
    instance TEXT PRIMARY KEY,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    view_version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE ca_keys (
    name TEXT PRIMARY KEY,
    public_key TEXT NOT NULL,
    first_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- hash = SHA-256(previous || record); the first previous is derived from the writer's name.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    writer TEXT NOT NULL,
    seq INTEGER NOT NULL,
    time INTEGER NOT NULL,
    record TEXT NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (writer, seq)
) STRICT;
CREATE TABLE audit_head (
    writer TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT, WITHOUT ROWID;
";

/// A host that an operator has forgotten keeps its row: versions of views never go back, or the
/// host would refuse the next one.
const VERSION_2: &str = "
ALTER TABLE hosts_seen ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0 CHECK (forgotten IN (0, 1));
";

/// Enrolled hosts.
const HOSTS: &str = include_str!("schema_hosts.sql");

/// Revocations and the bundle's numbers.
const TRUST: &str = include_str!("schema_trust.sql");

/// Legacy hosts' keys, and hosts that are blocked without being enrolled.
const LEGACY_HOSTS: &str = include_str!("schema_legacy_hosts.sql");

/// Keys in memory that a user CA's key endorsed.
const ENDORSED: &str = include_str!("schema_endorsed.sql");

/// Revoking a caller asks for certificates that have not ended: 3 s without an index among a million, 0.2 with it.
/// They are made nearly in this order, so that it costs the journal next to nothing.
const LIVING: &str = "CREATE INDEX journal_ends ON journal (valid_before);";

/// Who signed, and since when hosts could have a root.
const ROTATION: &str = include_str!("schema_rotation.sql");

/// Claims in the order in which they came: a group of them is one page of this, and would be one page each of `replay`,
/// where they go together a little later (see `recent_claims`).
const RECENT_CLAIMS: &str = "
CREATE TABLE replay_recent (
    id INTEGER PRIMARY KEY,
    forget_at INTEGER NOT NULL,
    digest BLOB NOT NULL
) STRICT;
";

/// Brings the schema up to date; returns this store's name as a writer of audit records.
///
/// # Errors
/// [`StoreError::Newer`] for a file of a newer release.
pub(super) fn migrate(connection: &mut Connection) -> Result<String, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let done = usize::try_from(found).ok().filter(|_| found <= known);
    let done = done.ok_or(StoreError::Newer { found, known })?;
    for step in STEPS.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    let writer = writer_name(&transaction)?;
    transaction.commit()?;
    Ok(writer)
}

/// Drawn once for each store: two stores never share a chain, even when one is a copy's replacement.
fn writer_name(connection: &Connection) -> Result<String, StoreError> {
    let known = connection
        .query_row("SELECT value FROM meta WHERE name = 'writer'", [], |row| {
            row.get(0)
        })
        .optional()?;
    if let Some(name) = known {
        return Ok(name);
    }
    let random: [u8; 8] = random::bytes().map_err(|_| StoreError::NoEntropy)?;
    let name = format!("eic-ca-{}", hex::encode(random));
    connection.execute(
        "INSERT INTO meta (name, value) VALUES ('writer', ?1)",
        [&name],
    )?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store as it was before this step.
    fn before(step: &str) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let steps = STEPS.iter().take_while(|known| **known != step);
        for step in steps.clone() {
            connection.execute_batch(step).unwrap();
        }
        let version = i64::try_from(steps.count()).unwrap();
        connection
            .pragma_update(None, "user_version", version)
            .unwrap();
        connection
    }

    #[test]
    fn who_signed_before_it_was_written_down_is_known_in_a_newer_store() {
        let mut connection = before(ROTATION);
        let endorsed = "INSERT INTO endorsed VALUES ('memory', 'second', '{}', 1, 9, 1)";
        connection.execute(endorsed, []).unwrap();
        let row = "INSERT INTO journal (serial, request_id, kind, caller, caller_id, principals, tbs_hash, ca, valid_before, state, prepared_at)
                   VALUES (?1, x'00', ?2, 'c', 'c', 'p', x'00', ?3, 9, 'issued', ?1)";
        for (at, kind, ca) in [
            (5, "user", "first"),
            (6, "user", "memory"),
            (7, "user", "first"),
            (8, "host", "host"),
        ] {
            connection.execute(row, (at, kind, ca)).unwrap();
        }
        migrate(&mut connection).unwrap();
        let mut signers = connection
            .prepare("SELECT ca, since FROM signers ORDER BY since")
            .unwrap();
        let signers: Vec<(String, i64)> = signers
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(signers, [("first".to_owned(), 5), ("second".to_owned(), 6)]);
    }

    #[test]
    fn a_host_that_was_blocked_stays_so_in_a_newer_store() {
        let mut connection = before(LEGACY_HOSTS);
        let sql = "INSERT INTO hosts VALUES ('i-01234567', '1', 'r', 'e', 'k', NULL, ?1, 1, 2, 3)";
        connection.execute(sql, [1]).unwrap();
        let other = sql.replace("i-01234567", "i-89abcdef");
        connection.execute(&other, [0]).unwrap();
        migrate(&mut connection).unwrap();
        let mut blocked = connection
            .prepare("SELECT instance FROM blocked_hosts")
            .unwrap();
        let blocked: Vec<String> = blocked
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(blocked, ["i-01234567"]);
        let hosts: i64 = connection
            .query_row("SELECT count(*) FROM hosts", [], |row| row.get(0))
            .unwrap();
        assert_eq!(hosts, 2);
    }
}
