//! Replay claims of the last moments. They are durable in `replay_recent`, in the order in which they came, and known
//! here by their digests; several times a second they move to `replay`, which is ordered by time and digest. A claim is
//! new where neither knows it.

use std::collections::HashSet;

use rusqlite::{Connection, Transaction, params};

use super::apply::integer;
use crate::store::error::StoreError;
use crate::store::replay::ReplayClaim;

/// They move together at the latest when there are so many, so that no commit has more of this work.
const MOST: usize = 4096;

type Digest = [u8; 32];

/// What `replay_recent` holds, and what an open transaction adds to it.
#[derive(Default)]
pub(super) struct RecentClaims {
    known: HashSet<Digest>,
    added: Vec<Digest>,
    moved: bool,
    /// Number of the last change by others (`PRAGMA data_version`) that is in here.
    version: Option<i64>,
}

impl RecentClaims {
    /// Reads them again where another process has changed the database. To be called within each transaction.
    pub(super) fn begin(&mut self, transaction: &Connection) -> Result<(), StoreError> {
        self.roll_back();
        let mut statement = transaction.prepare_cached("PRAGMA data_version")?;
        let version = Some(statement.query_row([], |row| row.get(0))?);
        if self.version == version {
            return Ok(());
        }
        let mut statement = transaction.prepare_cached("SELECT digest FROM replay_recent")?;
        let known = statement.query_map([], |row| row.get(0))?;
        self.known = known.collect::<rusqlite::Result<_>>()?;
        self.version = version;
        Ok(())
    }

    /// Makes a claim; false where it had been made.
    pub(super) fn claim(
        &mut self,
        transaction: &Transaction<'_>,
        claim: &ReplayClaim,
    ) -> Result<bool, StoreError> {
        let moment = params![integer(claim.forget_at), claim.key];
        let sql = "SELECT 1 FROM replay WHERE forget_at = ?1 AND digest = ?2";
        if self.known.contains(&claim.key) || transaction.prepare_cached(sql)?.exists(moment)? {
            return Ok(false);
        }
        let sql = "INSERT INTO replay_recent (forget_at, digest) VALUES (?1, ?2)";
        transaction.prepare_cached(sql)?.execute(moment)?;
        self.known.insert(claim.key);
        self.added.push(claim.key);
        Ok(true)
    }

    /// Moves all to `replay`, where `due` says so or there are many.
    pub(super) fn finish(
        &mut self,
        transaction: &Transaction<'_>,
        due: bool,
    ) -> Result<(), StoreError> {
        self.moved = !self.known.is_empty() && (due || self.known.len() >= MOST);
        if self.moved {
            let sql = "INSERT OR IGNORE INTO replay (forget_at, digest)
                       SELECT forget_at, digest FROM replay_recent ORDER BY forget_at, digest";
            transaction.prepare_cached(sql)?.execute([])?;
            transaction
                .prepare_cached("DELETE FROM replay_recent")?
                .execute([])?;
        }
        Ok(())
    }

    /// The transaction is durable.
    pub(super) fn committed(&mut self) {
        self.added.clear();
        if std::mem::take(&mut self.moved) {
            self.known.clear();
        }
    }

    /// Nothing of the last transaction stays, unless it was said to be durable.
    fn roll_back(&mut self) {
        self.moved = false;
        for digest in self.added.drain(..) {
            self.known.remove(&digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::TransactionBehavior;

    use super::*;
    use crate::store::sqlite::schema;

    const NOW: u64 = 1_800_000_000;

    fn claim(n: u32) -> ReplayClaim {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&n.to_be_bytes());
        ReplayClaim::of_signed_time(digest, NOW, 60)
    }

    struct Base {
        connection: Connection,
        _folder: tempfile::TempDir,
    }

    impl Base {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut connection = Connection::open(folder.path().join("ca.db")).unwrap();
            schema::migrate(&mut connection).unwrap();
            Self {
                connection,
                _folder: folder,
            }
        }

        fn again(&self) -> Connection {
            Connection::open(self.connection.path().unwrap()).unwrap()
        }

        /// What came of these claims, in one transaction that is kept or not.
        fn group(
            &mut self,
            recent: &mut RecentClaims,
            claims: &[u32],
            due: bool,
            kept: bool,
        ) -> Vec<bool> {
            let behavior = TransactionBehavior::Immediate;
            let open = self.connection.transaction_with_behavior(behavior).unwrap();
            recent.begin(&open).unwrap();
            let outcome = claims
                .iter()
                .map(|n| recent.claim(&open, &claim(*n)).unwrap());
            let outcome = outcome.collect();
            recent.finish(&open, due).unwrap();
            if kept {
                open.commit().unwrap();
                recent.committed();
            } else {
                open.rollback().unwrap();
            }
            outcome
        }

        /// How many are in `replay_recent`, and in `replay`.
        fn rows(&self) -> (i64, i64) {
            let count = |table| {
                let sql = format!("SELECT count(*) FROM {table}");
                self.connection
                    .query_row(&sql, [], |row| row.get(0))
                    .unwrap()
            };
            (count("replay_recent"), count("replay"))
        }
    }

    #[test]
    fn a_claim_counts_once_within_a_group_after_it_and_after_it_moved() {
        //
        let (mut base, mut recent) = (Base::new(), RecentClaims::default());
        assert_eq!(
            base.group(&mut recent, &[1, 1, 2], false, true),
            [true, false, true]
        );
        assert_eq!(base.group(&mut recent, &[2], true, true), [false]);
        assert_eq!(base.rows(), (0, 2));
        assert_eq!(
            base.group(&mut recent, &[1, 2, 3], false, true),
            [false, false, true]
        );
        assert_eq!(base.rows(), (1, 2));
        // Another process, or the next: by what is durable alone.
        assert_eq!(
            base.group(&mut RecentClaims::default(), &[1, 2, 3], false, true),
            [false; 3]
        );
    }

    #[test]
    fn a_claim_of_a_transaction_that_failed_was_never_made() {
        let (mut base, mut recent) = (Base::new(), RecentClaims::default());
        for due in [false, true] {
            assert_eq!(base.group(&mut recent, &[1, 2], due, false), [true, true]);
        }
        assert_eq!(base.group(&mut recent, &[1], false, true), [true]);
        // What was durable before the one that failed still counts, though it was to move with it.
        assert_eq!(base.group(&mut recent, &[2], true, false), [true]);
        assert_eq!(base.group(&mut recent, &[1, 2], false, true), [false, true]);
    }

    #[test]
    fn what_another_process_claimed_meanwhile_is_known() {
        let (mut base, mut recent) = (Base::new(), RecentClaims::default());
        assert_eq!(base.group(&mut recent, &[1], false, true), [true]);
        let other = base.again();
        let sql = "INSERT INTO replay_recent (forget_at, digest) VALUES (?1, ?2)";
        let claim = claim(2);
        other
            .execute(sql, params![integer(claim.forget_at), claim.key])
            .unwrap();
        assert_eq!(
            base.group(&mut recent, &[1, 2, 3], false, true),
            [false, false, true]
        );
    }

    #[test]
    fn where_there_are_many_they_move_without_waiting() {
        let (mut base, mut recent) = (Base::new(), RecentClaims::default());
        let most = u32::try_from(MOST).unwrap();
        base.group(&mut recent, &(1..most).collect::<Vec<_>>(), false, true);
        assert_eq!(base.rows(), (i64::from(most) - 1, 0));
        base.group(&mut recent, &[most], false, true);
        assert_eq!(base.rows(), (0, i64::from(most)));
        assert!(recent.known.is_empty());
    }
}
