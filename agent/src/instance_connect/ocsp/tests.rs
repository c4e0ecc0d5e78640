//! Staples that must not count as "good", then those that do.

use super::*;
use crate::instance_connect::place::SignerName;
use crate::instance_connect::roots::Roots;
use crate::instance_connect::signer::{Chain, Path};
use crate::instance_connect::test_pki::{
    Authority, NOW, Staple, UNKNOWN, World, pem, signer_key, tlv,
};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    SigningKey as _, date_time_ymd,
};

fn path(world: &World) -> Path {
    let roots = Roots::from_pem(pem(&[&world.root.der]).as_bytes()).unwrap();
    let name = SignerName::new(b"us-east-1a", b"amazonaws.com").unwrap();
    Chain::from_pem(world.chain().as_bytes())
        .unwrap()
        .verify(&roots, &name, NOW)
        .unwrap()
}

/// What the first link makes of a staple.
fn verdict(world: &World, staple: &[u8]) -> Result<(), NotGood> {
    check(staple, &path(world).links()[0], NOW)
}

fn changed(change: impl FnOnce(&mut Staple)) -> Result<(), NotGood> {
    let world = World::new();
    let mut staple = Staple::new(&world.leaf, &world.intermediate);
    change(&mut staple);
    verdict(&world, &staple.der(&world.intermediate.key))
}

#[test]
fn revoked_and_unknown_certificates_are_refused() {
    assert!(matches!(
        changed(|s| s.status = Staple::revoked()),
        Err(NotGood::Revoked)
    ));
    assert!(matches!(
        changed(|s| s.status = UNKNOWN.to_vec()),
        Err(NotGood::Revoked)
    ));
    assert!(matches!(
        changed(|s| s.status = vec![0x80, 0x01, 0x00]),
        Err(NotGood::Revoked)
    ));
    assert!(matches!(
        changed(|s| s.status = tlv(0xa0, &[0x05, 0x00])),
        Err(NotGood::Revoked)
    ));
}

#[test]
fn answers_without_an_end_are_refused() {
    assert!(matches!(
        changed(|s| s.next_update = None),
        Err(NotGood::NoEnd)
    ));
}

#[test]
fn answers_are_current_within_300_seconds() {
    let at = |this, next| changed(|s| (s.this_update, s.next_update) = (this, Some(next)));
    assert!(matches!(at(NOW - 7200, NOW - 301), Err(NotGood::Stale)));
    assert!(at(NOW - 7200, NOW - 300).is_ok());
    assert!(matches!(at(NOW + 301, NOW + 7200), Err(NotGood::Stale)));
    assert!(at(NOW + 300, NOW + 7200).is_ok());
}

#[test]
fn unsuccessful_answers_are_refused() {
    for status in [1, 2, 3, 5, 6] {
        assert!(
            matches!(
                changed(|s| s.outer_status = status),
                Err(NotGood::Unsuccessful)
            ),
            "{status}"
        );
    }
}

#[test]
fn unknown_versions_and_critical_extensions_are_refused() {
    assert!(matches!(
        changed(|s| s.version = Some(1)),
        Err(NotGood::Unknown)
    ));
    assert!(matches!(
        changed(|s| s.critical_extension = true),
        Err(NotGood::Unknown)
    ));
    assert!(matches!(
        changed(|s| s.critical_extension_of_all = true),
        Err(NotGood::Unknown)
    ));
}

#[test]
fn answers_in_somebody_elses_name_are_refused() {
    // Signed by the issuer's key, but the responder is said to be another one, or none.
    for responder in [
        tlv(0xa1, &tlv(0x30, &[])),
        tlv(0xa2, &tlv(0x04, &[7; 20])),
        tlv(0xa2, &tlv(0x04, &[])),
        tlv(0xa3, &[]),
    ] {
        assert!(matches!(
            changed(|s| s.responder = responder),
            Err(NotGood::Signature)
        ));
    }
}

#[test]
fn answers_about_another_issuers_name_or_a_serial_of_another_type_are_refused() {
    assert!(matches!(
        changed(|s| s.issuer_name = tlv(0x30, &[])),
        Err(NotGood::OtherCertificate)
    ));
    assert!(matches!(
        changed(|s| s.serial[0] = 0x04),
        Err(NotGood::OtherCertificate)
    ));
}

