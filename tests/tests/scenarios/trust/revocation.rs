//! What the CA revokes, a host refuses a moment later, and nothing else: new logins and those that are under way.

use std::time::Instant;

use eic_lab::process::Process;
use eic_lab::{Host, Lab};

use super::company::{self, Held, PATIENCE, SOON, key_file, ssh, wait};

/// A login that stays; it is there when its `ready` is.
fn stays(held: &Held, host: &Host) -> Process {
    let command = held.command(host, "echo ready; exec sleep 300");
    let session = command.start().unwrap();
    wait("the login", PATIENCE, || session.stdout().contains("ready"));
    session
}

#[test]
fn a_revoked_certificate_is_refused_within_seconds_and_those_beside_it_go_on() {
    // F-01, F-08
    let lab = Lab::new().unwrap();
    let ca = company::ca(&lab).start().unwrap();
    let web = eic_lab::small_fleet::enrolled_host(&lab, &ca, "web-1").unwrap();
    let ends_sessions = company::ending_sessions(&web);
    let service = web.start_agent_service(&ca, &ends_sessions).unwrap();
    let alice = company::alice(&lab, &ca);

    let lost = Held::issued(&alice, &web, "lost");
    let kept = Held::issued(&alice, &web, "kept");
    // The CA draws serials by chance; these are the ones beside the lost one, by the same key.
    let user_ca = key_file(&ca, "user-ca");
    let beside = [lost.serial - 1, lost.serial + 1]
        .map(|serial| Held::forged(&kept, &user_ca, &web, serial));
    let stranger = lab.folder().join("stranger");
    let made = ["-q", "-t", "ed25519", "-N", "", "-f"];
    let made = std::process::Command::new("ssh-keygen")
        .args(made)
        .arg(&stranger)
        .status();
    assert!(made.unwrap().success());
    let unknown = Held::forged(&kept, &stranger, &web, 5);
    assert!(!unknown.opens(&web), "a CA that the host does not know");
    let mut doomed = stays(&lost, &web);
    let mut others = [stays(&kept, &web), stays(&beside[0], &web)];

    let serial = lost.serial.to_string();
    ca.run(&["revoke", "serial", &serial, "--reason", "laptop lost"])
        .unwrap();
    let called = Instant::now();
    while lost.opens(&web) {
        assert!(called.elapsed() < SOON, "still let in");
    }
    println!(
        "refused {:.1} s after the call",
        called.elapsed().as_secs_f64()
    );
    doomed.wait(SOON).unwrap();
    println!(
        "its session ended {:.1} s after the call",
        called.elapsed().as_secs_f64()
    );
    web.log_line("revoked", SOON).unwrap();

    assert!(kept.opens(&web) && beside.iter().all(|held| held.opens(&web)));
    for session in &mut others {
        assert!(session.exit().is_none(), "a session beside it ended");
    }
    ssh(&alice, &web).unwrap();
    service.wait_for("\"healthy\": true").unwrap();
}
