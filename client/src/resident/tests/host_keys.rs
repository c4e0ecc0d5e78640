//! What KnownHostsCommand gets for the keys that a host, or somebody in its place, shows.

use eic_protocol::api::instance::Enrolment;

use super::stub::{HOST_CA, INSTANCE, OTHER_INSTANCE, World, host_certificate, public};
use crate::cause::Cause;
use crate::exit_code;

#[tokio::test]
async fn a_login_that_the_ca_denies_has_no_host_key() {
    let world = World::new().await;
    world.state().refuse = Some(eic_protocol::api::problem::ProblemCode::NotAllowed);
    for key in [None, Some(host_certificate(HOST_CA, INSTANCE, 20))] {
        assert_eq!(
            world
                .host_key("alice", INSTANCE, key.as_deref())
                .await
                .unwrap_err()
                .code,
            exit_code::DENIED
        );
    }
}

#[tokio::test]
async fn behind_a_jump_host_the_login_opens_with_the_first_question() {
    let world = World::new().await;
    assert_eq!(
        world.host_key("alice", INSTANCE, None).await.unwrap().0,
        Vec::<String>::new()
    );
    assert!(world.socket(&format!("alice@{INSTANCE}")).exists());
    let certificate = host_certificate(HOST_CA, INSTANCE, 20);
    assert_eq!(
        world
            .host_key("alice", INSTANCE, Some(&certificate))
            .await
            .unwrap()
            .0,
        [public(20).to_string()]
    );
    assert_eq!(world.state().certificates, 1);
}

#[tokio::test]
async fn another_hosts_valid_certificate_and_plain_keys_are_refused() {
    // H-10, H-21
    let world = World::new().await;
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    for shown in [
        host_certificate(HOST_CA, OTHER_INSTANCE, 20),
        host_certificate(9, INSTANCE, 20),
        host_certificate(HOST_CA, "web-1", 20),
        public(20).blob().to_vec(),
    ] {
        assert_eq!(
            world
                .host_key("alice", INSTANCE, Some(&shown))
                .await
                .unwrap_err()
                .code,
            exit_code::UNTRUSTED
        );
    }
}

#[tokio::test]
async fn the_leaf_key_of_the_right_certificate_is_given_and_remembered() {
    let world = World::new().await;
    world.state().enrolment = Enrolment::Unknown;
    world.connect(world.login("alice", "web-1")).await.unwrap();
    let (keys, notes) = world
        .host_key(
            "alice",
            "web-1",
            Some(&host_certificate(HOST_CA, INSTANCE, 20)),
        )
        .await
        .unwrap();
    assert_eq!((keys, notes.len()), (vec![public(20).to_string()], 0));
    // From now on it is enrolled, whatever the inventory says.
    assert!(
        world
            .host_key("alice", "web-1", Some(public(20).blob()))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_legacy_host_must_show_a_key_of_its_console() {
    let world = World::new().await;
    world.state().enrolment = Enrolment::Legacy;
    world.state().console = format!(
        "-----BEGIN SSH HOST KEY KEYS-----\n{} root@x\n-----END SSH HOST KEY KEYS-----\n",
        public(20)
    );
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    let failure = world
        .host_key("alice", INSTANCE, Some(public(21).blob()))
        .await
        .unwrap_err();
    assert!(failure.message.contains("console"), "{failure:?}");
    let (keys, notes) = world
        .host_key("alice", INSTANCE, Some(public(20).blob()))
        .await
        .unwrap();
    assert_eq!((keys, notes.len()), (vec![public(20).to_string()], 1));
    // Remembered: ssh is told beforehand, and a change is refused.
    assert_eq!(
        world.host_key("alice", INSTANCE, None).await.unwrap().0,
        [public(20).to_string()]
    );
    assert!(
        world
            .host_key("alice", INSTANCE, Some(public(21).blob()))
            .await
            .unwrap_err()
            .message
            .contains("changed")
    );
}

#[tokio::test]
async fn a_key_that_the_host_never_told_the_ca_is_refused_whatever_its_console_says() {
    let world = World::new().await;
    {
        let mut state = world.state();
        state.enrolment = Enrolment::Legacy;
        state.host_keys = vec![public(20), public(22)];
        state.console = format!(
            "-----BEGIN SSH HOST KEY KEYS-----\n{} root@x\n-----END SSH HOST KEY KEYS-----\n",
            public(21)
        );
    }
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    let failure = world
        .host_key("alice", INSTANCE, Some(public(21).blob()))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.code, failure.cause),
        (exit_code::UNTRUSTED, Cause::NotHarvested),
        "{failure:?}"
    );
    // Nothing of it is remembered.
    let expected = world.host_key("alice", INSTANCE, None).await.unwrap().0;
    assert!(expected.is_empty(), "{expected:?}");
}

#[tokio::test]
async fn a_key_that_the_host_told_the_ca_is_known_at_the_first_login() {
    let world = World::new().await;
    world.state().enrolment = Enrolment::Legacy;
    world.state().host_keys = vec![public(20), public(22)];
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    let (keys, notes) = world
        .host_key("alice", INSTANCE, Some(public(20).blob()))
        .await
        .unwrap();
    assert_eq!(keys, [public(20).to_string()]);
    assert!(notes[0].contains("told the CA"), "{notes:?}");
    // All that it told are expected from now on.
    let mut expected = world.host_key("alice", INSTANCE, None).await.unwrap().0;
    expected.sort();
    let mut told = [public(20).to_string(), public(22).to_string()];
    told.sort();
    assert_eq!(expected, told);
}

#[tokio::test]
async fn first_use_is_said_and_then_expected() {
    let world = World::new().await;
    world.state().enrolment = Enrolment::Legacy;
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    let (_, notes) = world
        .host_key("alice", INSTANCE, Some(public(20).blob()))
        .await
        .unwrap();
    assert!(
        notes[0].contains("first login") && notes[0].contains(&public(20).fingerprint()),
        "{notes:?}"
    );
    let (_, notes) = world
        .host_key("alice", INSTANCE, Some(public(20).blob()))
        .await
        .unwrap();
    assert!(notes.is_empty());
    assert!(
        world
            .host_key("alice", INSTANCE, Some(public(21).blob()))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn two_first_meetings_at_once_do_not_both_win() {
    let world = World::new().await;
    world.state().enrolment = Enrolment::Legacy;
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    let (a, b) = (public(20), public(21));
    let (first, second) = tokio::join!(
        world.host_key("alice", INSTANCE, Some(a.blob())),
        world.host_key("alice", INSTANCE, Some(b.blob())),
    );
    assert_ne!(first.is_ok(), second.is_ok(), "{first:?} {second:?}");
}
