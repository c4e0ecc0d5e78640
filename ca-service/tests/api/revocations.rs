//! Revocation: who may, what it ends, how soon hosts hear of it.

use std::time::{Duration, Instant};

use eic_aws::http_client::Answer;
use eic_protocol::api::certificate::UserCertificateResponse;
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::api::revocation::{RevocationRequest, RevocationResponse};
use eic_protocol::grant::GrantToken;
use eic_protocol::krl::{self, Krl};
use serde_json::{Value, json};
use ssh_key::Certificate;
use ssh_key::certificate::Builder;

use crate::client::{Client, SignIn, fresh_nonce, open_session};
use crate::sts::{ALICE, Identity, MALLORY as BOB, OFFICER};
use crate::trust_bundle::{bundle, documents, fetch, tag_of};
use crate::world::{NOW, WEB, World, code, read};

const MAY_REVOKE: &str = r#"    {
      "Sid": "Officers", "Effect": "Allow",
      "Principal": { "AWS": "arn:aws:iam::111122223333:role/Officer" },
      "Action": "eic:Revoke", "Resource": "*"
    },
"#;

async fn world() -> World {
    let world = World::new().await;
    let policy = std::fs::read_to_string(world.path("policy.json")).unwrap();
    let statement = policy.find("    {").unwrap();
    let (before, after) = policy.split_at(statement);
    world.write("policy.json", &format!("{before}{MAY_REVOKE}{after}"));
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

    async fn certificate(&self, world: &World) -> UserCertificateResponse {
        let request = self.client.certificate_request("ubuntu", WEB, &json!({}));
        let issued = self.client.certificate(world, &self.grant, &request).await;
        issued.unwrap_or_else(|problem| panic!("{problem:?}"))
    }

    async fn refused_certificate(&self, world: &World) -> ProblemCode {
        let request = self.client.certificate_request("ubuntu", WEB, &json!({}));
        let issued = self.client.certificate(world, &self.grant, &request).await;
        issued.unwrap_err().code
    }

    async fn ask(&self, world: &World, target: Value) -> Answer {
        let body = json!({ "protocol": 1, "target": target, "reason": "lost laptop" });
        let request: RevocationRequest = serde_json::from_value(body.clone()).unwrap();
        let now = world.clock.now();
        let header = self
            .client
            .authorization(&self.grant, &request, now, fresh_nonce());
        world.post("/v1/revocations", Some(header), &body).await
    }

    async fn revoke(&self, world: &World, target: Value) -> RevocationResponse {
        read(&self.ask(world, target).await).unwrap_or_else(|problem| panic!("{problem:?}"))
    }
}

fn parsed(issued: &UserCertificateResponse) -> Certificate {
    Certificate::from_openssh(&issued.certificate).unwrap()
}

fn ca_of(issued: &UserCertificateResponse) -> String {
    let ca = parsed(issued).signature_key().clone();
    ca.fingerprint(ssh_key::HashAlg::Sha256).to_string()
}

async fn served(world: &World) -> Krl {
    let bundle = bundle(&documents(&fetch(world, "", None).await));
    bundle.revocations.read().unwrap()
}

fn by_serial(issued: &UserCertificateResponse) -> Value {
    json!({ "serial": { "ca": ca_of(issued), "serial": issued.serial } })
}

#[tokio::test]
async fn others_certificates_are_revoked_by_policy_only() {
    // F-13
    let world = world().await;
    let (alice, bob) = (
        Caller::new(&world, 1, ALICE).await,
        Caller::new(&world, 2, BOB).await,
    );
    let issued = alice.certificate(&world).await;
    for target in [
        by_serial(&issued),
        json!({ "request-id": issued.request_id }),
        json!({ "certificate": issued.certificate }),
        json!({ "public-key": alice.client.public.to_string() }),
        json!({ "fingerprint": alice.client.public.fingerprint() }),
        json!({ "caller": ALICE.arn }),
        json!({ "caller": "arn:aws:iam::111122223333:role/Dev" }),
        json!({ "host": WEB }),
        json!({ "ca-key": ca_of(&issued) }),
        // Whether a serial exists is not told either.
        json!({ "serial": { "ca": ca_of(&issued), "serial": "5" } }),
    ] {
        let answer = bob.ask(&world, target.clone()).await;
        assert_eq!(code(&answer), ProblemCode::NotAllowed, "{target}");
    }
    assert!(!served(&world).await.is_revoked(&parsed(&issued)));
    let audit = world.audit();
    let mut denials = audit.lines().filter(|line| line.contains("DenyRevocation"));
    let denial: Value = serde_json::from_str(denials.next().unwrap()).unwrap();
    let policy = &denial["additionalEventData"]["policyHash"];
    assert_eq!(policy.as_str().unwrap().len(), 64);
    // A CA key is the service itself.
    let officer = Caller::new(&world, 3, OFFICER).await;
    let answer = officer
        .ask(&world, json!({ "ca-key": ca_of(&issued) }))
        .await;
    assert_eq!(code(&answer), ProblemCode::NotAllowed);
}

