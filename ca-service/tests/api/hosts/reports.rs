//! Reports that must not count, logins that nothing explains, and what operators see.

use eic_aws::http_client::Answer;
use eic_protocol::api::host_report::{
    AcceptedLogin, Credential, Health, HostReport, HostReportResponse, HostVersions,
    ReportedSerial, SignedHostReport, TrustReport, WayIn,
};
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::key_fingerprint::KeyFingerprint;
use eic_protocol::proof::CanonicalRequest;

use super::aws::{HOST, HostWorld, OTHER, document};
use super::requests::{Ask, audience};
use crate::client::{Client, fresh_nonce};
use crate::program::real_now;
use crate::sts::{ALICE, OTHER_INSTANCE};
use crate::trust_commands::{current, name_spare, until};
use crate::world::{WEB, code, read};

pub(super) fn report(instance: &str, logins: Vec<AcceptedLogin>) -> HostReport {
    HostReport {
        protocol: 1,
        instance: instance.parse().unwrap(),
        time: real_now(),
        nonce: fresh_nonce(),
        versions: HostVersions {
            agent: "eic-agent 0.1.0".parse().unwrap(),
            sshd: "OpenSSH_9.2p1".parse().unwrap(),
            os: None,
        },
        trust: TrustReport {
            root_version: 1,
            bundle_sequence: Some(7),
            krl_number: None,
            view_version: Some(1),
            host_certificate_ends: None,
            health: Health::Degraded,
            reasons: vec!["the bundle is old".parse().unwrap()],
        },
        clock_offset_ms: Some(-250),
        ssh_ports: [22].into(),
        ways_in: [WayIn::Certificates, WayIn::UserKeyFiles].into(),
        logins,
        lost_logins: 0,
    }
}

fn login(user: &str, serial: u64, ca: KeyFingerprint) -> AcceptedLogin {
    AcceptedLogin {
        user: user.parse().unwrap(),
        by: Credential::Certificate {
            serial: ReportedSerial(serial),
            key_id: "eic:x".parse().unwrap(),
            ca,
        },
        source: Some("192.0.2.9".parse().unwrap()),
        source_port: Some(50_000),
        audit_session: Some(3),
        started: real_now() - 10,
        ended: None,
    }
}

pub(super) fn sign(key: &Client, report: HostReport) -> SignedHostReport {
    let canonical = CanonicalRequest::of(&audience(), &report);
    SignedHostReport {
        host_key: key.public.clone(),
        signature: Base64Bytes(key.sign(canonical.as_slice())),
        report,
    }
}

pub(super) async fn post(world: &HostWorld, signed: &SignedHostReport) -> Answer {
    let body = serde_json::to_value(signed).unwrap();
    world.world.post("/v1/hosts/report", None, &body).await
}

