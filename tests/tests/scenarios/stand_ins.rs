//! The AWS stand-ins: they refuse what AWS refuses, and are wrong where a test asks for it.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use eic_lab::aws::{ACCOUNT, Call, Credentials, OTHER_ACCOUNT};
use eic_lab::error::Result;
use eic_lab::standin::{Fault, Times};
use eic_lab::{Aws, Lab};
use serde_json::{Value, json};

use crate::aws_calls::{INSTANCE_CONNECT, NOTHING, push, refusal, who_am_i};

/// Where the front listens.
fn front() -> SocketAddr {
    ([127, 0, 0, 1], 4566).into()
}

#[test]
fn wrong_secrets_old_dates_and_other_hosts_are_refused() -> Result<()> {
    let lab = Lab::new()?;
    let aws = lab.aws()?;
    let alice = aws.user("alice", INSTANCE_CONNECT)?;
    let wrong = Credentials {
        secret_access_key: "guessed".into(),
        ..alice.clone()
    };
    let (status, body) = refusal(aws.call(&wrong, &who_am_i()));
    assert!(
        status == 403 && body.contains("SignatureDoesNotMatch"),
        "{status} {body}"
    );

    let old = who_am_i().signed(front(), &alice, lab.clock().now() - 16 * 60)?;
    assert_eq!(aws.send(front(), old)?.status(), 403, "a date 16 min old");

    // What a CA does that asks a stand-in: signed for AWS's own name, sent here.
    let elsewhere = who_am_i()
        .region("eu-west-1")
        .host("sts.eu-west-1.amazonaws.com");
    assert!(
        aws.call(&alice, &elsewhere)?
            .contains("arn:aws:iam::123456789012:user/alice")
    );
    let mut forged = elsewhere.signed(front(), &alice, lab.clock().now())?;
    forged
        .headers_mut()
        .insert("host", "sts.us-east-1.amazonaws.com".parse().unwrap());
    assert_eq!(
        aws.send(front(), forged)?.status(),
        403,
        "another Host header"
    );

    aws.standin()
        .faults()
        .set("sts:GetCallerIdentity", Fault::Throttle, Times::Next(1));
    assert!(
        refusal(aws.call(&alice, &who_am_i()))
            .1
            .contains("Throttling")
    );
    assert!(
        aws.call(&alice, &who_am_i())?.contains("user/alice"),
        "one fault was asked for"
    );
    aws.standin().expire(&alice);
    assert!(
        refusal(aws.call(&alice, &who_am_i()))
            .1
            .contains("ExpiredToken")
    );
    Ok(())
}

#[test]
fn keys_for_nobody_or_from_strangers_are_refused() -> Result<()> {
    let lab = Lab::new()?;
    let aws = lab.aws()?;
    let alice = aws.user("alice", INSTANCE_CONNECT)?;
    let mallory = aws.user("mallory", NOTHING)?;
    let key = lab.client("keys")?.make_key("id_ed25519")?;
    let web = lab.host("web-1").start()?;
    assert_eq!(
        refusal(aws.call(&mallory, &push(web.id(), "ubuntu", &key))).0,
        403
    );
    let (_, body) = refusal(aws.call(&alice, &push("i-0123456789abcdef0", "ubuntu", &key)));
    assert!(body.contains("EC2InstanceNotFoundException"), "{body}");
    for (user, key) in [
        ("no such user", key.as_str()),
        ("ubuntu", "ssh-ed25519 AAAA"),
        ("", &key),
    ] {
        let (_, body) = refusal(aws.call(&alice, &push(web.id(), user, key)));
        assert!(body.contains("InvalidArgsException"), "{body}");
    }
    assert!(
        aws.standin().pushed_keys(web.id(), "ubuntu").is_empty(),
        "a refused key was kept"
    );
    aws.call(&alice, &push(web.id(), "ubuntu", &key))?;
    assert_eq!(aws.standin().pushed_keys(web.id(), "ubuntu").len(), 1);
    assert!(
        aws.standin().pushed_keys(web.id(), "alice").is_empty(),
        "a key for another user"
    );
    Ok(())
}

#[test]
fn accounts_and_regions_do_not_see_each_others_instances() -> Result<()> {
    let lab = Lab::new()?;
    let aws = lab.aws()?;
    let bob = aws.account(OTHER_ACCOUNT).user("bob", INSTANCE_CONNECT)?;
    assert!(
        aws.call(&bob, &who_am_i())?
            .contains("arn:aws:iam::210987654321:user/bob")
    );
    let session = session_of_dave(aws)?;
    let me = aws.call(&session, &who_am_i())?;
    assert!(
        me.contains("arn:aws:sts::123456789012:assumed-role/Dev/dave@corp"),
        "{me}"
    );

    let mine = lab.host("mine").tag("team", "web").start()?;
    let theirs = lab.host("theirs").aws_account(OTHER_ACCOUNT).start()?;
    let far = lab.host("far").region("eu-west-1").start()?;
    assert_eq!(far.instance().availability_zone, "eu-west-1a");
    let seen = aws.call(&session, &Call::query("ec2", "DescribeInstances", &[]))?;
    assert!(
        !seen.contains(theirs.id()) && !seen.contains(far.id()),
        "{seen}"
    );
    for text in [mine.id(), "<key>team</key>", &mine.address().to_string()] {
        assert!(seen.contains(text), "{text}: {seen}");
    }
    let console = Call::query("ec2", "GetConsoleOutput", &[("InstanceId", mine.id())]);
    assert!(aws.call(&session, &console)?.contains("<output>"));
    Ok(())
}

