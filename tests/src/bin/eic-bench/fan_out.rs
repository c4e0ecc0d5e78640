//! Many logins at once: 200 to real sshds with one certificate of a fleet; `connect` without a certificate at hand;
//! and the start of AWS's own client (2.23, of Debian 13) before the same stand-ins. Bulk data: see `tunnels`.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use eic_lab::aws::{ACCOUNT, REGION};
use eic_lab::openssh::AWS_CLI;
use eic_lab::process::{Output, RoomCommand};
use eic_lab::small_fleet::{self, SmallFleet};
use eic_lab::{Client, Host, Lab};

use crate::process::{done, median, ms};
use crate::summary::{Goal, Row};

const HOSTS: usize = 4;
const LOGINS: usize = 200;
/// So often, in turns with a plain key.
const ROUNDS: usize = 3;
/// Logins at once: the machine has few cores, and they are sshd's as well.
const AT_ONCE: usize = 16;
/// `connect` without a certificate, each to another instance.
const STRANGERS: usize = 12;
/// Not sshd's: a listener of ours that only accepts.
const PORT: u16 = 2022;
const PATIENCE: Duration = Duration::from_secs(300);
const CROWDED: &str = "MaxStartups 200";
const NO_QUESTIONS: &str =
    "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";

/// Rows of all of it.
pub(crate) fn rows() -> Result<Vec<Row>, String> {
    let mut rows = fan_out()?;
    rows.extend(uncached()?);
    rows.extend(first_byte_of_the_aws_client()?);
    Ok(rows)
}

fn said(error: eic_lab::error::Error) -> String {
    error.to_string()
}

/// One certificate, [`HOSTS`] sshds, [`LOGINS`] logins, the start of `eic-login exec` with its sign-in included; in turns
/// with the same by a plain key in authorized_keys.
fn fan_out() -> Result<Vec<Row>, String> {
    let lab = Lab::new().map_err(said)?;
    let ca = small_fleet::ca(&lab).map_err(said)?.policy(&with_fleet());
    let tags = toml::Table::from_iter([("team".to_owned(), "web".into())]);
    let ca = ca
        .set("fleets.web.accounts", vec![toml::Value::from(ACCOUNT)])
        .set("fleets.web.tags", tags);
    let mut ca = ca.start().map_err(said)?;
    let alice = small_fleet::person(&lab, "alice").map_err(said)?;
    small_fleet::set_up(&alice, &ca).map_err(said)?;
    let key = alice.make_key("plain").map_err(said)?;
    let mut hosts = Vec::new();
    for number in 1..=HOSTS {
        let host = lab.host(&format!("web-{number}")).sshd_config(CROWDED);
        let host = host.authorized_key("ubuntu", &key).tag("team", "web");
        let host = host.tag("eic:enrolled", "true");
        hosts.push(host.trusting(&ca, &["--fleet=web"]).start().map_err(said)?);
    }
    let addresses: Vec<String> = hosts.iter().map(|h| h.address().to_string()).collect();
    let by_key = "-i .ssh/plain -o IdentitiesOnly=yes";
    // The first logins of a host are slower, whoever makes them.
    crowd(&alice, &addresses, by_key, false)?;
    let (mut ours, mut plain, mut peak) = (Vec::new(), Vec::new(), None);
    for _ in 0..ROUNDS {
        let output = crowd(&alice, &addresses, "", true)?;
        ours.push(output.elapsed);
        peak = peak_mib(&output.stdout);
        plain.push(crowd(&alice, &addresses, by_key, false)?.elapsed);
    }
    let (ours, plain) = (median(ours).as_secs_f64(), median(plain).as_secs_f64());
    let mut rows = vec![Row::new(
        "fan-out, 200 sshd logins with one certificate",
        ours,
        "s",
        Some(("authorized_keys", plain)),
        (Goal::None, "printed"),
    )];
    let client = peak.ok_or("no peak of eic-login exec")?;
    let status = ca.process().and_then(|process| process.pid().ok());
    let pid = status.ok_or("the CA does not run")?.as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let service = peak_mib(&status.map_err(|e| e.to_string())?).ok_or("no peak of eic-ca")?;
    let memory = |name, value| Row::new(name, value, "MiB", None, (Goal::None, "printed"));
    rows.push(memory("peak memory of eic-login exec meanwhile", client));
    rows.push(memory("peak memory of eic-ca meanwhile", service));
    Ok(rows)
}

/// alice may also have a certificate of the fleet `web` as `ubuntu`.
fn with_fleet() -> String {
    let statement = serde_json::json!({
        "Sid": "Fleets", "Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:user/alice")},
        "Action": "eic:IssueFleetCertificate", "Resource": "arn:aws:eic:::fleet/web",
        "Condition": {"StringEquals": {"ec2:osuser": "ubuntu"}},
    });
    // Behind the statements of the small fleet.
    small_fleet::policy().replacen(
        "\"Statement\":[",
        &format!("\"Statement\":[{statement},"),
        1,
    )
}

