//! Trust that travels: what the CA revokes, a host with `eic-agent run` refuses a moment later, and nothing else.

use std::time::{Duration, Instant};

use eic_lab::small_fleet;
use eic_lab::{Ca, Client, Host, Lab};

/// From the call to the refusal.
const SOON: Duration = Duration::from_secs(5);

fn person(lab: &Lab, ca: &Ca, name: &str) -> Client {
    let roots = lab.folder().join("tls-root.pem");
    std::fs::write(&roots, ca.tls_root().unwrap()).unwrap();
    let person = small_fleet::person(lab, name)
        .unwrap()
        .env("SSL_CERT_FILE", roots.display().to_string());
    small_fleet::set_up(&person, ca).unwrap();
    person
}

/// A key with a certificate in files; the certificate's serial.
fn issue(client: &Client, host: &Host, folder: &str) -> String {
    let target = format!("ubuntu@{}", host.id());
    client
        .run("eic-login", ["issue", "--target", &target, "--out", folder])
        .unwrap()
        .success()
        .unwrap();
    let listed = client
        .run(
            "bash",
            ["-c", &format!("ssh-keygen -L -f {folder}/*-cert.pub")],
        )
        .unwrap();
    let listed = listed.success().unwrap().stdout;
    let serial = listed.split("Serial: ").nth(1).unwrap();
    serial.lines().next().unwrap().trim().to_owned()
}

fn lets_in(client: &Client, host: &Host, folder: &str) -> bool {
    let script = format!(
        "key=$(ls {folder}/* | grep -v pub | grep -v known_hosts | head -1); ssh -F none -i $key \
         -o CertificateFile=$(ls {folder}/*-cert.pub) -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no \
         -o UserKnownHostsFile=/dev/null ubuntu@{} true",
        host.address()
    );
    client
        .run("bash", ["-c", &script])
        .unwrap()
        .status
        .success()
}

#[test]
fn a_revoked_certificate_is_refused_within_seconds_and_those_beside_it_go_on() {
    let lab = Lab::new().unwrap();
    let ca = small_fleet::ca(&lab)
        .unwrap()
        .https()
        .unwrap()
        .start()
        .unwrap();
    let web = small_fleet::enrolled_host(&lab, &ca, "web-1").unwrap();
    let alice = person(&lab, &ca, "alice");
    let _service = web
        .start_agent_service(&ca, "host_certificates = false\nreport = false\n")
        .unwrap();

    let lost = issue(&alice, &web, "lost");
    issue(&alice, &web, "kept");
    assert!(lets_in(&alice, &web, "lost") && lets_in(&alice, &web, "kept"));

    let config = ca.config().display().to_string();
    let revoke = [
        "revoke",
        "serial",
        &lost,
        "--reason",
        "laptop lost",
        "--config",
        &config,
    ];
    ca.command(revoke).run().unwrap().success().unwrap();
    let called = Instant::now();
    while lets_in(&alice, &web, "lost") {
        assert!(called.elapsed() < SOON, "still let in");
    }
    web.log_line("revoked", SOON).unwrap();
    assert!(lets_in(&alice, &web, "kept"));
    let target = format!("ubuntu@{}", web.id());
    let fresh = alice.run("ssh", [target.as_str(), "whoami"]).unwrap();
    assert_eq!(fresh.success().unwrap().stdout.trim(), "ubuntu");
}
