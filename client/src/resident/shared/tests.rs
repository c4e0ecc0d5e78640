//! Renewal while the command runs, against the stand-ins.

use super::super::tests::stub::{INSTANCE, World};
use super::*;

/// Two accounts, each under a name of its own.
async fn opened(world: &World) -> Arc<SharedSocket> {
    world.state().by_name = [
        ("web-1".to_owned(), vec![INSTANCE.to_owned()]),
        ("web-2".to_owned(), vec![INSTANCE.to_owned()]),
    ]
    .into();
    let target = |user: &str, host: &str| Wanted::Target(Box::new(world.login(user, host)));
    let wanted = vec![target("alice", "web-1"), target("bob", "web-2")];
    let resident = Arc::new(world.resident());
    let opened = SharedSocket::open(resident, &world.run_dir, wanted, None).await;
    opened.unwrap().0
}

#[tokio::test]
async fn one_identity_that_cannot_be_had_opens_no_socket() {
    let world = World::without_agent().await;
    world.state().by_name = [("web-9".to_owned(), Vec::new())].into();
    let target = |host: &str| Wanted::Target(Box::new(world.login("alice", host)));
    let wanted = vec![target("web-1"), target("web-9")];
    let resident = Arc::new(world.resident());
    let refused = SharedSocket::open(resident, &world.run_dir, wanted, None).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn one_that_cannot_be_renewed_keeps_no_later_one_from_it_and_is_told_once() {
    let world = World::without_agent().await;
    let socket = opened(&world).await;
    let before = world.state().certificates;
    // The first host is gone; the second one's certificate has ended.
    world.state().by_name.insert("web-1".to_owned(), Vec::new());
    socket.resident.routes.clear();
    socket.resident.certificates.clear();
    let told = socket.renew().await;
    assert!(told.len() == 1 && told[0].contains("web-1"), "{told:?}");
    assert_eq!(world.state().certificates, before + 1);
    assert_eq!(socket.identities().await.len(), 2, "the old one is offered");
    assert_eq!(socket.renew().await, Vec::<String>::new());
    // Another reason is news.
    socket.resident.certificates.clear();
    world.state().refuse = Some(eic_protocol::api::problem::ProblemCode::NotAllowed);
    let told = socket.renew().await;
    assert!(
        told.len() == 1 && told[0].contains("not-allowed"),
        "{told:?}"
    );
}
