//! The credential selection: the variables of the environment in which somebody typed `ssh`.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use eic_protocol::aws_region::AwsRegion;
use eic_protocol::secret::Secret;
use eic_protocol::text::printable;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::id_token;

/// Variables beside `AWS_*` that credential programs and the SDK need. No proxy variable is among them.
const PASSED: [&str; 16] = [
    // For the remedy alone: whether this is a job of GitHub.
    "GITHUB_ACTIONS",
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "GNUPGHOME",
    "GPG_TTY",
];
/// Variables that say whose credentials are meant, in the SDK's order of precedence, and their Region.
const NAMING_CREDENTIALS: [&str; 10] = [
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
];
/// Variables that lead to an ID token.
const NAMING_TOKENS: [&str; 4] = [
    id_token::VARIABLE,
    id_token::FILE,
    id_token::GITHUB_URL,
    id_token::GITHUB_BEARER,
];
/// Longest value that is passed on; session tokens stay under 8 KiB.
const MAX_VALUE: usize = 16 * 1024;
/// Most variables that are passed on.
const MAX_VARIABLES: usize = 128;

/// The variables that decide which credentials are meant. They may hold secrets: nothing of them is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Selection(BTreeMap<String, Secret<String>>);

/// Names one selection in one state of its files. Sessions and certificates are never shared across ids (H-14).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SelectionId([u8; 32]);

impl Selection {
    /// From this process's environment.
    #[must_use]
    pub fn from_env() -> Self {
        let utf8 = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::from_variables(utf8)
    }

    /// From given variables; those that have nothing to do with credentials are dropped.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let wanted = variables
            .into_iter()
            .filter(|(name, value)| is_passed(name) && value.len() <= MAX_VALUE);
        Self(
            wanted
                .take(MAX_VARIABLES)
                .map(|(name, value)| (name, Secret::new(value)))
                .collect(),
        )
    }

    /// Drops what a peer may have put in that [`Selection::from_env`] would not.
    #[must_use]
    pub fn filtered(self) -> Self {
        Self::from_variables(
            self.0
                .into_iter()
                .map(|(name, value)| (name, value.reveal().clone())),
        )
    }

    /// The same person with another profile: what names other credentials is left out.
    #[must_use]
    pub fn with_profile(&self, profile: &str) -> Self {
        let kept = self
            .0
            .iter()
            .filter(|(name, _)| !NAMING_CREDENTIALS.contains(&name.as_str()))
            .filter(|(name, _)| !NAMING_TOKENS.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()));
        let profile = ("AWS_PROFILE".to_owned(), Secret::new(profile.to_owned()));
        Self(kept.chain([profile]).collect())
    }

    /// The same credentials in another Region.
    #[must_use]
    pub fn with_region(&self, region: AwsRegion) -> Self {
        let is_region = |name: &str| matches!(name, "AWS_REGION" | "AWS_DEFAULT_REGION");
        let kept = self.variables().filter(|(name, _)| !is_region(name));
        let own = ("AWS_REGION", region.as_str());
        let all = kept.chain([own]);
        Self::from_variables(all.map(|(name, value)| (name.to_owned(), value.to_owned())))
    }

    /// The variables, for the child's environment.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.reveal().as_str()))
    }

    /// The variables for a child that deals with AWS alone: what leads to an ID token is nobody's business there.
    pub fn aws_variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables()
            .filter(|(name, _)| !NAMING_TOKENS.contains(name))
    }

    /// Whether a variable of this name has to do with who somebody is.
    #[must_use]
    pub fn names_identity(name: &str) -> bool {
        name.starts_with("AWS_") || NAMING_TOKENS.contains(&name)
    }

    /// The profile that the variables name.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.get("AWS_PROFILE")
    }

    /// Whether the variables say whose credentials are meant, rather than leaving it to the default profile.
    #[must_use]
    pub fn names_credentials(&self) -> bool {
        let naming = NAMING_CREDENTIALS
            .iter()
            .filter(|name| !name.ends_with("REGION"));
        naming.into_iter().any(|name| self.get(name).is_some())
    }

    /// How the selection is called in messages and in the queue of events: never a secret.
    #[must_use]
    pub fn label(&self) -> String {
        match (self.get("AWS_ACCESS_KEY_ID"), self.profile()) {
            (Some(id), _) => format!("environment {}", printable(id)),
            (None, Some(profile)) => format!("profile {}", printable(profile)),
            (None, None) => "default".to_owned(),
        }
    }

    /// The selection's identity: its variables, and the state of the files that they lead to.
    #[must_use]
    pub fn id(&self) -> SelectionId {
        let mut hash = Sha256::new();
        let identifying = self.0.iter().filter(|(name, _)| {
            name.starts_with("AWS_") || *name == "HOME" || NAMING_TOKENS.contains(&name.as_str())
        });
        for (name, value) in identifying {
            feed(&mut hash, name.as_bytes());
            feed(&mut hash, value.reveal().as_bytes());
        }
        for file in self.files() {
            feed(&mut hash, stamp(&file).as_bytes());
        }
        SelectionId(hash.finalize().into())
    }

    /// The AWS configuration file that counts.
    #[must_use]
    pub fn config_file(&self) -> Option<PathBuf> {
        self.file("AWS_CONFIG_FILE", ".aws/config")
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let credentials = self.file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
        let token = self.get("AWS_WEB_IDENTITY_TOKEN_FILE").map(PathBuf::from);
        let id_token = self.get(id_token::FILE).map(PathBuf::from);
        self.config_file()
            .into_iter()
            .chain(credentials)
            .chain(token)
            .chain(id_token)
    }

    fn file(&self, variable: &str, default: &str) -> Option<PathBuf> {
        let named = self.get(variable).map(PathBuf::from);
        named.or_else(|| self.get("HOME").map(|home| Path::new(home).join(default)))
    }

    /// Whether this is a job of GitHub Actions to which no ID token is offered.
    pub(super) fn is_job_without_token(&self) -> bool {
        self.get("GITHUB_ACTIONS").is_some() && self.get(id_token::GITHUB_URL).is_none()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(|value| value.reveal().as_str())
            .filter(|value| !value.is_empty())
    }
}

