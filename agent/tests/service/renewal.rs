//! What reaches a host by itself: bundles, roots that succeed each other, endorsed keys; and how long it does
//! without.

use std::sync::{Arc, Mutex};

use crate::authority::{Authority, BOTH_ROOT_KEYS, NEXT_BUNDLE_KEY, NEXT_ROOT_KEY};
use crate::documents::{CA_KEY, ROOT_KEY, ca, public};
use crate::sandbox::{now, ok, refused, wait_until};
use crate::standin::{Asked, Reply};
use crate::station::{ROOT_HERE, Station};

#[test]
fn a_new_bundle_is_in_place_within_a_moment_of_its_making() {
    let Some(mut station) = Station::new("") else {
        return;
    };
    station.ca.serve(station.authority.response());
    let _service = station.service();
    station.wait_for_sequence(10);
    let asked = station.ca.asked();
    let host = "host=i-0123456789abcdef0";
    assert!(
        asked[0].line.starts_with("GET /v1/trust-bundle?root=5&") && asked[0].line.contains(host)
    );
    station.authority.revoke(&[4711]);
    let made = std::time::Instant::now();
    station.ca.serve(station.authority.response());
    station.wait_for_sequence(11);
    println!("in place after {:?}", made.elapsed());
    let status = station.status();
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert!(status.last_fetch.is_some());
}

#[test]
fn a_host_that_slept_walks_the_roots_and_keeps_its_principals() {
    let Some(mut station) = Station::new("") else {
        return;
    };
    assert_eq!(station.install().refused, None);
    // 6 names a second root key, 7 drops the first, 8 replaces the bundle key and adds a CA key.
    let authority = &mut station.authority;
    authority.succeed(&BOTH_ROOT_KEYS, |root| {
        root.root_keys.push(public(NEXT_ROOT_KEY))
    });
    authority.succeed(&BOTH_ROOT_KEYS, |root| {
        root.root_keys = vec![public(NEXT_ROOT_KEY)]
    });
    authority.succeed(&[NEXT_ROOT_KEY], |root| {
        root.bundle_keys = vec![public(NEXT_BUNDLE_KEY)];
        root.user_cas.push(ca(13));
    });
    authority.bundle_key = NEXT_BUNDLE_KEY;
    authority.bundle.root_version = 8;
    authority.view.root_version = 8;
    authority.next();
    let answer = station.install();
    assert_eq!((answer.refused, answer.installed.root_version), (None, 8));
    for seed in [CA_KEY, 13] {
        assert!(ok(&station.principals("alice", seed)).contains("alice@i-0123456789abcdef0"));
    }
    let keys = station.host.read("var-lib/eic/user-ca-keys");
    assert!(keys.contains(&public(13).to_string()));
    // Everything again from the files alone.
    assert!(station.install().changed.is_empty());
}

#[test]
fn a_retired_ca_leaves_sshds_file_and_opens_nothing() {
    // F-15
    let Some(mut station) = Station::new("") else {
        return;
    };
    assert!(station.logs_in(7));
    station.authority.succeed(&[ROOT_KEY], |root| {
        root.user_cas[0].state = eic_protocol::trust::root::KeyState::Retired;
        root.user_cas.push(ca(13));
    });
    station.authority.next();
    assert_eq!(station.install().refused, None);
    assert!(
        !station
            .host
            .read("var-lib/eic/user-ca-keys")
            .contains(&public(CA_KEY).to_string())
    );
    assert!(!station.logs_in(7));
    assert!(ok(&station.principals("alice", CA_KEY)).is_empty());
    station.certificate(7, 13, ROOT_HERE);
    assert!(station.ssh("-e", "true").status().unwrap().success());
}

#[test]
fn an_endorsed_key_opens_people_within_its_hours_and_never_root_or_guarded_fleets() {
    // J-17
    let Some(mut station) = Station::new("") else {
        return;
    };
    station.authority.endorse(20, now() - 60, now() + 3600);
    station.authority.endorse(21, now() + 1800, now() + 3600);
    assert_eq!(station.install().refused, None);
    let keys = station.host.read("var-lib/eic/user-ca-keys");
    assert!(keys.contains(&public(20).to_string()));
    let names = ok(&station.principals("alice", 20));
    assert!(names.contains("alice@i-0123456789abcdef0") && names.contains("alice@fleet/eu"));
    assert!(ok(&station.principals("root", 20)).is_empty());
    assert!(ok(&station.principals("alice", 21)).is_empty());
    station.certificate(7, 20, ROOT_HERE);
    assert!(!station.ssh("-e", "true").status().unwrap().success());
    station.authority.view.fleets[0].kms_only = true;
    station.authority.next();
    assert_eq!(station.install().refused, None);
    assert!(ok(&station.principals("alice", 20)).is_empty());
    // Endorsed no more: gone from sshd's file as well.
    station.authority.bundle.endorsements.clear();
    station.authority.next();
    assert_eq!(station.install().refused, None);
    assert!(
        !station
            .host
            .read("var-lib/eic/user-ca-keys")
            .contains(&public(20).to_string())
    );
    assert!(ok(&station.principals("alice", 20)).is_empty());
}

