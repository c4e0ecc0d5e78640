//! `POST /v1/certificates/user`: who gets what, and what is said to who does not.

use eic_protocol::api::problem::{Problem, ProblemCode};
use serde_json::json;
use ssh_key::certificate::Certificate;

use crate::client::Client;
use crate::sts::{ALICE, BOB};
use crate::world::{FROZEN, NOBODYS, NOW, OFFICE, PROD, THEIRS, WEB, World};

#[tokio::test]
async fn denials_that_must_not_differ_do_not_differ() {
    // C-18: other instance, explicit deny, source address, other account, no such instance.
    let world = World::new().await;
    let client = Client::new(1);
    let grant = client.sign_in(&world, ALICE).await.grant;
    let mut told = Vec::new();
    for instance in [PROD, FROZEN, OFFICE, THEIRS, NOBODYS] {
        let request = client.certificate_request("ubuntu", instance, &json!({}));
        let problem = client
            .certificate(&world, &grant, &request)
            .await
            .unwrap_err();
        assert_eq!(problem.code, ProblemCode::NotAllowed, "{instance}");
        assert!(problem.would_allow.is_empty());
        told.push((problem.title, problem.detail));
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    let audit = world.audit();
    for reason in ["NothingMatched", "ExplicitDeny", "NoSuchHost"] {
        assert!(
            audit.contains(&format!("\"errorCode\":\"{reason}\"")),
            "{reason}: {audit}"
        );
    }
}

#[tokio::test]
async fn a_caller_whom_no_statement_names_gets_the_same_text() {
    let world = World::new().await;
    let (alice, bob) = (Client::new(1), Client::new(2));
    let hers = alice.sign_in(&world, ALICE).await.grant;
    let his = bob.sign_in(&world, BOB).await.grant;
    let no_host = alice.certificate_request("ubuntu", NOBODYS, &json!({}));
    let no_host = alice
        .certificate(&world, &hers, &no_host)
        .await
        .unwrap_err();
    let no_leave = bob.certificate_request("ubuntu", WEB, &json!({}));
    let no_leave = bob.certificate(&world, &his, &no_leave).await.unwrap_err();
    let text = |problem: &Problem| {
        (
            problem.code,
            problem.detail.clone(),
            problem.would_allow.clone(),
        )
    };
    assert_eq!(text(&no_host), text(&no_leave));
}

#[tokio::test]
async fn what_the_caller_chose_wrongly_is_explained() {
    let world = World::new().await;
    let client = Client::new(1);
    let grant = client.sign_in(&world, ALICE).await.grant;
    for (user, more, hint) in [
        ("root", json!({}), "ubuntu"),
        ("nobody", json!({}), "deploy"),
        ("ubuntu", json!({ "ttl_seconds": 3600 }), "eic:TtlSeconds"),
        (
            "ubuntu",
            json!({ "extensions": ["permit-agent-forwarding"] }),
            "eic:Extensions",
        ),
    ] {
        let request = client.certificate_request(user, WEB, &more);
        let problem = client
            .certificate(&world, &grant, &request)
            .await
            .unwrap_err();
        assert_eq!(problem.code, ProblemCode::ConditionsNotMet, "{user} {more}");
        assert!(
            problem.would_allow.iter().any(|text| text.contains(hint)),
            "{:?}",
            problem.would_allow
        );
    }
}

#[tokio::test]
async fn lifetimes_and_restrictions_that_cannot_be_are_refused() {
    // C-13
    let world = World::new().await;
    let client = Client::new(1);
    let grant = client.sign_in(&world, ALICE).await.grant;
    for ttl in [0, 1, 4] {
        let request = client.certificate_request("ubuntu", WEB, &json!({ "ttl_seconds": ttl }));
        let problem = client
            .certificate(&world, &grant, &request)
            .await
            .unwrap_err();
        assert!(
            matches!(
                problem.code,
                ProblemCode::LifetimeNotAllowed | ProblemCode::ConditionsNotMet
            ),
            "{ttl} {problem:?}"
        );
    }
    for ttl in [u64::MAX, 1 << 40] {
        let request = client.certificate_request("ubuntu", WEB, &json!({ "ttl_seconds": ttl }));
        let problem = client
            .certificate(&world, &grant, &request)
            .await
            .unwrap_err();
        assert_eq!(problem.code, ProblemCode::ConditionsNotMet, "{ttl}");
    }
}

#[tokio::test]
async fn the_certificate_is_what_was_asked_for_and_in_the_audit() {
    let world = World::new().await;
    let client = Client::new(1);
    let grant = client.sign_in(&world, ALICE).await.grant;
    let request = client.certificate_request("ubuntu", WEB, &json!({ "reason": "T-1" }));
    let response = client.certificate(&world, &grant, &request).await.unwrap();
    let certificate = Certificate::from_openssh(&response.certificate).unwrap();
    let ca = std::fs::read_to_string(world.path("keys/user-ca.pub")).unwrap();
    let ca = ssh_key::PublicKey::from_openssh(&ca).unwrap();
    certificate
        .validate_at(NOW, [&ca.fingerprint(ssh_key::HashAlg::Sha256)])
        .unwrap();
    assert_eq!(certificate.valid_principals(), [format!("ubuntu@{WEB}")]);
    assert_eq!(
        (certificate.valid_after(), certificate.valid_before()),
        (NOW - 60, NOW + 300)
    );
    assert_eq!(certificate.serial(), response.serial.value());
    assert_eq!(
        certificate.key_id(),
        format!("eic:role/Dev/alice:{}", response.request_id)
    );
    assert_eq!(
        certificate.extensions().keys().collect::<Vec<_>>(),
        ["permit-port-forwarding", "permit-pty"]
    );
    assert!(!response.restricted);
    let instance = response.instance.unwrap();
    assert_eq!(
        (instance.id.as_str(), instance.name.as_deref()),
        (WEB, Some("web-1"))
    );
    assert_eq!(
        instance
            .users
            .iter()
            .map(|u| u.as_str())
            .collect::<Vec<_>>(),
        ["ubuntu"]
    );
    let audit = world.audit();
    let record = audit
        .lines()
        .find(|line| line.contains("\"IssueUserCertificate\""))
        .unwrap();
    for part in [
        ALICE.arn,
        ALICE.key,
        "\"sourceIPAddress\":\"127.0.0.1\"",
        "T-1",
        &response.request_id.to_string(),
    ] {
        assert!(record.contains(part), "{part}: {record}");
    }
    assert!(
        record.contains("\"env\":\"dev\""),
        "the tags that decided: {record}"
    );
}

#[tokio::test]
async fn restrictions_are_in_the_certificate_and_told() {
    let world = World::new().await;
    let client = Client::new(1);
    let grant = client.sign_in(&world, ALICE).await.grant;
    let more = json!({ "ttl_seconds": 60, "force_command": "uptime", "source_addresses": ["10.0.0.0/8"], "extensions": [] });
    let request = client.certificate_request("ubuntu", WEB, &more);
    let response = client.certificate(&world, &grant, &request).await.unwrap();
    let certificate = Certificate::from_openssh(&response.certificate).unwrap();
    assert!(response.restricted);
    assert_eq!(certificate.valid_before(), NOW + 60);
    assert!(certificate.extensions().iter().next().is_none());
    let options: Vec<_> = certificate
        .critical_options()
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        options,
        [
            ("force-command", "uptime"),
            ("source-address", "10.0.0.0/8")
        ]
    );
}