#[test]
fn answers_about_another_certificate_are_refused() {
    let world = World::new();
    let neighbour = world
        .intermediate
        .leaf(signer_key(), |p| p.serial_number = Some(7.into()));
    let staple = Staple::new(&neighbour, &world.intermediate).der(&world.intermediate.key);
    assert!(matches!(
        verdict(&world, &staple),
        Err(NotGood::OtherCertificate)
    ));
}

#[test]
fn answers_about_a_namesake_issuers_certificate_are_refused() {
    // Same name and serial, another key: the key hash must match too.
    let world = World::new();
    let namesake = world.root.under("Test Intermediate", |_| {});
    let mut staple = Staple::new(&world.leaf, &namesake);
    assert!(matches!(
        verdict(&world, &staple.der(&world.intermediate.key)),
        Err(NotGood::OtherCertificate)
    ));
    staple.sha256_ids = true;
    assert!(matches!(
        verdict(&world, &staple.der(&world.intermediate.key)),
        Err(NotGood::OtherCertificate)
    ));
}

#[test]
fn two_answers_about_one_certificate_are_refused() {
    assert!(matches!(
        changed(|s| s.copies = 2),
        Err(NotGood::OtherCertificate)
    ));
    assert!(matches!(
        changed(|s| s.copies = 0),
        Err(NotGood::OtherCertificate)
    ));
}

#[test]
fn answers_signed_by_strangers_are_refused() {
    let world = World::new();
    let staple = Staple::new(&world.leaf, &world.intermediate);
    let stranger = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    assert!(matches!(
        verdict(&world, &staple.der(&stranger)),
        Err(NotGood::Signature)
    ));
    // Not even the issuer's own issuer may speak for it.
    assert!(matches!(
        verdict(&world, &staple.der(&world.root.key)),
        Err(NotGood::Signature)
    ));
}

#[test]
fn a_flipped_bit_in_the_answer_is_refused() {
    let world = World::new();
    let good = Staple::new(&world.leaf, &world.intermediate).der(&world.intermediate.key);
    for at in (0..good.len()).step_by(3) {
        let mut staple = good.clone();
        staple[at] ^= 4;
        assert!(verdict(&world, &staple).is_err(), "byte {at}");
    }
}

#[test]
fn unknown_and_weak_signature_algorithms_are_refused() {
    let world = World::new();
    let staple = Staple::new(&world.leaf, &world.intermediate);
    let sign = |data: &[u8]| world.intermediate.key.sign(data).unwrap();
    // ecdsa-with-SHA1, ecdsa-with-SHA384 over a SHA-256 signature, and none at all
    for algorithm in [
        tlv(
            0x30,
            &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01],
        ),
        tlv(
            0x30,
            &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03],
        ),
        tlv(0x30, &[]),
    ] {
        assert!(matches!(
            verdict(&world, &staple.der_with(&algorithm, sign)),
            Err(NotGood::Signature)
        ));
    }
}

#[test]
fn garbage_and_trailing_bytes_are_refused() {
    let world = World::new();
    let mut good = Staple::new(&world.leaf, &world.intermediate).der(&world.intermediate.key);
    for garbage in [
        b"".as_slice(),
        b"<html>",
        &[0x30, 0x80, 0, 0],
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &good[..good.len() - 1],
    ] {
        assert!(
            matches!(verdict(&world, garbage), Err(NotGood::Der(_))),
            "{garbage:02x?}"
        );
    }
    good.push(0);
    assert!(verdict(&world, &good).is_err());
}

/// A responder under `issuer`, and a staple signed by it.
fn delegated(
    world: &World,
    issuer: &Authority,
    change: impl FnOnce(&mut CertificateParams),
) -> Vec<u8> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let responder = issuer.leaf(&key, |params| {
        params.distinguished_name.remove(DnType::CommonName);
        params
            .distinguished_name
            .push(DnType::CommonName, "Responder");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        change(params);
    });
    Staple::new(&world.leaf, &world.intermediate)
        .delegated(responder)
        .der(&key)
}

