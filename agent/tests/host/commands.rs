//! sshd's two commands as processes: what they do with a hostile or empty surrounding.

use crate::documents::{CA_KEY, public};
use crate::imds::{Answer, Imds};
use crate::login::instance_connect;
use crate::pki::ed25519_line;
use crate::sandbox::{Host, current, ok, refused};

fn installed() -> Option<(Host, String)> {
    let host = Host::new()?;
    host.documents(&current());
    ok(&host.install(&[]));
    Some((host, public(CA_KEY).fingerprint()))
}

#[test]
fn internal_errors_print_nothing_and_end_with_a_failure() {
    // J-01
    let Some((host, ca)) = installed() else {
        return;
    };
    let ask = || host.agent(&["authorized-principals", "ubuntu", &ca]);
    assert!(!ok(&ask()).is_empty());
    let good = std::fs::read(host.path("var-lib/eic/root.json")).unwrap();
    for (file, content) in [
        ("root.json", "{}"),
        ("host-view.json", ""),
        ("root.json", "<html>"),
    ] {
        host.write(&format!("var-lib/eic/{file}"), content);
        refused(&ask());
    }
    host.write("var-lib/eic/root.json", good);
    refused(&ask());
    std::fs::remove_file(host.path("etc/eic/agent.toml")).unwrap();
    assert!(refused(&ask()).contains("root_fingerprints` is empty"));
}

#[test]
fn a_cloned_image_opens_nothing() {
    // J-16
    let Some((host, ca)) = installed() else {
        return;
    };
    host.tag("i-0fedcba9876543210");
    let said = refused(&host.agent(&["authorized-principals", "ubuntu", &ca]));
    assert!(said.contains("not for this host"), "{said}");
}

#[test]
fn state_that_others_may_write_opens_nothing() {
    // J-10
    let Some((host, ca)) = installed() else {
        return;
    };
    for path in [
        "/var/lib/eic/root.json",
        "/var/lib/eic",
        "/etc/eic/agent.toml",
    ] {
        ok(&host.command("chmod").args(["go+w", path]).output().unwrap());
        refused(&host.agent(&["authorized-principals", "ubuntu", &ca]));
        ok(&host.command("chmod").args(["go-w", path]).output().unwrap());
    }
    ok(&host.agent(&["authorized-principals", "ubuntu", &ca]));
}

#[test]
fn a_fifo_in_place_of_a_file_ends_at_once() {
    // J-07
    let Some((host, ca)) = installed() else {
        return;
    };
    ok(&host
        .command("sh")
        .args([
            "-c",
            "rm /var/lib/eic/root.json; mkfifo /var/lib/eic/root.json",
        ])
        .output()
        .unwrap());
    let said = refused(&host.agent(&["authorized-principals", "ubuntu", &ca]));
    // Held up, it would have been ended by the limit on the whole run.
    assert!(!said.contains("finish within"), "{said}");
}

