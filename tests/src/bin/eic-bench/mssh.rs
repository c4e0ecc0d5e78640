//! `mssh` as a drop-in beside the original from PyPI: from its start to the first byte of SSH at the host's port, the
//! calls of AWS answered by the same stand-ins. All three include the milliseconds that entering the room costs.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use eic_lab::other_programs::{PACKAGES, PYTHON};
use eic_lab::process::RoomCommand;
use eic_lab::{Client, Host, Lab, small_fleet};

use crate::process::{done, median, ms};
use crate::summary::{Goal, Row};

const PEER: &str = "mssh 1.0.3 (PyPI)";
/// Not sshd's: a listener of ours that only reads.
const PORT: u16 = 2022;
const RUNS: usize = 15;

/// Rows of the drop-in.
pub(crate) fn rows() -> Result<Vec<Row>, String> {
    let said = |e: eic_lab::error::Error| e.to_string();
    let lab = Lab::with_other_programs().map_err(said)?;
    let host = lab
        .host("legacy-1")
        .instance_connect_only()
        .start()
        .map_err(said)?;
    let carol = small_fleet::person(&lab, "carol").map_err(said)?;
    done(
        &carol
            .command("eic-login")
            .args(["setup", "--no-ca", "--yes"]),
    )?;
    let link = lab.control().folder().join("bin/mssh");
    std::os::unix::fs::symlink("/usr/local/bin/eic-login", link).map_err(|e| e.to_string())?;
    let listener = listen(&host)?;

    let (mut ours, mut theirs, mut plain, mut cold) = (vec![], vec![], vec![], vec![]);
    for run in 0..RUNS {
        plain.push(first_byte(&plain_ssh(&carol, &host), &listener)?);
        theirs.push(first_byte(&original(&carol, &host), &listener)?);
        if run % 5 == 0 {
            done(&carol.command("eic-login").args(["logout"]))?;
            cold.push(first_byte(&drop_in(&carol, &host), &listener)?);
        }
        ours.push(first_byte(&drop_in(&carol, &host), &listener)?);
    }
    let of = |times: Vec<Duration>| ms(median(times));
    let (plain, theirs) = (of(plain), of(theirs));
    let row = |name, value, goal| Row::new(name, value, "ms", Some((PEER, theirs)), goal);
    Ok(vec![
        row(
            "mssh drop-in to the first SSH byte",
            of(ours),
            (Goal::AtMost(plain + 15.0), "<= plain ssh + 15 ms"),
        ),
        row(
            "the same without a key at hand",
            of(cold),
            (Goal::None, "printed"),
        ),
        Row::new(
            "plain ssh to the first SSH byte beside it",
            plain,
            "ms",
            None,
            (Goal::None, "printed"),
        ),
    ])
}

fn drop_in(client: &Client, host: &Host) -> RoomCommand {
    let target = format!("ubuntu@{}", host.id());
    client
        .command("mssh")
        .args(["-p", &PORT.to_string(), &target, "true"])
}

fn original(client: &Client, host: &Host) -> RoomCommand {
    let target = format!("ubuntu@{}", host.id());
    client
        .command(PYTHON)
        .args(["/opt/packages/bin/mssh", "-r", &host.instance().region])
        .args(["-p", &PORT.to_string(), &target, "true"])
        .env("PYTHONPATH", PACKAGES)
}

fn plain_ssh(client: &Client, host: &Host) -> RoomCommand {
    let target = format!("ubuntu@{}", host.address());
    client
        .command("ssh")
        .args(["-F", "none", "-p", &PORT.to_string(), &target, "true"])
}

fn listen(host: &Host) -> Result<TcpListener, String> {
    let address = SocketAddr::from((host.address(), PORT));
    let listener = host
        .room()
        .in_network(|| TcpListener::bind(address))
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())?;
    listener.set_nonblocking(true).map_err(|e| e.to_string())?;
    Ok(listener)
}

/// How long a program takes until its ssh has sent something, 20 s at most. The program is ended then.
fn first_byte(command: &RoomCommand, listener: &TcpListener) -> Result<Duration, String> {
    let started = Instant::now();
    let mut child = command
        .to_std()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let arrived = arrival(listener, started);
    let _ = child.kill();
    let _ = child.wait();
    arrived
}

fn arrival(listener: &TcpListener, started: Instant) -> Result<Duration, String> {
    while started.elapsed() < Duration::from_secs(20) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let mut first = [0; 4];
                stream.set_nonblocking(false).map_err(|e| e.to_string())?;
                let limit = Some(Duration::from_secs(10));
                stream.set_read_timeout(limit).map_err(|e| e.to_string())?;
                stream.read_exact(&mut first).map_err(|e| e.to_string())?;
                return Ok(started.elapsed());
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_micros(50));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("no SSH within 20 s".to_owned())
}
