//! Chains that must not lead to a trusted signer, then those that do.

use super::*;
use crate::instance_connect::record;
use crate::instance_connect::test_pki::{
    Authority, GOOD, NOW, SIGNER, Staple, World, ed25519_line, good_record, other_rsa_key, pem,
    sign_pss, sign_rsa, signer_key, unsigned, wrapped,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, DnValue, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

fn name() -> SignerName {
    SignerName::new(b"us-east-1a", b"amazonaws.com").unwrap()
}

fn roots(authority: &Authority) -> Roots {
    Roots::from_pem(pem(&[&authority.der]).as_bytes()).unwrap()
}

fn verify(chain: &str, root: &Authority) -> Result<Path, UntrustedSigner> {
    Chain::from_pem(chain.as_bytes())?.verify(&roots(root), &name(), NOW)
}

/// The world with a changed intermediate.
fn with_intermediate(change: impl FnOnce(&mut CertificateParams)) -> Result<Path, UntrustedSigner> {
    let root = Authority::root("Test Root");
    let intermediate = root.under("Test Intermediate", change);
    let leaf = intermediate.leaf(signer_key(), |_| {});
    verify(&pem(&[&leaf, &intermediate.der, &root.der]), &root)
}

/// The world with a changed signer.
fn with_leaf(change: impl FnOnce(&mut CertificateParams)) -> Result<Path, UntrustedSigner> {
    let world = World::new();
    let leaf = world.intermediate.leaf(signer_key(), change);
    verify(
        &pem(&[&leaf, &world.intermediate.der, &world.root.der]),
        &world.root,
    )
}

fn common_name(params: &mut CertificateParams, value: impl Into<DnValue>) {
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, value);
}

#[test]
fn signers_with_another_name_are_refused() {
    // I-10
    for wrong in [
        "managed-ssh-signer.eu-west-1.amazonaws.com",
        "*.us-east-1.amazonaws.com",
        "managed-ssh-signer.us-east-1.amazonaws.com.evil.example",
        "x managed-ssh-signer.us-east-1.amazonaws.com",
        "CN = managed-ssh-signer.us-east-1.amazonaws.com",
        "Managed-ssh-signer.us-east-1.amazonaws.com",
        "managed-ssh-signer.us-east-1.amazonaws.com\0",
        "",
    ] {
        let outcome = with_leaf(|params| common_name(params, wrong));
        assert!(matches!(outcome, Err(UntrustedSigner::Name)), "{wrong:?}");
    }
}

#[test]
fn a_signer_without_a_common_name_is_refused() {
    // The right name among the alternative names does not count.
    assert!(matches!(
        with_leaf(|p| _ = p.distinguished_name.remove(DnType::CommonName)),
        Err(UntrustedSigner::Name)
    ));
}

#[test]
fn a_signer_with_two_common_names_is_refused() {
    // I-10: both orders
    let second = || DnType::CustomDnType(vec![2, 5, 4, 3]);
    assert!(matches!(
        with_leaf(|p| p.distinguished_name.push(second(), "evil")),
        Err(UntrustedSigner::Name)
    ));
    let first_evil = |p: &mut CertificateParams| {
        common_name(p, "evil");
        p.distinguished_name.push(second(), SIGNER);
    };
    assert!(matches!(with_leaf(first_evil), Err(UntrustedSigner::Name)));
}

#[test]
fn the_name_in_another_attribute_is_refused() {
    let in_unit = |p: &mut CertificateParams| {
        common_name(p, "evil");
        p.distinguished_name
            .push(DnType::OrganizationalUnitName, format!("x, CN = {SIGNER}"));
    };
    assert!(matches!(with_leaf(in_unit), Err(UntrustedSigner::Name)));
}

#[test]
fn names_in_other_encodings_than_utf8_and_printable_are_refused() {
    let wide = rcgen::string::BmpString::try_from(SIGNER).unwrap();
    let teletex = rcgen::string::TeletexString::try_from(SIGNER).unwrap();
    let ia5 = rcgen::string::Ia5String::try_from(SIGNER).unwrap();
    for value in [
        DnValue::BmpString(wide),
        DnValue::TeletexString(teletex),
        DnValue::Ia5String(ia5),
    ] {
        let outcome = with_leaf(|p| common_name(p, value.clone()));
        assert!(matches!(outcome, Err(UntrustedSigner::Name)), "{value:?}");
    }
    let printable = rcgen::string::PrintableString::try_from(SIGNER).unwrap();
    assert!(with_leaf(|p| common_name(p, DnValue::PrintableString(printable))).is_ok());
}

