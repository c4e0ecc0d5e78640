//! Whole logins: stock ssh to a real sshd (inetd mode, so no port) that asks this agent.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use crate::documents::{CA_KEY, Documents, INSTANCE, key};
use crate::imds::{Answer, Imds};
use crate::pki::{Staple, World, pem, record, wrapped};
use crate::sandbox::{Host, Running, current, now, ok, stderr, wait_until};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ssh_key::certificate::{Builder, CertType};

/// A metadata service that holds `key_line` for `user`, and the host's configuration for it.
pub(crate) fn instance_connect(host: &Host, user: &str, key_line: &str) -> Imds {
    let world = World::new();
    let keys = format!("/latest/meta-data/managed-ssh-keys/active-keys/{user}/");
    let headers = [
        // The real ones live 60 s; a siege on a slow machine takes longer.
        format!("#Timestamp={}", now() + 600),
        format!("#Instance={INSTANCE}"),
    ];
    let records = record(&headers.each_ref().map(String::as_str), key_line);
    let mut imds = Imds::start()
        .with(
            "GET",
            "/latest/meta-data/instance-id/",
            Answer::ok(INSTANCE),
        )
        .with(
            "GET",
            "/latest/meta-data/placement/availability-zone/",
            Answer::ok("us-east-1a"),
        )
        .with(
            "GET",
            "/latest/meta-data/services/domain/",
            Answer::ok("amazonaws.com"),
        )
        .with(
            "GET",
            "/latest/meta-data/managed-ssh-keys/signer-cert/",
            Answer::ok(&world.chain()),
        )
        .with("HEAD", &keys, Answer::ok(""))
        .with("GET", &keys, Answer::ok(&records));
    for (certificate, issuer) in [
        (&world.leaf, &world.intermediate),
        (&world.intermediate.der, &world.root),
    ] {
        let mut staple = Staple::new(certificate, issuer);
        (staple.this_update, staple.next_update) = (now() - 60, Some(now() + 3600));
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate);
        let name: String = hash
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let path = format!("/latest/meta-data/managed-ssh-keys/signer-ocsp/{name}");
        imds = imds.with("GET", &path, Answer::ok(&wrapped(&staple.der(&issuer.key))));
    }
    host.write("etc/eic/roots.pem", pem(&[&world.root.der]));
    host.write(
        "etc/eic/agent.toml",
        format!(
            "[instance_connect]\nimds_endpoint = \"{}\"\nroots = \"/etc/eic/roots.pem\"\n",
            imds.url()
        ),
    );
    imds
}

/// An sshd that listens, and its port; `start` gives its command, with `PidFile /run/sshd.pid`. Port 0 is refused by
/// sshd, so a free one is looked for; where another process takes it first, the next one is.
pub(crate) fn listening(host: &Host, start: impl Fn(u16) -> Command) -> (u16, Running) {
    let mut found = None;
    wait_until("a listening sshd", || {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut sshd = Running(start(port).spawn().unwrap());
        let mut has_ended = || sshd.0.try_wait().unwrap().is_some();
        wait_until("sshd's start", || has_pid_file(host) || has_ended());
        let listens = !has_ended();
        found = listens.then_some((port, sshd));
        listens
    });
    found.unwrap()
}

/// Whether sshd has written its process id, which it does once it listens.
pub(crate) fn has_pid_file(host: &Host) -> bool {
    let content = std::fs::read_to_string(host.path("run/sshd.pid"));
    content.is_ok_and(|text| text.trim().parse::<u32>().is_ok())
}

pub(crate) const USER_KEY: u8 = 40;

/// The public key of a seed, as a line.
pub(crate) fn key_line(seed: u8) -> String {
    key(seed).public_key().to_openssh().unwrap()
}

fn identity(host: &Host, principal: Option<&str>) {
    identity_of(host, USER_KEY, principal);
}

