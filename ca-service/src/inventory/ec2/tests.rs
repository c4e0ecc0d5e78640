//! Tests of the parent module against a server that answers like EC2 (threats C-10).

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::inventory::Inventory;
use crate::store::HostsSeen;
use crate::testing::http_stub::{HttpStub, Received, response};

const NOW: u64 = 1_800_000_000;
const ID: &str = "i-0123456789abcdef0";

fn item(id: &str, state: &str, tags: &str) -> String {
    format!(
        "<item><instanceId>{id}</instanceId><instanceState><name>{state}</name></instanceState>\
         <privateIpAddress>10.0.0.5</privateIpAddress><privateDnsName>ip-10-0-0-5.internal</privateDnsName>\
         <tagSet>{tags}</tagSet></item>"
    )
}

fn tag(key: &str, value: &str) -> String {
    format!("<item><key>{key}</key><value>{value}</value></item>")
}

fn answer(owner: &str, items: &str, next: &str) -> Vec<u8> {
    let reservation = if items.is_empty() {
        String::new()
    } else {
        format!("<item><ownerId>{owner}</ownerId><instancesSet>{items}</instancesSet></item>")
    };
    let body = format!(
        "<DescribeInstancesResponse><reservationSet>{reservation}</reservationSet>{next}</DescribeInstancesResponse>"
    );
    response(200, NOW, &body)
}

fn own(items: &str) -> Vec<u8> {
    answer("111122223333", items, "")
}

async fn asking(
    answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static,
) -> (HttpStub, Ec2Inventory) {
    in_regions(&["eu-west-1"], answer).await
}

async fn in_regions(
    regions: &[&str],
    answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static,
) -> (HttpStub, Ec2Inventory) {
    let ec2 = HttpStub::start(answer).await;
    let account: AccountId = "111122223333".parse().unwrap();
    let config = Ec2Config {
        account: account.clone(),
        regions: regions
            .iter()
            .map(|region| region.parse().unwrap())
            .collect(),
        assume_role: None,
        endpoint_override: Some(ec2.origin().to_owned()),
    };
    let access = Arc::new(AwsAccess::fixed(&account));
    let inventory = Ec2Inventory::new(access, &[config], EnrolmentRules::default()).unwrap();
    (ec2, inventory)
}

async fn instance(inventory: &Ec2Inventory, now: u64) -> Option<Arc<InstanceRecord>> {
    inventory
        .instance(&ID.parse().unwrap(), "test", now)
        .await
        .unwrap()
}

#[tokio::test]
async fn hosts_of_other_owners_and_other_ids_are_not_taken() {
    // C-10
    let (_ec2, inventory) = asking(|_| answer("999922223333", &item(ID, "running", ""), "")).await;
    assert!(instance(&inventory, NOW).await.is_none());
    assert!(inventory.all(NOW).await.hosts.is_empty());
    let (_ec2, inventory) = asking(|_| own(&item("i-00000000000000001", "running", ""))).await;
    assert!(instance(&inventory, NOW).await.is_none());
}

#[tokio::test]
async fn hosts_that_are_not_running_are_known_as_such() {
    // C-10
    for (state, is_up) in [
        ("pending", true),
        ("running", true),
        ("shutting-down", false),
        ("terminated", false),
        ("stopping", false),
        ("stopped", false),
        ("", false),
    ] {
        let (_ec2, inventory) = asking(move |_| own(&item(ID, state, ""))).await;
        assert_eq!(
            instance(&inventory, NOW).await.unwrap().is_up(),
            is_up,
            "{state}"
        );
    }
}

#[tokio::test]
async fn tags_older_than_half_a_minute_are_read_again() {
    // C-10
    let (ec2, inventory) = asking(|_| own(&item(ID, "running", &tag("env", "dev")))).await;
    assert_eq!(
        instance(&inventory, NOW).await.unwrap().tags()["env"],
        "dev"
    );
    ec2.answer_with(|_| own(&item(ID, "running", &tag("env", "prod"))));
    assert_eq!(
        instance(&inventory, NOW + 29).await.unwrap().tags()["env"],
        "dev"
    );
    assert_eq!(
        instance(&inventory, NOW + 30).await.unwrap().tags()["env"],
        "prod"
    );
    ec2.answer_with(|_| own(""));
    assert!(instance(&inventory, NOW + 60).await.is_none());
    assert_eq!(ec2.received().len(), 3);
}

