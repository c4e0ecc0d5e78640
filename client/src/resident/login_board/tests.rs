//! What becomes of a login's socket when its two minutes are over.

use std::os::unix::fs::symlink;

use super::*;
use crate::resident::tests::stub::{INSTANCE, World};

#[test]
fn a_retired_socket_leads_to_the_users_own_agent_or_nowhere() {
    // H-20: after the login no connection can reach anything of ours.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alice@web-1");
    std::fs::write(&path, "").unwrap();
    retire(dir.path(), "alice@web-1", Some(Path::new("/tmp/own-agent")));
    assert_eq!(
        std::fs::read_link(&path).unwrap(),
        Path::new("/tmp/own-agent")
    );
    retire(dir.path(), "alice@web-1", None);
    assert!(std::fs::symlink_metadata(&path).is_err());
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "a temporary name was left"
    );
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_replaced_by_the_socket() {
    // H-04
    let dir = tempfile::tempdir().unwrap();
    let board = LoginBoard::new(dir.path().to_owned());
    let path = dir.path().join("alice@web-1");
    symlink("/tmp/elsewhere", &path).unwrap();
    let _listener = board.bind(&path).unwrap();
    assert!(is_socket(&path));
}

#[tokio::test]
async fn nothing_of_the_users_own_is_removed_where_his_home_is_the_folder_of_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let board = LoginBoard::new(dir.path().to_owned());
    // A ControlMaster of his own, in `~` as some have it.
    let _master = UnixListener::bind(dir.path().join("alice@web-1")).unwrap();
    let own = [
        ".bashrc",
        ".0123456789abcdef",
        "bob@example.org",
        "exec-plan",
    ];
    for name in own {
        std::fs::write(dir.path().join(name), "mine").unwrap();
    }
    std::fs::create_dir(dir.path().join("exec-notes")).unwrap();
    std::fs::create_dir(dir.path().join("alice@prod")).unwrap();
    std::fs::write(dir.path().join("alice@prod/web-1"), "mine").unwrap();
    board.clean_up();
    let kept = |name: &str| std::fs::symlink_metadata(dir.path().join(name)).is_ok();
    for name in own
        .into_iter()
        .chain(["alice@web-1", "alice@prod/web-1", "exec-notes"])
    {
        assert!(kept(name), "{name}");
    }
}

#[tokio::test]
async fn sockets_of_a_killed_agent_are_removed_and_links_to_own_agents_stay() {
    let dir = tempfile::tempdir().unwrap();
    let board = LoginBoard::new(dir.path().to_owned());
    drop(board.bind(&dir.path().join("alice@dead")).unwrap());
    let own = dir.path().join("own");
    let _own = UnixListener::bind(&own).unwrap();
    symlink(&own, dir.path().join("alice@forwarding")).unwrap();
    symlink("/nonexistent/agent", dir.path().join("alice@gone")).unwrap();
    drop(UnixListener::bind(dir.path().join(".0123456789abcdef")).unwrap());
    std::fs::write(dir.path().join("agent.lock"), "").unwrap();
    // Of two `exec` one was killed.
    let (killed, alive) = ("exec-0123456789abcdef", "exec-fedcba9876543210");
    for name in [killed, alive] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let socket = |name: &str| dir.path().join(name).join(super::super::shared::SOCKET);
    drop(UnixListener::bind(socket(killed)).unwrap());
    let _alive = UnixListener::bind(socket(alive)).unwrap();
    board.clean_up();
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["agent.lock", "alice@forwarding", alive, "own"]);
}

fn entry(world: &World, ssh_pid: Option<u32>) -> Entry {
    let ask = Arc::new(ConnectAsk {
        ssh_pid,
        ..world.login("alice", "web-1")
    });
    let key = crate::key::EphemeralKey::generate(crate::key::KeyType::Ed25519).unwrap();
    let login = Login::new(ask.user.clone(), Arc::new(key), Vec::new(), u64::MAX);
    Entry {
        setting: world.resident().settings.current().unwrap(),
        view: crate::resident::tests::stub::view(INSTANCE, &world.state()),
        with: ask.selection.clone(),
        login: Arc::new(login),
        ask,
    }
}

#[tokio::test]
async fn another_processs_login_is_not_offered() {
    // H-14: two ssh to one host and user, of two profiles; the second's own login is not open yet.
    let world = World::without_agent().await;
    let first = entry(&world, Some(11));
    assert!(of_process(vec![first.clone()], Some(12)).is_empty());
    assert_eq!(of_process(vec![first.clone()], Some(11)).len(), 1);
    let unknown = entry(&world, None);
    assert_eq!(of_process(vec![first, unknown], Some(12)).len(), 1);
}

#[tokio::test]
async fn names_with_a_place_have_a_folder_that_goes_with_its_last_socket() {
    // H-04
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let board = LoginBoard::new(dir.path().to_owned());
    let folder = dir.path().join("alice@prod");
    let _listener = board.bind(&folder.join("web-1")).unwrap();
    let other = board.bind(&folder.join("web-2")).unwrap();
    assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    retire(dir.path(), "alice@prod/web-1", None);
    assert!(is_socket(&folder.join("web-2")));
    drop(other);
    board.clean_up();
    assert!(!folder.exists());
}
