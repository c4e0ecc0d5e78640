//! The drill of docs/rotation.md: a user-CA key is stolen, and opens nothing a moment after the operator's commands.

use eic_lab::host::AgentService;
use eic_lab::process::Process;
use eic_lab::{Ca, Host, Lab, small_fleet};

use super::company::{
    self, Held, PATIENCE, SOON, announce, key_file, ssh_anew, ubuntu_at, user_ca, wait,
};

/// An enrolled host whose service ends sessions of what is revoked.
fn guarded_host(lab: &Lab, ca: &Ca, name: &str) -> (Host, AgentService) {
    let host = small_fleet::enrolled_host(lab, ca, name).unwrap();
    let more = company::ending_sessions(&host);
    let service = host.start_agent_service(ca, &more).unwrap();
    (host, service)
}

/// The thief is in.
fn inside(forged: &Held, host: &Host) -> Process {
    let command = forged.command(host, "echo ready; exec sleep 300");
    let session = command.start().unwrap();
    wait("the thief's login", PATIENCE, || {
        session.stdout().contains("ready")
    });
    session
}

/// Activate the spare, then retire what was stolen, at once.
fn operate(ca: &Ca, stolen: &str, spare: &str) {
    let retire = ["keys", "retire", stolen, "--reason", "stolen", "--now"];
    let refused = ca.run(&retire).unwrap_err().to_string();
    assert!(refused.contains("activate another one first"), "{refused}");
    ca.run(&["keys", "activate", spare, "--reason", "stolen"])
        .unwrap();
    ca.run(&retire).unwrap();
}

#[test]
fn a_stolen_ca_key_opens_nothing_a_moment_after_the_operators_commands() {
    // F-15
    let lab = Lab::new().unwrap();
    let ca = company::ca(&lab).set("keys.propagation_seconds", 0);
    let mut ca = ca.start().unwrap();
    announce(&mut ca, "user-ca-2");
    let fleet = ["web-1", "web-2"].map(|name| guarded_host(&lab, &ca, name));
    let [(first, _), (second, _)] = &fleet;
    let alice = company::alice(&lab, &ca);
    let (stolen, spare) = (user_ca(&ca, "signs"), user_ca(&ca, "announced"));
    let own = Held::issued(&alice, first, "own");
    let key = key_file(&ca, "user-ca");
    let forged = [
        (Held::forged(&own, &key, first, 7), first),
        (Held::forged(&own, &key, second, 8), second),
    ];
    let mut session = inside(&forged[0].0, first);

    operate(&ca, &stolen, &spare);
    for (held, host) in &forged {
        let took = wait("the refusal", SOON, || !held.opens(host));
        let took = took.as_secs_f64();
        println!("{} refuses the stolen key after {took:.1} s", host.name());
    }
    session.wait(SOON).unwrap();
    assert_eq!(user_ca(&ca, "retired"), stolen);
    // What she held is of that key as well; a new sign-in is not.
    assert!(!own.opens(first));
    for (host, service) in &fleet {
        ssh_anew(&alice, host).unwrap_or_else(|said| panic!("{}: {said}", ubuntu_at(host)));
        service.wait_for("\"healthy\": true").unwrap();
    }
}
