//! What is ours in the folder of sockets. That may be a folder with other things in it, since anybody may name one:
//! only what has a name and a kind that we give is ever removed.

use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use eic_protocol::os_user::OsUser;

use crate::files::{self, FileError};
use crate::host_name::HostName;

/// Where systemd-logind makes a folder for each user who is logged in (pam_systemd(8), `XDG_RUNTIME_DIR`).
const SESSIONS: &str = "/run/user";
/// Digits of a random name, as [`crate::files::random_name`] gives them.
const RANDOM: usize = 16;

/// Makes the folder, or checks that it is one of ours.
///
/// # Errors
/// [`FileError`]; where the folder above exists only during a login session, it says what helps.
pub fn make(run_dir: &Path) -> Result<(), FileError> {
    check_session(run_dir, Path::new(SESSIONS))?;
    files::private_dir(run_dir)
}

/// Not left to the system: root could make the folder, and it would not be the session's.
fn check_session(run_dir: &Path, sessions: &Path) -> Result<(), FileError> {
    let mut below = run_dir.strip_prefix(sessions).into_iter().flatten();
    match below.next() {
        Some(user) if !sessions.join(user).exists() => Err(FileError::Unsafe {
            path: run_dir.to_owned(),
            why: "the folder above it exists only during a login session: run `loginctl enable-linger`, or set `run_dir` \
                  in config.toml to a folder that stays and run `eic-login setup` again",
        }),
        _ => Ok(()),
    }
}

/// What the folder holds; nothing where it cannot be read.
#[must_use]
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Sockets of logins and links to users' own agents (`user@host`, `user@place/host`), and those that were being put
/// into place (`.` and 16 digits).
#[must_use]
pub fn login_entries(run_dir: &Path) -> Vec<PathBuf> {
    let of_places = login_folders(run_dir);
    let inner = of_places.iter().flat_map(|folder| entries(folder));
    let mut found: Vec<PathBuf> = entries(run_dir).into_iter().chain(inner).collect();
    found.retain(|path| {
        let name = path.strip_prefix(run_dir).unwrap_or(path);
        is_ours(&name.to_string_lossy()) && is_socket_or_link(path)
    });
    found
}

/// Folders `user@place` of logins by a name with a place.
#[must_use]
pub fn login_folders(run_dir: &Path) -> Vec<PathBuf> {
    let mut folders = entries(run_dir);
    folders.retain(|path| is_folder(path) && file_name(path).is_some_and(|name| is_login(&name)));
    folders
}

/// Folders of `eic-login exec` (`exec-` and 16 digits).
#[must_use]
pub fn exec_folders(run_dir: &Path) -> Vec<PathBuf> {
    let is_exec = |name: String| name.strip_prefix("exec-").is_some_and(is_random);
    let mut folders = entries(run_dir);
    folders.retain(|path| is_folder(path) && file_name(path).is_some_and(is_exec));
    folders
}

fn is_ours(name: &str) -> bool {
    is_login(name) || is_temporary(name)
}

fn is_login(name: &str) -> bool {
    let parts = name.split_once('@');
    parts.is_some_and(|(user, host)| {
        user.parse::<OsUser>().is_ok() && host.parse::<HostName>().is_ok()
    })
}

fn is_temporary(name: &str) -> bool {
    name.strip_prefix('.').is_some_and(is_random)
}

fn is_random(name: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    name.len() == RANDOM && name.bytes().all(digit)
}

/// A socket behind which nobody is, or a link that leads nowhere: `exists` follows it. A ControlMaster of the user's
/// own may have such a name too.
#[must_use]
pub fn is_dead(path: &Path) -> bool {
    if is_socket(path) {
        UnixStream::connect(path).is_err()
    } else {
        is_socket_or_link(path) && !path.exists()
    }
}

/// Whether it is a socket itself.
#[must_use]
pub fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

fn is_socket_or_link(path: &Path) -> bool {
    let meta = std::fs::symlink_metadata(path);
    meta.is_ok_and(|meta| meta.file_type().is_socket() || meta.is_symlink())
}

fn is_folder(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_folder_of_a_session_that_is_over_is_refused_with_what_helps() {
        let sessions = tempfile::tempdir().unwrap();
        let run_dir = sessions.path().join("1000/eic");
        let refused = check_session(&run_dir, sessions.path()).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("enable-linger") && text.contains("`run_dir`"),
            "{text}"
        );
        let never = PathBuf::from("/run/user/4294967294/eic");
        assert!(make(&never).is_err() && !never.exists());
        std::fs::create_dir(sessions.path().join("1000")).unwrap();
        assert!(check_session(&run_dir, sessions.path()).is_ok());
        assert!(check_session(Path::new("/home/alice/.eic/run"), sessions.path()).is_ok());
    }

    #[test]
    fn names_that_we_do_not_give_are_not_ours() {
        for name in [
            ".bashrc",
            ".ssh",
            ".0123456789abcde",
            ".0123456789abcdef0",
            ".0123456789ABCDEF",
            "0123456789abcdef",
            "notes@home.txt~",
            "Me@web-1",
            "@web-1",
            "alice@",
            "agent.lock",
        ] {
            assert!(!is_ours(name), "{name}");
        }
        for name in [".0123456789abcdef", "alice@web-1", "alice@prod/web-1"] {
            assert!(is_ours(name), "{name}");
        }
    }

    #[test]
    fn files_and_folders_are_not_ours_whatever_they_are_called() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["alice@example.org", ".0123456789abcdef"] {
            std::fs::write(dir.path().join(name), "mine").unwrap();
        }
        std::fs::create_dir(dir.path().join("alice@prod")).unwrap();
        std::fs::write(dir.path().join("alice@prod/notes"), "mine").unwrap();
        assert_eq!(login_entries(dir.path()), Vec::<PathBuf>::new());
        symlink("/tmp/agent", dir.path().join("alice@prod/web-1")).unwrap();
        let link = dir.path().join("alice@prod/web-1");
        assert_eq!(login_entries(dir.path()), [link]);
    }

    #[test]
    fn a_socket_that_answers_is_not_dead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alice@web-1");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(!is_dead(&path));
        drop(listener);
        assert!(is_dead(&path) && is_socket(&path));
    }
}
