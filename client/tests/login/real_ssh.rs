//! Plain ssh through `eic-login`: certificate, pushed key, `-A`, scp, and what is refused.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use eic_protocol::api::instance::Enrolment;
use eic_protocol::cert::options::Extension;
use ssh_key::LineEnding;

use crate::config::{Config, HostProfile};
use crate::stub::{
    HOST_CA, INSTANCE, OTHER_INSTANCE, USER_CA, World, host_certificate, private, public,
};
use eic_login::key::KeyType;

const HOST_KEY: u8 = 30;
pub(crate) const OWN_KEY: u8 = 31;

/// A world with a real sshd on this machine as its instance, and the block for ssh.
pub(crate) struct Scene {
    pub(crate) world: World,
    sshd: Child,
    pub(crate) user: String,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.eic(&["logout"]).stdout(Stdio::null()).status();
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

impl Scene {
    /// `host` is the instance that the host's certificate names; none: it shows a plain key.
    pub(crate) async fn new(host: Option<&str>) -> Self {
        let world = World::without_agent().await;
        std::fs::set_permissions(world.dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        world.state().authorized_keys = Some(world.dir.path().join("pushed"));
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned();
        let (sshd, port) = running_sshd(world.dir.path(), host, &user);
        world.state().port = port;
        let block = eic_login::ssh_config::block::Block::new(
            program(),
            &world.paths.run_dir,
            &["web-*".to_owned()],
        )
        .unwrap();
        std::fs::write(world.dir.path().join("ssh_config"), block.render()).unwrap();
        Self { world, sshd, user }
    }

    pub(crate) fn environment(&self, command: &mut Command) {
        command
            .env_clear()
            .env("HOME", self.world.dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap());
        command
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret");
        command
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ENDPOINT_URL", &self.world.aws)
            .stdin(Stdio::null());
    }

    pub(crate) fn eic(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args);
        self.environment(&mut command);
        command
    }

