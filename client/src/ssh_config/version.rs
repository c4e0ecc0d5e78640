//! Which ssh is installed, from `ssh -V`. The block uses nothing that this version does not know.

use std::process::{Command, Stdio};

use eic_protocol::text::printable;

/// Major and minor version of OpenSSH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SshVersion(pub u32, pub u32);

/// `KnownHostsCommand` appeared in 8.5; without it no host key could be tied to an instance.
pub const OLDEST: SshVersion = SshVersion(8, 5);

impl SshVersion {
    /// Of the `ssh` in `PATH`.
    ///
    /// # Errors
    /// [`VersionError`].
    pub fn installed() -> Result<Self, VersionError> {
        let output = Command::new("ssh").arg("-V").stdin(Stdio::null()).output();
        let output = output.map_err(|e| VersionError::NotRun(e.to_string()))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Self::parse(&text)
    }

    /// Reads `OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL …`.
    ///
    /// # Errors
    /// [`VersionError`]; also for a version before [`OLDEST`].
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let unknown = || VersionError::Unknown(printable(text.trim_end()));
        let after = text.split_once("OpenSSH_").map(|(_, after)| after);
        // Windows: `OpenSSH_for_Windows_9.5p1`.
        let number = after
            .map(|a| a.strip_prefix("for_Windows_").unwrap_or(a))
            .ok_or_else(unknown)?;
        let (major, rest) = number.split_once('.').ok_or_else(unknown)?;
        let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let version = Self(
            major.parse().map_err(|_| unknown())?,
            minor.parse().map_err(|_| unknown())?,
        );
        if version < OLDEST {
            Err(VersionError::TooOld(version.0, version.1))
        } else {
            Ok(version)
        }
    }
}

/// ssh cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not there.
    #[error("cannot run `ssh -V`: {0}; install the OpenSSH client")]
    NotRun(String),
    /// Not OpenSSH.
    #[error("`ssh -V` says `{0}`: this is not an OpenSSH client")]
    Unknown(String),
    /// Too old.
    #[error("OpenSSH {0}.{1} is too old: host keys can be tied to instances from 8.5 on")]
    TooOld(u32, u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_foreign_clients_are_refused() {
        for bad in [
            "OpenSSH_8.4p1 Debian",
            "OpenSSH_7.4p1, OpenSSL",
            "Sun_SSH_1.1",
            "",
            "OpenSSH_x.y",
            "OpenSSH_9",
        ] {
            assert!(SshVersion::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn versions_are_read_as_they_are_printed() {
        for (text, version) in [
            (
                "OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.19",
                SshVersion(9, 2),
            ),
            ("OpenSSH_10.0p2, LibreSSL 3.3.6", SshVersion(10, 0)),
            ("OpenSSH_for_Windows_9.5p1, LibreSSL", SshVersion(9, 5)),
        ] {
            assert_eq!(SshVersion::parse(text).unwrap(), version);
        }
    }
}
