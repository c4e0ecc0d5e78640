//! Enrolments that must not be written twice, or not at all.

use super::*;
use crate::store::trust::What;
use crate::store::{Store, StoreConfig};

fn key(seed: u8) -> SubjectKey {
    let private = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
    let public = ssh_key::public::Ed25519PublicKey(private.verifying_key().to_bytes());
    let line = ssh_key::PublicKey::from(public).to_openssh().unwrap();
    line.parse().unwrap()
}

fn host(keys: &[SubjectKey]) -> EnrolledHost {
    EnrolledHost {
        instance: "i-0123456789abcdef0".parse().unwrap(),
        account: "111122223333".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        evidence: EvidenceKind::IdentityDocument,
        keys: keys.to_vec(),
        pending_time: Some(7),
        enrolled_at: 1,
        certified_at: 2,
        ended_at: None,
        revision: 1,
    }
}

fn request(seed: u8, asked_at: u64) -> HostRequest {
    HostRequest {
        enrolment: RequestId::from_random([seed; 16]),
        instance: "i-0123456789abcdef0".parse().unwrap(),
        account: "111122223333".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        evidence: EvidenceKind::WebIdentity,
        keys: vec![key(seed)],
        challenge: Nonce::from_random([seed; 16]),
        challenge_ends: asked_at + 3_600,
        state: RequestState::Waiting,
        asked_at,
        decided_by: None,
    }
}

fn enrol(keys: &[SubjectKey], expected: Option<u64>, uses: Uses) -> HostChange {
    HostChange::Enrol {
        host: host(keys),
        expected,
        uses,
        revoked: Vec::new(),
    }
}

fn order(what: What) -> RevocationOrder {
    RevocationOrder {
        id: RequestId::from_random([9; 16]),
        what,
        by: "root".to_owned(),
        reason: None,
        at: 1_000,
    }
}

fn remove() -> HostChange {
    let instance = host(&[]).instance;
    HostChange::Remove {
        revoked: order(What::HostCertificates(instance.clone())),
        instance,
    }
}

fn block() -> HostChange {
    let instance = host(&[]).instance;
    HostChange::Block {
        revoked: order(What::Host(instance.clone())),
        instance,
    }
}

fn know(keys: &[SubjectKey], expected: Option<u64>) -> HostChange {
    HostChange::Know {
        host: host(keys),
        expected,
        uses: Uses::Nothing,
    }
}

struct Fixture {
    _folder: tempfile::TempDir,
    _store: Store,
    book: HostBook,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::at(folder.path().join("x.db"))).unwrap();
        let book = store.host_book();
        Self {
            _folder: folder,
            _store: store,
            book,
        }
    }

    async fn stored(&self) -> StoredHost {
        let instance = host(&[]).instance;
        self.book.stored(&instance).await.unwrap()
    }

    async fn write(&self, change: HostChange) -> HostOutcome {
        self.claimed(change, None).await
    }

    async fn claimed(&self, change: HostChange, claim: Option<ReplayClaim>) -> HostOutcome {
        let audit = None;
        let write = HostWrite {
            claim,
            change,
            audit,
        };
        self.book.write(write).await.unwrap()
    }
}

#[tokio::test]
async fn of_two_enrolments_at_once_one_is_refused() {
    let fixture = Fixture::new();
    let first = enrol(&[key(1)], None, Uses::Nothing);
    assert_eq!(fixture.write(first).await, HostOutcome::Done);
    let second = enrol(&[key(2)], None, Uses::Nothing);
    assert_eq!(fixture.write(second).await, HostOutcome::Unmet);
    let old = enrol(&[key(2)], Some(9), Uses::Nothing);
    assert_eq!(fixture.write(old).await, HostOutcome::Unmet);
    let stored = fixture.stored().await;
    assert_eq!(stored.enrolled, Some(host(&[key(1)])));
    let next = enrol(&[key(2)], Some(1), Uses::Nothing);
    assert_eq!(fixture.write(next).await, HostOutcome::Done);
}

#[tokio::test]
async fn a_key_is_one_hosts_until_that_host_is_removed() {
    let fixture = Fixture::new();
    fixture.write(enrol(&[key(1)], None, Uses::Nothing)).await;
    let other = || {
        let mut other = host(&[key(1)]);
        other.instance = "i-0123456789abcdef1".parse().unwrap();
        HostChange::Enrol {
            host: other,
            expected: None,
            uses: Uses::Nothing,
            revoked: Vec::new(),
        }
    };
    assert_eq!(fixture.write(other()).await, HostOutcome::Unmet);
    let instance: InstanceId = "i-0123456789abcdef1".parse().unwrap();
    let owner = fixture.book.other_owner(&instance, &[key(1)]).await;
    assert_eq!(owner.unwrap(), Some(host(&[]).instance));
    assert_eq!(fixture.write(remove()).await, HostOutcome::Done);
    assert_eq!(fixture.write(other()).await, HostOutcome::Done);
}

