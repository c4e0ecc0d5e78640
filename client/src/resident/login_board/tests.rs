//! What becomes of a login's socket when its two minutes are over.

use std::os::unix::fs::symlink;

use super::*;

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
async fn sockets_of_a_killed_agent_are_removed_and_links_to_own_agents_stay() {
    let dir = tempfile::tempdir().unwrap();
    let board = LoginBoard::new(dir.path().to_owned());
    drop(board.bind(&dir.path().join("alice@dead")).unwrap());
    let own = dir.path().join("own");
    let _own = UnixListener::bind(&own).unwrap();
    symlink(&own, dir.path().join("alice@forwarding")).unwrap();
    symlink("/nonexistent/agent", dir.path().join("alice@gone")).unwrap();
    std::fs::write(dir.path().join(".leftover"), "").unwrap();
    std::fs::write(dir.path().join("agent.lock"), "").unwrap();
    board.clean_up();
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["agent.lock", "alice@forwarding", "own"]);
}