    pub(crate) async fn run(
        &self,
        program: &str,
        args: &[&str],
        more: impl FnOnce(&mut Command),
    ) -> Output {
        let mut command = Command::new(program);
        command
            .arg("-F")
            .arg(self.world.dir.path().join("ssh_config"))
            .args(args);
        self.environment(&mut command);
        more(&mut command);
        // The stand-ins answer on this thread's runtime.
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn ssh(&self, args: &[&str]) -> Output {
        self.run("ssh", args, |_| {}).await
    }

    pub(crate) fn sshd_log(&self) -> String {
        std::fs::read_to_string(self.world.dir.path().join("sshd.log")).unwrap_or_default()
    }
}

pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_eic-login"))
}

/// An sshd that listens. Another process may take a free port first: then the next one is tried.
fn running_sshd(dir: &Path, certificate_for: Option<&str>, user: &str) -> (Child, u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut sshd = start_sshd(dir, port, certificate_for, user);
        let listening = format!("Server listening on 127.0.0.1 port {port}");
        while sshd.try_wait().unwrap().is_none() {
            let log = std::fs::read_to_string(dir.join("sshd.log")).unwrap_or_default();
            if log.contains(&listening) {
                return (sshd, port);
            }
            assert!(Instant::now() < deadline, "sshd did not start: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(Instant::now() < deadline, "sshd did not start");
    }
}

fn start_sshd(dir: &Path, port: u16, certificate_for: Option<&str>, user: &str) -> Child {
    let config = sshd_config(dir, port, certificate_for, user);
    let log = dir.join("sshd.log");
    let sshd = format!(
        "exec /usr/sbin/sshd -D -E {} -f {}",
        log.display(),
        config.display()
    );
    // As root, sshd wants /run/sshd: made in a mount namespace of its own, so that nothing is left behind.
    let is_root = rustix::process::geteuid().is_root();
    let mut command = Command::new(if is_root { "unshare" } else { "sh" });
    if is_root {
        command.args(["--mount", "--kill-child", "sh"]);
    }
    let prepared = match is_root {
        true => format!("mount -t tmpfs tmpfs /run && mkdir /run/sshd && {sshd}"),
        false => sshd,
    };
    command
        .args(["-c", &prepared])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn sshd_config(dir: &Path, port: u16, certificate_for: Option<&str>, user: &str) -> PathBuf {
    let file = |name: &str, text: &str, mode: u32| -> String {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let host_key = file(
        "host_key",
        &private(HOST_KEY).to_openssh(LineEnding::LF).unwrap(),
        0o600,
    );
    let ca = file("user_ca", &format!("{}\n", public(USER_CA)), 0o644);
    let principals = file("principals", &format!("{user}@{INSTANCE}\n"), 0o644);
    let pushed = dir.join("pushed").display().to_string();
    let mut config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {host_key}\nTrustedUserCAKeys {ca}\nAuthorizedPrincipalsFile {principals}\n\
         AuthorizedKeysFile {pushed}\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
         MaxAuthTries 3\nKbdInteractiveAuthentication no\nPidFile none\nSubsystem sftp internal-sftp\nLogLevel VERBOSE\n"
    );
    if let Some(instance) = certificate_for {
        let blob = host_certificate(HOST_CA, instance, HOST_KEY);
        let line = ssh_key::Certificate::from_bytes(&blob)
            .unwrap()
            .to_openssh()
            .unwrap();
        config.push_str(&format!(
            "HostCertificate {}\n",
            file("host_key-cert.pub", &line, 0o644)
        ));
    }
    PathBuf::from(file("sshd_config", &config, 0o644))
}

pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test]
async fn another_hosts_certificate_ends_the_login() {
    // H-10, H-21: also where the user's own options would accept anything new.
    let scene = Scene::new(Some(OTHER_INSTANCE)).await;
    for target in [INSTANCE, "web-1"] {
        let output = scene
            .ssh(&["-o", "StrictHostKeyChecking=yes", target, "echo in"])
            .await;
        assert!(
            !output.status.success() && said(&output).contains("host certificate"),
            "{}",
            said(&output)
        );
    }
    assert!(
        !scene.sshd_log().contains("Accepted"),
        "{}",
        scene.sshd_log()
    );
}

#[tokio::test]
async fn ssh_options_that_switch_host_checking_off_get_no_signature() {
    // H-19: a session-bind to a host key that was not verified for this login.
    let scene = Scene::new(Some(INSTANCE)).await;
    let output = scene
        .ssh(&[
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "KnownHostsCommand=none",
            INSTANCE,
            "echo in",
        ])
        .await;
    assert!(!output.status.success(), "{}", said(&output));
    assert!(
        !scene.sshd_log().contains("Accepted"),
        "{}",
        scene.sshd_log()
    );
}

#[tokio::test]
async fn a_certificate_opens_an_enrolled_host_and_no_key_is_on_disk() {
    // H-05, H-08
    let scene = Scene::new(Some(INSTANCE)).await;
    for target in [INSTANCE, "web-1"] {
        let output = scene.ssh(&[target, "echo in"]).await;
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "in\n",
            "{}\n{}",
            said(&output),
            scene.sshd_log()
        );
    }
    assert!(
        scene.sshd_log().contains("Accepted publickey")
            && scene.sshd_log().contains("ID eic:alice:"),
        "{}",
        scene.sshd_log()
    );
    assert_eq!(scene.world.state().certificates, 1);
    for entry in std::fs::read_dir(scene.world.paths.run_dir.clone())
        .unwrap()
        .flatten()
    {
        let is_file = entry.file_type().unwrap().is_file();
        assert!(
            !is_file || entry.metadata().unwrap().len() == 0,
            "{:?}",
            entry.path()
        );
    }
}

#[tokio::test]
async fn every_key_type_of_a_profile_opens_both_kinds_of_host() {
    for kind in [KeyType::EcdsaP256, KeyType::Rsa3072] {
        let scene = Scene::new(None).await;
        let url = Config::load(&scene.world.paths)
            .unwrap()
            .ca
            .unwrap()
            .url
            .to_string();
        let profile = HostProfile {
            key_type: kind,
            ..HostProfile::default()
        };
        scene.world.configure(Some(&url), vec![profile]);
        scene.world.state().enrolment = Enrolment::Unknown;
        let certified = scene.ssh(&[INSTANCE, "echo in"]).await;
        assert!(
            said(&certified).starts_with("in\n"),
            "{kind:?}: {}",
            said(&certified)
        );
        scene.world.state().enrolment = Enrolment::Legacy;
        std::fs::write(scene.world.dir.path().join("principals"), "").unwrap();
        let pushed = scene.ssh(&["web-1", "echo in"]).await;
        assert!(
            said(&pushed).contains("in\n"),
            "{kind:?}: {}",
            said(&pushed)
        );
        assert!(scene.sshd_log().contains(if kind == KeyType::Rsa3072 {
            "RSA SHA256"
        } else {
            "ECDSA SHA256"
        }));
    }
}

#[tokio::test]
async fn scp_and_a_control_master_work() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let (from, to) = (
        scene.world.dir.path().join("from"),
        scene.world.dir.path().join("to"),
    );
    std::fs::write(&from, "content").unwrap();
    let target = format!("{INSTANCE}:{}", to.display());
    let output = scene
        .run("scp", &[from.to_str().unwrap(), &target], |_| {})
        .await;
    assert!(
        output.status.success() && std::fs::read(&to).unwrap() == b"content",
        "{}",
        said(&output)
    );
    let path = scene.world.dir.path().join("master");
    let control = format!("ControlPath={}", path.display());
    let master = [
        "-o",
        "ControlMaster=auto",
        "-o",
        "ControlPersist=5",
        "-o",
        &control,
        INSTANCE,
        "echo in",
    ];
    for _ in 0..2 {
        let output = scene
            .run("ssh", &master, |command| {
                command.stderr(Stdio::null());
            })
            .await;
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "in\n",
            "{}",
            said(&output)
        );
    }
    let _ = scene.ssh(&["-O", "exit", "-o", &control, INSTANCE]).await;
}

