//! Logins through a real sshd, and the short processes on their path, each beside what it replaces.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use eic_lab::small_fleet::SmallFleet;
use eic_lab::{Client, Host};

use crate::process::{done, median, ms, timed};
use crate::summary::{Goal, Row};

const AGENT: &str = "/usr/local/bin/eic-agent";
/// Where the bench itself is inside a host.
const SELF: &str = "/usr/local/bin/eic-bench";
const PROCESS_RUNS: &str = "200";
const LOGINS: usize = 40;
/// So many rounds are over within the minute that a pushed key lives.
const PUSHED_FOR: usize = 10;
/// For the throughput of one connection.
const BULK_MIB: u32 = 256;

/// All rows that need a lab.
pub(crate) fn rows(program: &Path) -> Result<Vec<Row>, String> {
    let fleet = SmallFleet::start().map_err(|e| e.to_string())?;
    let mut rows = agent_processes(program, &fleet)?;
    rows.extend(whole_logins(&fleet)?);
    rows.extend(connect(&fleet)?);
    rows.extend(throughput(&fleet)?);
    Ok(rows)
}

fn agent_processes(program: &Path, fleet: &SmallFleet) -> Result<Vec<Row>, String> {
    for host in [&fleet.web, &fleet.legacy] {
        std::fs::copy(program, host.file(SELF)).map_err(|e| format!("copy the bench: {e}"))?;
    }
    let ca = user_ca_fingerprint(fleet)?;
    let principals = time_on(&fleet.web, &[AGENT, "authorized-principals", "ubuntu", &ca])?;
    let none = time_on(&fleet.legacy, &[AGENT, "authorized-keys", "ubuntu"])?;
    push_key(fleet)?;
    let one = time_on(&fleet.legacy, &[AGENT, "authorized-keys", "ubuntu"])?;
    let row =
        |name, value, limit, words| Row::new(name, value, "ms", None, (Goal::AtMost(limit), words));
    let mut rows = vec![
        row(
            "authorized-keys, one valid key, wall",
            one.wall,
            5.0,
            "<= 5 ms",
        ),
        row(
            "authorized-keys, one valid key, CPU",
            one.cpu,
            5.0,
            "<= 5 ms",
        ),
        row(
            "authorized-keys, no key active, wall",
            none.wall,
            3.0,
            "<= 3 ms",
        ),
        row(
            "authorized-principals, wall",
            principals.wall,
            2.0,
            "<= 2 ms",
        ),
    ];
    rows.extend(size()?);
    Ok(rows)
}