#[test]
fn responders_that_the_issuer_did_not_appoint_are_refused() {
    let world = World::new();
    let elsewhere = Authority::root("Elsewhere");
    let namesake = elsewhere.under("Test Intermediate", |_| {});
    for staple in [
        delegated(&world, &world.intermediate, |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]
        }),
        delegated(&world, &world.intermediate, |p| {
            p.extended_key_usages = Vec::new()
        }),
        delegated(&world, &world.intermediate, |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]
        }),
        delegated(&world, &world.intermediate, |p| {
            p.not_after = date_time_ymd(2026, 6, 1)
        }),
        delegated(&world, &world.intermediate, |p| {
            p.not_before = date_time_ymd(2026, 7, 1)
        }),
        delegated(&world, &world.intermediate, |p| {
            p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)
        }),
        // Another issuer's responder, even the root's own, and one of an issuer with the same name.
        delegated(&world, &world.root, |_| {}),
        delegated(&world, &elsewhere, |_| {}),
        delegated(&world, &namesake, |_| {}),
    ] {
        assert!(matches!(verdict(&world, &staple), Err(NotGood::Signature)));
    }
}

#[test]
fn a_responder_beyond_the_first_four_certificates_is_not_looked_for() {
    let world = World::new();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let appointed = |p: &mut CertificateParams| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning]
    };
    let responder = world.intermediate.leaf(&key, appointed);
    let mut staple = Staple::new(&world.leaf, &world.intermediate).delegated(responder);
    staple
        .certificates
        .splice(0..0, std::iter::repeat_n(world.root.der.clone(), 4));
    assert!(matches!(
        verdict(&world, &staple.der(&key)),
        Err(NotGood::Signature)
    ));
}

#[test]
fn the_issuers_own_answer_is_accepted() {
    assert!(changed(|_| {}).is_ok());
    assert!(changed(|s| s.version = Some(0)).is_ok());
    assert!(changed(|s| s.sha256_ids = true).is_ok());
}

#[test]
fn a_responder_that_the_issuer_appointed_is_accepted() {
    let world = World::new();
    let staple = delegated(&world, &world.intermediate, |_| {});
    assert!(verdict(&world, &staple).is_ok());
}

#[test]
fn answers_made_by_openssl_are_accepted() {
    // The independent witness: a real responder's bytes, not our own encoder's.
    let world = World::new();
    let staple = openssl_answer(&world);
    let path = path(&world);
    let link = &path.links()[0];
    let now = crate::clock::unix_seconds().unwrap();
    check(&staple, link, now).unwrap();
    assert!(matches!(
        check(&staple, link, now + 3 * 86_400),
        Err(NotGood::Stale)
    ));
}

fn openssl_answer(world: &World) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    file("issuer.pem", &pem(&[&world.intermediate.der]));
    file("issuer.key", &world.intermediate.key.serialize_pem());
    file("leaf.pem", &pem(&[&world.leaf]));
    let serial: String = path(world).links()[0]
        .serial
        .iter()
        .skip_while(|b| **b == 0)
        .map(|b| format!("{b:02X}"))
        .collect();
    file(
        "index",
        &format!("V\t360101000000Z\t\t{serial}\tunknown\t/CN=x\n"),
    );
    let output = std::process::Command::new("openssl")
        .args([
            "ocsp",
            "-index",
            "index",
            "-CA",
            "issuer.pem",
            "-rsigner",
            "issuer.pem",
            "-rkey",
            "issuer.key",
            "-ndays",
            "1",
        ])
        .args([
            "-issuer",
            "issuer.pem",
            "-cert",
            "leaf.pem",
            "-no_nonce",
            "-noverify",
            "-respout",
            "staple",
        ])
        .current_dir(folder.path())
        .output()
        .expect("openssl(1) is needed as the witness");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::read(folder.path().join("staple")).unwrap()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        static PATH: std::sync::OnceLock<Path> = std::sync::OnceLock::new();
        let path = PATH.get_or_init(|| path(&World::new()));
        proptest::prop_assert!(check(&bytes, &path.links()[0], NOW).is_err());
    }
}
