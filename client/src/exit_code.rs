//! Exit codes and the one-line failure that goes with each. They are an interface: scripts read them.
//! Where ssh runs this program (`connect`, `known-hosts`), ssh itself exits with 255.

use serde::{Deserialize, Serialize};

use crate::cause::Cause;

/// It worked.
pub const OK: u8 = 0;
/// Something failed that none of the other codes describes.
pub const FAILURE: u8 = 1;
/// The command line or the configuration is wrong; nothing was tried.
pub const USAGE: u8 = 2;
/// Credentials are missing or expired, or nobody is signed in; the message says what to run.
pub const CREDENTIALS: u8 = 3;
/// The CA, AWS or a policy said no.
pub const DENIED: u8 = 4;
/// The CA, AWS or the host did not answer.
pub const UNREACHABLE: u8 = 5;
/// Somebody is not who he should be: a host key, a certificate, a TLS server or a signed document.
pub const UNTRUSTED: u8 = 6;

/// Every code with its name and meaning, for documentation and `--help`.
pub const ALL: [(u8, &str, &str); 7] = [
    (OK, "ok", "it worked"),
    (
        FAILURE,
        "failure",
        "something failed that no other code describes",
    ),
    (
        USAGE,
        "usage",
        "the command line or the configuration is wrong; nothing was tried",
    ),
    (
        CREDENTIALS,
        "credentials",
        "credentials are missing or expired, or nobody is signed in; the message says what to run",
    ),
    (DENIED, "denied", "the CA, AWS or a policy said no"),
    (
        UNREACHABLE,
        "unreachable",
        "the CA, AWS or the host did not answer",
    ),
    (
        UNTRUSTED,
        "untrusted",
        "a host key, certificate, TLS server or signed document is not the right one",
    ),
];

/// Why a command ends, in one line, and with which code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One of the codes of this module.
    pub code: u8,
    /// One line; printed after `eic-login: `.
    pub message: String,
    /// Whether it may pass by itself, as while an instance boots: `connect --wait` tries again.
    #[serde(default)]
    pub passing: bool,
    /// What kind of thing it is, for `eic-login doctor`.
    #[serde(default)]
    pub cause: Cause,
}

impl Failure {
    /// A failure with this code.
    #[must_use]
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            passing: code == UNREACHABLE,
            cause: Cause::Other,
        }
    }

    /// The same with its cause.
    #[must_use]
    pub fn because(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }

    /// The same, marked as one that may pass by itself or will not.
    #[must_use]
    pub fn that_may_pass(self, passing: bool) -> Self {
        Self { passing, ..self }
    }

    /// A wrong command line or configuration.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    /// An error that no other code describes, with all its causes.
    #[must_use]
    pub fn of(error: &dyn std::error::Error) -> Self {
        Self::new(FAILURE, chain(error))
    }

    /// The same with what was being done in front.
    #[must_use]
    pub fn context(self, doing: &str) -> Self {
        Self {
            message: format!("{doing}: {}", self.message),
            ..self
        }
    }
}

/// An error and its causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_in_order() {
        for (at, (code, name, meaning)) in ALL.iter().enumerate() {
            assert_eq!(usize::from(*code), at, "{name}");
            assert!(!meaning.is_empty());
        }
    }

    #[test]
    fn causes_are_told_once() {
        let inner = std::io::Error::other("no such file");
        let outer = std::io::Error::other(inner);
        assert_eq!(Failure::of(&outer).message, "no such file");
    }
}
