//! A job without AWS credentials: the token of an issuer that the CA's configuration names opens what policy gives its
//! subject, by plain ssh, and nothing else. The issuer is a stand-in on the lab's loopback with a real P-256 key.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eic_lab::ca::CaBuilder;
use eic_lab::small_fleet::{self, SmallFleet};
use eic_lab::{Client, Host, Lab};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.example";
pub(crate) const SUBJECT: &str = "repo:acme/app:environment:prod";
const SOON: Duration = Duration::from_secs(30);

/// Signs tokens, and publishes its key in the lab's network until the test ends.
pub(crate) struct Issuer {
    key: EcdsaKeyPair,
    address: String,
}

impl Issuer {
    pub(crate) fn start(lab: &Lab) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        let point = key.public_key().as_ref();
        let set = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "kid": "lab", "alg": "ES256", "use": "sig",
            "x": encode(&point[1..33]), "y": encode(&point[33..65]),
        }]});
        let listener = lab
            .in_network(|| TcpListener::bind("127.0.0.1:0"))
            .unwrap()
            .unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // It ends with the test's process.
        std::thread::spawn(move || serve(&listener, &set.to_string()));
        Self { key, address }
    }

    pub(crate) fn token(&self, audience: &str, subject: &str) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let id = format!("{now}-{:?}", std::time::Instant::now());
        let claims = json!({
            "iss": ISSUER, "aud": audience, "sub": subject, "iat": now, "exp": now + 600, "jti": id,
            "repository_owner_id": "7", "repository_id": "42",
        });
        let header = encode(br#"{"alg":"ES256","kid":"lab","typ":"JWT"}"#);
        let signed = format!("{header}.{}", encode(claims.to_string().as_bytes()));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", encode(signature.as_ref()))
    }

    /// The CA's configuration of this issuer.
    fn config(&self) -> Value {
        json!([{
            "issuer": ISSUER, "jwks_uri": format!("http://{}/keys", self.address), "private_addresses": true,
            "algorithms": ["ES256"], "require": {"repository_owner_id": ["7"]},
        }])
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn serve(listener: &TcpListener, body: &str) {
    for mut stream in listener.incoming().flatten() {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
    }
}

fn toml(value: &Value) -> toml::Value {
    toml::Value::try_from(value).unwrap()
}

/// The CA takes the issuer's tokens: what its repository 42 runs may log in as `ubuntu` to hosts of team `web`.
pub(crate) fn trusting(ca: CaBuilder, issuer: &Issuer) -> CaBuilder {
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*",
        "Condition": {"StringEquals": {
            "ec2:osuser": "ubuntu", "aws:ResourceTag/team": "web", "oidc:repository_id": "42",
        }},
    }]});
    let attachments = json!([{
        "issuer": ISSUER, "subject": SUBJECT, "file": "jobs.json", "accounts": [eic_lab::aws::ACCOUNT],
    }]);
    ca.file("jobs.json", &policy.to_string())
        .set("oidc", toml(&issuer.config()))
        .set("policy.attachments", toml(&attachments))
}

fn fleet() -> (SmallFleet, Issuer) {
    let lab = Lab::new().unwrap();
    let issuer = Issuer::start(&lab);
    let fleet = SmallFleet::start_with(lab, |ca| trusting(ca, &issuer));
    (fleet.unwrap(), issuer)
}

/// A job whose token stands in a file, as Kubernetes projects it. It has no AWS credentials.
pub(crate) fn job_of(lab: &Lab, name: &str, token: &str) -> Client {
    let job = lab.client(name).unwrap();
    std::fs::write(job.home().join("token"), token).unwrap();
    job.env("EIC_ID_TOKEN_FILE", format!("/home/{name}/token"))
}

/// The same, set up.
fn job(fleet: &SmallFleet, name: &str, token: &str) -> Client {
    let job = job_of(&fleet.lab, name, token);
    small_fleet::set_up(&job, &fleet.ca).unwrap();
    job
}

fn ubuntu_at(host: &Host) -> String {
    format!("ubuntu@{}", host.id())
}

fn refused(job: &Client, host: &Host) -> String {
    let output = job.run("ssh", [ubuntu_at(host).as_str(), "true"]).unwrap();
    assert_eq!(output.status.code(), Some(255), "{}", output.stderr);
    assert!(!host.log().contains("Accepted"), "{}", host.log());
    output.stderr
}

#[test]
fn tokens_for_others_or_of_others_open_nothing_and_say_what_to_do() {
    // B-08, B-12, B-18
    let (fleet, issuer) = fleet();
    let audience = fleet.ca.url();
    let elsewhere = job(
        &fleet,
        "elsewhere",
        &issuer.token("https://other.example", SUBJECT),
    );
    let said = refused(&elsewhere, &fleet.web);
    assert!(said.contains("audience"), "{said}");

    let forked = issuer.token(&audience, "repo:acme/app:pull_request");
    let said = refused(&job(&fleet, "forked", &forked), &fleet.web);
    assert!(said.contains("may not log in"), "{said}");

    // A token that another job has used.
    let said = refused(&job(&fleet, "second", &forked), &fleet.web);
    assert!(said.contains("used before"), "{said}");
}

#[test]
fn plain_ssh_of_a_job_goes_by_its_token_and_the_audit_names_its_subject() {
    let (fleet, issuer) = fleet();
    let token = issuer.token(&fleet.ca.url(), SUBJECT);
    let job = job(&fleet, "deploy", &token);
    let web = ubuntu_at(&fleet.web);
    let output = job.run("ssh", [web.as_str(), "whoami"]).unwrap();
    assert_eq!(output.success().unwrap().stdout.trim(), "ubuntu");
    let line = fleet
        .web
        .log_line("Accepted publickey for ubuntu", SOON)
        .unwrap();
    assert!(
        line.contains("ID eic:oidc/issuer.example/repo%3Aacme/app"),
        "{line}"
    );

    let audit = fleet.ca.run(&["audit", "query", "--json"]).unwrap();
    assert!(
        audit.contains("WebIdentityUser") && audit.contains(SUBJECT),
        "{audit}"
    );
    let signature = token.rsplit('.').next().unwrap();
    assert!(!audit.contains(signature) && !fleet.ca.log().contains(signature));
    // The session serves further logins: its token, used by now, is not sent again.
    let output = job.run("ssh", [web.as_str(), "whoami"]).unwrap();
    assert_eq!(output.success().unwrap().stdout.trim(), "ubuntu");
}
