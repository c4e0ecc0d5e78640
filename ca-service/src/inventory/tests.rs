//! Tests of the parent module.

use std::path::PathBuf;

use super::*;

const HOSTS: &str = r#"
[[instance]]
id = "i-00000000000000001"
account = "111122223333"
region = "eu-west-1"
addresses = ["10.0.0.1", "2001:db8::1"]
private_dns = "ip-10-0-0-1.internal"
tags = { Name = "web-1" }

[[instance]]
id = "i-00000000000000002"
account = "111122223333"
region = "eu-west-1"
addresses = ["10.0.0.2"]
tags = { Name = "web-1" }

[[instance]]
id = "mi-00000000000000003"
account = "111122223333"
region = "eu-west-1"
addresses = ["10.0.0.2"]
"#;

fn inventory(text: &str) -> (tempfile::TempDir, PathBuf, Inventory) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hosts.toml");
    std::fs::write(&file, text).unwrap();
    let inventory = Inventory::new(
        Some(StaticInventory::open(&file).unwrap()),
        None,
        HostsSeen::default(),
    );
    (folder, file, inventory)
}

async fn ids(inventory: &Inventory, host: &str) -> Vec<String> {
    let mut ids: Vec<_> = inventory
        .find(host, "test", 0)
        .await
        .unwrap()
        .iter()
        .map(|h| h.id().to_string())
        .collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_name_that_several_hosts_have_names_them_all() {
    let (_folder, _, inventory) = inventory(HOSTS);
    let both = ["i-00000000000000001", "i-00000000000000002"];
    assert_eq!(ids(&inventory, "web-1").await, both);
    // Two spellings of one name are both found: ssh makes names lower-case, a namesake must not take it over.
    let respelled = HOSTS.replacen("web-1", "Web-1", 1);
    let (_folder, _, inventory) = self::inventory(&respelled);
    for name in ["web-1", "Web-1", "WEB-1"] {
        assert_eq!(ids(&inventory, name).await, both, "{name}");
    }
    assert_eq!(
        ids(&inventory, "10.0.0.2").await,
        ["i-00000000000000002", "mi-00000000000000003"]
    );
}

#[tokio::test]
async fn hosts_are_found_by_id_dns_name_and_address_and_by_nothing_else() {
    let (_folder, _, inventory) = inventory(HOSTS);
    let first = ["i-00000000000000001"];
    for host in [
        "i-00000000000000001",
        "IP-10-0-0-1.internal",
        "10.0.0.1",
        "2001:db8:0::1",
        "::ffff:10.0.0.1",
    ] {
        assert_eq!(ids(&inventory, host).await, first, "{host}");
    }
    for host in [
        "",
        "web",
        "web-1*",
        "10.0.0",
        "i-00000000000000009",
        "111122223333",
    ] {
        assert!(ids(&inventory, host).await.is_empty(), "{host}");
    }
}

#[test]
fn a_file_with_mistakes_is_refused_with_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hosts.toml");
    std::fs::write(
        &file,
        HOSTS
            .replace("i-00000000000000002", "i-00000000000000001")
            .replace("eu-west-1", "eu-west-9"),
    )
    .unwrap();
    let told = StaticInventory::open(&file).err().unwrap().to_string();
    assert!(
        told.contains("`instance[0].region`") && told.contains("`instance[2].region`"),
        "{told}"
    );
    std::fs::write(
        &file,
        HOSTS.replace("i-00000000000000002", "i-00000000000000001"),
    )
    .unwrap();
    assert!(
        StaticInventory::open(&file)
            .err()
            .unwrap()
            .to_string()
            .contains("named twice")
    );
}

#[tokio::test]
async fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
    let (_folder, file, inventory) = inventory(HOSTS);
    let reload = || inventory.file().unwrap().reload();
    assert!(!reload().unwrap());
    std::fs::write(&file, "[[instance]]\nid = 5\n").unwrap();
    assert!(reload().is_err());
    assert_eq!(ids(&inventory, "web-1").await.len(), 2);
    std::fs::write(&file, HOSTS.replacen("web-1", "web-9", 1)).unwrap();
    assert!(reload().unwrap());
    assert_eq!(ids(&inventory, "web-9").await.len(), 1);
}

#[tokio::test]
async fn a_host_of_another_account_or_region_is_not_the_one_that_was_enrolled() {
    let (_folder, _, inventory) = inventory(HOSTS);
    let id = "i-00000000000000001".parse().unwrap();
    let listed = async |account: &str, region: &str| {
        let (account, region) = (account.parse().unwrap(), region.parse().unwrap());
        let found = inventory.listed_instance(&id, &account, region, 0).await;
        found.unwrap().is_some()
    };
    assert!(!listed("444455556666", "eu-west-1").await);
    assert!(!listed("111122223333", "us-east-1").await);
    assert!(listed("111122223333", "eu-west-1").await);
}

#[tokio::test]
async fn a_host_that_this_ca_enrolled_is_never_legacy_again_unless_an_operator_forgets_it() {
    // H-18
    use crate::audit::{Actor, Event, EventName, Operator, Origin, Recorder, event_request_id};
    use crate::clock::Clock;
    use crate::store::{Store, StoreConfig};

    let text = HOSTS.to_owned() + "enrolment = \"legacy\"\n";
    let (folder, file, _) = inventory(&text);
    let store = Store::serve(&StoreConfig::at(folder.path().join("ca.db"))).unwrap();
    let file = StaticInventory::open(&file).unwrap();
    let inventory = Inventory::new(Some(file), None, store.hosts_seen());
    let id: InstanceId = "mi-00000000000000003".parse().unwrap();
    let host = inventory.instance(&id, "test", 0).await.unwrap().unwrap();
    let enrolment = || inventory.view(&host, Vec::new()).enrolment;
    assert_eq!(enrolment(), Enrolment::Legacy);
    store.host_register().next_view(&id, 1).await.unwrap();
    assert_eq!(enrolment(), Enrolment::Enrolled);
    let recorder = Recorder::new(&store, Clock::manual(2));
    let event = Event::new(
        EventName::ForgetHost,
        Actor::Operator(Operator::current()),
        Origin::default(),
        event_request_id().unwrap(),
    );
    assert!(recorder.forget_host(id.clone(), &event).await.unwrap());
    assert!(!recorder.forget_host(id.clone(), &event).await.unwrap());
    assert_eq!(enrolment(), Enrolment::Legacy);
    // Views go on where they were: hosts refuse an older version.
    assert_eq!(store.host_register().next_view(&id, 3).await.unwrap(), 2);
    assert_eq!(enrolment(), Enrolment::Enrolled);
}