#[test]
fn expired_and_future_signers_are_refused() {
    // I-13
    assert!(matches!(
        with_leaf(|p| p.not_after = date_time_ymd(2026, 6, 1)),
        Err(UntrustedSigner::Chain(_))
    ));
    assert!(matches!(
        with_leaf(|p| p.not_before = date_time_ymd(2026, 7, 1)),
        Err(UntrustedSigner::Chain(_))
    ));
}

#[test]
fn expired_intermediates_are_refused() {
    // I-13
    assert!(matches!(
        with_intermediate(|p| p.not_after = date_time_ymd(2026, 6, 1)),
        Err(UntrustedSigner::Chain(_))
    ));
}

#[test]
fn intermediates_that_are_no_ca_are_refused() {
    // I-13
    for not_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
        assert!(matches!(
            with_intermediate(|p| p.is_ca = not_ca),
            Err(UntrustedSigner::Chain(_))
        ));
    }
}

#[test]
fn intermediates_without_the_right_to_issue_are_refused() {
    // I-13: keyCertSign is missing
    let outcome = with_intermediate(|p| {
        p.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature]
    });
    assert!(matches!(outcome, Err(UntrustedSigner::Issuer)));
    let outcome = with_intermediate(|p| p.key_usages = Vec::new());
    assert!(matches!(outcome, Err(UntrustedSigner::Issuer)));
}

#[test]
fn chains_longer_than_their_path_length_are_refused() {
    // I-13
    let root = Authority::root("Test Root");
    let first = root.under("First", |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))
    });
    let second = first.under("Second", |_| {});
    let leaf = second.leaf(signer_key(), |_| {});
    let outcome = verify(&pem(&[&leaf, &second.der, &first.der, &root.der]), &root);
    assert!(matches!(outcome, Err(UntrustedSigner::Chain(_))));
}

#[test]
fn chains_to_another_root_are_refused() {
    // I-11: any CA of the system's store will not do, only the pinned ones
    let world = World::new();
    let namesake = Authority::root("Test Root");
    assert!(matches!(
        verify(&world.chain(), &namesake),
        Err(UntrustedSigner::Chain(_))
    ));
    let amazon = Roots::amazon().unwrap();
    let outcome = Chain::from_pem(world.chain().as_bytes())
        .unwrap()
        .verify(&amazon, &name(), NOW);
    assert!(matches!(outcome, Err(UntrustedSigner::Chain(_))));
}

#[test]
fn self_signed_signers_are_refused() {
    // I-13
    let world = World::new();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, SIGNER);
    let leaf = params.self_signed(signer_key()).unwrap();
    let outcome = verify(
        &pem(&[leaf.der(), &world.intermediate.der, &world.root.der]),
        &world.root,
    );
    assert!(matches!(outcome, Err(UntrustedSigner::Chain(_))));
}

#[test]
fn the_root_itself_is_no_signer() {
    let root = Authority::root(SIGNER);
    let outcome = verify(&pem(&[&root.der, &root.der]), &root);
    assert!(outcome.is_err());
}

#[test]
fn a_broken_signature_in_the_chain_is_refused() {
    let world = World::new();
    let mut leaf = world.leaf.to_vec();
    let last = leaf.len() - 1;
    leaf[last] ^= 1;
    let leaf = CertificateDer::from(leaf);
    assert!(matches!(
        verify(&pem(&[&leaf, &world.intermediate.der]), &world.root),
        Err(UntrustedSigner::Chain(_))
    ));
}

#[test]
fn chains_without_their_intermediate_are_refused() {
    let world = World::new();
    assert!(matches!(
        verify(&pem(&[&world.leaf, &world.root.der]), &world.root),
        Err(UntrustedSigner::Chain(_))
    ));
}

#[test]
fn chains_in_reversed_order_are_refused() {
    // I-13: the first certificate is the signer, always
    let world = World::new();
    let outcome = verify(
        &pem(&[&world.root.der, &world.intermediate.der, &world.leaf]),
        &world.root,
    );
    assert!(matches!(outcome, Err(UntrustedSigner::Name)));
}

