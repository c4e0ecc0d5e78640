//! What goes over the root helper's door for logins: the name of a command and sshd's tokens one way, its key
//! lines or a reason the other. The command itself never does: the helper reads it in root's own file.

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Errand {
    /// Which of `[[authorized_keys.command]]`.
    pub(crate) command: String,
    /// sshd's tokens as `LETTER=VALUE`.
    pub(crate) tokens: Vec<String>,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Outcome {
    /// Key lines for sshd.
    Lines(String),
    /// None, and why: for the log.
    Failed(String),
}

/// Longest errand in bytes: tokens of a certificate, and slack.
pub(crate) const MAX_ERRAND: usize = 128 * 1024;
/// Longest outcome in bytes: a command's largest `max_bytes`, each byte at worst six in JSON.
pub(crate) const MAX_OUTCOME: usize = 7 * 1024 * 1024;