#[tokio::test]
async fn a_token_is_used_once_and_not_after_its_end() {
    let fixture = Fixture::new();
    let token = |digest: &str, ends| StoredToken {
        digest: digest.to_owned(),
        instance: host(&[]).instance,
        made_by: "root".to_owned(),
        made_at: 100,
        ends,
        used_at: None,
    };
    fixture.write(HostChange::AddToken(token("a", 200))).await;
    fixture.write(HostChange::AddToken(token("b", 200))).await;
    let uses = |digest: &str, now| Uses::Token(digest.to_owned(), now);
    assert_eq!(
        fixture.write(enrol(&[key(1)], None, uses("a", 200))).await,
        HostOutcome::Unmet
    );
    assert_eq!(
        fixture.write(enrol(&[key(1)], None, uses("c", 150))).await,
        HostOutcome::Unmet
    );
    assert_eq!(
        fixture.write(enrol(&[key(1)], None, uses("a", 150))).await,
        HostOutcome::Done
    );
    assert_eq!(
        fixture
            .write(enrol(&[key(1)], Some(1), uses("a", 151)))
            .await,
        HostOutcome::Unmet
    );
    // What was refused used nothing up.
    assert_eq!(
        fixture
            .write(enrol(&[key(1)], Some(7), uses("b", 151)))
            .await,
        HostOutcome::Unmet
    );
    assert_eq!(
        fixture.book.token("b").await.unwrap().unwrap().used_at,
        None
    );
    assert_eq!(
        fixture.book.token("a").await.unwrap().unwrap().used_at,
        Some(150)
    );
}

#[tokio::test]
async fn ever_new_keys_for_one_host_do_not_fill_the_store() {
    let fixture = Fixture::new();
    for seed in 1..=4 {
        assert_eq!(
            fixture.write(HostChange::Ask(request(seed, 1_000))).await,
            HostOutcome::Done
        );
    }
    assert_eq!(
        fixture.write(HostChange::Ask(request(5, 1_000))).await,
        HostOutcome::Unmet
    );
    assert_eq!(
        fixture.write(HostChange::Ask(request(1, 1_001))).await,
        HostOutcome::Done,
        "the same once more"
    );
    let later = 1_001 + REQUEST_LIFE + 1;
    assert_eq!(
        fixture.write(HostChange::Ask(request(5, later))).await,
        HostOutcome::Done,
        "the old have ended"
    );
}

#[tokio::test]
async fn rejected_keys_take_no_place_from_the_hosts_own() {
    let fixture = Fixture::new();
    for seed in 1..=4 {
        fixture.write(HostChange::Ask(request(seed, 1_000))).await;
    }
    let own = || HostChange::Ask(request(5, 1_000));
    assert_eq!(fixture.write(own()).await, HostOutcome::Unmet);
    let rejected = HostChange::Decide {
        enrolment: RequestId::from_random([1; 16]),
        state: RequestState::Rejected,
        by: "alice".to_owned(),
    };
    fixture.write(rejected).await;
    assert_eq!(fixture.write(own()).await, HostOutcome::Done);
    let sixth = HostChange::Ask(request(6, 1_000));
    assert_eq!(fixture.write(sixth).await, HostOutcome::Unmet);
}

#[tokio::test]
async fn removing_a_host_that_is_not_enrolled_changes_nothing() {
    // What is refused has no record, so nothing may be gone afterwards.
    let fixture = Fixture::new();
    let instance = host(&[]).instance;
    fixture.write(HostChange::Ask(request(1, 1_000))).await;
    assert_eq!(fixture.write(remove()).await, HostOutcome::Unmet);
    let asked = [key(1)];
    let waiting = || fixture.book.request(&instance, &asked);
    assert!(waiting().await.unwrap().is_some());
    fixture.write(enrol(&[key(2)], None, Uses::Nothing)).await;
    assert_eq!(fixture.write(remove()).await, HostOutcome::Done);
    assert_eq!(waiting().await.unwrap(), None);
}

