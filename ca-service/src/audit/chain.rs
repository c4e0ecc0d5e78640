//! The hash chain: each record's hash covers the hash before it, so that deleting, reordering or
//! altering one breaks all that follow. Arithmetic only; the rows are the store's.

use sha2::{Digest as _, Sha256};

/// Domain of a chain's first hash.
const GENESIS: &[u8] = b"eic-audit-v1\0";

/// Where a writer's chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Number of the last record; 0: none yet.
    pub(crate) seq: i64,
    /// Its hash.
    pub(crate) hash: [u8; 32],
}

/// One record's place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number, from 1.
    pub(crate) seq: i64,
    /// The hash before it.
    pub(crate) previous: [u8; 32],
    /// Its own: SHA-256(previous ‖ record).
    pub(crate) hash: [u8; 32],
}

impl Head {
    /// An empty chain. Its hash names the writer, so that chains cannot be exchanged.
    #[must_use]
    pub(crate) fn genesis(writer: &str) -> Self {
        let hash = Sha256::new()
            .chain_update(GENESIS)
            .chain_update(writer.as_bytes())
            .finalize();
        Self {
            seq: 0,
            hash: hash.into(),
        }
    }

    /// Appends a record's exact bytes.
    pub(crate) fn append(&mut self, record: &[u8]) -> Link {
        let previous = self.hash;
        let hash = Sha256::new()
            .chain_update(previous)
            .chain_update(record)
            .finalize();
        self.hash = hash.into();
        self.seq = self.seq.saturating_add(1);
        Link {
            seq: self.seq,
            previous,
            hash: self.hash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_in_another_order_give_another_hash() {
        let chain = |records: [&[u8]; 2]| {
            let mut head = Head::genesis("w");
            for record in records {
                head.append(record);
            }
            head
        };
        assert_ne!(chain([b"a", b"b"]).hash, chain([b"b", b"a"]).hash);
        assert_ne!(chain([b"ab", b""]).hash, chain([b"a", b"b"]).hash);
        assert_eq!(chain([b"a", b"b"]).seq, 2);
    }

    #[test]
    fn chains_of_two_writers_cannot_be_exchanged() {
        assert_ne!(
            Head::genesis("a").append(b"x").hash,
            Head::genesis("b").append(b"x").hash
        );
    }
}
