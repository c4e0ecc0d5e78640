//! Sessions by tokens of issuers, and by tokens beside AWS credentials: what must not count, then what may.

use eic_aws::http_client::Answer;
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::api::session::{
    NameStanding, Proof, SessionBinding, SessionRequest, SessionResponse, TokenBinding,
};
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::proof::oidc::{AwsWebIdentityProof, IdToken, OidcProof};
use eic_protocol::proof::{Audience, CanonicalRequest};
use serde_json::{Value, json};

use crate::client::{Client, SignIn, fresh_nonce, open_session};
use crate::http_stub::{HttpStub, response};
use crate::sts::{ALICE, BOB, Identity, MALLORY};
use crate::token_issuer::TokenIssuer;
use crate::world::{AUDIENCE, NOW, PROD, WEB, World, code, read};

mod people;

const ISSUER: &str = "https://issuer.example";
const AWS_ISSUER: &str = "https://11111111.tokens.sts.global.api.aws";
const SUBJECT: &str = "repo:acme/app:environment:prod";

const JOBS: &str = r#"{ "Version": "2012-10-17", "Statement": [
  { "Effect": "Allow", "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*",
    "Condition": { "StringEquals": { "ec2:osuser": "deploy", "oidc:repository_id": "42" } } },
  { "Effect": "Allow", "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*",
    "Condition": { "StringEquals": { "ec2:osuser": "ubuntu", "oidc:not_kept": "yes" } } },
  { "Effect": "Allow", "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*",
    "Condition": { "StringEquals": { "ec2:osuser": "tagged", "aws:PrincipalTag/team": "x" } } }
] }"#;

const TEAM: &str = r#"{ "Version": "2012-10-17", "Statement": [
  { "Effect": "Allow", "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*",
    "Condition": { "StringEquals": { "ec2:osuser": "team", "aws:PrincipalTag/team": "x" } } },
  { "Effect": "Allow", "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*",
    "Condition": { "StringEquals": { "ec2:osuser": "path" },
                   "ArnEquals": { "aws:PrincipalArn": "arn:aws:iam::111122223333:role/teams/Dev" } } }
] }"#;

/// The issuer's host, the CA that takes its tokens, and AWS's.
struct Desk {
    world: World,
    issuer: TokenIssuer,
    host: HttpStub,
}

impl Desk {
    async fn new() -> Self {
        Self::with("").await
    }

    /// With further lines of `[[aws_sts.web_identity]]`.
    async fn with(more: &str) -> Self {
        let issuer = TokenIssuer::new();
        let keys = issuer.key_set().to_string();
        let host = HttpStub::start(move |_| response(200, NOW, &keys)).await;
        let config = format!(
            r#"
[[oidc]]
issuer = "{ISSUER}"
jwks_uri = "{0}/keys"
private_addresses = true
algorithms = ["RS256", "ES256", "EdDSA"]
client_id = "eic-people"
claims = ["repository_id", "groups", "email"]
[oidc.require]
owner_id = ["7", "8"]

[[aws_sts.web_identity]]
account = "111122223333"
issuer = "{AWS_ISSUER}"
jwks_uri = "{0}/keys"
private_addresses = true
algorithms = ["ES384"]
{more}

[[policy.attachments]]
issuer = "{ISSUER}"
subject = "{SUBJECT}"
file = "jobs.json"
accounts = ["111122223333"]

[[policy.attachments]]
principal = "arn:aws:iam::111122223333:role/*Dev"
file = "team.json"
"#,
            host.origin()
        );
        let files = [
            ("jobs.json", JOBS),
            ("team.json", TEAM),
            ("people.json", people::POLICY),
        ];
        let policies = r#"["policy.json", "people.json"]"#;
        let change = |text: String| text.replace(r#"["policy.json"]"#, policies) + &config;
        let world = World::with_files(change, &files).await;
        Self {
            world,
            issuer,
            host,
        }
    }

    /// A token of the key `kid` with changed claims.
    fn token(&self, kid: &str, change: impl FnOnce(&mut Value)) -> String {
        let alg = match kid {
            "rsa" => "RS256",
            "p256" => "ES256",
            "ed" => "EdDSA",
            _ => "ES384",
        };
        let mut claims = job();
        change(&mut claims);
        self.issuer
            .sign(&json!({ "alg": alg, "kid": kid, "typ": "JWT" }), &claims)
    }

    async fn send(&self, client: &Client, token: &str) -> Answer {
        open_session(&self.world, &by_token(client, token)).await
    }

    async fn refused(&self, token: &str) -> ProblemCode {
        code(&self.send(&Client::new(1), token).await)
    }

    async fn sign_in(&self, client: &Client, token: &str) -> SessionResponse {
        read(&self.send(client, token).await).unwrap_or_else(|problem| panic!("{problem:?}"))
    }
}

fn job() -> Value {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "iat": NOW, "exp": NOW + 300, "jti": id.to_string(),
        "owner_id": "7", "repository_id": 42, "not_kept": "yes", "groups": ["a", "b"],
        "https://sts.amazonaws.com/": { "principal_tags": { "team": "x" } },
    })
}

