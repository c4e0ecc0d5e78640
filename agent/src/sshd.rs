//! The installed sshd as judge: its version, its verdict on a configuration, its effective settings.
//! Not a re-implementation of it: `config_file` only finds which line says what.

pub(crate) mod config_file;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::child;

/// An sshd and the configuration that it reads.
#[derive(Clone, Debug)]
pub(crate) struct Sshd {
    pub(crate) program: PathBuf,
    /// Its main configuration.
    pub(crate) config: PathBuf,
    pub(crate) version: Version,
}

/// `OpenSSH_9.2` as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 9
    pub major: u32,
    /// 2
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenSSH {}.{}", self.major, self.minor)
    }
}

impl Sshd {
    pub(crate) fn find(program: &Path, config_dir: &Path) -> Result<Self, SshdError> {
        // Versions without -V print it in front of their usage.
        let output = run(program, &["-V"])?;
        let text = [output.stderr.as_slice(), &output.stdout].concat();
        let version = parse_version(&String::from_utf8_lossy(&text))
            .ok_or_else(|| SshdError::Version(program.to_path_buf()))?;
        Ok(Self {
            program: program.to_path_buf(),
            config: main_config(config_dir),
            version,
        })
    }

    /// The same sshd with another main configuration.
    pub(crate) fn with_config(&self, config: PathBuf) -> Self {
        Self {
            config,
            ..self.clone()
        }
    }

    /// `sshd -t`
    pub(crate) fn test(&self) -> Result<(), SshdError> {
        let output = run(&self.program, &["-t", "-f", &self.config.to_string_lossy()])?;
        accepted(&output).map(drop)
    }

    /// `sshd -T -C …`: the settings that a login of `user` from elsewhere meets. Repeated keywords are kept apart.
    pub(crate) fn effective(&self, user: &str) -> Result<Settings, SshdError> {
        // Documentation addresses: a Match block for one's own network is not what everybody meets. All that Match
        // can ask for must be there: sshd ends over a `Match LocalPort` that it cannot judge.
        let connection =
            format!("user={user},host=client.example,addr=192.0.2.1,laddr=192.0.2.2,lport=22");
        let output = run(
            &self.program,
            &[
                "-T",
                "-f",
                &self.config.to_string_lossy(),
                "-C",
                &connection,
            ],
        )?;
        Ok(Settings::parse(&accepted(&output)?))
    }
}

/// Effective settings: lower-case keyword, and each of its values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings(BTreeMap<String, Vec<String>>);

impl Settings {
    pub(crate) fn parse(text: &str) -> Self {
        let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
            settings
                .entry(keyword.to_ascii_lowercase())
                .or_default()
                .push(value.trim().to_owned());
        }
        Self(settings)
    }

    /// The values of a keyword; `none` counts as no value.
    pub(crate) fn values(&self, keyword: &str) -> Vec<&str> {
        let found = self.0.get(&keyword.to_ascii_lowercase());
        found
            .into_iter()
            .flatten()
            .map(String::as_str)
            .filter(|value| *value != "none")
            .collect()
    }
}

/// Where a distribution keeps the configuration that `/etc/ssh/sshd_config` would replace (openSUSE).
pub(crate) const VENDOR_DIR: &str = "/usr/etc/ssh";

/// The file that sshd reads first: the administrator's, or where there is none the distribution's.
fn main_config(config_dir: &Path) -> PathBuf {
    let (own, vendor) = (
        config_dir.join("sshd_config"),
        Path::new(VENDOR_DIR).join("sshd_config"),
    );
    if !own.exists() && config_dir == Path::new("/etc/ssh") && vendor.exists() {
        vendor
    } else {
        own
    }
}

fn run(program: &Path, arguments: &[&str]) -> Result<Output, SshdError> {
    child::output(Command::new(program).args(arguments), child::LIMIT).map_err(|source| {
        SshdError::Start {
            program: program.to_path_buf(),
            source,
        }
    })
}

fn accepted(output: &Output) -> Result<String, SshdError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(SshdError::Refused(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

fn parse_version(text: &str) -> Option<Version> {
    let numbers = text.split("OpenSSH_").nth(1)?;
    let (major, rest) = numbers.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(Version {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}

/// Why sshd gave no verdict, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum SshdError {
    /// It could not be started.
    #[error("run `{}`: is openssh-server installed?", .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It does not say its version.
    #[error("use `{}`: it is not OpenSSH's sshd", .0.display())]
    Version(PathBuf),
    /// It refuses the configuration.
    #[error("have sshd accept the configuration, it said: {0}")]
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_every_form() {
        for (text, expected) in [
            ("OpenSSH_9.2, OpenSSL 3.0.19 27 Jan 2026\n", Some((9, 2))),
            (
                "unknown option -- V\nOpenSSH_7.4p1, OpenSSL 1.0.2k-fips\nusage: sshd [-46DdeiqTt]\n",
                Some((7, 4)),
            ),
            ("OpenSSH_10.0p2 Debian-5\n", Some((10, 0))),
            ("dropbear", None),
            ("OpenSSH_x.y", None),
        ] {
            let version = parse_version(text).map(|v| (v.major, v.minor));
            assert_eq!(version, expected, "{text}");
        }
        assert!(
            Version {
                major: 10,
                minor: 0
            } > Version { major: 9, minor: 9 }
        );
    }

    #[test]
    fn settings_keep_repeated_keywords_and_drop_none() {
        let settings = Settings::parse(
            "HostKey /a\nhostkey /b\nauthorizedkeyscommand none\ntrustedusercakeys /k\n",
        );
        assert_eq!(settings.values("HostKey"), ["/a", "/b"]);
        assert!(settings.values("authorizedkeyscommand").is_empty());
        assert_eq!(settings.values("TrustedUserCAKeys"), ["/k"]);
    }

    #[test]
    fn a_program_that_is_no_sshd_is_refused() {
        assert!(matches!(
            Sshd::find(Path::new("/nonexistent"), Path::new("/etc/ssh")),
            Err(SshdError::Start { .. })
        ));
        assert!(matches!(
            Sshd::find(Path::new("/bin/true"), Path::new("/etc/ssh")),
            Err(SshdError::Version(_))
        ));
    }
}
