//! What these scenarios are set in: a CA that hosts reach over HTTPS, hosts with the agent's service, alice at several
//! machines; certificates in files, issued, or signed by hand with a CA's key as a thief would.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eic_lab::aws::REGION;
use eic_lab::ca::CaBuilder;
use eic_lab::host::AgentService;
use eic_lab::process::RoomCommand;
use eic_lab::{Ca, Client, Host, Lab, small_fleet};

use crate::aws_calls::INSTANCE_CONNECT;

/// From a command at the CA to what it does on a host: a second or two, on a busy machine more.
pub(super) const SOON: Duration = Duration::from_secs(30);

/// For what a busy machine may take long for, and nothing is said about.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What of the agent's service is the subject of none of these, unless a scenario says so.
pub(super) const TRUST_ONLY: &str = "host_certificates = false\nreport = false\n";

/// The CA, to be changed and started.
pub(super) fn ca(lab: &Lab) -> CaBuilder {
    small_fleet::ca(lab).unwrap().https().unwrap()
}

/// Another CA, which only its commands are wanted of.
pub(super) fn ca_named(lab: &Lab, name: &str, port: u16) -> Ca {
    lab.ca().named(name, port).prepare().unwrap()
}

/// alice at machines with these names, each set up with the CA.
pub(super) fn machines_of_alice<const N: usize>(
    lab: &Lab,
    ca: &Ca,
    names: [&str; N],
) -> [Client; N] {
    let alice = lab.aws().unwrap().user("alice", INSTANCE_CONNECT).unwrap();
    let roots = lab.folder().join("tls-root.pem");
    std::fs::write(&roots, ca.tls_root().unwrap()).unwrap();
    names.map(|name| {
        let machine = lab.client(name).unwrap().credentials(&alice).unwrap();
        let machine = machine.env("SSL_CERT_FILE", roots.display().to_string());
        small_fleet::set_up(&machine, ca).unwrap();
        machine
    })
}

pub(super) fn alice(lab: &Lab, ca: &Ca) -> Client {
    let [alice] = machines_of_alice(lab, ca, ["alice"]);
    alice
}

/// An enrolled host with its service; `more` goes into `[service]`.
pub(super) fn host(lab: &Lab, ca: &Ca, name: &str, more: &str) -> (Host, AgentService) {
    let host = small_fleet::enrolled_host(lab, ca, name).unwrap();
    let service = host.start_agent_service(ca, more).unwrap();
    (host, service)
}

/// `[service]` of a host that ends sessions of what is revoked.
pub(super) fn ending_sessions(host: &Host) -> String {
    let log = host.log_path().display().to_string();
    format!("{TRUST_ONLY}end_revoked_sessions = true\nlogin_log = \"{log}\"\n")
}

/// `ubuntu` there, by the name that plain ssh takes.
pub(super) fn ubuntu_at(host: &Host) -> String {
    format!("ubuntu@{}", host.id())
}

/// Whether plain `ssh` lets a person in; what it wrote where not.
pub(super) fn ssh(client: &Client, host: &Host) -> Result<(), String> {
    let target = ubuntu_at(host);
    let output = client.run("ssh", [target.as_str(), "whoami"]).unwrap();
    match output.status.success() && output.stdout.trim() == "ubuntu" {
        true => Ok(()),
        false => Err(output.stderr),
    }
}

/// Waits until `what` holds; the time that it took.
pub(super) fn wait(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    eic_lab::deadline::wait_for(what, limit, || holds().then_some(())).unwrap();
    started.elapsed()
}

/// A key with a certificate, in files of somebody's home.
#[derive(Clone, Debug)]
pub(super) struct Held {
    client: Client,
    key: String,
    certificate: String,
    pub(super) serial: u64,
    /// The fingerprint of the CA key that signed it.
    pub(super) signer: String,
}

