//! A KMS stand-in that answers as it is told: the right signature, a wrong one, throttling, nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant as WallClock;

use aws_credential_types::provider::SharedCredentialsProvider;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use p256::pkcs8::EncodePublicKey as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::issuance::IssueError;
use crate::issuance::tests::{Rig, grant, origin};
use crate::signer::{SignError, Signer};

const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/11111111-2222-3333-4444-555555555555";

/// DER of a SubjectPublicKeyInfo up to the 32 bytes of an Ed25519 key.
const ED25519_SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// What the stand-in does with kms:Sign.
#[derive(Clone, Copy)]
enum Mood {
    Right,
    FlippedBit,
    OtherKey,
    OtherMessage,
    OtherArn,
    NoSignature,
    Garbage,
    Throttled(usize),
    Denied,
    Silent,
}

/// A key of each spec that KMS has and sshd takes.
enum Key {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
    Rsa(aws_lc_rs::rsa::KeyPair),
}

impl Key {
    fn new(spec: &str) -> Self {
        match spec {
            "ECC_NIST_P384" => Self::P384(
                p384::ecdsa::SigningKey::from_slice(&random::bytes::<48>().unwrap()).unwrap(),
            ),
            "ECC_NIST_EDWARDS25519" => Self::Ed25519(ed25519_dalek::SigningKey::from_bytes(
                &random::bytes().unwrap(),
            )),
            "RSA_3072" | "RSA_2048" => {
                use aws_lc_rs::rsa::KeySize;
                let size = if spec == "RSA_3072" {
                    KeySize::Rsa3072
                } else {
                    KeySize::Rsa2048
                };
                Self::Rsa(aws_lc_rs::rsa::KeyPair::generate(size).unwrap())
            }
            _ => Self::P256(
                p256::ecdsa::SigningKey::from_slice(&random::bytes::<32>().unwrap()).unwrap(),
            ),
        }
    }

    fn spki(&self) -> Vec<u8> {
        use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
        use aws_lc_rs::signature::KeyPair as _;
        match self {
            Self::P256(key) => key.verifying_key().to_public_key_der().unwrap().into_vec(),
            Self::P384(key) => key.verifying_key().to_public_key_der().unwrap().into_vec(),
            // RFC 8410 §4.
            Self::Ed25519(key) => [&ED25519_SPKI[..], key.verifying_key().as_bytes()].concat(),
            Self::Rsa(key) => {
                let der: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
                der.as_ref().to_vec()
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Self::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let random = aws_lc_rs::rand::SystemRandom::new();
                let padding = &aws_lc_rs::signature::RSA_PKCS1_SHA512;
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }
}

struct Kms {
    spec: &'static str,
    usage: &'static str,
    mood: Mood,
    key: Key,
    other: Key,
    calls: AtomicUsize,
}

struct StandIn {
    kms: Arc<Kms>,
    endpoint: String,
}

impl StandIn {
    async fn start(spec: &'static str, mood: Mood) -> Self {
        Self::start_as(spec, "SIGN_VERIFY", mood).await
    }

    async fn start_as(spec: &'static str, usage: &'static str, mood: Mood) -> Self {
        let (key, other) = (Key::new(spec), Key::new(spec));
        let kms = Arc::new(Kms {
            spec,
            usage,
            mood,
            key,
            other,
            calls: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let service = Arc::clone(&kms);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&service)));
            }
        });
        Self { kms, endpoint }
    }

    fn config(&self) -> KmsKey {
        KmsKey {
            arn: ARN.parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            endpoint: Some(self.endpoint.clone()),
            public_key: None,
            proxy: None,
        }
    }

    async fn connect(&self) -> Result<KmsSigner, KmsError> {
        self.connect_as(&self.config()).await
    }

    async fn connect_as(&self, config: &KmsKey) -> Result<KmsSigner, KmsError> {
        KmsSigner::connect_with(config, &shared()).await
    }

    fn signatures(&self) -> usize {
        self.kms.calls.load(Ordering::SeqCst)
    }
}

