//! The schedule of user-CA keys under a running service.

use std::time::{Duration, Instant};

use eic_ca::keys::{self, KeyType};
use eic_protocol::trust::root::KeyState;

use crate::client::Client;
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
