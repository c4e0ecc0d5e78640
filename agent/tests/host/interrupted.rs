//! `install` and `uninstall` killed at each step: sshd always starts and lets the old way in, a second run
//! finishes the work, and `uninstall` restores every byte. strace kills at the n-th call of each kind.

use std::os::unix::process::ExitStatusExt as _;

use crate::attempt::{login, user_key};
use crate::documents::{ROOT_KEY, public};
use crate::sandbox::{Host, current, ok, succeed};

/// A host that root enters by an authorized_keys file.
fn host() -> Option<Host> {
    let host = Host::new()?;
    if !std::path::Path::new("/usr/bin/strace").exists() {
        eprintln!("skipped: no strace");
        return None;
    }
    host.documents(&current());
    host.write("etc/eic-documents/.keep", "");
    user_key(&host);
    let public = host.read("etc/user/id.pub");
    host.write("etc/user/authorized_keys", public);
    host.write(
        "etc/ssh/sshd_config.d/90-old.conf",
        "AuthorizedKeysFile /etc/user/authorized_keys\n",
    );
    ok(&host.install(&["--dry-run"]));
    Some(host)
}

/// Runs the agent and kills it when it makes a system call for the `n`-th time; false: it ended before.
fn killed_at(host: &Host, call: &str, n: usize, arguments: &[&str]) -> bool {
    let inject = format!("inject={call}:signal=SIGKILL:when={n}");
    let trace = format!("trace={call}");
    let output = host
        .command("strace")
        .args(["-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject])
        .arg("/usr/local/bin/eic-agent")
        .args(arguments)
        .output()
        .unwrap();
    let killed = output.status.signal() == Some(9) || output.status.code() == Some(137);
    assert!(killed || output.status.success(), "{output:?}");
    killed
}

fn the_old_way_is_open(host: &Host, when: &str) {
    succeed(host.command("sshd").arg("-t"));
    let output = login(host, "root");
    assert!(output.status.success(), "{when}: {output:?}");
}

/// Passwd's copies aside (useradd(8) makes them), everything.
fn everything(host: &Host) -> Vec<String> {
    let lines = host.snapshot().into_iter();
    lines.filter(|line| !line.contains("/passwd-")).collect()
}

fn same(now: &[String], before: &[String], when: &str) {
    let new: Vec<_> = now.iter().filter(|line| !before.contains(line)).collect();
    let gone: Vec<_> = before.iter().filter(|line| !now.contains(line)).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "{when}: new {new:#?}, gone {gone:#?}"
    );
}

/// Takes the installation back; nothing may be left over.
fn uninstall(host: &Host, when: &str) {
    let said = ok(&host.agent(&["uninstall"]));
    assert!(!said.contains("left over"), "{when}: {said}");
}

fn install_arguments(pin: &str) -> [&str; 5] {
    [
        "install",
        "--root-fingerprint",
        pin,
        "--state-from",
        "/etc/eic-documents",
    ]
}

/// What the record says besides the time of the first installation.
fn installed(host: &Host) -> Vec<String> {
    let lines = everything(host).into_iter();
    lines
        .filter(|line| !line.contains("/install.json"))
        .collect()
}

fn install_is_killed_at_every(call: &str) {
    // F-11, J-10
    let Some(host) = host() else { return };
    let pin = public(ROOT_KEY).fingerprint();
    ok(&host.agent(&install_arguments(&pin)));
    ok(&host.agent(&["uninstall"]));
    let before = everything(&host);
    ok(&host.agent(&install_arguments(&pin)));
    let complete = installed(&host);
    ok(&host.agent(&["uninstall"]));
    let mut n = 1;
    while killed_at(&host, call, n, &install_arguments(&pin)) {
        let when = format!("install killed at {call} {n}");
        the_old_way_is_open(&host, &when);
        // Every other time the second run is the one that takes back.
        if n % 2 == 0 {
            ok(&host.agent(&install_arguments(&pin)));
            same(&installed(&host), &complete, &when);
        }
        uninstall(&host, &when);
        same(&everything(&host), &before, &when);
        n += 1;
    }
    assert!(n > 5, "{call} was counted {n} times only");
}

#[test]
fn an_installation_that_is_killed_at_any_rename_can_be_finished_and_taken_back() {
    install_is_killed_at_every("rename");
}

#[test]
fn an_installation_that_is_killed_at_any_new_folder_or_file_can_be_finished_and_taken_back() {
    install_is_killed_at_every("mkdir");
}

#[test]
fn an_uninstallation_that_is_killed_is_finished_by_the_next() {
    let Some(host) = host() else { return };
    let pin = public(ROOT_KEY).fingerprint();
    ok(&host.agent(&install_arguments(&pin)));
    ok(&host.agent(&["uninstall"]));
    let before = everything(&host);
    for call in ["rename", "unlink", "rmdir", "unlinkat"] {
        let mut n = 1;
        loop {
            ok(&host.agent(&install_arguments(&pin)));
            let killed = killed_at(&host, call, n, &["uninstall"]);
            let when = format!("uninstall killed at {call} {n}");
            the_old_way_is_open(&host, &when);
            uninstall(&host, &when);
            same(&everything(&host), &before, &when);
            if !killed {
                break;
            }
            n += 1;
        }
    }
}
