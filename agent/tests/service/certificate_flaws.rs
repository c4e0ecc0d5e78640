//! A host certificate that clients do not take any more is replaced at once, and the CA is not asked without end.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eic_protocol::api::host_certificate::HostCertificateRequest;
use eic_protocol::krl::{RevocationSet, Target};
use eic_protocol::serial::Serial;
use eic_protocol::subject_key::SubjectKey;

use crate::authority::{ca_key, list};
use crate::certificates::{Made, issued, with_token};
use crate::documents::{HOST_CA_KEY, ROOT_KEY};
use crate::sandbox::{now, ok, wait_until};
use crate::station::Station;

/// Another host CA.
const NEXT_HOST_CA_KEY: u8 = 14;

/// The CA answers with certificates of this serial by this key; when it was asked.
fn issuing(station: &Station, ca: u8, serial: u64) -> Arc<Mutex<Vec<Instant>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&asked);
    station.ca.otherwise(move |asked| {
        times.lock().unwrap().push(Instant::now());
        let request = HostCertificateRequest::parse(&asked.body).unwrap();
        let public = &request.host_keys[0].public_key;
        let right = Made::right(public);
        issued(
            Made {
                ca,
                serial,
                ..right
            }
            .line(),
        )
    });
    asked
}

/// A host whose certificate is good for hours, and its key.
fn certified() -> Option<(Station, SubjectKey)> {
    let station = with_token()?;
    let own = station.host_key("ed25519");
    station.put_certificate(&Made::right(&own).line());
    Some((station, own))
}

/// Has the bundle's list name a serial of the host CA's.
fn revoke(station: &mut Station, serial: u64) {
    let mut revoked = RevocationSet::new();
    let serial = Serial::new(serial).unwrap();
    revoked.insert(
        Target::serial(ca_key(HOST_CA_KEY), serial),
        Some(now() + 3600),
    );
    station.authority.next();
    station.authority.bundle.revocations = list(&revoked, station.authority.bundle.sequence);
    station.ca.serve(station.authority.response());
}

fn wait_for_serial(station: &Station, serial: u64) {
    wait_until(&format!("certificate {serial}: {}", station.said()), || {
        let found = station.in_place();
        found.is_some_and(|certificate| certificate.serial() == serial)
    });
}

#[test]
fn a_revoked_host_certificate_is_replaced_within_seconds() {
    let Some((mut station, _)) = certified() else {
        return;
    };
    let asked = issuing(&station, HOST_CA_KEY, 78);
    let _service = station.service();
    station.wait_for_sequence(10);
    assert!(asked.lock().unwrap().is_empty(), "nothing was amiss");
    let began = Instant::now();
    revoke(&mut station, 77);
    wait_for_serial(&station, 78);
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(asked.lock().unwrap().len(), 1);
    assert!(station.said().contains("the host certificate is revoked"));
}

#[test]
fn a_ca_that_gives_revoked_certificates_is_not_asked_without_end() {
    let Some((mut station, _)) = certified() else {
        return;
    };
    revoke(&mut station, 77);
    let asked = issuing(&station, HOST_CA_KEY, 77);
    let _service = station.service();
    station.wait_for_problem("host certificate", "it is revoked");
    wait_until("four requests", || asked.lock().unwrap().len() >= 4);
    let asked = asked.lock().unwrap();
    // At least half of one, two and four seconds.
    assert!(asked[3] - asked[0] >= Duration::from_millis(3500));
}

#[test]
fn a_certificate_of_a_ca_that_the_root_no_longer_names_is_replaced() {
    let Some((mut station, _)) = certified() else {
        return;
    };
    issuing(&station, NEXT_HOST_CA_KEY, 78);
    let _service = station.service();
    station.wait_for_sequence(10);
    station.authority.succeed(&[ROOT_KEY], |root| {
        root.host_cas = vec![ca_key(NEXT_HOST_CA_KEY)];
    });
    station.authority.bundle.root_version = station.authority.root.version;
    station.authority.next();
    station.ca.serve(station.authority.response());
    wait_for_serial(&station, 78);
}

#[test]
fn another_instances_certificate_on_a_copied_disk_is_replaced() {
    let Some((station, own)) = certified() else {
        return;
    };
    let copied = Made {
        name: "i-0fedcba9876543210",
        ..Made::right(&own)
    };
    station.put_certificate(&copied.line());
    issuing(&station, HOST_CA_KEY, 78);
    let _service = station.service();
    wait_for_serial(&station, 78);
}

#[test]
fn a_certificate_of_a_key_that_was_replaced_under_the_service_is_replaced() {
    let Some((station, own)) = certified() else {
        return;
    };
    let asked = issuing(&station, HOST_CA_KEY, 78);
    let _service = station.service();
    station.wait_for_sequence(10);
    assert!(asked.lock().unwrap().is_empty(), "nothing was amiss");
    for name in ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"] {
        std::fs::remove_file(station.host.path("etc/ssh").join(name)).unwrap();
    }
    ok(&station
        .host
        .command("ssh-keygen")
        .arg("-A")
        .output()
        .unwrap());
    let new = station.host_key("ed25519");
    assert!(new != own);
    wait_until("a certificate of the new key", || {
        station.certified() == Some(new.clone())
    });
}
