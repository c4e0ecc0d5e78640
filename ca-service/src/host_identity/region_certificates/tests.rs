//! Certificates that must not be pinned.

use super::*;
use crate::testing::metadata_signer::MetadataSigner;

#[test]
fn a_folder_with_anything_but_aws_rsa_2048_certificates_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        RegionCertificates::load(folder.path()).unwrap_err(),
        CertificateError::Empty(folder.path().to_owned())
    );
    let ec = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    let good = MetadataSigner::new().pem;
    for (name, text) in [
        ("eu-west-1.pem", "not a certificate".to_owned()),
        ("eu-west-1.pem", ec.cert.pem()),
        ("eu-west-1.pem", good.repeat(5)),
        ("eu-west-1.pem", String::new()),
        ("eu-nowhere-1.pem", good.clone()),
        ("eu-west-1.pem", "x".repeat(100_000)),
    ] {
        std::fs::write(folder.path().join(name), &text).unwrap();
        assert!(RegionCertificates::load(folder.path()).is_err(), "{name}");
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    assert!(RegionCertificates::load(&folder.path().join("none")).is_err());
}

#[test]
fn each_region_has_its_own_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (MetadataSigner::new().pem, MetadataSigner::new().pem);
    std::fs::write(folder.path().join("eu-west-1.pem"), old.clone() + &new).unwrap();
    std::fs::write(folder.path().join("us-east-1.pem"), &old).unwrap();
    std::fs::write(folder.path().join("README"), "from AWS's page").unwrap();
    let certificates = RegionCertificates::load(folder.path()).unwrap();
    let keys = |region: &str| {
        certificates
            .keys(region.parse().unwrap(), 1_800_000_000)
            .len()
    };
    assert_eq!(
        (keys("eu-west-1"), keys("us-east-1"), keys("ap-south-1")),
        (2, 1, 0)
    );
}
