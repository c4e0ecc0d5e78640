//! People whom an issuer signed in by a public client: tokens for its client id (OpenID Connect Core §2, §3.1.3.7).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::wire::Writer;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Desk, ISSUER, JOBS, refuses};
use crate::client::Client;
use crate::world::{AUDIENCE, NOW, WEB};

const CLIENT: &str = "eic-people";
/// As Okta makes them: nobody's name.
const SUBJECT: &str = "00u1a2b3c4d5e6f7g8h9";
const ADDRESS: &str = "alice@acme.example";

pub(super) const POLICY: &str = r#"{ "Version": "2012-10-17", "Statement": [
  { "Sid": "Ops", "Effect": "Allow", "Principal": { "Federated": "issuer.example" },
    "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "arn:aws:ec2:*:111122223333:instance/*",
    "Condition": { "StringEquals": { "ec2:osuser": "ops" }, "ForAnyValue:StringEquals": { "oidc:groups": "ops" } } },
  { "Sid": "Alice", "Effect": "Allow", "Principal": { "Federated": "issuer.example" },
    "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "arn:aws:ec2:*:111122223333:instance/*",
    "Condition": { "StringEquals": { "ec2:osuser": "alice", "oidc:email": "alice@acme.example" } } }
] }"#;

impl Desk {
    /// What Okta, Entra, Google, Keycloak and Dex say of a person, as far as they agree.
    fn person(&self, kid: &str, change: impl FnOnce(&mut Value)) -> String {
        self.token(kid, |claims| {
            for (name, value) in [
                ("sub", json!(SUBJECT)),
                ("aud", json!(CLIENT)),
                ("azp", json!(CLIENT)),
                ("auth_time", json!(NOW - 5)),
                ("nonce", json!("n-0S6_WzA2Mj")),
                ("at_hash", json!("77QmUPtjPfzWtF2AnpK9RQ")),
                ("email", json!(ADDRESS)),
                ("email_verified", json!(true)),
                ("groups", json!(["everyone", "ops"])),
                ("preferred_username", json!("root")),
            ] {
                claims[name] = value;
            }
            change(claims);
        })
    }

    /// Whether the person of this token may log in as `user`.
    async fn may(&self, token: &str, user: &str) -> Result<String, ProblemCode> {
        let client = Client::new(1);
        let grant = self.sign_in(&client, token).await.grant;
        let request = client.certificate_request(user, WEB, &json!({}));
        let issued = client.certificate(&self.world, &grant, &request).await;
        let issued = issued.map_err(|problem| problem.code)?;
        let certificate = ssh_key::Certificate::from_openssh(&issued.certificate).unwrap();
        Ok(certificate.key_id().to_owned())
    }
}

/// The nonce that binds a token, as docs/protocol.md has it.
fn bound(client: &Client, audience: &str) -> String {
    let mut bytes = Writer::new();
    bytes
        .string(b"eic-oidc-nonce-v1")
        .string(audience.as_bytes())
        .string(client.public.blob());
    let digest = Sha256::digest(bytes.as_slice());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("eic-v1-{hex}")
}

#[tokio::test]
async fn a_persons_token_for_another_client_is_refused() {
    // B-08
    let desk = Desk::new().await;
    let with = |name: &str, value: Value| desk.person("rsa", |claims| claims[name] = value);
    let tokens = vec![
        ("another client", with("aud", json!("eic-people-2"))),
        ("two audiences", with("aud", json!([CLIENT, AUDIENCE]))),
        ("twice", with("aud", json!([CLIENT, CLIENT]))),
        ("another party", with("azp", json!("other"))),
        ("an odd party", with("azp", json!([CLIENT]))),
        ("another tenant", with("owner_id", json!("9"))),
    ];
    refuses(&desk, ProblemCode::ProofRefused, tokens).await;
}

#[tokio::test]
async fn an_access_token_for_the_client_is_no_id_token_and_one_for_the_ca_is_taken() {
    // B-08, B-24
    let desk = Desk::new().await;
    let typed = |typ: &str, audience: &str| {
        let plain = desk.person("rsa", |claims| claims["aud"] = json!(audience));
        let claims = plain.split('.').nth(1).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
        let header = json!({ "alg": "RS256", "kid": "rsa", "typ": typ });
        let claims = String::from_utf8(claims).unwrap();
        desk.issuer.sign_text(&header.to_string(), &claims)
    };
    let tokens = vec![
        ("an access token", typed("at+jwt", CLIENT)),
        ("a logout token", typed("logout+jwt", CLIENT)),
        ("a logout token for us", typed("logout+jwt", AUDIENCE)),
    ];
    refuses(&desk, ProblemCode::ProofRefused, tokens).await;
    let access = typed("at+jwt", AUDIENCE);
    desk.sign_in(&Client::new(1), &access).await;
}

#[tokio::test]
async fn a_bound_token_serves_neither_another_key_nor_another_ca() {
    // A-37, D-15: a rogue CA that people were talked into has a token that names only the client.
    let desk = Desk::new().await;
    let (alice, mallory) = (Client::new(1), Client::new(2));
    let with = |nonce: String| desk.person("rsa", |claims| claims["nonce"] = json!(nonce));
    let tokens = vec![
        ("another key's", with(bound(&mallory, AUDIENCE))),
        ("another CA's", with(bound(&alice, "https://rogue.example"))),
        ("cut", with("eic-v1-".to_owned())),
    ];
    refuses(&desk, ProblemCode::ProofRefused, tokens).await;
    // An issuer that gives tokens for the CA's own name binds no less.
    let named = |nonce: String| {
        desk.person("rsa", |claims| {
            claims["aud"] = json!(AUDIENCE);
            claims["nonce"] = json!(nonce);
        })
    };
    let tokens = vec![("another key's", named(bound(&mallory, AUDIENCE)))];
    refuses(&desk, ProblemCode::ProofRefused, tokens).await;
    desk.sign_in(&alice, &with(bound(&alice, AUDIENCE))).await;
}

#[tokio::test]
async fn an_address_that_the_issuer_did_not_verify_names_nobody() {
    // B-25, C-20
    let desk = Desk::new().await;
    for change in [json!(false), json!(null), json!("true")] {
        let token = desk.person("rsa", |claims| claims["email_verified"] = change);
        let refused = desk.may(&token, "alice").await.unwrap_err();
        assert_eq!(refused, ProblemCode::ConditionsNotMet);
    }
    let audit = desk.world.audit();
    assert!(!audit.contains(ADDRESS) && audit.contains(SUBJECT));
}

#[tokio::test]
async fn people_are_let_in_by_group_and_address_and_named_so_that_people_know_them() {
    let desk = Desk::new().await;
    for (kid, user) in [("rsa", "ops"), ("p256", "alice"), ("ed", "ops")] {
        let key_id = desk.may(&desk.person(kid, |_| {}), user).await.unwrap();
        let begins = format!("eic:oidc/issuer.example/{ADDRESS}:");
        assert!(key_id.starts_with(&begins), "{key_id}");
    }
    let refused = desk.may(&desk.person("rsa", |_| {}), "ubuntu").await;
    assert_eq!(refused, Err(ProblemCode::ConditionsNotMet));
    let audit = desk.world.audit();
    let record = audit.lines().find(|line| line.contains("CreateSession"));
    let record: Value = serde_json::from_str(record.unwrap()).unwrap();
    let identity = &record["userIdentity"];
    assert_eq!(identity["userName"], ADDRESS);
    // What revocation and policy go by.
    let principal = format!("issuer.example:{AUDIENCE}:{SUBJECT}");
    assert_eq!(identity["principalId"], principal.as_str());
}

#[tokio::test]
async fn a_person_is_one_identity_whatever_his_address_is() {
    let desk = Desk::new().await;
    for address in [json!(ADDRESS), json!("alice@new.example"), json!(null)] {
        let token = desk.person("rsa", |claims| claims["email"] = address);
        let session = desk.sign_in(&Client::new(1), &token).await;
        let identity = session.caller.identity();
        assert_eq!(identity, format!("{ISSUER}#{SUBJECT}"));
    }
    assert!(
        JOBS.contains("oidc:repository_id"),
        "jobs of the issuer go on"
    );
}