#[test]
fn without_a_ca_logins_go_on_and_the_state_says_why_it_is_not_well() {
    // F-19
    let Some(mut station) = Station::new("") else {
        return;
    };
    station.authority.bundle.refresh_after = now() - 5;
    assert_eq!(station.install().refused, None);
    station
        .ca
        .otherwise(|_| crate::standin::Reply::Raw(Vec::new()));
    let _service = station.service();
    station.wait_for_problem("trust", "get an answer");
    station.wait_for_problem("freshness", "refresh time has passed");
    assert!(station.logs_in(7));
}

#[test]
fn after_the_hard_stop_no_certificate_counts_and_revocations_stay() {
    let Some(mut station) = Station::new("") else {
        return;
    };
    station.authority.revoke(&[7]);
    let bundle = &mut station.authority.bundle;
    bundle.refresh_after = now() + 1;
    // In force while it is installed, on a busy machine too.
    bundle.hard_stop = Some(now() + 15);
    assert_eq!(station.install().refused, None);
    wait_until("the hard stop", || {
        now() > station.authority.bundle.hard_stop.unwrap()
    });
    refused(&station.principals("alice", CA_KEY));
    assert!(!station.logs_in(8));
    assert!(
        station
            .host
            .path("var-lib/eic/revoked-keys")
            .metadata()
            .unwrap()
            .len()
            > 44
    );
}

#[test]
fn a_published_folder_serves_as_well_as_the_ca() {
    let Some(mut station) = Station::new("trust_from = \"file:/etc/published\"") else {
        return;
    };
    let publish = |station: &Station, authority: &Authority| {
        let mut response = authority.response();
        let view = response.view.take().unwrap();
        let host = "etc/published/hosts/i-0123456789abcdef0.json";
        station.host.write(host, serde_json::to_vec(&view).unwrap());
        let bundle = serde_json::to_vec(&response).unwrap();
        station
            .host
            .write("etc/published/trust-bundle.json", bundle);
    };
    publish(&station, &station.authority);
    let _service = station.service();
    station.wait_for_sequence(10);
    station.authority.revoke(&[7]);
    publish(&station, &station.authority);
    station.wait_for_sequence(11);
}