fn shared() -> aws_config::SdkConfig {
    let credentials = aws_credential_types::Credentials::new(
        "AKIAEXAMPLEEXAMPLE12",
        "secret",
        None,
        None,
        "test",
    );
    aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// One request for each connection: enough of HTTP for the SDK.
async fn serve(mut stream: TcpStream, kms: Arc<Kms>) {
    let mut request = Vec::new();
    let (head, body_at, length) = loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return;
        }
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let Some(end) = text.find("\r\n\r\n") else {
            continue;
        };
        let length = text
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        let length: usize = length.unwrap_or(0);
        if request.len() >= end + 4 + length {
            break (text, end + 4, length);
        }
    };
    let body: Value = serde_json::from_slice(&request[body_at..body_at + length]).unwrap();
    if let Some((status, answer)) = kms.answer(&head, &body) {
        let answer = answer.to_string();
        let header = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            answer.len()
        );
        let _ = stream.write_all((header + &answer).as_bytes()).await;
    } else {
        // Keeps the connection and says nothing.
        let _ = stream.read(&mut [0]).await;
    }
}

impl Kms {
    fn algorithm(&self) -> &'static str {
        match self.spec {
            "ECC_NIST_P384" => "ECDSA_SHA_384",
            "ECC_NIST_EDWARDS25519" => "ED25519_SHA_512",
            "RSA_2048" | "RSA_3072" => "RSASSA_PKCS1_V1_5_SHA_512",
            // Stands for every algorithm that certificates do not have.
            "ECC_SECG_P256K1" => "SM2DSA",
            _ => "ECDSA_SHA_256",
        }
    }

    fn answer(&self, head: &str, body: &Value) -> Option<(u16, Value)> {
        assert_eq!(body["KeyId"], ARN, "the key is named by its ARN");
        if head.contains("trentservice.getpublickey") {
            return Some((
                200,
                json!({
                    "KeyId": ARN, "KeySpec": self.spec, "KeyUsage": self.usage, "SigningAlgorithms": [self.algorithm()],
                    "PublicKey": STANDARD.encode(self.key.spki()),
                }),
            ));
        }
        assert!(head.contains("trentservice.sign"));
        assert_eq!(body["MessageType"], "RAW");
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let message = STANDARD.decode(body["Message"].as_str().unwrap()).unwrap();
        self.sign(call, &message, body["SigningAlgorithm"].as_str().unwrap())
    }

    fn sign(&self, call: usize, message: &[u8], algorithm: &str) -> Option<(u16, Value)> {
        assert_eq!(algorithm, self.algorithm());
        let throttled = json!({ "__type": "ThrottlingException", "message": "Rate exceeded" });
        let denied =
            json!({ "__type": "AccessDeniedException", "message": "not authorized: kms:Sign" });
        let signature = match self.mood {
            Mood::Right | Mood::OtherArn => self.key.sign(message),
            Mood::FlippedBit => {
                let mut signature = self.key.sign(message);
                *signature.last_mut().unwrap() ^= 1;
                signature
            }
            Mood::OtherKey => self.other.sign(message),
            Mood::OtherMessage => self.key.sign(b"something else"),
            Mood::Garbage => vec![0x30, 0x00],
            Mood::NoSignature => return Some((200, json!({ "KeyId": ARN }))),
            Mood::Throttled(times) if call < times => return Some((400, throttled)),
            Mood::Throttled(_) => self.key.sign(message),
            Mood::Denied => return Some((400, denied)),
            Mood::Silent => return None,
        };
        let arn = if matches!(self.mood, Mood::OtherArn) {
            "arn:aws:kms:eu-west-1:111122223333:key/other"
        } else {
            ARN
        };
        Some((
            200,
            json!({ "KeyId": arn, "Signature": STANDARD.encode(signature), "SigningAlgorithm": algorithm }),
        ))
    }
}

/// A rig whose user CA is the stand-in's key.
async fn rig(spec: &'static str, mood: Mood) -> (Rig, StandIn) {
    let stand_in = StandIn::start(spec, mood).await;
    let mut signer = stand_in.connect().await.unwrap();
    if matches!(mood, Mood::Silent) {
        // Long enough that the question has arrived, on a busy machine too.
        signer.deadline = Duration::from_secs(3);
    }
    (Rig::with(Signer::Kms(signer)), stand_in)
}

#[tokio::test]
async fn each_key_spec_of_kms_signs_certificates_that_verify() {
    for spec in [
        "ECC_NIST_P256",
        "ECC_NIST_P384",
        "ECC_NIST_EDWARDS25519",
        "RSA_3072",
    ] {
        let (rig, _kms) = rig(spec, Mood::Right).await;
        let issued = rig
            .issuer()
            .issue(grant(), origin())
            .await
            .unwrap_or_else(|e| panic!("{spec}: {e}"));
        let certificate = ssh_key::Certificate::from_openssh(issued.line()).unwrap();
        certificate.verify_signature().unwrap();
        assert_eq!(
            certificate.signature_key(),
            rig.ca.public().key().key_data()
        );
        rig.journal(&[("issued", 1)]);
    }
}

