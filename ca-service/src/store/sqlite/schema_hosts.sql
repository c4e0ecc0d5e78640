-- Hosts whose keys were certified; `keys`: one OpenSSH line each.
CREATE TABLE hosts (
    instance TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    evidence TEXT NOT NULL,
    keys TEXT NOT NULL,
    pending_time INTEGER,
    blocked INTEGER NOT NULL CHECK (blocked IN (0, 1)),
    enrolled_at INTEGER NOT NULL,
    certified_at INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Every key that a host ever had: it names no other host.
CREATE TABLE host_keys (
    fingerprint TEXT PRIMARY KEY,
    instance TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX host_keys_instance ON host_keys (instance);

-- Keys that wait for the console, or for an operator.
CREATE TABLE host_requests (
    enrolment BLOB PRIMARY KEY,
    instance TEXT NOT NULL,
    keys_digest TEXT NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    evidence TEXT NOT NULL,
    keys TEXT NOT NULL,
    challenge TEXT NOT NULL,
    challenge_ends INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'approved', 'rejected')),
    asked_at INTEGER NOT NULL,
    decided_by TEXT,
    UNIQUE (instance, keys_digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE enrolment_tokens (
    digest TEXT PRIMARY KEY,
    instance TEXT NOT NULL,
    made_by TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    used_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE host_reports (
    instance TEXT PRIMARY KEY,
    received_at INTEGER NOT NULL,
    clock_offset INTEGER NOT NULL,
    report TEXT NOT NULL
) STRICT, WITHOUT ROWID;
