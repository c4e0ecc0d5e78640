//! One host with the agent installed, its helper and service running, and a CA beside it.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use eic_agent::helper::request::{Answer, Offer, Request, TrustAnswer};
use eic_agent::run::helper_client::Helper;
use eic_agent::run::status::Status;

use crate::authority::Authority;
use crate::documents::{CA_KEY, key};
use crate::sandbox::{Host, Running, now, ok, wait_until};
use crate::standin::Standin;
use eic_protocol::subject_key::SubjectKey;
use rustix::process::{Pid, Signal, kill_process};
use ssh_key::certificate::{Builder, CertType};

pub(crate) struct Station {
    pub(crate) host: Host,
    pub(crate) authority: Authority,
    pub(crate) ca: Standin,
    helper: Option<Running>,
}

impl Station {
    /// An installed host with a helper that listens; `more` goes into `[service]`.
    pub(crate) fn new(more: &str) -> Option<Self> {
        let host = Host::new()?;
        let service = env!("CARGO_BIN_EXE_eic-agent-service");
        host.copy(service, "bin/eic-agent-service");
        let authority = Authority::new();
        host.documents(&authority.installed);
        ok(&host.install(&["--no-reload"]));
        let ca = Standin::start();
        let toml = host.read("etc/eic/agent.toml");
        let text = format!(
            "{toml}\n[service]\nca = \"{}\"\npoll_seconds = 2\nreport = false\nhost_certificates = false\nlogin_log = \"/var/lib/auth.log\"\n{more}\n",
            ca.url()
        );
        host.write("etc/eic/agent.toml", text);
        host.write("var-lib/auth.log", "");
        fs::create_dir(host.path("run/eic")).unwrap();
        let (uid, gid) = account(&host.read("etc/passwd"));
        chown(host.path("run/eic"), Some(uid), Some(gid)).unwrap();
        let mut station = Self {
            host,
            authority,
            ca,
            helper: None,
        };
        station.helper = Some(station.listen());
        Some(station)
    }

    /// Edits the agent's configuration, which ends in `[service]`.
    pub(crate) fn configure(&self, edit: impl FnOnce(String) -> String) {
        let toml = self.host.read("etc/eic/agent.toml");
        self.host.write("etc/eic/agent.toml", edit(toml));
    }

    /// Has host certificates asked for, which the scene leaves out.
    pub(crate) fn with_host_certificates(&self) {
        self.configure(|toml| {
            toml.replace("host_certificates = false", "host_certificates = true")
        });
    }

    /// Has instance metadata asked at `url`.
    pub(crate) fn with_metadata(&self, url: &str) {
        self.configure(|toml| format!("[instance_connect]\nimds_endpoint = \"{url}\"\n{toml}"));
    }

    /// The host's public key of a kind, as its file has it.
    pub(crate) fn host_key(&self, kind: &str) -> SubjectKey {
        let line = self.host.read(&format!("etc/ssh/ssh_host_{kind}_key.pub"));
        let words: Vec<&str> = line.split_whitespace().take(2).collect();
        words.join(" ").parse().unwrap()
    }

    /// Puts a host certificate in place as if it had come an hour ago.
    pub(crate) fn put_certificate(&self, line: &str) {
        self.host.write(CERTIFICATE, format!("{line}\n"));
        self.age_certificate();
    }

    /// Has the host certificate in place look as if it had come an hour ago: the helper takes one at a time.
    pub(crate) fn age_certificate(&self) {
        let file = fs::File::options()
            .write(true)
            .open(self.host.path(CERTIFICATE));
        let hour = std::time::Duration::from_secs(3600);
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(now()) - hour;
        file.unwrap().set_modified(then).unwrap();
    }

    /// The host certificate in place.
    pub(crate) fn in_place(&self) -> Option<ssh_key::Certificate> {
        let line = fs::read_to_string(self.host.path(CERTIFICATE)).ok()?;
        Some(line.trim_end().parse().unwrap())
    }

    /// The key that it certifies.
    pub(crate) fn certified(&self) -> Option<SubjectKey> {
        let key = ssh_key::PublicKey::from(self.in_place()?.public_key().clone());
        Some(key.to_openssh().unwrap().parse().unwrap())
    }

