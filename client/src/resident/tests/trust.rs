//! What an agent trusts of a CA as the CA changes: announced and endorsed keys, a new host CA, revocations.

use eic_protocol::krl::{Comment, RevocationSet, Target};
use eic_protocol::sshsig::Namespace;
use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::bundle::{Bundle, RevocationList};
use eic_protocol::trust::endorsement::{EndorsedKey, Endorsement};
use eic_protocol::trust::envelope::Envelope;
use eic_protocol::trust::root::{KeyState, Scope, ScopedCa};

use super::stub::*;
use crate::clock::unix_now;
use crate::exit_code;

fn ca_key(seed: u8) -> CaKey {
    public(seed).to_string().parse().unwrap()
}

/// A bundle with these revocations and an endorsement of the stranger's key for these hours.
fn bundle(sequence: u64, revoked: &RevocationSet, hours: Option<(u64, u64)>, by: u8) -> Envelope {
    let now = unix_now();
    let list = revoked.krl(sequence, now, Comment::default());
    let endorsement = hours.map(|(not_before, not_after)| Endorsement {
        endorser: ca_key(USER_CA),
        issued: now,
        keys: vec![EndorsedKey {
            key: ca_key(STRANGER),
            not_before,
            not_after,
            users: None,
        }],
    });
    let endorsed = endorsement.map(|e| enveloped(Namespace::Endorsement, &e, USER_CA));
    let bundle = Bundle {
        sequence,
        root_version: 1,
        issued: now,
        refresh_after: now + 3_600,
        hard_stop: None,
        oldest_view: 0,
        revocations: RevocationList::new(
            list.encode().unwrap().bytes,
            sequence,
            0,
            revoked.expiring(),
        ),
        endorsements: endorsed.into_iter().collect(),
    };
    enveloped(Namespace::Bundle, &bundle, by)
}

#[tokio::test]
async fn a_key_that_nobody_endorsed_for_this_moment_and_user_is_refused() {
    let now = unix_now();
    let none = RevocationSet::new();
    let good = (now - 60, now + 7_200);
    for (what, offered, user) in [
        (
            "over",
            bundle(1, &none, Some((now - 7_200, now - 60)), BUNDLE),
            "alice",
        ),
        (
            "ahead",
            bundle(1, &none, Some((now + 600, now + 7_200)), BUNDLE),
            "alice",
        ),
        ("forged", bundle(1, &none, Some(good), STRANGER), "alice"),
        ("none", bundle(1, &none, None, BUNDLE), "alice"),
        ("uid 0", bundle(1, &none, Some(good), BUNDLE), "root"),
    ] {
        let world = World::new().await;
        {
            let mut state = world.state();
            state.tamper = Some("signature key");
            state.bundle = Some(offered);
        }
        let login = world.connect(world.login(user, INSTANCE)).await;
        assert_eq!(login.unwrap_err().code, exit_code::UNTRUSTED, "{what}");
    }
}

#[tokio::test]
async fn a_certificate_of_an_endorsed_key_is_taken_in_its_hours() {
    let now = unix_now();
    let world = World::new().await;
    {
        let mut state = world.state();
        state.tamper = Some("signature key");
        let hours = Some((now - 60, now + 7_200));
        state.bundle = Some(bundle(1, &RevocationSet::new(), hours, BUNDLE));
    }
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_an_announced_key_is_taken() {
    // `eic-ca keys activate` of a spare changes no root.
    let world = World::new().await;
    {
        let mut state = world.state();
        state.tamper = Some("signature key");
        state.root = changed_root(2, USER_CA, |root| {
            root.user_cas.push(ScopedCa {
                key: ca_key(STRANGER),
                state: KeyState::Announced,
                scope: Scope::default(),
            });
        });
    }
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
}

#[tokio::test]
async fn a_kept_certificate_that_is_revoked_is_not_used_again() {
    for (serial, requests) in [("43", 1), ("42", 2)] {
        let world = World::new().await;
        let mut revoked = RevocationSet::new();
        let target = Target::serial(ca_key(USER_CA), serial.parse().unwrap());
        revoked.insert(target, None);
        world.state().bundle = Some(bundle(1, &revoked, None, BUNDLE));
        for _ in 0..2 {
            world.connect(world.login("alice", INSTANCE)).await.unwrap();
        }
        assert_eq!(world.state().certificates, requests, "{serial}");
    }
}

#[tokio::test]
async fn a_revoked_host_certificate_is_refused() {
    // F-23
    let world = World::new().await;
    let mut revoked = RevocationSet::new();
    revoked.insert(Target::serial(ca_key(HOST_CA), "7".parse().unwrap()), None);
    world.state().bundle = Some(bundle(1, &revoked, None, BUNDLE));
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    let shown = host_certificate(HOST_CA, INSTANCE, 20);
    let refused = world
        .host_key("alice", INSTANCE, Some(&shown))
        .await
        .unwrap_err();
    assert_eq!(refused.code, exit_code::UNTRUSTED);
    assert!(refused.message.contains("revoked"), "{refused:?}");
}