fn id_token(text: &str) -> IdToken {
    text.parse().unwrap()
}

fn binding<'a>(client: &'a Client, nonce: &'a eic_protocol::grant::Nonce) -> SessionBinding<'a> {
    SessionBinding {
        protocol: 1,
        public_key: &client.public,
        nonce,
    }
}

fn by_token(client: &Client, token: &str) -> SessionRequest {
    let nonce = fresh_nonce();
    let mut request = SessionRequest {
        protocol: 1,
        public_key: client.public.clone(),
        nonce,
        proof: Proof::Oidc(OidcProof {
            token: id_token(token),
        }),
        key_signature: Base64Bytes(Vec::new()),
    };
    let audience: Audience = AUDIENCE.parse().unwrap();
    let signature = client.sign(request.canonical(&audience).as_slice());
    request.key_signature = Base64Bytes(signature);
    request
}

/// AWS credentials of `identity` and a token beside them.
fn by_both(client: &Client, identity: Identity, token: &str) -> SessionRequest {
    let sign_in = SignIn::of(identity);
    let audience: Audience = AUDIENCE.parse().unwrap();
    let token = id_token(token);
    let binding = binding(client, &sign_in.nonce);
    let canonical = CanonicalRequest::of(
        &audience,
        &TokenBinding {
            binding,
            token: &token,
        },
    );
    let sts = eic_aws::sigv4::sign_identity_proof(
        &identity.credentials(),
        "eu-west-1".parse().unwrap(),
        NOW,
        &audience,
        canonical.digest(),
    );
    SessionRequest {
        protocol: 1,
        public_key: client.public.clone(),
        nonce: sign_in.nonce,
        proof: Proof::AwsWebIdentity(AwsWebIdentityProof {
            sts: sts.unwrap(),
            token,
        }),
        key_signature: Base64Bytes(client.sign(canonical.as_slice())),
    }
}

fn aws_token(desk: &Desk, change: impl FnOnce(&mut Value)) -> String {
    let id = job()["jti"].clone();
    let mut claims = json!({
        "iss": AWS_ISSUER, "aud": AUDIENCE, "sub": "arn:aws:iam::111122223333:role/teams/Dev",
        "iat": NOW, "exp": NOW + 300, "jti": id,
        "https://sts.amazonaws.com/": {
            "aws_account": "111122223333", "org_id": "o-abc1234567", "source_region": "eu-west-1",
            "principal_tags": { "team": "x" }, "request_tags": { "team": "y" },
        },
    });
    change(&mut claims);
    desk.issuer.token(&claims)
}

