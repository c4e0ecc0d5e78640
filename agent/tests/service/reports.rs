//! What a host tells its CA, and that only its own key can tell it.

use std::sync::{Arc, Mutex};

use eic_protocol::api::host_report::{
    AcceptedLogin, Credential, HostReportResponse, SignedHostReport, WayIn,
};
use eic_protocol::proof::Audience;
use eic_protocol::request_id::RequestId;

use crate::documents::{CA_KEY, public};
use crate::sandbox::{now, wait_until};
use crate::standin::Reply;
use crate::station::Station;

fn reporting() -> Option<(Station, Arc<Mutex<Vec<SignedHostReport>>>)> {
    let station = Station::new("")?;
    station.configure(|toml| toml.replace("report = false", "report = true"));
    station.ca.serve(station.authority.response());
    let reports = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&reports);
    let audience: Audience = station.ca.url().parse().unwrap();
    station.ca.otherwise(move |asked| {
        assert_eq!(asked.line, "POST /v1/hosts/report");
        let report = SignedHostReport::parse(&asked.body).unwrap();
        report.check_signature(&audience).unwrap();
        seen.lock().unwrap().push(report);
        Reply::json(&HostReportResponse {
            server_time: now(),
            report_again_after: 300,
            request_id: RequestId::from_random([1; 16]),
        })
    });
    Some((station, reports))
}

#[test]
fn a_ca_that_does_not_take_reports_is_told_and_loses_nothing() {
    let Some((station, reports)) = reporting() else {
        return;
    };
    let honest = Arc::clone(&reports);
    station
        .ca
        .otherwise(|_| Reply::status(503, "{\"title\":\"busy\"}"));
    station.host.write("var-lib/auth.log", line(7));
    let service = station.service();
    station.wait_for_problem("report", "503: busy");
    drop(service);
    assert!(honest.lock().unwrap().is_empty());
    // The cursor was not moved: the next run tells it.
    let (station, reports) = (station, honest);
    let seen = Arc::clone(&reports);
    station.ca.otherwise(move |asked| {
        seen.lock()
            .unwrap()
            .push(SignedHostReport::parse(&asked.body).unwrap());
        Reply::json(&HostReportResponse {
            server_time: now(),
            report_again_after: 300,
            request_id: RequestId::from_random([1; 16]),
        })
    });
    let _service = station.service();
    wait_until("the login", || {
        reports
            .lock()
            .unwrap()
            .iter()
            .any(|report| !report.report.logins.is_empty())
    });
}

fn line(serial: u64) -> String {
    format!(
        "Nov 22 05:00:00 host sshd[4194000]: Accepted publickey for alice from 10.0.0.7 port 50210 ssh2: ED25519-CERT {} ID eic:alice:x (serial {serial}) CA ED25519 {}\n",
        public(40).fingerprint(),
        public(CA_KEY).fingerprint()
    )
}

#[test]
fn a_report_holds_versions_documents_ways_in_and_each_login_once() {
    let Some((station, reports)) = reporting() else {
        return;
    };
    station.host.write("var-lib/auth.log", line(7));
    let _service = station.service();
    wait_until("a report", || !reports.lock().unwrap().is_empty());
    let first = reports.lock().unwrap()[0].report.clone();
    assert_eq!(first.instance.as_str(), "i-0123456789abcdef0");
    assert!(first.versions.sshd.as_str().starts_with("OpenSSH "));
    assert_eq!(first.trust.root_version, 5);
    assert!(first.ways_in.contains(&WayIn::Certificates));
    assert!(first.ways_in.contains(&WayIn::InstanceConnect));
    assert!(first.ssh_ports.contains(&22));
    let Credential::Certificate { serial, ca, .. } = &first.logins[0].by else {
        panic!("{first:?}")
    };
    assert_eq!(
        (serial.0, ca.to_string()),
        (7, public(CA_KEY).fingerprint())
    );
    use std::io::Write as _;
    let log = std::fs::OpenOptions::new()
        .append(true)
        .open(station.host.path("var-lib/auth.log"));
    let end = "Nov 22 05:00:01 host sshd[4194000]: pam_unix(sshd:session): session closed for user alice\n";
    let lines = line(8) + end;
    log.unwrap().write_all(lines.as_bytes()).unwrap();
    // Begun and over before the log was read.
    let has_ended = |login: &AcceptedLogin| match &login.by {
        Credential::Certificate { serial, .. } => serial.0 == 8 && login.ended.is_some(),
        _ => false,
    };
    wait_until("the next login's end", || {
        let reports = reports.lock().unwrap();
        let mut logins = reports.iter().flat_map(|report| &report.report.logins);
        logins.any(has_ended)
    });
    let reports = reports.lock().unwrap();
    let serials: Vec<u64> = reports
        .iter()
        .flat_map(|report| &report.report.logins)
        .filter(|login| login.ended.is_none())
        .filter_map(|login| match &login.by {
            Credential::Certificate { serial, .. } => Some(serial.0),
            _ => None,
        })
        .collect();
    assert_eq!(serials, [7, 8]);
}

#[test]
fn a_report_holds_what_a_match_block_opens_and_where_sshd_listens() {
    let Some((station, reports)) = reporting() else {
        return;
    };
    let host = &station.host;
    host.write(
        "etc/passwd",
        host.read("etc/passwd") + "carol:x:2001:2001::/home/carol:/bin/sh\n",
    );
    let config = "ListenAddress 127.0.0.1:2222\nListenAddress [::1]:2200\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n";
    let own = host.read("etc/ssh/sshd_config");
    let block = "\nMatch User carol\n  PasswordAuthentication yes\n";
    host.write("etc/ssh/sshd_config", format!("{config}{own}{block}"));
    let _service = station.service();
    wait_until("a report", || !reports.lock().unwrap().is_empty());
    let first = reports.lock().unwrap()[0].report.clone();
    assert_eq!(first.ssh_ports, [2200, 2222].into());
    assert!(
        first.ways_in.contains(&WayIn::Password),
        "{:?}",
        first.ways_in
    );
}

#[test]
fn a_password_that_must_come_beside_a_key_is_no_way_in() {
    let Some((station, reports)) = reporting() else {
        return;
    };
    let host = &station.host;
    let config = "AuthenticationMethods publickey,password\nPasswordAuthentication yes\n";
    let own = host.read("etc/ssh/sshd_config");
    host.write("etc/ssh/sshd_config", format!("{config}{own}"));
    let _service = station.service();
    wait_until("a report", || !reports.lock().unwrap().is_empty());
    let first = reports.lock().unwrap()[0].report.clone();
    assert!(first.ways_in.contains(&WayIn::Certificates));
    let others = [WayIn::Password, WayIn::KeyboardInteractive];
    assert!(!others.iter().any(|way| first.ways_in.contains(way)));
}
