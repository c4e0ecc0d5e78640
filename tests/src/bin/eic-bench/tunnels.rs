//! Bulk data through an EC2 Instance Connect Endpoint and Session Manager, beside AWS's own client (2.23, of Debian 13)
//! before the same stand-ins on the same two ends: the tunnels by themselves, raw bytes by stdin and stdout as ssh has a
//! ProxyCommand, and with ssh and sshd at their ends, which limits what can be seen: plain ssh is measured beside.
//!
//! Two questions, two rows each: how long somebody waits for 64 MiB, the program's start included, and how fast bytes
//! pass once they do, from the first to the last.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eic_lab::openssh::AWS_CLI;
use eic_lab::process::RoomCommand;
use eic_lab::small_fleet::SmallFleet;
use eic_lab::standin::Tunnels;
use eic_lab::{Client, Lab};

use crate::process::{children_cpu, done, median};
use crate::summary::{Goal, Row};

const AWS: &str = "aws 2.23 open-tunnel";
/// Not sshd's: a listener of ours that only takes bytes, or only gives some.
const PORT: u16 = 2022;
/// Raw bytes through each tunnel: what somebody waits for, and enough for a rate.
const FEW_MIB: u32 = 64;
const MANY_MIB: u32 = 2048;
/// Through ssh; the rate is that of the difference, so that no start counts.
const BY_SSH_MIB: (u32, u32) = (32, 544);
const BY_SSH_SLOW_MIB: (u32, u32) = (16, 80);
const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(300);
const NO_QUESTIONS: &str =
    "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";

/// Rows of all of it.
pub(crate) fn rows() -> Result<Vec<Row>, String> {
    let scene = Scene::new()?;
    let mut rows = scene.raw()?;
    rows.extend(scene.by_ssh()?);
    Ok(rows)
}

fn said(error: eic_lab::error::Error) -> String {
    error.to_string()
}

struct Scene {
    _tunnels: Tunnels,
    fleet: SmallFleet,
    alice: Client,
}

/// What it took.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// From the first byte to the last.
    bytes: Duration,
    /// From the program's start to the last byte.
    all: Duration,
    /// CPU of the client's processes.
    cpu: Duration,
}

/// A few bytes, and many.
#[derive(Clone, Copy, Debug)]
struct Flows {
    few: Flow,
    many: Flow,
}

impl Flows {
    /// MiB per second, the program's start included.
    fn waited(&self) -> f64 {
        f64::from(FEW_MIB) / self.few.all.as_secs_f64()
    }

    /// MiB per second once bytes pass.
    fn rate(&self) -> f64 {
        f64::from(MANY_MIB) / self.many.bytes.as_secs_f64()
    }

    /// CPU seconds for each further GiB.
    fn cpu(&self) -> f64 {
        let more = self.many.cpu.saturating_sub(self.few.cpu).as_secs_f64();
        more * 1024.0 / f64::from(MANY_MIB - FEW_MIB)
    }
}

impl Scene {
    fn new() -> Result<Self, String> {
        let lab = Lab::with_openssh(&AWS_CLI).map_err(said)?;
        let tunnels = lab.tunnels().map_err(said)?;
        let env = tunnels.env();
        let fleet = SmallFleet::start_shaped(lab, |host| host).map_err(said)?;
        trust(&fleet, &env)?;
        let alice = env.into_iter();
        let alice = alice.fold(fleet.alice.clone(), |a, (name, value)| a.env(name, value));
        Ok(Self {
            _tunnels: tunnels,
            fleet,
            alice,
        })
    }

    fn raw(&self) -> Result<Vec<Row>, String> {
        let up = |ours| three(|mib| self.up(ours, mib));
        let down = |ours| three(|mib| self.down(ours, mib));
        let (ours_up, theirs_up) = (up(true)?, up(false)?);
        let (ours_down, theirs_down) = (down(true)?, down(false)?);
        let goal = (Goal::RatioAtLeast(10.0), "ratio >= 10");
        let row =
            |name, unit, ours, theirs, goal| Row::new(name, ours, unit, Some((AWS, theirs)), goal);
        let waited = |name, ours: Flows, theirs: Flows| {
            row(name, "MiB/s", ours.waited(), theirs.waited(), goal)
        };
        let rate =
            |name, ours: Flows, theirs: Flows| row(name, "MiB/s", ours.rate(), theirs.rate(), goal);
        let cpu = |name, ours: Flows, theirs: Flows| {
            row(
                name,
                "s/GiB",
                ours.cpu(),
                theirs.cpu(),
                (Goal::None, "printed"),
            )
        };
        Ok(vec![
            waited(
                "64 MiB to the host by an endpoint, start included",
                ours_up,
                theirs_up,
            ),
            waited(
                "64 MiB from the host, start included",
                ours_down,
                theirs_down,
            ),
            rate(
                "the endpoint's tunnel once bytes pass, to the host",
                ours_up,
                theirs_up,
            ),
            rate("the same, from the host", ours_down, theirs_down),
            cpu("the client's CPU for it, to the host", ours_up, theirs_up),
            cpu(
                "the client's CPU for it, from the host",
                ours_down,
                theirs_down,
            ),
        ])
    }