#[tokio::test]
async fn an_unknown_id_is_looked_up_at_once_and_remembered_for_seconds() {
    let (ec2, inventory) = in_regions(&["eu-west-1", "eu-west-2"], |_| own("")).await;
    assert!(instance(&inventory, NOW).await.is_none());
    assert!(instance(&inventory, NOW + 4).await.is_none());
    assert_eq!(ec2.received().len(), 2, "each Region once");
    ec2.answer_with(|request| {
        let here = request
            .header("host")
            .is_some_and(|host| host == "ec2.eu-west-2.amazonaws.com");
        if here {
            own(&item(ID, "running", ""))
        } else {
            own("")
        }
    });
    let found = instance(&inventory, NOW + 5).await.unwrap();
    assert_eq!(found.region().as_str(), "eu-west-2");
    let asked = ec2.received();
    assert!(
        asked
            .iter()
            .all(|request| request.body.contains("instance-id") && request.body.contains(ID))
    );
}

fn made_up(n: u32) -> InstanceId {
    format!("i-{n:017x}").parse().unwrap()
}

/// How many of these ids were refused for want of a budget.
async fn refused(inventory: &Ec2Inventory, asker: &str, ids: std::ops::Range<u32>) -> usize {
    let mut busy = 0;
    for n in ids {
        let answer = inventory.instance(&made_up(n), asker, NOW).await;
        busy += usize::from(matches!(answer, Err(InventoryError::Busy)));
    }
    busy
}

#[tokio::test]
async fn made_up_ids_are_looked_up_at_a_bounded_rate_and_others_keep_theirs() {
    // G-14
    let (ec2, inventory) = asking(|_| own("")).await;
    let busy = refused(&inventory, "mallory", 0..200).await;
    let asked = ec2.received().len();
    assert!(busy >= 100 && asked <= 100, "{busy} refused, {asked} asked");
    assert_eq!(refused(&inventory, "alice", 1_000..1_020).await, 0);
    // All callers together have a limit too.
    let mut together = 0;
    for n in 1..20_u32 {
        together += refused(&inventory, &format!("m{n}"), n * 5_000..n * 5_000 + 50).await;
    }
    assert!(together >= 500, "{together}");
}

#[tokio::test]
async fn ids_of_real_hosts_cost_no_budget() {
    let (_ec2, inventory) = asking(|request| {
        let at = request.body.find("i-0").unwrap();
        own(&item(&request.body[at..at + 19], "running", ""))
    })
    .await;
    assert_eq!(refused(&inventory, "ansible", 0..500).await, 0);
}

#[tokio::test]
async fn a_listing_makes_its_hosts_known() {
    let (ec2, inventory) = asking(|_| own(&item(ID, "running", ""))).await;
    assert_eq!(inventory.all(NOW).await.hosts.len(), 1);
    assert!(instance(&inventory, NOW + 29).await.is_some());
    assert_eq!(ec2.received().len(), 1);
    // Too old to decide with: read again where it was, which costs no budget.
    assert!(instance(&inventory, NOW + 30).await.is_some());
    assert_eq!(ec2.received().len(), 2);
}

#[tokio::test]
async fn who_asks_for_the_same_id_at_once_shares_one_look_up() {
    let (ec2, inventory) = asking(|_| own("")).await;
    let asked = (0..20).map(|_| inventory.instance(&LATE, "test", NOW));
    for answer in all_of(asked).await {
        assert!(answer.unwrap().is_none());
    }
    assert_eq!(ec2.received().len(), 1);
}

static LATE: std::sync::LazyLock<InstanceId> = std::sync::LazyLock::new(|| made_up(7));

fn is_for(request: &Received, region: &str) -> bool {
    request
        .header("host")
        .is_some_and(|host| host.contains(region))
}

const OTHER: &str = "i-00000000000000002";

/// `web-1` in eu-west-1, `db-1` in eu-west-2.
fn both(request: &Received) -> Vec<u8> {
    let (id, name) = if is_for(request, "eu-west-1") {
        (ID, "web-1")
    } else {
        (OTHER, "db-1")
    };
    let asked_for = !request.body.contains("instance-id") || request.body.contains(id);
    own(&if asked_for {
        item(id, "running", &tag("Name", name))
    } else {
        String::new()
    })
}

async fn names(inventory: &Inventory, host: &str, now: u64) -> Result<usize, InventoryError> {
    Ok(inventory.find(host, "test", now).await?.len())
}

