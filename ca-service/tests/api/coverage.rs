//! Each route refuses strangers. The table of routes is the server's own: a new route is covered at once.

use eic_ca::http::{Admits, ROUTES};
use eic_protocol::api::problem::ProblemCode;

use crate::client::{Client, fresh_nonce};
use crate::sts::ALICE;
use crate::world::{NOW, World, code};

/// Everything that is no authorization of ours, or one of somebody else.
fn strangers_headers() -> Vec<Vec<String>> {
    let nonce = "00112233445566778899aabbccddeeff";
    let form = format!("EIC grant=a.b,time={NOW},nonce={nonce},signature=AAAA");
    vec![
        vec![],
        vec![String::new()],
        vec!["Bearer a.b".to_owned()],
        vec!["Basic YTpi".to_owned()],
        vec![form.clone()],
        vec![form.replace("EIC", "eic")],
        vec![form.clone(), form],
        vec![format!("EIC {}", "a".repeat(20_000))],
    ]
}

#[tokio::test]
async fn every_route_refuses_whom_it_does_not_admit() {
    let world = World::new().await;
    for route in &ROUTES {
        for headers in strangers_headers() {
            let mut sent = vec![("content-type", "application/json".to_owned())];
            sent.extend(headers.into_iter().map(|value| ("authorization", value)));
            let body = if route.method == http::Method::POST {
                b"{}".to_vec()
            } else {
                Vec::new()
            };
            let answer = world
                .send(route.method.as_str(), route.path, &sent, body)
                .await;
            match route.admits {
                Admits::Anyone => assert_eq!(answer.status, 200, "{}", route.path),
                Admits::Proof => assert_eq!(
                    code(&answer),
                    ProblemCode::MalformedRequest,
                    "{}",
                    route.path
                ),
                Admits::Grant => {
                    let code = code(&answer);
                    assert!(
                        matches!(code, ProblemCode::GrantRequired | ProblemCode::GrantInvalid),
                        "{} {code:?}",
                        route.path
                    );
                }
            }
        }
    }
    assert!(world.sts.received().is_empty(), "no stranger reaches STS");
}

#[tokio::test]
async fn other_methods_paths_and_origins_are_refused() {
    // A-06, G-16
    let world = World::new().await;
    for route in &ROUTES {
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "X"] {
            let answer = world.send(method, route.path, &[], Vec::new()).await;
            assert_eq!(
                code(&answer),
                ProblemCode::MethodNotAllowed,
                "{method} {}",
                route.path
            );
            assert!(!answer.headers.contains_key("access-control-allow-origin"));
        }
        let origin = [
            ("origin", "https://evil.example".to_owned()),
            ("content-type", "application/json".to_owned()),
        ];
        let answer = world
            .send(route.method.as_str(), route.path, &origin, Vec::new())
            .await;
        assert_eq!(
            code(&answer),
            ProblemCode::MalformedRequest,
            "{}",
            route.path
        );
    }
    for path in [
        "/",
        "/v1",
        "/v1/sessions/",
        "//v1/sessions",
        "/V1/sessions",
        "/v1/sessions/../sessions",
        "/v2/sessions",
        "/admin",
    ] {
        assert_eq!(
            code(&world.send("POST", path, &[], Vec::new()).await),
            ProblemCode::NotFound,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_grant_of_one_route_opens_no_other() {
    //
    use eic_protocol::api::instance::InstancesQuery;

    let world = World::new().await;
    let client = Client::new(1);
    let grant = client.sign_in(&world, ALICE).await.grant;
    let header = client.authorization(&grant, &InstancesQuery::default(), NOW, fresh_nonce());
    let request = client.certificate_request("ubuntu", crate::world::WEB, &serde_json::json!({}));
    let answer = crate::client::issue(&world, Some(header), &request).await;
    assert_eq!(code(&answer), ProblemCode::RequestSignature);
}
