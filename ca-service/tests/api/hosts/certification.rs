//! A host's key that a person has certified: by policy, with the key's consent, never against what is known.

use eic_aws::http_client::Answer;
use eic_protocol::api::host_certificate::HostKeyProof;
use eic_protocol::api::host_certification::{HostCertificationRequest, HostCertificationResponse};
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::api::revocation::{RevocationRequest, RevocationResponse};
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::grant::GrantToken;
use serde_json::{Value, json};
use ssh_key::Certificate;
use ssh_key::certificate::CertType;

use super::aws::{HOST, HostWorld};
use super::requests::{Ask, audience, with_key};
use crate::client::{Client, fresh_nonce};
use crate::sts::{ALICE, Identity, MALLORY as BOB, OFFICER};
use crate::trust_bundle::{bundle, documents, fetch};
use crate::world::{FROZEN, NOBODYS, NOW, PROD, WEB, World, code, read};

const MAY_CERTIFY: &str = r#"    {
      "Sid": "Builders", "Effect": "Allow",
      "Principal": { "AWS": "arn:aws:iam::111122223333:role/Officer" },
      "Action": "eic:IssueHostCertificate", "Resource": "arn:aws:ec2:*:111122223333:instance/*",
      "Condition": { "StringEquals": { "aws:ResourceTag/env": "dev" }, "NumericLessThanEquals": { "eic:TtlSeconds": "3600" } }
    },
    {
      "Sid": "NotIce", "Effect": "Deny", "Principal": "*",
      "Action": "eic:IssueHostCertificate", "Resource": "*",
      "Condition": { "StringEquals": { "aws:ResourceTag/env": "frozen" } }
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
        self.request_at(NOW, host, instance)
    }

    fn request_at(&self, time: u64, host: &Client, instance: &str) -> HostCertificationRequest {
        let mut request = HostCertificationRequest {
            protocol: 1,
            instance: instance.parse().unwrap(),
            time,
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

    /// Ends the caller's own access.
    async fn revoke_himself(&self, world: &World, identity: Identity) -> RevocationResponse {
        let body = json!({ "protocol": 1, "target": { "caller": identity.arn }, "reason": "left" });
        let request: RevocationRequest = serde_json::from_value(body.clone()).unwrap();
        let now = world.clock.now();
        let header = self
            .client
            .authorization(&self.grant, &request, now, fresh_nonce());
        let answer = world.post("/v1/revocations", Some(header), &body).await;
        read(&answer).unwrap_or_else(|problem| panic!("{problem:?}"))
    }
}

/// The audit's only record of this event.
fn only_record(world: &World, event: &str) -> Value {
    let audit = world.audit();
    let named = format!("\"{event}\"");
    let mut records = audit.lines().filter(|line| line.contains(&named));
    let record = serde_json::from_str(records.next().unwrap()).unwrap();
    assert!(records.next().is_none(), "more than one {event}");
    record
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
    assert_eq!(world.rows("journal"), 0);
}

#[tokio::test]
async fn a_denial_is_recorded_with_what_it_rests_on() {
    let world = world().await;
    let host = Client::new(50);
    let officer = Caller::new(&world, 2, OFFICER).await;
    let request = officer.request(&host, FROZEN);
    let answer = officer.ask(&world, &request).await;
    assert_eq!(code(&answer), ProblemCode::NotAllowed);
    let record = only_record(&world, "DenyHostCertificate");
    assert_eq!(record["errorCode"], "ExplicitDeny");
    assert_eq!(record["awsRegion"], "eu-west-1");
    assert_eq!(record["recipientAccountId"], "111122223333");
    assert_eq!(record["userIdentity"]["arn"], OFFICER.arn);
    let asked = &record["requestParameters"];
    assert_eq!(asked["instanceId"], FROZEN);
    assert_eq!(asked["hostKeys"], json!([host.public.fingerprint()]));
    assert_eq!(asked["ttlSeconds"], 3_600);
    let why = &record["additionalEventData"];
    let statement = why["statement"].as_str().unwrap();
    assert!(statement.contains("NotIce"), "{statement}");
    assert_eq!(why["policyHash"].as_str().unwrap().len(), 64);
    assert_eq!(why["tags"]["env"], "frozen");
}

#[tokio::test]
async fn a_host_that_a_permit_enrolled_does_not_renew_by_its_own_key() {
    // `eic:TtlSeconds` bounds every certificate that a permit gives, not only the first.
    let world = world().await;
    let host = Client::new(50);
    let officer = Caller::new(&world, 2, OFFICER).await;
    let answer = officer.ask(&world, &officer.request(&host, WEB)).await;
    assert_eq!(answer.status, 200);
    world.clock.set(crate::program::real_now());
    let by_its_key = with_key(&Ask {
        instance: WEB,
        ..Ask::of(&host)
    });
    let body = serde_json::to_value(&by_its_key).unwrap();
    let answer = world.post("/v1/certificates/host", None, &body).await;
    let problem = read::<Value>(&answer).unwrap_err();
    assert_eq!(problem.code, ProblemCode::HostNotEnrolled);
    let told = problem.detail;
    assert!(
        told.contains("/v1/hosts/certify") && told.contains("hosts token"),
        "{told}"
    );
    assert_eq!(world.rows("journal"), 1);
    assert!(world.audit().contains("RefuseHostCertificate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_is_revoked_meanwhile_gets_no_host_certificate() {
    // F-14: between his admission and the record.
    let policy = tempfile::NamedTempFile::new().unwrap();
    let any = r#"{ "Version": "2012-10-17", "Statement": { "Effect": "Allow", "Resource": "*",
        "Action": "eic:IssueHostCertificate", "Condition": { "NumericLessThanEquals": { "eic:TtlSeconds": "3600" } } } }"#;
    std::fs::write(policy.path(), any).unwrap();
    let attached = |config| {
        let file = policy.path().display();
        let officer = "arn:aws:iam::111122223333:role/Officer";
        format!("{config}\n[[policy.attachments]]\nprincipal = \"{officer}\"\nfile = \"{file}\"\n")
    };
    let world = HostWorld::configured("evidence", attached).await;
    let officer = Caller::new(&world.world, 2, OFFICER).await;
    let host = Client::new(50);
    let request = officer.request_at(world.world.clock.now(), &host, HOST);
    let (asked, let_go) = world.hold(HOST);
    let revoked = async {
        asked.await.unwrap();
        officer.revoke_himself(&world.world, OFFICER).await;
        let_go.send(()).unwrap();
    };
    let (answer, ()) = tokio::join!(officer.ask(&world.world, &request), revoked);
    assert_eq!(code(&answer), ProblemCode::CallerRevoked);
    assert!(!String::from_utf8_lossy(&answer.body).contains("cert-v01"));
}

#[tokio::test]
async fn who_is_revoked_leaves_no_host_certificate_that_he_had_made() {
    let world = world().await;
    let host = Client::new(50);
    let officer = Caller::new(&world, 2, OFFICER).await;
    let answer = officer.ask(&world, &officer.request(&host, WEB)).await;
    let issued: HostCertificationResponse = read(&answer).unwrap();
    let certificate: Certificate = issued.certificate.certificate.parse().unwrap();
    let revoked = officer.revoke_himself(&world, OFFICER).await;
    assert_eq!(revoked.certificates, 1);
    let bundle = bundle(&documents(&fetch(&world, "", None).await));
    let list = bundle.revocations.read().unwrap();
    assert!(list.is_revoked(&certificate));
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
