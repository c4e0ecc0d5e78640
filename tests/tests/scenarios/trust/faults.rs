//! The CA away or wrong, the disk full or read-only, the root helper killed in the middle of an installation: sshd has
//! valid files at every moment, logins go on, what is revoked stays so, and the host says why it is not well.
//!
//! Every single step of an installation is killed and failed in the agent's own tests; here are the whole parts
//! together: the real CA's documents, the sshd on port 22, people who log in. EIO is the agent's own tests' as well:
//! they have a block device that fails.

use std::path::Path;
use std::process::{Child, Command};

use eic_lab::host::AgentService;
use eic_lab::{Ca, Host, Lab};

use super::company::{self, Held, PATIENCE, SOON, TRUST_ONLY, ssh, wait};
use super::traffic::{Traffic, Worker};
use super::web_folder::{Answer, WebFolder};

/// sshd reads its configuration, the revocation list and the CA keys.
fn assert_valid_files(host: &Host, at: &str) {
    let script = "/usr/sbin/sshd -t && ssh-keygen -l -f /var/lib/eic/user-ca-keys && \
                  ssh-keygen -Q -f /var/lib/eic/revoked-keys /etc/ssh/ssh_host_ed25519_key.pub";
    let judged = host.command("sh").args(["-c", script]).run().unwrap();
    assert!(
        judged.status.success(),
        "{at}: {}{}",
        judged.stdout,
        judged.stderr
    );
}

/// The bundle in place, as the service tells.
fn sequence(service: &AgentService) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&service.status()).unwrap_or_default();
    status["installed"]["bundle_sequence"].as_u64().unwrap_or(0)
}

/// Revokes a certificate of alice's that opened the host.
fn lost_certificate(ca: &Ca, held: Held, host: &Host) -> Held {
    assert!(held.opens(host));
    let serial = held.serial.to_string();
    ca.run(&["revoke", "serial", &serial, "--reason", "lost"])
        .unwrap();
    held
}

/// The CA's documents as `eic-ca bundle publish` writes them.
fn publish(ca: &Ca, folder: &Path) -> Vec<u8> {
    std::fs::create_dir_all(folder).unwrap();
    let to = folder.display().to_string();
    ca.run(&["bundle", "publish", "--to", &to]).unwrap();
    std::fs::read(folder.join("trust-bundle.json")).unwrap()
}

#[test]
fn documents_that_are_old_foreign_cut_or_no_documents_change_nothing_and_logins_go_on() {
    // F-07, F-18, F-20
    let lab = Lab::new().unwrap();
    let ca = company::ca(&lab).start().unwrap();
    let foreign = company::ca_named(&lab, "foreign", 8444);
    let published = lab.folder().join("published");
    let old = publish(&ca, &published);
    let web = eic_lab::small_fleet::enrolled_host(&lab, &ca, "web-1").unwrap();
    let server = WebFolder::start(&web, Answer::Folder(published.clone()));
    let more = format!("{TRUST_ONLY}trust_from = \"{}\"\n", WebFolder::URL);
    let mut service = web.start_agent_service(&ca, &more).unwrap();
    let alice = company::alice(&lab, &ca);
    let lost = Held::issued(&alice, &web, "lost");
    let lost = lost_certificate(&ca, lost, &web);
    let new = publish(&ca, &published);
    wait("the refusal", PATIENCE, || !lost.opens(&web));
    let traffic = Traffic::start([Worker::at(&alice, &[&web])]);

    let other = publish(&foreign, &lab.folder().join("foreign-published"));
    let html = b"<html><body>Sign in to the network</body></html>".to_vec();
    for (reason, answer) in [
        ("older than the installed", Answer::Other(200, old)),
        ("signatures", Answer::Other(200, other)),
        (
            "not a trust bundle",
            Answer::Other(200, new[..new.len() / 2].to_vec()),
        ),
        ("not a trust bundle", Answer::Other(200, html)),
        ("answered 204", Answer::Other(204, Vec::new())),
        ("larger than", Answer::Endless),
    ] {
        let at = format!("{reason}: {:.60}", format!("{answer:?}"));
        server.answers(Answer::Folder(published.clone()));
        service.wait_for("\"healthy\": true").unwrap();
        server.answers(answer);
        // A fresh one: the waits after failures grow.
        service.restart().unwrap();
        service
            .wait_for(reason)
            .unwrap_or_else(|e| panic!("{at}: {e}"));
        assert!(service.status().contains("\"healthy\": false"), "{at}");
        assert_valid_files(&web, &at);
        assert!(!lost.opens(&web), "{at}");
        traffic.goes_on(1);
    }
    server.answers(Answer::Folder(published));
    service.restart().unwrap();
    service.wait_for("\"healthy\": true").unwrap();
    let tally = traffic.end();
    assert!(
        tally.refused.is_empty() && tally.unreachable == 0,
        "{tally:#?}"
    );
}

