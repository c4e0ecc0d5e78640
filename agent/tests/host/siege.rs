//! A listening sshd under fifty logins at once while the metadata service misbehaves, and the kernel's record of
//! what the login path does.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::documents::INSTANCE;
use crate::imds::{Answer, Imds};
use crate::login::{identity_of, instance_connect, key_line, listening};
use crate::pki::ed25519_line;
use crate::sandbox::{Host, Running, current, ok, wait_until};

const PUSHED: u8 = 41;
const ATTACKERS: usize = 50;

/// More unauthenticated connections at a time than the default (10): those of the siege are all open at once. And
/// more time for each than the siege may take: sshd's own limit is not what ends them.
const OPTIONS: [&str; 5] = [
    "ListenAddress=127.0.0.1",
    "UsePAM=no",
    "MaxStartups=200",
    "LoginGraceTime=600",
    "PidFile=/run/sshd.pid",
];

/// sshd on a port of its own; it ends with the value.
struct Server {
    port: u16,
    _sshd: Running,
}

impl Server {
    fn start(host: &Host) -> Self {
        let start = |port: u16| {
            let mut command = host.command("/usr/sbin/sshd");
            command.args(["-D", "-q", "-p", &port.to_string()]);
            for option in OPTIONS {
                command.args(["-o", option]);
            }
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let (port, sshd) = listening(host, start);
        Self { port, _sshd: sshd }
    }

    /// Whether one login with this identity gets in: on a busy machine not always the first, since the agent's own
    /// limits end it then.
    fn lets_in(&self, host: &Host, identity: &str) -> bool {
        (0..3).any(|_| ok(&self.logins(host, 1, identity).output().unwrap()) == "0\n")
    }

    /// `count` logins at once with one identity; prints one `0` for each that got in.
    fn logins(&self, host: &Host, count: usize, identity: &str) -> Command {
        // The clients of a siege are other machines in life: they take no time of this one's.
        let nice = if count > 1 { "nice -n 19 " } else { "" };
        let script = format!(
            "i=0; while [ $i -lt {count} ]; do {nice}ssh -F none -p {} -o BatchMode=yes -o StrictHostKeyChecking=no \
             -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes -o IdentityAgent=none -i {identity} \
             root@127.0.0.1 id -u 2>/dev/null & i=$((i + 1)); done; wait",
            self.port
        );
        let mut command = host.command("sh");
        command.args(["-c", &script]);
        command
    }
}

/// The pushed key, which nobody can verify during the siege.
const ATTACKER: &str = "/etc/user/id";
/// A certificate for this host.
const OTHER: &str = "/etc/other-id";

fn identities(host: &Host) {
    identity_of(host, 46, Some(&format!("root@{INSTANCE}")));
    for suffix in ["", "-cert.pub"] {
        let (from, to) = (
            format!("etc/user/id{suffix}"),
            format!("etc/other-id{suffix}"),
        );
        std::fs::copy(host.path(&from), host.path(&to)).unwrap();
    }
    identity_of(host, PUSHED, None);
}

fn besieged(name: &str, imds: &Imds, host: &Host, server: &Server) {
    let started = Instant::now();
    let before = imds.connections();
    let output = std::fs::File::create(host.path("run/siege")).unwrap();
    let mut siege = server.logins(host, ATTACKERS, ATTACKER);
    let mut siege = Running(siege.stdout(output).spawn().unwrap());
    // It has begun once the agents of some logins ask, or where nothing listens for them, after a moment.
    let asked =
        || imds.connections() > before + 5 || started.elapsed() > Duration::from_millis(500);
    wait_until("the siege", asked);
    let asked = Instant::now();
    assert!(server.lets_in(host, OTHER), "{name}");
    let served = asked.elapsed();
    assert!(siege.0.wait().unwrap().success());
    let got_in = std::fs::read_to_string(host.path("run/siege")).unwrap();
    assert_eq!(got_in, "", "{name}");
    println!(
        "{name}: another login took {served:?}, the siege {:?}",
        started.elapsed()
    );
    // Each agent gives up after 2 s, twice for a login; the rest is 50 clients and servers on a few cores. Without
    // that limit sshd's own of 600 s would be the first to end them.
    assert!(served < Duration::from_secs(90), "{name}: {served:?}");
    assert!(started.elapsed() < Duration::from_secs(300), "{name}");
}

#[test]
fn fifty_logins_at_once_under_a_bad_metadata_service_keep_nobody_out() {
    // I-04
    let Some(host) = Host::new() else { return };
    host.documents(&current());
    let imds = instance_connect(&host, "root", &key_line(PUSHED));
    ok(&host.install(&[]));
    identities(&host);
    let server = Server::start(&host);
    let token = |answer| {
        imds.set("PUT", "/latest/api/token", answer);
    };
    for (name, answer) in [
        ("silent", Answer::Silence),
        (
            "slow",
            Answer::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n".repeat(20)),
        ),
        (
            "oversized",
            Answer::Raw(
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{}",
                    "x".repeat(200_000)
                )
                .into_bytes(),
            ),
        ),
        ("lying", Answer::ok("TOKEN\r\nX-Evil: 1")),
    ] {
        token(answer);
        besieged(name, &imds, &host, &server);
    }
    let toml = host.read("etc/eic/agent.toml");
    host.write(
        "etc/eic/agent.toml",
        toml.replace(&imds.url(), "http://127.0.0.1:1"),
    );
    besieged("refused", &imds, &host, &server);
    // And none of it has left anything behind: the pushed key opens the host again.
    host.write("etc/eic/agent.toml", toml);
    token(Answer::ok(crate::imds::TOKEN));
    assert!(server.lets_in(&host, ATTACKER));
}

#[test]
fn the_keys_command_spawns_nothing_and_writes_no_file() {
    // I-20: judged by the kernel's own record of its system calls
    let Some(host) = Host::new() else { return };
    if !std::path::Path::new("/usr/bin/strace").exists() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let _imds = instance_connect(&host, "ubuntu", &ed25519_line(5));
    let line = [
        "-f",
        "-e",
        "trace=process,openat,open,creat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,renameat2,bind",
        "/usr/local/bin/eic-agent",
        "authorized-keys",
        "ubuntu",
    ];
    let output = host.command("strace").args(line).output().unwrap();
    let calls = String::from_utf8_lossy(&output.stderr);
    assert_eq!(ok(&output), format!("{}\n", ed25519_line(5)));
    assert!(calls.contains("agent.toml"), "{calls}");
    for never in [
        "O_WRONLY", "O_RDWR", "O_CREAT", "fork(", "mkdir", "unlink", "rename", "bind(",
    ] {
        assert!(!calls.contains(never), "{never}: {calls}");
    }
    assert_eq!(calls.matches("execve(").count(), 1, "{calls}");
    let clones = calls.lines().filter(|line| line.contains("clone"));
    assert!(
        clones
            .clone()
            .all(|line| line.contains("CLONE_THREAD") || line.contains("resumed")),
        "{calls}"
    );
}
