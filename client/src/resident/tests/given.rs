//! An instance that EC2 may not be asked about, taken as the command line gives it: hardly ever.

use eic_protocol::api::instance::InstanceConnectMode;

use super::by_hand::push_to;
use super::stub::{HOST_CA, INSTANCE, OTHER_INSTANCE, World, host_certificate, public};
use crate::config::{Config, HostProfile, Place};
use crate::control::message::{Ask, ConnectAsk, Given, Reply};
use crate::exit_code;
use crate::files;

const LOOK_UP: &str = "cannot look up the host (ec2:DescribeInstances)";

/// Without a CA, and with a role that may push and nothing else.
async fn world() -> World {
    let world = World::new().await;
    world.configure(None, Vec::new());
    forbid(&world);
    world
}

fn forbid(world: &World) {
    world.state().aws_refuses = Some(("DescribeInstances", "UnauthorizedOperation"));
}

/// As `mssh -t INSTANCE -z ZONE ADDRESS` asks.
fn given(world: &World, host: &str, zone: Option<&str>) -> ConnectAsk {
    let zone = zone.map(|zone| zone.parse().unwrap());
    ConnectAsk {
        given: Some(Given { zone }),
        ..world.login("ubuntu", host)
    }
}

#[tokio::test]
async fn an_address_that_nobody_gave_must_come_from_ec2() {
    let world = world().await;
    // What was taken as given is not kept for those who need an address.
    world.connect(given(&world, INSTANCE, None)).await.unwrap();
    let login = world.connect(world.login("ubuntu", INSTANCE)).await;
    let failure = login.unwrap_err();
    assert!(failure.message.contains(LOOK_UP), "{failure:?}");
    assert_eq!(failure.code, exit_code::DENIED);
    let explained = world.ask(Ask::Explain(world.login("ubuntu", INSTANCE)));
    assert!(matches!(explained.await.1, Reply::Failed(_)));
    assert_eq!(world.state().pushes.len(), 1);
}

#[tokio::test]
async fn only_a_missing_permission_leads_past_ec2() {
    for code in [
        "AccessDenied",
        "AuthFailure",
        "ExpiredToken",
        "InternalError",
        "InvalidInstanceID.NotFound",
        "OptInRequired",
        "RequestLimitExceeded",
        "",
    ] {
        let world = world().await;
        world.state().aws_refuses = Some(("DescribeInstances", code));
        let login = world.connect(given(&world, INSTANCE, None)).await;
        assert!(login.is_err(), "{code}");
        assert!(push_to(&world, INSTANCE, false).await.is_err(), "{code}");
        assert!(world.state().pushes.is_empty(), "{code}");
    }
    // One that is not there.
    let world = world().await;
    world.state().aws_refuses = None;
    world.state().instances.clear();
    assert!(world.connect(given(&world, INSTANCE, None)).await.is_err());
    assert!(world.state().pushes.is_empty());
}

#[tokio::test]
async fn with_a_ca_nothing_is_taken_as_given() {
    // H-18: absent, it leaves EC2's word, and that is missing.
    let world = World::new().await;
    forbid(&world);
    world.state().absent = true;
    let failure = world.connect(given(&world, INSTANCE, None)).await;
    let failure = failure.unwrap_err();
    assert!(failure.message.contains(LOOK_UP), "{failure:?}");
    for console in [false, true] {
        assert!(push_to(&world, INSTANCE, console).await.is_err());
    }
    assert!(world.state().pushes.is_empty());
}

#[tokio::test]
async fn a_name_an_address_or_a_machine_outside_ec2_is_never_taken_as_given() {
    let world = world().await;
    for host in ["web-1", "10.0.0.5", "mi-0123456789abcdef0"] {
        let failure = world.connect(given(&world, host, None)).await.unwrap_err();
        assert!(failure.message.contains(LOOK_UP), "{host}: {failure:?}");
        assert!(push_to(&world, host, true).await.is_err(), "{host}");
    }
    assert!(world.state().pushes.is_empty());
}

#[tokio::test]
async fn no_key_is_pushed_in_a_region_that_nobody_named() {
    let world = world().await;
    let elsewhere = given(&world, INSTANCE, Some("us-east-1a"));
    assert!(world.connect(elsewhere).await.is_err());
    world.credentials_name_no_region();
    world.ask(Ask::Logout).await;
    let socket = crate::control::socket_path(&world.run_dir);
    super::stub::wait_for(|| !socket.exists()).await;
    world.start();
    world.credentials_name_no_region();
    for zone in [None, Some("eu-moon-1a")] {
        let login = world.connect(given(&world, INSTANCE, zone)).await;
        let failure = login.unwrap_err();
        assert!(failure.message.contains(LOOK_UP), "{failure:?}");
    }
    assert!(push_to(&world, INSTANCE, false).await.is_err());
    assert!(world.state().pushes.is_empty());
    let named = given(&world, INSTANCE, Some("eu-central-1b"));
    world.connect(named).await.unwrap();
    assert_eq!(world.state().pushed_in, ["eu-central-1 eu-central-1b"]);
}

