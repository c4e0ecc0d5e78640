//! A host without a certificate makes its keys known to the CA, by each of its keys and its instance's evidence.

use std::process::Output;
use std::sync::{Arc, Mutex};

use eic_protocol::api::host_certificate::{HostEvidence, console};
use eic_protocol::api::host_keys::{HostKeysRequest, HostKeysResponse};
use eic_protocol::grant::Nonce;
use eic_protocol::proof::Audience;
use eic_protocol::request_id::RequestId;
use eic_protocol::subject_key::SubjectKey;

use crate::certificates::{asked_for, instance_metadata};
use crate::documents::INSTANCE;
use crate::imds::Imds;
use crate::sandbox::{now, ok, refused};
use crate::standin::{Asked, Reply};
use crate::station::Station;

/// A host with Instance Connect's metadata; `more` goes into `[service]`.
fn station(more: &str) -> Option<(Station, Imds)> {
    let station = Station::new(more)?;
    let imds = instance_metadata();
    station.with_metadata(&imds.url());
    Some((station, imds))
}

/// The request in a body, every signature checked for this route.
fn keys_of(asked: &Asked, audience: &str) -> HostKeysRequest {
    assert_eq!(asked.line, "POST /v1/hosts/keys");
    let request = HostKeysRequest::parse(&asked.body).unwrap();
    let audience: Audience = audience.parse().unwrap();
    request.check_possession(&audience).unwrap();
    // What is signed for this route is no request for a certificate.
    assert!(request.0.check_possession(&audience).is_err());
    request
}

fn known(keys: Vec<SubjectKey>) -> Reply {
    Reply::json(&HostKeysResponse::Known {
        keys,
        server_time: now(),
        request_id: RequestId::from_random([1; 16]),
    })
}

/// By the official program's name, as a link to the agent.
fn harvest(station: &Station) -> Output {
    let link = station.host.path("bin/eic_harvest_hostkeys");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink("eic-agent", &link).unwrap();
    let mut command = station.host.command("/usr/local/bin/eic_harvest_hostkeys");
    command.output().unwrap()
}

#[test]
fn without_a_ca_a_helper_evidence_or_an_instance_nothing_is_made_known() {
    let Some((mut station, _imds)) = station("") else {
        return;
    };
    let toml = station.host.read("etc/eic/agent.toml");
    let with = |from: &str, to: &str| {
        assert!(toml.contains(from), "{toml}");
        station
            .host
            .write("etc/eic/agent.toml", toml.replace(from, to));
        refused(&harvest(&station))
    };
    let ca = format!("ca = \"{}\"", station.ca.url());
    assert!(with(&ca, "").contains("[service] ca"));
    let token = format!("{ca}\nevidence = \"enrolment-token\"");
    assert!(with(&ca, &token).contains("instance-role"));
    let root = format!("{ca}\nuser = \"root\"");
    assert!(with(&ca, &root).contains("no unprivileged account"));
    station.host.write("etc/eic/agent.toml", &toml);
    // The stand-in knows no such route.
    assert!(refused(&harvest(&station)).contains("404"));
    station.host.tag("Not Specified");
    assert_eq!(harvest(&station).status.code(), Some(255));
    station.host.tag(INSTANCE);
    station.stop_helper();
    assert!(refused(&harvest(&station)).contains("eic-agent-helper.socket"));
}

#[test]
fn every_host_key_is_made_known_and_signs() {
    let Some((station, _imds)) = station("") else {
        return;
    };
    let audience = station.ca.url();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&seen);
    station.ca.otherwise(move |asked| {
        let request = keys_of(asked, &audience);
        let keys = request
            .0
            .host_keys
            .iter()
            .map(|proof| proof.public_key.clone());
        let answer = known(keys.collect());
        requests.lock().unwrap().push(request);
        answer
    });
    assert_eq!(ok(&harvest(&station)), "the CA knows 3 keys of this host\n");
    let request = seen.lock().unwrap().remove(0).0;
    assert_eq!(request.instance, INSTANCE.parse().unwrap());
    let shown: Vec<SubjectKey> = request
        .host_keys
        .into_iter()
        .map(|p| p.public_key)
        .collect();
    assert_eq!(shown, KINDS.map(|kind| station.host_key(kind)));
    assert!(matches!(
        request.evidence,
        HostEvidence::InstanceIdentity { .. }
    ));
}

#[test]
fn the_cas_challenge_is_written_to_the_console_and_an_operator_is_waited_for_by_a_later_run() {
    let Some((station, _imds)) = station("console = \"/run/console\"") else {
        return;
    };
    station.host.write("run/console", "boot\n");
    let challenge = Nonce::from_random([9; 16]);
    let audience = station.ca.url();
    let asked_before = Arc::new(Mutex::new(false));
    station.ca.otherwise(move |asked| {
        let request = keys_of(asked, &audience);
        let mut asked_before = asked_before.lock().unwrap();
        if std::mem::replace(&mut asked_before, true) {
            assert_eq!(request.0.challenge, Some(challenge));
            return Reply::json(&HostKeysResponse::AwaitingApproval {
                enrolment: RequestId::from_random([2; 16]),
                retry_after: now() + 60,
                request_id: RequestId::from_random([1; 16]),
            });
        }
        assert_eq!(request.0.challenge, None);
        Reply::json(&HostKeysResponse::WriteToConsole {
            challenge,
            expires_at: now() + 600,
            request_id: RequestId::from_random([1; 16]),
        })
    });
    let output = harvest(&station);
    assert_eq!(output.status.code(), Some(75));
    assert!(refused(&output).contains("an operator must approve"));
    let keys = KINDS.map(|kind| station.host_key(kind));
    let instance = INSTANCE.parse().unwrap();
    let console = station.host.read("run/console");
    let wanted = console::line(&instance, &challenge, &keys);
    assert!(console.lines().any(|line| line == wanted), "{console}");
}

const KINDS: [&str; 3] = ["ed25519", "ecdsa", "rsa"];

#[test]
fn a_host_with_rsa_keys_only_gets_a_certificate_for_one() {
    let Some((station, _imds)) = station("") else {
        return;
    };
    for kind in ["ed25519", "ecdsa"] {
        for end in ["", ".pub"] {
            let file = format!("etc/ssh/ssh_host_{kind}_key{end}");
            std::fs::remove_file(station.host.path(&file)).unwrap();
        }
    }
    station.with_host_certificates();
    station.ca.serve(station.authority.response());
    let audience = station.ca.url();
    station.ca.otherwise(move |asked| {
        let request = asked_for(asked, &audience);
        let public = &request.host_keys[0].public_key;
        assert_eq!(public.algorithm_name(), "ssh-rsa");
        crate::certificates::issued_for(public)
    });
    let _service = station.service();
    crate::sandbox::wait_until("a certificate", || {
        station.host.path("var-lib/eic/host-cert.pub").exists()
    });
}
