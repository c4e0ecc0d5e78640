//! `GET /v1/instances` and `POST /v1/events`.

use eic_aws::http_client::Answer;
use eic_protocol::api::event::EventRequest;
use eic_protocol::api::instance::{InstancesQuery, InstancesResponse};
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::grant::GrantToken;
use serde_json::json;

use crate::client::{Client, fresh_nonce};
use crate::sts::{ALICE, BOB};
use crate::world::{FROZEN, NOW, PROD, WEB, World, code, read};

async fn list(world: &World, client: &Client, grant: &GrantToken, host: Option<&str>) -> Answer {
    let query = InstancesQuery {
        host: host.map(str::to_owned),
    };
    let header = client.authorization(grant, &query, NOW, fresh_nonce());
    let path = host.map_or("/v1/instances".to_owned(), |host| {
        format!("/v1/instances?host={host}")
    });
    world
        .send("GET", &path, &[("authorization", header)], Vec::new())
        .await
}

async fn ids(
    world: &World,
    client: &Client,
    grant: &GrantToken,
    host: Option<&str>,
) -> Vec<String> {
    let response: InstancesResponse = read(&list(world, client, grant, host).await).unwrap();
    response
        .instances
        .iter()
        .map(|instance| instance.id.to_string())
        .collect()
}

#[tokio::test]
async fn hosts_that_the_caller_may_not_use_do_not_exist_for_him() {
    // C-18
    let world = World::new().await;
    let (alice, bob) = (Client::new(1), Client::new(2));
    let hers = alice.sign_in(&world, ALICE).await.grant;
    let his = bob.sign_in(&world, BOB).await.grant;
    assert_eq!(ids(&world, &alice, &hers, None).await, [WEB]);
    assert!(ids(&world, &bob, &his, None).await.is_empty());
    for host in [
        PROD,
        FROZEN,
        "db-1",
        "ice-1",
        "i-0000000000000dead",
        "nothing",
    ] {
        assert!(
            ids(&world, &alice, &hers, Some(host)).await.is_empty(),
            "{host}"
        );
    }
    for host in [WEB, "web-1", "192.0.2.1"] {
        assert_eq!(
            ids(&world, &alice, &hers, Some(host)).await,
            [WEB],
            "{host}"
        );
        assert!(
            ids(&world, &bob, &his, Some(host)).await.is_empty(),
            "{host}"
        );
    }
}

#[tokio::test]
async fn a_listing_names_the_users_that_policy_allows() {
    let world = World::new().await;
    let alice = Client::new(1);
    let grant = alice.sign_in(&world, ALICE).await.grant;
    let response: InstancesResponse = read(&list(&world, &alice, &grant, None).await).unwrap();
    let users: Vec<_> = response.instances[0]
        .users
        .iter()
        .map(|user| user.as_str())
        .collect();
    assert_eq!(users, ["ubuntu", "deploy"], "the inventory's own first");
    assert!(!response.truncated);
}

#[tokio::test]
async fn queries_beyond_the_documented_one_are_refused() {
    let world = World::new().await;
    let alice = Client::new(1);
    let grant = alice.sign_in(&world, ALICE).await.grant;
    let query = InstancesQuery::default();
    let long = format!("/v1/instances?host={}", "a".repeat(257));
    for path in [
        "/v1/instances?hosts=a",
        "/v1/instances?host=a&host=b",
        "/v1/instances?host=%FF",
        "/v1/instances?host=",
    ] {
        let header = alice.authorization(&grant, &query, NOW, fresh_nonce());
        let answer = world
            .send("GET", path, &[("authorization", header)], Vec::new())
            .await;
        let code = code(&answer);
        assert!(
            matches!(
                code,
                ProblemCode::MalformedRequest | ProblemCode::RequestSignature
            ),
            "{path} {code:?}"
        );
    }
    let query = InstancesQuery {
        host: Some("a".repeat(257)),
    };
    let header = alice.authorization(&grant, &query, NOW, fresh_nonce());
    let answer = world
        .send("GET", &long, &[("authorization", header)], Vec::new())
        .await;
    assert_eq!(code(&answer), ProblemCode::MalformedRequest);
    let header = alice.authorization(&grant, &InstancesQuery::default(), NOW, fresh_nonce());
    let with_body = world
        .send(
            "GET",
            "/v1/instances",
            &[("authorization", header)],
            b"{}".to_vec(),
        )
        .await;
    assert_eq!(code(&with_body), ProblemCode::MalformedRequest);
}

#[tokio::test]
async fn an_event_is_recorded_once_as_its_doers_report() {
    let world = World::new().await;
    let alice = Client::new(1);
    let grant = alice.sign_in(&world, ALICE).await.grant;
    let event = |fingerprint: &str| -> EventRequest {
        serde_json::from_value(json!({ "protocol": 1, "event": { "key-pushed": {
            "instance": WEB, "user": "ubuntu", "fingerprint": fingerprint, "cause": "legacy-host", "aws_request_id": "0-1",
        } } }))
        .unwrap()
    };
    let send = async |request: &EventRequest, header: String| {
        world
            .post(
                "/v1/events",
                Some(header),
                &serde_json::to_value(request).unwrap(),
            )
            .await
    };
    let bad = event("\u{1b}]0;x");
    let header = alice.authorization(&grant, &bad, NOW, fresh_nonce());
    assert_eq!(
        code(&send(&bad, header).await),
        ProblemCode::MalformedRequest
    );
    let good = event(&alice.public.fingerprint());
    let header = alice.authorization(&grant, &good, NOW, fresh_nonce());
    assert_eq!(send(&good, header.clone()).await.status, 200);
    assert_eq!(
        code(&send(&good, header).await),
        ProblemCode::RequestReplayed
    );
    let audit = world.audit();
    assert_eq!(audit.matches("\"PushKeyReported\"").count(), 1);
    assert!(audit.contains("\"reportedBy\":\"client\""));
}