fn user_ca(world: &HostWorld) -> KeyFingerprint {
    let text = std::fs::read_to_string(world.world.path("keys/user-ca.pub")).unwrap();
    let key: eic_protocol::subject_key::SubjectKey = text.trim().parse().unwrap();
    KeyFingerprint::of_blob(key.blob())
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_strangers_other_hosts_and_blocked_hosts_are_refused() {
    let world = HostWorld::new("evidence").await;
    let (host, stranger) = (Client::new(1), Client::new(2));
    let refused = async |signed: SignedHostReport| code(&post(&world, &signed).await);
    assert_eq!(
        refused(sign(&host, report(HOST, vec![]))).await,
        ProblemCode::HostNotEnrolled
    );
    world.certified(&world.with_document(&Ask::of(&host))).await;
    assert_eq!(
        refused(sign(&stranger, report(HOST, vec![]))).await,
        ProblemCode::HostNotEnrolled
    );
    assert_eq!(
        refused(sign(&host, report(OTHER, vec![]))).await,
        ProblemCode::HostNotEnrolled
    );
    let mut changed = sign(&host, report(HOST, vec![]));
    changed.report.lost_logins = 5;
    assert_eq!(refused(changed).await, ProblemCode::HostNotEnrolled);
    let mut old = report(HOST, vec![]);
    old.time -= 3_700;
    assert_eq!(refused(sign(&host, old)).await, ProblemCode::EvidenceStale);
    let good = sign(&host, report(HOST, vec![]));
    let answer: HostReportResponse = read(&post(&world, &good).await).unwrap();
    assert!(answer.report_again_after > 0);
    assert_eq!(refused(good).await, ProblemCode::RequestReplayed);
    world.hosts(&["block", HOST]).unwrap();
    assert_eq!(
        refused(sign(&host, report(HOST, vec![]))).await,
        ProblemCode::HostNotEnrolled
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_reports_without_end_is_held_to_its_pace() {
    // One host that was taken must not fill the CA's disk.
    let world = HostWorld::new("evidence").await;
    let (host, other) = (Client::new(1), Client::new(2));
    world.certified(&world.with_document(&Ask::of(&host))).await;
    for _ in 0..5 {
        let signed = sign(&host, report(HOST, vec![]));
        let _: HostReportResponse = read(&post(&world, &signed).await).unwrap();
    }
    let sixth = post(&world, &sign(&host, report(HOST, vec![]))).await;
    assert_eq!(code(&sixth), ProblemCode::TooManyRequests);
    let elsewhere = Ask {
        instance: OTHER,
        document: document(OTHER, "2026-02-16T00:38:27Z"),
        identity: OTHER_INSTANCE,
        ..Ask::of(&other)
    };
    world.certified(&world.with_document(&elsewhere)).await;
    let signed = sign(&other, report(OTHER, vec![]));
    let _: HostReportResponse = read(&post(&world, &signed).await).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_the_roles_credentials_cannot_spend_the_hosts_own_rate() {
    // E-08: a container that reads the metadata service.
    let world = HostWorld::new("evidence").await;
    let (host, thief) = (Client::new(1), Client::new(2));
    world.certified(&world.with_document(&Ask::of(&host))).await;
    let mut flooded = false;
    for _ in 0..200 {
        let request = world.with_web_identity(&Ask::of(&thief), |_| {});
        let answer = world.post_certificate(&request).await;
        flooded = answer.status != 200 && code(&answer) == ProblemCode::TooManyRequests;
        if flooded {
            break;
        }
    }
    assert!(flooded, "strangers have a rate");
    world.certified(&world.with_document(&Ask::of(&host))).await;
    let next = Client::new(3);
    let vouched = Ask {
        previous: Some(&host),
        ..Ask::of(&next)
    };
    world.certified(&world.with_document(&vouched)).await;
    let signed = sign(&next, report(HOST, vec![]));
    let _: HostReportResponse = read(&post(&world, &signed).await).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serial_that_was_never_issued_is_an_alarm() {
    let mut world = HostWorld::new("evidence").await;
    let host = Client::new(1);
    world.certified(&world.with_document(&Ask::of(&host))).await;
    let alice = Client::new(7);
    let grant = alice.sign_in(&world.world, ALICE).await.grant;
    let wanted = alice.certificate_request("ubuntu", WEB, &serde_json::json!({}));
    let issued = alice
        .certificate(&world.world, &grant, &wanted)
        .await
        .unwrap();
    let ca = user_ca(&world);
    let elsewhere = issued.serial.value();
    let logins = vec![
        login("root", 4_711, ca),
        login("root", u64::MAX, ca),
        login("ubuntu", elsewhere, ca),
        login("root", elsewhere, KeyFingerprint::from_hash([9; 32])),
    ];
    let signed = sign(&host, report(HOST, logins));
    let _: HostReportResponse = read(&post(&world, &signed).await).unwrap();
    let audit = world.world.audit();
    assert!(
        audit.contains("UnexplainedLogin") && audit.contains("4 logins"),
        "{audit}"
    );
    for flaw in [
        "never issued the serial",
        "another user or host",
        "another CA key",
    ] {
        assert!(audit.contains(flaw), "{flaw}");
    }
    assert!(world.end().contains("ALARM: a host accepted certificates"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_reports_is_shown_to_operators() {
    let world = HostWorld::new("evidence").await;
    let host = Client::new(1);
    world.certified(&world.with_document(&Ask::of(&host))).await;
    let key = AcceptedLogin {
        by: Credential::Key {
            fingerprint: user_ca(&world),
        },
        ..login("ubuntu", 1, user_ca(&world))
    };
    let signed = sign(&host, report(HOST, vec![key]));
    let _: HostReportResponse = read(&post(&world, &signed).await).unwrap();
    let shown = world.hosts(&["show", HOST]).unwrap();
    for part in [
        "OpenSSH_9.2p1",
        "degraded",
        "the bundle is old",
        "user-key-files",
        "report.sshPorts: 22",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(world.hosts(&["list"]).unwrap().contains("degraded"));
    let json = world.hosts(&["list", "--json"]).unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["report"]["trust"]["bundle_sequence"], 7);
    let audit = world.world.audit();
    assert!(audit.contains("ReportHostLogins") && !audit.contains("UnexplainedLogin"));
}

/// Two enrolled hosts.
async fn two_hosts(world: &HostWorld) -> [Client; 2] {
    let (host, other) = (Client::new(1), Client::new(2));
    world.certified(&world.with_document(&Ask::of(&host))).await;
    let ask = Ask {
        instance: OTHER,
        document: document(OTHER, "2026-02-16T00:38:27Z"),
        identity: OTHER_INSTANCE,
        ..Ask::of(&other)
    };
    world.certified(&world.with_document(&ask)).await;
    [host, other]
}

async fn reports_bundle(world: &HostWorld, host: &Client, sequence: Option<u64>, root: u64) {
    let mut report = report(HOST, Vec::new());
    report.trust.bundle_sequence = sequence;
    report.trust.root_version = root;
    let _: HostReportResponse = read(&post(world, &sign(host, report)).await).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_have_not_reported_what_is_revoked_now_are_behind() {
    let world = HostWorld::new("evidence").await;
    let [host, other] = two_hosts(&world).await;
    let behind = || world.hosts(&["list", "--behind"]).unwrap();
    let first = current(&world.world).await.revocations.number;
    // Nobody has reported yet, and who reports no bundle has none.
    let told = |there, all, bundle| {
        format!("{there} of {all} hosts report bundle ≥ {bundle} and root ≥ 1")
    };
    assert!(behind().ends_with(&told(0, 2, first)), "{}", behind());
    reports_bundle(&world, &host, None, 1).await;
    assert!(behind().ends_with(&told(0, 2, first)), "{}", behind());
    reports_bundle(&world, &host, Some(first), 1).await;
    let listed = behind();
    assert!(!listed.contains(HOST) && listed.contains(OTHER), "{listed}");
    assert!(listed.ends_with(&told(1, 2, first)), "{listed}");

    let lost = other.public.fingerprint();
    world
        .eic_ca(&["revoke", "key", &lost, "--reason", "lost"])
        .unwrap();
    let list = until(&world.world, |krl| krl.count() == 1).await;
    let listed = behind();
    assert!(listed.contains(HOST), "{listed}");
    assert!(listed.ends_with(&told(0, 2, list.sequence)), "{listed}");
    reports_bundle(&world, &host, Some(list.sequence), 1).await;
    assert!(!behind().contains(HOST));

    // A blocked host's reports are refused: it cannot say.
    world.hosts(&["block", OTHER]).unwrap();
    let list = until(&world.world, |krl| krl.cas().count() == 1).await;
    reports_bundle(&world, &host, Some(list.sequence + 7), 1).await;
    let listed = behind();
    assert!(listed.ends_with(&told(1, 1, list.sequence)), "{listed}");
    let objects = world.hosts(&["list", "--behind", "--json"]).unwrap();
    assert_eq!(objects, "", "the last line is none of the objects");
    let row = world.hosts(&["list"]).unwrap();
    let row = row.lines().find(|line| line.starts_with(HOST)).unwrap();
    let columns: Vec<&str> = row.split_whitespace().collect();
    let newest = (list.sequence + 7).to_string();
    assert_eq!(columns[5..7], ["1", &newest], "{row}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_have_not_reported_the_present_root_are_behind() {
    let world = HostWorld::new("evidence").await;
    let [host, _] = two_hosts(&world).await;
    let sequence = current(&world.world).await.revocations.number;
    reports_bundle(&world, &host, Some(sequence), 1).await;
    name_spare(&world.world, 0);
    world.eic_ca(&["keys", "announce"]).unwrap();
    let listed = world.hosts(&["list", "--behind"]).unwrap();
    let told = format!("0 of 2 hosts report bundle ≥ {sequence} and root ≥ 2");
    assert!(listed.contains(HOST) && listed.ends_with(&told), "{listed}");
    reports_bundle(&world, &host, Some(sequence), 2).await;
    let listed = world.hosts(&["list", "--behind"]).unwrap();
    assert!(!listed.contains(HOST), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_bundle_has_what_is_revoked_every_host_is_behind() {
    let mut world = HostWorld::new("evidence").await;
    let [host, _] = two_hosts(&world).await;
    reports_bundle(&world, &host, Some(1_000), 1).await;
    world.end();
    let lost = Client::new(9).public.fingerprint();
    world
        .eic_ca(&["revoke", "key", &lost, "--reason", "lost"])
        .unwrap();
    let listed = world.hosts(&["list", "--behind"]).unwrap();
    assert!(
        listed.contains(HOST) && listed.contains("is in no bundle yet"),
        "{listed}"
    );
    let www = world.world.path("www");
    world
        .eic_ca(&["bundle", "publish", "--to", www.to_str().unwrap()])
        .unwrap();
    assert!(!world.hosts(&["list", "--behind"]).unwrap().contains(HOST));
}
