//! Chained commands behind a real sshd: three ways in at once, each of them refused to the wrong key, and none of
//! them held up by another.

use std::time::{Duration, Instant};

use crate::documents::INSTANCE;
use crate::imds::{Answer, Imds};
use crate::login::{denied, identity_of, instance_connect, key_line, login};
use crate::sandbox::{Host, current, ok, refused};

/// Seeds of keys: pushed through Instance Connect, known to the company's command, known to nobody.
const PUSHED: u8 = 41;
const COMPANY: u8 = 42;
const STRANGER: u8 = 43;

/// A program of the company's under /usr/local/bin.
fn program(host: &Host, name: &str, script: &str) {
    let path = format!("bin/{name}");
    host.program(&path, &format!("#!/bin/sh\n{script}\n"));
}

fn chain(host: &Host, tables: &str) {
    let toml = host.read("etc/eic/agent.toml");
    host.write("etc/eic/agent.toml", format!("{toml}\n{tables}"));
}

/// A host with all three ways in: root's pushed key, root's certificates, root's company key.
fn three_ways() -> Option<(Host, Imds)> {
    let host = Host::new()?;
    host.documents(&current());
    let imds = instance_connect(&host, "root", &key_line(PUSHED));
    // Tokens beyond %u and %f reach the command only through what `install` writes for sshd.
    let script = format!(
        "[ \"$1\" = root ] && [ \"$2\" = /root ] && [ \"$3\" = 0 ] && [ \"${{4#SHA256:}}\" != \"$4\" ] || exit 1\n\
         case $5 in ssh-ed25519*) ;; *) exit 1;; esac\n\
         echo 'restrict,pty {}'\n",
        key_line(COMPANY)
    );
    program(&host, "company-keys", &script);
    chain(
        &host,
        "[[authorized_keys.command]]\nname = \"company\"\ncommand = [\"/usr/local/bin/company-keys\", \"%u\", \"%h\", \"%U\", \"%f\", \"%t\"]\n",
    );
    ok(&host.install(&[]));
    Some((host, imds))
}

#[test]
fn a_certificate_a_pushed_key_and_a_commands_key_open_one_host_and_others_do_not() {
    let Some((host, _imds)) = three_ways() else {
        return;
    };
    identity_of(&host, STRANGER, None);
    denied(Some(login(&host)));
    for wrong in [
        "root@i-0fedcba9876543210",
        "alice@i-0123456789abcdef0",
        "root",
    ] {
        identity_of(&host, STRANGER, Some(wrong));
        denied(Some(login(&host)));
    }
    identity_of(&host, STRANGER, Some(&format!("root@{INSTANCE}")));
    assert_eq!(ok(&login(&host)), "0\n");
    for seed in [PUSHED, COMPANY] {
        identity_of(&host, seed, None);
        assert_eq!(ok(&login(&host)), "0\n", "{seed}");
    }
}

#[test]
fn each_way_in_closes_alone() {
    let Some((host, imds)) = three_ways() else {
        return;
    };
    let all = |host: &Host| -> Vec<bool> {
        let certificate = format!("root@{INSTANCE}");
        let ways = [
            (STRANGER, Some(certificate.as_str())),
            (PUSHED, None),
            (COMPANY, None),
        ];
        ways.into_iter()
            .map(|(seed, principal)| {
                identity_of(host, seed, principal);
                login(host).status.success()
            })
            .collect()
    };
    program(&host, "company-keys", "exit 1");
    assert_eq!(all(&host), [true, true, false]);
    let imds = imds.with("PUT", "/latest/api/token", Answer::status(403, ""));
    program(
        &host,
        "company-keys",
        &format!("echo '{}'", key_line(COMPANY)),
    );
    assert_eq!(all(&host), [true, false, true]);
    let _imds = imds.with("PUT", "/latest/api/token", Answer::ok(crate::imds::TOKEN));
    std::fs::remove_file(host.path("var-lib/eic/host-view.json")).unwrap();
    assert_eq!(all(&host), [false, true, true]);
}

#[test]
fn a_found_key_spares_the_commands() {
    let Some(host) = Host::new() else { return };
    let _imds = instance_connect(&host, "ubuntu", &key_line(PUSHED));
    program(&host, "marking", "echo run >> /run/mark");
    chain(
        &host,
        "[[authorized_keys.command]]\ncommand = [\"/usr/local/bin/marking\"]\n",
    );
    let runs = || host.path("run/mark").exists();
    let fingerprint = |seed| crate::documents::public(seed).fingerprint();
    let found = host.agent(&["authorized-keys", "ubuntu", &fingerprint(PUSHED)]);
    assert_eq!(ok(&found), format!("{}\n", key_line(PUSHED)));
    assert!(!runs());
    ok(&host.agent(&["authorized-keys", "ubuntu", &fingerprint(STRANGER)]));
    assert!(runs());
}

#[test]
fn a_metadata_service_that_hangs_costs_the_commands_nothing() {
    let Some(host) = Host::new() else { return };
    let imds = instance_connect(&host, "ubuntu", &key_line(PUSHED));
    program(
        &host,
        "company-keys",
        &format!("echo '{}'", key_line(COMPANY)),
    );
    chain(
        &host,
        "[[authorized_keys.command]]\ncommand = [\"/usr/local/bin/company-keys\"]\ndeadline_ms = 10000\n",
    );
    for answer in [
        Answer::Silence,
        Answer::Hangup,
        Answer::status(500, "x"),
        Answer::Drip(vec![b'x'; 4000]),
        Answer::ok(&"x".repeat(100_000)),
    ] {
        imds.set("PUT", "/latest/api/token", answer);
        let started = Instant::now();
        let given = host.agent(&["authorized-keys", "ubuntu"]);
        assert_eq!(ok(&given), format!("{}\n", key_line(COMPANY)));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_command_that_hangs_costs_instance_connect_nothing() {
    let Some(host) = Host::new() else { return };
    let _imds = instance_connect(&host, "ubuntu", &key_line(PUSHED));
    program(&host, "hanging", "sleep 60");
    program(
        &host,
        "company-keys",
        &format!("echo '{}'", key_line(COMPANY)),
    );
    chain(
        &host,
        "[[authorized_keys.command]]\ncommand = [\"/usr/local/bin/hanging\"]\ndeadline_ms = 300\n\
         [[authorized_keys.command]]\ncommand = [\"/usr/local/bin/company-keys\"]\ndeadline_ms = 10000\n",
    );
    let started = Instant::now();
    // Without a fingerprint everybody is asked.
    let given = host.agent(&["authorized-keys", "ubuntu"]);
    assert_eq!(
        ok(&given),
        format!("{}\n{}\n", key_line(PUSHED), key_line(COMPANY))
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_commands_work_where_there_is_no_instance_connect() {
    let Some(host) = Host::new() else { return };
    std::fs::remove_dir_all(host.path("sys/devices")).unwrap();
    program(
        &host,
        "company-keys",
        &format!("echo '{}'", key_line(COMPANY)),
    );
    host.write(
        "etc/eic/agent.toml",
        "[[authorized_keys.command]]\ncommand = [\"/usr/local/bin/company-keys\"]\n",
    );
    let given = host.agent(&["authorized-keys", "ubuntu"]);
    assert_eq!(ok(&given), format!("{}\n", key_line(COMPANY)));
    host.write(
        "etc/eic/agent.toml",
        "[[authorized_keys.command]]\ncommand = [\"company-keys\"]\n",
    );
    assert!(refused(&host.agent(&["authorized-keys", "ubuntu"])).contains("no absolute path"));
}
