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
    let first = book
        .next_numbers(list(&book, 1).await, Moment::of(NOW))
        .await
        .unwrap();
    let same = book
        .next_numbers(list(&book, 1).await, Moment::of(NOW - 9_999))
        .await
        .unwrap();
    let other = book
        .next_numbers(list(&book, 2).await, Moment::of(NOW - 9_999))
        .await
        .unwrap();
    assert_eq!((first.sequence, first.number, first.generated), (1, 1, NOW));
    assert_eq!((same.sequence, same.number, same.generated), (2, 1, NOW));
    assert_eq!((other.sequence, other.number, other.generated), (3, 3, NOW));
    let Rig { store, folder, .. } = rig;
    drop(store);
    let store = crate::store::Store::serve(&Rig::config(&folder)).unwrap();
    let book = store.trust_book();
    let next = book
        .next_numbers(list(&book, 2).await, Moment::of(NOW))
        .await
        .unwrap();
    assert_eq!((next.sequence, next.number), (4, 3));
}

/// A list as it would be read now.
async fn list(book: &TrustBook, content: u8) -> DraftedList {
    DraftedList {
        content: [content; 32],
        revision: book.revoked().await.unwrap().revision,
        lacks_entries: false,
    }
}

fn revocation_of(target: &Target) -> TrustChange {
    TrustChange::Revoke(RevocationOrder {
        id: crate::random::request_id().unwrap(),
        what: What::Entry(target.clone(), None),
        by: "t".to_owned(),
        reason: None,
        at: NOW,
    })
}

#[tokio::test]
async fn what_is_taken_back_while_a_list_is_made_is_told_with_the_next_one() {
    // Else hosts that took the first list would refuse every later one: an entry of theirs would be gone, and nobody said so.
    let rig = Rig::new();
    let book = rig.store.trust_book();
    let target = Target::Key((&subject()).into());
    book.change(revocation_of(&target)).await.unwrap();
    let drafted = list(&book, 1).await;
    book.change(TrustChange::TakeBack(target)).await.unwrap();
    let with_it = book.next_numbers(drafted, Moment::of(NOW)).await.unwrap();
    let without = book
        .next_numbers(list(&book, 2).await, Moment::of(NOW))
        .await
        .unwrap();
    assert!(
        without.reset_at > with_it.number,
        "{without:?} after {with_it:?}"
    );
    let later = book
        .next_numbers(list(&book, 3).await, Moment::of(NOW))
        .await
        .unwrap();
    assert_eq!(later.reset_at, without.reset_at, "told once");
}

#[tokio::test]
async fn a_list_that_lacks_entries_says_so_once() {
    let rig = Rig::new();
    let book = rig.store.trust_book();
    let lacking = DraftedList {
        lacks_entries: true,
        ..list(&book, 1).await
    };
    let first = book.next_numbers(lacking, Moment::of(NOW)).await.unwrap();
    assert_eq!(first.reset_at, first.number);
    let same = book.next_numbers(lacking, Moment::of(NOW)).await.unwrap();
    assert_eq!((same.number, same.reset_at), (first.number, first.reset_at));
}

