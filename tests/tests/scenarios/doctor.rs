//! `eic-login doctor` where nothing is a stub: a real CA, AWS's stand-ins, hosts with our agent and real sshds, each
//! broken in one place and mended again. More set-ups, against stand-ins of the CA, stand in client/tests/login/doctor.rs.

use std::time::Duration;

use eic_lab::deadline::wait_for;
use eic_lab::small_fleet::{self, SmallFleet};
use eic_lab::{Client, Host};

/// Something that is broken and mended by a line of shell.
struct Case {
    cause: &'static str,
    breaks: String,
    mends: String,
}

fn case(cause: &'static str, breaks: &str, mends: &str) -> Case {
    Case {
        cause,
        breaks: breaks.to_owned(),
        mends: mends.to_owned(),
    }
}

/// The word of the finding; empty where the login works.
fn cause_of(person: &Client, destination: &str) -> (String, String) {
    let output = person.run("eic-login", ["doctor", "--json", destination]);
    let output = output.unwrap();
    let text = format!("{}{}", output.stdout, output.stderr);
    let Ok(told) = serde_json::from_str::<serde_json::Value>(&output.stdout) else {
        return ("no JSON".to_owned(), text);
    };
    let word = told["finding"]["cause"].as_str().unwrap_or_default();
    assert_eq!(output.status.success(), word.is_empty(), "{text}");
    (word.to_owned(), text)
}

fn expect(person: &Client, destination: &str, cause: &str) {
    let (word, text) = cause_of(person, destination);
    assert_eq!(word, cause, "{destination}: {text}");
}

/// The service reads what is revoked once a second, clients with their next question.
fn expect_soon(person: &Client, destination: &str, cause: &str) {
    let what = format!("the cause {cause}");
    let found = || (cause_of(person, destination).0 == cause).then_some(());
    wait_for(&what, Duration::from_secs(30), found).unwrap();
}

fn on(host: &Host, script: &str) {
    host.exec("bash", ["-ec", script]).unwrap();
}

/// Breaks the host, asks alice's doctor, mends it; what was not named.
fn wrong(fleet: &SmallFleet, host: &Host, cases: &[Case]) -> Vec<String> {
    let destination = format!("ubuntu@{}", host.name());
    let mut wrong = Vec::new();
    for case in cases {
        on(host, &case.breaks);
        let (word, text) = cause_of(&fleet.alice, &destination);
        on(host, &case.mends);
        if word != case.cause {
            wrong.push(format!("{} was called {word:?}: {text}", case.breaks));
        }
    }
    wrong
}

#[test]
fn what_is_wrong_with_a_host_is_named_and_nothing_when_it_is_mended() {
    let fleet = SmallFleet::start().unwrap();
    let timed_out = case(
        "connection-timed-out",
        "ip route add blackhole 10.77.0.1/32",
        "ip route del blackhole 10.77.0.1/32",
    );
    let closed = [
        case(
            "still-booting",
            "echo 'System is booting up.' > /etc/nologin",
            "rm /etc/nologin",
        ),
        case(
            "account-closed", // it expired in 1970
            "sed -i '/^ubuntu:/s/:::$/::1:/' /etc/shadow",
            "sed -i '/^ubuntu:/s/::1:$/:::/' /etc/shadow",
        ),
    ];
    let untrusting = ["/var/lib/eic/host-view.json", "/etc/eic/agent.toml"].map(|file| {
        let (away, back) = (
            format!("mv {file} {file}.away"),
            format!("mv {file}.away {file}"),
        );
        case("certificate-refused", &away, &back)
    });
    let mut all = wrong(&fleet, &fleet.web, &closed);
    all.extend(wrong(&fleet, &fleet.web, &untrusting));
    all.extend(wrong(&fleet, &fleet.legacy, &closed));
    all.extend(wrong(&fleet, &fleet.legacy, &[timed_out]));
    assert!(all.is_empty(), "{}", all.join("\n---\n"));
    for host in [&fleet.web, &fleet.legacy] {
        expect(&fleet.alice, &format!("ubuntu@{}", host.name()), "");
    }
}

#[test]
fn what_is_wrong_with_a_person_or_the_ca_is_named() {
    let mut fleet = SmallFleet::start().unwrap();
    let (web, legacy) = ("ubuntu@web-1", "ubuntu@legacy-1");
    expect(&fleet.alice, "bob@web-1", "conditions-not-met");
    expect(&fleet.alice, "ubuntu@web-9", "unknown-host");

    let dora = small_fleet::person(&fleet.lab, "dora").unwrap();
    expect(&dora, legacy, "not-set-up");
    expect(&dora, web, "enrolled-without-ca");
    let stranger = fleet.lab.client("stranger").unwrap();
    let stranger = stranger.env("AWS_EC2_METADATA_DISABLED", "true");
    small_fleet::set_up(&stranger, &fleet.ca).unwrap();
    expect(&stranger, web, "credentials-missing");

    let bob = small_fleet::person(&fleet.lab, "bob").unwrap();
    small_fleet::set_up(&bob, &fleet.ca).unwrap();
    expect(&bob, &format!("ubuntu@{}", fleet.web.id()), "unknown-host"); // C-18: or not his to know
    let wrong = bob.env(
        "AWS_SECRET_ACCESS_KEY",
        "not-the-key-of-anybody-at-all-here-0000000",
    );
    wrong.run("eic-login", ["logout"]).unwrap();
    expect(&wrong, web, "credentials-rejected");

    expect(&fleet.alice, web, "");
    fleet
        .ca
        .run(&["revoke", "host", "--reason", "broken open", fleet.web.id()])
        .unwrap();
    expect_soon(&fleet.alice, web, "host-revoked");
    expect(&fleet.alice, legacy, "");
    let arn = format!("arn:aws:iam::{}:user/alice", eic_lab::aws::ACCOUNT);
    fleet.ca.run(&["revoke", "caller", &arn]).unwrap();
    // The certificate that she has would be good until its end.
    fleet.alice.run("eic-login", ["logout"]).unwrap();
    expect_soon(&fleet.alice, legacy, "caller-revoked");
    fleet.ca.stop().unwrap();
    expect(&fleet.alice, legacy, "ca-unreachable");
}
