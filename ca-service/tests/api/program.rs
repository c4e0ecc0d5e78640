//! The program as an operator runs it: its one line, its logs, its end.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use eic_ca::clock::Clock;
use eic_protocol::api::session::SessionResponse;
use serde_json::json;

use crate::client::{Client, SignIn, fresh_nonce};
use crate::sts::{self, ALICE, Identity};
use crate::world::{WEB, World, read};

/// A running `eic-ca serve`; killed when a test fails before it ends by itself.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: std::net::SocketAddr,
}

impl Program {
    pub(crate) fn start(world: &World, config: &str) -> Self {
        world.write("eic-ca.toml", config);
        let mut child = Command::new(env!("CARGO_BIN_EXE_eic-ca"))
            .args(["serve", "--log", "trace", "--config"])
            .arg(world.path("eic-ca.toml"))
            .env("RUST_LOG", "trace")
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "canary-secret-of-the-service")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .rsplit('/')
            .next()
            .and_then(|address| address.parse().ok());
        Self {
            address: address.unwrap_or_else(|| panic!("{line:?}: {}", said(&mut child))),
            child,
        }
    }

    /// Asks it to end and returns what it logged.
    pub(crate) fn end(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut log = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        assert!(self.child.wait().unwrap().success(), "{log}");
        log
    }
}

