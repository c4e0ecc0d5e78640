//! What must not work, end to end: each with the sentence that its reader gets.
//! The CA's own refusals of malformed requests are tested beside `ca-service/src/http`.

use std::time::Duration;

use eic_lab::aws::OTHER_ACCOUNT;
use eic_lab::small_fleet::{self, SmallFleet};
use eic_lab::{Client, Host, Lab};

/// For what the running service takes notice of in a second, on a busy machine later.
const SOON: Duration = Duration::from_secs(30);

fn refused(client: &Client, args: &[&str]) -> String {
    let output = client.run("ssh", args.iter().copied()).unwrap();
    assert_eq!(
        output.status.code(),
        Some(255),
        "must not log in: {}{}",
        output.stdout,
        output.stderr
    );
    output.stderr
}

fn at(user: &str, host: &Host) -> String {
    format!("{user}@{}", host.id())
}

#[test]
fn another_os_user_is_refused_with_the_name_that_would_do() {
    let fleet = SmallFleet::start().unwrap();
    let said = refused(&fleet.alice, &[&at("bob", &fleet.web), "true"]);
    assert!(said.contains("ubuntu"), "{said}");
    assert!(!fleet.web.log().contains("Accepted"), "{}", fleet.web.log());
    // Never a push after a no of the CA (H-18).
    let said = refused(&fleet.alice, &[&at("bob", &fleet.legacy), "true"]);
    assert!(!fleet.legacy.log().contains("Providing ssh key"), "{said}");
}

#[test]
fn hosts_that_policy_does_not_give_look_like_hosts_that_do_not_exist() {
    // C-18, C-19
    let fleet = SmallFleet::start().unwrap();
    let lab = &fleet.lab;
    let other_team = lab.host("db-1").tag("team", "db").start().unwrap();
    let office = lab.host("office-1").tag("team", "office").start().unwrap();
    let frozen = lab
        .host("frozen-1")
        .tag("team", "web")
        .tag("frozen", "true")
        .start()
        .unwrap();
    let foreign = lab
        .host("foreign-1")
        .tag("team", "web")
        .aws_account(OTHER_ACCOUNT)
        .start()
        .unwrap();
    let unknown = refused(&fleet.alice, &["ubuntu@i-00000000000000000", "true"])
        .replace("i-00000000000000000", "HOST");
    assert!(unknown.contains("or you may not log in there"), "{unknown}");
    let strip = |text: String| {
        text.lines()
            .map(|l| l.split("request").next().unwrap_or(l).to_owned())
            .collect::<Vec<_>>()
    };
    for host in [&other_team, &office, &frozen, &foreign] {
        let said = refused(&fleet.alice, &[&at("ubuntu", host), "true"]).replace(host.id(), "HOST");
        assert_eq!(strip(said), strip(unknown.clone()), "{}", host.name());
        assert!(!host.log().contains("Accepted"), "{}", host.log());
    }
}

#[test]
fn a_caller_without_a_statement_sees_and_reaches_nothing() {
    let fleet = SmallFleet::start().unwrap();
    let bob = small_fleet::person(&fleet.lab, "bob").unwrap();
    small_fleet::set_up(&bob, &fleet.ca).unwrap();
    let shown = bob.run("eic-login", Vec::<String>::new()).unwrap();
    assert!(!shown.stdout.contains(fleet.web.id()), "{}", shown.stdout);
    refused(&bob, &[&at("ubuntu", &fleet.web), "true"]);
    refused(&bob, &[&at("ubuntu", &fleet.legacy), "true"]);
}

#[test]
fn a_wrong_secret_key_is_refused_by_aws_and_said_in_one_line() {
    let fleet = SmallFleet::start().unwrap();
    let wrong = fleet
        .alice
        .clone()
        .env("AWS_SECRET_ACCESS_KEY", "wrong/secret");
    let output = wrong.run("eic-login", Vec::<String>::new()).unwrap();
    assert!(!output.status.success());
    assert!(
        output.stderr.contains("does not accept these credentials"),
        "{}",
        output.stderr
    );
    assert!(!output.stderr.contains("wrong/secret"), "{}", output.stderr);
}

#[test]
fn missing_and_expired_credentials_say_what_to_run() {
    let fleet = SmallFleet::start().unwrap();
    let none = fleet
        .alice
        .clone()
        .env("AWS_ACCESS_KEY_ID", "")
        .env("AWS_SECRET_ACCESS_KEY", "");
    let output = none.run("eic-login", Vec::<String>::new()).unwrap();
    assert!(!output.status.success());
    assert!(output.stderr.contains("aws"), "{}", output.stderr);
    assert_eq!(
        output.stderr.trim().lines().count(),
        1,
        "one line: {}",
        output.stderr
    );
    let said = refused(&none, &[&at("ubuntu", &fleet.web), "true"]);
    assert!(said.contains("aws"), "{said}");
}