#[tokio::test]
async fn a_legacy_host_opens_to_the_pushed_key() {
    let scene = Scene::new(None).await;
    scene.world.state().enrolment = Enrolment::Legacy;
    let output = scene.ssh(&[INSTANCE, "echo in"]).await;
    assert!(
        said(&output).starts_with("in\n"),
        "{}\n{}",
        said(&output),
        scene.sshd_log()
    );
    assert!(
        said(&output).contains("Instance Connect") && said(&output).contains("first login"),
        "{}",
        said(&output)
    );
    assert_eq!(
        scene.world.state().pushes,
        [format!("{}@{INSTANCE}", scene.user)]
    );
}

/// The user's own agent with a number of keys; ended with the test.
pub(crate) struct OwnAgent {
    process: Child,
    socket: PathBuf,
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl OwnAgent {
    pub(crate) fn is_used_by(&self, command: &mut Command) {
        command.env("SSH_AUTH_SOCK", &self.socket);
    }

    pub(crate) async fn new(dir: &Path, keys: std::ops::Range<u8>) -> Self {
        let socket = dir.join("own-agent");
        let mut command = Command::new("ssh-agent");
        let process = command
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        crate::stub::wait_for(|| socket.exists()).await;
        for key in keys {
            let file = dir.join(format!("own-{key}"));
            let text = private(key).to_openssh(LineEnding::LF).unwrap();
            crate::files::create_new(&file, text.as_bytes(), 0o600).unwrap();
            let mut add = Command::new("ssh-add");
            let added = add
                .arg(&file)
                .env("SSH_AUTH_SOCK", &socket)
                .stderr(Stdio::null())
                .status();
            assert!(added.unwrap().success());
        }
        Self { process, socket }
    }
}

#[tokio::test]
async fn a_hostile_host_behind_a_forwarded_agent_sees_the_users_own_keys_only() {
    // H-11, H-20
    let scene = Scene::new(Some(INSTANCE)).await;
    let url = Config::load(&scene.world.paths)
        .unwrap()
        .ca
        .unwrap()
        .url
        .to_string();
    let all = Some(Extension::ALL.into_iter().collect());
    let forwarding = HostProfile {
        extensions: all,
        ..HostProfile::default()
    };
    scene.world.configure(Some(&url), vec![forwarding]);
    let agent = OwnAgent::new(scene.world.dir.path(), OWN_KEY..OWN_KEY + 1).await;
    let output = scene
        .run("ssh", &["-A", INSTANCE, "ssh-add -l"], |command| {
            agent.is_used_by(command)
        })
        .await;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        listed.contains(&public(OWN_KEY).fingerprint()),
        "{}",
        said(&output)
    );
    assert_eq!(listed.lines().count(), 1, "{listed}");
}

