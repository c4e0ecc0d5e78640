//! A control socket that somebody else has opened: systemd (`LISTEN_FDS`, sd_listen_fds(3)) or launchd
//! (`inetdCompatibility` with `Wait`, launchd.plist(5): the socket is stdin). It stays when this agent ends.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use eic_protocol::text::printable;
use listenfd::ListenFd;
use rustix::net::{AddressFamily, getsockname};

/// The listening socket that this process was started with, if it was; it must be the one at `control`. To be called
/// before there are other threads: the variables that name it are taken out of the environment.
///
/// # Errors
/// [`ActivationError`] where something else was passed: an agent that listened elsewhere would never be asked.
pub fn inherited(control: &Path) -> Result<Option<UnixListener>, ActivationError> {
    let listener = match of_systemd()? {
        Some(listener) => listener,
        None => match of_launchd().map_err(ActivationError::Socket)? {
            Some(listener) => listener,
            None => return Ok(None),
        },
    };
    check(&listener, control)?;
    Ok(Some(listener))
}

/// Descriptor 3, for this very process: variables that an ancestor was given mean nothing here.
fn of_systemd() -> Result<Option<UnixListener>, ActivationError> {
    let pid = std::env::var("LISTEN_PID").unwrap_or_default();
    if pid != std::process::id().to_string() {
        return Ok(None);
    }
    let mut passed = ListenFd::from_env();
    if passed.len() != 1 {
        return Err(ActivationError::Number(passed.len()));
    }
    // Marked close-on-exec on the way: credential programs do not inherit it.
    let listener = passed.take_unix_listener(0);
    listener.map_err(ActivationError::Socket)
}

fn of_launchd() -> io::Result<Option<UnixListener>> {
    let stdin = io::stdin();
    if !is_unix(stdin.as_fd()) || !is_listening(stdin.as_fd()) {
        return Ok(None);
    }
    let listener = stdin.as_fd().try_clone_to_owned()?;
    Ok(Some(UnixListener::from(listener)))
}

fn check(listener: &UnixListener, control: &Path) -> Result<(), ActivationError> {
    if !is_listening(listener.as_fd()) {
        return Err(ActivationError::NotListening);
    }
    let address = listener.local_addr().map_err(ActivationError::Socket)?;
    let path = address.as_pathname().unwrap_or(Path::new(""));
    if path != control {
        return Err(ActivationError::Elsewhere {
            given: printable(&path.to_string_lossy()),
            wanted: control.to_owned(),
        });
    }
    listener
        .set_nonblocking(true)
        .map_err(ActivationError::Socket)
}

fn is_unix(fd: impl AsFd) -> bool {
    getsockname(fd).is_ok_and(|address| address.address_family() == AddressFamily::UNIX)
}

#[cfg(not(target_vendor = "apple"))]
fn is_listening(fd: impl AsFd) -> bool {
    rustix::net::sockopt::socket_acceptconn(fd).unwrap_or(false)
}

/// Apple's systems do not tell (no SO_ACCEPTCONN), but a connection has a peer.
#[cfg(target_vendor = "apple")]
fn is_listening(fd: impl AsFd) -> bool {
    rustix::net::getpeername(fd).is_err()
}

/// The socket that was passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// Several, or none.
    #[error(
        "{0} sockets were passed (LISTEN_FDS); the unit names exactly one, by one ListenStream"
    )]
    Number(usize),
    /// Another kind of descriptor.
    #[error("what was passed cannot be used as a control socket: {0}")]
    Socket(io::Error),
    /// A connection.
    #[error("the socket that was passed does not listen: the unit needs `Accept=no`")]
    NotListening,
    /// A socket that no program of ours asks at.
    #[error(
        "the socket that was passed is `{given}`, not `{wanted}`: correct ListenStream, or give --dir",
        wanted = .wanted.display()
    )]
    Elsewhere {
        /// Its path.
        given: String,
        /// Where it should be.
        wanted: PathBuf,
    },
}
