//! The schedule of user-CA keys under a running service.

use std::time::{Duration, Instant};

use eic_ca::keys::{self, KeyType};
use eic_protocol::trust::root::KeyState;

use crate::client::Client;
use crate::endorsed::{Kms, runs_with_credentials, signer, with_key_in_kms};
use crate::http_stub::response;
use crate::program::real_now;
use crate::trust_commands::{ca_of, issued};
use crate::world::{NOW, World};

const DAY: u64 = 86_400;

/// A CA that exchanges its keys each day, with a spare; the root key is at hand, or not.
async fn world(root_at_hand: bool) -> (World, String) {
    let world = World::new().await;
    let spare = keys::new_key_file(&world.path("keys/user-ca-2"), KeyType::Ed25519).unwrap();
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    let keys = "[keys]\nspare_user_cas = [{ signer = \"local\", file = \"keys/user-ca-2\" }]\npropagation_seconds = 3600\nrotate_after_days = 1\n";
    let config = config.replacen("[keys]\n", keys, 1);
    world.write("eic-ca.toml", &config);
    let world = world.stopped().await.started().await;
    if root_at_hand {
        return (world, spare.public().fingerprint());
    }
    // Announced while it was at hand.
    world.write("eic-ca.toml", &config.replace("root = \"keys/root\"\n", ""));
    (world.restarted().await, spare.public().fingerprint())
}

fn state(world: &World, print: &str) -> KeyState {
    let (_, root) = keys::root::read(&world.path("keys/root.json")).unwrap();
    let mut cas = root.user_cas.iter();
    cas.find(|ca| ca.key.fingerprint() == print).unwrap().state
}

async fn wait(what: &str, holds: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_key_is_announced_exchanged_and_retired_in_its_time() {
    let (world, spare) = world(true).await;
    assert_eq!(state(&world, &spare), KeyState::Announced);
    let signer = async || ca_of(&issued(&world, &Client::new(1)).await);
    let first = signer().await;
    assert_ne!(first, spare);
    world.clock.set(NOW + DAY - 1);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(signer().await, first);
    // The schedule looks once an hour.
    world.clock.set(NOW + DAY + 3_600);
    wait("the spare does not sign", async || signer().await == spare).await;
    assert_eq!(state(&world, &first), KeyState::Active);
    world.clock.set(NOW + 2 * DAY + 7_200);
    wait("it is not retired", async || {
        state(&world, &first) == KeyState::Retired
    })
    .await;
    assert_eq!(signer().await, spare);
    let audit = world.audit();
    for event in ["ActivateKey", "RetireKey"] {
        assert!(audit.contains(&format!("\"eventName\":\"{event}\"")));
    }
}

#[tokio::test]
async fn without_the_root_key_a_spare_takes_over_and_nothing_is_retired() {
    let (world, spare) = world(false).await;
    let signer = async || ca_of(&issued(&world, &Client::new(1)).await);
    let first = signer().await;
    world.clock.set(NOW + DAY + 3_600);
    wait("the spare does not sign", async || signer().await == spare).await;
    world.clock.set(NOW + 3 * DAY);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(state(&world, &first), KeyState::Active);
}

#[tokio::test]
async fn while_a_key_in_kms_does_not_answer_nothing_is_exchanged() {
    if !runs_with_credentials("schedule::while_a_key_in_kms_does_not_answer_nothing_is_exchanged") {
        return;
    }
    let kms = Kms::start().await;
    let (world, spare) = world(true).await;
    // The root that names the key is made by a command, which has no other clock.
    world.clock.set(real_now());
    let world = with_key_in_kms(world, &kms, "user_ca", "keys/user-ca").await;
    let own = signer(&world).await;
    let world = world.stopped().await;
    kms.answer_with(|_| response(500, NOW, r#"{"__type":"KMSInternalException"}"#));
    world.clock.set(NOW + 3 * DAY);
    let world = world.started().await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(state(&world, &own), KeyState::Active);
    let audit = world.audit();
    assert!(!audit.contains("\"eventName\":\"RetireKey\""));
    assert!(!audit.contains("\"eventName\":\"ActivateKey\""));
    // The spare was ready to stand in and signed nothing: it takes over as if it had not been.
    let back = Kms::working();
    kms.answer_with(move |request| back.answer(request));
    wait("the spare does not sign", async || {
        world.clock.set(world.clock.now() + 3_601);
        world.audit().contains("\"eventName\":\"ActivateKey\"")
    })
    .await;
    wait("the spare does not sign", async || {
        signer(&world).await == spare
    })
    .await;
}

/// The world with one more spare, whose root the service makes at its start.
async fn with_one_more(world: World, number: usize) -> (World, String) {
    let name = format!("keys/user-ca-{number}");
    let spare = keys::new_key_file(&world.path(&name), KeyType::Ed25519).unwrap();
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    let list = "spare_user_cas = [";
    let longer = format!("{list}{{ signer = \"local\", file = \"{name}\" }}, ");
    world.write("eic-ca.toml", &config.replacen(list, &longer, 1));
    (world.restarted().await, spare.public().fingerprint())
}

#[tokio::test]
async fn over_three_exchanges_each_key_signs_once_and_is_retired() {
    let world = World::with(|config| {
        let keys =
            "[keys]\nspare_user_cas = []\npropagation_seconds = 3600\nrotate_after_days = 1\n";
        config.replacen("[keys]\n", keys, 1)
    });
    let mut world = world.await;
    let mut signs = ca_of(&issued(&world, &Client::new(1)).await);
    let (mut now, mut seen) = (NOW, vec![signs.clone()]);
    for number in 2..=4 {
        let (again, spare) = with_one_more(world, number).await;
        world = again;
        assert_eq!(state(&world, &spare), KeyState::Announced);
        now += DAY;
        world.clock.set(now);
        let signer = async || ca_of(&issued(&world, &Client::new(1)).await);
        wait("the spare does not sign", async || signer().await == spare).await;
        now += DAY + 3_600;
        world.clock.set(now);
        wait("the key before it is not retired", async || {
            state(&world, &signs) == KeyState::Retired
        })
        .await;
        // A root that was made while it signs says so: it is no spare any more.
        assert_eq!(state(&world, &spare), KeyState::Active);
        assert!(!seen.contains(&spare));
        signs = spare;
        seen.push(signs.clone());
    }
    let audit = world.audit();
    for (event, count) in [("ActivateKey", 3), ("RetireKey", 3), ("InstallRoot", 6)] {
        let name = format!("\"eventName\":\"{event}\"");
        assert_eq!(audit.matches(&name).count(), count, "{event}");
    }
}