#[test]
fn chains_of_no_one_or_fifty_certificates_are_refused() {
    // I-13
    let world = World::new();
    assert!(matches!(verify("", &world.root), Err(UntrustedSigner::Pem)));
    assert!(matches!(
        verify("no certificates here\n", &world.root),
        Err(UntrustedSigner::Pem)
    ));
    assert!(matches!(
        verify(&pem(&[&world.leaf]), &world.root),
        Err(UntrustedSigner::Pem)
    ));
    let mut many = vec![&world.leaf, &world.intermediate.der];
    many.extend(std::iter::repeat_n(&world.intermediate.der, 48));
    assert!(matches!(
        verify(&pem(&many), &world.root),
        Err(UntrustedSigner::Pem)
    ));
}

#[test]
fn broken_pem_is_refused() {
    let world = World::new();
    let cut = world
        .chain()
        .replace("-----END CERTIFICATE-----\n-----BEGIN", "-----BEGIN");
    assert!(verify(&cut, &world.root).is_err());
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".repeat(2);
    assert!(matches!(
        verify(&garbage, &world.root),
        Err(UntrustedSigner::Chain(_))
    ));
}

#[test]
fn signers_whose_key_is_not_rsa_are_refused() {
    let world = World::new();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let leaf = world.intermediate.leaf(&key, |_| {});
    let outcome = verify(&pem(&[&leaf, &world.intermediate.der]), &world.root);
    assert!(matches!(outcome, Err(UntrustedSigner::Key)));
}

#[test]
fn signers_that_may_not_sign_are_refused() {
    let outcome = with_leaf(|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    assert!(matches!(outcome, Err(UntrustedSigner::Key)));
}

#[test]
fn signers_for_another_purpose_are_refused() {
    let outcome = with_leaf(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]);
    assert!(matches!(outcome, Err(UntrustedSigner::Chain(_))));
}

#[test]
fn a_ca_is_no_signer() {
    let outcome = with_leaf(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(matches!(outcome, Err(UntrustedSigner::Chain(_))));
}

#[test]
fn unknown_critical_extensions_are_refused() {
    let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    assert!(matches!(
        with_leaf(|p| p.custom_extensions.push(extension)),
        Err(UntrustedSigner::Chain(_))
    ));
}

#[test]
fn unrelated_certificates_do_no_harm() {
    // I-13: extra unrelated certificate
    let world = World::new();
    let stranger = Authority::root("Stranger");
    let path = verify(
        &pem(&[&world.leaf, &stranger.der, &world.intermediate.der]),
        &world.root,
    )
    .unwrap();
    assert_eq!(path.links().len(), 2);
}

#[test]
fn a_path_names_a_staple_for_each_certificate_but_the_root() {
    let world = World::new();
    let path = verify(&world.chain(), &world.root).unwrap();
    let names: Vec<String> = path.links().iter().map(Link::staple_name).collect();
    let sha1 = |der: &[u8]| -> String {
        digest(&SHA1_FOR_LEGACY_USE_ONLY, der)
            .as_ref()
            .iter()
            .map(|b| format!("{b:02X}"))
            .collect()
    };
    assert_eq!(names, [sha1(&world.leaf), sha1(&world.intermediate.der)]);
}

#[test]
fn signers_directly_under_a_root_and_under_three_cas_are_accepted() {
    let root = Authority::root("Test Root");
    let leaf = root.leaf(signer_key(), |_| {});
    assert_eq!(
        verify(&pem(&[&leaf, &root.der]), &root)
            .unwrap()
            .links()
            .len(),
        1
    );
    let first = root.under("First", |_| {});
    let second = first.under("Second", |_| {});
    let third = second.under("Third", |_| {});
    let leaf = third.leaf(signer_key(), |_| {});
    let path = verify(
        &pem(&[&leaf, &third.der, &second.der, &first.der, &root.der]),
        &root,
    )
    .unwrap();
    assert_eq!(path.links().len(), 4);
}

#[test]
fn missing_swapped_and_revoked_staples_are_refused() {
    // I-15
    let world = World::new();
    let path = || verify(&world.chain(), &world.root).unwrap();
    let staples = world.staples();
    assert!(matches!(
        path().unrevoked(&[], NOW),
        Err(UntrustedSigner::Staples)
    ));
    assert!(matches!(
        path().unrevoked(&staples[..1], NOW),
        Err(UntrustedSigner::Staples)
    ));
    let swapped = [staples[1].clone(), staples[0].clone()];
    assert!(matches!(
        path().unrevoked(&swapped, NOW),
        Err(UntrustedSigner::Revocation { .. })
    ));
    let mut revoked = Staple::new(&world.intermediate.der, &world.root);
    revoked.status = Staple::revoked();
    let second_revoked = [staples[0].clone(), revoked.der(&world.root.key)];
    assert!(matches!(
        path().unrevoked(&second_revoked, NOW),
        Err(UntrustedSigner::Revocation { .. })
    ));
    revoked.status = GOOD.to_vec();
    assert!(path().unrevoked(&staples, NOW).is_ok());
}

fn signer() -> Signer {
    let world = World::new();
    verify(&world.chain(), &world.root)
        .unwrap()
        .unrevoked(&world.staples(), NOW)
        .unwrap()
}

fn counts(signer: &Signer, text: &str) -> bool {
    let records = record::parse(text.as_bytes());
    records
        .first()
        .and_then(Option::as_ref)
        .is_some_and(|record| signer.has_signed(record))
}

#[test]
fn signatures_of_another_kind_are_refused() {
    // I-06: PKCS#1 v1.5, other hashes, another key, another record's
    use ring::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA384, RSA_PSS_SHA512};
    let signer = signer();
    let text = unsigned(&["#Timestamp=1", "#Instance=i-1"], &ed25519_line(1));
    let with = |signature: &[u8]| format!("{text}{}\n\n", wrapped(signature));
    let key = signer_key();
    assert!(!counts(
        &signer,
        &with(&sign_rsa(key, text.as_bytes(), &RSA_PKCS1_SHA256))
    ));
    assert!(!counts(
        &signer,
        &with(&sign_rsa(key, text.as_bytes(), &RSA_PKCS1_SHA512))
    ));
    assert!(!counts(
        &signer,
        &with(&sign_rsa(key, text.as_bytes(), &RSA_PSS_SHA384))
    ));
    assert!(!counts(
        &signer,
        &with(&sign_rsa(key, text.as_bytes(), &RSA_PSS_SHA512))
    ));
    assert!(!counts(
        &signer,
        &with(&sign_pss(other_rsa_key(), text.as_bytes()))
    ));
    assert!(!counts(&signer, &with(&sign_pss(key, b"another record\n"))));
    let mut flipped = sign_pss(key, text.as_bytes());
    flipped[0] ^= 1;
    assert!(!counts(&signer, &with(&flipped)));
    assert!(!counts(&signer, &with(&flipped[1..])));
    assert!(counts(&signer, &with(&sign_pss(key, text.as_bytes()))));
}