#[tokio::test]
async fn a_failing_region_stops_neither_other_names_nor_is_it_taken_for_an_empty_one() {
    let (ec2, places) = in_regions(&["eu-west-1", "eu-west-2"], both).await;
    let inventory = Inventory::new(None, Some(places), HostsSeen::default());
    assert_eq!(names(&inventory, "web-1", NOW).await.unwrap(), 1);
    assert_eq!(names(&inventory, "nobody", NOW).await.unwrap(), 0);
    ec2.answer_with(|request| {
        if is_for(request, "eu-west-1") {
            response(503, NOW, "<Response/>")
        } else {
            both(request)
        }
    });
    let later = NOW + 60;
    assert_eq!(names(&inventory, "db-1", later).await.unwrap(), 1);
    // Its name is known, its tags are not any more.
    assert!(names(&inventory, "web-1", later).await.is_err());
    // Nobody can say that there is none.
    assert!(names(&inventory, "nobody", later).await.is_err());
    let all = inventory.all(later).await.unwrap();
    assert!(all.hosts.len() == 1 && !all.complete);
    let account = ["111122223333".parse().unwrap()];
    assert!(inventory.all_in(&account, &[], later).await.is_err());
    let there = ["eu-west-2".parse().unwrap()];
    let found = inventory.all_in(&account, &there, later).await.unwrap();
    assert_eq!(found.len(), 1);
    // Single hosts of the Region can be read, its listing still cannot: the old one leads to them.
    ec2.answer_with(|request| {
        if is_for(request, "eu-west-1") && !request.body.contains("instance-id") {
            response(503, NOW, "<Response/>")
        } else {
            both(request)
        }
    });
    assert_eq!(names(&inventory, "web-1", later + 10).await.unwrap(), 1);
}

#[tokio::test]
async fn a_name_of_an_old_listing_is_of_no_use_when_the_host_has_another_one_now() {
    // C-10
    let (ec2, places) = in_regions(&["eu-west-1"], both).await;
    let inventory = Inventory::new(None, Some(places), HostsSeen::default());
    assert_eq!(names(&inventory, "web-1", NOW).await.unwrap(), 1);
    ec2.answer_with(|request| {
        if request.body.contains("instance-id") {
            own(&item(ID, "running", &tag("Name", "renamed")))
        } else {
            response(503, NOW, "<Response/>")
        }
    });
    assert_eq!(names(&inventory, "web-1", NOW + 60).await.unwrap(), 0);
}

#[tokio::test]
async fn a_region_that_hangs_does_not_hold_up_hosts_and_names_of_others() {
    let (ec2, places) = in_regions(&["eu-west-1", "eu-west-2"], both).await;
    let inventory = Inventory::new(None, Some(places), HostsSeen::default());
    assert_eq!(names(&inventory, "db-1", NOW).await.unwrap(), 1);
    ec2.answer_with(|request| {
        if is_for(request, "eu-west-1") {
            b"HTTP/1.1 200 OK\r\n".to_vec()
        } else {
            both(request)
        }
    });
    // A busy machine's time, and less than a Region is waited for (5 s).
    let soon = Duration::from_secs(4);
    let started = Instant::now();
    let later = NOW + 60;
    let other = OTHER.parse().unwrap();
    let found = inventory.instance(&other, "test", later).await.unwrap();
    assert!(found.is_some() && started.elapsed() < soon);
    // The first who asks waits for those 5 s, not for the 10 s that a call may take; the next ones not at all.
    let first = Instant::now();
    assert_eq!(names(&inventory, "db-1", later).await.unwrap(), 1);
    let took = first.elapsed();
    assert!(took < Duration::from_millis(9_500), "{took:?}");
    let again = Instant::now();
    assert_eq!(names(&inventory, "db-1", later + 5).await.unwrap(), 1);
    assert!(again.elapsed() < soon, "{:?}", again.elapsed());
}

#[tokio::test]
async fn nowhere_needs_the_answer_of_every_place() {
    let (_ec2, inventory) = in_regions(&["eu-west-1", "eu-west-2"], |request| {
        let first = request
            .header("host")
            .is_some_and(|host| host.contains("eu-west-1"));
        if first {
            response(503, NOW, "<Response/>")
        } else {
            own("")
        }
    })
    .await;
    let answer = inventory.instance(&ID.parse().unwrap(), "test", NOW).await;
    assert!(matches!(answer, Err(InventoryError::Ec2(_))), "{answer:?}");
    let listed = inventory.all(NOW).await;
    assert!(listed.failure.is_some() && listed.hosts.is_empty());
}

