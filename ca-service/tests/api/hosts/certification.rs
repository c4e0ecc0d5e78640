//! A host's key that a person has certified: by policy, with the key's consent, never against what is known.

use eic_aws::http_client::Answer;
use eic_protocol::api::host_certificate::HostKeyProof;
use eic_protocol::api::host_certification::{HostCertificationRequest, HostCertificationResponse};
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::grant::GrantToken;
use ssh_key::Certificate;
use ssh_key::certificate::CertType;

use super::requests::audience;
use crate::client::{Client, fresh_nonce};
use crate::sts::{ALICE, Identity, MALLORY as BOB, OFFICER};
use crate::world::{NOBODYS, NOW, PROD, WEB, World, code, read};

const MAY_CERTIFY: &str = r#"    {
      "Sid": "Builders", "Effect": "Allow",
      "Principal": { "AWS": "arn:aws:iam::111122223333:role/Officer" },
      "Action": "eic:IssueHostCertificate", "Resource": "arn:aws:ec2:*:111122223333:instance/*",
      "Condition": { "StringEquals": { "aws:ResourceTag/env": "dev" }, "NumericLessThanEquals": { "eic:TtlSeconds": "3600" } }
    },
"#;

async fn world() -> World {
    let world = World::new().await;
    let policy = std::fs::read_to_string(world.path("policy.json")).unwrap();
    let statement = policy.find("    {").unwrap();
    let (before, after) = policy.split_at(statement);
    world.write("policy.json", &format!("{before}{MAY_CERTIFY}{after}"));
    world.restarted().await
}

/// Somebody with a session.
struct Caller {
    client: Client,
    grant: GrantToken,
}

impl Caller {
    async fn new(world: &World, seed: u8, identity: Identity) -> Self {
        let client = Client::new(seed);
        let grant = client.sign_in(world, identity).await.grant;
        Self { client, grant }
    }

    fn request(&self, host: &Client, instance: &str) -> HostCertificationRequest {
        let mut request = HostCertificationRequest {
            protocol: 1,
            instance: instance.parse().unwrap(),
            time: NOW,
            nonce: fresh_nonce(),
            host_key: HostKeyProof {
                public_key: host.public.clone(),
                signature: Base64Bytes::default(),
            },
            ttl_seconds: Some(3_600),
            reason: None,
        };
        self.consent(&mut request, host);
        request
    }

    /// The host's key lets this caller have it certified.
    fn consent(&self, request: &mut HostCertificationRequest, host: &Client) {
        let consent = request.consent(&audience(), &self.client.public);
        request.host_key.signature = Base64Bytes(host.sign(consent.as_slice()));
    }

    async fn ask(&self, world: &World, request: &HostCertificationRequest) -> Answer {
        let now = world.clock.now();
        let header = self
            .client
            .authorization(&self.grant, request, now, fresh_nonce());
        let body = serde_json::to_value(request).unwrap();
        world.post("/v1/hosts/certify", Some(header), &body).await
    }
}

#[tokio::test]
async fn who_may_not_hears_the_same_whether_the_host_exists_or_not() {
    // C-18
    let world = world().await;
    let host = Client::new(50);
    let (alice, officer) = (
        Caller::new(&world, 1, ALICE).await,
        Caller::new(&world, 2, OFFICER).await,
    );
    for (caller, instance) in [
        (&alice, WEB),
        (&alice, NOBODYS),
        (&officer, PROD),
        (&officer, NOBODYS),
    ] {
        let answer = caller.ask(&world, &caller.request(&host, instance)).await;
        assert_eq!(code(&answer), ProblemCode::NotAllowed, "{instance}");
    }
    let mut long = officer.request(&host, WEB);
    long.ttl_seconds = Some(3_601);
    let answer = officer.ask(&world, &long).await;
    assert_eq!(code(&answer), ProblemCode::ConditionsNotMet);
    assert!(world.audit().contains("DenyHostCertificate"));
    assert_eq!(world.rows("journal"), 0);
}

#[tokio::test]
async fn a_host_key_that_did_not_consent_to_this_caller_now_is_not_certified() {
    // E-13
    let world = world().await;
    let (host, officer) = (Client::new(50), Caller::new(&world, 2, OFFICER).await);
    let other = Caller::new(&world, 3, BOB).await;
    let good = officer.request(&host, WEB);
    let mut unsigned = good.clone();
    unsigned.host_key.signature = Base64Bytes::default();
    let for_another_caller = other.request(&host, WEB);
    let mut for_another_host = good.clone();
    for_another_host.instance = PROD.parse().unwrap();
    let mut by_another_key = good.clone();
    officer.consent(&mut by_another_key, &Client::new(51));
    for request in [
        unsigned,
        for_another_caller,
        for_another_host,
        by_another_key,
    ] {
        let answer = officer.ask(&world, &request).await;
        assert_eq!(code(&answer), ProblemCode::PossessionNotProven);
    }
    let mut old = good.clone();
    old.time -= 301;
    officer.consent(&mut old, &host);
    let answer = officer.ask(&world, &old).await;
    assert_eq!(code(&answer), ProblemCode::EvidenceStale);
    let own = officer.request(&officer.client, WEB);
    let answer = officer.ask(&world, &own).await;
    assert_eq!(code(&answer), ProblemCode::KeyNotAccepted);
    for ttl in [0, 59, 86_401] {
        let mut odd = good.clone();
        odd.ttl_seconds = Some(ttl);
        let answer = officer.ask(&world, &odd).await;
        assert_eq!(code(&answer), ProblemCode::MalformedRequest, "{ttl}");
    }
    assert_eq!(world.rows("journal"), 0);
}

#[tokio::test]
async fn a_permit_enrols_a_host_and_never_replaces_what_is_known_of_it() {
    // E-08, D-04
    let world = world().await;
    let (host, thief) = (Client::new(50), Client::new(51));
    let officer = Caller::new(&world, 2, OFFICER).await;
    let request = officer.request(&host, WEB);
    let answer = officer.ask(&world, &request).await;
    let issued: HostCertificationResponse = read(&answer).unwrap();
    let certificate: Certificate = issued.certificate.certificate.parse().unwrap();
    assert_eq!(certificate.cert_type(), CertType::Host);
    assert_eq!(certificate.valid_principals(), [WEB]);
    assert!(certificate.valid_before() <= NOW + 3_600);
    let answer = officer.ask(&world, &officer.request(&thief, WEB)).await;
    assert_eq!(code(&answer), ProblemCode::HostKeyChanged);
    // The host's key is no person's, and the same key once more is a renewal.
    let answer = host.try_to_sign_in(&world, ALICE).await;
    assert_eq!(answer.unwrap_err().code, ProblemCode::KeyNotAccepted);
    let again = officer.ask(&world, &officer.request(&host, WEB)).await;
    assert_eq!(again.status, 200);
    let audit = world.audit();
    let enrolled = audit.lines().filter(|line| line.contains("EnrolHost"));
    assert_eq!(enrolled.count(), 1);
    assert!(audit.contains("IssueHostCertificate") && audit.contains("Builders"));
}
