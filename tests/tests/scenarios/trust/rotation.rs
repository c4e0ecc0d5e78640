//! Every key of the CA is exchanged under live hosts while alice logs in from two machines.

use std::path::Path;

use eic_lab::host::AgentService;
use eic_lab::openssh::TRIXIE;
use eic_lab::{Ca, Client, Host, Lab, small_fleet};

use super::company::{
    self, Held, PATIENCE, announce, hosts_have_the_root, key_file, local_signer, make_key, restart,
    ssh_anew, user_ca, wait,
};
use super::traffic::{Traffic, Worker};

/// How long hosts and clients may not know a new key here: a day for the sake of a test. Longer than a sign-in is used.
const PROPAGATION: i64 = 12;
/// The shortest that a sign-in may last; clients renew it after 10 s.
const SESSION: i64 = 30;
/// Of a user certificate.
const LIFETIME: i64 = 16;

/// A host that renews its own certificate: enrolled by a token, from then on by its key.
fn self_certified(lab: &Lab, ca: &Ca, name: &str, new: bool) -> (Host, AgentService) {
    let described = lab.host(name);
    let described = if new {
        described.openssh(&TRIXIE)
    } else {
        described
    };
    let host = small_fleet::enrolled(ca, described).unwrap();
    let token = ca.run(&["hosts", "token", "--name", host.id()]).unwrap();
    let token = token
        .split_whitespace()
        .find(|word| word.starts_with("eic-enrol-"));
    std::fs::write(host.file("/etc/eic/token"), token.unwrap()).unwrap();
    // The one that came with the installation; the service asks for the first of its own.
    std::fs::remove_file(host.file(CERTIFICATE)).unwrap();
    let more =
        "report = false\nevidence = \"enrolment-token\"\nenrolment_token = \"/etc/eic/token\"\n";
    let service = host.start_agent_service(ca, more).unwrap();
    wait("the host's certificate", PATIENCE, || {
        host.file(CERTIFICATE).exists()
    });
    service.wait_for("\"healthy\": true").unwrap();
    (host, service)
}

const CERTIFICATE: &str = "/var/lib/eic/host-cert.pub";

/// The fingerprint of the CA that signed the host's certificate.
fn host_ca_of(host: &Host) -> String {
    let listed = host
        .exec("ssh-keygen", ["-L", "-f", CERTIFICATE])
        .unwrap()
        .stdout;
    let ca = listed.split("Signing CA: ").nth(1).unwrap();
    ca.split_whitespace().nth(1).unwrap().to_owned()
}

/// In place of the host's certificate, one by the same CA whose time is nearly over, as half a day later.
fn age_certificate(host: &Host, host_ca: &Path) {
    let public = host.file("/etc/ssh/ssh_host_ed25519_key.pub");
    let work = host.lab().folder().join(format!("aged-{}", host.name()));
    let beside = work.with_added_extension("pub");
    std::fs::copy(&public, &beside).unwrap();
    let signing = std::process::Command::new("ssh-keygen")
        .args(["-q", "-h", "-s"])
        .arg(host_ca)
        .args(["-I", "aged", "-z", "77", "-V", "-30m:+5m", "-n", host.id()])
        .arg(&beside)
        .status();
    assert!(signing.unwrap().success());
    let signed = work.with_file_name(format!("aged-{}-cert.pub", host.name()));
    let new = host.file("/var/lib/eic/.aged");
    std::fs::copy(signed, &new).unwrap();
    std::fs::rename(new, host.file(CERTIFICATE)).unwrap();
}

/// The host's certificate is as good as over; its service asks for the next, which is by the new host CA.
fn renews_its_certificate(ca: &Ca, host: &Host, service: &mut AgentService, host_ca: &str) {
    age_certificate(host, &key_file(ca, "host-ca"));
    service.restart().unwrap();
    wait("a certificate by the new host CA", PATIENCE, || {
        host_ca_of(host) == host_ca
    });
}

/// Waits until a machine believes the CA's newest root: it asks at each sign-in.
fn has_the_root(client: &Client, ca: &Ca) {
    let newest = std::fs::read_to_string(key_file(ca, "root.json")).unwrap();
    let signed = |text: &str| {
        let envelope: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        envelope["signed"].clone()
    };
    let wanted = signed(&newest);
    let file = client.home().join(".config/eic/root.json");
    wait("a machine to have the newest root", PATIENCE, || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let roots = document["roots"].as_array().and_then(|roots| roots.last());
        let last = roots.unwrap_or(&document)["signed"].clone();
        last == wanted
    });
}

