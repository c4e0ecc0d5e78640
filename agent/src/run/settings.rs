//! `[service]` of the configuration: where trust comes from, and what the service may do with it.
//! Read by the service and, from the same root-owned file, by its root helper.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use eic_protocol::proof::Audience;
use eic_protocol::text::printable;
use serde::Deserialize;

/// Where the helper listens.
pub const DEFAULT_SOCKET: &str = "/run/eic-helper.sock";
/// The service's own folder, in memory: a full or read-only disk must not hide the state.
pub const DEFAULT_RUNTIME: &str = "/run/eic";
/// The state that `eic-agent status` shows, in the service's folder.
pub const STATUS_FILE: &str = "status.json";

/// `[service]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// The CA's origin: host certificates, reports and, unless `trust_from` is set, trust documents.
    pub ca: Option<Audience>,
    /// A folder of published trust documents instead of the CA: `https://…/` or `file:/…`.
    pub trust_from: Option<Folder>,
    /// A proxy for every connection, `http://host:port`; the environment's is never used.
    pub proxy: Option<String>,
    /// PEM file of the roots that TLS trusts, instead of the system's.
    pub tls_roots: Option<PathBuf>,
    /// The account that the service runs as; besides root the only one that the helper serves.
    pub user: String,
    /// The helper's socket.
    pub helper: PathBuf,
    /// The service's folder.
    pub runtime: PathBuf,
    /// Seconds between two looks at a folder; the CA is asked once and answers when there is news.
    pub poll_seconds: u64,
    /// Whether host certificates are requested and renewed.
    pub host_certificates: bool,
    /// How a host certificate is asked for.
    pub evidence: EvidenceKind,
    /// Where `sts:GetWebIdentityToken` is asked, instead of the Region's public endpoint (a VPC endpoint's name).
    pub sts: Option<Audience>,
    /// A file with a one-time token for the first certificate, whatever the evidence later.
    pub enrolment_token: Option<PathBuf>,
    /// Whether the host's state and its logins are reported to the CA.
    pub report: bool,
    /// Whether live sessions of revoked certificates are ended.
    pub end_revoked_sessions: bool,
    /// Where sshd's log is: `journal`, or a file such as `/var/log/auth.log`.
    pub login_log: LoginLog,
    /// Where the enrolment line is written.
    pub console: PathBuf,
    /// Which sshd is tested and reloaded.
    pub sshd: Sshd,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            ca: None,
            trust_from: None,
            proxy: None,
            tls_roots: None,
            user: "eic".to_owned(),
            helper: PathBuf::from(DEFAULT_SOCKET),
            runtime: PathBuf::from(DEFAULT_RUNTIME),
            poll_seconds: 60,
            host_certificates: true,
            evidence: EvidenceKind::default(),
            sts: None,
            enrolment_token: None,
            report: true,
            end_revoked_sessions: false,
            login_log: LoginLog::Journal,
            console: PathBuf::from("/dev/console"),
            sshd: Sshd::default(),
        }
    }
}

impl Service {
    /// Where the state is told.
    #[must_use]
    pub fn status_path(&self) -> PathBuf {
        self.runtime.join(STATUS_FILE)
    }
}

/// What proves to the CA which instance asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// Identity document and the instance role's signed STS request.
    #[default]
    InstanceRole,
    /// A token of `sts:GetWebIdentityToken`.
    WebIdentity,
    /// Outside EC2: nothing but `enrolment_token` at first, then the enrolled host key.
    EnrolmentToken,
}

/// `[service.sshd]`: the same names as `eic-agent install` has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sshd {
    /// The folder of `sshd_config`.
    pub config_dir: PathBuf,
    /// The program.
    pub program: PathBuf,
    /// Where the running one says its process id.
    pub pid_file: PathBuf,
}

impl Default for Sshd {
    fn default() -> Self {
        Self {
            config_dir: PathBuf::from("/etc/ssh"),
            program: PathBuf::from("/usr/sbin/sshd"),
            pid_file: PathBuf::from("/run/sshd.pid"),
        }
    }
}