/// A role's session of a user who may do nothing else.
fn session_of_dave(aws: &Aws) -> Result<Credentials> {
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}"#;
    let dave = aws.user("dave", policy)?;
    let role = aws.role(
        "Dev",
        "arn:aws:iam::123456789012:user/dave",
        INSTANCE_CONNECT,
    )?;
    aws.assume_role(&dave, &role, "dave@corp")
}

/// A KMS key and someone who may use it.
struct Kms<'a> {
    aws: &'a Aws,
    signer: Credentials,
}

impl Kms<'_> {
    fn of(aws: &Aws) -> Result<Kms<'_>> {
        let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}"#;
        Ok(Kms {
            aws,
            signer: aws.user("signer", policy)?,
        })
    }

    fn sign_call(key: &str, algorithm: &str, message: &[u8]) -> Call {
        let body = json!({"KeyId": key, "Message": STANDARD.encode(message), "SigningAlgorithm": algorithm});
        Call::json("kms", "Sign", &body)
    }

    fn sign(&self, key: &str, algorithm: &str, message: &[u8]) -> Result<Signature> {
        let answer = self
            .aws
            .call(&self.signer, &Self::sign_call(key, algorithm, message))?;
        Ok(Signature::from_slice(&member(&answer, "Signature")).unwrap())
    }

    fn refusal(&self, key: &str, algorithm: &str, message: &[u8]) -> String {
        refusal(
            self.aws
                .call(&self.signer, &Self::sign_call(key, algorithm, message)),
        )
        .1
    }

    fn public_key(&self, key: &str) -> Result<VerifyingKey> {
        let call = Call::json("kms", "GetPublicKey", &json!({"KeyId": key}));
        let answer = self.aws.call(&self.signer, &call)?;
        assert!(answer.contains("ECC_NIST_EDWARDS25519"), "{answer}");
        assert!(answer.contains(&format!("\"KeyId\":\"{key}\"")), "{answer}");
        let spki = member(&answer, "PublicKey");
        Ok(VerifyingKey::from_bytes(spki[12..].try_into().unwrap()).unwrap())
    }
}

/// A base64 member of a JSON answer.
fn member(answer: &str, name: &str) -> Vec<u8> {
    let answer: Value = serde_json::from_str(answer).unwrap();
    STANDARD.decode(answer[name].as_str().unwrap()).unwrap()
}

#[test]
fn kms_refuses_strangers_disabled_keys_and_long_messages() -> Result<()> {
    let lab = Lab::new()?;
    let aws = lab.aws()?;
    let kms = Kms::of(aws)?;
    let (ours, motos) = (
        aws.kms_key("ECC_NIST_EDWARDS25519")?,
        aws.kms_key("ECC_NIST_P256")?,
    );
    let stranger = aws.user("stranger", NOTHING)?;
    for (key, algorithm) in [(&ours, "ED25519_SHA_512"), (&motos, "ECDSA_SHA_256")] {
        assert_eq!(
            refusal(aws.call(&stranger, &Kms::sign_call(key, algorithm, b"x"))).0,
            403
        );
        assert!(
            kms.refusal(key, algorithm, &[0; 4097])
                .contains("ValidationException"),
            "{algorithm}"
        );
        aws.account(ACCOUNT).disable_kms_key(key)?;
        assert!(
            kms.refusal(key, algorithm, b"x")
                .contains("DisabledException"),
            "{algorithm}"
        );
    }
    Ok(())
}

#[test]
fn kms_signs_with_ed25519_until_it_is_told_to_be_wrong() -> Result<()> {
    let lab = Lab::new()?;
    let aws = lab.aws()?;
    let kms = Kms::of(aws)?;
    let key = aws.kms_key("ECC_NIST_EDWARDS25519")?;
    assert!(
        kms.refusal(&key, "ECDSA_SHA_256", b"x")
            .contains("InvalidKeyUsageException")
    );
    let public = kms.public_key(&key)?;
    let right = kms.sign(&key, "ED25519_SHA_512", b"message")?;
    public
        .verify_strict(b"message", &right)
        .expect("a right signature");
    aws.standin()
        .faults()
        .set("kms:Sign", Fault::WrongSignature, Times::Next(1));
    let wrong = kms.sign(&key, "ED25519_SHA_512", b"message")?;
    assert!(
        public.verify_strict(b"message", &wrong).is_err(),
        "the fault did not strike"
    );
    Ok(())
}