#[tokio::test]
async fn eight_keys_of_the_users_own_do_not_use_up_the_tries() {
    // H-08: sshd here takes three.
    let scene = Scene::new(None).await;
    scene.world.state().enrolment = Enrolment::Legacy;
    let agent = OwnAgent::new(scene.world.dir.path(), OWN_KEY..OWN_KEY + 8).await;
    let output = scene
        .run("ssh", &[INSTANCE, "echo in"], |command| {
            agent.is_used_by(command)
        })
        .await;
    assert!(
        said(&output).starts_with("in\n"),
        "{}\n{}",
        said(&output),
        scene.sshd_log()
    );
}

#[tokio::test]
async fn ssh_copy_id_is_refused_before_anything_is_asked_for() {
    let scene = Scene::new(None).await;
    scene.world.state().enrolment = Enrolment::Legacy;
    crate::files::private_dir(&scene.world.dir.path().join(".ssh")).unwrap();
    let agent = OwnAgent::new(scene.world.dir.path(), OWN_KEY..OWN_KEY + 8).await;
    // `-n` writes nothing, should it come so far: the host's account is this machine's own.
    for way in [&["-n", INSTANCE][..], &["-n", "-o", "Port=2222", "web-1"]] {
        let output = scene
            .run("ssh-copy-id", way, |command| agent.is_used_by(command))
            .await;
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("ERROR: eic-login: `ssh-copy-id` is refused") && !text.contains("added"),
            "{text}"
        );
    }
    let state = scene.world.state();
    assert!(state.sessions.is_empty() && state.pushes.is_empty());
    assert!(!scene.sshd_log().contains("Connection from"));
}

#[tokio::test]
async fn the_wrapper_works_where_setup_was_not_run() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let mut command = scene.eic(&["ssh", "-T", INSTANCE, "echo in; echo \"a b\""]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "in\na b\n",
        "{}",
        said(&output)
    );
}

#[tokio::test]
async fn a_host_behind_a_jump_host_gets_its_certificate_too() {
    let scene = Scene::new(Some(INSTANCE)).await;
    let port = scene.world.state().port.to_string();
    // The bastion resolves the target's name; here both are this machine, under its address.
    let target = scene
        .ssh(&[
            "-J",
            "web-2",
            "-p",
            &port,
            "-o",
            "Hostname=127.0.0.1",
            "web-1",
            "echo in",
        ])
        .await;
    assert!(
        said(&target).starts_with("in\n"),
        "{}\n{}",
        said(&target),
        scene.sshd_log()
    );
    assert_eq!(
        scene.sshd_log().matches("Accepted publickey").count(),
        2,
        "{}",
        scene.sshd_log()
    );
}

#[tokio::test]
async fn a_denial_is_told_in_one_line() {
    let scene = Scene::new(Some(INSTANCE)).await;
    scene.world.state().refuse = Some(eic_protocol::api::problem::ProblemCode::NotAllowed);
    let output = scene.ssh(&[INSTANCE, "echo in"]).await;
    let text = said(&output);
    assert!(!output.status.success());
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("eic-login: "))
            .count(),
        1,
        "{text}"
    );
    assert!(text.contains("not-allowed"), "{text}");
}
