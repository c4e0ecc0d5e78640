//! Tests of the parent module.

use std::sync::Arc;

use eic_protocol::subject_key::CaKey;

use super::*;
use crate::bundle::{HostViews, Press};
use crate::clock::Moment;
use crate::config::bundle::BundleConfig;
use crate::inventory::Inventory;
use crate::issuance::tests::{NOW, Rig, local_signer, subject};
use crate::keys::{KeyType, RootHistory, RootKeys, root};
use crate::signer::document::{BundleKey, RootKey};

const HOST: &str = "i-0123456789abcdef0";

/// The first bundle of a CA, and its key.
async fn printed(rig: &Rig) -> (Edition, BundleKey) {
    let root_key = RootKey::new(local_signer(KeyType::Ed25519));
    let bundle_key = BundleKey::new(local_signer(KeyType::Ed25519));
    let keys = RootKeys {
        user_ca: rig.ca.public().clone(),
        spares: Vec::new(),
        host_ca: CaKey::new(subject()).unwrap(),
        bundle: bundle_key.public().clone(),
    };
    let first = root::first(&keys, root_key.public(), NOW);
    let path = rig.folder.path().join("root.json");
    root::write(&path, &root_key.seal(&first).unwrap()).unwrap();
    let roots = Arc::new(RootHistory::read(&path).unwrap());
    let book = rig.store.trust_book();
    let press = Press::new(book, bundle_key.for_bundles(), BundleConfig::default());
    (
        press.print(&roots, Moment::of(NOW)).await.unwrap(),
        bundle_key,
    )
}

#[tokio::test]
async fn an_edition_is_due_in_a_while_and_at_once_where_the_clock_went_back() {
    let (edition, _) = printed(&Rig::new()).await;
    assert!(!edition.is_due(NOW) && !edition.is_due(NOW - 60));
    assert!(edition.is_due(NOW + 60) && edition.is_due(NOW - 86_400));
}

#[tokio::test]
async fn a_newer_bundle_does_not_wait_for_views_and_nothing_is_put_twice() {
    let rig = Rig::new();
    let (edition, key) = printed(&rig).await;
    let register = rig.store.host_register();
    let version = register.next_view(&HOST.parse().unwrap(), NOW).await;
    assert_eq!(version.unwrap(), 1);
    let desk = ViewDesk {
        inventory: &Inventory::new(None, None, rig.store.hosts_seen()),
        fleets: &[],
        views: &HostViews::new(key, BundleConfig::default()),
        store: &rig.store,
        recorder: &rig.recorder,
        clock: &rig.clock,
    };
    let www = rig.folder.path().join("www");
    let destination = Destination::Folder(www.clone());
    let round = destination.begin().await.unwrap();
    let mut published = Published::default();
    put_bundle(&round, &edition, &mut published, NOW)
        .await
        .unwrap();
    let done = put_views(&round, &desk, &edition, &mut published, || true).await;
    assert_eq!(done.unwrap().views, 0);
    assert!(www.join("trust-bundle.json").is_file());
    let view = www.join(format!("hosts/{HOST}.json"));
    assert!(!view.exists());
    for (views, there) in [(1, true), (0, false)] {
        let done = put_views(&round, &desk, &edition, &mut published, || false).await;
        assert_eq!(done.unwrap().views, views);
        assert_eq!(view.exists(), there);
        // What is there is not put again.
        std::fs::remove_file(&view).unwrap_or_default();
    }
}