#[tokio::test]
async fn a_token_without_a_signature_over_it_by_the_bound_key_is_refused() {
    // D-15, D3: a token alone opens nothing, and a signature for one token none for another.
    let desk = Desk::new().await;
    let (alice, mallory) = (Client::new(1), Client::new(2));
    let token = desk.token("rsa", |_| {});
    let good = serde_json::to_value(by_token(&alice, &token)).unwrap();
    let other = serde_json::to_value(by_token(&mallory, &token)).unwrap();
    let nonce = fresh_nonce();
    let untied = CanonicalRequest::of(&AUDIENCE.parse().unwrap(), &binding(&alice, &nonce));
    for (name, value) in [
        ("public_key", other["public_key"].clone()),
        ("key_signature", other["key_signature"].clone()),
        ("nonce", other["nonce"].clone()),
        (
            "proof",
            json!({ "oidc": { "token": desk.token("rsa", |_| {}) } }),
        ),
    ] {
        let mut changed = good.clone();
        changed[name] = value;
        let answer = desk.world.post("/v1/sessions", None, &changed).await;
        assert_eq!(code(&answer), ProblemCode::PossessionNotProven, "{name}");
    }
    let mut request = by_token(&alice, &token);
    request.nonce = nonce;
    request.key_signature = Base64Bytes(alice.sign(untied.as_slice()));
    assert_eq!(
        code(&open_session(&desk.world, &request).await),
        ProblemCode::PossessionNotProven
    );
    assert!(desk.host.received().is_empty(), "nobody was asked for keys");
    // None of that used it up.
    desk.sign_in(&alice, &token).await;
}