/// Where sshd's messages are read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LoginLog {
    /// systemd's journal, whose `_UID` and `_PID` no other program can forge.
    Journal,
    /// A file of syslog lines. Any local account can have a line written there.
    File(PathBuf),
}

impl TryFrom<String> for LoginLog {
    type Error = InvalidSetting;

    fn try_from(text: String) -> Result<Self, InvalidSetting> {
        match text.as_str() {
            "journal" => Ok(Self::Journal),
            path if path.starts_with('/') => Ok(Self::File(PathBuf::from(path))),
            other => Err(InvalidSetting::LoginLog(printable(other))),
        }
    }
}

/// A folder of published documents.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Folder {
    /// `https://…/`, ends with a slash (plain http on loopback only).
    Web(String),
    /// `file:/…`
    Local(PathBuf),
}

impl FromStr for Folder {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let refused = || InvalidSetting::Folder(printable(text));
        if let Some(path) = text.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if Path::new(path).is_absolute() {
                Ok(Self::Local(PathBuf::from(path)))
            } else {
                Err(refused())
            };
        }
        let (origin, path) = split_origin(text).ok_or_else(refused)?;
        let audience: Audience = origin.parse().map_err(|_| refused())?;
        if path.bytes().all(is_path_byte) && !path.contains("/../") {
            let slash = if path.ends_with('/') { "" } else { "/" };
            Ok(Self::Web(format!("{audience}{path}{slash}")))
        } else {
            Err(refused())
        }
    }
}

fn split_origin(url: &str) -> Option<(&str, &str)> {
    let authority = url.find("://")?.checked_add(3)?;
    let path = url.get(authority..)?.find('/');
    match path {
        Some(at) => url.split_at_checked(authority + at),
        None => Some((url, "/")),
    }
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-_.~%+=".contains(&byte)
}

impl TryFrom<String> for Folder {
    type Error = InvalidSetting;

    fn try_from(text: String) -> Result<Self, InvalidSetting> {
        text.parse()
    }
}

/// A value of `[service]` that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSetting {
    /// `trust_from`
    #[error(
        "`{0}` is no folder of trust documents: write `https://host/path/` or `file:/absolute/path`"
    )]
    Folder(String),
    /// `login_log`
    #[error("`{0}` is no log: write `journal` or the absolute path of a file")]
    LoginLog(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str) -> Result<Service, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn places_that_are_not_safe_to_fetch_from_are_refused() {
        for bad in [
            "ca = \"http://ca.example\"",
            "ca = \"https://ca.example/path\"",
            "trust_from = \"http://bucket.example/\"",
            "trust_from = \"ftp://bucket.example/\"",
            "trust_from = \"https://user@bucket.example/\"",
            "trust_from = \"https://bucket.example/a?b\"",
            "trust_from = \"https://bucket.example/a/../b\"",
            "trust_from = \"file:relative\"",
            "trust_from = \"/srv/trust\"",
            "login_log = \"auth.log\"",
            "evidence = \"none\"",
            "unknown = 1",
        ] {
            assert!(service(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn folders_and_logs_are_read() {
        let read = service(
            "trust_from = \"https://B.example/eic/trust\"\nlogin_log = \"/var/log/secure\"\nevidence = \"web-identity\"",
        )
        .unwrap();
        assert_eq!(
            read.trust_from,
            Some(Folder::Web("https://b.example/eic/trust/".to_owned()))
        );
        assert_eq!(read.login_log, LoginLog::File("/var/log/secure".into()));
        assert_eq!(read.evidence, EvidenceKind::WebIdentity);
        for local in ["file:/srv/t", "file:///srv/t"] {
            assert_eq!(local.parse(), Ok(Folder::Local("/srv/t".into())));
        }
        assert_eq!(
            "http://127.0.0.1:8000".parse(),
            Ok(Folder::Web("http://127.0.0.1:8000/".to_owned()))
        );
    }

    #[test]
    fn the_defaults_end_no_session() {
        let default = service("").unwrap();
        assert!(!default.end_revoked_sessions);
        assert_eq!(default.status_path(), Path::new("/run/eic/status.json"));
    }
}
