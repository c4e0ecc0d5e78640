-- Legacy hosts that made their keys known: as `hosts`, but nothing was ever certified for them.
CREATE TABLE legacy_hosts (
    instance TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    evidence TEXT NOT NULL,
    keys TEXT NOT NULL,
    pending_time INTEGER,
    enrolled_at INTEGER NOT NULL,
    certified_at INTEGER NOT NULL,
    ended_at INTEGER,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Hosts that get nothing, whether they are enrolled or not.
CREATE TABLE blocked_hosts (
    instance TEXT PRIMARY KEY,
    blocked_by TEXT NOT NULL,
    reason TEXT,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO blocked_hosts (instance, blocked_by, at) SELECT instance, 'unknown', certified_at FROM hosts WHERE blocked;
ALTER TABLE hosts DROP COLUMN blocked;

-- When the inventory showed that the host is gone.
ALTER TABLE hosts ADD COLUMN ended_at INTEGER;

-- A host's own certificates: two a day for each host, beside many for people.
CREATE INDEX journal_hosts ON journal (principals) WHERE kind = 'host';
