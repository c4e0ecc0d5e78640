//! The lines that make sshd ask this program, wherever they will stand (`placement`).

use std::path::{Path, PathBuf};

use super::InstallError;

/// What the lines say.
#[derive(Clone, Debug)]
pub(super) struct DropIn {
    /// This program.
    pub(super) agent: PathBuf,
    /// Another configuration of it than the usual one (the trial's).
    pub(super) config: Option<PathBuf>,
    /// What follows `authorized-keys`: `%u %f`, and further tokens for chained commands.
    pub(super) keys_words: String,
    /// The account that sshd runs it as.
    pub(super) user: String,
    /// The TrustedUserCAKeys file.
    pub(super) ca_keys: PathBuf,
    /// The RevokedKeys file, unless the administrator has one of his own (one file only before sshd 10.3).
    pub(super) revoked_keys: Option<PathBuf>,
    /// The host certificate, where there is one.
    pub(super) host_certificate: Option<PathBuf>,
}

/// The keywords that only one program can have, in lower case.
pub(super) const KEYWORDS: [&str; 5] = [
    "trustedusercakeys",
    "authorizedprincipalscommand",
    "authorizedprincipalscommanduser",
    "authorizedkeyscommand",
    "authorizedkeyscommanduser",
];

impl DropIn {
    /// Keyword and value of each setting (sshd_config(5)).
    ///
    /// AuthorizedPrincipalsCommand stands before AuthorizedKeysCommand: sshd before 9.4 ignores it otherwise.
    pub(super) fn settings(&self) -> Result<Vec<(&'static str, String)>, InstallError> {
        let agent = plain(&self.agent)?;
        let config = match &self.config {
            Some(path) => format!(" --config {}", plain(path)?),
            None => String::new(),
        };
        let mut settings = vec![
            ("TrustedUserCAKeys", plain(&self.ca_keys)?),
            (
                "AuthorizedPrincipalsCommand",
                format!("{agent} authorized-principals{config} %u %F"),
            ),
            ("AuthorizedPrincipalsCommandUser", self.user.clone()),
            (
                "AuthorizedKeysCommand",
                format!("{agent} authorized-keys{config} {}", self.keys_words),
            ),
            ("AuthorizedKeysCommandUser", self.user.clone()),
        ];
        let files = [
            ("RevokedKeys", &self.revoked_keys),
            ("HostCertificate", &self.host_certificate),
        ];
        for (keyword, path) in files {
            if let Some(path) = path {
                settings.push((keyword, plain(path)?));
            }
        }
        Ok(settings)
    }

    /// The settings as lines.
    pub(super) fn lines(&self) -> Result<String, InstallError> {
        let settings = self.settings()?.into_iter();
        Ok(settings
            .map(|(keyword, value)| format!("{keyword} {value}\n"))
            .collect())
    }
}

/// A path that needs no quoting and holds no `%` token.
pub(super) fn plain(path: &Path) -> Result<String, InstallError> {
    let text = path.to_str().unwrap_or_default();
    let is_plain =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'+');
    if text.starts_with('/') && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err(InstallError::Path(path.to_path_buf()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop_in(agent: &str) -> DropIn {
        DropIn {
            agent: agent.into(),
            config: None,
            keys_words: "%u %f".to_owned(),
            user: "eic".to_owned(),
            ca_keys: "/var/lib/eic/user-ca-keys".into(),
            revoked_keys: None,
            host_certificate: None,
        }
    }

    #[test]
    fn paths_with_meaning_to_sshd_are_refused() {
        for bad in [
            "/opt/my agent",
            "/opt/a%u",
            "relative/agent",
            "/a\"b",
            "/a\nMatch all",
            "/a#b",
            "",
        ] {
            assert!(
                matches!(drop_in(bad).lines(), Err(InstallError::Path(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_principals_command_stands_before_the_keys_command() {
        // sshd before 9.4 ignores AuthorizedPrincipalsCommand after AuthorizedKeysCommand
        let mut full = drop_in("/usr/local/bin/eic-agent");
        full.revoked_keys = Some("/var/lib/eic/revoked-keys".into());
        full.host_certificate = Some("/var/lib/eic/host-cert.pub".into());
        assert_eq!(
            full.lines().unwrap(),
            "TrustedUserCAKeys /var/lib/eic/user-ca-keys\n\
             AuthorizedPrincipalsCommand /usr/local/bin/eic-agent authorized-principals %u %F\n\
             AuthorizedPrincipalsCommandUser eic\n\
             AuthorizedKeysCommand /usr/local/bin/eic-agent authorized-keys %u %f\n\
             AuthorizedKeysCommandUser eic\n\
             RevokedKeys /var/lib/eic/revoked-keys\n\
             HostCertificate /var/lib/eic/host-cert.pub\n"
        );
        full.config = Some("/t/agent.toml".into());
        full.keys_words = "%u %f h=%h".to_owned();
        let text = full.lines().unwrap();
        assert!(text.contains(" authorized-principals --config /t/agent.toml %u %F\n"));
        assert!(text.contains(" authorized-keys --config /t/agent.toml %u %f h=%h\n"));
    }
}