/// A certificate for the CA's own key, by the key in this file, that no serial and no key id takes out.
fn for_the_ca(ca: &Certificate, signer: &std::path::Path) -> Certificate {
    let signer = ssh_key::PrivateKey::read_openssh_file(signer).unwrap();
    let key = ca.signature_key().clone();
    let mut made = Builder::new(vec![7; 16], key, NOW - 60, NOW + 60).unwrap();
    made.key_id("x").unwrap().serial(0).unwrap();
    made.valid_principal("ubuntu").unwrap();
    made.sign(&signer).unwrap()
}

/// With the last occurrence of some bytes exchanged for as many others.
fn forged(certificate: &Certificate, old: &[u8], new: &[u8]) -> Value {
    let mut bytes = certificate.to_bytes().unwrap();
    let at = bytes.windows(old.len()).rposition(|part| part == old);
    let at = at.unwrap();
    bytes.splice(at..at + old.len(), new.iter().copied());
    let forged = Certificate::from_bytes(&bytes).unwrap();
    assert!(forged.verify_signature().is_err());
    json!({ "certificate": forged.to_openssh().unwrap() })
}

#[tokio::test]
async fn a_forged_certificate_chooses_nothing_that_hosts_refuse() {
    // D23: with the blob of the CA's key in the list sshd refuses all of its certificates, for good.
    let world = world().await;
    let alice = Caller::new(&world, 1, ALICE).await;
    let officer = Caller::new(&world, 3, OFFICER).await;
    let good = parsed(&alice.certificate(&world).await);
    let own = eic_ca::keys::new_key_file(&world.path("own"), eic_ca::keys::KeyType::Ed25519);
    let own = own.unwrap().public().key().blob().to_vec();
    let ca = ssh_key::PublicKey::from(good.signature_key().clone()).to_bytes();
    let ca = ca.unwrap();
    let for_ca = forged(&for_the_ca(&good, &world.path("own")), &own, &ca);
    // As if the CA's key had been used elsewhere.
    let real = for_the_ca(&good, &world.path("keys/user-ca"));
    let real = json!({ "certificate": real.to_openssh().unwrap() });
    for target in [for_ca, real] {
        let answer = officer.ask(&world, target).await;
        assert_eq!(code(&answer), ProblemCode::NotAllowed);
    }
    // One for anybody else's key, by key id: nothing of it is true.
    let other = forged(&good, &good.serial().to_be_bytes(), &[0; 8]);
    let answer = officer.ask(&world, other).await;
    assert_eq!(code(&answer), ProblemCode::NotFound);
    assert!(!served(&world).await.is_revoked(&good));
    alice.certificate(&world).await;
}

#[tokio::test]
async fn a_ca_key_is_administrations_by_whatever_name() {
    // D23: sshd looks a certificate's CA up among all revoked keys.
    let world = world().await;
    let issued = Caller::new(&world, 1, ALICE)
        .await
        .certificate(&world)
        .await;
    let officer = Caller::new(&world, 3, OFFICER).await;
    let ca = ssh_key::PublicKey::from(parsed(&issued).signature_key().clone());
    for target in [
        json!({ "public-key": ca.to_openssh().unwrap() }),
        json!({ "fingerprint": ca_of(&issued) }),
    ] {
        let answer = officer.ask(&world, target.clone()).await;
        assert_eq!(code(&answer), ProblemCode::NotAllowed, "{target}");
    }
    assert!(!served(&world).await.is_revoked(&parsed(&issued)));
}

