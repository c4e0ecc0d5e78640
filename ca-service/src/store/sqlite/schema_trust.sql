-- What hosts are told to refuse. `ca`: fingerprint of the CA key, where the form names one; `value`: a serial
-- in decimal, a key in hex, a fingerprint or a key id. `fingerprint`: of the key, where one is named.
CREATE TABLE revoked (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('serial', 'key-id', 'key', 'fingerprint', 'ca-key')),
    ca TEXT NOT NULL,
    value TEXT NOT NULL,
    fingerprint TEXT,
    expires INTEGER,
    revocation BLOB NOT NULL,
    revoked_by TEXT NOT NULL,
    reason TEXT,
    at INTEGER NOT NULL,
    UNIQUE (kind, ca, value)
) STRICT;

-- Every CA key that a root ever named, by fingerprint: a list names CAs by their whole key.
CREATE TABLE ca_known (
    fingerprint TEXT PRIMARY KEY,
    public_key TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Numbers that never go back. `content`: SHA-256 of the list without its number and time.
CREATE TABLE trust_numbers (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    number INTEGER NOT NULL,
    generated INTEGER NOT NULL,
    reset_at INTEGER NOT NULL,
    reset_wanted INTEGER NOT NULL CHECK (reset_wanted IN (0, 1)),
    content BLOB NOT NULL
) STRICT;
INSERT INTO trust_numbers VALUES (1, 0, 0, 0, 0, 0, 0, X'');

-- Since when a host's tags select it for a fleet.
CREATE TABLE fleet_joins (
    instance TEXT NOT NULL,
    fleet TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (instance, fleet)
) STRICT, WITHOUT ROWID;
