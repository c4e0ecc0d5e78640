//! When a key is pushed, and above all when not, over the whole path of a login (H-18).

use eic_protocol::api::event::{ClientEvent, PushCause};
use eic_protocol::api::instance::{Enrolment, InstanceConnectMode};
use eic_protocol::api::problem::ProblemCode;

use super::stub::{INSTANCE, World, identities, wait_for};
use crate::config::{Config, HostProfile};
use crate::control::message::{Ask, Reply};
use crate::exit_code;

fn url(world: &World) -> String {
    Config::load(&world.paths)
        .unwrap()
        .ca
        .unwrap()
        .url
        .to_string()
}

/// A port on which nobody listens.
fn dead_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_refusal_of_the_ca_never_leads_to_a_push() {
    // H-18
    let world = World::new().await;
    world.state().enrolment = Enrolment::Legacy;
    for code in [
        ProblemCode::NotAllowed,
        ProblemCode::ConditionsNotMet,
        ProblemCode::CallerRevoked,
        ProblemCode::TooManyRequests,
        ProblemCode::Internal,
    ] {
        world.state().refuse = Some(code);
        let failure = world
            .connect(world.login("alice", INSTANCE))
            .await
            .unwrap_err();
        assert!(failure.message.contains(code.as_str()), "{failure:?}");
    }
    assert!(world.state().pushes.is_empty());
}

#[tokio::test]
async fn a_refusal_counts_also_where_the_inventory_is_absent() {
    // H-18: one 503 does not make the 403 beside it an absence.
    let world = World::new().await;
    world.state().blind = true;
    world.state().refuse = Some(ProblemCode::NotAllowed);
    for host in [INSTANCE, "web-1"] {
        assert!(
            world
                .connect(world.login("alice", host))
                .await
                .unwrap_err()
                .message
                .contains("not-allowed")
        );
    }
    assert!(world.state().pushes.is_empty());
}

#[tokio::test]
async fn what_the_certificate_answer_says_counts_where_the_inventory_is_absent() {
    // H-18: found through EC2, known as legacy from before; the certificate's answer forbids the push.
    for (enrolment, mode) in [
        (Enrolment::Enrolled, InstanceConnectMode::On),
        (Enrolment::Legacy, InstanceConnectMode::Off),
        (Enrolment::Legacy, InstanceConnectMode::BreakGlass),
    ] {
        let world = World::new().await;
        world.state().enrolment = Enrolment::Legacy;
        world.connect(world.login("alice", INSTANCE)).await.unwrap();
        let key = super::stub::public(20);
        let shown = world.host_key("alice", INSTANCE, Some(key.blob())).await;
        shown.unwrap();
        {
            let mut state = world.state();
            (state.blind, state.enrolment, state.mode) = (true, enrolment, mode);
            state.pushes.clear();
        }
        // Another name: its resolution is not kept, and the CA cannot give it.
        let login = world.connect(world.login("bob", "web-1")).await;
        assert_eq!(login.is_ok(), enrolment == Enrolment::Enrolled, "{login:?}");
        assert!(world.state().pushes.is_empty(), "{enrolment:?} {mode:?}");
    }
}

#[tokio::test]
async fn the_newer_of_two_answers_within_one_second_counts() {
    // A kept certificate's answer said "not known", the inventory says "legacy" a moment later.
    let world = World::new().await;
    world.state().enrolment = Enrolment::Unknown;
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    world.state().enrolment = Enrolment::Legacy;
    world.connect(world.login("alice", "web-1")).await.unwrap();
    assert_eq!(world.state().pushes, [format!("alice@{INSTANCE}")]);
    assert_eq!(world.state().certificates, 1);
}

#[tokio::test]
async fn a_tls_error_never_leads_to_a_push() {
    // H-02, H-18: something else answers at the CA's address.
    let world = World::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    world.configure(
        Some(&format!("https://{}", listener.local_addr().unwrap())),
        Vec::new(),
    );
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        }
    });
    let failure = world
        .connect(world.login("alice", INSTANCE))
        .await
        .unwrap_err();
    assert_eq!(failure.code, exit_code::UNTRUSTED, "{failure:?}");
    assert!(world.state().pushes.is_empty() && world.state().sessions.is_empty());
}

#[tokio::test]
async fn an_unknown_instance_never_leads_to_a_push() {
    // H-18
    let world = World::new().await;
    world.state().instances.clear();
    assert!(world.connect(world.login("alice", INSTANCE)).await.is_err());
    assert!(world.state().pushes.is_empty());
}

#[tokio::test]
async fn a_restricted_certificate_for_a_legacy_host_never_leads_to_a_push() {
    // H-18
    let world = World::new().await;
    world.state().enrolment = Enrolment::Legacy;
    world.state().restricted = true;
    assert!(
        world
            .connect(world.login("alice", INSTANCE))
            .await
            .unwrap_err()
            .message
            .contains("restrictions")
    );
    world.state().restricted = false;
    let restricted = HostProfile {
        force_command: Some("uptime".parse().unwrap()),
        ..HostProfile::default()
    };
    world.configure(Some(&url(&world)), vec![restricted]);
    assert!(
        world
            .connect(world.login("alice", INSTANCE))
            .await
            .unwrap_err()
            .message
            .contains("restrictions")
    );
    assert!(world.state().pushes.is_empty());
}

