//! Peers that send what no program of ours sends.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::people::tests::welcome_somebody;
use super::*;
use crate::paths::Paths;

fn resident(dir: &Path) -> Arc<Resident> {
    let home = dir.to_path_buf();
    let paths = Paths::from_lookup(|name| (name == "HOME").then(|| home.clone().into())).unwrap();
    Arc::new(Resident::new(&paths, &dir.join("run"), PathBuf::from("/bin/false")).unwrap())
}

async fn connected(dir: &Path) -> UnixStream {
    let socket = socket_path(&dir.join("run"));
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match UnixStream::connect(&socket).await {
            Ok(stream) => return stream,
            Err(e) if Instant::now() > deadline => panic!("{e}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

#[tokio::test]
async fn a_second_agent_in_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (resident, run_dir) = (resident(dir.path()), dir.path().join("run"));
    let first = tokio::spawn({
        let (resident, run_dir) = (Arc::clone(&resident), run_dir.clone());
        async move { serve(resident, &run_dir, None, Duration::from_secs(60)).await }
    });
    drop(connected(dir.path()).await);
    let second = serve(resident, &run_dir, None, Duration::from_secs(60)).await;
    assert!(matches!(second, Err(ServeError::Running)));
    first.abort();
}

#[tokio::test]
async fn absurd_and_malformed_requests_end_the_conversation_only() {
    // H-07
    let dir = tempfile::tempdir().unwrap();
    let (resident, run_dir) = (resident(dir.path()), dir.path().join("run"));
    let server =
        tokio::spawn(async move { serve(resident, &run_dir, None, Duration::from_secs(60)).await });
    for bytes in [
        &[0xff_u8, 0xff, 0xff, 0xff, b'{'][..],
        &[0, 0, 0, 2, b'{', b'{'],
        &[0, 0, 0, 0],
    ] {
        let mut stream = connected(dir.path()).await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // Ended by the agent, with or without a reset for what it did not read.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{bytes:?}");
    }
    let mut stream = connected(dir.path()).await;
    let unknown = serde_json::json!({"version": VERSION, "config_dir": "/", "ask": {"Dance": {}}});
    frame::write_async(&mut stream, &unknown).await.unwrap();
    let reply: Reply = frame::read_async(&mut stream).await.unwrap();
    assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
    server.abort();
}

/// What an agent for `dir` answers to somebody who goes by the configuration in `theirs`.
async fn asked(dir: &Path, theirs: Option<&Path>, ask: Ask) -> Reply {
    let mut stream = connected(dir).await;
    let request = serde_json::json!({"version": VERSION, "config_dir": theirs, "ask": ask});
    frame::write_async(&mut stream, &request).await.unwrap();
    frame::read_async(&mut stream).await.unwrap()
}

#[tokio::test]
async fn whoever_goes_by_another_configuration_gets_nothing_of_this_one() {
    // D22: its CA would not hear of a push.
    let dir = tempfile::tempdir().unwrap();
    let (resident, run_dir) = (resident(dir.path()), dir.path().join("run"));
    welcome_somebody(&resident.people, unix_now());
    let server = tokio::spawn({
        let (resident, run_dir) = (Arc::clone(&resident), run_dir.clone());
        async move { serve(resident, &run_dir, None, Duration::from_secs(60)).await }
    });
    let ours = resident.settings.paths().config_dir.clone();
    let other = dir.path().join("other");
    // A person is signed in, who would have to do so again: it stays.
    for theirs in [Some(other.as_path()), None] {
        let reply = asked(dir.path(), theirs, Ask::PersonKey).await;
        let Reply::OtherConfiguration { serves, ends } = reply else {
            panic!("{reply:?}");
        };
        assert_eq!((serves, ends), (ours.clone(), false));
    }
    let mine = asked(dir.path(), Some(&ours), Ask::Status).await;
    assert!(matches!(mine, Reply::Status(_)), "{mine:?}");
    resident.people.clear();
    let status = asked(dir.path(), Some(&other), Ask::Status).await;
    let stays = matches!(status, Reply::OtherConfiguration { ends: false, .. });
    assert!(stays, "{status:?}");
    let reply = asked(dir.path(), Some(&other), Ask::PersonKey).await;
    let makes_room = matches!(reply, Reply::OtherConfiguration { ends: true, .. });
    assert!(makes_room, "{reply:?}");
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn one_configuration_by_another_link_is_the_same_and_anybody_may_end_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let (resident, run_dir) = (resident(dir.path()), dir.path().join("run"));
    let ours = resident.settings.paths().config_dir.clone();
    files::private_dir(&ours).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&ours, &link).unwrap();
    let server =
        tokio::spawn(async move { serve(resident, &run_dir, None, Duration::from_secs(60)).await });
    let status = asked(dir.path(), Some(&link), Ask::Status).await;
    assert!(matches!(status, Reply::Status(_)), "{status:?}");
    let ended = asked(dir.path(), Some(&dir.path().join("other")), Ask::Logout).await;
    assert!(matches!(ended, Reply::LoggedOut { .. }), "{ended:?}");
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_agent_of_another_version_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let (resident, run_dir) = (resident(dir.path()), dir.path().join("run"));
    let server =
        tokio::spawn(async move { serve(resident, &run_dir, None, Duration::from_secs(60)).await });
    let mut stream = connected(dir.path()).await;
    let newer = serde_json::json!({"version": "99.0.0", "ask": {"SomethingNew": 1}});
    frame::write_async(&mut stream, &newer).await.unwrap();
    let reply: Reply = frame::read_async(&mut stream).await.unwrap();
    assert!(matches!(reply, Reply::OtherVersion), "{reply:?}");
    server.await.unwrap().unwrap();
    assert!(!socket_path(&dir.path().join("run")).exists());
}

#[tokio::test]
async fn an_agent_that_nobody_asks_stays_while_a_sign_in_would_be_lost_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (resident, run_dir) = (resident(dir.path()), dir.path().join("run"));
    welcome_somebody(&resident.people, unix_now());
    let idle = Duration::from_millis(20);
    let serving = serve(Arc::clone(&resident), &run_dir, None, idle);
    tokio::pin!(serving);
    // Twenty times as long as it takes one without.
    let early = tokio::time::timeout(idle * 20, &mut serving).await;
    assert!(early.is_err(), "{early:?}");
    resident.people.clear();
    let ended = tokio::time::timeout(Duration::from_secs(10), serving).await;
    ended.expect("it did not end").unwrap();
}

#[tokio::test]
async fn an_agent_that_nobody_asks_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (resident, run_dir) = (resident(dir.path()), dir.path().join("run"));
    let ended = tokio::time::timeout(
        Duration::from_secs(10),
        serve(resident, &run_dir, None, Duration::from_millis(50)),
    )
    .await;
    ended.expect("it did not end").unwrap();
    assert!(!socket_path(&dir.path().join("run")).exists());
}
