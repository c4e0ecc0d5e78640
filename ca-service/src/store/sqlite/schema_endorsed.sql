-- Every key in memory that was ever endorsed; its public half is in `ca_known`. `endorser`: fingerprint.
-- `signs_from`: when it was to begin to sign; `known_at`: since when every host can know it, NULL while no
-- bundle has named it. Rows stay: they say whose key a certificate's signer was.
CREATE TABLE endorsed (
    fingerprint TEXT PRIMARY KEY,
    endorser TEXT NOT NULL,
    document TEXT NOT NULL,
    signs_from INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    known_at INTEGER
) STRICT, WITHOUT ROWID;