#[tokio::test]
async fn of_several_places_none_is_guessed() {
    let world = world().await;
    let place = |name: &str, regions: &[&str]| Place {
        name: name.to_owned(),
        profile: None,
        regions: regions.iter().map(|r| r.parse().unwrap()).collect(),
        account: None,
        optional: false,
    };
    let places = vec![
        place("prod", &["eu-west-1", "us-east-1"]),
        place("dev", &["eu-west-2"]),
    ];
    let config = Config {
        places,
        ..Config::load(&world.paths).unwrap()
    };
    let text = config.to_toml().unwrap();
    files::write_atomic(&world.paths.config_file(), text.as_bytes(), 0o600).unwrap();
    for host in [INSTANCE.to_owned(), format!("prod/{INSTANCE}")] {
        let login = world.connect(given(&world, &host, None)).await;
        assert!(login.is_err(), "{host}");
    }
    assert!(world.state().pushes.is_empty());
    let one = given(&world, &format!("dev/{INSTANCE}"), None);
    world.connect(one).await.unwrap();
    assert_eq!(world.state().pushed_in, ["eu-west-2"]);
}

#[tokio::test]
async fn what_closes_instance_connect_without_ec2_closes_it_for_an_instance_as_given_too() {
    // H-18: seen enrolled before.
    let world = World::new().await;
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    world.configure(None, Vec::new());
    forbid(&world);
    let failure = world.connect(given(&world, INSTANCE, None)).await;
    let failure = failure.unwrap_err();
    assert!(failure.message.contains("enrolled"), "{failure:?}");
    assert!(push_to(&world, INSTANCE, false).await.is_err());
    let off = HostProfile {
        instance_connect: InstanceConnectMode::Off,
        ..HostProfile::default()
    };
    world.configure(None, vec![off]);
    let other = world.connect(given(&world, OTHER_INSTANCE, None)).await;
    assert!(other.unwrap_err().message.contains("switched off"));
    for console in [false, true] {
        assert!(push_to(&world, OTHER_INSTANCE, console).await.is_err());
    }
    assert!(world.state().pushes.is_empty());
}

#[tokio::test]
async fn the_host_key_of_an_instance_as_given_is_judged_as_any_other() {
    // H-09
    let world = world().await;
    let begin = "-----BEGIN SSH HOST KEY KEYS-----";
    let end = "-----END SSH HOST KEY KEYS-----";
    world.state().console = format!("{begin}\n{}\n{end}\n", public(20));
    world.connect(given(&world, INSTANCE, None)).await.unwrap();
    let other = public(21).blob().to_vec();
    let refused = world.host_key("ubuntu", INSTANCE, Some(&other)).await;
    assert_eq!(refused.unwrap_err().code, exit_code::UNTRUSTED);
    // The console may not be read either: the first key is remembered, and no other taken after it.
    let world = self::world().await;
    world.connect(given(&world, INSTANCE, None)).await.unwrap();
    world.state().aws_refuses = Some(("GetConsoleOutput", "RequestLimitExceeded"));
    let not_now = world.host_key("ubuntu", INSTANCE, Some(&other)).await;
    assert!(not_now.is_err());
    world.state().aws_refuses = Some(("GetConsoleOutput", "UnauthorizedOperation"));
    let first = world.host_key("ubuntu", INSTANCE, Some(&other)).await;
    let (_, notes) = first.unwrap();
    assert!(notes[0].contains("nothing vouches"), "{notes:?}");
    for changed in [
        public(22).blob().to_vec(),
        host_certificate(HOST_CA, INSTANCE, 22),
    ] {
        let changed = world.host_key("ubuntu", INSTANCE, Some(&changed)).await;
        assert_eq!(changed.unwrap_err().code, exit_code::UNTRUSTED);
    }
}

#[tokio::test]
async fn a_role_that_may_only_push_is_enough_where_the_address_is_given() {
    let world = world().await;
    let login = given(&world, INSTANCE, Some("eu-west-1a"));
    let notes = world.connect(login).await.unwrap();
    assert!(notes[0].contains("its tags do not count"), "{notes:?}");
    // The address is known from the command line, so ssh gets none from here.
    let explained = world.ask(Ask::Explain(given(&world, INSTANCE, None))).await;
    let Reply::Explained(told) = explained.1 else {
        panic!("{explained:?}")
    };
    assert!(told.host.addresses.is_empty());
    let state = world.state();
    assert_eq!(state.pushes, [format!("ubuntu@{INSTANCE}")]);
    assert_eq!(state.pushed_in, ["eu-west-1 eu-west-1a"]);
}

#[tokio::test]
async fn a_role_that_may_only_push_is_enough_for_a_push_by_hand() {
    let world = world().await;
    for console in [false, true] {
        let pushed = push_to(&world, INSTANCE, console).await.unwrap();
        assert_eq!(pushed.instance.as_str(), INSTANCE);
        assert_eq!(pushed.region.as_str(), "eu-west-1");
    }
    let pushes = world.state().pushes.clone();
    let expected = [
        format!("ubuntu@{INSTANCE}"),
        format!("console 0@{INSTANCE}"),
    ];
    assert_eq!(pushes, expected);
    assert_eq!(world.state().pushed_in, ["eu-west-1"]);
}