    /// The same options for both.
    fn tunnel(&self, ours: bool) -> RoomCommand {
        let (program, verb): (_, &[&str]) = match ours {
            true => ("eic-login", &["tunnel"]),
            false => ("aws", &["ec2-instance-connect", "open-tunnel"]),
        };
        let command = self.alice.command(program).args(verb.to_vec());
        let port = PORT.to_string();
        command.args(["--instance-id", self.fleet.web.id(), "--remote-port", &port])
    }

    fn listen(&self) -> Result<TcpListener, String> {
        let address = SocketAddr::from((self.fleet.web.address(), PORT));
        let bound = self
            .fleet
            .web
            .room()
            .in_network(|| TcpListener::bind(address));
        bound.map_err(said)?.map_err(|e| e.to_string())
    }

    /// From the client's stdin to a listener that discards.
    fn up(&self, ours: bool, mib: u32) -> Result<Flow, String> {
        let taking = on_the_host(self.listen()?, |mut host| drain(&mut host));
        let running = Running::start(&self.tunnel(ours), Stdio::null())?;
        running.pour_and_finish(mib, taking)
    }

    /// From a host that only sends to the client's stdout.
    fn down(&self, ours: bool, mib: u32) -> Result<Flow, String> {
        let _giving = on_the_host(self.listen()?, move |host| pour(host, mib));
        let mut running = Running::start(&self.tunnel(ours), Stdio::piped())?;
        let mut stdout = running.child.stdout.take().ok_or("no stdout")?;
        let taking = std::thread::spawn(move || drain(&mut stdout));
        // The end of its stdin would end the tunnel: that stays open until all has come.
        running.finish(mib, taking)
    }

    fn by_ssh(&self) -> Result<Vec<Row>, String> {
        let id = self.fleet.web.id();
        let target = format!("ubuntu@{id}");
        let issue = ["issue", "--target", &target, "--out", "job"];
        done(&self.alice.command("eic-login").args(issue))?;
        let key = "-i job/id -o CertificateFile=job/id-cert.pub -o IdentitiesOnly=yes";
        let address = self.fleet.web.address();
        let plain = format!("ssh {NO_QUESTIONS} {key} ubuntu@{address}");
        let aws = "aws ec2-instance-connect open-tunnel --instance-id %h --remote-port %p";
        let aws = format!("ssh {NO_QUESTIONS} {key} -o ProxyCommand='{aws}' {target}");
        let via = |way: &str| format!("eic-login ssh --via {way} {target}");
        let plain = self.rate(&plain, BY_SSH_MIB)?;
        let endpoint = self.rate(&via("endpoint"), BY_SSH_MIB)?;
        let aws = self.rate(&aws, BY_SSH_MIB)?;
        let ssm = self.rate(&via("ssm"), BY_SSH_SLOW_MIB)?;
        let row = |name, value: f64, peer, goal| Row::new(name, value, "MiB/s", Some(peer), goal);
        Ok(vec![
            row(
                "ssh through an endpoint",
                endpoint,
                (AWS, aws),
                (Goal::None, "printed; plain ssh is the next row"),
            ),
            row(
                "ssh through an endpoint, beside plain ssh",
                endpoint,
                ("plain ssh", plain),
                (Goal::None, "printed: what limits the row above"),
            ),
            row(
                "ssh through Session Manager",
                ssm,
                ("plain ssh", plain),
                (Goal::None, "printed; field: 0.6 to 0.8 MB/s"),
            ),
        ])
    }

    /// MiB per second to the host: of the bytes that the second run has more than the first.
    fn rate(&self, ssh: &str, (few, many): (u32, u32)) -> Result<f64, String> {
        let mut rates = Vec::new();
        for _ in 0..3 {
            let (short, long) = (self.bulk(ssh, few)?, self.bulk(ssh, many)?);
            rates.push(long.saturating_sub(short));
        }
        Ok(f64::from(many - few) / median(rates).as_secs_f64())
    }

