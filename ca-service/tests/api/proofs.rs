//! `POST /v1/sessions`: the adversarial cases A-01 to A-38 (docs/threat-model.md), as far as this API lets them be expressed.

use eic_aws::http_client::Answer;
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::api::session::{NameStanding, SessionResponse};
use serde_json::{Value, json};

use crate::client::{Client, SignIn, fresh_nonce, open_session};
use crate::http_stub::{HttpStub, response};
use crate::sts::{self, ALICE, BOB, Identity, MALLORY, STRANGER};
use crate::world::{AUDIENCE, NOW, World, code, read};

async fn send(world: &World, request: &Value) -> Answer {
    world.post("/v1/sessions", None, request).await
}

fn request(client: &Client, sign_in: &SignIn) -> Value {
    serde_json::to_value(client.session_request(sign_in)).unwrap()
}

fn good() -> Value {
    request(&Client::new(1), &SignIn::of(ALICE))
}

#[tokio::test]
async fn only_the_one_canonical_request_reaches_sts() {
    // nothing else can be expressed.
    let world = World::new().await;
    assert_eq!(send(&world, &good()).await.status, 200);
    let received = world.sts.received();
    assert_eq!(received.len(), 1);
    assert!(
        received[0].head.starts_with("POST / HTTP/1.1\r\n"),
        "{}",
        received[0].head
    );
    assert_eq!(
        received[0].body,
        "Action=GetCallerIdentity&Version=2011-06-15"
    );
    let mut names: Vec<_> = received[0]
        .headers()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    names.sort();
    let expected = [
        "accept",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "x-amz-date",
        "x-amz-security-token",
        "x-eic-audience",
        "x-eic-request",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        received[0].header("host").unwrap(),
        "sts.eu-west-1.amazonaws.com"
    );
    assert_eq!(received[0].header("x-eic-audience").unwrap(), AUDIENCE);
    assert_eq!(received[0].header("accept").unwrap(), "text/xml");
    let authorization = received[0].header("authorization").unwrap();
    assert!(authorization.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-eic-audience;x-eic-request,"));
}

#[tokio::test]
async fn members_beyond_the_documented_ones_are_refused_before_any_call() {
    // G-06
    let world = World::new().await;
    for (pointer, name, value) in [
        ("", "url", json!("https://sts.amazonaws.com/")),
        ("", "body", json!("Action=AssumeRole")),
        ("", "audience", json!(AUDIENCE)),
        ("/proof/aws-sts", "host", json!("sts.evil.example")),
        ("/proof/aws-sts", "action", json!("AssumeRole")),
        (
            "/proof/aws-sts",
            "headers",
            json!({ "accept": "application/json" }),
        ),
        ("/proof/aws-sts", "signed_headers", json!("host")),
        ("/proof/aws-sts", "expires", json!(900)),
        ("/proof/aws-sts", "method", json!("GET")),
        ("/proof", "oidc", json!({})),
    ] {
        let mut request = good();
        let object = if pointer.is_empty() {
            Some(&mut request)
        } else {
            request.pointer_mut(pointer)
        };
        object.unwrap()[name] = value;
        assert_eq!(
            code(&send(&world, &request).await),
            ProblemCode::MalformedRequest,
            "{pointer} {name}"
        );
    }
    assert!(world.sts.received().is_empty());
}

#[tokio::test]
async fn fields_outside_their_grammar_are_refused_before_any_call() {
    //
    let world = World::new().await;
    let long = "a".repeat(9_000);
    for (field, values) in [
        (
            "region",
            vec![
                "",
                "us-east-1.evil.com#",
                "us-east-1/",
                "..",
                "US-EAST-1",
                "zz-fake-9",
                "us-east-1\r\n",
                &long,
            ],
        ),
        (
            "access_key_id",
            vec![
                "",
                "akiaiosfodnn7example",
                "AKIA/OSFODNN7EXAMPLE",
                "AKIAIOSFODNN7EXAMPLE\r\nX: y",
                "AKIA",
                &long,
            ],
        ),
        (
            "date",
            vec![
                "",
                "20270115",
                "20270115T080000",
                "2027-01-15T08:00:00Z",
                "20271315T080000Z",
                "99990101T000000+",
                "20270115T080000Z\n",
            ],
        ),
        ("signature", vec!["", "00", "ABCDEF", &long, "zz"]),
        (
            "session_token",
            vec!["", "a b", "a\r\nX-Evil: 1", "\u{80}", &long],
        ),
    ] {
        for value in values {
            let mut request = good();
            request["proof"]["aws-sts"][field] = json!(value);
            assert_eq!(
                code(&send(&world, &request).await),
                ProblemCode::MalformedRequest,
                "{field} {value:?}"
            );
        }
    }
    assert!(world.sts.received().is_empty());
}

#[tokio::test]
async fn stale_and_future_dates_are_refused_before_any_call() {
    // STS itself would take 15 minutes.
    let world = World::new().await;
    for time in [NOW - 301, NOW - 960, NOW + 301, NOW + 360, 253_370_764_800] {
        let request = request(
            &Client::new(1),
            &SignIn {
                time,
                ..SignIn::of(ALICE)
            },
        );
        assert_eq!(
            code(&send(&world, &request).await),
            ProblemCode::ProofStale,
            "{time}"
        );
    }
    assert!(world.sts.received().is_empty());
    let edge = request(
        &Client::new(1),
        &SignIn {
            time: NOW - 300,
            ..SignIn::of(ALICE)
        },
    );
    assert_eq!(send(&world, &edge).await.status, 200);
}

#[tokio::test]
async fn a_proof_without_the_keys_own_signature_is_refused_before_any_call() {
    // D-15
    let world = World::new().await;
    let (alice, mallory) = (Client::new(1), Client::new(2));
    let sign_in = SignIn::of(ALICE);
    let mut request = alice.session_request(&sign_in);
    for signature in [
        Vec::new(),
        vec![0; 100],
        alice.sign(b"another message"),
        mallory.session_request(&sign_in).key_signature.0,
    ] {
        request.key_signature.0 = signature;
        assert_eq!(
            code(&open_session(&world, &request).await),
            ProblemCode::PossessionNotProven
        );
    }
    assert!(world.sts.received().is_empty());
}

#[tokio::test]
async fn a_proof_for_another_key_audience_or_nonce_is_refused_by_sts() {
    // and "proof bound to another public key"
    let world = World::new().await;
    let (alice, mallory) = (Client::new(1), Client::new(2));
    let sign_in = SignIn::of(ALICE);
    // Mallory puts Alice's proof beside his own key.
    let mut stolen = mallory.session_request(&sign_in);
    stolen.proof = alice.session_request(&sign_in).proof;
    assert_eq!(
        code(&open_session(&world, &stolen).await),
        ProblemCode::ProofRefused
    );
    // Signed for another CA: even with the possession signature made for this one.
    let sign_in = SignIn::of(ALICE);
    let mut elsewhere = alice.session_request(&sign_in);
    elsewhere.proof = alice
        .session_request(&SignIn {
            audience: "https://staging.example",
            ..SignIn::of(ALICE)
        })
        .proof;
    assert_eq!(
        code(&open_session(&world, &elsewhere).await),
        ProblemCode::ProofRefused
    );
    let whole = alice.session_request(&SignIn {
        audience: "https://staging.example",
        ..SignIn::of(ALICE)
    });
    assert_eq!(
        code(&open_session(&world, &whole).await),
        ProblemCode::PossessionNotProven
    );
    let sign_in = SignIn::of(ALICE);
    let mut renamed = alice.session_request(&sign_in);
    renamed.proof = alice
        .session_request(&SignIn {
            nonce: fresh_nonce(),
            ..SignIn::of(ALICE)
        })
        .proof;
    assert_eq!(
        code(&open_session(&world, &renamed).await),
        ProblemCode::ProofRefused
    );
}

#[tokio::test]
async fn a_proof_serves_once_even_across_a_restart() {
    //
    let world = World::new().await;
    let first = good();
    assert_eq!(send(&world, &first).await.status, 200);
    assert_eq!(
        code(&send(&world, &first).await),
        ProblemCode::ProofReplayed
    );
    // Another spelling of the same JSON is the same proof.
    let pretty = serde_json::to_vec_pretty(&first).unwrap();
    let headers = [("content-type", "application/json; charset=utf-8".to_owned())];
    assert_eq!(
        code(&world.send("POST", "/v1/sessions", &headers, pretty).await),
        ProblemCode::ProofReplayed
    );
    let world = world.restarted().await;
    assert_eq!(
        code(&send(&world, &first).await),
        ProblemCode::ProofReplayed
    );
    assert!(
        world.sts.received().len() <= 2,
        "a restart forgets only what costs a call"
    );
    assert_eq!(world.audit().matches("\"CreateSession\"").count(), 1);
}

#[tokio::test]
async fn one_proof_opens_one_session_however_many_send_it_at_once() {
    //
    let world = World::new().await;
    let proof = good();
    let (a, b, c) = tokio::join!(
        send(&world, &proof),
        send(&world, &proof),
        send(&world, &proof)
    );
    let opened = [a, b, c]
        .iter()
        .filter(|answer| answer.status == 200)
        .count();
    assert_eq!(opened, 1);
}

#[tokio::test]
async fn what_strangers_invent_takes_a_bounded_number_of_rows_and_the_rest_is_counted() {
    // G-14
    let world = World::new().await;
    for n in 0..150_u8 {
        let invented = Identity {
            key: "ASIAINVENTEDINVENTED",
            ..ALICE
        };
        let answer = send(&world, &request(&Client::new(n), &SignIn::of(invented))).await;
        assert_eq!(code(&answer), ProblemCode::ProofRefused);
    }
    let recorded = world.audit().matches("\"RefuseSession\"").count();
    // 20 at once, one more for each second that the loop took.
    assert!((20..60).contains(&recorded), "{recorded}");
    assert_eq!(world.rows("replay") + world.rows("replay_recent"), 0);
    // Whoever AWS confirms is recorded all the same.
    assert_eq!(send(&world, &good()).await.status, 200);
    let stranger = request(&Client::new(1), &SignIn::of(STRANGER));
    assert_eq!(
        code(&send(&world, &stranger).await),
        ProblemCode::AccountNotAccepted
    );
    let audit = world.audit();
    assert!(audit.contains("\"CreateSession\"") && audit.contains(STRANGER.key));
    world.clock.set(NOW + 60);
    let told = format!("\"count\":{}", 150 - recorded);
    world.until(|world| world.audit().contains(&told)).await;
}

#[tokio::test]
async fn a_refused_proof_stays_used() {
    let world = World::new().await;
    world
        .sts
        .answer_with(|_| sts::refusal(503, NOW, "ServiceUnavailable"));
    let request = good();
    assert_eq!(
        code(&send(&world, &request).await),
        ProblemCode::StsUnavailable
    );
    assert_eq!(
        code(&send(&world, &request).await),
        ProblemCode::ProofReplayed
    );
}

#[tokio::test]
async fn sts_says_who_is_refused_and_the_sentence_says_why() {
    let world = World::new().await;
    let wrong_secret = Identity {
        secret: "wrong",
        ..ALICE
    };
    let unknown = Identity {
        key: "ASIANOBODYNOBODY0001",
        ..ALICE
    };
    let wrong_token = Identity {
        token: Some("d3Jvbmc="),
        ..ALICE
    };
    for (identity, words) in [
        (wrong_secret, "the secret access key is wrong"),
        (unknown, "does not know the access key"),
        (wrong_token, "session token does not belong to it"),
    ] {
        let answer = send(&world, &request(&Client::new(1), &SignIn::of(identity))).await;
        assert_eq!(code(&answer), ProblemCode::ProofRefused);
        let problem = read::<Value>(&answer).unwrap_err();
        assert!(problem.detail.contains(words), "{}", problem.detail);
    }
    world
        .sts
        .answer_with(|_| sts::refusal(403, NOW, "ExpiredToken"));
    let problem = read::<Value>(&send(&world, &good()).await).unwrap_err();
    assert!(
        problem.detail.contains("have expired"),
        "{}",
        problem.detail
    );
    let audit = world.audit();
    assert_eq!(audit.matches("\"RefuseSession\"").count(), 4, "{audit}");
}

#[tokio::test]
async fn credentials_that_were_revoked_meanwhile_open_no_session() {
    // no positive answer is remembered.
    let world = World::new().await;
    assert_eq!(send(&world, &good()).await.status, 200);
    for error in ["ExpiredToken", "InvalidClientTokenId"] {
        world
            .sts
            .answer_with(move |_| sts::refusal(403, NOW, error));
        assert_eq!(
            code(&send(&world, &good()).await),
            ProblemCode::ProofRefused
        );
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    //
    let world = World::new().await;
    let attacker =
        HttpStub::start(|_| response(200, NOW, &sts::caller_identity(ALICE.arn, ALICE.user_id)))
            .await;
    for status in [301, 302, 307, 308] {
        let location = attacker.origin().to_owned();
        world.sts.answer_with(move |_| {
            let text = String::from_utf8(response(status, NOW, "")).unwrap();
            text.replacen("\r\n", &format!("\r\nlocation: {location}/\r\n"), 1)
                .into_bytes()
        });
        assert_eq!(
            code(&send(&world, &good()).await),
            ProblemCode::StsUnavailable,
            "{status}"
        );
    }
    assert!(attacker.received().is_empty());
}

#[tokio::test]
async fn answers_that_are_too_large_or_never_end_are_given_up() {
    //
    let world = World::new().await;
    let padding = " ".repeat(17 * 1024);
    world.sts.answer_with(move |_| {
        response(
            200,
            NOW,
            &(sts::caller_identity(ALICE.arn, ALICE.user_id) + &padding),
        )
    });
    assert_eq!(
        code(&send(&world, &good()).await),
        ProblemCode::StsUnavailable
    );
    world
        .sts
        .answer_with(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n<Get".to_vec());
    let started = std::time::Instant::now();
    assert_eq!(
        code(&send(&world, &good()).await),
        ProblemCode::StsUnavailable
    );
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
}

#[tokio::test]
async fn throttling_is_passed_on_and_not_retried() {
    //
    let world = World::new().await;
    world
        .sts
        .answer_with(|_| sts::refusal(400, NOW, "Throttling"));
    let answer = send(&world, &good()).await;
    assert_eq!(code(&answer), ProblemCode::StsUnavailable);
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(world.sts.received().len(), 1);
}

#[tokio::test]
async fn calls_to_sts_have_turns_and_who_waits_too_long_is_told() {
    //
    let world = World::with(|config| config + "\n[limits]\nsts_calls = 1\n").await;
    world.sts.answer_with(|_| b"HTTP/1.1 200 OK\r\n".to_vec());
    let requests: Vec<_> = (0..5).map(|_| good()).collect();
    let started = std::time::Instant::now();
    let (a, b, c) = tokio::join!(
        send(&world, &requests[0]),
        send(&world, &requests[1]),
        send(&world, &requests[2])
    );
    let mut codes = [code(&a), code(&b), code(&c)];
    codes.sort_by_key(|code| code.status());
    // Who got no turn hears 429: our own limit must not look like an absent CA.
    let busy = ProblemCode::TooManyRequests;
    assert_eq!(codes, [busy, busy, ProblemCode::StsUnavailable]);
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
    assert_eq!(world.sts.received().len(), 1);
}

#[tokio::test]
async fn callers_of_other_kinds_partitions_and_accounts_are_refused() {
    //
    let world = World::new().await;
    let answer = send(&world, &request(&Client::new(1), &SignIn::of(STRANGER))).await;
    assert_eq!(code(&answer), ProblemCode::AccountNotAccepted);
    for (arn, id) in [
        (
            "arn:aws-cn:iam::111122223333:user/alice",
            "AIDA0123456789ABCDEF",
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/a/b/c",
            "AROA0123456789ABCDEF:b",
        ),
        (
            "arn:aws:sts::111122223333:user/moto",
            "AIDA0123456789ABCDEF",
        ),
        ("arn:aws:iam::111122223333:role/Dev", "AROA0123456789ABCDEF"),
    ] {
        world
            .sts
            .answer_with(move |_| response(200, NOW, &sts::caller_identity(arn, id)));
        assert_eq!(
            code(&send(&world, &good()).await),
            ProblemCode::ProofRefused,
            "{arn}"
        );
    }
}

#[tokio::test]
async fn a_clock_that_disagrees_with_aws_stops_sessions_and_certificates() {
    // G-15
    let world = World::new().await;
    let client = Client::new(1);
    let grant = client.sign_in(&world, ALICE).await.grant;
    world
        .sts
        .answer_with(|received| sts::judge(received, NOW - 3_600));
    assert_eq!(code(&send(&world, &good()).await), ProblemCode::ClockSkew);
    let wanted = client.certificate_request("ubuntu", crate::world::WEB, &json!({}));
    assert_eq!(
        client
            .certificate(&world, &grant, &wanted)
            .await
            .unwrap_err()
            .code,
        ProblemCode::ClockSkew
    );
    let readiness = world.send("GET", "/readyz", &[], Vec::new()).await;
    assert_eq!(readiness.status, 503);
    world.sts.answer_with(|received| sts::judge(received, NOW));
    assert_eq!(send(&world, &good()).await.status, 200);
    assert!(client.certificate(&world, &grant, &wanted).await.is_ok());
}

#[tokio::test]
async fn keys_that_must_not_be_certified_are_refused_before_any_call() {
    // D-13, D-14
    let world = World::new().await;
    let ca = std::fs::read_to_string(world.path("keys/user-ca.pub")).unwrap();
    let ca = ca.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let mut special = good();
    special["public_key"] = json!(ca);
    assert_eq!(
        code(&send(&world, &special).await),
        ProblemCode::KeyNotAccepted
    );
    for line in [
        "ssh-dss AAAAB3NzaC1kc3MAAAAA",
        "ssh-ed25519",
        "",
        "ssh-ed25519 AAAA",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ] {
        let mut weak = good();
        weak["public_key"] = json!(line);
        assert_eq!(
            code(&send(&world, &weak).await),
            ProblemCode::MalformedRequest,
            "{line}"
        );
    }
    assert!(world.sts.received().is_empty());
}

#[tokio::test]
async fn protocol_versions_that_are_not_served_are_refused() {
    let world = World::new().await;
    for version in [0, 2, u32::MAX] {
        let mut request = good();
        request["protocol"] = json!(version);
        assert_eq!(
            code(&send(&world, &request).await),
            ProblemCode::UnsupportedProtocol
        );
    }
}

#[tokio::test]
async fn a_session_names_its_caller_and_is_in_the_audit() {
    let world = World::new().await;
    for (identity, standing) in [
        (ALICE, NameStanding::Claimed),
        (MALLORY, NameStanding::Claimed),
        (BOB, NameStanding::Attested),
    ] {
        let answer = send(&world, &request(&Client::new(1), &SignIn::of(identity))).await;
        let session: SessionResponse = read(&answer).unwrap();
        assert_eq!(session.caller.identity(), identity.arn);
        assert_eq!(
            (
                session.caller.user_id.as_str(),
                session.caller.name_standing
            ),
            (identity.user_id, standing)
        );
        assert_eq!((session.expires_at, session.server_time), (NOW + 900, NOW));
        let audit = world.audit();
        assert!(
            audit.contains(&session.request_id.to_string()) && audit.contains(identity.key),
            "{audit}"
        );
        assert!(!audit.contains(session.grant.reveal()));
    }
}