/// All logins, [`AT_ONCE`] at a time; under `exec` the peak memory of that is printed last.
fn crowd(
    client: &Client,
    addresses: &[String],
    options: &str,
    under_exec: bool,
) -> Result<Output, String> {
    let peak = if under_exec {
        "grep VmHWM /proc/$PPID/status"
    } else {
        "true"
    };
    let targets = addresses.join(" ");
    let script = format!(
        "for n in $(seq {}); do for to in {targets}; do echo $to; done; done | \
         xargs -P {AT_ONCE} -I TO ssh {NO_QUESTIONS} -o LogLevel=ERROR {options} ubuntu@TO true && {peak}",
        LOGINS / addresses.len().max(1)
    );
    let command = match under_exec {
        true => client
            .command("eic-login")
            .args(["exec", "--fleet", "ubuntu@web", "--"]),
        false => client.command("env"),
    };
    done(&command.args(["bash", "-ec", &script]).limit(PATIENCE))
}

/// The `VmHWM` of a status of proc(5).
fn peak_mib(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u32 = line.split_whitespace().next()?.parse().ok()?;
    Some(f64::from(kib) / 1024.0)
}

/// From the start of `connect` to the TCP connection, where the certificate must be fetched first: each time to
/// another instance, whose address is this room's own.
fn uncached() -> Result<Vec<Row>, String> {
    let fleet = SmallFleet::start().map_err(said)?;
    let aws = fleet.lab.aws().map_err(said)?;
    let tags = ["team=web", "eic:enrolled=true"].map(|tag| {
        let (key, value) = tag.split_once('=').unwrap_or_default();
        (key.to_owned(), value.to_owned())
    });
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        let instance = aws.account(ACCOUNT).instance(REGION, &tags);
        let instance = instance.map_err(said)?;
        let address = format!("addr add {}/32 dev lo\n", instance.private_ip);
        fleet.lab.control().ip(&address).map_err(said)?;
        strangers.push(instance);
    }
    let listener = listen(fleet.lab.control(), [0, 0, 0, 0].into())?;
    // The resident agent runs and is signed in; the CA knows its hosts.
    done(&fleet.alice.command("eic-login"))?;
    let folder = run_folder(&fleet.alice)?;
    let mut times = Vec::new();
    for instance in &strangers {
        let words = ["connect", "--dir", &folder, "--user", "ubuntu", "--host"];
        let command = fleet.alice.command("eic-login").args(words);
        let command = command.args([&instance.id, "--port", &PORT.to_string()]);
        times.push(until_it_connects(&command, &listener)?);
    }
    Ok(vec![Row::new(
        "connect, no certificate at hand, CA on loopback",
        ms(median(times)),
        "ms",
        None,
        (Goal::None, "printed"),
    )])
}

/// Where somebody's resident agent has its sockets, as `setup` wrote it into ssh's configuration.
fn run_folder(client: &Client) -> Result<String, String> {
    let file = client.home().join(".ssh/eic.config");
    let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let rest = text.split("--dir '").nth(1);
    let folder = rest.and_then(|rest| rest.split('\'').next());
    folder
        .map(str::to_owned)
        .ok_or("no --dir in eic.config".into())
}

fn listen(room: &eic_lab::room::Room, ip: IpAddr) -> Result<TcpListener, String> {
    let bound = room.in_network(|| TcpListener::bind(SocketAddr::from((ip, PORT))));
    let listener = bound.map_err(said)?.map_err(|e| e.to_string())?;
    listener.set_nonblocking(true).map_err(|e| e.to_string())?;
    Ok(listener)
}

/// From the start of a program to its connection, 20 s at most. The program is ended then.
fn until_it_connects(command: &RoomCommand, listener: &TcpListener) -> Result<Duration, String> {
    let started = Instant::now();
    let mut child = command.to_std();
    child.stdin(Stdio::null());
    child.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.spawn().map_err(|e| e.to_string())?;
    let arrived = loop {
        match listener.accept() {
            Ok(_) => break Ok(started.elapsed()),
            Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => break Err(e.to_string()),
            Err(_) if started.elapsed() > Duration::from_secs(20) => {
                break Err(format!("`{}` did not connect within 20 s", command.line()));
            }
            Err(_) => std::thread::sleep(Duration::from_micros(50)),
        }
    };
    drop(child.kill());
    drop(child.wait());
    arrived
}

/// `aws ec2-instance-connect ssh` beside `eic-login ssh`, from the start to the connection at the host's port.
fn first_byte_of_the_aws_client() -> Result<Vec<Row>, String> {
    let lab = Lab::with_openssh(&AWS_CLI).map_err(said)?;
    let host = lab.host("legacy-1").instance_connect_only();
    let host = host.start().map_err(said)?;
    let carol = small_fleet::person(&lab, "carol").map_err(said)?;
    done(
        &carol
            .command("eic-login")
            .args(["setup", "--no-ca", "--yes"]),
    )?;
    let listener = listen(host.room(), host.address())?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        theirs.push(until_it_connects(&by_aws(&carol, &host), &listener)?);
        let target = format!("ubuntu@{}", host.id());
        let command = carol.command("eic-login");
        let command = command.args(["ssh", "-p", &PORT.to_string(), &target, "true"]);
        ours.push(until_it_connects(&command, &listener)?);
    }
    Ok(vec![Row::new(
        "eic-login ssh to the host's port",
        ms(median(ours)),
        "ms",
        Some(("aws 2.23 eic ssh", ms(median(theirs)))),
        (Goal::None, "printed"),
    )])
}

fn by_aws(client: &Client, host: &Host) -> RoomCommand {
    let id = host.id().to_owned();
    let words = ["ec2-instance-connect", "ssh", "--instance-id", &id];
    let command = client.command("aws").args(words);
    command
        .args(["--os-user", "ubuntu", "--connection-type", "direct"])
        .args(["--ssh-port", &PORT.to_string()])
}