/// A CA whose times are short enough to be waited for.
fn hurried_ca(lab: &Lab) -> Ca {
    company::ca(lab)
        .set("keys.propagation_seconds", PROPAGATION)
        .set("sessions.ttl_seconds", SESSION)
        .set("certificates.default_ttl_seconds", LIFETIME)
        .start()
        .unwrap()
}

/// Another root key, by a root that the old and the new one sign.
fn exchange_root_key(ca: &mut Ca) {
    make_key(ca, "root-2");
    let (old, new) = (key_file(ca, "root"), key_file(ca, "root-2"));
    let public = new.with_added_extension("pub").display().to_string();
    ca.run(&["root", "init", "--root-key", &public, "--out", "next.json"])
        .unwrap();
    for key in [old, new] {
        ca.run(&[
            "root",
            "sign",
            "--key",
            &key.display().to_string(),
            "next.json",
        ])
        .unwrap();
    }
    ca.run(&["root", "install", "next.json"]).unwrap();
    ca.set("keys.root", key_file(ca, "root-2").display().to_string())
        .unwrap();
}

fn exchange_bundle_key(ca: &mut Ca) {
    make_key(ca, "bundle-2");
    ca.set(
        "keys.bundle",
        key_file(ca, "bundle-2").display().to_string(),
    )
    .unwrap();
    ca.run(&["root", "update"]).unwrap();
    restart(ca);
}

/// The new host CA's fingerprint.
fn exchange_host_ca(ca: &mut Ca) -> String {
    let key = make_key(ca, "host-ca-2");
    ca.set("keys.host_ca", local_signer(ca, "host-ca-2"))
        .unwrap();
    ca.run(&["root", "update"]).unwrap();
    restart(ca);
    key
}

/// Runs a command until it is not refused any more: it says itself when that may be.
fn once_allowed(ca: &Ca, command: &[&str]) {
    let waited = wait("the command to be allowed", PATIENCE, || {
        ca.run(command).is_ok()
    });
    println!(
        "{} {}: after {:.0} s",
        command[0],
        command[1],
        waited.as_secs_f64()
    );
}

#[test]
fn all_keys_are_exchanged_on_live_hosts_and_no_login_fails() {
    // F-16
    let lab = Lab::new().unwrap();
    let mut ca = hurried_ca(&lab);
    let (old_sshd, mut old_service) = self_certified(&lab, &ca, "web-1", false);
    let (new_sshd, mut new_service) = self_certified(&lab, &ca, "web-2", true);
    let hosts = [&old_sshd, &new_sshd];
    let machines = company::machines_of_alice(&lab, &ca, ["laptop", "job", "sleeper"]);
    let [laptop, job, sleeper] = &machines;
    let stolen = Held::issued(sleeper, &old_sshd, "copied");
    let stolen = Held::forged(&stolen, &key_file(&ca, "user-ca"), &old_sshd, 7);
    let first = user_ca(&ca, "signs");
    let traffic = Traffic::start([Worker::at(laptop, &hosts), Worker::at(job, &hosts).anew()]);
    traffic.goes_on(1);

    let spare = announce(&mut ca, "user-ca-2");
    hosts_have_the_root(&ca, [&old_service, &new_service]);
    exchange_root_key(&mut ca);
    hosts_have_the_root(&ca, [&old_service, &new_service]);
    exchange_bundle_key(&mut ca);
    hosts_have_the_root(&ca, [&old_service, &new_service]);
    let host_ca = exchange_host_ca(&mut ca);
    hosts_have_the_root(&ca, [&old_service, &new_service]);
    has_the_root(laptop, &ca);
    has_the_root(job, &ca);
    renews_its_certificate(&ca, &old_sshd, &mut old_service, &host_ca);
    renews_its_certificate(&ca, &new_sshd, &mut new_service, &host_ca);
    traffic.goes_on(2);

    once_allowed(&ca, &["keys", "activate", &spare, "--reason", "yearly"]);
    assert!(
        stolen.opens(&old_sshd),
        "certificates of the old key are good until it is retired"
    );
    once_allowed(&ca, &["keys", "retire", &first, "--reason", "yearly"]);
    hosts_have_the_root(&ca, [&old_service, &new_service]);
    assert!(!stolen.opens(&old_sshd), "the old key still opens");
    traffic.goes_on(3);

    let tally = traffic.end();
    // A machine that slept through all of it walks root by root, over the one that changed the root key.
    let slept = ssh_anew(sleeper, &new_sshd);
    assert_eq!(slept, Ok(()), "after a long sleep");
    assert!(tally.refused.is_empty(), "{:#?}", tally.refused);
    assert!(tally.let_in >= 20, "{tally:?}");
    for service in [&old_service, &new_service] {
        service.wait_for("\"healthy\": true").unwrap();
    }
}
