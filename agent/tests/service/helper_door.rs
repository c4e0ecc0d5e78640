//! Who may ask the helper, and what it does not do whoever asks.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use eic_agent::helper::request::{Answer, Request};
use eic_protocol::api::host_certificate::{HostCertificateRequest, HostEvidence, HostKeyProof};
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::grant::Nonce;
use eic_protocol::subject_key::SubjectKey;

use crate::documents::{INSTANCE, public};
use crate::sandbox::{Running, now};
use crate::station::Station;

/// The helper's own door.
const DOOR: &str = "/run/eic-helper.sock";

/// One line to a door of the helper's, as an account of the host's; the answer, empty where there was none.
pub(crate) fn as_account(station: &Station, account: &str, door: &str, line: &str) -> String {
    let script = format!(
        "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.settimeout(20)\ns.connect('{door}')\ntry:\n s.sendall({line:?}.encode()+b'\\n')\n sys.stdout.write(s.makefile().readline())\nexcept OSError: pass\n"
    );
    let mut command = station.host.command("setpriv");
    command.args(["--reuid", account, "--clear-groups"]);
    let output = command
        .args(["python3", "-c", &script])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn strangers_are_not_served() {
    let Some(station) = Station::new("") else {
        return;
    };
    assert_eq!(as_account(&station, "nobody", DOOR, "{\"repair\":{}}"), "");
    let told = "only root and `eic` are served";
    crate::sandbox::wait_until("the refusal", || station.said().contains(told));
    assert!(as_account(&station, "eic", DOOR, "{\"repair\":{}}").contains("\"trust\""));
}

#[test]
fn a_helper_that_is_stopped_and_goes_on_serves_what_it_was_reading() {
    let Some(station) = Station::new("") else {
        return;
    };
    let stream = UnixStream::connect(station.host.path("run/eic-helper.sock")).unwrap();
    for piece in ["{\"rep", "air\":", "{}}\n"] {
        // Most of these find it waiting for the next piece.
        for _ in 0..5 {
            station.interrupt_helper();
        }
        (&stream).write_all(piece.as_bytes()).unwrap();
    }
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).unwrap();
    let answer: Answer = serde_json::from_str(&answer).unwrap();
    assert!(matches!(answer, Answer::Trust(_)), "{answer:?}");
}

#[test]
fn verbs_that_are_not_in_the_list_are_not_understood() {
    let Some(station) = Station::new("") else {
        return;
    };
    for line in [
        "{\"run\":{\"command\":\"id\"}}",
        "{\"repair\":{\"folder\":\"/etc\"}}",
        "{\"repair\":{}} {\"repair\":{}}",
        "\"repair\"",
        "",
        "{",
    ] {
        let stream = UnixStream::connect(station.host.path("run/eic-helper.sock")).unwrap();
        (&stream).write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = BufReader::new(&stream).read_line(&mut answer);
        assert_eq!(answer, "", "{line}");
    }
}

fn request(key: SubjectKey) -> HostCertificateRequest {
    HostCertificateRequest {
        protocol: 1,
        instance: INSTANCE.parse().unwrap(),
        time: now(),
        nonce: Nonce::from_random([1; 16]),
        host_keys: vec![HostKeyProof {
            public_key: key,
            signature: Base64Bytes(Vec::new()),
        }],
        previous_key: None,
        challenge: None,
        evidence: HostEvidence::EnrolledKey {},
    }
}

#[test]
fn the_host_key_signs_for_this_host_now_and_nothing_else() {
    // D13, E-13
    let Some(station) = Station::new("") else {
        return;
    };
    let own = station.host_key("ed25519");
    let ask = |request: HostCertificateRequest| {
        station
            .helper()
            .ask(&Request::SignHostRequest(Box::new(request)))
    };
    let mut other_host = request(own.clone());
    other_host.instance = "i-0fedcba9876543210".parse().unwrap();
    let mut old = request(own.clone());
    old.time -= 1000;
    for wrong in [other_host, old, request(public(30))] {
        let refused = ask(wrong).unwrap_err().to_string();
        assert!(refused.contains("sign a request for"), "{refused}");
    }
    let mut right = request(own);
    let Ok(Answer::Signatures(signatures)) = ask(right.clone()) else {
        panic!()
    };
    right.host_keys[0].signature = signatures[0].clone();
    right
        .check_possession(&station.ca.url().parse().unwrap())
        .unwrap();
    assert!(
        right
            .check_possession(&"https://other.example".parse().unwrap())
            .is_err()
    );
}

#[test]
fn sessions_are_not_ended_where_that_is_not_configured() {
    let Some(station) = Station::new("") else {
        return;
    };
    let refused = station
        .helper()
        .ask(&Request::EndRevokedSessions {})
        .unwrap_err();
    assert!(refused.to_string().contains("end_revoked_sessions"));
}

#[test]
fn the_helper_needs_root_and_a_socket() {
    let Some(station) = Station::new("") else {
        return;
    };
    let output = station.host.agent(&["helper"]);
    assert!(crate::sandbox::refused(&output).contains("the helper's socket"));
    let mut command = station.host.command("setpriv");
    command.args(["--reuid", "eic", "--regid", "eic", "--clear-groups"]);
    let output = command
        .args(["/usr/local/bin/eic-agent", "helper"])
        .output()
        .unwrap();
    assert!(crate::sandbox::refused(&output).contains("must run as root"));
}

#[test]
fn accounts_that_lock_the_state_folder_hold_no_renewal_up() {
    let Some(station) = Station::new("") else {
        return;
    };
    let mut command = station.host.command("setpriv");
    command.args(["--reuid", "nobody", "--clear-groups", "flock", "-n"]);
    command.args(["/var/lib/eic", "sh", "-c", "echo held; exec sleep 60"]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut holder = Running(child);
    let mut said = String::new();
    let stdout = holder.0.stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut said).unwrap();
    assert_eq!(said, "held\n");
    station.install();
}