/// Of the released agent; a bench that was started without one has no such row.
fn size() -> Result<Option<Row>, String> {
    let Some(file) = eic_lab::binaries::released("eic-agent") else {
        return Ok(None);
    };
    let bytes = std::fs::metadata(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let kilobytes = u32::try_from(bytes.len() / 1000).map_err(|e| e.to_string())?;
    Ok(Some(Row::new(
        "agent binary, stripped",
        f64::from(kilobytes) / 1000.0,
        "MB",
        None,
        (Goal::AtMost(2.5), "<= 2.5 MB"),
    )))
}

fn time_on(host: &Host, command: &[&str]) -> Result<crate::process::Times, String> {
    timed(
        &host
            .command(SELF)
            .args(["time", PROCESS_RUNS])
            .args(command.iter().copied()),
    )
}

/// The fingerprint that sshd would pass as `%F`.
fn user_ca_fingerprint(fleet: &SmallFleet) -> Result<String, String> {
    let file = fleet
        .ca
        .folder()
        .join("keys/user-ca.pub")
        .display()
        .to_string();
    let output = done(&fleet.lab.command("ssh-keygen").args(["-l", "-f", &file]))?;
    output
        .stdout
        .split_whitespace()
        .nth(1)
        .map(str::to_owned)
        .ok_or_else(|| "no fingerprint".to_owned())
}

/// Lets the legacy host have an active key for the next minute.
fn push_key(fleet: &SmallFleet) -> Result<(), String> {
    let target = format!("ubuntu@{}", fleet.legacy.id());
    done(&fleet.alice.command("ssh").args([target.as_str(), "true"])).map(drop)
}

/// In turn, each beside a key in the authorized_keys of another account on the same sshd: a key that Instance Connect put
/// there and a certificate, both through our commands; and the certificate where its principals are in a file and there is
/// no agent: what certificates cost sshd itself.
fn whole_logins(fleet: &SmallFleet) -> Result<Vec<Row>, String> {
    let key = fleet.alice.make_key("plain").map_err(|e| e.to_string())?;
    for host in [&fleet.legacy, &fleet.web] {
        authorize(host, &key).map_err(|e| format!("authorize a key: {e}"))?;
    }
    let job = Job::issued(&fleet.alice, &fleet.web)?;
    let filed = principals_in_a_file(fleet, &job.principal)?;
    let mut times: [Vec<Duration>; 5] = Default::default();
    for round in 0..LOGINS {
        if round % PUSHED_FOR == 0 {
            push(fleet, ".ssh/plain.pub")?;
        }
        // Each is first in turn: what went before warms or cools the machine.
        for turn in 0..times.len() {
            let way = (round + turn) % times.len();
            let elapsed = match way {
                0 => login(&fleet.alice, &fleet.legacy, "alice", ".ssh/plain", None)?,
                1 => login(&fleet.alice, &fleet.legacy, "ubuntu", ".ssh/plain", None)?,
                2 => login(&fleet.alice, &fleet.web, "alice", ".ssh/plain", None)?,
                3 => job.login(&fleet.alice, &fleet.web)?,
                _ => job.login(&fleet.alice, &filed)?,
            };
            if let Some(all) = times.get_mut(way) {
                all.push(elapsed);
            }
        }
    }
    let [beside_pushed, pushed, plain, certificate, filed] = times.map(|all| ms(median(all)));
    let peer = |plain| Some(("authorized_keys", plain));
    let goal = || (Goal::RatioAtMost(1.05), "ratio <= 1.05");
    Ok(vec![
        Row::new(
            "whole ssh login, Instance Connect key, our agent",
            pushed,
            "ms",
            peer(beside_pushed),
            goal(),
        ),
        Row::new(
            "whole ssh login, certificate, our agent",
            certificate,
            "ms",
            peer(plain),
            goal(),
        ),
        Row::new(
            "the same certificate by AuthorizedPrincipalsFile",
            filed,
            "ms",
            peer(plain),
            (Goal::None, "printed"),
        ),
    ])
}

/// A certificate and its key in files.
pub(crate) struct Job {
    principal: String,
    private: String,
    certificate: String,
}

impl Job {
    /// For `ubuntu` on this host.
    pub(crate) fn issued(client: &Client, host: &Host) -> Result<Job, String> {
        let principal = format!("ubuntu@{}", host.id());
        let issue = ["issue", "--target", &principal, "--out", "job"];
        done(&client.command("eic-login").args(issue))?;
        let list = ["-c", "ls job/*-cert.pub"];
        let files = done(&client.command("bash").args(list))?;
        let certificate = files.stdout.trim().to_owned();
        let private = certificate.trim_end_matches("-cert.pub").to_owned();
        Ok(Job {
            principal,
            private,
            certificate,
        })
    }

    /// How long one login by it takes.
    pub(crate) fn login(&self, client: &Client, host: &Host) -> Result<Duration, String> {
        login(
            client,
            host,
            "ubuntu",
            &self.private,
            Some(&self.certificate),
        )
    }
}

/// Pushes a key to the legacy host, for a minute.
fn push(fleet: &SmallFleet, public: &str) -> Result<(), String> {
    let target = format!("ubuntu@{}", fleet.legacy.id());
    let words = ["push", "--key", public, &target];
    done(&fleet.alice.command("eic-login").args(words)).map(drop)
}

/// Lets alice in with this key, by her own file.
fn authorize(host: &Host, key: &str) -> std::io::Result<()> {
    const ALICE: Option<u32> = Some(1001);
    let folder = host.file("/home/alice/.ssh");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("authorized_keys");
    std::fs::write(&file, format!("{}\n", key.trim()))?;
    for path in [&folder, &file] {
        std::os::unix::fs::chown(path, ALICE, ALICE)?;
    }
    Ok(())
}

/// A host that trusts the CA without an agent.
fn principals_in_a_file(fleet: &SmallFleet, principal: &str) -> Result<Host, String> {
    let lines =
        "TrustedUserCAKeys /etc/ssh/user-ca.pub\nAuthorizedPrincipalsFile /etc/ssh/principals";
    let host = fleet.lab.host("filed-1").sshd_config(lines).start();
    let host = host.map_err(|e| e.to_string())?;
    let public = fleet.ca.folder().join("keys/user-ca.pub");
    std::fs::copy(public, host.file("/etc/ssh/user-ca.pub")).map_err(|e| e.to_string())?;
    std::fs::write(host.file("/etc/ssh/principals"), format!("{principal}\n"))
        .map_err(|e| e.to_string())?;
    Ok(host)
}

/// A certificate is named, since `-i` alone offers the plain key before it.
fn login(
    client: &Client,
    host: &Host,
    user: &str,
    key: &str,
    certificate: Option<&str>,
) -> Result<Duration, String> {
    let target = format!("{user}@{}", host.address());
    let mut command = client
        .command("ssh")
        .args(["-F", "none", "-o", "IdentitiesOnly=yes", "-i", key])
        .args(["-o", "StrictHostKeyChecking=no"])
        .args(["-o", "UserKnownHostsFile=/dev/null"]);
    if let Some(file) = certificate {
        command = command.args(["-o", &format!("CertificateFile={file}")]);
    }
    Ok(done(&command.args([target.as_str(), "true"]))?.elapsed)
}

/// From the start of `eic-login connect` with a cached certificate until its TCP connection arrives.
fn connect(fleet: &SmallFleet) -> Result<Vec<Row>, String> {
    let target = fleet.web.id().to_owned();
    done(
        &fleet
            .alice
            .command("ssh")
            .args([format!("ubuntu@{target}").as_str(), "true"]),
    )?;
    let listener = replace_sshd(fleet)?;
    let folder = run_folder(fleet)?;
    let words = [
        "connect", "--dir", &folder, "--user", "ubuntu", "--host", &target, "--port", "2022",
    ];
    let command = fleet.alice.command("eic-login").args(words);
    let mut times = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        let child = command
            .to_std()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let mut child = child.map_err(|e| e.to_string())?;
        let arrived = arrival(&listener, started);
        let _ = child.kill();
        let _ = child.wait();
        times.push(arrived?);
    }
    let entering = entering_the_room(fleet)?;
    let value = (ms(median(times)) - entering).max(0.0);
    Ok(vec![Row::new(
        "connect, cached certificate, before TCP connect",
        value,
        "ms",
        None,
        (Goal::AtMost(3.0), "<= 3 ms"),
    )])
}

