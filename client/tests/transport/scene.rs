//! A host with a real sshd, the stand-ins around it, and the commands of somebody with AWS credentials. There is no
//! CA: the key is pushed, the host key is taken on first use.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ssh_key::LineEnding;

use crate::service::{ENDPOINT, HOST, Service};
use crate::stub::{INSTANCE, World, private};

const HOST_KEY: u8 = 30;

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) service: Service,
    pub(crate) user: String,
    pub(crate) port: u16,
    sshd: Child,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.eic(&["logout"]).stdout(Stdio::null()).status();
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

impl Scene {
    /// An instance that answers on its own address only through the endpoint.
    pub(crate) async fn new() -> Self {
        let world = World::without_agent().await;
        world.configure(None, Vec::new());
        let dir = world.dir.path();
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711)).unwrap();
        world.state().authorized_keys = Some(dir.join("pushed"));
        let service = Service::start(dir).await;
        let id = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(id).unwrap().trim().to_owned();
        let (sshd, port) = running_sshd(dir);
        service.state().target = Some(([127, 0, 0, 1], port).into());
        let scene = Self {
            world,
            service,
            user,
            port,
            sshd,
        };
        scene.set_network("create-complete", "sg-eice");
        let block =
            eic_login::ssh_config::block::Block::new(program(), &scene.world.paths.run_dir, &[])
                .unwrap();
        std::fs::write(scene.config(), block.render()).unwrap();
        scene
    }

    /// 127.0.0.9 is this machine too, but nothing listens there.
    pub(crate) fn set_network(&self, endpoint_state: &str, admitted: &str) {
        let mut state = self.world.state();
        state.address = "127.0.0.9".to_owned();
        state.network = "<vpcId>vpc-1</vpcId><subnetId>subnet-1</subnetId>\
                         <groupSet><item><groupId>sg-web</groupId></item></groupSet>"
            .to_owned();
        let endpoints = format!(
            "<R><instanceConnectEndpointSet><item><instanceConnectEndpointId>{ENDPOINT}</instanceConnectEndpointId>\
             <state>{endpoint_state}</state><vpcId>vpc-1</vpcId><subnetId>subnet-1</subnetId><dnsName>{HOST}</dnsName>\
             <securityGroupIdSet><item>sg-eice</item></securityGroupIdSet></item></instanceConnectEndpointSet></R>"
        );
        let groups = format!(
            "<R><securityGroupInfo><item><ipPermissions><item><ipProtocol>tcp</ipProtocol><fromPort>0</fromPort>\
             <toPort>65535</toPort><groups><item><groupId>{admitted}</groupId></item></groups></item></ipPermissions>\
             </item></securityGroupInfo></R>"
        );
        state
            .aws_answers
            .insert("DescribeInstanceConnectEndpoints", endpoints);
        state.aws_answers.insert("DescribeSecurityGroups", groups);
    }

    /// From now on the host's own address leads to its sshd as well.
    pub(crate) fn host_answers(&self) {
        let listener = std::net::TcpListener::bind(("127.0.0.9", self.port)).unwrap();
        let port = self.port;
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let host = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
                let (client_too, host_too) =
                    (client.try_clone().unwrap(), host.try_clone().unwrap());
                std::thread::spawn(move || copy(&client, &host));
                std::thread::spawn(move || copy(&host_too, &client_too));
            }
        });
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.world.dir.path().join("ssh_config")
    }

    pub(crate) fn environment(&self, command: &mut Command) {
        command
            .env_clear()
            .env("HOME", self.world.dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ENDPOINT_URL", &self.world.aws)
            .env("HTTPS_PROXY", format!("http://{}", self.service.proxy))
            .env("NO_PROXY", "localhost,127.0.0.0/8")
            .env("SSL_CERT_FILE", &self.service.roots)
            .stdin(Stdio::null());
    }

    pub(crate) fn eic(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args);
        self.environment(&mut command);
        command
    }

    /// `ssh` or `scp` with the block; the way is the last argument of the ProxyCommand.
    pub(crate) fn through(&self, program: &str, via: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        let run_dir = self.world.paths.run_dir.display();
        let eic = self::program().display();
        let proxy = format!(
            "ProxyCommand='{eic}' connect --dir '{run_dir}' --user '%r' --host '%h' --port '%p' {via}"
        );
        command.arg("-F").arg(self.config()).arg("-o").arg(proxy);
        command
            .args([
                "-o",
                &format!("User={}", self.user),
                "-o",
                &format!("Port={}", self.port),
            ])
            .args(args);
        self.environment(&mut command);
        command
    }

    pub(crate) async fn ssh(&self, via: &str, args: &[&str]) -> Output {
        output(self.through("ssh", via, args)).await
    }

    pub(crate) async fn echo(&self, via: &str) -> Output {
        self.ssh(via, &[INSTANCE, "echo in"]).await
    }
}

/// The stand-ins answer on this thread's runtime.
pub(crate) async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// Shell: stops whoever started the script and has it go on, as Ctrl-Z and fg do. signal(7): a read with a time limit
/// meets EINTR then.
pub(crate) const STOP_PARENT: &str = "for i in 1 2 3 4 5; do\n\
     sleep 0.02; kill -STOP $PPID; sleep 0.02; kill -CONT $PPID\n\
     done\n";

pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_eic-login"))
}

pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}

fn copy(mut from: &std::net::TcpStream, mut to: &std::net::TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// An sshd that listens. Another process may take a free port first: then the next one is tried.
fn running_sshd(dir: &Path) -> (Child, u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut sshd = start_sshd(dir, port);
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

fn start_sshd(dir: &Path, port: u16) -> Child {
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let key = file(
        "host_key",
        &private(HOST_KEY).to_openssh(LineEnding::LF).unwrap(),
    );
    let config = file(
        "sshd_config",
        &format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {key}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PidFile none\nSubsystem sftp internal-sftp\nMaxStartups 100\n",
            dir.join("pushed").display()
        ),
    );
    let log = dir.join("sshd.log");
    let sshd = format!("exec /usr/sbin/sshd -D -E {} -f {config}", log.display());
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
