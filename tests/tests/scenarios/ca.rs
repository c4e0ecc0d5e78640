//! The real CA in the lab: it starts, enrols a host by its own tools, and comes back after it was killed.

use eic_lab::Lab;
use eic_lab::error::Result;

use crate::aws_calls::INSTANCE_CONNECT;

#[test]
fn host_enrolled_by_the_ca_shows_a_host_certificate_and_its_keys() -> Result<()> {
    let lab = Lab::new()?;
    let service = lab.aws()?.user("eic-ca", INSTANCE_CONNECT)?;
    let mut ca = lab.ca().on_aws(&service)?.start()?;
    let web = lab.host("web-1").trusting(&ca, &[]).start()?;
    let effective = web.exec("/usr/sbin/sshd", ["-T"])?.stdout;
    for line in [
        "trustedusercakeys /",
        "authorizedprincipalscommand /usr/local/bin/eic-agent",
        "hostcertificate /",
    ] {
        assert!(effective.contains(line), "{line}: {effective}");
    }
    ca.kill()?;
    ca.start()?;
    ca.stop()
}

#[test]
fn ca_signs_with_each_kind_of_kms_key_and_over_https() -> Result<()> {
    let lab = Lab::new()?;
    let aws = lab.aws()?;
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:Sign","kms:GetPublicKey","kms:DescribeKey"],"Resource":"*"}]}"#;
    let service = aws.user("eic-ca", policy)?;
    for (port, spec) in (8443..).zip([
        "ECC_NIST_EDWARDS25519",
        "ECC_NIST_P256",
        "ECC_NIST_P384",
        "RSA_4096",
    ]) {
        let key = aws.kms_key(spec)?;
        let name = spec.to_lowercase();
        let ca = lab
            .ca()
            .named(&name, port)
            .on_aws(&service)?
            .kms_user_ca(&key)?
            .https()?
            .start()?;
        assert!(ca.url().starts_with("https://10.77.0.1:"), "{spec}");
    }
    Ok(())
}