#[test]
fn status_tells_of_the_service() {
    let Some(station) = Station::new("") else {
        return;
    };
    let told = |station: &Station| -> serde_json::Value {
        let output = station.host.agent(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let before = told(&station);
    assert_eq!(
        (&before["service"]["running"], &before["healthy"]),
        (&false.into(), &false.into())
    );
    station.ca.serve(station.authority.response());
    let _service = station.service();
    station.wait_for_sequence(10);
    let after = told(&station);
    assert_eq!(after["service"]["bundle_sequence"], 10);
    assert!(
        !after["problems"].to_string().contains("the service"),
        "{}",
        after["problems"]
    );
}

#[test]
fn uninstalling_leaves_nothing_of_the_services() {
    let Some(station) = Station::new("") else {
        return;
    };
    assert_eq!(station.install().refused, None);
    ok(&station.host.agent(&["uninstall", "--no-reload"]));
    assert!(
        !station.host.path("var-lib/eic").exists(),
        "{:?}",
        station.files()
    );
}

/// Has the stand-in serve the authority's documents as files of a folder; `check` sees every request.
fn publish(
    station: &Station,
    folder: &'static str,
    check: impl Fn(&Asked) + Send + 'static,
) -> Arc<Mutex<Authority>> {
    let published = Arc::new(Mutex::new(station.authority.clone()));
    let shown = Arc::clone(&published);
    station.ca.otherwise(move |asked| {
        check(asked);
        let authority = shown.lock().unwrap();
        let mut response = authority.response();
        let view = response.view.take().unwrap();
        let file = asked.line.strip_prefix(&format!("GET {folder}"));
        let (version, body) = match file {
            Some("/trust-bundle.json") => (
                authority.bundle.sequence,
                serde_json::to_vec(&response).unwrap(),
            ),
            Some("/hosts/i-0123456789abcdef0.json") => {
                (authority.view.version, serde_json::to_vec(&view).unwrap())
            }
            _ => return Reply::status(404, "no such file"),
        };
        let tag = format!("\"{version}\"");
        let known = asked
            .head
            .to_lowercase()
            .contains(&format!("if-none-match: {tag}"));
        let headers = vec![format!("ETag: {tag}")];
        match known {
            true => Reply::Honest(304, headers, Vec::new()),
            false => Reply::Honest(200, headers, body),
        }
    });
    published
}

#[test]
fn a_private_bucket_is_read_with_the_instances_role() {
    let Some(station) = Station::new("trust_from = \"s3://trust-bucket/eic\"") else {
        return;
    };
    let imds = crate::certificates::instance_metadata();
    station.with_metadata(&imds.url());
    station.configure(|toml| format!("{toml}s3 = \"{}\"\n", station.ca.url()));
    let published = publish(&station, "/trust-bucket/eic", |asked| {
        let head = asked.head.to_lowercase();
        for part in [
            "authorization: aws4-hmac-sha256 credential=asiaexampleexample12/",
            "/eu-west-1/s3/aws4_request",
            "signedheaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
            "x-amz-security-token: canarytoken",
        ] {
            assert!(head.contains(part), "{head}");
        }
    });
    let _service = station.service();
    station.wait_for_sequence(10);
    published.lock().unwrap().revoke(&[7]);
    station.wait_for_sequence(11);
    assert!(!station.said().contains("canary"));
}

#[test]
fn a_bucket_that_does_not_answer_with_documents_is_told_with_what_to_do() {
    let Some(station) = Station::new("trust_from = \"s3://trust-bucket/eic\"") else {
        return;
    };
    let imds = crate::certificates::instance_metadata();
    station.with_metadata(&imds.url());
    station.configure(|toml| format!("{toml}s3 = \"{}\"\n", station.ca.url()));
    station.ca.serve_nothing();
    for (status, told) in [
        (
            403,
            "S3 answered 403; let the instance's role read it (s3:GetObject",
        ),
        (301, "S3 answered 301; set `[service] s3_region`"),
        (500, "the server answered 500"),
    ] {
        station
            .ca
            .otherwise(move |_| Reply::status(status, "<Error/>"));
        // A fresh one: the waits after failures grow.
        let _service = station.service();
        station.wait_for_problem("trust", told);
    }
}

#[test]
fn a_web_folder_is_asked_by_tag_and_a_new_view_is_taken_with_its_bundle() {
    let Some(station) = Station::new("") else {
        return;
    };
    station.configure(|toml| format!("{toml}trust_from = \"{}/trust\"\n", station.ca.url()));
    let published = publish(&station, "/trust", |_| {});
    let _service = station.service();
    station.wait_for_sequence(10);
    let asked = station.ca.asked().len();
    wait_until("more looks", || station.ca.asked().len() >= asked + 4);
    assert!(station.status().healthy, "{:?}", station.status());
    // The view alone is new.
    published.lock().unwrap().view.version = 30;
    published.lock().unwrap().view.fleets.clear();
    wait_until("the view", || {
        !ok(&station.principals("alice", CA_KEY)).contains("fleet/")
    });
    published.lock().unwrap().revoke(&[7]);
    station.wait_for_sequence(11);
}

#[test]
fn a_view_that_was_refused_in_a_web_folder_is_offered_again_with_the_next_bundle() {
    let Some(station) = Station::new("") else {
        return;
    };
    station.configure(|toml| format!("{toml}trust_from = \"{}/trust\"\n", station.ca.url()));
    let published = publish(&station, "/trust", |_| {});
    // The views are published before the root that they go with.
    published.lock().unwrap().view.root_version = 6;
    published.lock().unwrap().view.fleets.clear();
    let _service = station.service();
    station.wait_for_problem("trust", "host view is not taken");
    assert!(ok(&station.principals("alice", CA_KEY)).contains("fleet/"));
    let mut authority = published.lock().unwrap();
    authority.succeed(&[ROOT_KEY], |_| {});
    authority.bundle.sequence += 1;
    authority.bundle.issued = now();
    drop(authority);
    station.wait_for_sequence(11);
    assert!(!ok(&station.principals("alice", CA_KEY)).contains("fleet/"));
}

#[test]
fn documents_by_an_administrators_hand_count_where_they_are_newer() {
    let Some(mut station) = Station::new("") else {
        return;
    };
    assert_eq!(station.install().refused, None);
    station.authority.installed.view.version = 50;
    station.authority.installed.view.issued = now();
    station.authority.installed.view.fleets.clear();
    station.host.documents(&station.authority.installed);
    ok(&station.host.install(&["--no-reload"]));
    assert!(!ok(&station.principals("alice", CA_KEY)).contains("fleet/"));
    station.authority.view.version = 60;
    station.authority.next();
    assert_eq!(station.install().refused, None);
    assert!(ok(&station.principals("alice", CA_KEY)).contains("fleet/"));
}
