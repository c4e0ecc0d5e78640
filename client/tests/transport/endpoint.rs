//! Plain ssh through an endpoint: what is refused and how it is told, then logins, bulk data and the end of a tunnel.

use std::time::Instant;

use crate::scene::{Scene, output, said};
use crate::stub::{INSTANCE, wait_for};

#[tokio::test]
async fn what_stands_in_the_way_is_named_before_anything_is_opened() {
    let scene = Scene::new().await;
    for (state, admitted, told) in [
        (
            "create-in-progress",
            "sg-eice",
            "is create-in-progress: wait",
        ),
        ("create-complete", "sg-other", "admits sg-eice on port"),
    ] {
        scene.set_network(state, admitted);
        let out = scene.echo("--via endpoint").await;
        assert!(
            !out.status.success() && said(&out).contains(told),
            "{}",
            said(&out)
        );
    }
    scene.world.state().aws_answers.insert(
        "DescribeInstanceConnectEndpoints",
        "<R><instanceConnectEndpointSet/></R>".to_owned(),
    );
    let out = scene.echo("--via endpoint").await;
    assert!(
        said(&out).contains("no available instance connect endpoints in vpc-1"),
        "{}",
        said(&out)
    );
    assert!(scene.service.state().connects.is_empty());
}

#[tokio::test]
async fn a_refusal_is_told_in_the_services_words_and_a_stranger_is_not_trusted() {
    let scene = Scene::new().await;
    scene.service.state().refuse =
        Some("not authorized to perform ec2-instance-connect:OpenTunnel");
    let out = scene.echo("--via endpoint").await;
    let told =
        "status 403: not authorized to perform ec2-instance-connect:OpenTunnel (request r-9)";
    assert!(
        !out.status.success() && said(&out).contains(told),
        "{}",
        said(&out)
    );
    // H-02: another certificate authority than the system's.
    scene.service.state().refuse = None;
    let mut command = scene.through("ssh", "--via endpoint", &[INSTANCE, "echo in"]);
    command.env("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt");
    let out = output(command).await;
    assert!(
        !out.status.success() && said(&out).contains("TLS connection failed"),
        "{}",
        said(&out)
    );
    assert!(scene.service.state().tunnels.is_empty());
}

#[tokio::test]
async fn the_configured_proxy_counts_for_tunnels_and_not_the_environments() {
    // D19
    let scene = Scene::new().await;
    let proxy = scene.service.proxy;
    let config = scene.world.paths.config_file();
    for (written, reached) in [
        (String::new(), false),
        (format!("proxy = 'http://{proxy}'\n"), true),
        (
            format!("proxy = 'http://{proxy}'\nno_proxy = ['amazonaws.com']\n"),
            false,
        ),
    ] {
        std::fs::write(&config, written).unwrap();
        scene.service.state().connects.clear();
        let mut command = scene.through("ssh", "--via endpoint", &[INSTANCE, "echo in"]);
        command.env("HTTPS_PROXY", "http://127.0.0.1:1");
        let out = output(command).await;
        assert_eq!(out.status.success(), reached, "{}", said(&out));
        assert_eq!(scene.service.state().connects.len(), usize::from(reached));
    }
}

#[tokio::test]
async fn a_login_through_an_endpoint_satisfies_every_check_of_the_service() {
    let scene = Scene::new().await;
    let out = scene.echo("--via endpoint").await;
    assert!(
        out.status.success() && out.stdout == b"in\n",
        "{}",
        said(&out)
    );
    {
        let state = scene.service.state();
        assert_eq!(state.refused, Vec::<String>::new());
        assert_eq!(state.tunnels[0]["privateIpAddress"], "127.0.0.9");
        assert_eq!(state.tunnels[0]["remotePort"], scene.port.to_string());
    }
    // Programs that read and write pipes (paramiko, asyncssh) get the bytes pumped.
    let piped = scene
        .ssh(
            "--via endpoint",
            &["-oProxyUseFdpass=no", INSTANCE, "echo in"],
        )
        .await;
    assert!(
        piped.status.success() && piped.stdout == b"in\n",
        "{}",
        said(&piped)
    );
    let state = std::sync::Arc::clone(&scene.service.state);
    wait_for(|| state.lock().unwrap().open == 0).await;
}

#[tokio::test]
async fn no_secret_is_in_the_command_line_or_environment_of_the_carrier() {
    // H-05
    let scene = Scene::new().await;
    let mut command = scene.through("ssh", "--via endpoint", &[INSTANCE, "cat"]);
    let mut ssh = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let carriers = || carriers_of(scene.world.dir.path());
    wait_for(|| !carriers().is_empty()).await;
    for (line, environment) in carriers() {
        let all = format!("{line}\n{environment}");
        for secret in [
            "AKIAIOSFODNN7EXAMPLE",
            "AWS_",
            "X-Amz-Signature",
            "openTunnel",
        ] {
            assert!(!all.contains(secret), "{secret}: {all}");
        }
    }
    drop(ssh.stdin.take());
    tokio::task::spawn_blocking(move || ssh.wait().unwrap())
        .await
        .unwrap();
    wait_for(|| carriers().is_empty()).await;
}

