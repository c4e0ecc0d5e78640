//! First keys, other keys, blocked hosts; and what a host certificate is.

use eic_protocol::api::host_certificate::{HostCertificateResponse, console};
use eic_protocol::api::problem::ProblemCode;
use ssh_key::Certificate;
use ssh_key::certificate::CertType;

use super::aws::{HOST, HostWorld, MANAGED, OTHER, document};
use super::requests::{Ask, with_key, with_token};
use crate::client::{Client, SignIn, open_session};
use crate::program::real_now;
use crate::sts::{ALICE, INSTANCE, OTHER_INSTANCE};
use crate::world::code;

#[tokio::test(flavor = "multi_thread")]
async fn role_credentials_with_a_key_of_their_own_get_nothing() {
    // E-08, E-11: a pod that reads the metadata service, or an attacker who took the role's credentials.
    let mut world = HostWorld::new("evidence").await;
    let (host, thief) = (Client::new(1), Client::new(2));
    world.certified(&world.with_document(&Ask::of(&host))).await;
    for request in [
        world.with_document(&Ask::of(&thief)),
        world.with_web_identity(&Ask::of(&thief), |_| {}),
        world.with_document(&Ask {
            previous: Some(&thief),
            ..Ask::of(&thief)
        }),
    ] {
        let answer = world.ask(&request).await.unwrap();
        assert!(
            matches!(answer, HostCertificateResponse::AwaitingApproval { .. }),
            "{answer:?}"
        );
    }
    let pending = world.hosts(&["pending", "--json"]).unwrap();
    assert!(
        pending.contains(&thief.public.fingerprint()) && pending.lines().count() == 1,
        "{pending}"
    );
    // The host itself is not disturbed, and its own key vouches for another.
    world.certified(&world.with_document(&Ask::of(&host))).await;
    let next = Client::new(3);
    world
        .certified(&world.with_document(&Ask {
            previous: Some(&host),
            ..Ask::of(&next)
        }))
        .await;
    let old = world
        .post_certificate(&world.with_document(&Ask::of(&host)))
        .await;
    assert_eq!(
        code(&old),
        ProblemCode::KeyNotAccepted,
        "the replaced key is no key any more"
    );
    assert_eq!(
        revoked(&world),
        ["key"],
        "nothing of the replaced key counts"
    );
    let audit = world.world.audit();
    assert!(audit.contains("vouched-for") && audit.contains(&host.public.fingerprint()));
    assert!(world.end().contains("ALARM"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_host_is_never_certified_for_a_second_one() {
    // A cloned image with host keys in it: either could be the other.
    let world = HostWorld::new("evidence").await;
    let key = Client::new(1);
    world.certified(&world.with_document(&Ask::of(&key))).await;
    let clone = Ask {
        instance: OTHER,
        document: document(OTHER, "2026-02-16T00:38:27Z"),
        identity: OTHER_INSTANCE,
        ..Ask::of(&key)
    };
    let answer = world.post_certificate(&world.with_document(&clone)).await;
    assert_eq!(code(&answer), ProblemCode::HostNotEnrolled);
    world.hosts(&["remove", HOST]).unwrap();
    let again = Ask {
        nonce: crate::client::fresh_nonce(),
        ..clone
    };
    world.certified(&world.with_document(&again)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_must_show_the_keys_for_the_cas_own_challenge() {
    // E-11
    let world = HostWorld::new("console").await;
    let (host, thief) = (Client::new(1), Client::new(2));
    let Ok(HostCertificateResponse::WriteToConsole {
        challenge,
        expires_at,
        ..
    }) = world.ask(&world.with_document(&Ask::of(&host))).await
    else {
        panic!("no challenge")
    };
    assert!(expires_at > real_now());
    let line = console::line(&HOST.parse().unwrap(), &challenge, [&host.public]);
    world.aws.lock().unwrap().console = format!("booting\r\n{line}\r\n");
    // Without the challenge in the request, and with another key, the line proves nothing.
    let without = world
        .ask(&world.with_document(&Ask::of(&host)))
        .await
        .unwrap();
    assert!(
        matches!(without, HostCertificateResponse::WriteToConsole { challenge: same, .. } if same == challenge)
    );
    let stolen = Ask {
        challenge: Some(challenge),
        ..Ask::of(&thief)
    };
    let answer = world.ask(&world.with_document(&stolen)).await.unwrap();
    assert!(matches!(
        answer,
        HostCertificateResponse::WriteToConsole { .. }
    ));
    let with = Ask {
        challenge: Some(challenge),
        ..Ask::of(&host)
    };
    world.certified(&world.with_document(&with)).await;
    assert!(world.world.audit().contains("RequestHostEnrolment"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_keys_on_one_console_are_refused() {
    let world = HostWorld::new("console").await;
    let (host, thief) = (Client::new(1), Client::new(2));
    let Ok(HostCertificateResponse::WriteToConsole { challenge, .. }) =
        world.ask(&world.with_document(&Ask::of(&thief))).await
    else {
        panic!("no challenge")
    };
    let line = |key: &Client| console::line(&HOST.parse().unwrap(), &challenge, [&key.public]);
    world.aws.lock().unwrap().console = format!("{}\n{}\n", line(&host), line(&thief));
    let ask = Ask {
        challenge: Some(challenge),
        ..Ask::of(&thief)
    };
    let answer = world.post_certificate(&world.with_document(&ask)).await;
    assert_eq!(code(&answer), ProblemCode::EvidenceRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cloud_init_printed_need_no_challenge() {
    let world = HostWorld::new("console").await;
    let host = Client::new(1);
    world.aws.lock().unwrap().console = format!(
        "-----BEGIN SSH HOST KEY KEYS-----\n{} root@ip-10-0-0-5\n-----END SSH HOST KEY KEYS-----\n",
        host.public
    );
    world
        .certified(&world.with_web_identity(&Ask::of(&host), |_| {}))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_approved_keys_are_certified() {
    let world = HostWorld::new("approval").await;
    let (host, thief) = (Client::new(1), Client::new(2));
    let Ok(HostCertificateResponse::AwaitingApproval { enrolment, .. }) =
        world.ask(&world.with_document(&Ask::of(&host))).await
    else {
        panic!("no enrolment")
    };
    let Ok(HostCertificateResponse::AwaitingApproval {
        enrolment: other, ..
    }) = world.ask(&world.with_document(&Ask::of(&thief))).await
    else {
        panic!("no enrolment")
    };
    let pending = world.hosts(&["pending"]).unwrap();
    assert!(pending.contains("requestsForThisHost: 2"), "{pending}");
    world.hosts(&["approve", &enrolment.to_string()]).unwrap();
    world.hosts(&["reject", &other.to_string()]).unwrap();
    let answer = world
        .post_certificate(&world.with_document(&Ask::of(&thief)))
        .await;
    assert_eq!(code(&answer), ProblemCode::HostNotEnrolled);
    world.certified(&world.with_document(&Ask::of(&host))).await;
    assert!(
        world.hosts(&["approve", &enrolment.to_string()]).is_err(),
        "it is used up"
    );
    assert!(revoked(&world).is_empty());
    // Other keys that an operator approves end the old ones.
    let next = Client::new(3);
    let answer = world.ask(&world.with_document(&Ask::of(&next))).await;
    let Ok(HostCertificateResponse::AwaitingApproval { enrolment, .. }) = answer else {
        panic!("{answer:?}")
    };
    world.hosts(&["approve", &enrolment.to_string()]).unwrap();
    world.certified(&world.with_document(&Ask::of(&next))).await;
    assert_eq!(revoked(&world), ["key"], "the old key is revoked");
    assert!(world.world.audit().contains("ApproveHost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_enrols_one_host_once() {
    let world = HostWorld::new("token").await;
    let (host, thief) = (Client::new(1), Client::new(2));
    let answer = world
        .post_certificate(&world.with_document(&Ask::of(&host)))
        .await;
    assert_eq!(
        code(&answer),
        ProblemCode::HostNotEnrolled,
        "an account of the rule `token`"
    );
    let token = world
        .hosts(&["token", "--name", MANAGED, "--ttl", "1"])
        .unwrap();
    let token = token.parse().unwrap();
    let managed = |key| Ask {
        instance: MANAGED,
        ..Ask::of(key)
    };
    let elsewhere = with_token(&Ask::of(&host), &token);
    assert_eq!(
        code(&world.post_certificate(&elsewhere).await),
        ProblemCode::EnrolmentTokenInvalid
    );
    world.certified(&with_token(&managed(&host), &token)).await;
    for request in [
        with_token(&managed(&thief), &token),
        with_token(&managed(&host), &token),
    ] {
        let answer = world.post_certificate(&request).await;
        assert_eq!(code(&answer), ProblemCode::EnrolmentTokenInvalid);
    }
    // From then on the host's own key is its evidence, and no other key.
    world.certified(&with_key(&managed(&host))).await;
    let answer = world.post_certificate(&with_key(&managed(&thief))).await;
    assert_eq!(code(&answer), ProblemCode::HostNotEnrolled);
    let next = Client::new(3);
    world
        .certified(&with_key(&Ask {
            previous: Some(&host),
            ..managed(&next)
        }))
        .await;
    let store = std::fs::read(world.world.path("eic-ca.db")).unwrap();
    let shown = token_text(&token);
    assert!(
        !store
            .windows(shown.len())
            .any(|window| window == shown.as_bytes()),
        "only its digest is stored"
    );
}

/// The kinds of what the CA has hosts and clients refuse.
pub(super) fn revoked(world: &HostWorld) -> Vec<String> {
    let store = rusqlite::Connection::open(world.world.path("eic-ca.db")).unwrap();
    let mut kinds = store.prepare("SELECT kind FROM revoked").unwrap();
    let kinds = kinds.query_map([], |row| row.get(0)).unwrap();
    kinds.map(Result::unwrap).collect()
}

fn token_text(token: &eic_protocol::api::host_certificate::evidence::EnrolmentToken) -> String {
    token.reveal().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_host_gets_nothing_until_it_is_unblocked() {
    let world = HostWorld::new("evidence").await;
    let host = Client::new(1);
    world.certified(&world.with_document(&Ask::of(&host))).await;
    world
        .hosts(&["block", HOST, "--reason", "stolen disk"])
        .unwrap();
    let answer = world
        .post_certificate(&world.with_document(&Ask::of(&host)))
        .await;
    assert_eq!(code(&answer), ProblemCode::HostNotEnrolled);
    assert!(world.world.audit().contains("stolen disk"));
    assert_eq!(revoked(&world), ["serial"], "its certificate is revoked");
    world.hosts(&["unblock", HOST]).unwrap();
    world.certified(&world.with_document(&Ask::of(&host))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_certifies_a_blocked_host_or_forgets_one_that_still_has_its_keys() {
    let world = HostWorld::new("evidence").await;
    world
        .certified(&world.with_document(&Ask::of(&Client::new(1))))
        .await;
    let refused = world.eic_ca(&["forget-host", HOST]).unwrap_err();
    assert!(
        refused.contains(&format!("eic-ca hosts remove {HOST}")),
        "{refused}"
    );
    world.hosts(&["block", HOST]).unwrap();
    let out = world.world.path("state").display().to_string();
    let key = world.world.path("keys/host-ca.pub").display().to_string();
    let state = [
        "host-state",
        "--instance",
        HOST,
        "--out",
        &out,
        "--host-key",
        &key,
    ];
    let refused = world.eic_ca(&state).unwrap_err();
    assert!(
        refused.contains(&format!("eic-ca hosts unblock {HOST}")),
        "{refused}"
    );
    assert!(!world.world.path("state").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_certificate_names_the_instance_and_nothing_else() {
    // D-04, E-10
    let world = HostWorld::new("evidence").await;
    let host = Client::new(1);
    let issued = world.certified(&world.with_document(&Ask::of(&host))).await;
    assert_eq!(issued.len(), 1);
    let certificate: Certificate = issued[0].certificate.parse().unwrap();
    assert_eq!(certificate.cert_type(), CertType::Host);
    assert_eq!(certificate.valid_principals(), [HOST]);
    assert!(certificate.critical_options().is_empty() && certificate.extensions().is_empty());
    assert!(certificate.valid_before() - certificate.valid_after() <= 24 * 3_600 + 60);
    let public = |name: &str| {
        let text = std::fs::read_to_string(world.world.path(&format!("keys/{name}.pub"))).unwrap();
        ssh_key::PublicKey::from_openssh(text.trim()).unwrap()
    };
    assert_eq!(certificate.signature_key(), public("host-ca").key_data());
    assert_ne!(certificate.signature_key(), public("user-ca").key_data());
    let listed = world.hosts(&["list"]).unwrap();
    assert!(
        listed.contains(HOST) && listed.contains("identity-document"),
        "{listed}"
    );
    let audit = world.world.audit();
    assert!(audit.contains("EnrolHost") && audit.contains("IssueHostCertificate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_key_is_never_certified_as_somebodys() {
    // D-14
    let world = HostWorld::new("evidence").await;
    let host = Client::new(1);
    world.certified(&world.with_document(&Ask::of(&host))).await;
    let sign_in = SignIn {
        time: real_now(),
        ..SignIn::of(ALICE)
    };
    let answer = open_session(&world.world, &host.session_request(&sign_in)).await;
    assert_eq!(code(&answer), ProblemCode::KeyNotAccepted);
    assert!(
        world
            .world
            .audit()
            .contains("the public key is a host's key")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_first_enrolments_at_once_at_most_one_counts() {
    let world = HostWorld::new("evidence").await;
    let (host, thief) = (Client::new(1), Client::new(2));
    for round in 0..5 {
        let (one, two) = (
            world.with_document(&Ask::of(&host)),
            world.with_web_identity(&Ask::of(&thief), |_| {}),
        );
        let (one, two) = tokio::join!(world.ask(&one), world.ask(&two));
        let issued = [&one, &two]
            .into_iter()
            .filter(|answer| matches!(answer, Ok(HostCertificateResponse::Issued { .. })))
            .count();
        assert!(issued <= 1, "round {round}: {one:?} {two:?}");
        let _ = world.hosts(&["remove", HOST]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_type_without_a_live_console_shows_the_one_of_its_last_boot() {
    let world = HostWorld::new("console").await;
    let (host, thief) = (Client::new(1), Client::new(2));
    world.aws.lock().unwrap().failing = Some(("GetConsoleOutput", 500, "InternalError"));
    let answer = world
        .post_certificate(&world.with_document(&Ask::of(&thief)))
        .await;
    assert_eq!(code(&answer), ProblemCode::InventoryUnavailable);
    world.aws.lock().unwrap().failing = Some(("GetConsoleOutput", 400, "UnsupportedOperation"));
    let block = "-----BEGIN SSH HOST KEY KEYS-----\nKEY root@x\n-----END SSH HOST KEY KEYS-----\n";
    world.aws.lock().unwrap().console = block.replace("KEY root", &format!("{} root", host.public));
    world.certified(&world.with_document(&Ask::of(&host))).await;
    world.aws.lock().unwrap().failing = Some(("GetConsoleOutput", 500, "InternalError"));
    world.certified(&world.with_document(&Ask::of(&host))).await;
    // Once it is enrolled, no console speaks for another key (E-08).
    let answer = world.ask(&world.with_document(&Ask::of(&thief))).await;
    assert!(
        matches!(answer, Ok(HostCertificateResponse::AwaitingApproval { .. })),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_reaches_the_log_or_the_audit() {
    // G-11
    let mut world = HostWorld::new("token").await;
    let host = Client::new(1);
    let text = world.hosts(&["token", "--name", MANAGED]).unwrap();
    let token = text.parse().unwrap();
    let managed = Ask {
        instance: MANAGED,
        ..Ask::of(&host)
    };
    world.certified(&with_token(&managed, &token)).await;
    let again = with_token(
        &Ask {
            nonce: crate::client::fresh_nonce(),
            ..managed
        },
        &token,
    );
    let _ = world.post_certificate(&again).await;
    let web = world.with_web_identity(&Ask::of(&host), |claims| {
        claims["jti"] = "canary-jti".into()
    });
    let jwt = serde_json::to_value(&web).unwrap()["evidence"]["web-identity"].to_string();
    let _ = world.post_certificate(&web).await;
    let signature = jwt.trim_matches('"').rsplit('.').next().unwrap().to_owned();
    let (audit, log) = (world.world.audit(), world.end());
    for canary in [
        text.as_str(),
        signature.as_str(),
        "canary-jti",
        INSTANCE.secret,
    ] {
        assert!(!audit.contains(canary) && !log.contains(canary), "{canary}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_a_token_enrolled_shows_awss_evidence_from_then_on() {
    let world = HostWorld::new("token").await;
    let (host, thief) = (Client::new(1), Client::new(2));
    let token = world.hosts(&["token", "--name", HOST]).unwrap();
    world
        .certified(&with_token(&Ask::of(&host), &token.parse().unwrap()))
        .await;
    let answer = world.post_certificate(&with_key(&Ask::of(&host))).await;
    assert_eq!(code(&answer), ProblemCode::EvidenceRefused);
    world.certified(&world.with_document(&Ask::of(&host))).await;
    let answer = world
        .post_certificate(&world.with_document(&Ask::of(&thief)))
        .await;
    assert_eq!(code(&answer), ProblemCode::HostNotEnrolled);
    let again = world.hosts(&["token", "--name", HOST]).unwrap();
    world
        .certified(&with_token(&Ask::of(&thief), &again.parse().unwrap()))
        .await;
    let replaced = world
        .post_certificate(&world.with_document(&Ask::of(&host)))
        .await;
    assert_eq!(code(&replaced), ProblemCode::KeyNotAccepted);
}
