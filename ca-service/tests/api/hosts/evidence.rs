//! Evidence that is not this host's, or not good any more.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eic_protocol::api::host_certificate::evidence::IdentitySignature;
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::base64_text::Base64Bytes;
use serde_json::{Value, json};

use super::aws::{HOST, HostWorld, MANAGED, OTHER, document};
use super::requests::{Ask, audience, with_key, with_token};
use crate::client::Client;
use crate::metadata_signer::{DSA_WITH_SHA_1, Form, MetadataSigner, SHA_1};
use crate::sts::{ALICE, STRANGER};
use crate::world::code;

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_tampered_with_or_signed_by_another_is_refused_before_anybody_is_asked()
{
    // E-01, E-02, E-03
    let world = HostWorld::new("evidence").await;
    let key = Client::new(1);
    let ask = Ask::of(&key);
    let good = serde_json::to_vec(&ask.document).unwrap();
    let rsa2048 = |bytes: Vec<u8>| IdentitySignature::Rsa2048(Base64Bytes(bytes));
    let stranger = MetadataSigner::new();
    let dsa = Form {
        signature_algorithm: DSA_WITH_SHA_1.to_vec(),
        ..Form::of_aws(&good)
    };
    let sha1 = Form {
        digest_algorithm: SHA_1.to_vec(),
        ..Form::of_aws(&good)
    };
    let changed = serde_json::to_vec(&document(OTHER, "2026-02-16T00:38:27Z")).unwrap();
    for (document, signature) in [
        (changed, rsa2048(world.signer.sign(&good))),
        (good.clone(), rsa2048(stranger.sign(&good))),
        (
            good.clone(),
            IdentitySignature::Pkcs7(Base64Bytes(world.signer.sign_as(&good, &dsa))),
        ),
        (
            good.clone(),
            IdentitySignature::Pkcs7(Base64Bytes(world.signer.sign_as(&good, &sha1))),
        ),
        (good.clone(), rsa2048(Vec::new())),
        (b"{}".to_vec(), rsa2048(world.signer.sign(b"{}"))),
    ] {
        let request = world.signed_by_role(&ask, document, signature);
        let refused = code(&world.post_certificate(&request).await);
        assert_eq!(refused, ProblemCode::EvidenceRefused);
    }
    assert!(world.asked().is_empty(), "{:?}", world.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_document_with_other_credentials_is_refused() {
    // E-04
    let world = HostWorld::new("evidence").await;
    let key = Client::new(1);
    for ask in [
        Ask {
            identity: ALICE,
            ..Ask::of(&key)
        },
        Ask {
            document: document(OTHER, "2026-02-16T00:38:27Z"),
            instance: OTHER,
            ..Ask::of(&key)
        },
        Ask {
            document: document(OTHER, "2026-02-16T00:38:27Z"),
            ..Ask::of(&key)
        },
        Ask {
            instance: OTHER,
            ..Ask::of(&key)
        },
    ] {
        let answer = world.post_certificate(&world.with_document(&ask)).await;
        assert_eq!(code(&answer), ProblemCode::EvidenceRefused);
    }
    let stranger = Ask {
        identity: STRANGER,
        ..Ask::of(&key)
    };
    let answer = world
        .post_certificate(&world.with_document(&stranger))
        .await;
    assert_eq!(code(&answer), ProblemCode::EvidenceRefused);
    assert!(!world.world.audit().contains("IssueHostCertificate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_not_the_instances_now_or_that_others_may_assume_is_refused() {
    // E-04: the session's name is whatever its maker chose.
    let world = HostWorld::new("evidence").await;
    let key = Client::new(1);
    world.aws.lock().unwrap().role = "Admin";
    let answer = world
        .post_certificate(&world.with_document(&Ask::of(&key)))
        .await;
    assert_eq!(code(&answer), ProblemCode::EvidenceRefused);
    world.aws.lock().unwrap().role = "Web";
    let own = world.aws.lock().unwrap().trust.clone();
    world.aws.lock().unwrap().trust =
        own.replace("{\"Service\":\"ec2.amazonaws.com\"}", "{\"AWS\":\"*\"}");
    let answer = world
        .post_certificate(&world.with_document(&Ask::of(&key)))
        .await;
    assert_eq!(code(&answer), ProblemCode::EvidenceRefused);
    assert!(world.world.audit().contains("may also be assumed by AWS *"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_gone_or_elsewhere_is_refused() {
    // E-06
    let world = HostWorld::new("evidence").await;
    let key = Client::new(1);
    for state in ["stopped", "terminated"] {
        world.aws.lock().unwrap().state = state;
        let answer = world
            .post_certificate(&world.with_document(&Ask::of(&key)))
            .await;
        assert_eq!(code(&answer), ProblemCode::InstanceNotAccepted, "{state}");
        let answer = world
            .post_certificate(&world.with_web_identity(&Ask::of(&key), |_| {}))
            .await;
        assert_eq!(code(&answer), ProblemCode::InstanceNotAccepted, "{state}");
    }
    world.aws.lock().unwrap().state = "running";
    world.aws.lock().unwrap().private_ip = "10.0.0.6";
    let answer = world
        .post_certificate(&world.with_document(&Ask::of(&key)))
        .await;
    assert_eq!(code(&answer), ProblemCode::EvidenceRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_an_earlier_launch_is_refused() {
    // E-07
    let world = HostWorld::new("evidence").await;
    let key = Client::new(1);
    world.certified(&world.with_document(&Ask::of(&key))).await;
    let older = Ask {
        document: document(HOST, "2026-02-15T00:00:00Z"),
        ..Ask::of(&key)
    };
    let answer = world.post_certificate(&world.with_document(&older)).await;
    assert_eq!(code(&answer), ProblemCode::EvidenceRefused);
    let newer = Ask {
        document: document(HOST, "2026-03-01T00:00:00Z"),
        ..Ask::of(&key)
    };
    world.certified(&world.with_document(&newer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_not_configured_is_refused_before_aws_is_asked() {
    // E-14
    let world = HostWorld::new("evidence").await;
    let key = Client::new(1);
    let mut foreign = document(HOST, "2026-02-16T00:38:27Z");
    foreign["accountId"] = json!("444455556666");
    let ask = Ask {
        document: foreign,
        ..Ask::of(&key)
    };
    let answer = world.post_certificate(&world.with_document(&ask)).await;
    assert_eq!(code(&answer), ProblemCode::InstanceNotAccepted);
    assert!(world.asked().is_empty(), "{:?}", world.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_or_token_counts_once() {
    // A-21, B-12
    let world = HostWorld::new("evidence").await;
    let key = Client::new(1);
    let request = world.with_document(&Ask::of(&key));
    world.certified(&request).await;
    let answer = world.post_certificate(&request).await;
    assert_eq!(code(&answer), ProblemCode::ProofReplayed);
    let same_token = |claims: &mut Value| claims["jti"] = json!("once");
    world
        .certified(&world.with_web_identity(&Ask::of(&key), same_token))
        .await;
    let answer = world
        .post_certificate(&world.with_web_identity(&Ask::of(&key), same_token))
        .await;
    assert_eq!(code(&answer), ProblemCode::RequestReplayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_somebody_else_or_of_another_issuer_is_refused() {
    // B-08, B-09, B-11, B-24
    let world = HostWorld::new("evidence").await;
    let key = Client::new(1);
    let refused = async |change: fn(&mut Value)| {
        let request = world.with_web_identity(&Ask::of(&key), change);
        code(&world.post_certificate(&request).await)
    };
    assert_eq!(
        refused(|c| c["aud"] = json!("https://other.example")).await,
        ProblemCode::EvidenceRefused
    );
    assert_eq!(
        refused(|c| c["iss"] = json!("https://evil.example")).await,
        ProblemCode::EvidenceRefused
    );
    assert_eq!(
        refused(|c| c["exp"] = json!(1)).await,
        ProblemCode::EvidenceStale
    );
    let arn = "https://sts.amazonaws.com/";
    assert_eq!(
        refused(|c| c["https://sts.amazonaws.com/"]["ec2_source_instance_arn"] = Value::Null).await,
        ProblemCode::EvidenceRefused,
        "{arn}"
    );
    let other = Ask {
        instance: OTHER,
        ..Ask::of(&key)
    };
    let mut request = world.with_web_identity(&Ask::of(&key), |_| {});
    request.instance = other.instance.parse().unwrap();
    assert_eq!(
        code(&world.post_certificate(&request).await),
        ProblemCode::PossessionNotProven
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_did_not_sign_this_request_is_not_certified() {
    // E-13
    let world = HostWorld::new("evidence").await;
    let (key, other) = (Client::new(1), Client::new(2));
    let good = world.with_document(&Ask::of(&key));
    let mut later = good.clone();
    later.nonce = world.with_document(&Ask::of(&key)).nonce;
    let mut foreign = good.clone();
    foreign.host_keys[0].public_key = other.public.clone();
    let mut unsigned = good.clone();
    unsigned.host_keys[0].signature = Base64Bytes::default();
    let mut elsewhere = good.clone();
    elsewhere.time += 1;
    for request in [later, foreign, unsigned, elsewhere] {
        let answer = world.post_certificate(&request).await;
        assert_eq!(code(&answer), ProblemCode::PossessionNotProven);
    }
    assert!(world.asked().is_empty());
    world.certified(&good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_nobody_enrolled_gets_nothing_for_its_own_signature() {
    let world = HostWorld::new("evidence").await;
    let key = Client::new(1);
    for instance in [MANAGED, HOST, OTHER] {
        let request = with_key(&Ask {
            instance,
            ..Ask::of(&key)
        });
        let answer = world.post_certificate(&request).await;
        assert_eq!(code(&answer), ProblemCode::HostNotEnrolled);
    }
    assert!(world.asked().is_empty());
    // An EC2 host shows AWS's evidence each time, its own key is not enough.
    world.certified(&world.with_document(&Ask::of(&key))).await;
    let answer = world.post_certificate(&with_key(&Ask::of(&key))).await;
    assert_eq!(code(&answer), ProblemCode::EvidenceRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_the_account_does_not_take_is_refused_before_aws_is_asked() {
    let only_tokens = |config: String| config.replace(", \"identity-document\"]", "]");
    let world = HostWorld::configured("evidence", only_tokens).await;
    let key = Client::new(1);
    let answer = world
        .post_certificate(&world.with_document(&Ask::of(&key)))
        .await;
    assert_eq!(code(&answer), ProblemCode::EvidenceRefused);
    assert!(world.asked().is_empty(), "{:?}", world.asked());
    world
        .certified(&world.with_web_identity(&Ask::of(&key), |_| {}))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cas_own_keys_are_no_host_keys() {
    // D-14
    let world = HostWorld::new("evidence").await;
    for name in ["user-ca", "host-ca", "bundle"] {
        let line = std::fs::read_to_string(world.world.path(&format!("keys/{name}.pub"))).unwrap();
        let mut request = world.with_document(&Ask::of(&Client::new(1)));
        request.host_keys[0].public_key = line.trim().parse().unwrap();
        let answer = world.post_certificate(&request).await;
        assert_eq!(code(&answer), ProblemCode::KeyNotAccepted, "{name}");
    }
    assert!(world.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_a_host_that_the_inventory_lacks_enrols_nothing() {
    let world = HostWorld::new("token").await;
    let nowhere = "mi-00000000000000000";
    let token = world.hosts(&["token", "--name", nowhere]).unwrap();
    let key = Client::new(1);
    let ask = Ask {
        instance: nowhere,
        ..Ask::of(&key)
    };
    let request = with_token(&ask, &token.parse().unwrap());
    let answer = world.post_certificate(&request).await;
    assert_eq!(code(&answer), ProblemCode::InstanceNotAccepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_an_rsa_key_only_is_certified_by_its_sha_2_signature() {
    let world = HostWorld::new("evidence").await;
    let rsa = RsaKey::new();
    let mut request = world.with_web_identity(&Ask::of(&Client::new(1)), |_| {});
    request.host_keys[0].public_key = rsa.public.clone();
    let answer = world.post_certificate(&request).await;
    assert_eq!(code(&answer), ProblemCode::PossessionNotProven);
    let canonical = request.canonical(&audience());
    request.host_keys[0].signature = Base64Bytes(rsa.sign(canonical.as_slice()));
    let issued = world.certified(&request).await;
    assert!(
        issued[0]
            .certificate
            .starts_with("ssh-rsa-cert-v01@openssh.com ")
    );
}

/// A key of ssh-keygen, which signs with it.
struct RsaKey {
    folder: tempfile::TempDir,
    public: eic_protocol::subject_key::SubjectKey,
}

impl RsaKey {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"]);
        assert!(command.arg(&file).status().unwrap().success());
        let line = std::fs::read_to_string(file.with_extension("pub")).unwrap();
        let public = line.trim().parse().unwrap();
        Self { folder, public }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let file = self.folder.path().join("message");
        std::fs::write(&file, message).unwrap();
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-Y", "sign", "-n", "eic-request-v1", "-f"]);
        command.arg(self.folder.path().join("key")).arg(&file);
        assert!(command.output().unwrap().status.success());
        let armor = std::fs::read_to_string(file.with_extension("sig")).unwrap();
        let body: String = armor
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        STANDARD.decode(body).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_aws_does_not_answer_nothing_is_certified_and_nothing_is_told() {
    // D-27
    let world = HostWorld::new("evidence").await;
    let key = Client::new(1);
    for action in ["DescribeInstances", "GetInstanceProfile"] {
        for (status, error) in [(500, "InternalError"), (403, "UnauthorizedOperation")] {
            world.aws.lock().unwrap().failing = Some((action, status, error));
            let answer = world
                .post_certificate(&world.with_document(&Ask::of(&key)))
                .await;
            assert_eq!(code(&answer), ProblemCode::InventoryUnavailable);
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(!told.contains("canary") && !told.contains(error), "{told}");
        }
    }
    world.aws.lock().unwrap().failing = Some(("GetInstanceProfile", 404, "NoSuchEntity"));
    let answer = world
        .post_certificate(&world.with_document(&Ask::of(&key)))
        .await;
    assert_eq!(
        code(&answer),
        ProblemCode::EvidenceRefused,
        "no role is no proof"
    );
    assert!(!world.world.audit().contains("EnrolHost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_host_does_not_spend_the_accounts_calls_to_ec2() {
    // G-13
    let world = HostWorld::new("evidence").await;
    let key = Client::new(1);
    let mut refused = 0;
    for _ in 0..40 {
        let request = world.with_web_identity(&Ask::of(&key), |_| {});
        let answer = world.post_certificate(&request).await;
        refused += usize::from(answer.status == 429);
    }
    let asked = world.asked();
    let described = asked.iter().filter(|action| *action == "DescribeInstances");
    assert!(
        refused > 10 && described.count() + refused == 40,
        "{refused}"
    );
}