/// Why it did not start.
fn said(child: &mut Child) -> String {
    let mut log = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    log
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn real_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A world whose own service has ended, so that the program can have its store.
async fn vacant() -> (World, String) {
    let world = World::new().await;
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    world
        .sts
        .answer_with(|request| sts::judge(request, real_now()));
    (world.stopped().await, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_reaches_the_log_or_the_audit_at_any_level() {
    // G-11
    let (mut world, config) = vacant().await;
    let program = Program::start(&world, &config);
    world.address = program.address;
    world.clock = Clock::system();
    let client = Client::new(1);
    let now = real_now();
    let mut canaries = vec![ALICE.secret.to_owned(), ALICE.token.unwrap().to_owned()];

    let request = client.session_request(&SignIn {
        time: now,
        ..SignIn::of(ALICE)
    });
    let sent = serde_json::to_value(&request).unwrap();
    canaries.push(
        sent["proof"]["aws-sts"]["signature"]
            .as_str()
            .unwrap()
            .to_owned(),
    );
    canaries.push(sent["key_signature"].as_str().unwrap().to_owned());
    let session: SessionResponse = read(&world.post("/v1/sessions", None, &sent).await).unwrap();
    canaries.push(session.grant.reveal().to_owned());

    let wanted = client.certificate_request("ubuntu", WEB, &json!({}));
    let header = client.authorization(&session.grant, &wanted, now, fresh_nonce());
    canaries.push(
        header
            .rsplit('=')
            .find(|part| part.len() > 40)
            .unwrap()
            .to_owned(),
    );
    assert_eq!(
        crate::client::issue(&world, Some(header), &wanted)
            .await
            .status,
        200
    );

    // The paths on which things go wrong.
    let wrong = Identity {
        secret: "wrong",
        ..ALICE
    };
    let refused = client.session_request(&SignIn {
        time: now,
        ..SignIn::of(wrong)
    });
    let refused = serde_json::to_value(&refused).unwrap();
    canaries.push(
        refused["proof"]["aws-sts"]["signature"]
            .as_str()
            .unwrap()
            .to_owned(),
    );
    assert_eq!(world.post("/v1/sessions", None, &refused).await.status, 401);
    let mut malformed = sent.clone();
    malformed["proof"]["aws-sts"]["session_token"] = json!("canary token with blanks");
    canaries.push("canary token with blanks".to_owned());
    assert_eq!(
        world.post("/v1/sessions", None, &malformed).await.status,
        400
    );
    let _ = world
        .post(
            "/v1/certificates/user",
            Some("Bearer canary-bearer".to_owned()),
            &json!({}),
        )
        .await;
    canaries.push("canary-bearer".to_owned());

    let log = program.end();
    let audit = world.audit();
    assert!(audit.contains("IssueUserCertificate"));
    for canary in canaries {
        assert!(!log.contains(&canary), "{canary} is in the log:\n{log}");
        assert!(
            !audit.contains(&canary),
            "{canary} is in the audit:\n{audit}"
        );
    }
    for line in log.lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok(),
            "not one JSON object: {line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_runs_without_a_restart_and_a_broken_one_does_not() {
    // C-01, C-17
    let (mut world, config) = vacant().await;
    let program = Program::start(&world, &config);
    world.address = program.address;
    world.clock = Clock::system();
    let client = Client::new(1);
    let request = client.session_request(&SignIn {
        time: real_now(),
        ..SignIn::of(ALICE)
    });
    let session: SessionResponse =
        read(&crate::client::open_session(&world, &request).await).unwrap();
    let wanted = client.certificate_request("ubuntu", WEB, &json!({}));
    let policy = std::fs::read_to_string(world.path("policy.json")).unwrap();

    let allowed = async |expected: bool| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while client
            .certificate(&world, &session.grant, &wanted)
            .await
            .is_ok()
            != expected
        {
            assert!(Instant::now() < deadline, "expected {expected}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    allowed(true).await;
    world.write("policy.json", &policy.replace("role/Dev", "role/Ops"));
    allowed(false).await;
    world.write("policy.json", &policy);
    allowed(true).await;
    // Each mistake is told once, and so is its end, though the files are tried every second.
    let reloads = async |count: usize| {
        let seen = |world: &World| world.audit().matches("\"ReloadPolicy\"").count();
        world.until(|world| seen(world) == count).await;
    };
    world.write("policy.json", &policy.replace("Effect", "Efect"));
    reloads(3).await;
    world.write("policy.json", &policy.replace("Effect", "Effekt"));
    reloads(4).await;
    allowed(true).await;
    world.write("policy.json", &policy);
    reloads(5).await;
    let log = program.end();
    let told = |text: &str| log.matches(text).count();
    assert_eq!(told("ALARM: the policy cannot be loaded"), 2, "{log}");
    assert_eq!(told("the policy can be loaded again"), 1, "{log}");
    assert_eq!(world.audit().matches("PolicyRefused").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_the_same_store_does_not_start() {
    let (world, config) = vacant().await;
    let program = Program::start(&world, &config);
    let second = Command::new(env!("CARGO_BIN_EXE_eic-ca"))
        .args(["serve", "--config"])
        .arg(world.path("eic-ca.toml"))
        .output()
        .unwrap();
    assert!(!second.status.success());
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.starts_with("eic-ca: failed to lock"), "{told}");
    program.end();
}

#[test]
fn a_configuration_with_mistakes_is_told_and_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("eic-ca.toml");
    std::fs::write(&file, "[server]\nlisen = \"127.0.0.1:0\"\n").unwrap();
    for verb in [["config", "check"], ["serve", "--config"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_eic-ca"))
            .args(verb)
            .arg(&file)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success()
                && told.contains(":2: `server.lisen`: is not a key here; did you mean `listen`?"),
            "{told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn why_sts_did_not_confirm_a_proof_is_in_the_log() {
    let (mut world, config) = vacant().await;
    let program = Program::start(&world, &config);
    world.address = program.address;
    world.clock = Clock::system();
    world
        .sts
        .answer_with(|_| sts::refusal(503, real_now(), "ServiceUnavailable"));
    let request = Client::new(1).session_request(&SignIn {
        time: real_now(),
        ..SignIn::of(ALICE)
    });
    let answer = crate::client::open_session(&world, &request).await;
    assert_eq!(answer.status, 503);
    let log = program.end();
    let line = log
        .lines()
        .find(|line| line.contains("AWS STS did not confirm a proof"))
        .unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains("503") && line.contains("request_id"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_on_stderr() {
    let (world, config) = vacant().await;
    world.write("eic-ca.toml", &config);
    let said = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_eic-ca"))
            .args(arguments)
            .arg("--config")
            .arg(world.path("eic-ca.toml"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?} {output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let nobody = said(&["audit", "query", "--caller", "nobody"]);
    assert!(nobody.contains("no record fits"), "{nobody}");
    assert!(!said(&["audit", "query"]).contains("no record fits"));
    let out = world.path("out");
    let state = |id: &str| {
        said(&[
            "host-state",
            "--out",
            out.to_str().unwrap(),
            "--instance",
            id,
        ])
    };
    let unknown = state("i-0000000000000dead");
    assert!(
        unknown.contains("warning: the inventory has no host `i-0000000000000dead`"),
        "{unknown}"
    );
    assert!(!state(WEB).contains("warning"));
}
