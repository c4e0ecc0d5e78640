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
        after: None,
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
        "/v1/instances?after=web-1",
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
        after: None,
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
async fn more_hosts_than_an_answer_holds_come_page_by_page_each_once() {
    const MANY: usize = 1_002;
    let host = |n: usize| {
        // The names run against the ids.
        format!(
            "[[instance]]\nid = \"i-{n:08x}\"\naccount = \"111122223333\"\nregion = \"eu-west-1\"\n\
             tags = {{ Name = \"web-{:04}\", env = \"dev\" }}\n",
            MANY - n
        )
    };
    let many: String = (0..MANY).map(host).collect();
    let change = |config: String| config.replace("inventory.toml", "many.toml");
    let world = World::with_files(change, &[("many.toml", &many)]).await;
    let alice = Client::new(1);
    let grant = alice.sign_in(&world, ALICE).await.grant;
    let (mut ids, mut after, mut sizes) = (Vec::new(), None, Vec::new());
    loop {
        let query = InstancesQuery { host: None, after };
        let header = alice.authorization(&grant, &query, NOW, fresh_nonce());
        let path = match &query.after {
            None => "/v1/instances".to_owned(),
            Some(after) => format!("/v1/instances?after={after}"),
        };
        let headers = [("authorization", header)];
        let answer = world.send("GET", &path, &headers, Vec::new()).await;
        let page: InstancesResponse = read(&answer).unwrap();
        assert!(page.instances.is_sorted_by_key(|host| host.name.clone()));
        assert_eq!(page.truncated, page.next.is_some());
        sizes.push(page.instances.len());
        ids.extend(page.instances.into_iter().map(|host| host.id.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [1_000, 2]);
    ids.sort();
    let all: Vec<String> = (0..MANY).map(|n| format!("i-{n:08x}")).collect();
    assert!(ids == all, "not each once");
    // The page that was signed is the page that is given.
    let first = InstancesQuery::default();
    let header = alice.authorization(&grant, &first, NOW, fresh_nonce());
    let path = "/v1/instances?after=i-00000001";
    let answer = world
        .send("GET", path, &[("authorization", header)], Vec::new())
        .await;
    assert_eq!(code(&answer), ProblemCode::RequestSignature);
}

#[tokio::test]
async fn listings_of_a_large_fleet_cost_whoever_asks_what_they_cost_the_ca() {
    // G-13: he sees none of these, so that each page would look at all.
    let host = |n: usize| {
        format!(
            "[[instance]]\nid = \"i-{n:08x}\"\naccount = \"999988887777\"\nregion = \"eu-west-1\"\n"
        )
    };
    let many: String = (0..10_000).map(host).collect();
    let change = |config: String| {
        let config = config.replace("inventory.toml", "many.toml");
        config + "\n[limits]\ncaller_rate = 2\nburst_seconds = 6\n"
    };
    let world = World::with_files(change, &[("many.toml", &many)]).await;
    let (alice, bob) = (Client::new(1), Client::new(2));
    let grant = alice.sign_in(&world, ALICE).await.grant;
    let theirs = bob.sign_in(&world, BOB).await.grant;
    let listing = || list(&world, &alice, &grant, None);
    let (a, b, c, d, e) = tokio::join!(listing(), listing(), listing(), listing(), listing());
    let (served, refused): (Vec<_>, Vec<_>) = [a, b, c, d, e]
        .into_iter()
        .partition(|answer| answer.status == 200);
    let [one] = served.as_slice() else {
        panic!("{} were served at once", served.len())
    };
    let none: InstancesResponse = read(one).unwrap();
    assert!(none.instances.is_empty());
    let told = |answer: &Answer| code(answer) == ProblemCode::TooManyRequests;
    assert!(refused.iter().all(told) && told(&listing().await));
    // One host is found without looking at all, and nobody else waits.
    for _ in 0..2 {
        let one = list(&world, &bob, &theirs, Some("i-00000001")).await;
        assert_eq!(one.status, 200);
    }
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
