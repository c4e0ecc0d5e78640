//! `sshd_config.d/10-eic.conf`: the lines that make sshd ask this program.

use std::path::{Path, PathBuf};

use super::InstallError;

/// The drop-in's name; sshd takes the first value that it meets, in lexical order.
pub(super) const NAME: &str = "10-eic.conf";

/// What the drop-in says.
#[derive(Clone, Debug)]
pub(super) struct DropIn {
    /// This program.
    pub(super) agent: PathBuf,
    /// The account that sshd runs it as.
    pub(super) user: String,
    /// The TrustedUserCAKeys file.
    pub(super) ca_keys: PathBuf,
    /// The host certificate, where there is one.
    pub(super) host_certificate: Option<PathBuf>,
}

impl DropIn {
    /// Keyword and value of each setting (sshd_config(5)).
    ///
    /// AuthorizedPrincipalsCommand stands before AuthorizedKeysCommand: sshd before 9.4 ignores it otherwise.
    pub(super) fn settings(&self) -> Result<Vec<(&'static str, String)>, InstallError> {
        let agent = plain(&self.agent)?;
        let mut settings = vec![
            ("TrustedUserCAKeys", plain(&self.ca_keys)?),
            (
                "AuthorizedPrincipalsCommand",
                format!("{agent} authorized-principals %u %F"),
            ),
            ("AuthorizedPrincipalsCommandUser", self.user.clone()),
            (
                "AuthorizedKeysCommand",
                format!("{agent} authorized-keys %u %f"),
            ),
            ("AuthorizedKeysCommandUser", self.user.clone()),
        ];
        if let Some(path) = &self.host_certificate {
            settings.push(("HostCertificate", plain(path)?));
        }
        Ok(settings)
    }

    /// The file's text.
    pub(super) fn text(&self) -> Result<String, InstallError> {
        let lines = self
            .settings()?
            .into_iter()
            .map(|(keyword, value)| format!("{keyword} {value}\n"));
        Ok(std::iter::once(HEADER.to_owned()).chain(lines).collect())
    }
}

const HEADER: &str = "# Written by `eic-agent install`; `eic-agent uninstall` takes it back.\n";

/// A path that needs no quoting and holds no `%` token.
fn plain(path: &Path) -> Result<String, InstallError> {
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
            user: "eic".to_owned(),
            ca_keys: "/var/lib/eic/user-ca-keys".into(),
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
                matches!(drop_in(bad).text(), Err(InstallError::Path(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_principals_command_stands_before_the_keys_command() {
        // sshd before 9.4 ignores AuthorizedPrincipalsCommand after AuthorizedKeysCommand
        let mut full = drop_in("/usr/local/bin/eic-agent");
        full.host_certificate = Some("/var/lib/eic/host-cert.pub".into());
        assert_eq!(
            full.text().unwrap(),
            "# Written by `eic-agent install`; `eic-agent uninstall` takes it back.\n\
             TrustedUserCAKeys /var/lib/eic/user-ca-keys\n\
             AuthorizedPrincipalsCommand /usr/local/bin/eic-agent authorized-principals %u %F\n\
             AuthorizedPrincipalsCommandUser eic\n\
             AuthorizedKeysCommand /usr/local/bin/eic-agent authorized-keys %u %f\n\
             AuthorizedKeysCommandUser eic\n\
             HostCertificate /var/lib/eic/host-cert.pub\n"
        );
    }
}
