//! The asking end of the control socket: blocking, small, and the one that starts the agent where there is none.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::message::{Ask, Reply, Request};
use super::{frame, run_folder, socket_path};
use crate::cause::Cause;
use crate::exit_code::{self, Failure};
use crate::files;
use crate::paths::{NoHome, Paths};

/// How long a new agent may take to open its socket. It does nothing before that.
const START_DEADLINE: Duration = Duration::from_secs(5);
/// After this a further one is started; where the first was only slow, the lock sends the second away.
const START_AGAIN: Duration = Duration::from_millis(500);
/// How often a request is made: each time an agent may just be ending.
const TRIES: usize = 3;
/// How long an answer may take: credentials 60 s, CA and EC2 calls 10 s each.
const ANSWER_DEADLINE: Duration = Duration::from_secs(100);

/// Where the agent is, and how it is started.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The folder of sockets.
    pub run_dir: PathBuf,
    /// This program.
    pub program: PathBuf,
    /// The folder of the configuration that counts for whoever asks.
    pub config_dir: PathBuf,
}

/// One conversation.
#[derive(Debug)]
pub struct Conversation(UnixStream);

impl Agent {
    /// The agent whose sockets are in `run_dir`, started from this very program when needed.
    ///
    /// # Errors
    /// [`ControlError::Program`] where the system does not tell which program this is, [`ControlError::Home`] where
    /// there is no home folder.
    pub fn new(run_dir: &Path) -> Result<Self, ControlError> {
        let program = std::env::current_exe().map_err(ControlError::Program)?;
        Ok(Self {
            run_dir: run_dir.to_owned(),
            program,
            config_dir: Paths::from_env()?.config_dir,
        })
    }