#[tokio::test]
async fn who_has_no_certificate_lists_no_key() {
    // Whoever may sign in and nothing else would fill the list that every host reads.
    let world = world().await;
    let bob = Caller::new(&world, 2, BOB).await;
    let own = json!({ "public-key": bob.client.public.to_string() });
    assert_eq!(
        code(&bob.ask(&world, own.clone()).await),
        ProblemCode::NotAllowed
    );
    bob.certificate(&world).await;
    bob.revoke(&world, own).await;
}

#[tokio::test]
async fn who_may_not_revoke_looks_so_many_requests_up() {
    // Each look reads a day of the journal.
    let world = world().await;
    let bob = Caller::new(&world, 2, BOB).await;
    for n in 0..=16 {
        let answer = bob
            .ask(&world, json!({ "request-id": format!("{n:032x}") }))
            .await;
        let expected = match n {
            16 => ProblemCode::TooManyRequests,
            _ => ProblemCode::NotAllowed,
        };
        assert_eq!(code(&answer), expected, "{n}");
    }
}

#[tokio::test]
async fn ones_own_keys_are_listed_so_often_and_no_more() {
    let world = world().await;
    Caller::new(&world, 1, ALICE)
        .await
        .certificate(&world)
        .await;
    let mut listed = 0;
    for seed in 10..40 {
        let alice = Caller::new(&world, seed, ALICE).await;
        let own = json!({ "fingerprint": alice.client.public.fingerprint() });
        let answer = alice.ask(&world, own).await;
        match read::<RevocationResponse>(&answer) {
            Ok(_) => listed += 1,
            Err(problem) => {
                assert_eq!(problem.code, ProblemCode::TooManyRequests);
                break;
            }
        }
    }
    assert_eq!(listed, 16);
    // Others' turns are their own, and who may revoke has as many as there are.
    let officer = Caller::new(&world, 3, OFFICER).await;
    for seed in 40..60 {
        let print = Client::new(seed).public.fingerprint();
        officer
            .revoke(&world, json!({ "fingerprint": print }))
            .await;
    }
}

