-- User CAs that ever signed a certificate, by fingerprint, and since when: such a key is no spare. First filled from the
-- journal.
CREATE TABLE signers (
    ca TEXT PRIMARY KEY,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO signers (ca, since)
    SELECT coalesce(endorser, ca), min(prepared_at)
    FROM journal LEFT JOIN endorsed ON endorsed.fingerprint = journal.ca
    WHERE kind = 'user' GROUP BY 1;

-- Since when hosts could fetch a root. Roots that were replaced before anybody could are not here.
CREATE TABLE roots_served (
    version INTEGER PRIMARY KEY,
    since INTEGER NOT NULL
) STRICT;
