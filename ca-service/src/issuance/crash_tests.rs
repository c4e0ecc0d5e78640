//! `kill -9` under load: a child process of this test program issues until it dies; what it let out
//! is compared with what is on disk. With the feature `fault-injection` it dies at every named point.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::tests::{Rig, grant, local_signer, origin};
use crate::keys::KeyType;
use crate::signer::Signer;
use crate::store::Store;

const FOLDER: &str = "EIC_TEST_CRASH_FOLDER";
/// Requests under way in the child at once.
const LOAD: usize = 32;

/// Not a test by itself: what the child does until it is killed.
#[tokio::test]
async fn child_that_issues_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let store = Store::serve(&crate::store::StoreConfig::at(folder.join("eic-ca.db"))).unwrap();
    let rig = Rig::of(
        tempfile::tempdir().unwrap(),
        store,
        Signer::Local(local_signer(KeyType::Ed25519)),
    );
    let workers: Vec<_> = (0..LOAD)
        .map(|_| {
            let (issuer, folder) = (rig.issuer(), folder.clone());
            tokio::spawn(async move {
                loop {
                    let serial = issuer.issue(grant(), origin()).await.unwrap().serial();
                    let_out(&folder, serial.value());
                }
            })
        })
        .collect();
    // Each goes on until the process is killed; whichever ends has failed.
    if let Some(first) = workers.into_iter().next() {
        first.await.unwrap();
    }
}

/// The moment at which a certificate leaves: one write of one line.
fn let_out(folder: &Path, serial: u64) {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("left"))
        .unwrap();
    (&file).write_all(format!("{serial}\n").as_bytes()).unwrap();
}

fn left(folder: &Path) -> BTreeSet<u64> {
    let text = std::fs::read_to_string(folder.join("left")).unwrap_or_default();
    // The last line may be cut off by the kill.
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn start(folder: &Path, fault: Option<String>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "issuance::crash_tests::child_that_issues_until_it_is_killed",
        ])
        .env(FOLDER, folder);
    if let Some(fault) = fault {
        command.env("EIC_FAULT", fault);
    }
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What must hold on the disk that a killed service left.
async fn check(folder: tempfile::TempDir) -> usize {
    let left = left(folder.path());
    let store = Store::serve(&Rig::config(&folder)).unwrap();
    let rig = Rig::of(folder, store, Signer::Local(local_signer(KeyType::Ed25519)));
    let sql = "SELECT serial, state FROM journal";
    let journal: Vec<(i64, String)> = rig
        .store
        .reader()
        .query(|c| {
            c.prepare(sql)?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .unwrap();
    let recorded: BTreeSet<u64> = journal
        .iter()
        .map(|(serial, _)| serial.unsigned_abs())
        .collect();
    assert!(
        left.is_subset(&recorded),
        "certificates left without a record: {:?}",
        left.difference(&recorded)
    );
    let audited: BTreeSet<u64> = rig.audit().iter().map(serial_of).collect();
    assert_eq!(
        audited, recorded,
        "each journal row has its audit record, and the other way round"
    );
    let open = journal
        .iter()
        .filter(|(_, state)| state == "prepared")
        .count();
    let orphans = rig.recorder.reconcile().await.unwrap();
    assert_eq!(orphans.len(), open);
    let report = crate::audit::verify(&rig.store.reader(), &[]).unwrap();
    assert_eq!(report.flaws, []);
    left.len()
}

fn serial_of(record: &serde_json::Value) -> u64 {
    record["responseElements"]["serial"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn no_certificate_leaves_a_killed_service_without_its_record() {
    for wanted in [1, 40, 200] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(folder.path(), None);
        let deadline = Instant::now() + Duration::from_secs(60);
        while left(folder.path()).len() < wanted {
            assert!(Instant::now() < deadline, "the child issues nothing");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(check(folder).await >= wanted);
    }
}

#[cfg(feature = "fault-injection")]
#[tokio::test]
async fn no_certificate_leaves_a_service_that_dies_at_any_point_without_its_record() {
    let points = [
        "before-record",
        "in-transaction",
        "after-commit",
        "after-record",
        "after-sign",
        "after-check",
        "before-answer",
    ];
    for point in points {
        for pass in [1, 5, 60] {
            let folder = tempfile::tempdir().unwrap();
            let status = start(folder.path(), Some(format!("{point}:{pass}")))
                .wait()
                .unwrap();
            assert_eq!(
                std::os::unix::process::ExitStatusExt::signal(&status),
                Some(9),
                "{point}:{pass} was reached"
            );
            check(folder).await;
        }
    }
}
