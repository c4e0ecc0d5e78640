//! What can go wrong while a lab is set up or driven.
//!
//! One enum for the whole crate, not one per module: its only reader is the person who runs the tests or the demo.

use std::io;
use std::path::PathBuf;

/// What every function of the lab returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the lab could not do something, with what to do about it where something can be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces, mounts and port 22 need root.
    #[error(
        "the lab needs root for its namespaces: run it as root, or with `sudo -E env \"PATH=$PATH\" …`"
    )]
    NotRoot,
    /// A program of this workspace has not been built.
    #[error("find `{}`: build it with `cargo build --workspace --bins`", .0.display())]
    MissingBinary(PathBuf),
    /// A program of this workspace has not been built as it is released.
    #[error("find `{}`: build it with `make portable`", .0.display())]
    MissingPortable(PathBuf),
    /// A program of the system is not installed.
    #[error("find the program `{program}`: install it with `apt-get install {package}`")]
    MissingProgram {
        /// The program that was looked for.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The operating system refused something.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended with a failure.
    #[error("run `{command}`: it ended with {status}\n{output}")]
    Command {
        /// The command line as a person would type it.
        command: String,
        /// Its exit status.
        status: String,
        /// Its two outputs.
        output: String,
    },
    /// Something waited for did not happen in time.
    #[error("wait for {what}: nothing within {seconds} s")]
    Deadline {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
    },
    /// An AWS stand-in refused a call of the lab itself.
    #[error("call {action}: the stand-in answered {status}: {body}")]
    Refused {
        /// `service:Action`.
        action: String,
        /// HTTP status.
        status: u16,
        /// The answer's body.
        body: String,
    },
    /// Something answered in a form that the lab does not know.
    #[error("{0}")]
    Unexpected(String),
}

/// Says what was being done when an operation failed.
pub(crate) trait Context<T> {
    /// Turns the error into [`Error::Io`] or [`Error::Unexpected`] with `what` in front.
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::Io {
            what: what().into(),
            source,
        })
    }
}

impl<T> Context<T> for Option<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.ok_or_else(|| Error::Unexpected(what().into()))
    }
}

/// Any other library's error, flattened into one sentence.
pub(crate) fn unexpected(what: &str, cause: impl std::fmt::Display) -> Error {
    Error::Unexpected(format!("{what}: {cause}"))
}
