//! Logins while bundle, revocation list and CA keys are replaced again and again by the CA's own commands: none is
//! wrongly refused, none wrongly let in.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use eic_lab::host::AgentService;
use eic_lab::{Ca, Client, Host, Lab};

use super::company::{
    self, Held, PATIENCE, TRUST_ONLY, hosts_have_the_root, key_file, local_signer, make_key, wait,
};
use super::traffic::{Traffic, Worker};

/// So often somebody loses a certificate, and it is the one that must be refused from then on.
const LOSSES: usize = 10;

/// A certificate of alice's that opened the host until it was revoked.
fn lose_one(ca: &Ca, alice: &Client, host: &Host, round: usize) -> Held {
    let lost = Held::issued(alice, host, &format!("lost-{round}"));
    assert!(lost.opens(host), "not yet revoked");
    let serial = lost.serial.to_string();
    ca.run(&["revoke", "serial", &serial, "--reason", "lost"])
        .unwrap();
    let took = wait("the refusal", PATIENCE, || !lost.opens(host));
    println!("a revocation took {:.1} s", took.as_secs_f64());
    lost
}

/// A CA key comes and the one before goes, each by a root, a bundle and a list of its own.
fn replace(ca: &Ca, host: &Host, service: &AgentService, like: &Held, round: usize) {
    let name = format!("spare-{round}");
    make_key(ca, &name);
    ca.set("keys.spare_user_cas", vec![local_signer(ca, &name)])
        .unwrap();
    ca.run(&["keys", "announce"]).unwrap();
    hosts_have_the_root(ca, [service]);
    let serial = u64::try_from(round).unwrap() + 1000;
    let of_new = Held::forged(like, &key_file(ca, &name), host, serial);
    assert!(of_new.opens(host), "{name} is announced: hosts trust it");
    ca.run(&[
        "keys",
        "retire",
        &fingerprint(ca, &name),
        "--reason",
        "next",
        "--now",
    ])
    .unwrap();
    hosts_have_the_root(ca, [service]);
    assert!(!of_new.opens(host), "{name} is retired");
}

fn fingerprint(ca: &Ca, name: &str) -> String {
    let file = key_file(ca, name).with_added_extension("pub");
    let listed = std::process::Command::new("ssh-keygen")
        .arg("-l")
        .arg("-f")
        .arg(file)
        .output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    listed.split_whitespace().nth(1).unwrap().to_owned()
}

/// Ends the thief's logins, also where the scenario fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// So many replacements; how many logins were judged meanwhile, and each of them rightly.
fn logins_during(replacements: usize) -> usize {
    let lab = Lab::new().unwrap();
    let ca = company::ca(&lab).start().unwrap();
    let (web, service) = company::host(&lab, &ca, "web-1", TRUST_ONLY);
    let [alice, job] = company::machines_of_alice(&lab, &ca, ["alice", "job"]);
    let kept = Held::issued(&alice, &web, "kept");
    let lost = Mutex::new(lose_one(&ca, &alice, &web, 0));
    let traffic = Traffic::start([
        Worker::at(&alice, &[&web]),
        Worker::at(&job, &[&web]).anew(),
    ]);
    let (done, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let thief = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let held = lost.lock().unwrap().clone();
                assert!(!held.opens(&web), "wrongly let in");
                refused.fetch_add(1, Ordering::SeqCst);
            }
        });
        let end = End(&done);
        for round in 1..=replacements {
            replace(&ca, &web, &service, &kept, round);
            if round % LOSSES == 0 {
                let next = lose_one(&ca, &alice, &web, round);
                *lost.lock().unwrap() = next;
            }
            assert!(!thief.is_finished(), "wrongly let in");
        }
        drop(end);
        thief.join().unwrap();
    });
    service.wait_for("\"healthy\": true").unwrap();
    let tally = traffic.end();
    assert!(
        tally.refused.is_empty() && tally.unreachable == 0,
        "{tally:#?}"
    );
    let refused = refused.load(Ordering::SeqCst);
    // Two more in each round, by the key that came and went.
    let judged = tally.let_in + refused + 2 * replacements;
    println!(
        "{judged} logins during {replacements} replacements, {refused} of them with a revoked certificate"
    );
    judged
}

#[test]
fn logins_during_replacements_are_all_judged_rightly() {
    // F-10
    assert!(logins_during(4) >= 20);
}

#[test]
#[ignore = "minutes: a hundred replacements"]
fn five_hundred_logins_during_a_hundred_replacements_are_all_judged_rightly() {
    let judged = logins_during(100);
    assert!(judged >= 500, "{judged}");
}