#[test]
fn signatures_with_another_salt_length_are_refused() {
    // I-06; ring cannot make these, openssl(1) can
    let signer = signer();
    let text = unsigned(&["#Timestamp=1", "#Instance=i-1"], &ed25519_line(1));
    for (salt, expected) in [
        ("0", false),
        ("20", false),
        ("31", false),
        ("33", false),
        ("max", false),
        ("32", true),
    ] {
        let signature = openssl_pss(&text, salt);
        assert_eq!(
            counts(&signer, &format!("{text}{}\n\n", wrapped(&signature))),
            expected,
            "salt {salt}"
        );
    }
}

fn openssl_pss(text: &str, salt: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (key, message) = (folder.path().join("key.pem"), folder.path().join("message"));
    std::fs::write(&key, signer_key().serialize_pem()).unwrap();
    std::fs::write(&message, text).unwrap();
    let output = std::process::Command::new("openssl")
        .args([
            "dgst",
            "-sha256",
            "-sigopt",
            "rsa_padding_mode:pss",
            "-sigopt",
            &format!("rsa_pss_saltlen:{salt}"),
            "-sign",
        ])
        .args([&key, &message])
        .output()
        .expect("openssl(1) is needed to make foreign signatures");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn a_changed_byte_anywhere_in_a_record_is_refused() {
    let signer = signer();
    let good = good_record(&ed25519_line(7));
    assert!(counts(&signer, &good));
    let signed_part = good.find("\nssh-ed25519").unwrap() + ed25519_line(7).len();
    for at in (0..signed_part).step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 1;
        let records = record::parse(&bytes);
        let accepted = records
            .first()
            .and_then(Option::as_ref)
            .is_some_and(|record| signer.has_signed(record));
        assert!(!accepted, "byte {at}");
    }
}
