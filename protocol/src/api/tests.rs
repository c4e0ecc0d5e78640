//! Tests of the API's bodies: strict reading, and that every field is under the signature.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use signature::Signer as _;
use ssh_key::PrivateKey;

use super::host_certificate::evidence::{EnrolmentToken, IdentitySignature, WebIdentityToken};
use super::host_certificate::*;
use super::host_certification::*;
use super::host_keys::*;
use super::host_report::*;
use super::revocation::*;
use super::trust_bundle::*;
use crate::base64_text::Base64Bytes;
use crate::cert::tests::{private_key, subject};
use crate::grant::Nonce;
use crate::key_fingerprint::KeyFingerprint;
use crate::proof::{Audience, CanonicalRequest, Signed};
use crate::sshsig::{InvalidSignature, Namespace, blob, signed_data};

const NOW: u64 = 1_800_000_000;
const ID: &str = "00112233445566778899aabbccddeeff";

fn audience() -> Audience {
    "https://ca.example".parse().unwrap()
}

fn sign(key: &PrivateKey, message: &[u8]) -> Base64Bytes {
    let signature = key.try_sign(&signed_data(Namespace::Request, message));
    Base64Bytes(blob(Namespace::Request, &subject(key), &signature.unwrap()).unwrap())
}

/// Every way to write a member twice, or one that nobody knows, at the top.
fn assert_strict<T: DeserializeOwned + Serialize>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    assert!(serde_json::from_str::<T>(&text).is_ok(), "{text}");
    let first = text.split('"').nth(1).unwrap();
    let members = serde_json::to_value(value).unwrap();
    let repeated = format!("{{\"{first}\":{},", members[first]);
    for bad in [
        text.replacen('{', &repeated, 1),
        text.replacen('{', "{\"unknown\":1,", 1),
        format!("{text} 1"),
        text.replacen('{', "[", 1),
    ] {
        assert!(serde_json::from_str::<T>(&bad).is_err(), "{bad}");
    }
}

fn digest<R: Signed>(request: &R) -> String {
    CanonicalRequest::of(&audience(), request).digest().to_hex()
}

// === revocations ===

fn targets() -> Vec<RevocationTarget> {
    let key = subject(&private_key());
    let ca = KeyFingerprint::of_blob(key.blob());
    let certificate = format!("ssh-ed25519-cert-v01@openssh.com {}", "A".repeat(400));
    vec![
        RevocationTarget::Serial {
            ca,
            serial: "77".parse().unwrap(),
        },
        RevocationTarget::RequestId(ID.parse().unwrap()),
        RevocationTarget::PublicKey(key),
        RevocationTarget::Fingerprint(ca),
        RevocationTarget::Certificate(certificate.try_into().unwrap()),
        RevocationTarget::Caller("arn:aws:iam::111122223333:user/eve".parse().unwrap()),
        RevocationTarget::Host("i-0123456789abcdef0".parse().unwrap()),
        RevocationTarget::CaKey(ca),
    ]
}

fn revocation(target: RevocationTarget) -> RevocationRequest {
    RevocationRequest {
        protocol: 1,
        target,
        reason: "lost laptop".parse().unwrap(),
    }
}