#[test]
fn wrong_command_lines_end_with_2_and_print_nothing() {
    let Some(host) = Host::new() else { return };
    for line in [
        &["authorized-principals", "root"][..],
        &["authorized-principals", "root", "x"],
        &["frobnicate"],
        &[],
    ] {
        let output = host.agent(line);
        refused(&output);
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn the_principals_command_opens_no_socket_but_the_logs_and_writes_no_file() {
    // J-07, I-20: judged by the kernel's own record of its system calls
    let Some((host, ca)) = installed() else {
        return;
    };
    if !std::path::Path::new("/usr/bin/strace").exists() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let line = [
        "-f",
        "-e",
        "trace=network,openat,open,creat",
        "/usr/local/bin/eic-agent",
        "authorized-principals",
        "ubuntu",
        &ca,
    ];
    let output = host.command("strace").args(line).output().unwrap();
    let calls = String::from_utf8_lossy(&output.stderr);
    assert!(calls.contains("root.json"), "{calls}");
    for never in ["socket(", "connect(", "O_WRONLY", "O_RDWR", "O_CREAT"] {
        assert!(!calls.contains(never), "{never}: {calls}");
    }
}

#[test]
fn hybrid_hosts_answer_by_their_file() {
    let Some(host) = Host::new() else { return };
    std::fs::remove_dir_all(host.path("sys/devices")).unwrap();
    host.write("etc/eic/instance-id", "mi-0123456789abcdef0\n");
    let mut documents = current();
    documents.view.instance = "mi-0123456789abcdef0".parse().unwrap();
    host.documents(&documents);
    ok(&host.install(&[]));
    let names = ok(&host.agent(&[
        "authorized-principals",
        "ubuntu",
        &public(CA_KEY).fingerprint(),
    ]));
    assert_eq!(
        names,
        "ubuntu@mi-0123456789abcdef0\nubuntu@fleet/web\nubuntu@fleet/eu\n"
    );
}

#[test]
fn proxy_variables_are_not_followed() {
    // I-03
    let Some(host) = Host::new() else { return };
    let proxy = Imds::start();
    let imds = instance_connect(&host, "ubuntu", &ed25519_line(5));
    let mut command = host.command("/usr/local/bin/eic-agent");
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "ALL_PROXY",
        "all_proxy",
        "https_proxy",
    ] {
        command.env(name, format!("http://{}", proxy.address()));
    }
    let lines = ok(&command
        .args(["authorized-keys", "ubuntu"])
        .output()
        .unwrap());
    assert_eq!(lines, format!("{}\n", ed25519_line(5)));
    assert!(proxy.requests().is_empty() && !imds.requests().is_empty());
}

#[test]
fn closed_descriptors_and_an_empty_environment_do_no_harm() {
    // I-20: stdin and stderr closed, no PATH, no HOME
    let Some(host) = Host::new() else { return };
    let _imds = instance_connect(&host, "ubuntu", &ed25519_line(5));
    let script = "exec env -i /usr/local/bin/eic-agent authorized-keys ubuntu <&- 2>&-";
    let lines = ok(&host.command("sh").args(["-c", script]).output().unwrap());
    assert_eq!(lines, format!("{}\n", ed25519_line(5)));
    let failing =
        "exec env -i /usr/local/bin/eic-agent authorized-keys ubuntu --config /none <&- 2>&-";
    refused(&host.command("sh").args(["-c", failing]).output().unwrap());
}

#[test]
fn a_reader_that_goes_away_makes_the_run_fail() {
    // I-19
    let Some(host) = Host::new() else { return };
    let _imds = instance_connect(&host, "ubuntu", &ed25519_line(5));
    let script = "/usr/local/bin/eic-agent authorized-keys ubuntu >/dev/full; echo $?";
    let code = ok(&host.command("sh").args(["-c", script]).output().unwrap());
    assert_eq!(code, "1\n");
}

#[test]
fn a_service_that_hangs_holds_no_login_up() {
    // I-04
    let Some(host) = Host::new() else { return };
    let imds = instance_connect(&host, "ubuntu", &ed25519_line(5));
    let _imds = imds.with("GET", "/latest/meta-data/instance-id/", Answer::Silence);
    let started = std::time::Instant::now();
    refused(&host.agent(&["authorized-keys", "ubuntu"]));
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn a_signed_view_can_switch_instance_connect_off() {
    let Some(host) = Host::new() else { return };
    let mut documents = current();
    documents.view.stage = eic_protocol::trust::host_view::Stage::CertificatesOnly;
    host.documents(&documents);
    let _imds = instance_connect(&host, "ubuntu", &ed25519_line(5));
    assert_eq!(
        ok(&host.agent(&["authorized-keys", "ubuntu"])),
        format!("{}\n", ed25519_line(5))
    );
    ok(&host.install(&[]));
    assert_eq!(ok(&host.agent(&["authorized-keys", "ubuntu"])), "");
}
