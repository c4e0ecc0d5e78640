//! What a store must survive: replays, crashes, hangs, full disks, a second service.

use std::time::Instant;

use rusqlite::Connection;

use super::*;
use crate::audit::RecordError;
use crate::issuance::tests::{NOW, Rig, claim, grant, local_signer, origin};
use crate::issuance::{Draw, prepare_user};
use crate::keys::KeyType;
use crate::signer::Signer;

fn rows(rig: &Rig, sql: &str) -> i64 {
    rig.store
        .reader()
        .query(|connection| connection.query_row(sql, [], |row| row.get(0)))
        .unwrap()
}

/// Claims that are kept and are so.
fn claims(rig: &Rig, so: &str) -> i64 {
    let count = |table| rows(rig, &format!("SELECT count(*) FROM {table} WHERE {so}"));
    count("replay") + count("replay_recent")
}

#[tokio::test]
async fn a_claim_counts_once_even_after_a_restart() {
    // the same message, to the same and to a restarted service.
    let rig = Rig::new();
    let claim = claim();
    rig.store.replay_guard().claim(claim).await.unwrap();
    assert!(matches!(
        rig.store.replay_guard().claim(claim).await,
        Err(ClaimError::Replayed)
    ));
    let Rig { store, folder, .. } = rig;
    drop(store);
    let store = Store::serve(&Rig::config(&folder)).unwrap();
    assert!(matches!(
        store.replay_guard().claim(claim).await,
        Err(ClaimError::Replayed)
    ));
}