/// Each token is refused so, and nothing of it is in the audit but that it was refused.
async fn refuses(desk: &Desk, expected: ProblemCode, tokens: Vec<(&str, String)>) {
    for (what, token) in tokens {
        assert_eq!(desk.refused(&token).await, expected, "{what}");
        let signature = token.rsplit('.').next().unwrap();
        assert!(!desk.world.audit().contains(signature), "{what}");
    }
    let audit = desk.world.audit();
    assert!(audit.contains(r#""method":"oidc""#) && !audit.contains("CreateSession"));
}

#[tokio::test]
async fn tokens_in_another_form_or_by_another_key_are_refused_and_recorded_without_their_text() {
    // B-01 to B-03, B-06, B-07, B-13, G-11
    let desk = Desk::new().await;
    let header = |header: Value| desk.issuer.sign(&header, &job());
    let brought = json!({ "alg": "RS256", "kid": "rsa", "jku": "https://evil.example" });
    let nested = json!({ "alg": "RS256", "kid": "rsa", "cty": "JWT" });
    let twice = r#"{"sub":"repo:acme/app:environment:prod","#;
    let twice = job().to_string().replacen('{', twice, 1);
    let rsa = json!({ "alg": "RS256", "kid": "rsa" });
    let tokens = vec![
        ("alg none", header(json!({ "alg": "none", "kid": "rsa" }))),
        ("alg HS256", header(json!({ "alg": "HS256", "kid": "rsa" }))),
        ("another issuer's algorithm", desk.token("ec", |_| {})),
        ("a key brought along", header(brought)),
        (
            "crit",
            header(json!({ "alg": "RS256", "kid": "rsa", "crit": ["exp"] })),
        ),
        ("a nested token", header(nested)),
        (
            "two subjects",
            desk.issuer.sign_text(&rsa.to_string(), &twice),
        ),
        ("another key", TokenIssuer::new().sign(&rsa, &job())),
    ];
    refuses(&desk, ProblemCode::ProofRefused, tokens).await;
}

#[tokio::test]
async fn tokens_of_others_and_for_others_are_refused() {
    // B-08, B-09, B-24
    let desk = Desk::new().await;
    let with = |name: &str, value: Value| desk.token("rsa", |claims| claims[name] = value);
    let tokens = vec![
        ("another audience", with("aud", json!("https://ca.example"))),
        ("two audiences", with("aud", json!([AUDIENCE, "x"]))),
        (
            "another issuer",
            with("iss", json!("https://other.example")),
        ),
        (
            "an issuer with a slash",
            with("iss", json!("https://issuer.example/")),
        ),
        ("AWS's issuer", with("iss", json!(AWS_ISSUER))),
        ("somebody else's repository", with("owner_id", json!("9"))),
        ("no owner", with("owner_id", json!(null))),
        ("a list of owners", with("owner_id", json!(["7"]))),
    ];
    refuses(&desk, ProblemCode::ProofRefused, tokens).await;
}

#[tokio::test]
async fn tokens_out_of_their_time_are_told_from_bad_ones() {
    // B-11
    let desk = Desk::new().await;
    let with = |name: &str, value: u64| desk.token("rsa", |claims| claims[name] = json!(value));
    let tokens = vec![
        ("too old", with("iat", NOW - 901)),
        ("ended", with("exp", NOW)),
        ("from the future", with("iat", NOW + 61)),
    ];
    refuses(&desk, ProblemCode::ProofStale, tokens).await;
}

#[tokio::test]
async fn a_token_counts_once_for_whatever_key_and_after_a_restart() {
    // B-12
    let mut desk = Desk::new().await;
    let token = desk.token("p256", |_| {});
    desk.sign_in(&Client::new(1), &token).await;
    for seed in [1, 2] {
        let answer = desk.send(&Client::new(seed), &token).await;
        assert_eq!(code(&answer), ProblemCode::ProofReplayed);
    }
    desk.world = desk.world.restarted().await;
    assert_eq!(
        code(&desk.send(&Client::new(3), &token).await),
        ProblemCode::ProofReplayed
    );
    // The same id in other words.
    let id =
        serde_json::from_slice::<Value>(&decode(token.split('.').nth(1).unwrap())).unwrap()["jti"]
            .clone();
    let again = desk.token("rsa", |claims| {
        claims["jti"] = id;
        claims["exp"] = json!(NOW + 200);
    });
    assert_eq!(desk.refused(&again).await, ProblemCode::ProofReplayed);
}

fn decode(part: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(part)
        .unwrap()
}

#[tokio::test]
async fn an_issuer_without_keys_is_told_from_a_bad_token_and_asked_rarely() {
    // B-04, B-17
    let desk = Desk::new().await;
    desk.host.answer_with(|_| response(503, NOW, ""));
    assert_eq!(
        desk.refused(&desk.token("rsa", |_| {})).await,
        ProblemCode::IssuerUnavailable
    );
    for n in 0..20 {
        let header = json!({ "alg": "RS256", "kid": format!("unknown-{n}") });
        desk.refused(&desk.issuer.sign(&header, &job())).await;
    }
    assert_eq!(desk.host.received().len(), 1);
}

#[tokio::test]
async fn a_subject_gets_what_its_attachment_and_known_claims_allow_and_nothing_else() {
    // B-18, B-20, B-25, C-19, C-20
    let desk = Desk::new().await;
    let client = Client::new(1);
    let session = desk.sign_in(&client, &desk.token("rsa", |_| {})).await;
    assert_eq!(session.caller.identity(), format!("{ISSUER}#{SUBJECT}"));
    assert_eq!(session.caller.name_standing, NameStanding::Attested);
    let ask = async |user: &str, host: &str| {
        let request = client.certificate_request(user, host, &json!({}));
        client
            .certificate(&desk.world, &session.grant, &request)
            .await
    };
    // A claim that the configuration does not keep is unknowable, AWS's claims of another issuer are no tags.
    for user in ["ubuntu", "tagged", "root"] {
        let refused = ask(user, WEB).await.unwrap_err();
        assert_eq!(refused.code, ProblemCode::ConditionsNotMet, "{user}");
        let told = refused.would_allow.join(" ");
        assert!(
            told.contains("deploy") && !told.contains(user),
            "{user}: {told}"
        );
    }
    // Of an account that the attachment does not list.
    for host in [crate::world::THEIRS, crate::world::NOBODYS] {
        let refused = ask("deploy", host).await.unwrap_err();
        assert_eq!(refused.code, ProblemCode::NotAllowed, "{host}");
    }
    let issued = ask("deploy", PROD).await.unwrap();
    let certificate = ssh_key::Certificate::from_openssh(issued.certificate.as_str()).unwrap();
    assert!(
        certificate
            .key_id()
            .starts_with("eic:oidc/issuer.example/repo%3Aacme/app%3Aenvironment%3Aprod:")
    );
    // C-13: the token ends before the default lifetime does.
    assert!(certificate.valid_before() <= NOW + 300);
}

#[tokio::test]
async fn another_subject_of_the_issuer_gets_nothing() {
    // B-18, B-19, B-21
    let desk = Desk::new().await;
    for subject in [
        "repo:acme/app:environment:prod-x",
        "repo:acme/app:pull_request",
        "repo:acme/app-evil:environment:prod",
        "repo:acme/app:environment%3Aprod",
        "REPO:acme/app:environment:prod",
    ] {
        let client = Client::new(1);
        let token = desk.token("rsa", |claims| claims["sub"] = json!(subject));
        let grant = desk.sign_in(&client, &token).await.grant;
        let request = client.certificate_request("deploy", WEB, &json!({}));
        let refused = client
            .certificate(&desk.world, &grant, &request)
            .await
            .unwrap_err();
        assert_eq!(refused.code, ProblemCode::NotAllowed, "{subject}");
    }
}

#[tokio::test]
async fn grant_and_certificates_end_with_the_token() {
    // C-13
    let desk = Desk::new().await;
    let client = Client::new(1);
    let token = desk.token("rsa", |claims| claims["exp"] = json!(NOW + 120));
    let session = desk.sign_in(&client, &token).await;
    assert_eq!(session.expires_at, NOW + 120);
    let request = client.certificate_request("deploy", WEB, &json!({ "ttl_seconds": 300 }));
    let issued = client
        .certificate(&desk.world, &session.grant, &request)
        .await
        .unwrap();
    let certificate = ssh_key::Certificate::from_openssh(issued.certificate.as_str()).unwrap();
    assert_eq!(certificate.valid_before(), NOW + 120);
    desk.world.clock.set(NOW + 120);
    let late = client
        .certificate(&desk.world, &session.grant, &request)
        .await
        .unwrap_err();
    assert_eq!(late.code, ProblemCode::GrantExpired);
}

#[tokio::test]
async fn the_audit_names_issuer_and_subject_as_cloudtrail_does() {
    let desk = Desk::new().await;
    desk.sign_in(&Client::new(1), &desk.token("rsa", |_| {}))
        .await;
    let audit = desk.world.audit();
    let record = audit
        .lines()
        .find(|line| line.contains("CreateSession"))
        .unwrap();
    let record: Value = serde_json::from_str(record).unwrap();
    let identity = &record["userIdentity"];
    assert_eq!(identity["type"], "WebIdentityUser");
    assert_eq!(identity["identityProvider"], "issuer.example");
    assert_eq!(identity["userName"], SUBJECT);
    assert_eq!(
        identity["principalId"],
        format!("issuer.example:{AUDIENCE}:{SUBJECT}")
    );
    assert!(identity.get("arn").is_none() && identity.get("accessKeyId").is_none());
    assert_eq!(
        record["additionalEventData"]["claims"]["repository_id"],
        json!(["42"])
    );
    assert_eq!(record["recipientAccountId"], Value::Null);
}

#[tokio::test]
async fn a_revoked_subject_has_no_grant_and_gets_none() {
    let desk = Desk::new().await;
    let client = Client::new(1);
    let session = desk.sign_in(&client, &desk.token("rsa", |_| {})).await;
    let target = json!({ "caller": format!("{ISSUER}#{SUBJECT}") });
    let request = serde_json::from_value::<eic_protocol::api::revocation::RevocationRequest>(
        json!({ "protocol": 1, "target": target, "reason": "left" }),
    )
    .unwrap();
    let header = client.authorization(&session.grant, &request, NOW, fresh_nonce());
    let answer = desk
        .world
        .post(
            "/v1/revocations",
            Some(header),
            &serde_json::to_value(&request).unwrap(),
        )
        .await;
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    let wanted = client.certificate_request("deploy", WEB, &json!({}));
    let refused = client
        .certificate(&desk.world, &session.grant, &wanted)
        .await
        .unwrap_err();
    assert_eq!(refused.code, ProblemCode::CallerRevoked);
    assert_eq!(
        desk.refused(&desk.token("rsa", |_| {})).await,
        ProblemCode::CallerRevoked
    );
}

#[tokio::test]
async fn discovery_names_the_issuers_and_the_accounts_with_tokens() {
    let desk = Desk::new().await;
    let answer = desk
        .world
        .send("GET", "/.well-known/eic", &[], Vec::new())
        .await;
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(document["auth"][0]["web_identity"], json!(["111122223333"]));
    assert_eq!(
        document["auth"][1],
        json!({ "type": "oidc", "issuers": [ISSUER] })
    );
}

// === a token beside AWS credentials ===

#[tokio::test]
async fn an_account_that_demands_a_token_gets_none_of_its_identities_in_without() {
    // A-36, design 3.1 (a)
    let desk = Desk::with("required = true").await;
    let request = Client::new(1).session_request(&SignIn::of(ALICE));
    let answer = open_session(&desk.world, &request).await;
    assert_eq!(code(&answer), ProblemCode::WebIdentityRequired);
    let both = by_both(&Client::new(1), ALICE, &aws_token(&desk, |_| {}));
    assert_eq!(open_session(&desk.world, &both).await.status, 200);
}

#[tokio::test]
async fn a_token_of_another_principal_account_or_issuer_is_refused() {
    // B-24
    let desk = Desk::new().await;
    let sub = |text: &'static str| move |claims: &mut Value| claims["sub"] = json!(text);
    let aws = "https://sts.amazonaws.com/";
    for (identity, token) in [
        (
            ALICE,
            aws_token(&desk, sub("arn:aws:iam::111122223333:role/Other")),
        ),
        (
            ALICE,
            aws_token(&desk, sub("arn:aws:iam::111122223333:user/Dev")),
        ),
        (
            ALICE,
            aws_token(&desk, sub("arn:aws:iam::444455556666:role/Dev")),
        ),
        (BOB, aws_token(&desk, |_| {})),
        (
            ALICE,
            aws_token(&desk, |c| c[aws]["aws_account"] = json!("444455556666")),
        ),
        (ALICE, aws_token(&desk, |c| c[aws] = json!("x"))),
        (
            ALICE,
            aws_token(&desk, |c| c[aws]["principal_tags"] = json!(["team"])),
        ),
        (
            ALICE,
            aws_token(&desk, |c| {
                c["iss"] = json!("https://22222222.tokens.sts.global.api.aws")
            }),
        ),
        (ALICE, desk.token("rsa", |_| {})),
    ] {
        let answer = open_session(&desk.world, &by_both(&Client::new(1), identity, &token)).await;
        assert_eq!(code(&answer), ProblemCode::ProofRefused, "{token}");
    }
}

#[tokio::test]
async fn a_token_beside_credentials_counts_once() {
    // B-12
    let desk = Desk::new().await;
    let token = aws_token(&desk, |_| {});
    let first = by_both(&Client::new(1), ALICE, &token);
    assert_eq!(open_session(&desk.world, &first).await.status, 200);
    for identity in [ALICE, MALLORY] {
        let second = by_both(&Client::new(2), identity, &token);
        let answer = open_session(&desk.world, &second).await;
        assert_eq!(code(&answer), ProblemCode::ProofReplayed);
    }
}

#[tokio::test]
async fn what_the_token_says_of_the_principal_is_known_and_what_was_asked_for_is_not_believed() {
    // A-32, C-20: without a token, tags and path are unknowable.
    let desk = Desk::new().await;
    let ask = async |client: &Client, session: &SessionResponse, user: &str| {
        let request = client.certificate_request(user, WEB, &json!({}));
        let answer = client
            .certificate(&desk.world, &session.grant, &request)
            .await;
        answer.map(drop).map_err(|problem| problem.code)
    };
    let plain = Client::new(1);
    let without = plain.sign_in(&desk.world, ALICE).await;
    assert!(ask(&plain, &without, "team").await.is_err());
    assert!(ask(&plain, &without, "path").await.is_err());

    let client = Client::new(2);
    let with = open_session(
        &desk.world,
        &by_both(&client, ALICE, &aws_token(&desk, |_| {})),
    )
    .await;
    let with: SessionResponse = read(&with).unwrap();
    assert_eq!(with.expires_at, NOW + 300, "not beyond the token");
    assert_eq!(ask(&client, &with, "team").await, Ok(()));
    assert_eq!(ask(&client, &with, "path").await, Ok(()));

    let asked = aws_token(&desk, |c| {
        c["https://sts.amazonaws.com/"]["principal_tags"] = json!({});
        c["https://sts.amazonaws.com/"]["request_tags"] = json!({ "team": "x" });
    });
    let client = Client::new(3);
    let session: SessionResponse =
        read(&open_session(&desk.world, &by_both(&client, ALICE, &asked)).await).unwrap();
    assert!(ask(&client, &session, "team").await.is_err());
}