#[tokio::test]
async fn a_decision_is_about_what_waits_and_a_rejected_request_enrols_nothing() {
    let fixture = Fixture::new();
    fixture.write(HostChange::Ask(request(1, 1_000))).await;
    let decide = |seed, state| HostChange::Decide {
        enrolment: RequestId::from_random([seed; 16]),
        state,
        by: "alice".to_owned(),
    };
    assert_eq!(
        fixture.write(decide(2, RequestState::Approved)).await,
        HostOutcome::Unmet
    );
    assert_eq!(
        fixture.write(decide(1, RequestState::Rejected)).await,
        HostOutcome::Done
    );
    assert_eq!(
        fixture.write(decide(1, RequestState::Approved)).await,
        HostOutcome::Unmet
    );
    let uses = Uses::Request(RequestId::from_random([1; 16]));
    assert_eq!(
        fixture.write(enrol(&[key(1)], None, uses)).await,
        HostOutcome::Unmet
    );
    let stored = fixture
        .book
        .request(&host(&[]).instance, &[key(1)])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (stored.state, stored.decided_by.as_deref()),
        (RequestState::Rejected, Some("alice"))
    );
}

#[tokio::test]
async fn a_replayed_message_changes_nothing() {
    let fixture = Fixture::new();
    let claim = Some(ReplayClaim::of_signed_time([7; 32], 1_000, 300));
    assert_eq!(
        fixture.claimed(HostChange::Nothing, claim).await,
        HostOutcome::Done
    );
    let change = enrol(&[key(1)], None, Uses::Nothing);
    assert_eq!(fixture.claimed(change, claim).await, HostOutcome::Replayed);
    assert_eq!(fixture.stored().await, StoredHost::default());
}

#[tokio::test]
async fn a_blocked_host_is_not_written_whether_it_was_enrolled_or_not() {
    let fixture = Fixture::new();
    assert_eq!(fixture.write(block()).await, HostOutcome::Done);
    assert_eq!(fixture.write(block()).await, HostOutcome::Unmet, "it is");
    let first = enrol(&[key(1)], None, Uses::Nothing);
    assert_eq!(fixture.write(first.clone()).await, HostOutcome::Unmet);
    assert_eq!(
        fixture.write(know(&[key(1)], None)).await,
        HostOutcome::Unmet
    );
    let unblock = || HostChange::Unblock {
        instance: host(&[]).instance,
    };
    assert_eq!(fixture.write(unblock()).await, HostOutcome::Done);
    assert_eq!(fixture.write(unblock()).await, HostOutcome::Unmet);
    assert_eq!(fixture.write(first).await, HostOutcome::Done);
    // A request that began before the block rests on a revision that is gone.
    fixture.write(block()).await;
    fixture.write(unblock()).await;
    let renewal = enrol(&[key(1)], Some(1), Uses::Nothing);
    assert_eq!(fixture.write(renewal).await, HostOutcome::Unmet);
}

#[tokio::test]
async fn keys_of_a_legacy_host_never_touch_an_enrolled_one() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.write(know(&[key(1)], None)).await,
        HostOutcome::Done
    );
    assert_eq!(
        fixture.write(know(&[key(2)], None)).await,
        HostOutcome::Unmet
    );
    let stored = fixture.stored().await;
    assert_eq!(stored.legacy, Some(host(&[key(1)])));
    assert_eq!(stored.enrolled, None);
    assert_eq!(fixture.book.enrolled().await.unwrap(), []);
    fixture.write(enrol(&[key(1)], None, Uses::Nothing)).await;
    assert_eq!(
        fixture.write(know(&[key(2)], None)).await,
        HostOutcome::Unmet
    );
    let stored = fixture.stored().await;
    assert_eq!(stored.enrolled, Some(host(&[key(1)])));
    assert_eq!(stored.legacy, None, "it is the enrolled host now");
    let enrolled = fixture.book.enrolled().await.unwrap();
    assert_eq!(enrolled, [host(&[]).instance]);
    assert_eq!(fixture.write(remove()).await, HostOutcome::Done);
    assert_eq!(fixture.stored().await, StoredHost::default());
}

#[tokio::test]
async fn a_host_that_is_gone_ends_once_and_counts_again_when_it_is_back() {
    // E-12
    let fixture = Fixture::new();
    fixture.write(enrol(&[key(1)], None, Uses::Nothing)).await;
    let end = || HostChange::End {
        instance: host(&[]).instance,
        at: 1_000,
        revoked: order(What::HostCertificates(host(&[]).instance)),
    };
    assert_eq!(fixture.book.present().await.unwrap().len(), 1);
    assert_eq!(fixture.write(end()).await, HostOutcome::Done);
    assert_eq!(fixture.write(end()).await, HostOutcome::Unmet);
    assert!(fixture.book.present().await.unwrap().is_empty());
    assert_eq!(fixture.book.enrolled().await.unwrap(), []);
    let under_way = enrol(&[key(1)], Some(1), Uses::Nothing);
    assert_eq!(fixture.write(under_way).await, HostOutcome::Unmet);
    let back = enrol(&[key(1)], Some(2), Uses::Nothing);
    assert_eq!(fixture.write(back).await, HostOutcome::Done);
    assert_eq!(fixture.book.present().await.unwrap().len(), 1);
}
