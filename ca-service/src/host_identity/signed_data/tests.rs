//! Signatures that must not count, and AWS's own form.

use super::*;
use crate::host_identity::region_certificates::RegionCertificates;
use crate::testing::metadata_signer::{DSA_WITH_SHA_1, Form, MetadataSigner, SHA_1, tlv};

const DOCUMENT: &[u8] = b"{\n  \"instanceId\" : \"i-1\"\n}";
const NOW: u64 = 1_800_000_000;

fn keys(signer: &MetadataSigner) -> Vec<Vec<u8>> {
    let mut certificates = RegionCertificates::default();
    let region = "eu-west-1".parse().unwrap();
    certificates.add(region, signer.pem.as_bytes()).unwrap();
    certificates.keys(region, NOW)
}

#[test]
fn a_document_with_any_byte_changed_is_refused() {
    // E-01
    let signer = MetadataSigner::new();
    let (keys, signature) = (keys(&signer), signer.sign(DOCUMENT));
    assert_eq!(verify(&signature, DOCUMENT, &keys), Ok(()));
    for at in 0..DOCUMENT.len() {
        let mut changed = DOCUMENT.to_vec();
        changed[at] ^= 1;
        assert_eq!(
            verify(&signature, &changed, &keys),
            Err(InvalidSignedData::OtherContent),
            "{at}"
        );
    }
    let reformatted = b"{ \"instanceId\" : \"i-1\" }";
    assert!(verify(&signature, reformatted, &keys).is_err());
}

#[test]
fn no_byte_of_the_signature_can_change_what_it_covers() {
    // E-02: the fields that nothing covers (version, the signer's name) may change, the verdict may not.
    let signer = MetadataSigner::new();
    let (keys, signature) = (keys(&signer), signer.sign(DOCUMENT));
    for at in 0..signature.len() {
        let mut changed = signature.clone();
        changed[at] ^= 0x10;
        if verify(&changed, DOCUMENT, &keys).is_ok() {
            assert!(verify(&changed, b"other", &keys).is_err(), "{at}");
        }
        assert!(
            verify(&signature[..at], DOCUMENT, &keys).is_err(),
            "cut at {at}"
        );
    }
    assert!(verify(&[&signature[..], b"\0"].concat(), DOCUMENT, &keys).is_err());
}

#[test]
fn a_signature_by_another_key_is_refused_whatever_certificates_it_brings() {
    // E-02, E-03
    let (aws, attacker) = (MetadataSigner::new(), MetadataSigner::new());
    let signature = attacker.sign(DOCUMENT);
    assert_eq!(
        verify(&signature, DOCUMENT, &keys(&aws)),
        Err(InvalidSignedData::Wrong)
    );
    assert_eq!(
        verify(&signature, DOCUMENT, &[]),
        Err(InvalidSignedData::Wrong)
    );
}

#[test]
fn several_signers_or_none_are_refused() {
    // E-02
    let signer = MetadataSigner::new();
    for signers in [0, 2, 3] {
        let form = Form {
            signers,
            ..Form::of_aws(DOCUMENT)
        };
        let signature = signer.sign_as(DOCUMENT, &form);
        assert_eq!(
            verify(&signature, DOCUMENT, &keys(&signer)),
            Err(InvalidSignedData::Signers),
            "{signers}"
        );
    }
}

#[test]
fn dsa_and_sha_1_are_refused_with_the_reason() {
    // E-02: the form of the `pkcs7` endpoint.
    let signer = MetadataSigner::new();
    let dsa = Form {
        signature_algorithm: DSA_WITH_SHA_1.to_vec(),
        ..Form::of_aws(DOCUMENT)
    };
    let sha1 = Form {
        digest_algorithm: SHA_1.to_vec(),
        ..Form::of_aws(DOCUMENT)
    };
    for form in [dsa, sha1] {
        let signature = signer.sign_as(DOCUMENT, &form);
        let refused = verify(&signature, DOCUMENT, &keys(&signer)).unwrap_err();
        assert_eq!(refused, InvalidSignedData::Obsolete);
        assert!(refused.to_string().contains("rsa2048"));
    }
}

#[test]
fn attached_content_must_be_the_document_and_attributes_must_be_about_it() {
    // E-02
    let signer = MetadataSigner::new();
    let keys = keys(&signer);
    let other = Form {
        attached: Some(b"other".to_vec()),
        ..Form::of_aws(DOCUMENT)
    };
    let lie = Form {
        digest: Some(vec![7; 32]),
        ..Form::of_aws(DOCUMENT)
    };
    for form in [other, lie] {
        let signature = signer.sign_as(DOCUMENT, &form);
        assert_eq!(
            verify(&signature, DOCUMENT, &keys),
            Err(InvalidSignedData::OtherContent)
        );
    }
    let detached = Form {
        attached: None,
        ..Form::of_aws(DOCUMENT)
    };
    assert_eq!(
        verify(&signer.sign_as(DOCUMENT, &detached), DOCUMENT, &keys),
        Ok(())
    );
    let bare = Form {
        attributes: false,
        ..Form::of_aws(DOCUMENT)
    };
    assert_eq!(
        verify(&signer.sign_as(DOCUMENT, &bare), DOCUMENT, &keys),
        Ok(())
    );
}

#[test]
fn garbage_is_refused_without_work() {
    // G-07
    for bad in [
        b"".to_vec(),
        b"MIAG".to_vec(),
        tlv(0x30, b""),
        vec![0x30; 20_000],
        [0x30, 0x80].repeat(8_000),
    ] {
        assert!(verify(&bad, DOCUMENT, &[]).is_err());
    }
}
