//! Checks the audit's hash chains: nothing deleted, reordered, altered, or cut off at the end.
//!
//! The chain alone cannot see that its last records are missing. The store keeps each chain's head in
//! another table; who can write the database can change both, so a checkpoint kept elsewhere (a file
//! on another machine, a printed line) is what finds that too.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use rusqlite::Connection;

use super::chain::Head;
use crate::store::{Reader, StoreError};

/// Where a writer's chain stood at some moment: `writer seq hash`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The writer.
    pub writer: String,
    /// Number of its last record.
    pub seq: i64,
    /// Hash of that record.
    pub hash: [u8; 32],
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.writer, self.seq, hex::encode(self.hash))
    }
}

impl FromStr for Checkpoint {
    type Err = NotCheckpoint;

    fn from_str(line: &str) -> Result<Self, NotCheckpoint> {
        parse(line).ok_or(NotCheckpoint)
    }
}

fn parse(line: &str) -> Option<Checkpoint> {
    let mut words = line.split_whitespace();
    let (writer, seq, hash) = (
        words.next()?.to_owned(),
        words.next()?.parse().ok()?,
        words.next()?,
    );
    let mut bytes = [0; 32];
    hex::decode_to_slice(hash, &mut bytes).ok()?;
    (words.next().is_none() && seq > 0).then_some(Checkpoint {
        writer,
        seq,
        hash: bytes,
    })
}

/// Not a checkpoint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "read the checkpoint: a line is `<writer> <number> <hash>`, as `eic-ca audit verify` prints it"
)]
pub struct NotCheckpoint;

/// What is wrong with a chain, by its writer and the number of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The writer.
    pub writer: String,
    /// The first record that does not hold.
    pub seq: i64,
    /// What about it.
    pub what: &'static str,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "writer {}, record {}: {}",
            self.writer, self.seq, self.what
        )
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records read.
    pub records: u64,
    /// Where each chain ends.
    pub heads: Vec<Checkpoint>,
    /// What does not hold; empty: nothing was deleted, reordered or altered.
    pub flaws: Vec<Flaw>,
}

/// Reads every record of every writer, and compares with checkpoints of earlier.
///
/// # Errors
/// The store's; flaws are no error but in the report.
pub fn verify(reader: &Reader, known: &[Checkpoint]) -> Result<Report, StoreError> {
    reader.query(|connection| {
        // One snapshot for all that is read: the service may be writing.
        let transaction = connection.unchecked_transaction()?;
        let mut chains = Chains::new(known);
        chains.read(&transaction)?;
        chains.compare_heads(&transaction)?;
        Ok(chains.report())
    })
}

/// Where each chain ends, as the store itself says.
///
/// # Errors
/// The store's.
pub fn checkpoints(reader: &Reader) -> Result<Vec<Checkpoint>, StoreError> {
    reader.query(heads)
}

fn heads(connection: &Connection) -> rusqlite::Result<Vec<Checkpoint>> {
    let mut statement =
        connection.prepare("SELECT writer, seq, hash FROM audit_head ORDER BY writer")?;
    let rows = statement.query_map([], |row| {
        Ok(Checkpoint {
            writer: row.get(0)?,
            seq: row.get(1)?,
            hash: row.get(2)?,
        })
    })?;
    rows.collect()
}

struct Chains<'a> {
    known: &'a [Checkpoint],
    chains: BTreeMap<String, Head>,
    report: Report,
}

impl<'a> Chains<'a> {
    fn new(known: &'a [Checkpoint]) -> Self {
        Self {
            known,
            chains: BTreeMap::new(),
            report: Report::default(),
        }
    }

    fn read(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "SELECT writer, seq, record, previous, hash FROM audit ORDER BY writer, seq";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let writer: String = row.get(0)?;
            let record = row.get_ref(2)?.as_bytes().unwrap_or_default();
            self.link(&writer, row.get(1)?, record, row.get(3)?, row.get(4)?);
        }
        Ok(())
    }

    /// One record against the chain so far. The chain then goes on from what is stored, so that one
    /// flaw is reported once.
    fn link(&mut self, writer: &str, seq: i64, record: &[u8], previous: [u8; 32], hash: [u8; 32]) {
        self.report.records += 1;
        let head = self
            .chains
            .entry(writer.to_owned())
            .or_insert_with(|| Head::genesis(writer));
        let follows = seq == head.seq.saturating_add(1);
        let linked = previous == head.hash;
        let mut own = Head {
            seq: seq.saturating_sub(1),
            hash: previous,
        };
        let intact = own.append(record).hash == hash;
        *head = Head { seq, hash };
        let what = match (follows, linked, intact) {
            (false, _, _) => Some("records before it are missing"),
            (_, _, false) => Some("it was altered"),
            (_, false, _) => Some("the record before it is another one than when it was written"),
            _ => None,
        };
        self.flaw(writer, seq, what);
        self.compare_known(writer, seq, hash);
    }

    fn compare_known(&mut self, writer: &str, seq: i64, hash: [u8; 32]) {
        let known = self
            .known
            .iter()
            .filter(|k| k.writer == writer && k.seq == seq);
        let hashes: Vec<[u8; 32]> = known.map(|k| k.hash).collect();
        for known in hashes {
            self.flaw(
                writer,
                seq,
                (known != hash).then_some("it is not the one of the checkpoint"),
            );
        }
    }

    /// The end of each chain against the store's own note of it, both ways.
    fn compare_heads(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut noted = heads(connection)?;
        for head in &noted {
            let end = self
                .chains
                .get(&head.writer)
                .cloned()
                .unwrap_or_else(|| Head::genesis(&head.writer));
            let missing = end.seq < head.seq;
            let other = end.seq == head.seq && end.hash != head.hash;
            self.flaw(
                &head.writer,
                head.seq,
                missing.then_some("records at the end are missing"),
            );
            self.flaw(
                &head.writer,
                head.seq,
                other.then_some("the last record is another one than when it was written"),
            );
        }
        noted.retain(|head| self.chains.contains_key(&head.writer));
        let unnoted: Vec<(String, i64)> = self
            .chains
            .iter()
            .filter(|(writer, end)| {
                !noted
                    .iter()
                    .any(|head| head.writer == **writer && head.seq >= end.seq)
            })
            .map(|(writer, end)| (writer.clone(), end.seq))
            .collect();
        for (writer, seq) in unnoted {
            self.flaw(
                &writer,
                seq,
                Some("it was added without the store's note of it"),
            );
        }
        Ok(())
    }

    fn flaw(&mut self, writer: &str, seq: i64, what: Option<&'static str>) {
        if let Some(what) = what {
            self.report.flaws.push(Flaw {
                writer: writer.to_owned(),
                seq,
                what,
            });
        }
    }

    fn report(mut self) -> Report {
        let ends: Vec<(&Checkpoint, i64)> = self
            .known
            .iter()
            .map(|known| {
                (
                    known,
                    self.chains.get(&known.writer).map_or(0, |end| end.seq),
                )
            })
            .collect();
        for (known, end) in ends {
            if end < known.seq {
                let what = "records up to the checkpoint are missing";
                self.report.flaws.push(Flaw {
                    writer: known.writer.clone(),
                    seq: known.seq,
                    what,
                });
            }
        }
        let chains = self.chains.into_iter();
        self.report.heads = chains
            .map(|(writer, end)| Checkpoint {
                writer,
                seq: end.seq,
                hash: end.hash,
            })
            .collect();
        self.report
    }
}
