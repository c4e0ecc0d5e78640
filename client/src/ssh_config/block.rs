//! The options that make plain ssh use this program for a set of hosts, as a file and as `-o` arguments.
//!
//! ProxyCommand goes through the user's shell: its tokens stand in single quotes, and names with a single quote
//! never match the block. Newer versions of ssh screen them as well (from 9.6); this does not depend on it.

use std::path::{Path, PathBuf};

use crate::host_name::{InvalidPattern, check_pattern};

/// Patterns that are always ours.
pub(super) const OWN_PATTERNS: [&str; 2] = ["i-*", "mi-*"];

/// A login's socket, in the folder of sockets.
const LOGIN_SOCKET: &str = "/%r@%h\"";

/// What the block depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    program: String,
    run_dir: String,
    patterns: Vec<String>,
}

impl Block {
    /// A block for `i-*`, `mi-*` and `patterns`, with this program at an absolute path.
    ///
    /// # Errors
    /// [`BlockError`] for paths and patterns that ssh or a shell could take for something else.
    pub fn new(program: &Path, run_dir: &Path, patterns: &[String]) -> Result<Self, BlockError> {
        for pattern in patterns {
            check_pattern(pattern)?;
        }
        let mut all: Vec<String> = OWN_PATTERNS.iter().map(|p| (*p).to_owned()).collect();
        for pattern in patterns {
            if !all.contains(pattern) {
                all.push(pattern.clone());
            }
        }
        Ok(Self {
            program: plain(program)?,
            run_dir: plain(run_dir)?,
            patterns: all,
        })
    }

    /// The file's text.
    #[must_use]
    pub fn render(&self) -> String {
        let Self {
            program, patterns, ..
        } = self;
        let mut text = format!(
            "# Written by `eic-login setup`; it is replaced by the next one and removed by `eic-login setup --undo`.\n\
             Include eic.hosts\n\
             Match originalhost \"{}\" user \"*'*\"\n    ProxyCommand '{program}' connect\n\
             Host {} \"!*'*\"\n",
            patterns.join(","),
            patterns.join(" "),
        );
        for (name, value) in self.options() {
            text.push_str(&format!("    {name} {value}\n"));
        }
        text
    }

    /// Name and value of each option (ssh_config(5)).
    #[must_use]
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let Self {
            program, run_dir, ..
        } = self;
        let fixed = |name: &'static str, value: &str| (name, value.to_owned());
        vec![
            (
                "ProxyCommand",
                format!(
                    "'{program}' connect --dir '{run_dir}' --user '%r' --host '%h' --port '%p'"
                ),
            ),
            fixed("ProxyUseFdpass", "yes"),
            // Of its own for each login, so that no key of the user's counts towards MaxAuthTries (H-08).
            ("IdentityAgent", format!("\"{run_dir}{LOGIN_SOCKET}")),
            fixed("IdentitiesOnly", "no"),
            fixed("IdentityFile", "none"),
            fixed("CertificateFile", "none"),
            fixed("PKCS11Provider", "none"),
            fixed("AddKeysToAgent", "no"),
            // Only what KnownHostsCommand prints is trusted: no file, no DNS, no asking (H-09, H-10).
            fixed("StrictHostKeyChecking", "yes"),
            fixed("UserKnownHostsFile", "/dev/null"),
            fixed("GlobalKnownHostsFile", "/dev/null"),
            fixed("VerifyHostKeyDNS", "no"),
            fixed("CheckHostIP", "no"),
            fixed("UpdateHostKeys", "no"),
            (
                "KnownHostsCommand",
                format!(
                    "\"{program}\" known-hosts --dir \"{run_dir}\" --user %r --host %h --port %p --name %H --key %K"
                ),
            ),
        ]
    }
}

/// The folder of sockets in the text of [`Block::render`].
#[must_use]
pub fn run_dir_of(text: &str) -> Option<PathBuf> {
    let mut lines = text.lines().map(str::trim);
    let agent = lines.find_map(|line| line.strip_prefix("IdentityAgent \""))?;
    agent.strip_suffix(LOGIN_SOCKET).map(PathBuf::from)
}

/// A path without any character that ssh_config, its tokens or a shell would interpret.
fn plain(path: &Path) -> Result<String, BlockError> {
    let text = path.to_str().filter(|text| {
        text.starts_with('/')
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"/._+-@ ".contains(&b))
    });
    text.map(str::to_owned)
        .ok_or_else(|| BlockError::Path(path.to_owned()))
}

/// The block cannot be written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A path.
    #[error("`{}` cannot be written into ssh_config: use an absolute path of letters, digits and `/._+-@`", .0.display())]
    Path(PathBuf),
    /// A pattern.
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
}

#[cfg(test)]
mod tests;