    fn listen(&self) -> Running {
        // With what systemd leaves it, not with all of root's capabilities.
        let mut command = self.host.command("setpriv");
        command.args([
            "--bounding-set",
            "-all,+dac_read_search",
            "--inh-caps",
            "-all",
        ]);
        command.args(["--no-new-privs", "/usr/local/bin/eic-agent", "helper"]);
        command.args(["--listen", "/run/eic-helper.sock"]);
        command.stdout(Stdio::null()).stderr(self.log());
        let child = command.spawn().unwrap();
        let socket = self.host.path("run/eic-helper.sock");
        wait_until("the helper's socket", || {
            UnixStream::connect(&socket).is_ok()
        });
        Running(child)
    }

    /// The helper's door for logins, with the capabilities that its unit leaves it.
    pub(crate) fn logins(&self, capabilities: &str) -> Running {
        let socket = self.host.path("run/eic-logins.sock");
        let _ = fs::remove_file(&socket);
        // On a terminal it would not start.
        let mut command = self.host.command("setsid");
        command.args([
            "setpriv",
            "--bounding-set",
            capabilities,
            "--inh-caps",
            "-all",
        ]);
        command.args(["--no-new-privs", "/usr/local/bin/eic-agent", "helper"]);
        command.args(["--logins", "--listen", "/run/eic-logins.sock"]);
        command.stdout(Stdio::null()).stderr(self.log());
        let running = Running(command.spawn().unwrap());
        wait_until("the socket for logins", || {
            UnixStream::connect(&socket).is_ok()
        });
        running
    }

    /// Has the helper stopped and go on, as a debugger or an administrator does (signal(7)).
    pub(crate) fn interrupt_helper(&self) {
        let id = self.helper.as_ref().unwrap().0.id();
        let pid = Pid::from_raw(id.try_into().unwrap()).unwrap();
        let is_stopped = || {
            let about = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
            about.rsplit_once(')').unwrap().1.starts_with(" T")
        };
        kill_process(pid, Signal::STOP).unwrap();
        wait_until("the helper's stop", is_stopped);
        kill_process(pid, Signal::CONT).unwrap();
        wait_until("the helper's going on", || !is_stopped());
    }

    pub(crate) fn stop_helper(&mut self) {
        self.helper = None;
    }

    pub(crate) fn start_helper(&mut self) {
        self.helper = Some(self.listen());
    }

    fn log(&self) -> fs::File {
        let path = self.host.path("run/service.log");
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap()
    }

    /// What helper and service have written.
    pub(crate) fn said(&self) -> String {
        self.host.read("run/service.log")
    }

    /// `eic-agent run` as its unprivileged account.
    pub(crate) fn service(&self) -> Running {
        let mut command = self.host.command("setpriv");
        command.args(["--reuid", "eic", "--regid", "eic", "--clear-groups"]);
        command.args(["/usr/local/bin/eic-agent", "run"]);
        // D19: the environment's proxy must not be used.
        command
            .env("HTTP_PROXY", "http://127.0.0.1:1")
            .env("http_proxy", "http://127.0.0.1:1");
        command.env("ALL_PROXY", "http://127.0.0.1:1");
        command.stdout(Stdio::null()).stderr(self.log());
        Running(command.spawn().unwrap())
    }

    pub(crate) fn helper(&self) -> Helper {
        Helper::at(&self.host.path("run/eic-helper.sock"))
    }

    /// Offers the authority's documents as they are now.
    pub(crate) fn offer(&self) -> Offer {
        let response = self.authority.response();
        Offer {
            roots: response.roots,
            bundle: Some(response.bundle),
            view: response.view,
        }
    }

    /// Has the helper take the authority's documents.
    pub(crate) fn install(&self) -> TrustAnswer {
        self.install_offer(self.offer())
    }

    pub(crate) fn install_offer(&self, offer: Offer) -> TrustAnswer {
        self.done(&Request::InstallTrust(offer))
    }

    /// Has the helper make its files anew from the documents.
    pub(crate) fn repair(&self) -> TrustAnswer {
        self.done(&Request::Repair {})
    }

    fn done(&self, request: &Request) -> TrustAnswer {
        match self.helper().ask(request) {
            Ok(Answer::Trust(answer)) => answer,
            other => panic!("{request:?}: {other:?}; helper: {}", self.said()),
        }
    }

