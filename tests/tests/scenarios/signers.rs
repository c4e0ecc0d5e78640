//! The same login with each kind of CA key: local files, and KMS as moto and the stand-in sign for it.

use eic_lab::Lab;
use eic_lab::small_fleet::SmallFleet;

/// Logs in and looks at the certificate that did it.
fn logs_in(fleet: &SmallFleet, algorithm: &str) {
    let target = format!("ubuntu@{}", fleet.web.id());
    let output = fleet
        .alice
        .run("ssh", [target.as_str(), "whoami"])
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(output.stdout.trim(), "ubuntu");
    fleet
        .alice
        .run("eic-login", ["issue", "--target", &target, "--out", "job"])
        .unwrap()
        .success()
        .unwrap();
    let listed = fleet
        .alice
        .run("bash", ["-c", "ssh-keygen -L -f job/*-cert.pub"])
        .unwrap()
        .success()
        .unwrap()
        .stdout;
    assert!(listed.contains(&format!("(using {algorithm})")), "{listed}");
}

/// A CA with a key of this kind in a file, made by ssh-keygen.
fn with_local_key(kind: &'static str, bits: &'static str, algorithm: &str) {
    let lab = Lab::new().unwrap();
    let folder = lab.folder().join("made-key");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("user-ca");
    let mut command = std::process::Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-N", "", "-f"]).arg(&file);
    if !bits.is_empty() {
        command.args(["-b", bits]);
    }
    assert!(command.status().unwrap().success());
    let mut signer = toml::Table::new();
    signer.insert("signer".into(), "local".into());
    signer.insert("file".into(), file.display().to_string().into());
    let fleet = SmallFleet::start_with(lab, |ca| ca.set("keys.user_ca", signer)).unwrap();
    logs_in(&fleet, algorithm);
}

fn with_kms_key(spec: &str, algorithm: &str) {
    let lab = Lab::new().unwrap();
    let arn = lab.aws().unwrap().kms_key(spec).unwrap();
    let fleet = SmallFleet::start_with(lab, |ca| ca.kms_user_ca(&arn).unwrap()).unwrap();
    logs_in(&fleet, algorithm);
}

#[test]
fn a_login_by_a_local_ecdsa_p256_ca() {
    with_local_key("ecdsa", "256", "ecdsa-sha2-nistp256");
}

#[test]
fn a_login_by_a_local_ecdsa_p384_ca() {
    with_local_key("ecdsa", "384", "ecdsa-sha2-nistp384");
}

#[test]
fn a_login_by_a_local_rsa_ca_uses_sha_2() {
    // D-23
    with_local_key("rsa", "3072", "rsa-sha2-512");
}

#[test]
fn a_login_by_a_local_ed25519_ca() {
    with_local_key("ed25519", "", "ssh-ed25519");
}

#[test]
fn a_login_by_kms_ecc_nist_p256() {
    with_kms_key("ECC_NIST_P256", "ecdsa-sha2-nistp256");
}

#[test]
fn a_login_by_kms_ecc_nist_p384() {
    with_kms_key("ECC_NIST_P384", "ecdsa-sha2-nistp384");
}

#[test]
fn a_login_by_kms_rsa_3072() {
    with_kms_key("RSA_3072", "rsa-sha2-512");
}

#[test]
fn a_login_by_kms_rsa_4096() {
    with_kms_key("RSA_4096", "rsa-sha2-512");
}

#[test]
fn a_login_by_kms_ecc_nist_edwards25519() {
    with_kms_key("ECC_NIST_EDWARDS25519", "ssh-ed25519");
}
