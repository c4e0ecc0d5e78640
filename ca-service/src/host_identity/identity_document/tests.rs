//! Documents that must not count.

use eic_protocol::base64_text::Base64Bytes;

use super::*;
use crate::testing::metadata_signer::MetadataSigner;

const NOW: u64 = 1_800_000_000;

const DOCUMENT: &str = r#"{
  "accountId" : "111122223333",
  "architecture" : "x86_64",
  "availabilityZone" : "eu-west-1a",
  "billingProducts" : null,
  "imageId" : "ami-0123456789abcdef0",
  "instanceId" : "i-0123456789abcdef0",
  "pendingTime" : "2026-02-16T00:38:27Z",
  "privateIp" : "10.0.0.5",
  "region" : "eu-west-1",
  "version" : "2017-09-30"
}"#;

fn rsa2048(signer: &MetadataSigner, document: &[u8]) -> IdentitySignature {
    IdentitySignature::Rsa2048(Base64Bytes(signer.sign(document)))
}

#[test]
fn a_document_that_two_readers_could_read_differently_is_refused() {
    // E-01
    let twice = DOCUMENT.replace(
        "\"version\"",
        "\"instanceId\" : \"i-00000000000000bad\", \"version\"",
    );
    let region_twice = DOCUMENT.replace("\"version\"", "\"region\" : \"us-east-1\", \"version\"");
    for bad in [
        &twice,
        &region_twice,
        "",
        "{}",
        "[]",
        &DOCUMENT.replace("instanceId", "instanceid"),
        &DOCUMENT.replace("i-0123456789abcdef0", "i-../.."),
        &DOCUMENT.replace("111122223333", "1111"),
        &DOCUMENT.replace("eu-west-1\"", "eu-west-1.evil.com\""),
        &DOCUMENT.replace("10.0.0.5", "10.0.0.5, 10.0.0.6"),
        &DOCUMENT.replace("2026-02-16T00:38:27Z", "yesterday"),
        &format!("{DOCUMENT}{DOCUMENT}"),
        &format!("{DOCUMENT}{}", " ".repeat(MAX_DOCUMENT)),
    ] {
        assert!(parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn a_document_signed_for_another_region_is_refused() {
    // E-03
    let (ireland, virginia) = (MetadataSigner::new(), MetadataSigner::new());
    let mut certificates = RegionCertificates::default();
    certificates
        .add("eu-west-1".parse().unwrap(), ireland.pem.as_bytes())
        .unwrap();
    certificates
        .add("us-east-1".parse().unwrap(), virginia.pem.as_bytes())
        .unwrap();
    let document = DOCUMENT.as_bytes();
    let refused = verify(document, &rsa2048(&virginia, document), &certificates, NOW);
    assert_eq!(
        refused,
        Err(InvalidDocument::Signature(InvalidSignedData::Wrong))
    );
    let elsewhere = DOCUMENT.replace("eu-west-1", "ap-south-1");
    let refused = verify(
        elsewhere.as_bytes(),
        &rsa2048(&ireland, elsewhere.as_bytes()),
        &certificates,
        NOW,
    );
    assert_eq!(
        refused,
        Err(InvalidDocument::NoCertificate(
            "ap-south-1".parse().unwrap()
        ))
    );
}

#[test]
fn a_certificate_that_has_ended_verifies_nothing() {
    let signer = MetadataSigner::until(2021);
    let mut certificates = RegionCertificates::default();
    certificates
        .add("eu-west-1".parse().unwrap(), signer.pem.as_bytes())
        .unwrap();
    let document = DOCUMENT.as_bytes();
    let refused = verify(document, &rsa2048(&signer, document), &certificates, NOW);
    assert!(
        matches!(refused, Err(InvalidDocument::NoCertificate(_))),
        "{refused:?}"
    );
}

#[test]
fn a_document_with_its_regions_signature_is_taken() {
    let signer = MetadataSigner::new();
    let mut certificates = RegionCertificates::default();
    certificates
        .add("eu-west-1".parse().unwrap(), signer.pem.as_bytes())
        .unwrap();
    let document = DOCUMENT.as_bytes();
    let read = verify(document, &rsa2048(&signer, document), &certificates, NOW).unwrap();
    assert_eq!(read.instance.as_str(), "i-0123456789abcdef0");
    assert_eq!(
        (read.pending_time, read.private_ip.octets()),
        (1_771_202_307, [10, 0, 0, 5])
    );
}