#[test]
fn a_revocation_names_exactly_one_target_and_a_reason() {
    let both = format!(
        r#"{{"protocol":1,"target":{{"host":"i-01234567","request-id":"{ID}"}},"reason":"x"}}"#
    );
    for bad in [
        both.as_str(),
        r#"{"protocol":1,"target":{},"reason":"x"}"#,
        r#"{"protocol":1,"target":{"host":"i-01234567"}}"#,
        r#"{"protocol":1,"target":{"host":"i-01234567"},"reason":""}"#,
        r#"{"protocol":1,"target":{"host":"*"},"reason":"x"}"#,
        r#"{"protocol":1,"target":{"serial":{"serial":"5"}},"reason":"x"}"#,
        r#"{"protocol":1,"target":{"caller":"a\nb"},"reason":"x"}"#,
        r#"{"protocol":1,"target":{"certificate":"ssh-ed25519 AAAA"},"reason":"x"}"#,
    ] {
        assert!(
            serde_json::from_str::<RevocationRequest>(bad).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn each_target_is_read_strictly_and_signed_differently() {
    let mut digests = BTreeSet::new();
    for target in targets() {
        let request = revocation(target);
        assert_strict(&request);
        let json = serde_json::to_value(&request).unwrap();
        assert!(
            json["target"].get(request.target.kind()).is_some(),
            "{json}"
        );
        assert!(digests.insert(digest(&request)));
    }
    let mut other = revocation(RevocationTarget::RequestId(ID.parse().unwrap()));
    let before = digest(&other);
    other.reason = "another".parse().unwrap();
    assert_ne!(before, digest(&other));
}

// === host certificates ===

fn token() -> WebIdentityToken {
    "eyJh.canary.c2ln".parse().unwrap()
}

fn evidence() -> Vec<HostEvidence> {
    let proof = serde_json::json!({"region": "eu-central-1", "access_key_id": "ASIAEXAMPLEEXAMPLE00",
        "date": "20270115T080000Z", "signature": "0".repeat(64)});
    let identity = |signature| HostEvidence::InstanceIdentity {
        document: Base64Bytes(b"{}".to_vec()),
        signature,
        proof: serde_json::from_value(proof.clone()).unwrap(),
    };
    let bytes = || Base64Bytes(vec![1, 2, 3]);
    vec![
        HostEvidence::WebIdentity(token()),
        identity(IdentitySignature::Rsa2048(bytes())),
        identity(IdentitySignature::Pkcs7(bytes())),
        HostEvidence::EnrolmentToken(EnrolmentToken::from_random([7; 32])),
        HostEvidence::EnrolledKey {},
    ]
}

fn host_request(keys: &[&PrivateKey], evidence: HostEvidence) -> HostCertificateRequest {
    let unsigned = |key: &&PrivateKey| HostKeyProof {
        public_key: subject(key),
        signature: Base64Bytes::default(),
    };
    let mut request = HostCertificateRequest {
        protocol: 1,
        instance: "i-0123456789abcdef0".parse().unwrap(),
        time: NOW,
        nonce: Nonce::from_random([1; 16]),
        host_keys: keys.iter().map(unsigned).collect(),
        previous_key: None,
        challenge: None,
        evidence,
    };
    sign_all(&mut request, keys);
    request
}

fn sign_all(request: &mut HostCertificateRequest, keys: &[&PrivateKey]) {
    let canonical = request.canonical(&audience());
    for proof in request
        .host_keys
        .iter_mut()
        .chain(&mut request.previous_key)
    {
        let key = keys.iter().find(|key| subject(key) == proof.public_key);
        if let Some(key) = key {
            proof.signature = sign(key, canonical.as_slice());
        }
    }
}

#[test]
fn a_host_key_that_did_not_sign_the_request_is_refused() {
    // E-13
    let (own, other) = (private_key(), private_key());
    let good = host_request(&[&own], HostEvidence::WebIdentity(token()));
    assert_eq!(good.check_possession(&audience()), Ok(()));
    let elsewhere: Audience = "https://other.example".parse().unwrap();
    assert_eq!(
        good.check_possession(&elsewhere),
        Err(InvalidSignature::Wrong)
    );
    let mut stolen = good.clone();
    stolen.host_keys[0].public_key = subject(&other);
    assert_eq!(
        stolen.check_possession(&audience()),
        Err(InvalidSignature::OtherKey)
    );
    // E-08: a new key in place of the enrolled one needs the enrolled one's signature.
    let mut replaced = good.clone();
    replaced.previous_key = Some(HostKeyProof {
        public_key: subject(&other),
        signature: Base64Bytes(vec![1]),
    });
    sign_all(&mut replaced, &[&own]);
    assert!(replaced.check_possession(&audience()).is_err());
    sign_all(&mut replaced, &[&own, &other]);
    assert_eq!(replaced.check_possession(&audience()), Ok(()));
}

#[test]
fn every_part_of_a_host_request_is_under_the_signature() {
    let key = private_key();
    let base = || host_request(&[&key], HostEvidence::WebIdentity(token()));
    let changes: Vec<fn(&mut HostCertificateRequest)> = vec![
        |r| r.protocol = 2,
        |r| r.instance = "i-0123456789abcdef1".parse().unwrap(),
        |r| r.time += 1,
        |r| r.nonce = Nonce::from_random([2; 16]),
        |r| r.challenge = Some(Nonce::from_random([2; 16])),
        |r| r.evidence = HostEvidence::WebIdentity("a.b.c".parse().unwrap()),
        |r| r.evidence = HostEvidence::EnrolledKey {},
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut changed = base();
        change(&mut changed);
        assert!(changed.check_possession(&audience()).is_err(), "{at}");
    }
    let digests: BTreeSet<_> = evidence()
        .into_iter()
        .map(|e| {
            host_request(&[&key], e)
                .canonical(&audience())
                .digest()
                .to_hex()
        })
        .collect();
    assert_eq!(digests.len(), evidence().len());
}

#[test]
fn host_requests_are_read_strictly_and_bounded() {
    let key = private_key();
    for evidence in evidence() {
        let request = host_request(&[&key], evidence);
        assert_strict(&request);
        let body = serde_json::to_vec(&request).unwrap();
        assert!(HostCertificateRequest::parse(&body).is_ok());
    }
    let parse = |keys: &[&PrivateKey]| {
        let request = host_request(keys, HostEvidence::EnrolledKey {});
        HostCertificateRequest::parse(&serde_json::to_vec(&request).unwrap()).err()
    };
    assert_eq!(parse(&[]), Some(InvalidHostRequest::Keys));
    assert_eq!(
        parse(&[&key, &private_key()]),
        Some(InvalidHostRequest::Keys)
    );
    // Of too many keys none is looked at beyond the fourth: strangers would have a server test long keys by the dozen.
    let mut many =
        serde_json::to_value(host_request(&[&key], HostEvidence::EnrolledKey {})).unwrap();
    let keys = many["host_keys"].as_array_mut().unwrap();
    keys.resize(4, keys[0].clone());
    keys.push(serde_json::json!("no key at all"));
    let refused = HostCertificateRequest::parse(&serde_json::to_vec(&many).unwrap());
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("at most 4 host keys"), "{text}");
    let huge = vec![b' '; MAX_REQUEST + 1];
    assert!(matches!(
        HostCertificateRequest::parse(&huge),
        Err(InvalidHostRequest::TooLarge)
    ));
    assert!(HostCertificateRequest::parse(b"<html>").is_err());
}

#[test]
fn tokens_of_another_form_are_refused_and_never_shown() {
    // G-11
    for bad in ["", "a.b", "a.b.c.d", "a..c", "a.b.c=", "a.b.c\n"] {
        assert!(bad.parse::<WebIdentityToken>().is_err(), "{bad:?}");
    }
    let huge = format!("a.{}.c", "b".repeat(16 * 1024));
    assert!(huge.parse::<WebIdentityToken>().is_err());
    let enrolment = EnrolmentToken::from_random([7; 32]);
    for bad in ["", "eic-enrol-00", &enrolment.reveal().to_uppercase()] {
        let refused = bad.parse::<EnrolmentToken>().unwrap_err();
        assert!(bad.is_empty() || !refused.to_string().contains(bad));
    }
    assert_eq!(enrolment.reveal().parse(), Ok(enrolment.clone()));
    assert!(!enrolment.reveal().contains(&enrolment.digest()));
    let shown = format!("{:?}", evidence());
    assert!(
        !shown.contains("canary") && !shown.contains("0707"),
        "{shown}"
    );
}

// === legacy hosts' keys, and keys that a caller has certified ===

#[test]
fn a_signature_for_one_route_is_none_for_the_other() {
    let key = private_key();
    let request = host_request(&[&key], HostEvidence::WebIdentity(token()));
    let mut known = HostKeysRequest(request.clone());
    assert_eq!(
        known.check_possession(&audience()),
        Err(InvalidSignature::Wrong)
    );
    let canonical = known.canonical(&audience());
    known.0.host_keys[0].signature = sign(&key, canonical.as_slice());
    assert_eq!(known.check_possession(&audience()), Ok(()));
    assert!(known.0.check_possession(&audience()).is_err());
    assert_strict(&known);
    let body = serde_json::to_vec(&known).unwrap();
    assert!(HostKeysRequest::parse(&body).is_ok());
    // What an agent signs before it has the evidence is what is checked.
    let keys = [subject(&key)];
    let binding = HostCertificateBinding {
        protocol: request.protocol,
        instance: &request.instance,
        time: request.time,
        nonce: &request.nonce,
        host_keys: &keys,
        previous_key: None,
        challenge: None,
        evidence: request.evidence.bound(),
    };
    assert_eq!(
        digest(&HostKeysBinding(binding)),
        canonical.digest().to_hex()
    );
}

fn certification(host: &PrivateKey, caller: &PrivateKey) -> HostCertificationRequest {
    let mut request = HostCertificationRequest {
        protocol: 1,
        instance: "mi-0123456789abcdef0".parse().unwrap(),
        time: NOW,
        nonce: Nonce::from_random([1; 16]),
        host_key: HostKeyProof {
            public_key: subject(host),
            signature: Base64Bytes::default(),
        },
        ttl_seconds: Some(3_600),
        reason: Some("image build".parse().unwrap()),
    };
    let consent = request.consent(&audience(), &subject(caller));
    request.host_key.signature = sign(host, consent.as_slice());
    request
}

#[test]
fn a_host_key_consents_to_one_caller_host_and_moment() {
    // E-13
    let (host, caller, other) = (private_key(), private_key(), private_key());
    let good = certification(&host, &caller);
    let held = |request: &HostCertificationRequest, caller: &PrivateKey| {
        request.check_possession(&audience(), &subject(caller))
    };
    assert_eq!(held(&good, &caller), Ok(()));
    assert_eq!(held(&good, &other), Err(InvalidSignature::Wrong));
    let changes: [fn(&mut HostCertificationRequest); 3] = [
        |r| r.instance = "mi-0123456789abcdef1".parse().unwrap(),
        |r| r.time += 1,
        |r| r.nonce = Nonce::from_random([2; 16]),
    ];
    for change in changes {
        let mut changed = good.clone();
        change(&mut changed);
        assert_eq!(held(&changed, &caller), Err(InvalidSignature::Wrong));
    }
    let mut stolen = good.clone();
    stolen.host_key.public_key = subject(&other);
    assert_eq!(held(&stolen, &caller), Err(InvalidSignature::OtherKey));
    // The caller's own signature over the request is none of the host's.
    let granted = CanonicalRequest::of(&audience(), &good);
    let consent = good.consent(&audience(), &subject(&caller));
    assert_ne!(granted.as_slice(), consent.as_slice());
}

#[test]
fn every_part_of_a_certification_is_under_the_callers_signature() {
    let (host, caller) = (private_key(), private_key());
    let good = certification(&host, &caller);
    assert_strict(&good);
    let changes: [fn(&mut HostCertificationRequest); 8] = [
        |r| r.protocol = 2,
        |r| r.instance = "i-0123456789abcdef0".parse().unwrap(),
        |r| r.time += 1,
        |r| r.nonce = Nonce::from_random([2; 16]),
        |r| r.host_key.public_key = subject(&private_key()),
        |r| r.host_key.signature = Base64Bytes(vec![1]),
        |r| r.ttl_seconds = None,
        |r| r.reason = None,
    ];
    let mut digests = BTreeSet::from([digest(&good)]);
    for change in changes {
        let mut changed = good.clone();
        change(&mut changed);
        assert!(digests.insert(digest(&changed)));
    }
}

// === host reports ===

fn login() -> AcceptedLogin {
    AcceptedLogin {
        user: "ubuntu".parse().unwrap(),
        by: Credential::Certificate {
            serial: ReportedSerial(0),
            key_id: "eic:user/alice:00".parse().unwrap(),
            ca: KeyFingerprint::from_hash([1; 32]),
        },
        source: Some("192.0.2.7".parse().unwrap()),
        source_port: Some(50_000),
        audit_session: Some(12),
        started: NOW - 100,
        ended: Some(NOW),
    }
}

fn report() -> HostReport {
    HostReport {
        protocol: 1,
        instance: "i-0123456789abcdef0".parse().unwrap(),
        time: NOW,
        nonce: Nonce::from_random([1; 16]),
        versions: HostVersions {
            agent: "0.1.0".parse().unwrap(),
            sshd: "OpenSSH_9.2p1 Debian-2+deb12u10".parse().unwrap(),
            os: Some("Debian GNU/Linux 12".parse().unwrap()),
        },
        trust: TrustReport {
            root_version: 3,
            bundle_sequence: Some(77),
            krl_number: Some(12),
            view_version: Some(4),
            host_certificate_ends: Some(NOW + 1_000),
            health: Health::Degraded,
            reasons: vec!["the disk is full".parse().unwrap()],
        },
        clock_offset_ms: Some(-250),
        ssh_ports: BTreeSet::from([22]),
        ways_in: BTreeSet::from([WayIn::Certificates, WayIn::UserKeyFiles]),
        logins: vec![login()],
        lost_logins: 0,
    }
}

fn signed_report(report: HostReport, key: &PrivateKey) -> SignedHostReport {
    let canonical = CanonicalRequest::of(&audience(), &report);
    SignedHostReport {
        signature: sign(key, canonical.as_slice()),
        host_key: subject(key),
        report,
    }
}

#[test]
fn every_part_of_a_report_is_under_the_signature() {
    let key = private_key();
    let signed = signed_report(report(), &key);
    assert_eq!(signed.check_signature(&audience()), Ok(()));
    let fingerprint = KeyFingerprint::from_hash([1; 32]);
    type Change = Box<dyn Fn(&mut HostReport)>;
    let changes: Vec<Change> = vec![
        Box::new(|r| r.protocol = 2),
        Box::new(|r| r.instance = "i-0123456789abcdef1".parse().unwrap()),
        Box::new(|r| r.time += 1),
        Box::new(|r| r.nonce = Nonce::from_random([2; 16])),
        Box::new(|r| r.versions.agent = "0.2.0".parse().unwrap()),
        Box::new(|r| r.versions.sshd = "x".parse().unwrap()),
        Box::new(|r| r.versions.os = None),
        Box::new(|r| r.trust.root_version = 4),
        Box::new(|r| r.trust.bundle_sequence = None),
        Box::new(|r| r.trust.krl_number = Some(13)),
        Box::new(|r| r.trust.view_version = None),
        Box::new(|r| r.trust.host_certificate_ends = None),
        Box::new(|r| r.trust.health = Health::Healthy),
        Box::new(|r| r.trust.reasons.clear()),
        Box::new(|r| r.clock_offset_ms = Some(250)),
        Box::new(|r| r.ssh_ports = BTreeSet::from([2222])),
        Box::new(|r| r.ways_in.clear()),
        Box::new(|r| r.logins.clear()),
        Box::new(|r| r.lost_logins = 1),
        Box::new(|r| r.logins[0].user = "root".parse().unwrap()),
        Box::new(move |r| r.logins[0].by = Credential::Key { fingerprint }),
        Box::new(|r| r.logins[0].source = None),
        Box::new(|r| r.logins[0].source_port = None),
        Box::new(|r| r.logins[0].audit_session = None),
        Box::new(|r| r.logins[0].started -= 1),
        Box::new(|r| r.logins[0].ended = None),
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut changed = signed.clone();
        change(&mut changed.report);
        assert_eq!(
            changed.check_signature(&audience()),
            Err(InvalidSignature::Wrong),
            "{at}"
        );
    }
    let mut other = signed;
    other.host_key = subject(&private_key());
    assert_eq!(
        other.check_signature(&audience()),
        Err(InvalidSignature::OtherKey)
    );
}

#[test]
fn reports_are_read_strictly_and_bounded() {
    let key = private_key();
    let parse = |change: fn(&mut HostReport)| {
        let mut report = report();
        change(&mut report);
        let body = serde_json::to_vec(&signed_report(report, &key)).unwrap();
        SignedHostReport::parse(&body).err()
    };
    assert_strict(&report());
    assert_strict(&signed_report(report(), &key));
    assert_strict(&login());
    assert_eq!(parse(|_| {}), None);
    assert_eq!(
        parse(|r| r.logins = vec![login(); MAX_LOGINS + 1]),
        Some(InvalidHostReport::Value("logins"))
    );
    assert_eq!(
        parse(|r| r.ssh_ports = BTreeSet::from([0])),
        Some(InvalidHostReport::Value("ports"))
    );
    assert_eq!(
        parse(|r| r.ssh_ports.clear()),
        Some(InvalidHostReport::Value("ports"))
    );
    assert_eq!(
        parse(|r| r.logins[0].ended = Some(1)),
        Some(InvalidHostReport::Value("times of a login"))
    );
    assert_eq!(
        parse(|r| r.trust.reasons = vec!["x".parse().unwrap(); 33]),
        Some(InvalidHostReport::Value("reasons"))
    );
    let text = serde_json::to_string(&signed_report(report(), &key)).unwrap();
    for bad in [
        text.replace(r#""serial":"0""#, r#""serial":"00""#),
        text.replace(r#""serial":"0""#, r#""serial":0"#),
        text.replace("certificates", "telnet"),
        text.replace("ubuntu", "ub\\nuntu"),
        text.replace("-250", "1e400"),
    ] {
        assert_ne!(bad, text);
        let refused = SignedHostReport::parse(bad.as_bytes());
        assert!(matches!(refused, Err(InvalidHostReport::Form(_))), "{bad}");
    }
    assert_eq!(
        SignedHostReport::parse(&vec![b' '; MAX_REPORT + 1]),
        Err(InvalidHostReport::TooLarge)
    );
    let deep = "[".repeat(10_000);
    assert!(SignedHostReport::parse(deep.as_bytes()).is_err());
}

// === trust bundle ===

fn answer() -> TrustBundleResponse {
    let envelope = |text: &str| crate::trust::envelope::Envelope {
        signed: Base64Bytes(text.as_bytes().to_vec()),
        signatures: Vec::new(),
    };
    TrustBundleResponse {
        roots: vec![envelope("root")],
        bundle: envelope("bundle"),
        view: Some(envelope("view")),
    }
}

#[test]
fn what_is_no_trust_bundle_is_refused() {
    // F-20
    for bad in [
        &b""[..],
        b"<html>",
        b"{}",
        b"null",
        b"[]",
        b"{\"roots\":[]}",
    ] {
        assert_eq!(TrustBundleResponse::parse(bad), Err(NotTrustBundle::Form));
    }
    assert_eq!(
        TrustBundleResponse::parse(&vec![b' '; MAX_RESPONSE + 1]),
        Err(NotTrustBundle::TooLarge)
    );
    let mut many = answer();
    many.roots = vec![many.bundle.clone(); 1_025];
    assert_eq!(
        TrustBundleResponse::parse(&serde_json::to_vec(&many).unwrap()),
        Err(NotTrustBundle::TooLarge)
    );
    let body = serde_json::to_vec(&answer()).unwrap();
    assert_eq!(TrustBundleResponse::parse(&body), Ok(answer()));
}

#[test]
fn the_entity_tag_follows_the_documents_and_nothing_else() {
    let tag = answer().entity_tag();
    assert_eq!(tag.to_string().parse(), Ok(tag));
    let mut moved = answer();
    moved.roots.clear();
    moved.bundle = answer().roots[0].clone();
    let mut without = answer();
    without.view = None;
    assert!(moved.entity_tag() != tag && without.entity_tag() != tag);
    let text = tag.to_string();
    for bad in [
        "",
        "*",
        &format!("W/{text}"),
        &text.to_uppercase(),
        &text.replace('"', ""),
        &format!("{text}, {text}"),
    ] {
        assert!(bad.parse::<EntityTag>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_long_poll_is_bounded() {
    let query: TrustBundleQuery = serde_json::from_str(r#"{"root":3,"wait":86400}"#).unwrap();
    assert_eq!(query.wait_seconds(), MAX_WAIT);
    assert_eq!(TrustBundleQuery::default().wait_seconds(), 0);
    assert!(serde_json::from_str::<TrustBundleQuery>(r#"{"wait":1,"more":1}"#).is_err());
}
