//! A service that starts while KMS does not answer: everything but signatures, and those as soon as it is back.

use std::time::{Duration, Instant};

use eic_aws::http_client::Answer;
use eic_protocol::api::problem::ProblemCode;

use crate::client::Client;
use crate::endorsed::{
    Kms, asked, runs_with_credentials, signer, target, with_key_in_kms, world_of,
};
use crate::http_stub::{HttpStub, response};
use crate::trust_bundle::{fetch, tag_of};
use crate::trust_commands::{ca_of, done, issued, refused, run, until, with_spare};
use crate::world::{NOW, WEB, World};

/// A service that was started again meanwhile, and the key that signed before.
async fn started_without(kms: &HttpStub) -> (World, String) {
    let world = world_of(kms).await;
    let own = signer(&world).await;
    let world = world.stopped().await;
    kms.answer_with(|_| response(500, NOW, r#"{"__type":"KMSInternalException"}"#));
    (world.started().await, own)
}

async fn get(world: &World, path: &str) -> Answer {
    world.send("GET", path, &[], Vec::new()).await
}

#[tokio::test]
async fn without_kms_a_service_starts_and_refuses_signatures_only() {
    if !runs_with_credentials("kms_away::without_kms_a_service_starts_and_refuses_signatures_only")
    {
        return;
    }
    let kms = Kms::start().await;
    let (world, _) = started_without(&kms).await;
    let ready = get(&world, "/readyz").await;
    assert_eq!(ready.status, 503);
    let told = String::from_utf8_lossy(&ready.body);
    // Whoever asks learns no ARN.
    assert!(
        told.contains("does not answer") && !told.contains("arn:"),
        "{told}"
    );
    assert_eq!(get(&world, "/healthz").await.status, 200);
    let rows = world.rows("journal");
    let refused = asked(&world, &target("ubuntu")).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::SignerUnavailable);
    assert_eq!(world.rows("journal"), rows);
    // Who may not hears so all the same.
    let denied = asked(&world, &target("nobody")).await.unwrap_err();
    assert_eq!(denied.code, ProblemCode::ConditionsNotMet);
    let bundle = fetch(&world, "", None).await;
    assert_eq!(bundle.status, 200);
    let again = fetch(&world, "", Some(&tag_of(&bundle))).await;
    assert_eq!(again.status, 304);
    let key = Client::new(7).public.to_string();
    done(&world, &["revoke", "key", &key, "--reason", "lost"]).await;
    until(&world, |krl| krl.count() == 1).await;
}

#[tokio::test]
async fn when_kms_is_back_the_service_signs_by_itself() {
    if !runs_with_credentials("kms_away::when_kms_is_back_the_service_signs_by_itself") {
        return;
    }
    let kms = Kms::start().await;
    let (world, own) = started_without(&kms).await;
    let refused = asked(&world, &target("ubuntu")).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::SignerUnavailable);
    let back = Kms::working();
    kms.answer_with(move |request| back.answer(request));
    let end = Instant::now() + Duration::from_secs(20);
    let issued = loop {
        match asked(&world, &target("ubuntu")).await {
            Ok(issued) => break issued,
            Err(problem) => assert!(Instant::now() < end, "{problem:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(ca_of(&issued), own);
    assert_eq!(get(&world, "/readyz").await.status, 200);
}

#[tokio::test]
async fn a_host_ca_that_kms_does_not_give_stops_host_certificates_only() {
    if !runs_with_credentials(
        "kms_away::a_host_ca_that_kms_does_not_give_stops_host_certificates_only",
    ) {
        return;
    }
    let kms = Kms::start().await;
    let world = with_key_in_kms(World::new().await, &kms, "host_ca", "keys/host-ca").await;
    let world = world.stopped().await;
    kms.answer_with(|_| response(500, NOW, r#"{"__type":"KMSInternalException"}"#));
    let world = world.started().await;
    let ready = get(&world, "/readyz").await;
    let told = String::from_utf8_lossy(&ready.body);
    assert!(ready.status == 503 && told.contains("host CA"), "{told}");
    issued(&world, &Client::new(1)).await;
    std::fs::write(world.path("host.pub"), Client::new(50).public.to_string()).unwrap();
    let state = ["host-state", "--instance", WEB, "--out", "host"];
    let output = run(&world, &[&state[..], &["--host-key", "host.pub"]].concat()).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && told.contains("does not answer"),
        "{told}"
    );
}

#[tokio::test]
async fn a_key_that_answers_at_last_is_pinned() {
    if !runs_with_credentials("kms_away::a_key_that_answers_at_last_is_pinned") {
        return;
    }
    let kms = Kms::start().await;
    let world = world_of(&kms).await.stopped().await;
    // As in a new store: all that is known is what the configuration says.
    let store = rusqlite::Connection::open(world.path("eic-ca.db")).unwrap();
    let sql = "SELECT public_key FROM ca_keys";
    let key: String = store.query_row(sql, [], |row| row.get(0)).unwrap();
    store.execute("DELETE FROM ca_keys", []).unwrap();
    drop(store);
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    let named = format!(", public_key = \"{key}\", endpoint = ");
    world.write("eic-ca.toml", &config.replacen(", endpoint = ", &named, 1));
    kms.answer_with(|_| response(500, NOW, r#"{"__type":"KMSInternalException"}"#));
    let world = world.started().await;
    assert_eq!(get(&world, "/readyz").await.status, 503);
    assert_eq!(world.rows("ca_keys"), 0);
    let back = Kms::working();
    kms.answer_with(move |request| back.answer(request));
    world.until(|world| world.rows("ca_keys") == 1).await;
}

#[tokio::test]
async fn a_spare_that_may_be_standing_in_is_not_retired() {
    if !runs_with_credentials("kms_away::a_spare_that_may_be_standing_in_is_not_retired") {
        return;
    }
    let kms = Kms::start().await;
    let (world, spare) = with_spare(0).await;
    let world = with_key_in_kms(world, &kms, "user_ca", "keys/user-ca").await;
    let own = signer(&world).await;
    kms.answer_with(|_| response(500, NOW, r#"{"__type":"KMSInternalException"}"#));
    let retire = ["keys", "retire", &spare, "--reason", "drill"];
    let told = refused(&world, &retire).await;
    assert!(
        told.contains("may be standing in") && told.contains(&own),
        "{told}"
    );
    let list = done(&world, &["keys", "list"]).await;
    let line = list.lines().find(|line| line.starts_with(&own)).unwrap();
    assert!(
        line.ends_with("is to sign; KMS does not answer for it"),
        "{line}"
    );
    // A compromise does not wait.
    done(&world, &[&retire[..], &["--now"]].concat()).await;
}