    /// Asks a running agent, or one that is started now.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn ask(&self, ask: Ask) -> Result<(Conversation, Reply), ControlError> {
        let request = Request::new(self.config_dir.clone(), ask);
        // Again: an agent that is just ending (logout, another version) is followed by a new one.
        let mut last = ControlError::Version;
        for _ in 0..TRIES {
            let mut conversation = self.connect_or_start()?;
            match conversation.exchange(&request) {
                Ok(Reply::OtherVersion) => last = ControlError::Version,
                Ok(Reply::OtherConfiguration { serves, ends }) => {
                    last = self.other_configuration(serves);
                    if !ends {
                        break;
                    }
                }
                Err(ControlError::Talk(e)) if is_ending(&e) => last = ControlError::Talk(e),
                Ok(reply) => return Ok((conversation, reply)),
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Asks a running agent; `None` where there is none.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn ask_running(&self, ask: Ask) -> Result<Option<Reply>, ControlError> {
        match self.connect()? {
            None => Ok(None),
            Some(mut conversation) => {
                let request = Request::new(self.config_dir.clone(), ask);
                conversation.exchange(&request).map(Some)
            }
        }
    }

    fn other_configuration(&self, serves: PathBuf) -> ControlError {
        ControlError::Configuration {
            run_dir: self.run_dir.clone(),
            serves,
            asked: self.config_dir.clone(),
        }
    }

    fn connect(&self) -> Result<Option<Conversation>, ControlError> {
        match files::check_private_dir(&self.run_dir) {
            Ok(()) => {}
            Err(files::FileError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        match UnixStream::connect(socket_path(&self.run_dir)) {
            Ok(stream) => Conversation::new(stream).map(Some),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(e) => Err(ControlError::Talk(e)),
        }
    }

    fn connect_or_start(&self) -> Result<Conversation, ControlError> {
        if let Some(conversation) = self.connect()? {
            return Ok(conversation);
        }
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            // Again and again: one that is just ending may still hold the lock, and the new one then ends at once.
            self.start()?;
            if let Some(conversation) = self.wait(Instant::now() + START_AGAIN)? {
                return Ok(conversation);
            }
        }
        Err(ControlError::Start(io::Error::new(
            ErrorKind::TimedOut,
            "its socket did not appear within 5 s",
        )))
    }

    fn wait(&self, until: Instant) -> Result<Option<Conversation>, ControlError> {
        loop {
            let connected = self.connect()?;
            if connected.is_some() || Instant::now() >= until {
                return Ok(connected);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Detached: it outlives ssh and the terminal, and inherits nothing but the names of its folders.
    fn start(&self) -> Result<(), ControlError> {
        run_folder::make(&self.run_dir)?;
        let kept = [
            "HOME",
            "PATH",
            "USER",
            "LOGNAME",
            "LANG",
            "XDG_CONFIG_HOME",
            "XDG_STATE_HOME",
            "XDG_CACHE_HOME",
            "XDG_RUNTIME_DIR",
            // A CA behind a company's own TLS root.
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
        ];
        let kept = kept
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        Command::new(&self.program)
            .args(["agent", "--detached", "--dir"])
            .arg(&self.run_dir)
            .env_clear()
            .envs(kept)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(|_| ())
            .map_err(ControlError::Start)
    }
}

impl Conversation {
    /// A conversation over a connected stream, with deadlines.
    ///
    /// # Errors
    /// [`ControlError`]; also where the other end is another user.
    pub fn new(stream: UnixStream) -> Result<Self, ControlError> {
        if !is_ours(&stream).map_err(ControlError::Talk)? {
            return Err(ControlError::Stranger);
        }
        stream
            .set_read_timeout(Some(ANSWER_DEADLINE))
            .map_err(ControlError::Talk)?;
        stream
            .set_write_timeout(Some(START_DEADLINE))
            .map_err(ControlError::Talk)?;
        Ok(Self(stream))
    }

    fn exchange(&mut self, request: &Request) -> Result<Reply, ControlError> {
        frame::write(&mut self.0, request).map_err(ControlError::Talk)?;
        self.answer()
    }

    /// The next answer.
    ///
    /// # Errors
    /// [`ControlError::Talk`].
    pub fn answer(&mut self) -> Result<Reply, ControlError> {
        frame::read(&mut self.0).map_err(ControlError::Talk)
    }

    /// Says one thing that needs no answer.
    ///
    /// # Errors
    /// [`ControlError::Talk`].
    pub fn tell(&mut self, message: &impl serde::Serialize) -> Result<(), ControlError> {
        frame::write(&mut self.0, message).map_err(ControlError::Talk)
    }
}

/// Whether the other end is the same user. The folder is private; this is the second lock.
#[cfg(target_os = "linux")]
fn is_ours(stream: &UnixStream) -> io::Result<bool> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(peer.uid == rustix::process::geteuid())
}

/// getpeereid(3).
#[cfg(not(target_os = "linux"))]
fn is_ours(stream: &UnixStream) -> io::Result<bool> {
    let (uid, _) = nix::unistd::getpeereid(stream)?;
    Ok(uid.as_raw() == rustix::process::geteuid().as_raw())
}

/// The other end closed without an answer.
fn is_ending(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

/// The resident agent cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The folder of sockets is not safe.
    #[error(transparent)]
    Folder(#[from] files::FileError),
    /// The program's own path is unknown.
    #[error("cannot tell which program this is: {0}")]
    Program(io::Error),
    /// There is no home folder, so no configuration either.
    #[error(transparent)]
    Home(#[from] NoHome),
    /// It goes by another configuration, and is needed for that one.
    #[error(
        "the resident agent in `{}` goes by the configuration in `{}`, this command by that in `{}`: set XDG_CONFIG_HOME alike, \
         or give one of them a `run_dir` of its own; `eic-login logout` ends the agent",
        .run_dir.display(), .serves.display(), .asked.display()
    )]
    Configuration {
        /// Where it is.
        run_dir: PathBuf,
        /// What it goes by.
        serves: PathBuf,
        /// What the asking program goes by.
        asked: PathBuf,
    },
    /// It does not start.
    #[error("the resident agent did not start: {0}; run `eic-login agent` to see why")]
    Start(io::Error),
    /// It does not answer.
    #[error("the resident agent did not answer: {0}")]
    Talk(io::Error),
    /// The socket belongs to somebody else.
    #[error("the resident agent's socket belongs to another user")]
    Stranger,
    /// Another version stays in place.
    #[error(
        "a resident agent of another version is running: run `eic-login logout`, then try again"
    )]
    Version,
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let (code, cause) = match error {
            ControlError::Configuration { .. } | ControlError::Home(_) => {
                (exit_code::USAGE, Cause::Configuration)
            }
            _ => (exit_code::FAILURE, Cause::Agent),
        };
        Self::new(code, error.to_string()).because(cause)
    }
}