/// A small disk of its own below the agent's state.
fn small_disk(host: &Host) {
    let script = "cp -a /var/lib/eic /root/eic-copy && \
                  mount -t tmpfs -o size=512k,mode=0755 tmpfs /var/lib/eic && cp -a /root/eic-copy/. /var/lib/eic";
    host.exec("sh", ["-c", script]).unwrap();
}

#[test]
fn without_the_ca_or_a_disk_that_takes_anything_logins_go_on_and_the_host_says_why() {
    // F-11, F-19
    let lab = Lab::new().unwrap();
    let mut ca = company::ca(&lab).start().unwrap();
    let web = eic_lab::small_fleet::enrolled_host(&lab, &ca, "web-1").unwrap();
    small_disk(&web);
    let service = web.start_agent_service(&ca, TRUST_ONLY).unwrap();
    let alice = company::alice(&lab, &ca);
    ssh(&alice, &web).unwrap();
    let mut held = ["a", "b", "c"].map(|name| Some(Held::issued(&alice, &web, name)));
    let traffic = Traffic::start([Worker::at(&alice, &[&web])]);
    let full = "dd if=/dev/zero of=/var/lib/eic/filler bs=1k 2>/dev/null; true";
    for (number, (reason, break_it, mend_it)) in [
        ("No space left", full, "rm /var/lib/eic/filler"),
        (
            "Read-only file system",
            "mount -o remount,ro /var/lib/eic",
            "mount -o remount,rw /var/lib/eic",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let before = sequence(&service);
        web.exec("sh", ["-c", break_it]).unwrap();
        let lost = lost_certificate(&ca, held[number].take().unwrap(), &web);
        service.wait_for(reason).unwrap();
        assert!(service.status().contains("\"healthy\": false"), "{reason}");
        assert_valid_files(&web, reason);
        assert_eq!(sequence(&service), before, "{reason}");
        traffic.goes_on(1);
        web.exec("sh", ["-c", mend_it]).unwrap();
        wait("the refusal", PATIENCE, || !lost.opens(&web));
        service.wait_for("\"healthy\": true").unwrap();
    }

    ca.kill().unwrap();
    service.wait_for("\"healthy\": false").unwrap();
    service.wait_for("get an answer").unwrap();
    assert_valid_files(&web, "without the CA");
    traffic.goes_on(2);
    ca.start().unwrap();
    lost_certificate(&ca, held[2].take().unwrap(), &web);
    service.wait_for("\"healthy\": true").unwrap();
    let tally = traffic.end();
    assert!(
        tally.refused.is_empty() && tally.unreachable == 0,
        "{tally:#?}"
    );
}

/// Kills the helper at each of these system calls, each time at a later one, until one installation gets through.
/// How often it was killed.
fn killed_at_every(calls: &[&str]) -> usize {
    let lab = Lab::new().unwrap();
    let ca = company::ca(&lab).start().unwrap();
    let (web, mut service) = company::host(&lab, &ca, "web-1", TRUST_ONLY);
    let alice = company::alice(&lab, &ca);
    ssh(&alice, &web).unwrap();
    let traffic = Traffic::start([Worker::at(&alice, &[&web])]);
    let mut kills = 0;
    for call in calls {
        for step in 1.. {
            assert!(step < 300, "{call}: no end");
            match killed_at(&ca, &web, &mut service, call, step) {
                End::Through => break,
                End::Killed => kills += 1,
                End::Refused => {}
            }
        }
    }
    service.start_helper().unwrap();
    service.wait_for("\"healthy\": true").unwrap();
    let tally = traffic.end();
    assert!(
        tally.refused.is_empty() && tally.unreachable == 0,
        "{tally:#?}"
    );
    kills
}

/// How an installation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Through,
    Killed,
    /// A program that the helper had started was killed.
    Refused,
}