/// How long after `started` a connection arrives, 10 s at most.
fn arrival(listener: &TcpListener, started: Instant) -> Result<Duration, String> {
    while started.elapsed() < Duration::from_secs(10) {
        match listener.accept() {
            Ok(_) => return Ok(started.elapsed()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_micros(50))
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("connect did not connect within 10 s".to_owned())
}

/// Where alice's resident agent has its sockets, as `setup` wrote it into ssh's configuration.
fn run_folder(fleet: &SmallFleet) -> Result<String, String> {
    let file = fleet.alice.home().join(".ssh/eic.config");
    let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let folder = text
        .split("--dir '")
        .nth(1)
        .and_then(|rest| rest.split('\'').next());
    folder
        .map(str::to_owned)
        .ok_or_else(|| "no --dir in eic.config".to_owned())
}

/// A listener on another port of web-1's address, in its network.
fn replace_sshd(fleet: &SmallFleet) -> Result<TcpListener, String> {
    let address = std::net::SocketAddr::from((fleet.web.address(), 2022));
    let listener = fleet
        .web
        .room()
        .in_network(|| TcpListener::bind(address))
        .map_err(|e| e.to_string())?;
    let listener = listener.map_err(|e| e.to_string())?;
    listener.set_nonblocking(true).map_err(|e| e.to_string())?;
    Ok(listener)
}

/// What `nsenter`, `setpriv` and `env` cost before the program itself starts; subtracted, and measured the same way.
fn entering_the_room(fleet: &SmallFleet) -> Result<f64, String> {
    let command = fleet.alice.command("true");
    let mut times = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        let status = command.to_std().status().map_err(|e| e.to_string())?;
        times.push(started.elapsed());
        if !status.success() {
            return Err(status.to_string());
        }
    }
    Ok(ms(median(times)))
}

/// 256 MiB through one connection: our ProxyCommand hands over the descriptor, so nothing stands in between.
fn throughput(fleet: &SmallFleet) -> Result<Vec<Row>, String> {
    let ours = format!("ubuntu@{}", fleet.web.id());
    let address = fleet.web.address();
    let direct =
        "-F none -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";
    let private = "$(ls job/*-cert.pub | sed s/-cert.pub//)";
    let send = |ssh: String| format!("head -c {BULK_MIB}M /dev/zero | {ssh} 'cat >/dev/null'");
    let mut rates = (Vec::new(), Vec::new());
    for _ in 0..3 {
        rates.0.push(bulk(fleet, &send(format!("ssh {ours}")))?);
        rates.1.push(bulk(
            fleet,
            &send(format!("ssh {direct} -i {private} ubuntu@{address}")),
        )?);
    }
    let mib = |times: Vec<Duration>| f64::from(BULK_MIB) / median(times).as_secs_f64();
    Ok(vec![Row::new(
        "bulk throughput through connect, direct",
        mib(rates.0),
        "MiB/s",
        Some(("plain ssh", mib(rates.1))),
        (
            Goal::RatioAtLeast(0.95),
            "that of plain ssh (ratio >= 0.95)",
        ),
    )])
}

fn bulk(fleet: &SmallFleet, script: &str) -> Result<Duration, String> {
    Ok(done(&fleet.alice.command("bash").args(["-c", script]))?.elapsed)
}
