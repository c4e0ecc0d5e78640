//! The service's end of the helper's socket.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::helper::request::{Answer, Request};
use crate::helper::wire;

/// Longest wait for an answer: sshd is tested and reloaded, sessions get seconds to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// The helper behind its socket.
#[derive(Clone, Debug)]
pub struct Helper {
    socket: PathBuf,
}

impl Helper {
    /// The helper at `socket`.
    #[must_use]
    pub fn at(socket: &Path) -> Self {
        Self {
            socket: socket.to_path_buf(),
        }
    }

    /// Has one verb done.
    ///
    /// # Errors
    /// The helper is not there, or refuses.
    pub fn ask(&self, request: &Request) -> Result<Answer, NoHelp> {
        let away = |source| NoHelp::Away {
            socket: self.socket.clone(),
            source,
        };
        let stream = UnixStream::connect(&self.socket).map_err(away)?;
        wire::send(&stream, request).map_err(away)?;
        match wire::receive(&stream, PATIENCE).map_err(away)? {
            Answer::Refused { reason } => Err(NoHelp::Refused(reason)),
            answer => Ok(answer),
        }
    }
}

/// Why a verb was not done.
#[derive(Debug, thiserror::Error)]
pub enum NoHelp {
    /// No helper, or it ended in the middle.
    #[error("ask the helper at `{}`: is eic-agent-helper.socket active?", .socket.display())]
    Away {
        /// Its socket.
        socket: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It refused.
    #[error("have it done by the helper, which {0}")]
    Refused(String),
    /// It answered something else.
    #[error("understand the helper: is it of another version?")]
    Answer,
}
