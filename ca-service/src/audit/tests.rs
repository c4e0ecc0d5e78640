//! Records carry CloudTrail's names and no stranger's structure; every change to them is found.

use rusqlite::Connection;
use serde_json::{Value, json};
use std::sync::Arc;

use super::*;
use crate::issuance::tests::{NOW, Rig, caller, grant, origin};

fn event(name: EventName, actor: Actor, origin: Origin) -> Event {
    Event::new(name, actor, origin, RequestId::from_random([3; 16]))
}

async fn with_records(count: usize) -> Rig {
    let rig = Rig::new();
    for number in 0..count {
        let mut event = event(EventName::ReloadPolicy, Actor::Service, Origin::default());
        event.additional = Some(json!({ "number": number }));
        rig.recorder.append(&event).await.unwrap();
    }
    rig
}

/// Does to the database what its owner could do, past all triggers and checks of ours.
fn tamper(rig: &Rig, sql: &str) {
    Connection::open(Rig::config(&rig.folder).path)
        .unwrap()
        .execute_batch(sql)
        .unwrap();
}

fn flaws(rig: &Rig) -> Vec<String> {
    verify(&rig.store.reader(), &[])
        .unwrap()
        .flaws
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[tokio::test]
async fn an_altered_record_is_found() {
    // G-10
    for sql in [
        "UPDATE audit SET record = replace(record, '\"number\":2', '\"number\":9') WHERE seq = 3",
        "UPDATE audit SET hash = zeroblob(32) WHERE seq = 3",
        "UPDATE audit SET previous = zeroblob(32) WHERE seq = 3",
    ] {
        let rig = with_records(5).await;
        assert!(flaws(&rig).is_empty());
        tamper(&rig, sql);
        let found = flaws(&rig);
        assert!(
            found.iter().any(|f| f.contains("record 3: it was altered")),
            "{sql}: {found:?}"
        );
    }
}

#[tokio::test]
async fn a_record_that_was_replaced_with_its_own_hash_recomputed_is_found() {
    // G-10
    let rig = with_records(5).await;
    let forged = {
        let entries = query(&rig.store.reader(), &Filter::default()).unwrap();
        entries[2].json.replace("\"number\":2", "\"number\":7")
    };
    let connection = Connection::open(Rig::config(&rig.folder).path).unwrap();
    let previous: [u8; 32] = connection
        .query_row("SELECT previous FROM audit WHERE seq = 3", [], |row| {
            row.get(0)
        })
        .unwrap();
    let hash = chain::Head {
        seq: 2,
        hash: previous,
    }
    .append(forged.as_bytes())
    .hash;
    connection
        .execute(
            "UPDATE audit SET record = ?1, hash = ?2 WHERE seq = 3",
            (forged, hash),
        )
        .unwrap();
    assert_eq!(flaws(&rig).len(), 1);
    assert!(flaws(&rig)[0].contains("record 4: the record before it is another one"));
}

#[tokio::test]
async fn deleted_and_reordered_records_are_found() {
    // G-10
    let rig = with_records(5).await;
    tamper(&rig, "DELETE FROM audit WHERE seq = 3");
    assert!(
        flaws(&rig)[0].contains("record 4: records before it are missing"),
        "{:?}",
        flaws(&rig)
    );

    let rig = with_records(5).await;
    tamper(
        &rig,
        "UPDATE audit SET seq = -seq; UPDATE audit SET seq = CASE seq WHEN -2 THEN 3 WHEN -3 THEN 2 ELSE -seq END",
    );
    assert!(!flaws(&rig).is_empty());
}

#[tokio::test]
async fn records_cut_off_at_the_end_are_found() {
    // G-10
    let rig = with_records(5).await;
    tamper(&rig, "DELETE FROM audit WHERE seq > 3");
    assert!(flaws(&rig)[0].contains("records at the end are missing"));
}

#[tokio::test]
async fn records_cut_off_together_with_the_stores_note_are_found_by_a_checkpoint() {
    // G-10: who can write the database can change both; the checkpoint is elsewhere.
    let rig = with_records(5).await;
    let known = checkpoints(&rig.store.reader()).unwrap();
    assert_eq!(
        known[0].to_string().parse::<Checkpoint>().unwrap(),
        known[0]
    );
    tamper(
        &rig,
        "DELETE FROM audit WHERE seq > 3;
         UPDATE audit_head SET seq = 3, hash = (SELECT hash FROM audit WHERE seq = 3)",
    );
    assert!(flaws(&rig).is_empty());
    let report = verify(&rig.store.reader(), &known).unwrap();
    assert!(
        report.flaws[0]
            .to_string()
            .contains("records up to the checkpoint are missing")
    );

    // A rewritten chain of the right length.
    let other = with_records(5).await;
    let forged = Checkpoint {
        writer: checkpoints(&other.store.reader()).unwrap()[0]
            .writer
            .clone(),
        ..known[0].clone()
    };
    let report = verify(&other.store.reader(), &[forged]).unwrap();
    assert!(
        report.flaws[0]
            .to_string()
            .contains("not the one of the checkpoint")
    );
}

#[tokio::test]
async fn a_whole_chain_that_vanished_or_appeared_is_found() {
    let rig = with_records(3).await;
    tamper(&rig, "DELETE FROM audit");
    assert!(flaws(&rig)[0].contains("records at the end are missing"));
    let rig = with_records(3).await;
    tamper(&rig, "DELETE FROM audit_head");
    assert!(flaws(&rig)[0].contains("without the store's note"));
}

#[test]
fn lines_that_are_no_checkpoint_are_refused() {
    for bad in [
        "",
        "w 1",
        "w x 00",
        &format!("w 0 {}", "00".repeat(32)),
        &format!("w 1 {} x", "00".repeat(32)),
        "w 1 00",
    ] {
        assert!(bad.parse::<Checkpoint>().is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn hostile_text_stays_within_its_field() {
    // G-08
    let rig = Rig::new();
    let hostile = "\",\"eventName\":\"x\n\r\u{1b}]0;x\u{7}\u{2028}\u{202e}é".to_owned();
    let mut event = event(
        EventName::RefuseSession,
        Actor::Unproven {
            access_key_id: Some(hostile.clone()),
        },
        Origin {
            source: None,
            user_agent: Some("A".repeat(1_000_000)),
        },
    );
    event.error = Some(EventError {
        code: "proof-refused".to_owned(),
        message: hostile.clone(),
    });
    event.parameters = Some(json!({ hostile.clone(): [hostile.clone(), "B".repeat(1_000_000)] }));
    rig.recorder.append(&event).await.unwrap();

    let entries = query(&rig.store.reader(), &Filter::default()).unwrap();
    let line = &entries[0].json;
    assert!(
        line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
        "{line}"
    );
    assert!(line.len() < 10_000);
    let record = entries[0].value();
    assert_eq!(record["eventName"], "RefuseSession");
    assert_eq!(record["errorMessage"], hostile.as_str());
    assert_eq!(record["userIdentity"]["accessKeyId"], hostile.as_str());
    assert!(record["userAgent"].as_str().unwrap().ends_with("A[cut]"));
    assert!(
        record["requestParameters"][&hostile][1]
            .as_str()
            .unwrap()
            .ends_with("B[cut]")
    );

    let mut shown = Vec::new();
    print_table(&mut shown, &entries, true).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(
        shown
            .bytes()
            .all(|b| b == b'\n' || b == b' ' || b.is_ascii_graphic())
    );
}

#[tokio::test]
async fn the_record_of_an_issuance_has_cloudtrails_fields_and_joins_the_certificate() {
    // Joined with sshd's log line by request id and serial.
    let rig = Rig::new();
    let issued = rig.issuer().issue(grant(), origin()).await.unwrap();
    let record = rig.audit().remove(0);
    assert_eq!(record["eventSource"], "eic");
    assert_eq!(record["eventName"], "IssueUserCertificate");
    assert_eq!(record["eventTime"], "2027-01-15T08:00:00Z");
    assert_eq!(record["eventType"], "EicApiCall");
    assert_eq!(record["awsRegion"], "eu-west-1");
    assert_eq!(record["recipientAccountId"], "111122223333");
    assert_eq!(record["sourceIPAddress"], "192.0.2.7");
    assert_eq!(record["userAgent"], "eic-login/0.1");
    assert_eq!(record["requestID"], issued.request_id().to_string());
    assert!(record["eventVersion"].is_string() && record["eventID"].as_str().unwrap().len() == 36);
    let who = &record["userIdentity"];
    assert_eq!(who["type"], "AssumedRole");
    assert_eq!(who["principalId"], "AROA0123456789ABCDEF:alice@corp");
    assert_eq!(
        who["arn"],
        "arn:aws:sts::111122223333:assumed-role/Dev/alice@corp"
    );
    assert_eq!(who["accountId"], "111122223333");
    assert_eq!(who["accessKeyId"], "ASIAABCDEFGHIJKLMNOP");
    assert_eq!(
        who["sessionContext"]["sessionIssuer"]["principalId"],
        "AROA0123456789ABCDEF"
    );
    assert_eq!(who["sessionContext"]["sessionIssuer"]["userName"], "Dev");
    assert_eq!(who["nameStanding"], "claimed");
    let asked = &record["requestParameters"];
    assert!(
        asked["publicKey"]
            .as_str()
            .unwrap()
            .starts_with("ssh-ed25519 ")
    );
    assert_eq!(asked["instanceId"], "i-0123456789abcdef0");
    assert_eq!(asked["osUser"], "ubuntu");
    assert_eq!(asked["reason"], "on call");
    let answered = &record["responseElements"];
    assert_eq!(answered["serial"], issued.serial().to_string());
    assert_eq!(answered["keyId"], issued.key_id().to_string());
    assert_eq!(
        answered["principals"],
        json!(["ubuntu@i-0123456789abcdef0"])
    );
    let more = &record["additionalEventData"];
    assert_eq!(more["tags"], json!({ "env": "dev" }));
    assert_eq!(more["statement"], "`test.json` statement 1");
    assert_eq!(more["policyHash"].as_str().unwrap().len(), 64);
    assert_eq!(more["tbsSha256"].as_str().unwrap().len(), 64);
    assert_eq!(more["caFingerprint"], rig.ca.public().fingerprint());
}

#[tokio::test]
async fn a_null_field_always_has_its_reason() {
    let rig = Rig::new();
    rig.issuer()
        .issue(grant(), Origin::default())
        .await
        .unwrap();
    let actors = [
        Actor::Service,
        Actor::Operator(Operator { uid: 0, name: None }),
        Actor::Unproven {
            access_key_id: None,
        },
        Actor::Caller(Arc::new(caller())),
    ];
    for actor in actors {
        let mut event = event(EventName::StartService, actor, Origin::default());
        event.parameters =
            Some(json!({ "given": [1], "absent": null, "deep": { "absent": null } }));
        rig.recorder.append(&event).await.unwrap();
    }
    let records = rig.audit();
    assert_eq!(records.len(), 5);
    for record in records {
        let nulls = nulls(&record, "");
        for path in nulls {
            let reason =
                &record["additionalEventData"]["nullReasons"][path.trim_start_matches('/')];
            assert!(reason.is_string(), "{path} in {record}");
        }
    }
}

fn nulls(value: &Value, path: &str) -> Vec<String> {
    match value {
        Value::Null => vec![path.to_owned()],
        Value::Object(members) => members
            .iter()
            .flat_map(|(k, v)| nulls(v, &format!("{path}/{k}")))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(i, v)| nulls(v, &format!("{path}/{i}")))
            .collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn a_filter_admits_only_what_it_names() {
    let rig = with_records(20).await;
    let issued = rig.issuer().issue(grant(), origin()).await.unwrap();
    let mut denied = event(
        EventName::DenyUserCertificate,
        Actor::Caller(Arc::new(caller())),
        origin(),
    );
    denied.error = Some(EventError {
        code: "not-allowed".to_owned(),
        message: "no statement".to_owned(),
    });
    denied.parameters = Some(json!({ "principal": "root@i-0123456789abcdef0" }));
    rig.clock.set(NOW + 100);
    rig.recorder.append(&denied).await.unwrap();
    let count = |filter: Filter| query(&rig.store.reader(), &filter).unwrap().len();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(count(Filter::default()), 22);
    assert_eq!(
        count(Filter {
            limit: Some(3),
            ..Filter::default()
        }),
        3
    );
    assert_eq!(
        count(Filter {
            event: text("IssueUserCertificate"),
            ..Filter::default()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            event: text("IssueUser"),
            ..Filter::default()
        }),
        0
    );
    assert_eq!(
        count(Filter {
            caller: text("AROA0123456789ABCDEF"),
            ..Filter::default()
        }),
        2
    );
    assert_eq!(
        count(Filter {
            caller: text("Dev"),
            ..Filter::default()
        }),
        2
    );
    assert_eq!(
        count(Filter {
            caller: text("alice"),
            ..Filter::default()
        }),
        0
    );
    assert_eq!(
        count(Filter {
            serial: Some(issued.serial().to_string()),
            ..Filter::default()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            request_id: Some(issued.request_id().to_string()),
            ..Filter::default()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            instance: text("i-0123456789abcdef0"),
            ..Filter::default()
        }),
        2
    );
    assert_eq!(
        count(Filter {
            errors_only: true,
            ..Filter::default()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            since: Some(NOW + 1),
            ..Filter::default()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            until: Some(NOW + 1),
            ..Filter::default()
        }),
        21
    );
}

#[tokio::test]
async fn a_followed_audit_shows_each_new_record_once_and_in_order() {
    let rig = with_records(3).await;
    let reader = rig.store.reader();
    let shown = tokio::task::spawn_blocking(move || {
        let mut shown = Vec::new();
        let show = |entry: &Entry| {
            shown.push(
                entry.value()["additionalEventData"]["number"]
                    .as_u64()
                    .unwrap(),
            );
            Ok(shown.len() < 4)
        };
        tail(&reader, &Filter::default(), 1, show).unwrap();
        shown
    });
    for number in 3..6 {
        let mut event = event(EventName::ReloadPolicy, Actor::Service, Origin::default());
        event.additional = Some(json!({ "number": number }));
        rig.recorder.append(&event).await.unwrap();
    }
    assert_eq!(shown.await.unwrap(), [1, 2, 3, 4]);
}

#[tokio::test]
async fn the_table_shows_who_what_and_the_serial() {
    let rig = Rig::new();
    let issued = rig.issuer().issue(grant(), origin()).await.unwrap();
    let entries = query(&rig.store.reader(), &Filter::default()).unwrap();
    let mut shown = Vec::new();
    print_table(&mut shown, &entries, true).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    for expected in [
        "TIME",
        "2027-01-15T08:00:00Z",
        "assumed-role/Dev/alice@corp?",
        "ubuntu@i-0123456789abcdef0",
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
    assert!(
        shown.contains(&issued.serial().to_string())
            && shown.contains(&issued.request_id().to_string())
    );
    let mut lines = Vec::new();
    print_json(&mut lines, &entries).unwrap();
    assert_eq!(
        String::from_utf8(lines).unwrap(),
        format!("{}\n", entries[0].json)
    );
}
