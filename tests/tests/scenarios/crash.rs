//! `kill -9` of the CA at every point of issuance, under load: no certificate leaves without a durable record,
//! the chain verifies after the restart, and what was prepared without an end is named.
//! Runs on loopback with the build that has the fault points (`make fault`).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use eic_lab::load::Connection;
use eic_lab::load::ca::LoadedCa;

/// Every named point of one issuance.
const POINTS: [&str; 7] = [
    "before-record",
    "in-transaction",
    "after-commit",
    "after-record",
    "after-sign",
    "after-check",
    "before-answer",
];
/// Clients at once.
const CLIENTS: usize = 8;

/// The `eic-ca` with fault points, beside the ordinary build.
fn faulty_ca() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test
        .ancestors()
        .find(|folder| folder.ends_with("debug"))
        .unwrap();
    let program = folder.join("eic-ca-fault");
    assert!(
        program.exists(),
        "{} is not built: run `make fault`",
        program.display()
    );
    program
}

/// The serials of all certificates that reached a client before the CA died.
async fn load_until_death(ca: &LoadedCa) -> BTreeSet<String> {
    let mut sessions = Vec::new();
    for _ in 0..CLIENTS {
        sessions.push(ca.session().await.unwrap());
    }
    let mut clients = tokio::task::JoinSet::new();
    for session in sessions {
        let requests: Vec<_> = (0..200)
            .map(|_| ca.certificate_request(&session).unwrap())
            .collect();
        let address = ca.address;
        clients.spawn(async move {
            let mut serials = Vec::new();
            let Ok(mut connection) = Connection::open(address).await else {
                return serials;
            };
            for request in requests {
                let Ok((200, body)) = connection.call(&request).await else {
                    break;
                };
                let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
                serials.push(answer["serial"].as_str().unwrap().to_owned());
            }
            serials
        });
    }
    let mut received = BTreeSet::new();
    while let Some(serials) = clients.join_next().await {
        received.extend(serials.unwrap());
    }
    received
}

fn records(ca: &LoadedCa) -> Vec<serde_json::Value> {
    let text = ca
        .run(&["audit", "query", "--json", "--limit", "100000"])
        .unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn no_certificate_leaves_without_a_durable_record_wherever_the_ca_is_killed() {
    let program = faulty_ca();
    for point in POINTS {
        let folder = tempfile::tempdir().unwrap();
        let fault = format!("{point}:40");
        let mut ca = LoadedCa::start(&program, folder.path(), Duration::ZERO, Some(&fault))
            .await
            .unwrap();
        let received = load_until_death(&ca).await;
        ca.server.wait().unwrap_or_else(|e| panic!("{point}: {e}"));
        assert!(
            received.len() < 200 * CLIENTS,
            "{point}: the CA was not killed"
        );

        ca.restart().await.unwrap();
        ca.run(&["audit", "verify"])
            .unwrap_or_else(|e| panic!("{point}: {e}"));
        let records = records(&ca);
        let all = records.iter().map(ToString::to_string).collect::<String>();
        for serial in &received {
            assert!(
                all.contains(serial),
                "{point}: certificate {serial} has no record"
            );
        }
        let orphans = records
            .iter()
            .filter(|r| r["eventName"] == "OrphanFound")
            .count();
        // Up to the commit nothing is prepared; after it, what had no end yet is named.
        if matches!(point, "after-record" | "after-sign" | "after-check") {
            assert!(orphans > 0, "{point}: no orphan named");
        }
    }
}
