//! A host CA that is stolen: what it signed counts no more, it signs nothing more, and hosts get certificates of the
//! next one.

use std::time::{Duration, Instant};

use eic_ca::keys::{self, KeyType};
use eic_protocol::api::problem::ProblemCode;
use ssh_key::{Certificate, HashAlg};

use super::aws::{HOST, HostWorld};
use super::requests::Ask;
use crate::client::Client;
use crate::trust_commands::{current, name_spare, until};
use crate::world::{World, code};

fn host_ca(world: &World) -> String {
    let (_, root) = keys::root::read(&world.path("keys/root.json")).unwrap();
    root.host_cas[0].fingerprint()
}

async fn certificate(world: &HostWorld, host: &Client) -> Certificate {
    let issued = world.certified(&world.with_document(&Ask::of(host))).await;
    Certificate::from_openssh(&issued[0].certificate).unwrap()
}

fn signer(certificate: &Certificate) -> String {
    let key = certificate.signature_key();
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// Names a new host CA in the configuration.
fn configure_another(world: &World) {
    keys::new_key_file(&world.path("keys/host-ca-2"), KeyType::Ed25519).unwrap();
    let config = std::fs::read_to_string(world.path("eic-ca.toml")).unwrap();
    let other = config.replace("keys/host-ca\"", "keys/host-ca-2\"");
    assert_ne!(config, other);
    world.write("eic-ca.toml", &other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_ca_signs_nothing_neither_in_the_service_nor_by_hand() {
    let world = HostWorld::new("evidence").await;
    let host = Client::new(1);
    let before = certificate(&world, &host).await;
    let stolen = host_ca(&world.world);
    assert_eq!(signer(&before), stolen);
    world
        .eic_ca(&["revoke", "ca-key", &stolen, "--reason", "stolen"])
        .unwrap();
    until(&world.world, |krl| krl.is_revoked(&before)).await;
    let asked = world.with_document(&Ask::of(&host));
    let answer = world.post_certificate(&asked).await;
    assert_eq!(code(&answer), ProblemCode::SignerUnavailable);
    let key = world.world.path("host.pub");
    std::fs::write(&key, host.public.to_string()).unwrap();
    let (key, out) = (key.to_str().unwrap(), world.world.path("out"));
    let out = out.to_str().unwrap();
    let files = ["host-state", "--instance", HOST, "--out", out];
    let certified = [&files[..], &["--host-key", key]].concat();
    let told = world.eic_ca(&certified).unwrap_err();
    assert!(
        told.contains(&stolen) && told.contains("is revoked; name another one as `host_ca`"),
        "{told}"
    );
    // What the host believes is another key's.
    world.eic_ca(&files).unwrap();
    let listed = world.eic_ca(&["keys", "list"]).unwrap();
    let line = listed.lines().find(|line| line.starts_with(&stolen));
    assert!(
        line.is_some_and(|line| line.contains("host CA   revoked      is configured")),
        "{listed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_stolen_host_ca_the_next_one_signs_and_the_list_names_the_old_one() {
    let mut world = HostWorld::new("evidence").await;
    let host = Client::new(1);
    let before = certificate(&world, &host).await;
    let stolen = host_ca(&world.world);
    configure_another(&world.world);
    world.eic_ca(&["root", "update"]).unwrap();
    world.restart();
    world
        .eic_ca(&["revoke", "ca-key", &stolen, "--reason", "stolen"])
        .unwrap();
    let after = certificate(&world, &host).await;
    assert_eq!(signer(&after), host_ca(&world.world));
    let bundle = until(&world.world, |krl| krl.is_revoked(&before)).await;
    let list = bundle.revocations.read().unwrap();
    assert!(!list.is_revoked(&after));
    let listed = world.eic_ca(&["keys", "list"]).unwrap();
    for (key, wanted) in [
        (
            &signer(&after),
            "host CA   active       signs host certificates",
        ),
        (&stolen, "host CA   revoked      hosts and clients refuse"),
    ] {
        let line = listed.lines().find(|line| line.starts_with(key.as_str()));
        assert!(line.is_some_and(|line| line.contains(wanted)), "{listed}");
    }
    // With the next change of keys the root does not name it, and it stays on the list.
    name_spare(&world.world, 0);
    world.eic_ca(&["keys", "announce"]).unwrap();
    let (_, root) = keys::root::read(&world.world.path("keys/root.json")).unwrap();
    assert_eq!(root.host_cas.len(), 1);
    let end = Instant::now() + Duration::from_secs(10);
    while current(&world.world).await.root_version < root.version {
        assert!(Instant::now() < end, "the new root is not served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let list = current(&world.world).await.revocations.read().unwrap();
    assert!(list.is_revoked(&before));
}
