//! One login by stock ssh to a real sshd in inetd mode: no port, and the host's own configuration as it stands.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use crate::documents::{CA_KEY, key};
use crate::sandbox::{Host, now};
use ssh_key::certificate::{Builder, CertType};

/// The user's key.
pub(crate) const USER_KEY: u8 = 41;

/// Puts the user's private key on the host.
pub(crate) fn user_key(host: &Host) {
    let private = key(USER_KEY).to_openssh(ssh_key::LineEnding::LF).unwrap();
    host.write("etc/user/id", private.as_bytes());
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(host.path("etc/user/id"), mode).unwrap();
    let public = key(USER_KEY).public_key().to_openssh().unwrap();
    host.write("etc/user/id.pub", &public);
}

/// A certificate of the host's CA for `principal`, good now; returns the line.
pub(crate) fn certificate(host: &Host, principal: &str) -> String {
    let subject = key(USER_KEY);
    let mut builder =
        Builder::new(vec![7; 16], subject.public_key(), now() - 10, now() + 300).unwrap();
    builder
        .serial(4711)
        .unwrap()
        .key_id("eic:user/a:test")
        .unwrap();
    builder.cert_type(CertType::User).unwrap();
    builder.valid_principal(principal).unwrap();
    let line = builder.sign(&key(CA_KEY)).unwrap().to_openssh().unwrap();
    host.write("etc/user/id-cert.pub", &line);
    line
}

/// `ssh USER@host id -un` through `sshd -i`.
pub(crate) fn login(host: &Host, user: &str) -> Output {
    let at = format!("{user}@host");
    let options = [
        "ProxyCommand=/usr/sbin/sshd -i -e -o UsePAM=no -o LogLevel=VERBOSE",
        "BatchMode=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
    ];
    let mut command = host.command("ssh");
    command.args(["-F", "none", "-i", "/etc/user/id"]);
    for option in options {
        command.args(["-o", option]);
    }
    command.args([&at, "id -un"]).output().unwrap()
}
