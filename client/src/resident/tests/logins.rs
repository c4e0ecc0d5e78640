//! Logins to enrolled hosts: the certificate is as asked, kept for its own identity, and offered on its own socket.

use std::os::unix::fs::FileTypeExt as _;

use eic_protocol::api::discovery::SessionMode;
use ssh_key::Certificate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::stub::{INSTANCE, STRANGER, USER_CA, World, identities, root_of, wait_for};
use crate::control::message::{Ask, Reply};
use crate::exit_code;
use crate::host_name::HostName;

fn principal(blob: &[u8]) -> String {
    Certificate::from_bytes(blob)
        .unwrap()
        .valid_principals()
        .join(",")
}

#[tokio::test]
async fn a_certificate_that_is_not_as_asked_is_not_used_and_the_field_is_named() {
    // H-01
    let world = World::new().await;
    let profile = crate::config::HostProfile {
        pattern: "i-*".to_owned(),
        ttl_seconds: Some(300),
        force_command: Some("uptime".parse().unwrap()),
        ..Default::default()
    };
    let url = crate::config::Config::load(&world.paths)
        .unwrap()
        .ca
        .unwrap()
        .url
        .to_string();
    world.configure(Some(&url), vec![profile]);
    for (tamper, field) in [
        ("public key", "public key"),
        ("extra principal", "principals"),
        ("wildcard", "principals"),
        ("lifetime", "lifetime"),
        ("type", "type"),
        ("serial", "serial"),
        ("extensions", "extensions"),
        ("force-command", "critical options"),
        ("unknown critical option", "critical options"),
        ("signature key", "signature key"),
        ("instance", "answered about"),
    ] {
        world.state().tamper = Some(tamper);
        let failure = world
            .connect(world.login("alice", INSTANCE))
            .await
            .unwrap_err();
        assert!(failure.message.contains(field), "{tamper}: {failure:?}");
        assert_eq!(failure.code, exit_code::UNTRUSTED, "{tamper}: {failure:?}");
        assert!(
            !world.socket(&format!("alice@{INSTANCE}")).exists(),
            "{tamper}"
        );
    }
    assert!(world.state().pushes.is_empty());
    world.state().tamper = None;
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
}