#[tokio::test]
async fn a_host_once_seen_enrolled_gets_no_push_while_the_ca_is_absent() {
    // H-18
    let world = World::new().await;
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    world.state().absent = true;
    let failure = world
        .connect(world.login("bob", INSTANCE))
        .await
        .unwrap_err();
    assert!(
        failure.message.contains("enrolled") && failure.message.contains("the CA refused"),
        "{failure:?}"
    );
    world.configure(Some(&dead_url()), Vec::new());
    assert!(world.connect(world.login("carol", INSTANCE)).await.is_err());
    assert!(world.state().pushes.is_empty());
}

#[tokio::test]
async fn where_pushing_is_off_none_happens() {
    let world = World::new().await;
    world.state().enrolment = Enrolment::Legacy;
    for mode in [InstanceConnectMode::Off, InstanceConnectMode::BreakGlass] {
        world.state().mode = mode;
        assert!(world.connect(world.login("alice", INSTANCE)).await.is_err());
    }
    assert!(world.state().pushes.is_empty());
}

#[tokio::test]
async fn a_legacy_host_gets_the_sessions_key_and_the_ca_is_told() {
    let world = World::new().await;
    world.state().enrolment = Enrolment::Legacy;
    let notes = world.connect(world.login("alice", INSTANCE)).await.unwrap();
    assert!(
        notes.len() == 1 && notes[0].contains("Instance Connect"),
        "{notes:?}"
    );
    assert_eq!(world.state().pushes, [format!("alice@{INSTANCE}")]);
    let offered = identities(&world.socket(&format!("alice@{INSTANCE}"))).await;
    assert!(
        ssh_key::Certificate::from_bytes(&offered[0]).is_ok(),
        "the certificate comes first"
    );
    assert_eq!(
        offered[1],
        world.state().sessions[0].blob(),
        "the pushed key is the session's"
    );
    wait_for(|| !world.state().events.is_empty()).await;
    let ClientEvent::KeyPushed {
        cause,
        aws_request_id,
        ..
    } = world.state().events[0].clone();
    assert_eq!(
        (cause, aws_request_id.as_str()),
        (PushCause::LegacyHost, "aws-1")
    );
}

#[tokio::test]
async fn an_absent_ca_leads_to_a_push_that_is_reported_later() {
    let world = World::new().await;
    world.state().absent = true;
    let notes = world.connect(world.login("alice", INSTANCE)).await.unwrap();
    assert!(notes[0].contains("without a certificate"), "{notes:?}");
    let offered = identities(&world.socket(&format!("alice@{INSTANCE}"))).await;
    assert!(offered.len() == 1 && ssh_key::Certificate::from_bytes(&offered[0]).is_err());
    assert!(world.paths.state_dir.join("events.json").exists());
    world.state().absent = false;
    let (_, Reply::SignedIn(_)) = world.ask(Ask::SignIn(world.selection("MAIN"))).await else {
        panic!()
    };
    wait_for(|| world.state().events.len() == 1).await;
    wait_for(|| !world.paths.state_dir.join("events.json").exists()).await;
}

#[tokio::test]
async fn a_push_is_never_reported_under_another_identity() {
    // H-14: the same profile, which leads to other credentials by the time that the CA is back.
    let world = World::new().await;
    world.state().absent = true;
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    {
        let mut state = world.state();
        (state.absent, state.user_id) = (false, "AIDB".to_owned());
    }
    let other = world.selection("MAIN");
    world.credentials_become("AKIA000000000OTHER");
    let (_, Reply::SignedIn(_)) = world.ask(Ask::SignIn(other.clone())).await else {
        panic!()
    };
    // The agent has asked for what may be sent by now: the sign-in answers after it.
    assert_eq!(world.state().events.len(), 0);
    world.credentials_become("AKIA0000000000MAIN");
    let (_, Reply::SignedIn(_)) = world.ask(Ask::SignIn(other)).await else {
        panic!()
    };
    assert_eq!(world.state().events.len(), 1);
}

#[tokio::test]
async fn a_ca_that_refuses_connections_is_absent() {
    let world = World::new().await;
    world.configure(Some(&dead_url()), Vec::new());
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    assert_eq!(world.state().pushes.len(), 1);
}

#[tokio::test]
async fn without_a_ca_it_is_an_instance_connect_client() {
    let world = World::new().await;
    world.configure(None, Vec::new());
    world
        .connect(world.login("ubuntu", INSTANCE))
        .await
        .unwrap();
    world.connect(world.login("ubuntu", "web-1")).await.unwrap();
    let state = world.state();
    assert_eq!(
        (state.pushes.len(), state.sessions.len(), state.events.len()),
        (2, 0, 0)
    );
}

#[tokio::test]
async fn without_a_ca_an_enrolled_host_is_refused_before_a_key_is_pushed() {
    let world = World::new().await;
    world.configure(None, Vec::new());
    world.tag("eic:enrolled", "true");
    for host in [INSTANCE, "web-1"] {
        let login = world.connect(world.login("ubuntu", host)).await;
        let failure = login.unwrap_err();
        assert_eq!(failure.code, exit_code::DENIED, "{failure:?}");
        assert!(
            failure.message.contains("eic-login setup URL"),
            "{failure:?}"
        );
    }
    assert!(world.state().pushes.is_empty());
}