#[test]
fn a_revoked_caller_is_refused_at_once_and_let_in_again_after_undo() {
    let fleet = SmallFleet::start().unwrap();
    let target = at("ubuntu", &fleet.web);
    fleet
        .alice
        .run("ssh", [target.as_str(), "true"])
        .unwrap()
        .success()
        .unwrap();
    let config = fleet.ca.config().display().to_string();
    let arn = "arn:aws:iam::123456789012:user/alice";
    let revoke = |more: &[&str]| {
        let args = ["revoke", "caller", "--config", &config, arn]
            .into_iter()
            .chain(more.iter().copied());
        fleet.ca.command(args).run().unwrap().success().unwrap();
    };
    revoke(&["--reason", "laptop lost"]);
    // The running service takes notice within a second; the certificate that was issued lives for minutes.
    let called = std::time::Instant::now();
    let said = eic_lab::deadline::wait_for("the revocation to count", SOON, || {
        let output = fleet.alice.run("eic-login", Vec::<String>::new()).ok()?;
        (!output.status.success()).then_some(output.stderr)
    })
    .unwrap();
    println!(
        "refused {:.1} s after the call",
        called.elapsed().as_secs_f64()
    );
    assert!(said.contains("revoked"), "{said}");
    revoke(&["--undo"]);
    eic_lab::deadline::wait_for("the undo to count", SOON, || {
        fleet
            .alice
            .run("eic-login", Vec::<String>::new())
            .ok()?
            .status
            .success()
            .then_some(())
    })
    .unwrap();
}

#[test]
fn no_key_is_pushed_while_the_ca_says_no_or_to_a_host_once_seen_enrolled() {
    // H-18
    let mut fleet = SmallFleet::start().unwrap();
    let (web, legacy) = (at("ubuntu", &fleet.web), at("ubuntu", &fleet.legacy));
    fleet
        .alice
        .run("ssh", [web.as_str(), "true"])
        .unwrap()
        .success()
        .unwrap();
    fleet
        .alice
        .run("eic-login", ["logout"])
        .unwrap()
        .success()
        .unwrap();
    fleet.ca.stop().unwrap();
    let said = refused(&fleet.alice, &[&web, "true"]);
    assert!(!fleet.web.log().contains("Providing ssh key"), "{said}");
    // A host that is not remembered as enrolled: a CA that is not there leads to the push, and it is said.
    let output = fleet
        .alice
        .run("ssh", [legacy.as_str(), "whoami"])
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(output.stdout.trim(), "ubuntu");
    assert!(
        output.stderr.contains("Instance Connect"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_hostile_host_behind_agent_forwarding_gets_nothing_of_ours() {
    // H-20: the forwarded agent is the user's own; eic identities are not in it.
    let fleet = SmallFleet::start_with(Lab::new().unwrap(), |ca| {
        ca.file("policy.json", &forwarding_policy())
    })
    .unwrap();
    let own = fleet.alice.make_key("own").unwrap();
    let profile = "\n[[host]]\nmatch = \"*\"\nextensions = [\"permit-pty\", \"permit-port-forwarding\", \"permit-agent-forwarding\"]\n";
    let config = fleet.alice.home().join(".config/eic/config.toml");
    let text = std::fs::read_to_string(&config).unwrap() + profile;
    std::fs::write(&config, text).unwrap();
    let web = at("ubuntu", &fleet.web);
    let script = format!(
        "eval $(ssh-agent) >/dev/null; trap 'kill $SSH_AGENT_PID' EXIT; ssh-add -q ~/.ssh/own; \
         ssh -A {web} 'ssh-add -L'"
    );
    let output = fleet.alice.run("bash", ["-c", &script]).unwrap();
    let forwarded = output.success().unwrap().stdout;
    assert_eq!(
        forwarded.trim(),
        own.trim(),
        "the user's own agent answers, and nothing of ours"
    );
}

/// The default policy, with agent forwarding granted literally.
fn forwarding_policy() -> String {
    serde_json::json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:user/alice"},
        "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*",
        "Condition": {
            "StringEquals": {"ec2:osuser": "ubuntu"},
            "ForAllValues:StringEquals": {"eic:Extensions": ["permit-pty", "permit-port-forwarding", "permit-agent-forwarding"]},
        },
    }]})
    .to_string()
}

#[test]
fn another_host_at_the_same_address_is_refused() {
    // H-21, H-10: a valid host certificate, but of another instance.
    let fleet = SmallFleet::start().unwrap();
    let other = small_fleet::enrolled_host(&fleet.lab, &fleet.ca, "web-2").unwrap();
    for file in ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"] {
        let name = format!("/etc/ssh/{file}");
        std::fs::copy(other.file(&name), fleet.web.file(&name)).unwrap();
    }
    let certificates = other
        .exec(
            "sh",
            [
                "-c",
                "grep -rh HostCertificate /etc/ssh/sshd_config.d | awk '{print $2}'",
            ],
        )
        .unwrap();
    let certificate = certificates.stdout.trim().to_owned();
    std::fs::copy(other.file(&certificate), fleet.web.file(&certificate)).unwrap();
    let mut fleet = fleet;
    fleet.web.reload_sshd().unwrap();
    let said = refused(&fleet.alice, &[&at("ubuntu", &fleet.web), "true"]);
    assert!(said.contains("host"), "{said}");
}