impl Held {
    /// By `eic-login issue`, for `ubuntu` on this host.
    pub(super) fn issued(client: &Client, host: &Host, folder: &str) -> Self {
        let target = ubuntu_at(host);
        client
            .run("eic-login", ["issue", "--target", &target, "--out", folder])
            .unwrap()
            .success()
            .unwrap();
        let certificate = printed(client, &format!("ls {folder}/*-cert.pub"));
        let key = certificate.trim_end_matches("-cert.pub").to_owned();
        Self::of_files(client, key, certificate)
    }

    /// By whoever has a copy of a CA's key: the same key as `like` has, for `ubuntu` on this host.
    pub(super) fn forged(like: &Held, ca_key: &Path, host: &Host, serial: u64) -> Self {
        Self::forged_for(like, ca_key, &ubuntu_at(host), serial)
    }

    /// The same for a principal.
    pub(super) fn forged_for(like: &Held, ca_key: &Path, principal: &str, serial: u64) -> Self {
        let (client, name) = (&like.client, format!("forged-{serial}"));
        let key = client.home().join(&name);
        let copied = client.home().join(&like.key);
        std::fs::copy(&copied, &key).unwrap();
        let line = printed(client, &format!("ssh-keygen -y -f {}", like.key));
        let public = key.with_added_extension("pub");
        std::fs::write(&public, line + "\n").unwrap();
        let signing = std::process::Command::new("ssh-keygen")
            .args(["-q", "-s"])
            .arg(ca_key)
            .args(["-I", "eic:user/alice:00112233445566778899aabbccddeeff"])
            .args(["-z", &serial.to_string(), "-V", "-1m:+10m"])
            .args(["-n", principal])
            .arg(&public)
            .status();
        assert!(signing.unwrap().success(), "sign {}", public.display());
        let owner = std::fs::metadata(&copied).unwrap();
        for suffix in ["", ".pub", "-cert.pub"] {
            let file = client.home().join(format!("{name}{suffix}"));
            chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        let certificate = format!("{name}-cert.pub");
        Self::of_files(client, name, certificate)
    }

    fn of_files(client: &Client, key: String, certificate: String) -> Self {
        let listed = printed(client, &format!("ssh-keygen -L -f {certificate}"));
        let serial = listed.split("Serial: ").nth(1).unwrap();
        let serial = serial.lines().next().unwrap().trim().parse().unwrap();
        let signer = listed.split("Signing CA: ").nth(1).unwrap();
        Self {
            client: client.clone(),
            key,
            certificate,
            serial,
            signer: signer.split_whitespace().nth(1).unwrap().to_owned(),
        }
    }

    /// The command line of an ssh that has nothing but these files.
    pub(super) fn command(&self, host: &Host, remote: &str) -> RoomCommand {
        self.command_as("ubuntu", host, remote)
    }

    fn command_as(&self, user: &str, host: &Host, remote: &str) -> RoomCommand {
        let command = self
            .client
            .command("ssh")
            .args(["-F", "none", "-i", &self.key]);
        let command = command.args(["-o", &format!("CertificateFile={}", self.certificate)]);
        let options = [
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
        ];
        let command = options
            .iter()
            .fold(command, |command, option| command.args(["-o", option]));
        command.args([format!("{user}@{}", host.address()).as_str(), remote])
    }

    /// Whether the host lets it in; no third outcome is taken for either.
    pub(super) fn opens(&self, host: &Host) -> bool {
        self.opens_as("ubuntu", host)
    }

    /// The same for another account.
    pub(super) fn opens_as(&self, user: &str, host: &Host) -> bool {
        let output = self.command_as(user, host, "true").run().unwrap();
        if output.stderr.contains("closed by remote host") {
            // Let in a moment before it was revoked, and its session ended.
            return self.opens_as(user, host);
        }
        let refused = output.stderr.contains("Permission denied");
        assert!(output.status.success() || refused, "{}", output.stderr);
        output.status.success()
    }
}

/// What a shell line prints at somebody's machine, trimmed.
fn printed(client: &Client, script: &str) -> String {
    let output = client.run("bash", ["-c", script]).unwrap();
    output.success().unwrap().stdout.trim().to_owned()
}

/// Makes a key file below the CA's folder; its fingerprint.
pub(super) fn make_key(ca: &Ca, name: &str) -> String {
    let file = key_file(ca, name).display().to_string();
    let made = ca.command(["key", "generate", &file]).run().unwrap();
    let made = made.success().unwrap().stdout;
    made.split_whitespace().next().unwrap().to_owned()
}

/// Where [`make_key`] and `eic-ca init` put it.
pub(super) fn key_file(ca: &Ca, name: &str) -> PathBuf {
    ca.folder().join("keys").join(name)
}

/// A user CA in the lab's KMS, for `keys.spare_user_cas`.
pub(super) fn kms_signer(lab: &Lab, arn: &str) -> toml::Value {
    let endpoint = lab.aws().unwrap().endpoint();
    let pairs = [
        ("signer", "kms"),
        ("arn", arn),
        ("region", REGION),
        ("endpoint", &endpoint),
    ];
    let pairs = pairs.map(|(key, value)| (key.to_owned(), toml::Value::from(value)));
    toml::Table::from_iter(pairs).into()
}

/// A login that takes a new sign-in and a new certificate.
pub(super) fn ssh_anew(client: &Client, host: &Host) -> Result<(), String> {
    let out = client.run("eic-login", ["logout"]).unwrap();
    out.success().unwrap();
    ssh(client, host)
}

/// `{ signer = "local", file = … }`
pub(super) fn local_signer(ca: &Ca, name: &str) -> toml::Value {
    let mut signer = toml::Table::new();
    signer.insert("signer".into(), "local".into());
    let file = key_file(ca, name).display().to_string();
    signer.insert("file".into(), file.into());
    signer.into()
}

/// Revokes a key that nobody has: a new revocation list and a new bundle.
pub(super) fn revoke_some_key(ca: &Ca) {
    let key = eic_lab::load::ca::public(&eic_lab::load::ca::fresh_key().unwrap()).unwrap();
    let file = ca.folder().join("some-key.pub");
    std::fs::write(&file, format!("{key}\n")).unwrap();
    let file = file.display().to_string();
    ca.run(&["revoke", "key", &file, "--reason", "copied"])
        .unwrap();
}

/// The version of the CA's root.
pub(super) fn root_version(ca: &Ca) -> u64 {
    let shown = ca.run(&["root", "show"]).unwrap();
    let version = shown.strip_prefix("version ").unwrap();
    version.split(',').next().unwrap().parse().unwrap()
}

/// Waits until each host has the CA's newest root in place.
pub(super) fn hosts_have_the_root<'s>(
    ca: &Ca,
    services: impl IntoIterator<Item = &'s AgentService>,
) {
    let text = format!("\"root_version\": {},", root_version(ca));
    for service in services {
        service.wait_for(&text).unwrap();
    }
}

/// Ends the CA and starts it with its configuration as it is now.
pub(super) fn restart(ca: &mut Ca) {
    ca.stop().unwrap();
    ca.start().unwrap();
}

/// Names a spare key and tells hosts; its fingerprint.
pub(super) fn announce(ca: &mut Ca, name: &str) -> String {
    let key = make_key(ca, name);
    ca.set("keys.spare_user_cas", vec![local_signer(ca, name)])
        .unwrap();
    ca.run(&["keys", "announce"]).unwrap();
    restart(ca);
    key
}

/// The fingerprint of the first user-CA key in the list whose line has these words.
pub(super) fn user_ca(ca: &Ca, words: &str) -> String {
    let list = ca.run(&["keys", "list"]).unwrap();
    let line = list.lines().find(|line| line.contains(words));
    line.unwrap().split_whitespace().next().unwrap().to_owned()
}