#[tokio::test]
async fn a_root_that_the_installed_one_does_not_lead_to_is_not_taken() {
    // H-01: the pinned key signed it, but not as the next one.
    let world = World::new().await;
    {
        let mut state = world.state();
        state.root = root_of(3, STRANGER);
        state.tamper = Some("signature key");
    }
    let login = world.connect(world.login("alice", INSTANCE)).await;
    let failure = login.unwrap_err();
    assert_eq!(failure.code, exit_code::UNTRUSTED);
    assert!(
        failure.message.contains("root document 3") && failure.message.contains("setup --undo"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn the_roots_between_are_fetched_and_one_that_does_not_follow_ends_the_walk() {
    for (kept, version) in [
        (vec![root_of(2, USER_CA), root_of(3, STRANGER)], 3),
        (vec![root_of(3, STRANGER)], 1),
        (vec![root_of(2, USER_CA), root_of(4, STRANGER)], 1),
    ] {
        let world = World::new().await;
        {
            let mut state = world.state();
            (state.root, state.kept_roots) = (root_of(3, STRANGER), kept);
            state.tamper = Some("signature key");
        }
        let login = world.connect(world.login("alice", INSTANCE)).await;
        assert_eq!(login.is_ok(), version == 3, "{login:?}");
        let ca = crate::config::Config::load(&world.paths).unwrap().ca;
        let stored = crate::config::RootChain::load(&world.paths, &ca.unwrap()).unwrap();
        assert_eq!(stored.root().version, version);
    }
}

#[tokio::test]
async fn the_next_root_is_taken_and_its_user_ca_counts() {
    let world = World::new().await;
    {
        let mut state = world.state();
        state.root = root_of(2, STRANGER);
        state.tamper = Some("signature key");
    }
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    let ca = crate::config::Config::load(&world.paths).unwrap().ca;
    let stored = crate::config::RootChain::load(&world.paths, &ca.unwrap()).unwrap();
    assert_eq!(stored.root().version, 2);
}

#[tokio::test]
async fn credentials_that_have_expired_are_told_with_what_to_run() {
    let world = World::new().await;
    let ask = crate::control::message::ConnectAsk {
        selection: world.selection("EXPIRED"),
        ..world.login("alice", INSTANCE)
    };
    let failure = world.connect(ask).await.unwrap_err();
    assert_eq!(failure.code, exit_code::CREDENTIALS);
    assert!(
        failure.message.contains("expired") && failure.message.contains("run `aws"),
        "{failure:?}"
    );
    assert!(world.state().sessions.is_empty());
}

#[tokio::test]
async fn credentials_that_aws_rejects_are_told_with_what_to_run() {
    let world = World::new().await;
    world.state().refuse_session = Some(eic_protocol::api::problem::ProblemCode::ProofRefused);
    let failure = world
        .connect(world.login("alice", INSTANCE))
        .await
        .unwrap_err();
    assert_eq!(failure.code, exit_code::CREDENTIALS);
    assert!(
        failure.message.contains("does not accept") && failure.message.contains("run `aws"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn unknown_and_ambiguous_hosts_are_refused() {
    let world = World::new().await;
    world.state().instances = vec![INSTANCE.to_owned(), super::stub::OTHER_INSTANCE.to_owned()];
    let failure = world
        .connect(world.login("alice", "web-1"))
        .await
        .unwrap_err();
    assert!(
        failure.code == exit_code::USAGE && failure.message.contains("2 instances"),
        "{failure:?}"
    );
    world.state().instances.clear();
    let failure = world
        .connect(world.login("alice", "web-2"))
        .await
        .unwrap_err();
    assert_eq!(failure.code, exit_code::DENIED, "{failure:?}");
}

#[tokio::test]
async fn a_tag_does_not_shadow_a_dns_name_or_another_address() {
    // Without a CA: what one way finds and what the other finds are told together.
    let world = World::new().await;
    world.configure(None, Vec::new());
    let (one, other) = (INSTANCE.to_owned(), super::stub::OTHER_INSTANCE.to_owned());
    {
        let mut state = world.state();
        state.by_filter = [
            ("ip-10-0-0-5.internal", vec![one.clone()]),
            ("web-1", vec![one.clone(), one.clone()]),
        ]
        .map(|(value, ids)| (value.to_owned(), ids))
        .into();
        // The look-up by Name tag finds `other`, that by private DNS name `one`.
        state.by_tag = [("ip-10-0-0-5.internal".to_owned(), vec![other.clone()])].into();
    }
    let shadowed = world
        .connect(world.login("alice", "ip-10-0-0-5.internal"))
        .await
        .unwrap_err();
    assert!(
        shadowed.message.contains(&one) && shadowed.message.contains(&other),
        "{shadowed:?}"
    );
    assert!(world.state().pushes.is_empty());
    world.connect(world.login("alice", "web-1")).await.unwrap();
}

#[tokio::test]
async fn another_profile_has_another_session_key_and_certificate() {
    // H-14
    let world = World::new().await;
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    let other = crate::control::message::ConnectAsk {
        selection: world.selection("OTHER"),
        ..world.login("alice", INSTANCE)
    };
    world.connect(other).await.unwrap();
    let state = world.state();
    assert_eq!((state.sessions.len(), state.certificates), (2, 2));
    assert_ne!(state.sessions[0], state.sessions[1]);
}

#[tokio::test]
async fn a_kept_certificate_serves_the_next_login_to_the_same_host_and_user_only() {
    // H-14
    let world = World::new().await;
    for _ in 0..3 {
        world.connect(world.login("alice", INSTANCE)).await.unwrap();
    }
    {
        let state = world.state();
        assert_eq!((state.sessions.len(), state.certificates), (1, 1));
    }
    world.connect(world.login("bob", INSTANCE)).await.unwrap();
    assert_eq!(world.state().certificates, 2);
}

#[tokio::test]
async fn two_users_at_once_each_see_their_own_certificate() {
    let world = World::new().await;
    let (alice, bob) = (world.login("alice", INSTANCE), world.login("bob", "web-1"));
    let (a, b) = tokio::join!(world.connect(alice), world.connect(bob));
    a.and(b).unwrap();
    for (name, expected) in [
        (format!("alice@{INSTANCE}"), "alice"),
        ("bob@web-1".to_owned(), "bob"),
    ] {
        let offered = identities(&world.socket(&name)).await;
        let principals: Vec<String> = offered.iter().map(|blob| principal(blob)).collect();
        assert_eq!(principals, [format!("{expected}@{INSTANCE}")]);
    }
}

#[tokio::test]
async fn where_a_grant_serves_one_request_each_request_has_its_own() {
    let world = World::new().await;
    world.state().sessions_mode = SessionMode::Off;
    world.connect(world.login("alice", "web-1")).await.unwrap();
    assert_eq!(world.state().sessions.len(), 2);
}

#[tokio::test]
async fn a_grant_that_serves_one_request_is_never_taken_twice() {
    let world = World::new().await;
    world.state().sessions_mode = SessionMode::Off;
    let users = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let logins = users.map(|user| world.connect(world.login(user, "web-1")));
    for login in crate::join::join_all(logins).await {
        login.unwrap();
    }
    let grants = world.state().grants.clone();
    let distinct: std::collections::HashSet<_> = grants.iter().collect();
    assert_eq!(distinct.len(), grants.len(), "{grants:?}");
}

#[tokio::test]
async fn a_single_use_session_belongs_to_the_task_that_opened_it() {
    let world = World::without_agent().await;
    world.state().sessions_mode = SessionMode::Off;
    let resident = world.resident();
    let setting = resident.settings.current().unwrap();
    let (ca, selection) = (setting.ca.as_ref().unwrap(), world.selection("MAIN"));
    let kind = crate::key::KeyType::default();
    let first = resident.session(ca, &selection, kind).await.unwrap();
    let second = resident.session(ca, &selection, kind).await.unwrap();
    assert!(!std::sync::Arc::ptr_eq(&first, &second));
}

#[tokio::test]
async fn a_name_too_long_for_a_socket_is_refused_with_a_remedy() {
    let world = World::new().await;
    let long = "x".repeat(120);
    let failure = world
        .connect(world.login("alice", &long))
        .await
        .unwrap_err();
    assert!(
        failure.message.contains("use the instance id"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn forwarded_requests_reach_the_users_own_agent_and_nothing_of_ours() {
    // H-20
    let world = World::new().await;
    let own = world.run_dir.parent().unwrap().join("own-agent");
    let listener = tokio::net::UnixListener::bind(&own).unwrap();
    let agent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let seen = crate::ssh_agent::message::read(&mut stream)
            .await
            .unwrap()
            .unwrap();
        stream
            .write_all(&crate::ssh_agent::message::framed(b"\x0cown"))
            .await
            .unwrap();
        seen
    });
    let ask = crate::control::message::ConnectAsk {
        user_agent: Some(own),
        ..world.login("alice", INSTANCE)
    };
    world.connect(ask).await.unwrap();
    let mut bind = eic_protocol::wire::Writer::new();
    bind.byte(27)
        .string(b"session-bind@openssh.com")
        .string(b"k")
        .string(b"s")
        .string(b"x")
        .byte(1);
    let mut stream = tokio::net::UnixStream::connect(world.socket(&format!("alice@{INSTANCE}")))
        .await
        .unwrap();
    stream
        .write_all(&crate::ssh_agent::message::framed(bind.as_slice()))
        .await
        .unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"\0\0\0\x04\x0cown");
    assert_eq!(agent.await.unwrap(), bind.as_slice());
}

#[tokio::test]
async fn status_shows_no_secret_and_logout_leaves_nothing() {
    // H-05
    let world = World::new().await;
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    let (_, Reply::Status(status)) = world.ask(Ask::Status).await else {
        panic!()
    };
    assert_eq!(
        (
            status.sessions.len(),
            status.certificates.len(),
            status.logins.len()
        ),
        (1, 1, 1)
    );
    let shown = serde_json::to_string(&status).unwrap();
    assert!(
        !shown.contains("grant.") && !shown.contains("\"secret\""),
        "{shown}"
    );
    let (_, Reply::LoggedOut { sessions }) = world.ask(Ask::Logout).await else {
        panic!()
    };
    assert_eq!(sessions, 1);
    let (socket, login) = (
        crate::control::socket_path(&world.run_dir),
        world.socket(&format!("alice@{INSTANCE}")),
    );
    wait_for(|| !socket.exists() && !login.exists()).await;
}

#[tokio::test]
async fn signing_in_tells_who_and_what() {
    let world = World::new().await;
    let (_, Reply::SignedIn(signed_in)) = world.ask(Ask::SignIn(world.selection("MAIN"))).await
    else {
        panic!()
    };
    assert_eq!(signed_in.caller.unwrap().name, "alice");
    assert_eq!(signed_in.instances.len(), 1);
}

#[tokio::test]
async fn sockets_and_their_folder_are_for_the_owner_only() {
    // H-04
    use std::os::unix::fs::MetadataExt as _;
    let world = World::new().await;
    world.connect(world.login("alice", INSTANCE)).await.unwrap();
    assert_eq!(
        std::fs::metadata(&world.run_dir).unwrap().mode() & 0o777,
        0o700
    );
    let meta = std::fs::metadata(crate::control::socket_path(&world.run_dir)).unwrap();
    assert!(meta.file_type().is_socket() && meta.mode() & 0o077 == 0);
    let host: HostName = INSTANCE.parse().unwrap();
    assert!(world.socket(&format!("alice@{host}")).exists());
}
