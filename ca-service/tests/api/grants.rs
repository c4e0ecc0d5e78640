//! Granted requests: whose key, whose grant, how often, how long.

use eic_ca::store::{Store, StoreConfig};
use eic_protocol::api::problem::ProblemCode;
use serde_json::json;

use crate::client::{Client, fresh_nonce, issue};
use crate::sts::{self, ALICE, BOB, MALLORY};
use crate::world::{NOW, WEB, World, code};

#[tokio::test]
async fn another_keys_signature_is_refused() {
    // A-38, D-15
    let world = World::new().await;
    let (alice, mallory) = (Client::new(1), Client::new(2));
    let grant = alice.sign_in(&world, ALICE).await.grant;
    let his = mallory.certificate_request("ubuntu", WEB, &json!({}));
    let header = mallory.authorization(&grant, &his, NOW, fresh_nonce());
    assert_eq!(
        code(&issue(&world, Some(header), &his).await),
        ProblemCode::RequestSignature
    );
    let hers = alice.certificate_request("ubuntu", WEB, &json!({}));
    let header = mallory.authorization(&grant, &hers, NOW, fresh_nonce());
    assert_eq!(
        code(&issue(&world, Some(header), &hers).await),
        ProblemCode::RequestSignature
    );
    // Signed by the bound key, asking for a certificate on another.
    let header = alice.authorization(&grant, &his, NOW, fresh_nonce());
    assert_eq!(
        code(&issue(&world, Some(header), &his).await),
        ProblemCode::RequestSignature
    );
}

#[tokio::test]
async fn a_request_that_was_changed_after_signing_is_refused() {
    let world = World::new().await;
    let client = Client::new(1);
    let grant = client.sign_in(&world, ALICE).await.grant;
    let signed = client.certificate_request("ubuntu", WEB, &json!({ "ttl_seconds": 60 }));
    for changed in [
        client.certificate_request("deploy", WEB, &json!({ "ttl_seconds": 60 })),
        client.certificate_request("ubuntu", WEB, &json!({ "ttl_seconds": 300 })),
        client.certificate_request("ubuntu", WEB, &json!({})),
        client.certificate_request("ubuntu", WEB, &json!({ "ttl_seconds": 60, "reason": "x" })),
    ] {
        let header = client.authorization(&grant, &signed, NOW, fresh_nonce());
        assert_eq!(
            code(&issue(&world, Some(header), &changed).await),
            ProblemCode::RequestSignature
        );
    }
}

#[tokio::test]
async fn a_request_counts_once_even_across_a_restart_and_when_it_was_denied() {
    // A-38, D-26
    let world = World::new().await;
    let client = Client::new(1);
    let grant = client.sign_in(&world, ALICE).await.grant;
    let allowed = client.certificate_request("ubuntu", WEB, &json!({}));
    let denied = client.certificate_request("root", WEB, &json!({}));
    let allowed_header = client.authorization(&grant, &allowed, NOW, fresh_nonce());
    let denied_header = client.authorization(&grant, &denied, NOW, fresh_nonce());
    assert_eq!(
        issue(&world, Some(allowed_header.clone()), &allowed)
            .await
            .status,
        200
    );
    assert_eq!(
        code(&issue(&world, Some(denied_header.clone()), &denied).await),
        ProblemCode::ConditionsNotMet
    );
    assert_eq!(
        code(&issue(&world, Some(allowed_header.clone()), &allowed).await),
        ProblemCode::RequestReplayed
    );
    assert_eq!(
        code(&issue(&world, Some(denied_header), &denied).await),
        ProblemCode::RequestReplayed
    );
    let world = world.restarted().await;
    assert_eq!(
        code(&issue(&world, Some(allowed_header), &allowed).await),
        ProblemCode::RequestReplayed
    );
    assert_eq!(world.audit().matches("\"DenyUserCertificate\"").count(), 1);
}

#[tokio::test]
async fn an_expired_grant_and_a_stale_request_are_refused() {
    let world = World::new().await;
    let client = Client::new(1);
    let grant = client.sign_in(&world, ALICE).await.grant;
    let request = client.certificate_request("ubuntu", WEB, &json!({}));
    for time in [NOW - 61, NOW + 61] {
        let header = client.authorization(&grant, &request, time, fresh_nonce());
        assert_eq!(
            code(&issue(&world, Some(header), &request).await),
            ProblemCode::RequestStale
        );
    }
    world.clock.set(NOW + 900);
    let error = client
        .certificate(&world, &grant, &request)
        .await
        .unwrap_err();
    assert_eq!(error.code, ProblemCode::GrantExpired);
}