/// Command line and environment of the scene's carriers.
fn carriers_of(home: &std::path::Path) -> Vec<(String, String)> {
    let home = format!("HOME={}", home.display());
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let read = |process: &std::fs::DirEntry, name: &str| {
        let bytes = std::fs::read(process.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', "\n")
    };
    processes
        .map(|process| (read(&process, "cmdline"), read(&process, "environ")))
        .filter(|(line, environment)| line.contains("\ncarry") && environment.contains(&home))
        .collect()
}

#[tokio::test]
async fn bulk_data_arrives_whole_in_frames_within_the_limit() {
    let scene = Scene::new().await;
    let size = 64 * 1024 * 1024_usize;
    let (from, to) = (
        scene.world.dir.path().join("from"),
        scene.world.dir.path().join("to"),
    );
    let bytes: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
    std::fs::write(&from, &bytes).unwrap();
    let remote = format!("{INSTANCE}:{}", to.display());
    let started = Instant::now();
    let up = scene.through(
        "scp",
        "--via endpoint",
        &["-q", from.to_str().unwrap(), &remote],
    );
    let up = output(up).await;
    assert!(up.status.success(), "{}", said(&up));
    println!("up: {:.0} MB/s", 67.1 / started.elapsed().as_secs_f64());
    assert!(std::fs::read(&to).unwrap() == bytes);
    std::fs::remove_file(&from).unwrap();
    let started = Instant::now();
    let down = scene.through(
        "scp",
        "--via endpoint",
        &["-q", &remote, from.to_str().unwrap()],
    );
    let down = output(down).await;
    assert!(down.status.success(), "{}", said(&down));
    println!("down: {:.0} MB/s", 67.1 / started.elapsed().as_secs_f64());
    assert!(std::fs::read(&from).unwrap() == bytes);
    assert!(scene.service.state().largest_frame <= 65_000);
}

#[tokio::test]
async fn the_reason_for_the_end_of_a_tunnel_reaches_the_user() {
    let scene = Scene::new().await;
    let flood = [INSTANCE, "head -c 10000000 /dev/zero"];
    scene.service.state().end = Some((100_000, 1008, "The maximum tunnel duration is reached"));
    let out = scene.ssh("--via endpoint", &flood).await;
    assert!(!out.status.success());
    assert!(
        said(&out).contains("code 1008: The maximum tunnel duration is reached"),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    scene.service.state().end = None;
    scene.service.state().vanish = Some(100_000);
    let out = scene.ssh("--via endpoint", &flood).await;
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(
        !out.status.success() && told.contains("the tunnel broke"),
        "{told}"
    );
}

#[tokio::test]
async fn auto_takes_the_endpoint_where_the_host_does_not_answer_and_remembers_it() {
    let scene = Scene::new().await;
    let first = scene.echo("").await;
    assert!(
        first.status.success() && first.stdout == b"in\n",
        "{}",
        said(&first)
    );
    let cache = scene.world.paths.cache_dir.join("ways.json");
    let remembered = std::fs::read_to_string(&cache).unwrap();
    assert!(remembered.contains("\"endpoint\""), "{remembered}");
    // The host itself answers now: what won last still goes first.
    scene.host_answers();
    let second = scene.echo("").await;
    assert!(second.status.success(), "{}", said(&second));
    assert_eq!(scene.service.state().tunnels.len(), 2);
    // Where the endpoint fails, the host's own address is tried at once, and remembered in turn.
    scene.service.state().refuse = Some("no");
    let third = scene.echo("").await;
    assert!(third.status.success(), "{}", said(&third));
    assert!(
        std::fs::read_to_string(&cache)
            .unwrap()
            .contains("\"direct\"")
    );
}

#[tokio::test]
async fn every_way_that_failed_is_named() {
    let scene = Scene::new().await;
    scene.service.state().refuse = Some("no tunnels today");
    let out = scene.echo("").await;
    let told = said(&out);
    assert!(told.contains("direct: 127.0.0.9"), "{told}");
    assert!(told.contains("ssm: cannot start a session"), "{told}");
    assert!(
        told.contains("endpoint: no tunnel through eice-0123456789abcdef0"),
        "{told}"
    );
    assert!(told.contains("no tunnels today"), "{told}");
    // One way only: nothing else is tried.
    let before = scene.service.state().connects.len();
    let direct = scene.echo("--via direct").await;
    assert!(
        !direct.status.success() && !said(&direct).contains("endpoint"),
        "{}",
        said(&direct)
    );
    assert_eq!(scene.service.state().connects.len(), before);
    let unknown = scene.echo("--via teleport").await;
    assert!(
        said(&unknown).contains("`teleport` is not a way to a host"),
        "{}",
        said(&unknown)
    );
}

#[tokio::test]
async fn more_logins_at_once_than_an_endpoint_takes_wait_for_their_turn() {
    let scene = Scene::new().await;
    let logins: Vec<_> = (0..25)
        .map(|_| {
            let command = scene.through("ssh", "--via endpoint", &[INSTANCE, "sleep 1; echo in"]);
            tokio::spawn(output(command))
        })
        .collect();
    for login in logins {
        let out = login.await.unwrap();
        assert!(
            out.status.success() && out.stdout == b"in\n",
            "{}",
            said(&out)
        );
    }
    let state = scene.service.state();
    assert!(
        state.most_open <= 20 && state.refused.is_empty(),
        "{state:?}"
    );
    assert_eq!(state.tunnels.len(), 25);
}