#[tokio::test]
async fn ones_own_certificates_are_listed_so_often_and_no_more() {
    let world = world().await;
    let alice = Caller::new(&world, 1, ALICE).await;
    let issued = alice.certificate(&world).await;
    let asked = (0..201).map(|_| alice.ask(&world, by_serial(&issued)));
    let answers = futures_util::future::join_all(asked).await;
    let (listed, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((listed.len(), refused.len()), (200, 1));
    assert_eq!(code(refused[0]), ProblemCode::TooManyRequests);
    let told = String::from_utf8_lossy(&refused[0].body);
    assert!(told.contains("ten seconds for a certificate"), "{told}");
    // Who may revoke has as many as there are.
    let officer = Caller::new(&world, 3, OFFICER).await;
    officer.revoke(&world, by_serial(&issued)).await;
}

#[tokio::test]
async fn what_does_not_exist_is_told_to_who_may_revoke() {
    // F-13
    let world = world().await;
    let issued = Caller::new(&world, 1, ALICE)
        .await
        .certificate(&world)
        .await;
    let officer = Caller::new(&world, 3, OFFICER).await;
    for target in [
        json!({ "serial": { "ca": ca_of(&issued), "serial": "5" } }),
        json!({ "serial": { "ca": format!("SHA256:{}", "A".repeat(43)), "serial": issued.serial } }),
        json!({ "request-id": "00112233445566778899aabbccddeeff" }),
    ] {
        let answer = officer.ask(&world, target.clone()).await;
        assert_eq!(code(&answer), ProblemCode::NotFound, "{target}");
    }
    let nobody = officer.ask(&world, json!({ "caller": "alice" })).await;
    assert_eq!(code(&nobody), ProblemCode::MalformedRequest);
    assert_eq!(world.rows("revoked"), 0);
}

#[tokio::test]
async fn a_request_counts_once() {
    let world = world().await;
    let alice = Caller::new(&world, 1, ALICE).await;
    let issued = alice.certificate(&world).await;
    let body = json!({ "protocol": 1, "target": by_serial(&issued), "reason": "x" });
    let request: RevocationRequest = serde_json::from_value(body.clone()).unwrap();
    let header = alice
        .client
        .authorization(&alice.grant, &request, NOW, fresh_nonce());
    let first = world
        .post("/v1/revocations", Some(header.clone()), &body)
        .await;
    assert_eq!(first.status, 200);
    let second = world
        .post("/v1/revocations", Some(header.clone()), &body)
        .await;
    assert_eq!(code(&second), ProblemCode::RequestReplayed);
    // The reason is signed.
    let other = json!({ "protocol": 1, "target": by_serial(&issued), "reason": "y" });
    let answer = world.post("/v1/revocations", Some(header), &other).await;
    assert_eq!(code(&answer), ProblemCode::RequestSignature);
}

#[tokio::test]
async fn ones_own_certificate_is_revoked_and_its_neighbours_are_not() {
    // F-01, with OpenSSH's own reader
    let world = world().await;
    let alice = Caller::new(&world, 1, ALICE).await;
    let (lost, kept) = (
        alice.certificate(&world).await,
        alice.certificate(&world).await,
    );
    let began = Instant::now();
    let done = alice.revoke(&world, by_serial(&lost)).await;
    let took = began.elapsed();
    println!("revoked after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(done.certificates, 1);
    let bundle = bundle(&documents(&fetch(&world, "", None).await));
    assert!(bundle.sequence >= done.bundle_sequence);
    let krl = bundle.revocations.read().unwrap();
    assert!(krl.is_revoked(&parsed(&lost)) && !krl.is_revoked(&parsed(&kept)));
    let file = world.path("revoked.krl");
    std::fs::write(&file, bundle.revocations.krl.as_slice()).unwrap();
    for (issued, revoked) in [(&lost, true), (&kept, false)] {
        world.write("certificate.pub", &issued.certificate);
        assert_eq!(ssh_keygen_revokes(&world), revoked, "{}", issued.serial);
    }
    // Other certificates of the key, and new ones, are as good as before.
    alice.certificate(&world).await;
    assert!(world.audit().contains("lost laptop"));
}

fn ssh_keygen_revokes(world: &World) -> bool {
    let output = std::process::Command::new("ssh-keygen")
        .args(["-Q", "-f"])
        .arg(world.path("revoked.krl"))
        .arg(world.path("certificate.pub"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("ok") || text.contains("REVOKED"),
        "{output:?}"
    );
    text.contains("REVOKED")
}

#[tokio::test]
async fn every_form_of_naming_a_certificate_ends_it() {
    let world = world().await;
    let alice = Caller::new(&world, 1, ALICE).await;
    let officer = Caller::new(&world, 3, OFFICER).await;
    for by in [&alice, &officer] {
        for form in ["serial", "request-id", "certificate"] {
            let issued = alice.certificate(&world).await;
            let target = match form {
                "serial" => by_serial(&issued),
                "request-id" => json!({ "request-id": issued.request_id }),
                _ => json!({ "certificate": issued.certificate }),
            };
            by.revoke(&world, target).await;
            assert!(served(&world).await.is_revoked(&parsed(&issued)), "{form}");
        }
    }
}

#[tokio::test]
async fn a_revocation_that_no_bundle_holds_yet_is_not_called_done() {
    let world = world().await;
    let officer = Caller::new(&world, 3, OFFICER).await;
    world.stop_bundles();
    let answer = officer.ask(&world, json!({ "host": WEB })).await;
    assert_eq!(code(&answer), ProblemCode::BundleUnavailable);
    // It is recorded all the same, also of a host that is not enrolled.
    assert_eq!(world.rows("blocked_hosts"), 1);
    assert!(world.audit().contains("\"Revoke\""));
}

#[tokio::test]
async fn a_revoked_key_gets_nothing_more_and_all_its_certificates_end() {
    for (seed, form) in [(1, "public-key"), (4, "fingerprint")] {
        let world = world().await;
        let alice = Caller::new(&world, seed, ALICE).await;
        let issued = alice.certificate(&world).await;
        let name = match form {
            "public-key" => alice.client.public.to_string(),
            _ => alice.client.public.fingerprint(),
        };
        alice.revoke(&world, json!({ form: name })).await;
        assert!(served(&world).await.is_revoked(&parsed(&issued)));
        assert_eq!(
            alice.refused_certificate(&world).await,
            ProblemCode::CallerRevoked
        );
        // Her next key is as good as any.
        let next = Caller::new(&world, 9, ALICE)
            .await
            .certificate(&world)
            .await;
        assert!(!served(&world).await.is_revoked(&parsed(&next)));
    }
}

#[tokio::test]
async fn a_revoked_caller_has_no_grant_no_certificate_and_no_new_session_until_unblocked() {
    // F-14
    let world = world().await;
    let (alice, bob) = (
        Caller::new(&world, 1, ALICE).await,
        Caller::new(&world, 2, BOB).await,
    );
    let officer = Caller::new(&world, 3, OFFICER).await;
    let hers = [
        alice.certificate(&world).await,
        alice.certificate(&world).await,
    ];
    let his = bob.certificate(&world).await;
    let done = officer.revoke(&world, json!({ "caller": ALICE.arn })).await;
    assert_eq!(done.certificates, 2);
    let krl = served(&world).await;
    assert!(hers.iter().all(|issued| krl.is_revoked(&parsed(issued))));
    assert!(!krl.is_revoked(&parsed(&his)));
    assert_eq!(
        alice.refused_certificate(&world).await,
        ProblemCode::CallerRevoked
    );
    let again = alice.client.session_request(&SignIn::of(ALICE));
    assert_eq!(
        code(&open_session(&world, &again).await),
        ProblemCode::CallerRevoked
    );
    bob.certificate(&world).await;
    // A role covers its sessions.
    let done = officer
        .revoke(
            &world,
            json!({ "caller": "arn:aws:iam::111122223333:role/Dev" }),
        )
        .await;
    assert_eq!(
        done.certificates, 2,
        "bob's two; alice's were revoked before"
    );
    assert_eq!(
        bob.refused_certificate(&world).await,
        ProblemCode::CallerRevoked
    );
    let world = world.restarted().await;
    let krl = served(&world).await;
    assert!(krl.is_revoked(&parsed(&hers[0])) && krl.is_revoked(&parsed(&his)));
}

#[tokio::test]
async fn hosts_that_wait_hear_of_it_long_before_their_time_is_over() {
    let world = world().await;
    let alice = Caller::new(&world, 1, ALICE).await;
    let issued = alice.certificate(&world).await;
    let tag = tag_of(&fetch(&world, "", None).await);
    let waiting = fetch(&world, "?wait=30", Some(&tag));
    let revoking = async {
        let began = Instant::now();
        alice.revoke(&world, by_serial(&issued)).await;
        began
    };
    let (answer, began) = tokio::join!(waiting, revoking);
    // Unheard, they would have waited for 30 s.
    let took = began.elapsed();
    println!("heard after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let krl = bundle(&documents(&answer)).revocations.read().unwrap();
    assert!(krl.is_revoked(&parsed(&issued)));
}

#[tokio::test]
async fn many_revocations_make_few_lists_and_all_are_in_the_last() {
    // G-13: each list is signed, pressed and sent to every host that waits.
    const MANY: u8 = 6;
    const PACE: Duration = Duration::from_millis(200);
    let world = world().await;
    let officer = Caller::new(&world, 1, OFFICER).await;
    let list = async || bundle(&documents(&fetch(&world, "", None).await)).revocations;
    let (before, began) = (list().await.number, Instant::now());
    for n in 0..MANY {
        let key = Client::new(100 + n).public.to_string();
        officer.revoke(&world, json!({ "public-key": key })).await;
    }
    let end = began + Duration::from_secs(30);
    while list().await.read().unwrap().count() < u64::from(MANY) {
        assert!(Instant::now() < end, "some are missing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // One at once, one that waits for its moment, and one more for each moment that has passed.
    let most = began.elapsed().as_millis() / PACE.as_millis() + 2;
    let made = u128::from(list().await.number - before);
    assert!(made <= most, "{made} lists, {most} at most");
}

#[tokio::test]
async fn what_has_ended_leaves_the_list_in_a_way_that_hosts_accept() {
    // F-06, F-12
    let world = world().await;
    let alice = Caller::new(&world, 1, ALICE).await;
    let issued = alice.certificate(&world).await;
    alice.revoke(&world, by_serial(&issued)).await;
    let before = bundle(&documents(&fetch(&world, "", None).await));
    assert_eq!(before.revocations.read().unwrap().count(), 1);
    let later = NOW + 3 * 3_600;
    world.clock.set(later);
    let end = Instant::now() + Duration::from_secs(10);
    let mut now = bundle(&documents(&fetch(&world, "", None).await));
    while now.revocations.read().unwrap().count() > 0 {
        assert!(Instant::now() < end, "it stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
        now = bundle(&documents(&fetch(&world, "", None).await));
    }
    now.check_follows(&before, later).unwrap();
    assert!(now.revocations.number > before.revocations.number);
    assert!(krl::read(now.revocations.krl.as_slice()).is_ok());
}
