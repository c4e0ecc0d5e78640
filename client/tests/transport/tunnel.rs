//! `eic-login tunnel` as a ProxyCommand and as a listener: what is refused, then many connections at once.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::scene::{Scene, output, program, said};
use crate::stub::{INSTANCE, wait_for};

/// A service on the instance that sends back what it gets.
fn echo_service(scene: &Scene) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    scene.service.state().target = Some(listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
}

struct Listening {
    child: Child,
    lines: BufReader<ChildStdout>,
    port: u16,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn listening(scene: &Scene, more: &[&str]) -> Listening {
    let args = [
        &[
            "tunnel",
            "--instance-id",
            INSTANCE,
            "--remote-port",
            "5432",
            "--local-port",
            "0",
        ],
        more,
    ]
    .concat();
    let mut child = scene
        .eic(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let (line, lines) = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        (line, lines)
    })
    .await
    .unwrap();
    let port = line
        .strip_prefix("Listening for connections on port ")
        .unwrap();
    let port = port.trim_end().trim_end_matches('.').parse().unwrap();
    Listening { child, lines, port }
}

fn exchange(port: u16, byte: u8) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(&[byte; 100_000]).unwrap();
    let mut back = vec![0; 100_000];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, [byte; 100_000]);
    stream
}

#[tokio::test]
async fn a_terminal_and_bad_options_are_refused_with_the_usage_code() {
    let scene = Scene::new().await;
    for args in [
        &["tunnel"][..],
        &[
            "tunnel",
            INSTANCE,
            "--local-port",
            "0",
            "--max-websocket-connections",
            "21",
        ],
    ] {
        let out = output(scene.eic(args)).await;
        assert_eq!(out.status.code(), Some(2), "{}", said(&out));
    }
}

#[tokio::test]
async fn connections_to_one_port_share_nothing_and_each_is_signed_anew() {
    let scene = Scene::new().await;
    echo_service(&scene);
    let listening = listening(&scene, &["--max-tunnel-duration", "600"]).await;
    let port = listening.port;
    let streams = (1..=8_u8).map(|n| tokio::task::spawn_blocking(move || exchange(port, n)));
    let mut open = Vec::new();
    for stream in streams.collect::<Vec<_>>() {
        open.push(stream.await.unwrap());
    }
    {
        let state = scene.service.state();
        assert_eq!(
            (state.tunnels.len(), state.open, state.refused.len()),
            (8, 8, 0),
            "{:?}",
            state.refused
        );
        assert!(
            state
                .tunnels
                .iter()
                .all(|t| t["remotePort"] == "5432" && t["maxTunnelDuration"] == "600")
        );
    }
    // One look-up serves the burst; two may run at once before the first is kept.
    let asked = scene.world.state().aws_asked.clone();
    let looked_up = asked
        .iter()
        .filter(|a| **a == "DescribeInstanceConnectEndpoints")
        .count();
    assert!(looked_up <= 8, "{looked_up}");
    drop(open);
    let state = Arc::clone(&scene.service.state);
    wait_for(|| state.lock().unwrap().open == 0).await;
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_told() {
    let scene = Scene::new().await;
    echo_service(&scene);
    let mut listening = listening(&scene, &["--max-websocket-connections", "1"]).await;
    let port = listening.port;
    let first = tokio::task::spawn_blocking(move || exchange(port, 1))
        .await
        .unwrap();
    let told = tokio::task::spawn_blocking(move || {
        let mut second = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut nothing = Vec::new();
        let _ = second.read_to_end(&mut nothing);
        assert!(nothing.is_empty());
        let mut told = String::new();
        while !told
            .contains("Max websocket connections 1 have been reached, closing incoming connection.")
        {
            assert!(listening.lines.read_line(&mut told).unwrap() > 0, "{told}");
        }
        drop(first);
        while !told.contains("[1] Closing tcp connection.") {
            assert!(listening.lines.read_line(&mut told).unwrap() > 0, "{told}");
        }
        told
    });
    assert!(
        told.await
            .unwrap()
            .contains("[1] Accepted new tcp connection, opening websocket tunnel.")
    );
    assert_eq!(scene.service.state().tunnels.len(), 1);
}

#[tokio::test]
async fn a_full_endpoint_is_told_with_its_quota() {
    let scene = Scene::new().await;
    scene.service.state().open = 20;
    let out = output(scene.eic(&["tunnel", INSTANCE])).await;
    assert!(!out.status.success());
    assert!(
        said(&out).contains("maximum number of concurrent connections (20)"),
        "{}",
        said(&out)
    );
}

#[tokio::test]
async fn as_a_proxy_command_it_carries_a_login() {
    let scene = Scene::new().await;
    let proxy = format!(
        "ProxyCommand='{}' tunnel --instance-id %h --remote-port %p",
        program().display()
    );
    for fdpass in ["yes", "no"] {
        let mut command = std::process::Command::new("ssh");
        let known = scene.world.dir.path().join("known");
        command.args([
            "-F",
            "/dev/null",
            "-o",
            &proxy,
            "-o",
            &format!("ProxyUseFdpass={fdpass}"),
        ]);
        command.args([
            "-o",
            "StrictHostKeyChecking=accept-new",
            "-o",
            &format!("UserKnownHostsFile={}", known.display()),
        ]);
        command.args([
            "-o",
            "PreferredAuthentications=none",
            "-o",
            &format!("User={}", scene.user),
        ]);
        command.args(["-p", &scene.port.to_string(), INSTANCE]);
        scene.environment(&mut command);
        let out = output(command).await;
        // No key of ours is involved: that sshd refuses shows that it was reached.
        assert!(said(&out).contains("Permission denied"), "{}", said(&out));
    }
    assert_eq!(scene.service.state().tunnels.len(), 2);
}
