//! The control socket: how `connect`, `known-hosts` and the other commands talk to the resident agent.
//! One connection per command; frames of JSON, each behind its length. Peers are the same user, checked.

pub mod client;
pub mod frame;
pub mod message;
pub mod run_folder;

use std::path::{Path, PathBuf};

/// The control socket in the folder of sockets. Login sockets have an `@` in their names, this one has none.
#[must_use]
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("agent.sock")
}

/// The lock that makes the resident agent the only one.
#[must_use]
pub fn lock_path(run_dir: &Path) -> PathBuf {
    run_dir.join("agent.lock")
}
