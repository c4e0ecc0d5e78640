//! The trust bundle as hosts get it: unauthenticated, from memory, at once or when there is news.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use eic_aws::http_client::Answer;
use eic_ca::keys::{self, KeyType};
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::api::trust_bundle::{EntityTag, TrustBundleResponse};
use eic_protocol::trust::bundle::Bundle;
use eic_protocol::trust::root::Root;
use eic_protocol::trust::state::{Anchor, Documents, TrustState};

use crate::world::{NOBODYS, NOW, WEB, World, code};

pub(crate) async fn fetch(world: &World, query: &str, tag: Option<&str>) -> Answer {
    let headers: Vec<_> = tag
        .map(|tag| ("if-none-match", tag.to_owned()))
        .into_iter()
        .collect();
    let path = format!("/v1/trust-bundle{query}");
    world.send("GET", &path, &headers, Vec::new()).await
}

/// The answer's documents, whose entity tag must be its own.
pub(crate) fn documents(answer: &Answer) -> TrustBundleResponse {
    assert_eq!(answer.status, 200);
    let response = TrustBundleResponse::parse(&answer.body).unwrap();
    let tag: EntityTag = tag_of(answer).parse().unwrap();
    assert_eq!(response.entity_tag(), tag);
    response
}

pub(crate) fn tag_of(answer: &Answer) -> String {
    answer.headers["etag"].to_str().unwrap().to_owned()
}

/// A host's state, from the pin that came with its image.
pub(crate) fn state_of(world: &World, host: &str, response: &TrustBundleResponse) -> TrustState {
    let pin = pin(world);
    let anchor = Anchor {
        instance: host.parse().unwrap(),
        pins: BTreeSet::from([pin]),
        sequence_floor: 0,
        floor_key: None,
    };
    let documents = Documents {
        roots: &response.roots,
        bundle: Some(&response.bundle),
        view: response.view.as_ref(),
    };
    TrustState::load(anchor, &documents).unwrap()
}

fn pin(world: &World) -> String {
    let (_, root) = keys::root::read(&world.path("keys/root.json")).unwrap();
    root.root_keys[0].fingerprint()
}

pub(crate) fn bundle(response: &TrustBundleResponse) -> Bundle {
    Bundle::parse(response.bundle.signed.as_slice()).unwrap()
}

async fn current(world: &World) -> Bundle {
    bundle(&documents(&fetch(world, "", None).await))
}

#[tokio::test]
async fn a_malformed_question_is_refused() {
    let world = World::new().await;
    for bad in [
        "?root=x",
        "?root=-1",
        "?host=web-1",
        "?host=../x",
        "?wait=1&wait=2",
        "?unknown=1",
    ] {
        let answer = fetch(&world, bad, None).await;
        assert_eq!(code(&answer), ProblemCode::MalformedRequest, "{bad}");
    }
}

#[tokio::test]
async fn a_stranger_makes_no_host_known_and_gets_no_view() {
    let world = World::new().await;
    for host in [WEB, NOBODYS] {
        let answer = fetch(&world, &format!("?host={host}"), None).await;
        assert!(documents(&answer).view.is_none(), "{host}");
    }
    // Else its clients would never again push a key to it (H-18).
    assert_eq!(world.rows("hosts_seen"), 0);
}

#[tokio::test]
async fn a_tag_that_is_not_the_current_one_gets_everything() {
    // F-20: 304 only to who has just that
    let world = World::new().await;
    let answer = fetch(&world, "", None).await;
    let tag = tag_of(&answer);
    for other in ["*", "\"\"", "x", "\"00\"", &tag.replace('"', "")] {
        assert_eq!(fetch(&world, "", Some(other)).await.status, 200, "{other}");
    }
    for same in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}")] {
        let answer = fetch(&world, "", Some(&same)).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{same}");
        assert_eq!(tag_of(&answer), tag);
    }
    // Another root is another answer.
    assert_eq!(fetch(&world, "?root=1", Some(&tag)).await.status, 200);
}

#[tokio::test]
async fn a_host_believes_what_it_gets() {
    let world = World::new().await;
    let response = documents(&fetch(&world, "", None).await);
    let state = state_of(&world, WEB, &response);
    let bundle = &state.bundle().unwrap().document;
    assert_eq!((bundle.sequence, bundle.issued), (1, NOW));
    assert!(bundle.refresh_after > NOW && bundle.hard_stop.is_none());
    let later = documents(&fetch(&world, "?root=1", None).await);
    assert!(later.roots.is_empty());
}

#[tokio::test]
async fn a_restart_never_gives_an_older_bundle_or_list() {
    // F-07
    let mut world = World::new().await;
    let mut before = current(&world).await;
    for _ in 0..3 {
        world = world.restarted().await;
        let now = current(&world).await;
        now.check_follows(&before, NOW).unwrap();
        assert_eq!(now.revocations.number, before.revocations.number);
        assert_eq!(now.revocations.krl, before.revocations.krl);
        before = now;
    }
    world.clock.set(NOW - 3_600);
    let world = world.restarted().await;
    current(&world).await.check_follows(&before, NOW).unwrap();
}