    pub(crate) fn status(&self) -> Status {
        let read = Status::read(&self.host.path("run/eic/status.json"));
        read.unwrap().unwrap_or_default()
    }

    /// Waits until the service tells a problem of this task whose reason holds this text.
    pub(crate) fn wait_for_problem(&self, task: &str, text: &str) {
        wait_until(
            &format!("the problem `{text}` of {task}: {:?}", self.status()),
            || {
                let status = self.status();
                let problem = status.problems.get(task);
                problem.is_some_and(|problem| !status.healthy && problem.reason.contains(text))
            },
        );
    }

    /// Waits until the service has this sequence in place and no problem.
    pub(crate) fn wait_for_sequence(&self, sequence: u64) {
        wait_until(
            &format!("bundle {sequence}: {:?}, {}", self.status(), self.said()),
            || {
                let status = self.status();
                let installed = status
                    .installed
                    .and_then(|installed| installed.bundle_sequence);
                installed == Some(sequence) && status.healthy
            },
        );
    }

    /// Name and content of every file that sshd and its commands read.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let names = [
            "documents.json",
            "trust.json",
            "user-ca-keys",
            "revoked-keys",
            "host-cert.pub",
        ];
        let read = |name: &str| fs::read(self.host.path(&format!("var-lib/eic/{name}"))).ok();
        names
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), read(name)?)))
            .collect()
    }

    /// What sshd's command answers for a user and a CA key.
    pub(crate) fn principals(&self, user: &str, seed: u8) -> Output {
        let fingerprint = crate::documents::public(seed).fingerprint();
        self.host
            .agent(&["authorized-principals", user, &fingerprint])
    }

    /// The user's key with a certificate of this serial by this CA key.
    pub(crate) fn certificate(&self, serial: u64, ca: u8, principal: &str) {
        let user = key(40);
        self.identity(40);
        let mut builder =
            Builder::new(vec![7; 16], user.public_key(), now() - 10, now() + 300).unwrap();
        builder
            .serial(serial)
            .unwrap()
            .cert_type(CertType::User)
            .unwrap();
        builder
            .key_id("eic:test")
            .unwrap()
            .valid_principal(principal)
            .unwrap();
        let certificate = builder.sign(&key(ca)).unwrap().to_openssh().unwrap();
        self.host.write("etc/user/id-cert.pub", certificate);
    }

    /// A seed's key as the user's, without a certificate.
    pub(crate) fn identity(&self, seed: u8) {
        let user = key(seed);
        let private = user.to_openssh(ssh_key::LineEnding::LF).unwrap();
        self.host.write("etc/user/id", private.as_bytes());
        mode(&self.host.path("etc/user/id"), 0o600);
        self.host
            .write("etc/user/id.pub", user.public_key().to_openssh().unwrap());
        let _ = fs::remove_file(self.host.path("etc/user/id-cert.pub"));
    }

    /// `ssh root@host COMMAND` with that certificate, through an sshd of its own in inetd mode.
    pub(crate) fn ssh(&self, sshd: &str, command: &str) -> Command {
        let proxy = format!("ProxyCommand=/usr/sbin/sshd -i {sshd} -o UsePAM=no");
        let mut ssh = self.host.command("ssh");
        ssh.args(["-F", "none", "-o", &proxy, "-o", "BatchMode=yes"]);
        ssh.args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]);
        ssh.args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]);
        ssh.args(["-i", "/etc/user/id", "root@host", command]);
        ssh
    }

    /// Whether a certificate of this serial by the CA logs root in.
    pub(crate) fn logs_in(&self, serial: u64) -> bool {
        self.certificate(serial, CA_KEY, ROOT_HERE);
        let output = self.ssh("-e", "id -u").output().unwrap();
        output.status.success() && output.stdout == b"0\n"
    }
}

/// Where the host certificate is.
const CERTIFICATE: &str = "var-lib/eic/host-cert.pub";

/// root on the host of the tests.
pub(crate) const ROOT_HERE: &str = "root@i-0123456789abcdef0";

pub(crate) fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// uid and gid of `eic`.
fn account(passwd: &str) -> (u32, u32) {
    let line = passwd
        .lines()
        .find(|line| line.starts_with("eic:"))
        .unwrap();
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}