/// A signer for this key that has not been seen since the start.
fn awaited(kms: &StandIn, public: CaKey) -> KmsSigner {
    let reason = KmsError::Unreachable(ARN.to_owned(), SignerError::Timeout(1));
    KmsSigner::awaited_with(&kms.config(), &shared(), public, &reason).unwrap()
}

#[tokio::test]
async fn a_key_that_was_not_seen_since_the_start_signs_nothing_until_it_is() {
    let kms = StandIn::start("ECC_NIST_P256", Mood::Right).await;
    let public = kms.connect().await.unwrap().public().clone();
    let signer = awaited(&kms, public);
    let told = signer.unreached().unwrap();
    let refused = signer.sign(b"bytes").await;
    assert!(matches!(refused, Err(SignerError::Unreached(reason)) if reason == told));
    assert_eq!(kms.signatures(), 0);
    signer.reach().await.unwrap();
    assert_eq!(signer.unreached(), None);
    signer.sign(b"bytes").await.unwrap();
    // Another key under the same ARN is none to wait for.
    let other = StandIn::start("ECC_NIST_P256", Mood::Right).await;
    let other = other.connect().await.unwrap().public().clone();
    let signer = awaited(&kms, other);
    assert!(matches!(
        signer.reach().await,
        Err(KmsError::OtherKey { .. })
    ));
    let refused = signer.sign(b"bytes").await;
    assert!(matches!(refused, Err(SignerError::Unreached(_))));
}

#[tokio::test]
async fn a_wrong_signature_of_kms_never_leaves_and_is_journaled_as_failed() {
    // D-16
    for spec in ["ECC_NIST_P256", "ECC_NIST_EDWARDS25519", "RSA_3072"] {
        for mood in [Mood::FlippedBit, Mood::OtherKey, Mood::OtherMessage] {
            let (rig, _kms) = rig(spec, mood).await;
            let refused = rig.issuer().issue(grant(), origin()).await;
            assert!(
                matches!(
                    refused,
                    Err(IssueError::Sign(
                        SignError::Check(_) | SignError::Signer(SignerError::Answer(_))
                    ))
                ),
                "{spec}: {refused:?}"
            );
            rig.journal(&[("failed", 1)]);
            let records = rig.audit();
            assert_eq!(records.len(), 2, "the attempt and its failure");
            assert!(
                records[1]["errorCode"].is_string()
                    && records[1]["requestID"] == records[0]["requestID"]
            );
        }
    }
}

#[tokio::test]
async fn an_answer_without_a_signature_or_by_another_key_is_refused() {
    for mood in [Mood::NoSignature, Mood::Garbage, Mood::OtherArn] {
        let (rig, _kms) = rig("ECC_NIST_P256", mood).await;
        let refused = rig.issuer().issue(grant(), origin()).await;
        assert!(
            matches!(
                refused,
                Err(IssueError::Sign(SignError::Signer(SignerError::Answer(_))))
            ),
            "{refused:?}"
        );
        rig.journal(&[("failed", 1)]);
    }
}

#[tokio::test]
async fn only_throttling_is_tried_again() {
    let (throttled, kms) = rig("ECC_NIST_P256", Mood::Throttled(3)).await;
    throttled.issuer().issue(grant(), origin()).await.unwrap();
    assert_eq!(kms.signatures(), 4);

    let (denied, kms) = rig("ECC_NIST_P256", Mood::Denied).await;
    let refused = denied.issuer().issue(grant(), origin()).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("AccessDeniedException: not authorized"),
        "{refused}"
    );
    assert_eq!(kms.signatures(), 1);
}

#[tokio::test]
async fn kms_signs_as_often_as_the_journal_says() {
    // D-26: what is compared with CloudTrail's kms:Sign events.
    let (rig, kms) = rig("ECC_NIST_P256", Mood::Right).await;
    for _ in 0..5 {
        rig.issuer().issue(grant(), origin()).await.unwrap();
    }
    drop(rig.recorder.record(rig.prepared(), origin()).await.unwrap());
    rig.journal(&[("abandoned", 1), ("issued", 5)]);
    assert_eq!(kms.signatures(), 5);
}