#[tokio::test]
async fn a_bundle_is_signed_anew_before_it_is_stale() {
    let world = World::new().await;
    let before = current(&world).await;
    world.clock.set(before.refresh_after - 3_600);
    let end = Instant::now() + Duration::from_secs(10);
    let mut now = current(&world).await;
    while now.sequence == before.sequence {
        assert!(Instant::now() < end, "no new bundle");
        tokio::time::sleep(Duration::from_millis(50)).await;
        now = current(&world).await;
    }
    now.check_follows(&before, world.clock.now()).unwrap();
    assert!(now.refresh_after > before.refresh_after);
}

#[tokio::test]
async fn more_waiters_than_places_are_answered_at_once() {
    let world = World::with(|config| config + "\n[bundle]\nlong_polls = 0\n").await;
    let tag = tag_of(&fetch(&world, "", None).await);
    let began = Instant::now();
    let answer = fetch(&world, "?wait=50", Some(&tag)).await;
    assert_eq!(answer.status, 304);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn who_waits_in_vain_hears_that_nothing_changed() {
    let world = World::new().await;
    let tag = tag_of(&fetch(&world, "", None).await);
    let began = Instant::now();
    assert_eq!(fetch(&world, "?wait=1", Some(&tag)).await.status, 304);
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn an_enrolled_host_gets_its_view_and_keeps_it() {
    let world = World::with(|config| {
        config + "\n[fleets.ids]\naccounts = [\"111122223333\"]\nids = [\"i-00000000000000001\"]\nkms_only = true\n"
    })
    .await;
    enrol(&world, WEB).await;
    let query = format!("?host={WEB}");
    let response = with_view(&world, &query).await;
    let state = state_of(&world, WEB, &response);
    let view = state.view().unwrap().document.clone();
    let named: Vec<_> = view
        .fleets
        .iter()
        .map(|f| (f.name.to_string(), f.kms_only))
        .collect();
    // By id at once; by tag only after the delay.
    assert_eq!(named, [("ids".to_owned(), true)]);
    assert!(world.audit().contains("\"eventName\":\"JoinFleet\""));
    let again = documents(&fetch(&world, &query, None).await);
    assert_eq!(again.view, response.view);
    world.clock.set(NOW + 301);
    let later = documents(&fetch(&world, &query, None).await);
    let advance = state.advance(&later.documents(), NOW + 301);
    assert_eq!(advance.refused, None);
    let fleets = &advance.state.view().unwrap().document.fleets;
    assert_eq!(fleets.len(), 2, "{fleets:?}");
    // Another host's view is not this one's.
    let other = documents(&fetch(&world, "?host=i-00000000000000002", None).await);
    assert!(other.view.is_none());
}

/// The service sees within half a second what another process wrote.
pub(crate) async fn with_view(world: &World, query: &str) -> TrustBundleResponse {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let response = documents(&fetch(world, query, None).await);
        if response.view.is_some() {
            return response;
        }
        assert!(Instant::now() < end, "no view");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As an operator does who copies a host its first files.
pub(crate) async fn enrol(world: &World, host: &str) {
    let out = world.path("host");
    let mut command = Command::new(env!("CARGO_BIN_EXE_eic-ca"));
    command
        .args(["host-state", "--instance", host, "--out"])
        .arg(&out);
    command.arg("--config").arg(world.path("eic-ca.toml"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_new_root_is_served_with_all_that_lead_to_it() {
    let world = World::new().await;
    let first = documents(&fetch(&world, "", None).await);
    let state = state_of(&world, WEB, &first);
    // The host CA's key is replaced: a new root names it.
    keys::new_key_file(&world.path("keys/host-ca-2"), KeyType::Ed25519).unwrap();
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    world.write(
        "eic-ca.toml",
        &config.replace("keys/host-ca\"", "keys/host-ca-2\""),
    );
    let mut update = Command::new(env!("CARGO_BIN_EXE_eic-ca"));
    update
        .args(["root", "update", "--config"])
        .arg(world.path("eic-ca.toml"));
    let output = tokio::task::spawn_blocking(move || update.output().unwrap())
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let tag = tag_of(&fetch(&world, "?root=1", None).await);
    let news = fetch(&world, "?root=1&wait=20", Some(&tag)).await;
    let news = documents(&news);
    assert_eq!(news.roots.len(), 1);
    let advance = state.advance(&news.documents(), NOW);
    assert_eq!(advance.refused, None);
    assert_eq!(advance.state.root().version, 2);
    // A host of any age finds its way; one that is up to date gets no root.
    let all = documents(&fetch(&world, "", None).await);
    let pins = BTreeSet::from([pin(&world)]);
    assert_eq!(Root::history(&all.roots, &pins).unwrap().version, 2);
    assert!(
        documents(&fetch(&world, "?root=2", None).await)
            .roots
            .is_empty()
    );
    let discovery = world.send("GET", "/.well-known/eic", &[], Vec::new()).await;
    let discovery: serde_json::Value = serde_json::from_slice(&discovery.body).unwrap();
    assert_eq!(discovery["bundle_sequence"], 2);
}