fn is_passed(name: &str) -> bool {
    name.starts_with("AWS_") || PASSED.contains(&name) || NAMING_TOKENS.contains(&name)
}

/// Length first, so that no variable can run into the next.
fn feed(hash: &mut Sha256, bytes: &[u8]) {
    hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
    hash.update(bytes);
}

fn stamp(file: &Path) -> String {
    let stat = std::fs::metadata(file);
    stat.map_or_else(
        |_| "none".to_owned(),
        |m| {
            format!(
                "{}.{}:{}:{}:{}",
                m.mtime(),
                m.mtime_nsec(),
                m.size(),
                m.ino(),
                m.dev()
            )
        },
    )
}

impl fmt::Debug for SelectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SelectionId")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(variables: &[(&str, &str)]) -> Selection {
        Selection::from_variables(
            variables
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned())),
        )
    }

    #[test]
    fn another_profile_file_state_or_key_is_another_selection() {
        // H-14
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        let dev = selection(&[("HOME", home), ("AWS_PROFILE", "dev")]);
        assert_eq!(dev.id(), dev.clone().id());
        assert_ne!(
            dev.id(),
            selection(&[("HOME", home), ("AWS_PROFILE", "prod")]).id()
        );
        assert_ne!(
            dev.id(),
            selection(&[("HOME", home), ("AWS_PROFIL", "Edev")]).id()
        );
        let before = dev.id();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        std::fs::write(dir.path().join(".aws/credentials"), "[dev]\n").unwrap();
        assert_ne!(dev.id(), before);
    }

    #[test]
    fn another_profile_is_not_used_with_keys_of_the_environment() {
        // H-14
        let mixed = selection(&[
            ("AWS_ACCESS_KEY_ID", "AKIA1"),
            ("AWS_SECRET_ACCESS_KEY", "canary"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_CONFIG_FILE", "/c"),
        ]);
        let other = mixed.with_profile("prod");
        let variables: Vec<_> = other.variables().collect();
        assert_eq!(
            variables,
            [("AWS_CONFIG_FILE", "/c"), ("AWS_PROFILE", "prod")]
        );
    }

    #[test]
    fn variables_that_are_no_business_of_ours_are_dropped() {
        // H-02: proxies of the environment never reach a call that carries credentials.
        let selection = selection(&[
            ("HTTPS_PROXY", "http://evil"),
            ("LD_PRELOAD", "/x.so"),
            ("AWS_PROFILE", "dev"),
            ("PATH", "/bin"),
        ]);
        let names: Vec<_> = selection.variables().map(|(name, _)| name).collect();
        assert_eq!(names, ["AWS_PROFILE", "PATH"]);
    }

    #[test]
    fn secrets_are_neither_in_debug_output_nor_in_the_label() {
        let s = selection(&[
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "canary"),
        ]);
        assert!(!format!("{s:?} {:?} {}", s.id(), s.label()).contains("canary"));
        assert_eq!(s.label(), "environment AKIAIOSFODNN7EXAMPLE");
    }
}
