//! `push` and `explain` over the control socket: the rules of a login, without the login.

use eic_protocol::api::instance::{Enrolment, InstanceConnectMode};

use super::stub::{INSTANCE, World, public, wait_for};
use crate::control::message::{Ask, Explanation, PushAsk, Pushed, Reply};
use crate::exit_code::{self, Failure};

async fn push(world: &World, serial_console: bool) -> Result<Pushed, Failure> {
    push_to(world, "web-1", serial_console).await
}

pub(super) async fn push_to(
    world: &World,
    host: &str,
    serial_console: bool,
) -> Result<Pushed, Failure> {
    let ask = PushAsk {
        login: world.login("ubuntu", host),
        key: public(40),
        serial_console,
    };
    match world.ask(Ask::Push(ask)).await.1 {
        Reply::Pushed(pushed) => Ok(pushed),
        Reply::Failed(failure) => Err(failure),
        other => panic!("{other:?}"),
    }
}

async fn explain(world: &World, user: &str) -> Explanation {
    match world.ask(Ask::Explain(world.login(user, "web-1"))).await.1 {
        Reply::Explained(told) => *told,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_key_is_pushed_by_hand_where_a_login_would_push_none() {
    // H-18
    let world = World::new().await;
    for (enrolment, mode) in [
        (Enrolment::Enrolled, InstanceConnectMode::On),
        (Enrolment::Unknown, InstanceConnectMode::On),
    ] {
        {
            let mut state = world.state();
            (state.enrolment, state.mode) = (enrolment, mode);
        }
        let refused = push(&world, false).await.unwrap_err();
        assert_eq!(refused.code, exit_code::DENIED, "{refused:?}");
        world.ask(Ask::Logout).await;
        return_to(&world).await;
    }
    assert!(world.state().pushes.is_empty());
    // A host that takes pushed keys, and a policy that says no; or one that wants restrictions.
    let world = World::new().await;
    world.state().enrolment = Enrolment::Legacy;
    world.state().refuse = Some(eic_protocol::api::problem::ProblemCode::NotAllowed);
    let refused = push(&world, false).await.unwrap_err();
    assert!(refused.message.contains("not-allowed"), "{refused:?}");
    world.state().refuse = None;
    world.state().restricted = true;
    let refused = push(&world, false).await.unwrap_err();
    assert!(refused.message.contains("restrictions"), "{refused:?}");
    let off = World::new().await;
    off.configure(None, Vec::new());
    off.tag("eic:instance-connect", "off");
    for console in [false, true] {
        let refused = push(&off, console).await.unwrap_err();
        assert!(refused.message.contains("switched off"), "{refused:?}");
    }
    assert!(world.state().pushes.is_empty() && off.state().pushes.is_empty());
}

/// After a logout the agent is gone: another one of the same world.
async fn return_to(world: &World) {
    let socket = crate::control::socket_path(&world.run_dir);
    wait_for(|| !socket.exists()).await;
    world.start();
}

#[tokio::test]
async fn a_key_pushed_by_hand_to_a_legacy_host_is_told_to_the_ca() {
    let world = World::new().await;
    world.state().enrolment = Enrolment::Legacy;
    let pushed = push(&world, false).await.unwrap();
    assert_eq!(pushed.aws_request_id, "aws-1");
    assert_eq!(world.state().pushes, [format!("ubuntu@{INSTANCE}")]);
    wait_for(|| world.state().events.len() == 1).await;
}

#[tokio::test]
async fn the_serial_console_gets_a_key_of_its_own_call() {
    let world = World::new().await;
    let pushed = push(&world, true).await.unwrap();
    assert_eq!(pushed.instance.as_str(), INSTANCE);
    assert_eq!(world.state().pushes, [format!("console 0@{INSTANCE}")]);
}

#[tokio::test]
async fn the_serial_console_is_closed_by_what_closes_instance_connect() {
    // H-18
    let world = World::new().await;
    world.state().mode = InstanceConnectMode::BreakGlass;
    let refused = push(&world, true).await.unwrap_err();
    assert!(refused.message.contains("for emergencies"), "{refused:?}");
    assert_eq!(refused.code, exit_code::DENIED);
    // The emergency: the CA is away, and EC2 is asked.
    let away = World::new().await;
    away.tag("eic:instance-connect", "break-glass");
    away.state().absent = true;
    push(&away, true).await.unwrap();
    let restricted = World::new().await;
    let url = restricted.aws.clone();
    let profile = crate::config::HostProfile {
        extensions: Some(std::collections::BTreeSet::new()),
        ..Default::default()
    };
    restricted.configure(Some(&url), vec![profile]);
    let refused = push(&restricted, true).await.unwrap_err();
    assert!(refused.message.contains("restrictions"), "{refused:?}");
    assert!(world.state().pushes.is_empty() && restricted.state().pushes.is_empty());
}

#[tokio::test]
async fn what_is_explained_is_not_done() {
    let world = World::new().await;
    {
        let mut state = world.state();
        state.enrolment = Enrolment::Legacy;
        state.users = vec!["ubuntu".to_owned()];
    }
    let told = explain(&world, "ubuntu").await;
    assert!(told.told_by_ca && told.user_known == Some(true));
    assert!(
        told.now.contains("a key is pushed") && told.host_key.contains("nothing is remembered")
    );
    assert_eq!(explain(&world, "alice").await.user_known, Some(false));
    let state = world.state();
    assert_eq!((state.certificates, state.pushes.len()), (0, 0));
}

#[tokio::test]
async fn an_enrolled_host_is_explained_by_its_certificates() {
    let world = World::new().await;
    let told = explain(&world, "ubuntu").await;
    assert!(told.now.contains("a certificate opens it"), "{told:?}");
    assert!(told.without_ca.contains("no login"), "{told:?}");
    let host_ca = public(super::stub::HOST_CA).fingerprint();
    assert!(told.host_key.contains(&host_ca), "{told:?}");
}