    fn bulk(&self, ssh: &str, mib: u32) -> Result<Duration, String> {
        let script = format!("head -c {mib}M /dev/zero | {ssh} 'cat > /dev/null'");
        let command = self.alice.command("bash");
        let command = command.args(["-euo", "pipefail", "-c", &script]);
        Ok(done(&command.limit(PATIENCE))?.elapsed)
    }
}

/// AWS's client asks the system's roots.
fn trust(fleet: &SmallFleet, env: &[(&str, String)]) -> Result<(), String> {
    let named = env.iter().find(|(name, _)| *name == "SSL_CERT_FILE");
    let (_, roots) = named.ok_or("the tunnels have no roots")?;
    let script = format!("cat {roots} >> /etc/ssl/certs/ca-certificates.crt");
    done(&fleet.lab.command("bash").args(["-c", &script])).map(drop)
}

/// Three times each, the middle one of each number.
fn three(flow: impl Fn(u32) -> Result<Flow, String>) -> Result<Flows, String> {
    let middle = |mib| {
        let flows = [flow(mib)?, flow(mib)?, flow(mib)?];
        let of = |time: fn(&Flow) -> Duration| median(flows.iter().map(time).collect());
        Ok::<_, String>(Flow {
            bytes: of(|flow| flow.bytes),
            all: of(|flow| flow.all),
            cpu: of(|flow| flow.cpu),
        })
    };
    Ok(Flows {
        few: middle(FEW_MIB)?,
        many: middle(MANY_MIB)?,
    })
}

type Taking = JoinHandle<Result<Taken, String>>;

/// A client's program.
struct Running {
    child: Child,
    started: Instant,
    cpu_before: Duration,
}

impl Running {
    fn start(command: &RoomCommand, stdout: Stdio) -> Result<Self, String> {
        let (started, cpu_before) = (Instant::now(), children_cpu());
        let mut command = command.to_std();
        command.stdin(Stdio::piped()).stdout(stdout);
        // AWS's says that its socket is closed, whatever ends it.
        command.stderr(Stdio::null());
        Ok(Self {
            child: command.spawn().map_err(|e| e.to_string())?,
            started,
            cpu_before,
        })
    }

    fn pour_and_finish(mut self, mib: u32, taking: Taking) -> Result<Flow, String> {
        let stdin = self.child.stdin.take().ok_or("no stdin")?;
        pour(stdin, mib)?;
        self.finish(mib, taking)
    }

    fn finish(mut self, mib: u32, taking: Taking) -> Result<Flow, String> {
        let taken = taking.join().map_err(|_| "the reader panicked")??;
        let status = self.child.wait().map_err(|e| e.to_string())?;
        if taken.bytes != usize::try_from(mib).unwrap_or(0) * MIB {
            return Err(format!("{} bytes came: {status}", taken.bytes));
        }
        Ok(Flow {
            bytes: taken.last.duration_since(taken.first),
            all: taken.last.duration_since(self.started),
            cpu: children_cpu().saturating_sub(self.cpu_before),
        })
    }
}

/// Serves the one connection that comes.
fn on_the_host<T: Send + 'static>(
    listener: TcpListener,
    serve: impl FnOnce(TcpStream) -> Result<T, String> + Send + 'static,
) -> JoinHandle<Result<T, String>> {
    std::thread::spawn(move || serve(listener.accept().map_err(|e| e.to_string())?.0))
}

/// Writes so much, and closes.
fn pour(mut to: impl Write, mib: u32) -> Result<(), String> {
    let zeros = vec![0; MIB];
    for _ in 0..mib {
        to.write_all(&zeros).map_err(|e| format!("write: {e}"))?;
    }
    Ok(())
}

/// What came, and when.
struct Taken {
    bytes: usize,
    first: Instant,
    last: Instant,
}

/// Reads to the end.
fn drain(from: &mut impl Read) -> Result<Taken, String> {
    let mut buffer = vec![0; MIB];
    let mut read = |buffer: &mut [u8]| from.read(buffer).map_err(|e| format!("read: {e}"));
    let mut bytes = read(&mut buffer)?;
    let first = Instant::now();
    let mut last = first;
    loop {
        match read(&mut buffer)? {
            0 => return Ok(Taken { bytes, first, last }),
            more => bytes += more,
        }
        last = Instant::now();
    }
}
