//! Tests of the parent module.

use eic_protocol::krl::Target;
use rusqlite::Connection;

use super::*;
use crate::issuance::tests::{NOW, Rig, caller, origin, subject};

#[tokio::test]
async fn numbers_never_go_back_whatever_the_clock_says() {
    // F-07
    let rig = Rig::new();
    let book = rig.store.trust_book();
    let first = book.next_numbers([1; 32], NOW).await.unwrap();
    let same = book.next_numbers([1; 32], NOW - 9_999).await.unwrap();
    let other = book.next_numbers([2; 32], NOW - 9_999).await.unwrap();
    assert_eq!((first.sequence, first.number, first.generated), (1, 1, NOW));
    assert_eq!((same.sequence, same.number, same.generated), (2, 1, NOW));
    assert_eq!((other.sequence, other.number, other.generated), (3, 3, NOW));
    let Rig { store, folder, .. } = rig;
    drop(store);
    let store = crate::store::Store::serve(&Rig::config(&folder)).unwrap();
    let next = store.trust_book().next_numbers([2; 32], NOW).await.unwrap();
    assert_eq!((next.sequence, next.number), (4, 3));
}

#[tokio::test]
async fn a_certificate_that_slipped_past_another_process_s_revocation_is_found() {
    // F-14: recorded by a service that did not know yet
    let rig = Rig::new();
    let book = rig.store.trust_book();
    book.know_cas(vec![rig.ca.public().clone()]).await.unwrap();
    let other = Connection::open(Rig::config(&rig.folder).path).unwrap();
    let sql = "INSERT INTO revocations (who, revoked_by, at) VALUES (?1, 't', CAST(?2 AS INTEGER))";
    let who: RevokedCaller = caller().arn().to_string().parse().unwrap();
    other.execute(sql, (who.as_str(), NOW.to_string())).unwrap();
    let recorded = rig.recorder.record(rig.prepared(), origin()).await.unwrap();
    book.sweep(NOW + 1, NOW).await.unwrap();
    assert!(book.revoked().await.unwrap().set.is_empty());
    let before = book.revoked().await.unwrap().revision;
    book.sweep(NOW, NOW).await.unwrap();
    let found = book.revoked().await.unwrap();
    assert_eq!(found.set.len(), 1);
    assert!(found.revision > before);
    // What is known already is no news.
    book.sweep(NOW, NOW).await.unwrap();
    assert_eq!(book.revoked().await.unwrap().revision, found.revision);
    drop(recorded);
}

#[tokio::test]
async fn of_two_ends_of_an_entry_the_later_one_counts() {
    let rig = Rig::new();
    let book = rig.store.trust_book();
    let target = Target::Key((&subject()).into());
    for (expires, expected) in [
        (Some(NOW + 5), Some(NOW + 5)),
        (Some(NOW + 2), Some(NOW + 5)),
        (None, None),
        (Some(NOW + 9), None),
    ] {
        let order = RevocationOrder {
            id: crate::random::request_id().unwrap(),
            what: What::Entry(target.clone(), expires),
            by: "t".to_owned(),
            reason: None,
            at: NOW,
        };
        book.change(TrustChange::Revoke(order)).await.unwrap();
        let revoked = book.revoked().await.unwrap().set;
        let found: Vec<_> = revoked.iter().map(|(_, end)| end).collect();
        assert_eq!(found, [expected]);
    }
    assert!(book.watch().revokes(&subject_of(&target)));
}

fn subject_of(target: &Target) -> SubjectKey {
    let Target::Key(key) = target else {
        panic!("not a key");
    };
    SubjectKey::from_blob(key.blob()).unwrap()
}