#[tokio::test]
async fn a_certificate_that_slipped_past_another_process_s_revocation_is_found() {
    // F-14: recorded by a service that did not know yet
    let rig = Rig::new();
    let book = rig.store.trust_book();
    book.know_cas(vec![rig.ca.public().clone()]).await.unwrap();
    let other = Connection::open(Rig::config(&rig.folder).path).unwrap();
    let sql = "INSERT INTO revocations (who, revoked_by, at) VALUES (?1, 't', CAST(?2 AS INTEGER))";
    let who: RevokedCaller = caller().identity().parse().unwrap();
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

fn endorsed(rig: &Rig, signs_from: u64) -> Endorsed {
    Endorsed {
        key: CaKey::new(subject()).unwrap(),
        endorser: rig.ca.public().fingerprint(),
        document: Envelope {
            signed: eic_protocol::base64_text::Base64Bytes(b"{}".to_vec()),
            signatures: Vec::new(),
        },
        signs_from,
        not_after: signs_from + 100,
        known_at: None,
        revoked: false,
    }
}

async fn live(book: &TrustBook, now: u64) -> Vec<Endorsed> {
    book.endorsed(now).await.unwrap()
}

#[tokio::test]
async fn of_endorsed_keys_those_that_may_have_signed_are_kept_over_a_restart() {
    let rig = Rig::new();
    let book = rig.store.trust_book();
    let [used, unnamed, later, unknown] =
        [NOW, NOW, NOW + 50, NOW].map(|from| endorsed(&rig, from));
    for key in [&used, &unnamed, &later, &unknown] {
        let change = TrustChange::Endorse(key.clone());
        book.change(change).await.unwrap();
    }
    for (key, at) in [(&used, NOW), (&later, NOW), (&unknown, NOW + 1)] {
        let print = key.key.fingerprint();
        book.endorsed_is_known(print, at).await.unwrap();
    }
    assert_eq!(live(&book, NOW).await.len(), 4);
    book.forget_unused_endorsed(NOW).await.unwrap();
    let left = live(&book, NOW).await;
    let known = Endorsed {
        known_at: Some(NOW),
        ..used
    };
    assert_eq!(left, [known]);
    assert_eq!(live(&book, NOW + 100).await, []);
}

#[tokio::test]
async fn an_endorsed_key_is_revoked_with_its_endorser_until_its_hours_end() {
    let rig = Rig::new();
    let book = rig.store.trust_book();
    let key = endorsed(&rig, NOW);
    let change = TrustChange::Endorse(key.clone());
    book.change(change).await.unwrap();
    let before = book.revoked().await.unwrap().revision;
    let order = RevocationOrder {
        id: crate::random::request_id().unwrap(),
        what: What::Entry(Target::CaKey(rig.ca.public().clone()), None),
        by: "t".to_owned(),
        reason: None,
        at: NOW,
    };
    book.change(TrustChange::Revoke(order)).await.unwrap();
    assert!(book.watch().revokes(key.key.key()));
    assert!(live(&book, NOW).await[0].revoked);
    let revoked = book.revoked().await.unwrap();
    assert!(revoked.revision > before);
    let ends: Vec<_> = revoked.set.iter().map(|(_, end)| end).collect();
    assert!(
        ends.contains(&Some(NOW + 100)) && ends.contains(&None),
        "{ends:?}"
    );
}

#[tokio::test]
async fn whoever_endorsed_a_key_signed_what_it_signed() {
    let rig = Rig::new();
    let book = rig.store.trust_book();
    let change = TrustChange::Endorse(Endorsed {
        key: rig.ca.public().clone(),
        endorser: "SHA256:endorser".to_owned(),
        ..endorsed(&rig, NOW)
    });
    book.change(change).await.unwrap();
    let recorded = rig.recorder.record(rig.prepared(), origin()).await.unwrap();
    let signing = book.signing().await.unwrap();
    assert_eq!(signing.last.as_deref(), Some("SHA256:endorser"));
    let endorser = ("SHA256:endorser".to_owned(), NOW);
    assert_eq!(signing.ever, [endorser].into());
    let end = book.last_end("SHA256:endorser".to_owned(), NOW - 1).await;
    assert_eq!(end.unwrap(), Some(NOW + 300));
    drop(recorded);
}

#[tokio::test]
async fn it_stays_known_since_when_a_ca_signs_and_since_when_hosts_could_have_a_root() {
    let rig = Rig::new();
    let book = rig.store.trust_book();
    assert_eq!(book.signing().await.unwrap().ever, BTreeMap::new());
    let mut recorded = Vec::new();
    for _ in 0..2 {
        recorded.push(rig.recorder.record(rig.prepared(), origin()).await.unwrap());
    }
    // Since when hosts had the first that is noted is not known; its own time counts.
    for (version, issued, now) in [(2, 10, 90), (3, 20, 91), (3, 20, 99)] {
        book.root_is_served(version, issued, now).await.unwrap();
    }
    let signing = book.signing().await.unwrap();
    assert_eq!(signing.ever, [(rig.ca.public().fingerprint(), NOW)].into());
    assert_eq!(signing.served, [(2, 10), (3, 91)].into());
}

#[test]
#[ignore = "a million rows: half a minute"]
fn a_caller_among_a_million_certificates_of_a_day_is_revoked_within_a_second() {
    let rig = Rig::new();
    let connection = Connection::open(Rig::config(&rig.folder).path).unwrap();
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
               INSERT INTO journal (serial, request_id, kind, caller, caller_id, principals, tbs_hash, ca,
                                    valid_before, state, prepared_at)
               SELECT i, randomblob(16), 'user', 'arn:aws:sts::111122223333:assumed-role/Ops/bob@corp',
                      'AROA9876543210ABCDEF:bob@corp', 'ubuntu@i-0123456789abcdef0', randomblob(32),
                      'SHA256:x', ?1 + i * 43200 / 1000000 + 300, 'issued', ?1 + i * 43200 / 1000000 FROM n";
    let start = i64::try_from(NOW - 43_200).unwrap();
    connection.execute(sql, [start]).unwrap();
    let order = RevocationOrder {
        id: crate::random::request_id().unwrap(),
        what: What::Caller("arn:aws:iam::111122223333:role/Ops".parse().unwrap()),
        by: "t".to_owned(),
        reason: None,
        at: NOW,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let began = std::time::Instant::now();
    let change = TrustChange::Revoke(order);
    let outcome = runtime.block_on(rig.store.trust_book().change(change));
    let took = began.elapsed();
    let Ok(TrustOutcome::Revoked(effect)) = outcome else {
        panic!("not revoked");
    };
    assert_eq!(effect.certificates, 6_922);
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
}
