//! Issuers that do not answer, answer nothing, or point elsewhere.

use serde_json::json;

use super::*;
use crate::testing::http_stub::{HttpStub, response};
use crate::testing::token_issuer::TokenIssuer;

const NOW: u64 = 1_800_000_000;

async fn stub(set: String) -> HttpStub {
    let stub = HttpStub::start(|_| Vec::new()).await;
    let origin = stub.origin().to_owned();
    publish(
        &stub,
        origin.clone(),
        format!("{origin}/.well-known/jwks.json"),
        set,
    );
    stub
}

fn publish(stub: &HttpStub, issuer: String, jwks_uri: String, set: String) {
    stub.answer_with(move |request| {
        if request.head.contains("openid-configuration") {
            let body = json!({ "issuer": issuer, "jwks_uri": jwks_uri }).to_string();
            response(200, NOW, &body)
        } else {
            response(200, NOW, &set)
        }
    });
}

fn keys(stub: &HttpStub, private_addresses: bool) -> IssuerKeys {
    let client = HttpClient::plain_only().unwrap();
    let rules = IssuerRules {
        issuer: stub.origin().parse().unwrap(),
        jwks_uri: None,
        private_addresses,
        algorithms: vec![],
    };
    IssuerKeys::new(rules, client)
}

#[tokio::test]
async fn a_private_address_that_the_configuration_does_not_name_is_not_asked() {
    // D19
    let stub = stub(TokenIssuer::new().key_set().to_string()).await;
    let refused = keys(&stub, false).get("ec", NOW).await.unwrap_err();
    assert!(matches!(refused, NoKeys::PrivateAddress(_)), "{refused}");
    assert!(stub.received().is_empty());
    assert!(keys(&stub, true).get("ec", NOW).await.is_ok());
    for private in [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "192.0.2.1",
        "::1",
        "::",
        "fe80::1",
        "fd00:ec2::254",
        "2001:db8::1",
        "ff02::1",
        "2002:a00:1::",
    ] {
        assert!(!is_public(private.parse().unwrap()), "{private}");
    }
    assert!(is_public("52.94.1.1".parse().unwrap()) && is_public("2600:1f00::1".parse().unwrap()));
}

#[tokio::test]
async fn a_name_server_that_does_not_answer_is_not_waited_for() {
    let stub = stub(TokenIssuer::new().key_set().to_string()).await;
    let mut keys = keys(&stub, false);
    keys.resolve = |_, _| Box::pin(std::future::pending());
    keys.limits.deadline = Duration::from_millis(20);
    let asked = tokio::time::timeout(Duration::from_secs(30), keys.get("ec", NOW)).await;
    let refused = asked.expect("the look-up has a deadline").unwrap_err();
    assert!(matches!(refused, NoKeys::Http(_)), "{refused}");
    assert!(stub.received().is_empty());
}

#[tokio::test]
async fn keys_of_another_host_or_issuer_are_not_fetched() {
    // B-09, B-17
    let set = TokenIssuer::new().key_set().to_string();
    let stub = stub(set.clone()).await;
    let origin = stub.origin().to_owned();
    for (issuer, uri) in [
        (origin.clone(), "http://127.0.0.1:1/keys".to_owned()),
        (origin.clone(), format!("{origin}.evil.example/keys")),
        (format!("{origin}/"), format!("{origin}/keys")),
        ("https://other.example".to_owned(), format!("{origin}/keys")),
    ] {
        publish(&stub, issuer, uri, set.clone());
        assert_eq!(
            keys(&stub, true).get("ec", NOW).await.unwrap_err(),
            NoKeys::Elsewhere
        );
    }
    stub.answer_with(|_| {
        b"HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec()
    });
    assert!(matches!(
        keys(&stub, true).get("ec", NOW).await,
        Err(NoKeys::Http(_))
    ));
}

#[tokio::test]
async fn a_flood_of_unknown_keys_asks_once_a_minute() {
    // B-04
    let stub = stub(TokenIssuer::new().key_set().to_string()).await;
    let keys = keys(&stub, true);
    for n in 0..100 {
        assert!(
            !keys
                .get(&format!("unknown-{n}"), NOW)
                .await
                .unwrap()
                .has("unknown")
        );
    }
    assert_eq!(stub.received().len(), 2, "one discovery and one set");
    let _ = keys.get("unknown", NOW + 60).await;
    assert_eq!(stub.received().len(), 4);
}

#[tokio::test]
async fn an_outage_leaves_the_last_good_set_in_use_for_a_day_and_an_empty_answer_changes_nothing() {
    // B-17
    let stub = stub(TokenIssuer::new().key_set().to_string()).await;
    let keys = keys(&stub, true);
    keys.get("ec", NOW).await.unwrap();
    stub.answer_with(|_| response(503, NOW, "down"));
    assert!(keys.get("ec", NOW + 3_600).await.unwrap().has("ec"));
    let origin = stub.origin().to_owned();
    publish(
        &stub,
        origin.clone(),
        format!("{origin}/keys"),
        r#"{"keys":[]}"#.to_owned(),
    );
    assert!(keys.get("ec", NOW + 7_200).await.unwrap().has("ec"));
    assert!(keys.get("ec", NOW + 86_400).await.is_err());
}

#[tokio::test]
async fn a_fresh_set_is_not_asked_for_again() {
    let stub = stub(TokenIssuer::new().key_set().to_string()).await;
    let keys = keys(&stub, true);
    let first = keys.get("ec", NOW).await.unwrap();
    for later in [0, 1, 3_599] {
        let again = keys.get("ec", NOW + later).await.unwrap();
        assert!(again.has("ec") && Arc::ptr_eq(&first, &again));
    }
    assert_eq!(stub.received().len(), 2);
}