#[tokio::test]
async fn a_revoked_caller_gets_nothing_from_that_moment() {
    // the grant was good a second ago.
    let world = World::new().await;
    let (alice, mallory) = (Client::new(1), Client::new(2));
    let grant = alice.sign_in(&world, ALICE).await.grant;
    let theirs = mallory.sign_in(&world, MALLORY).await.grant;
    let request = alice.certificate_request("ubuntu", WEB, &json!({}));
    assert!(alice.certificate(&world, &grant, &request).await.is_ok());
    revoke(&world, ALICE.arn).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        match alice.certificate(&world, &grant, &request).await {
            Err(problem) if problem.code == ProblemCode::CallerRevoked => break,
            _ => assert!(
                std::time::Instant::now() < deadline,
                "the revocation was not noticed"
            ),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let again = alice.session_request(&crate::client::SignIn::of(ALICE));
    assert_eq!(
        code(&crate::client::open_session(&world, &again).await),
        ProblemCode::CallerRevoked
    );
    // Another session of the role is somebody else.
    let request = mallory.certificate_request("ubuntu", WEB, &json!({}));
    assert!(mallory.certificate(&world, &theirs, &request).await.is_ok());
}

/// As `eic-ca revoke caller` does it, beside the running service.
async fn revoke(world: &World, who: &str) {
    use eic_ca::audit::{Actor, Event, EventName, Operator, Origin, Recorder, event_request_id};

    let store = Store::open(&StoreConfig::at(world.path("eic-ca.db"))).unwrap();
    let recorder = Recorder::new(&store, world.clock.clone());
    let actor = Actor::Operator(Operator::current());
    let event = Event::new(
        EventName::RevokeCaller,
        actor,
        Origin::default(),
        event_request_id().unwrap(),
    );
    let revocation = eic_ca::store::Revocation {
        who: who.parse().unwrap(),
        by: "test".to_owned(),
        reason: None,
        at: NOW,
    };
    assert!(recorder.revoke(revocation, false, &event).await.unwrap());
}

#[tokio::test]
async fn with_sessions_off_a_grant_serves_one_request() {
    let world = World::with(|config| config.replace("mode = \"on\"", "mode = \"off\"")).await;
    let client = Client::new(1);
    let grant = client.sign_in(&world, ALICE).await.grant;
    let request = client.certificate_request("ubuntu", WEB, &json!({}));
    assert!(client.certificate(&world, &grant, &request).await.is_ok());
    let error = client
        .certificate(&world, &grant, &request)
        .await
        .unwrap_err();
    assert_eq!(error.code, ProblemCode::RequestReplayed);
    let fresh = client.sign_in(&world, ALICE).await.grant;
    assert!(client.certificate(&world, &fresh, &request).await.is_ok());
}

#[tokio::test]
async fn session_names_chosen_anew_do_not_multiply_a_roles_rate() {
    // G-13: who may assume a role may call its sessions what he likes.
    let world =
        World::with(|config| config + "\n[limits]\ncaller_rate = 1\nburst_seconds = 2\n").await;
    let mut refused = 0;
    for n in 0..40 {
        let client = Client::new(u8::try_from(n + 1).unwrap());
        if let Err(problem) = client.try_to_sign_in(&world, sts::made_up_session(n)).await {
            assert_eq!(problem.code, ProblemCode::TooManyRequests);
            refused += 1;
        }
    }
    // Ten times what one session may do at once, and what grew meanwhile.
    assert!((1..=20).contains(&refused), "{refused}");
    let bob = Client::new(99);
    assert!(bob.try_to_sign_in(&world, BOB).await.is_ok());
}

#[tokio::test]
async fn one_callers_storm_does_not_touch_others() {
    // G-13
    let world =
        World::with(|config| config + "\n[limits]\ncaller_rate = 1\nburst_seconds = 5\n").await;
    let (alice, mallory) = (Client::new(1), Client::new(2));
    let grant = alice.sign_in(&world, ALICE).await.grant;
    let theirs = mallory.sign_in(&world, MALLORY).await.grant;
    let request = alice.certificate_request("ubuntu", WEB, &json!({}));
    let mut refused = 0;
    for _ in 0..20 {
        if let Err(problem) = alice.certificate(&world, &grant, &request).await {
            assert_eq!(problem.code, ProblemCode::TooManyRequests);
            refused += 1;
        }
    }
    assert!(refused >= 10, "{refused}");
    let request = mallory.certificate_request("ubuntu", WEB, &json!({}));
    assert!(mallory.certificate(&world, &theirs, &request).await.is_ok());
}