#[tokio::test]
async fn a_fleet_is_granted_by_name_and_not_against_an_explicit_deny() {
    let world = World::new().await;
    let client = Client::new(1);
    let grant = client.sign_in(&world, ALICE).await.grant;
    let asked = |user: &str, fleet: &str| {
        client.scoped_request(
            &json!({ "fleet": { "user": user, "fleet": fleet } }),
            &json!({}),
        )
    };
    // A member is frozen; no such fleet; each with the uniform text.
    for fleet in ["ice", "nothing"] {
        let problem = client
            .certificate(&world, &grant, &asked("deploy", fleet))
            .await
            .unwrap_err();
        assert_eq!(
            (problem.code, problem.would_allow.len()),
            (ProblemCode::NotAllowed, 0),
            "{fleet}"
        );
    }
    let problem = client
        .certificate(&world, &grant, &asked("ubuntu", "web"))
        .await
        .unwrap_err();
    assert_eq!(problem.code, ProblemCode::ConditionsNotMet);
    let response = client
        .certificate(&world, &grant, &asked("deploy", "web"))
        .await
        .unwrap();
    assert_eq!(response.principal.to_string(), "deploy@fleet/web");
    assert_eq!(response.validity.before(), NOW + 3_600);
    assert!(response.instance.is_none());
}

#[tokio::test]
async fn concurrent_requests_get_distinct_serials() {
    let world = std::sync::Arc::new(
        World::with(|config| config + "\n[limits]\ncaller_rate = 100000\n").await,
    );
    let client = Client::new(1);
    let grant = client.sign_in(&world, ALICE).await.grant;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (world, client, grant) = (std::sync::Arc::clone(&world), client.clone(), grant.clone());
        running.spawn(async move {
            let request = client.certificate_request("ubuntu", WEB, &json!({}));
            client
                .certificate(&world, &grant, &request)
                .await
                .unwrap()
                .serial
        });
    }
    let serials: std::collections::HashSet<_> = running.join_all().await.into_iter().collect();
    assert_eq!(serials.len(), 100);
}