#[tokio::test]
async fn of_many_equal_claims_at_once_just_one_counts() {
    let rig = Rig::new();
    let (guard, claim) = (rig.store.replay_guard(), claim());
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let guard = guard.clone();
            tokio::spawn(async move { guard.claim(claim).await.is_ok() })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += u32::from(task.await.unwrap());
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_refused_claim_leaves_neither_journal_row_nor_audit_record() {
    let rig = Rig::new();
    let prepared = rig.prepared();
    rig.store
        .replay_guard()
        .claim(prepared.replay().unwrap())
        .await
        .unwrap();
    assert!(matches!(
        rig.recorder.record(prepared, origin()).await,
        Err(RecordError::Replayed)
    ));
    assert_eq!(rows(&rig, "SELECT count(*) FROM journal"), 0);
    assert_eq!(rows(&rig, "SELECT count(*) FROM audit"), 0);
}

#[tokio::test]
async fn a_taken_serial_leaves_neither_claim_nor_audit_record() {
    let rig = Rig::new();
    let draw = Draw::fresh().unwrap();
    let prepare = || prepare_user(grant(), &draw, rig.ca.active(), NOW).unwrap();
    let first = rig.recorder.record(prepare(), origin()).await.unwrap();
    assert!(matches!(
        rig.recorder.record(prepare(), origin()).await,
        Err(RecordError::SerialTaken(_))
    ));
    assert_eq!(claims(&rig, "true"), 1);
    assert_eq!(rows(&rig, "SELECT count(*) FROM audit"), 1);
    drop(first);
}

#[tokio::test]
async fn claims_that_nobody_can_replay_any_more_are_forgotten() {
    let rig = Rig::new();
    let guard = rig.store.replay_guard();
    let old = ReplayClaim::of_signed_time([1; 32], NOW - 10_000, 60);
    guard.claim(old).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while claims(&rig, &format!("forget_at < {NOW}")) > 0 {
        assert!(Instant::now() < deadline, "the old claim is still there");
        guard.claim(claim()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What is still fresh is kept.
    assert!(claims(&rig, "true") > 0);
}

#[tokio::test]
async fn a_host_whose_clock_is_ahead_takes_nobody_elses_claims_along() {
    // its report is taken, and with it an hour of others' claims must not be forgotten.
    let rig = Rig::new();
    let guard = rig.store.replay_guard();
    let spent = ReplayClaim::of_signed_time([1; 32], NOW, 60);
    guard.claim(spent).await.unwrap();
    for report in 2..6 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let ahead = ReplayClaim::of_signed_time([report; 32], NOW + 3_600, 3_600);
        guard.claim(ahead).await.unwrap();
    }
    assert!(matches!(
        guard.claim(spent).await,
        Err(ClaimError::Replayed)
    ));
}

#[tokio::test]
async fn a_full_disk_refuses_and_leaves_nothing() {
    // G-09
    let folder = tempfile::tempdir().unwrap();
    let config = Rig::config(&folder);
    let database = sqlite::Database::open(&config.path).unwrap();
    database.fill_disk(0);
    let store = Store::with_database(&config, None, database).unwrap();
    let rig = Rig::of(folder, store, Signer::Local(local_signer(KeyType::Ed25519)));
    let mut refused = 0;
    for _ in 0..20 {
        // The first few may still fit into half-empty pages.
        match rig.issuer().issue(grant(), origin()).await {
            Ok(_) => assert_eq!(refused, 0, "room again"),
            Err(error) => {
                assert!(error.to_string().contains("full"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    let issued = 20 - refused;
    assert_eq!(rows(&rig, "SELECT count(*) FROM journal"), issued);
    assert_eq!(rows(&rig, "SELECT count(*) FROM audit"), issued);
    assert_eq!(claims(&rig, "true"), issued);
}

#[tokio::test]
async fn what_completes_a_certificate_is_written_once_the_store_can_be_written_again() {
    let rig = Rig::new();
    let recorded = rig.recorder.record(rig.prepared(), origin()).await.unwrap();
    let other = Connection::open(Rig::config(&rig.folder).path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    rig.ca.sign(recorded, &rig.clock).await.unwrap();
    // Longer than the writer waits for a lock: its first try fails.
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    other.execute_batch("COMMIT").unwrap();
    rig.journal(&[("issued", 1)]);
}

/// How long a busy machine may take for what is done in a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// A rig whose writer cannot write: another connection holds the database.
fn stuck(deadline: Duration, queue: usize) -> (Rig, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        deadline,
        queue,
        ..Rig::config(&folder)
    };
    let store = Store::serve(&config).unwrap();
    let other = Connection::open(&config.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    (
        Rig::of(folder, store, Signer::Local(local_signer(KeyType::Ed25519))),
        other,
    )
}

#[tokio::test]
async fn a_store_that_hangs_refuses_within_its_deadline_and_issues_nothing_later() {
    // G-09
    let (rig, other) = stuck(Duration::from_millis(200), 16);
    let begun = Instant::now();
    let refused = rig.issuer().issue(grant(), origin()).await;
    assert!(
        matches!(
            refused,
            Err(crate::issuance::IssueError::Store(StoreError::Timeout(200)))
        ),
        "{refused:?}"
    );
    // Refused as too slow; how late a busy machine notices is no matter.
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    other.execute_batch("COMMIT").unwrap();
    // What was given up is not begun, or closed as abandoned; it is never left open.
    issued_at_last(&rig).await;
    rig.journal_without_open_rows();
}

/// Issues once the store can be written again: on a busy machine a write may take longer than the short deadline of
/// these tests, which says nothing about the store.
async fn issued_at_last(rig: &Rig) {
    let begun = Instant::now();
    loop {
        match rig.issuer().issue(grant(), origin()).await {
            Err(crate::issuance::IssueError::Store(StoreError::Timeout(_)))
                if begun.elapsed() < PATIENCE => {}
            last => {
                last.unwrap();
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_full_queue_is_answered_at_once() {
    let (rig, other) = stuck(Duration::from_secs(5), 4);
    let guard = rig.store.replay_guard();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let guard = guard.clone();
            tokio::spawn(async move { guard.claim(claim()).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    other.execute_batch("COMMIT").unwrap();
    let mut overloaded = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => {}
            Err(ClaimError::Store(StoreError::Overloaded)) => overloaded += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(overloaded > 0 && overloaded < 100, "{overloaded}");
}

#[tokio::test]
async fn a_certificate_whose_process_died_is_named_as_an_orphan_once() {
    // The record is durable before anything is signed.
    let rig = Rig::new();
    let recorded = rig.recorder.record(rig.prepared(), origin()).await.unwrap();
    // The disk as a crash leaves it: what is in these files now, nothing that would be written later.
    let crashed = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(rig.folder.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), crashed.path().join(entry.file_name())).unwrap();
    }
    drop(recorded);

    let store = Store::serve(&Rig::config(&crashed)).unwrap();
    let again = Rig::of(
        crashed,
        store,
        Signer::Local(local_signer(KeyType::Ed25519)),
    );
    let orphans = again.recorder.reconcile().await.unwrap();
    assert_eq!(orphans.len(), 1);
    assert_eq!(orphans[0].principals, "ubuntu@i-0123456789abcdef0");
    assert!(orphans[0].caller.ends_with("Dev/alice@corp"));
    assert!(again.recorder.reconcile().await.unwrap().is_empty());
    again.journal(&[("orphan", 1)]);
    let events: Vec<_> = again
        .audit()
        .iter()
        .map(|r| r["eventName"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(events, ["IssueUserCertificate", "OrphanFound"]);
    assert_eq!(again.audit()[0]["requestID"], again.audit()[1]["requestID"]);
    assert!(
        crate::audit::verify(&again.store.reader(), &[])
            .unwrap()
            .flaws
            .is_empty()
    );
}

#[tokio::test]
async fn a_record_that_is_dropped_unsigned_ends_as_abandoned() {
    let rig = Rig::new();
    drop(rig.recorder.record(rig.prepared(), origin()).await.unwrap());
    rig.journal(&[("abandoned", 1)]);
    assert!(rig.recorder.reconcile().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_waits_is_written_before_the_store_closes() {
    let rig = Rig::new();
    let issued = rig.issuer().issue(grant(), origin()).await.unwrap();
    let Rig {
        store,
        folder,
        recorder,
        ..
    } = rig;
    drop(store);
    assert!(matches!(
        recorder.reconcile().await,
        Err(StoreError::Closed)
    ));
    let store = Store::serve(&Rig::config(&folder)).unwrap();
    let again = Rig::of(folder, store, Signer::Local(local_signer(KeyType::Ed25519)));
    again.journal(&[("issued", 1)]);
    assert_eq!(
        rows(&again, "SELECT serial FROM journal").unsigned_abs(),
        issued.serial().value()
    );
}

#[test]
fn a_second_service_on_one_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Store::serve(&Rig::config(&folder)).unwrap();
    assert!(matches!(
        Store::serve(&Rig::config(&folder)),
        Err(StoreError::InUse(_))
    ));
    // An operator's command is let in beside it.
    assert!(Store::open(&Rig::config(&folder)).unwrap().is_alive());
    drop(first);
    assert!(Store::serve(&Rig::config(&folder)).is_ok());
}

#[test]
fn a_store_of_a_newer_release_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(&Rig::config(&folder)).unwrap());
    let connection = Connection::open(Rig::config(&folder).path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(
        Store::open(&Rig::config(&folder)),
        Err(StoreError::Newer { found: 99, .. })
    ));
}

#[test]
fn the_database_is_readable_by_its_owner_only_and_synced_at_each_commit() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig::at(folder.path().join("deep/eic-ca.db"));
    let _store = Store::serve(&config).unwrap();
    for name in ["eic-ca.db", "eic-ca.db-wal", "eic-ca.db.lock"] {
        let mode = std::fs::metadata(folder.path().join("deep").join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    let database = sqlite::Database::open(&config.path).unwrap();
    assert_eq!(database.durability(), ("wal".to_owned(), 2));
}

#[tokio::test]
async fn a_revocation_by_another_process_counts_while_the_service_runs() {
    let rig = Rig::new();
    let operator = Store::open(&Rig::config(&rig.folder)).unwrap();
    let recorder = crate::audit::Recorder::new(&operator, rig.clock.clone());
    let revocation = Revocation {
        who: "AROA0123456789ABCDEF".parse().unwrap(),
        by: "t".to_owned(),
        reason: None,
        at: NOW,
    };
    let event = crate::audit::Event::new(
        crate::audit::EventName::RevokeCaller,
        crate::audit::Actor::Service,
        crate::audit::Origin::default(),
        crate::random::request_id().unwrap(),
    );
    let caller = crate::issuance::tests::caller();
    let revocations = rig.store.revocations();
    assert!(!revocations.covers(&caller));
    recorder.revoke(revocation, false, &event).await.unwrap();
    let begun = Instant::now();
    while !revocations.covers(&caller) {
        assert!(begun.elapsed() < PATIENCE, "not seen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("seen after {:?}", begun.elapsed());
    // Both processes wrote one chain.
    rig.issuer().issue(grant(), origin()).await.unwrap_err();
    assert!(
        crate::audit::verify(&rig.store.reader(), &[])
            .unwrap()
            .flaws
            .is_empty()
    );
}

#[tokio::test]
async fn a_revocation_is_known_from_the_first_moment_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(&Rig::config(&folder)).unwrap());
    let connection = Connection::open(Rig::config(&folder).path).unwrap();
    let sql = "INSERT INTO revocations (who, revoked_by, at) VALUES ('arn:aws:iam::111122223333:role/Dev', 't', 1)";
    connection.execute(sql, []).unwrap();
    let store = Store::serve(&Rig::config(&folder)).unwrap();
    let caller = crate::issuance::tests::caller();
    assert!(store.revocations().covers(&caller));
}

#[tokio::test]
async fn a_pinned_key_stays_and_views_count_up() {
    let rig = Rig::new();
    let pins = rig.store.key_pins();
    assert_eq!(pins.pin("arn", "key one", NOW).await.unwrap(), "key one");
    assert_eq!(pins.pin("arn", "key two", NOW).await.unwrap(), "key one");
    let register = rig.store.host_register();
    let (one, two) = (
        "i-0123456789abcdef0".parse().unwrap(),
        "i-0123456789abcdef1".parse().unwrap(),
    );
    assert_eq!(register.next_view(&one, NOW).await.unwrap(), 1);
    assert_eq!(register.next_view(&one, NOW).await.unwrap(), 2);
    assert_eq!(register.next_view(&two, NOW).await.unwrap(), 1);
}

#[test]
fn a_reader_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&Rig::config(&folder)).unwrap();
    let written = store
        .reader()
        .query(|connection| connection.execute("DELETE FROM audit", []));
    assert!(written.is_err());
}