/// One new bundle for a helper that is killed at its `step`th such call from now on.
fn killed_at(ca: &Ca, web: &Host, service: &mut AgentService, call: &str, step: usize) -> End {
    let at = format!("killed at {call} {step}");
    service.wait_for("\"healthy\": true").unwrap();
    let before = sequence(service);
    let tracer = Tracer::attached(service, &format!("inject={call}:signal=KILL:when={step}"));
    company::revoke_some_key(ca);
    wait(&at, PATIENCE, || {
        let unwell = service.status().contains("\"healthy\": false");
        service.helper_has_ended() || unwell || sequence(service) > before
    });
    assert_valid_files(web, &at);
    drop(tracer);
    let end = match (service.helper_has_ended(), sequence(service) > before) {
        (true, _) => End::Killed,
        (false, true) => End::Through,
        (false, false) => End::Refused,
    };
    if end != End::Through {
        service.start_helper().unwrap();
        service.restart().unwrap();
        wait(&at, PATIENCE, || sequence(service) > before);
        assert_valid_files(web, &at);
    }
    end
}

/// strace(1) at the root helper; it lets go of it when it is dropped.
struct Tracer(Child);

impl Tracer {
    fn attached(service: &AgentService, what: &str) -> Self {
        let pid = service.helper_pid().unwrap().as_raw_nonzero();
        let tracer = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=all",
                "-e",
                what,
            ])
            .args(["-p", &pid.to_string()])
            .spawn()
            .unwrap();
        let status = format!("/proc/{pid}/status");
        wait("strace", PATIENCE, || {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        });
        Self(tracer)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_helper_that_is_killed_at_any_rename_leaves_valid_files_and_the_next_one_goes_on() {
    // F-11
    assert!(killed_at_every(&["rename"]) >= 2);
}

#[test]
#[ignore = "minutes: every step of an installation"]
fn a_helper_that_is_killed_at_any_step_leaves_valid_files_and_the_next_one_goes_on() {
    let kills = killed_at_every(&[
        "rename", "fsync", "openat", "write", "fchmod", "unlink", "execve",
    ]);
    println!("{kills} kills");
    assert!(kills >= 20, "{kills}");
}

#[test]
fn revocations_made_while_the_helper_was_away_are_in_force_when_it_is_back() {
    let lab = Lab::new().unwrap();
    let ca = company::ca(&lab).start().unwrap();
    let (web, mut service) = company::host(&lab, &ca, "web-1", TRUST_ONLY);
    let alice = company::alice(&lab, &ca);
    let held = Held::issued(&alice, &web, "lost");
    service.kill_helper();
    let lost = lost_certificate(&ca, held, &web);
    service.wait_for("ask the helper").unwrap();
    assert!(lost.opens(&web), "nothing told the host");
    service.start_helper().unwrap();
    service.restart().unwrap();
    let took = wait("the refusal", SOON, || !lost.opens(&web));
    println!("refused after {:.1} s", took.as_secs_f64());
    service.wait_for("\"healthy\": true").unwrap();
}