/// A seed's private key as the user's and, where a principal is given, a certificate with it.
pub(crate) fn identity_of(host: &Host, seed: u8, principal: Option<&str>) {
    let private = key(seed).to_openssh(ssh_key::LineEnding::LF).unwrap();
    host.write("etc/user/id", private.as_bytes());
    std::fs::set_permissions(
        host.path("etc/user/id"),
        std::fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    host.write("etc/user/id.pub", key_line(seed));
    let _ = std::fs::remove_file(host.path("etc/user/id-cert.pub"));
    if let Some(principal) = principal {
        let mut builder =
            Builder::new(vec![7; 16], key(seed).public_key(), now() - 10, now() + 300).unwrap();
        builder
            .serial(4711)
            .unwrap()
            .cert_type(CertType::User)
            .unwrap()
            .key_id("eic:test")
            .unwrap();
        builder.valid_principal(principal).unwrap();
        let certificate = builder.sign(&key(CA_KEY)).unwrap().to_openssh().unwrap();
        host.write("etc/user/id-cert.pub", certificate);
    }
}

/// `ssh root@host id -u` with the identity, through an sshd of its own.
pub(crate) fn login(host: &Host) -> Output {
    login_with(host, "")
}

/// The same with more options for that sshd.
pub(crate) fn login_with(host: &Host, more: &str) -> Output {
    let sshd = format!("ProxyCommand=/usr/sbin/sshd -i -e -o UsePAM=no -o LogLevel=VERBOSE {more}");
    let options = [
        "-F",
        "none",
        "-o",
        &sshd,
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "IdentityAgent=none",
        "-i",
        "/etc/user/id",
        "root@host",
        "id -u",
    ];
    host.command("ssh").args(options).output().unwrap()
}

fn with_certificate(principal: &str, documents: &Documents) -> Option<Output> {
    let host = Host::new()?;
    host.documents(documents);
    ok(&host.install(&[]));
    identity(&host, Some(principal));
    Some(login(&host))
}

pub(crate) fn denied(output: Option<Output>) {
    let Some(output) = output else { return };
    assert!(
        stderr(&output).contains("Permission denied"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_certificate_for_another_user_host_or_fleet_is_refused() {
    // J-04: sshd itself would not compare the user name
    for principal in [
        "alice@i-0123456789abcdef0",
        "root@i-0fedcba9876543210",
        "root@fleet/other",
        "root",
    ] {
        denied(with_certificate(principal, &current()));
    }
}

#[test]
fn a_certificate_of_a_key_out_of_scope_is_refused() {
    // J-17
    let mut documents = current();
    documents.root.user_cas[0].scope.endorsed = true;
    denied(with_certificate(&format!("root@{INSTANCE}"), &documents));
    let mut documents = current();
    documents.root.user_cas[0].scope.not_after = Some(now());
    denied(with_certificate(&format!("root@{INSTANCE}"), &documents));
}

#[test]
fn a_certificate_for_this_host_or_its_fleet_opens_it() {
    for principal in [format!("root@{INSTANCE}"), "root@fleet/web".to_owned()] {
        let Some(output) = with_certificate(&principal, &current()) else {
            return;
        };
        assert_eq!(ok(&output), "0\n");
        assert!(
            stderr(&output).contains("serial 4711"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn a_pushed_key_opens_the_host_and_another_key_does_not() {
    let Some(host) = Host::new() else { return };
    host.documents(&current());
    let pushed = key_line(USER_KEY);
    let imds = instance_connect(&host, "root", &pushed);
    ok(&host.install(&[]));
    identity(&host, None);
    assert_eq!(ok(&login(&host)), "0\n");
    // sshd asks once for the offer and once for the signature.
    assert_eq!(
        imds.requests()
            .iter()
            .filter(|line| line.starts_with("PUT "))
            .count(),
        2
    );
    drop(imds);
    let _imds = instance_connect(&host, "root", &crate::pki::ed25519_line(9));
    denied(Some(login(&host)));
}