#[tokio::test]
async fn all_pages_are_read_and_shared_by_all_who_wait() {
    // C-10
    let (ec2, inventory) = asking(|request| {
        if request.body.contains("NextToken=2") {
            own(&item(ID, "running", &tag("Name", "web-2")))
        } else {
            answer(
                "111122223333",
                &item("i-00000000000000001", "running", &tag("Name", "web-1")),
                "<nextToken>2</nextToken>",
            )
        }
    })
    .await;
    let answers = all_of((0..20).map(|_| inventory.all(NOW))).await;
    assert!(
        answers
            .iter()
            .all(|listed| listed.failure.is_none() && listed.hosts.len() == 2)
    );
    assert_eq!(ec2.received().len(), 2, "two pages, once");
    inventory.all(NOW + 30).await;
    assert_eq!(ec2.received().len(), 4);
}

#[tokio::test]
async fn tags_say_what_a_host_takes() {
    use eic_protocol::api::instance::{Enrolment, InstanceConnectMode};

    for (tags, enrolment, mode) in [
        (String::new(), Enrolment::Legacy, InstanceConnectMode::On),
        (
            tag("eic:enrolled", "true"),
            Enrolment::Enrolled,
            InstanceConnectMode::On,
        ),
        (
            tag("eic:enrolled", "TRUE"),
            Enrolment::Legacy,
            InstanceConnectMode::On,
        ),
        (
            tag("eic:instance-connect", "break-glass"),
            Enrolment::Legacy,
            InstanceConnectMode::BreakGlass,
        ),
        (
            tag("eic:instance-connect", "yes please"),
            Enrolment::Legacy,
            InstanceConnectMode::Off,
        ),
    ] {
        let (_ec2, inventory) = asking(move |_| own(&item(ID, "running", &tags))).await;
        let view = instance(&inventory, NOW).await.unwrap().view(Vec::new());
        assert_eq!((view.enrolment, view.instance_connect), (enrolment, mode));
    }
    let tags = tag("eic:user", "ubuntu, deploy BAD") + &tag("eic:ssh-port", "2222");
    let (_ec2, inventory) = asking(move |_| own(&item(ID, "running", &tags))).await;
    let host = instance(&inventory, NOW).await.unwrap();
    let users: Vec<_> = host.users().iter().map(ToString::to_string).collect();
    assert_eq!(
        (users, host.view(Vec::new()).ssh_port),
        (vec!["ubuntu".to_owned(), "deploy".to_owned()], 2222)
    );
}

#[tokio::test]
async fn a_failing_service_is_not_asked_in_a_storm() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let (_ec2, inventory) = asking(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        response(503, NOW, "<Response><Errors><Error><Code>RequestLimitExceeded</Code></Error></Errors></Response>")
    })
    .await;
    assert!(
        inventory
            .instance(&ID.parse().unwrap(), "test", NOW)
            .await
            .is_err()
    );
    assert_eq!(calls.load(Ordering::SeqCst), 1, "no retry of ours");
}

#[tokio::test]
async fn hosts_that_are_looked_at_together_cost_one_listing() {
    let ids: Vec<InstanceId> = (0..50)
        .map(|n| format!("i-{n:017x}").parse().unwrap())
        .collect();
    let items: String = ids
        .iter()
        .map(|id| item(id.as_str(), "running", ""))
        .collect();
    let (ec2, inventory) = asking(move |_| own(&items)).await;
    let account: AccountId = "111122223333".parse().unwrap();
    let region = "eu-west-1".parse().unwrap();
    for id in &ids {
        let found = inventory.listed(id, &account, region, NOW).await.unwrap();
        assert_eq!(found.unwrap().id(), id);
    }
    let gone: InstanceId = ID.parse().unwrap();
    let found = inventory.listed(&gone, &account, region, NOW).await;
    assert!(found.unwrap().is_none());
    let elsewhere = "us-east-1".parse().unwrap();
    let found = inventory.listed(&ids[0], &account, elsewhere, NOW).await;
    // Known from the listing, wherever it was looked for.
    assert!(found.unwrap().is_some());
    assert_eq!(ec2.received().len(), 1);
}
