//! What the service's account can do with the helper and certificates that it has: nothing that lasts.

use std::os::unix::fs::MetadataExt as _;

use eic_agent::helper::request::{Answer, Request};
use eic_protocol::api::host_certificate::{HostCertificateRequest, HostEvidence, HostKeyProof};
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::grant::Nonce;
use eic_protocol::subject_key::SubjectKey;

use crate::certificates::Made;
use crate::documents::{HOST_CA_KEY, INSTANCE, public};
use crate::sandbox::now;
use crate::station::Station;

/// Shows the helper a certificate: what it did, or why not.
fn show(station: &Station, made: &Made<'_>) -> Result<String, String> {
    let request = Request::InstallHostCertificate {
        certificate: made.line(),
    };
    match station.helper().ask(&request) {
        Ok(Answer::Done { said, .. }) => Ok(said),
        Ok(other) => panic!("{other:?}"),
        Err(e) => Err(e.to_string()),
    }
}

fn scene() -> Option<(Station, SubjectKey)> {
    let station = Station::new("")?;
    let own = station.host_key("ed25519");
    Some((station, own))
}

#[test]
fn the_same_certificate_again_has_sshd_do_nothing() {
    let Some((station, own)) = scene() else {
        return;
    };
    let about = || std::fs::metadata(station.host.path("var-lib/eic/host-cert.pub")).unwrap();
    let made = Made::right(&own);
    assert!(show(&station, &made).is_ok());
    station.age_certificate();
    let before = (about().ino(), about().mtime());
    assert!(show(&station, &made).unwrap().contains("in place already"));
    assert_eq!((about().ino(), about().mtime()), before);
}

#[test]
fn an_older_certificate_is_refused_while_the_one_in_place_counts() {
    let Some((mut station, own)) = scene() else {
        return;
    };
    let older = Made {
        begins: now() - 600,
        serial: 76,
        ..Made::right(&own)
    };
    station.put_certificate(&Made::right(&own).line());
    let refused = show(&station, &older).unwrap_err();
    assert!(refused.contains("newer and still counts"), "{refused}");
    assert_eq!(station.in_place().unwrap().serial(), 77);
    // One that has ended does not stand in the way, nor does a revoked one: then none of its CA is taken.
    let ended = Made {
        ends: now() - 1,
        ..Made::right(&own)
    };
    station.put_certificate(&ended.line());
    assert!(show(&station, &older).is_ok());
    station.age_certificate();
    station.authority.revoke_ca(HOST_CA_KEY);
    station.install();
    let refused = show(&station, &Made::right(&own)).unwrap_err();
    assert!(refused.contains("it is revoked"), "{refused}");
}

#[test]
fn one_certificate_after_the_other_is_refused_for_some_seconds() {
    let Some((station, own)) = scene() else {
        return;
    };
    assert!(show(&station, &Made::right(&own)).is_ok());
    let next = Made {
        begins: now() - 20,
        serial: 78,
        ..Made::right(&own)
    };
    let refused = show(&station, &next).unwrap_err();
    assert!(refused.contains("less than 10 seconds ago"), "{refused}");
    station.age_certificate();
    assert!(show(&station, &next).is_ok());
    assert_eq!(station.in_place().unwrap().serial(), 78);
}

#[test]
fn a_previous_key_that_is_no_other_key_of_this_host_is_not_signed_by() {
    let Some((station, own)) = scene() else {
        return;
    };
    let unsigned = |public_key: &SubjectKey| HostKeyProof {
        public_key: public_key.clone(),
        signature: Base64Bytes(Vec::new()),
    };
    let ask = |previous: &SubjectKey| {
        let request = HostCertificateRequest {
            protocol: 1,
            instance: INSTANCE.parse().unwrap(),
            time: now(),
            nonce: Nonce::from_random([1; 16]),
            host_keys: vec![unsigned(&own)],
            previous_key: Some(unsigned(previous)),
            challenge: None,
            evidence: HostEvidence::EnrolledKey {},
        };
        let request = Request::SignHostRequest(Box::new(request));
        station.helper().ask(&request)
    };
    for wrong in [&public(30), &own] {
        let refused = ask(wrong).unwrap_err().to_string();
        assert!(refused.contains("other keys"), "{refused}");
    }
    let answer = ask(&station.host_key("rsa")).unwrap();
    assert!(matches!(answer, Answer::Signatures(signatures) if signatures.len() == 2));
}