#[tokio::test]
async fn endless_throttling_ends_with_the_deadline() {
    let (rig, kms) = rig("ECC_NIST_P256", Mood::Throttled(usize::MAX)).await;
    let begun = WallClock::now();
    let refused = rig.issuer().issue(grant(), origin()).await.unwrap_err();
    assert!(
        refused.to_string().contains("ThrottlingException"),
        "{refused}"
    );
    assert!(begun.elapsed() < SIGN_DEADLINE + Duration::from_secs(10) && kms.signatures() > 2);
}

#[tokio::test]
async fn a_silent_kms_is_given_up_and_not_asked_twice() {
    let (rig, kms) = rig("ECC_NIST_P256", Mood::Silent).await;
    let refused = rig.issuer().issue(grant(), origin()).await.unwrap_err();
    assert!(refused.to_string().contains("within 3000 ms"), "{refused}");
    assert_eq!(kms.signatures(), 1);
    rig.journal(&[("failed", 1)]);
}

#[tokio::test]
async fn signatures_under_way_are_bounded() {
    let (_rig, stand_in) = rig("ECC_NIST_P256", Mood::Silent).await;
    let mut signer = stand_in.connect().await.unwrap();
    // All of them must have asked before the first is given up.
    signer.deadline = Duration::from_secs(5);
    let signer = Arc::new(signer);
    let tasks: Vec<_> = (0..AT_ONCE + WAITING + 100)
        .map(|_| {
            let signer = Arc::clone(&signer);
            tokio::spawn(
                async move { matches!(signer.sign(b"x").await, Err(SignerError::Overloaded)) },
            )
        })
        .collect();
    let mut overloaded = 0;
    for task in tasks {
        overloaded += usize::from(task.await.unwrap());
    }
    assert!(overloaded >= 100, "{overloaded}");
    assert!(
        stand_in.signatures() <= AT_ONCE * 2,
        "{}",
        stand_in.signatures()
    );
}

#[tokio::test]
async fn bytes_beyond_the_limit_of_kms_are_never_sent() {
    // D-19
    let (_rig, stand_in) = rig("ECC_NIST_EDWARDS25519", Mood::Right).await;
    let signer = stand_in.connect().await.unwrap();
    assert!(signer.sign(&[0; MAX_TBS + 1]).await.is_err());
    assert_eq!(stand_in.signatures(), 0);
    assert!(signer.sign(&[0; MAX_TBS]).await.is_ok());
}

#[tokio::test]
async fn a_key_that_cannot_be_a_ca_or_is_not_the_configured_one_is_refused_at_start() {
    let weak = StandIn::start("RSA_2048", Mood::Right).await;
    assert!(matches!(weak.connect().await, Err(KmsError::Key { .. })));
    let encrypting = StandIn::start_as("RSA_3072", "ENCRYPT_DECRYPT", Mood::Right).await;
    assert!(matches!(
        encrypting.connect().await,
        Err(KmsError::Usage(_))
    ));
    let curve = StandIn::start("ECC_SECG_P256K1", Mood::Right).await;
    assert!(matches!(curve.connect().await, Err(KmsError::Spec(_))));

    let (one, two) = (
        StandIn::start("ECC_NIST_P256", Mood::Right).await,
        StandIn::start("ECC_NIST_P256", Mood::Right).await,
    );
    let public = one.connect().await.unwrap().public().clone();
    let named = |stand_in: &StandIn| KmsKey {
        public_key: Some(public.clone()),
        ..stand_in.config()
    };
    assert!(one.connect_as(&named(&one)).await.is_ok());
    assert!(matches!(
        two.connect_as(&named(&two)).await,
        Err(KmsError::OtherKey { .. })
    ));
}

#[test]
fn only_the_arn_or_the_id_within_it_is_the_same_key() {
    let id = "11111111-2222-3333-4444-555555555555";
    assert!(is_same_key(ARN, ARN) && is_same_key(ARN, id));
    for other in [
        "",
        "nothing",
        "alias/x",
        "1111",
        &ARN.replace("eu-west-1", "us-east-1"),
        &id.replace('5', "6"),
    ] {
        assert!(!is_same_key(ARN, other), "{other}");
    }
}

#[tokio::test]
async fn a_kms_that_cannot_be_reached_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let stand_in = StandIn::start("ECC_NIST_P256", Mood::Right).await;
    let config = KmsKey {
        endpoint: Some(endpoint),
        ..stand_in.config()
    };
    let refused = stand_in
        .connect_as(&config)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(refused.contains("could not be reached"), "{refused}");
}
