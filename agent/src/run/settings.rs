//! `[service]` of the configuration: where trust comes from, and what the service may do with it.
//! Read by the service and, from the same root-owned file, by its root helper.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use eic_protocol::aws_region::AwsRegion;
use eic_protocol::proof::Audience;
use eic_protocol::text::printable;
use serde::Deserialize;

use crate::passwd::{Account, USUAL_COMMAND_USERS};

/// Where the helper listens.
pub const DEFAULT_SOCKET: &str = "/run/eic-helper.sock";
/// Where the helper listens for chained commands of other users.
pub const DEFAULT_LOGINS: &str = "/run/eic-logins.sock";
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
    /// A folder of published trust documents instead of the CA: `https://…/`, `s3://bucket/…` or `file:/…`.
    pub trust_from: Option<Folder>,
    /// The Region of an `s3://` folder's bucket, where it is not the instance's.
    pub s3_region: Option<AwsRegion>,
    /// Where S3 is asked, instead of the Region's public endpoint (a VPC endpoint's name).
    pub s3: Option<Audience>,
    /// A proxy for every connection, `http://host:port`; the environment's is never used.
    pub proxy: Option<String>,
    /// PEM file of the roots that TLS trusts, instead of the system's.
    pub tls_roots: Option<PathBuf>,
    /// The account that the service runs as; besides root the only one that the helper serves.
    pub user: String,
    /// The helper's socket.
    pub helper: PathBuf,
    /// The helper's door for logins: chained commands of other users.
    pub logins: PathBuf,
    /// sshd's AuthorizedKeysCommandUser, whom that door serves; where it is not set, the one that `eic-agent
    /// install` takes.
    pub command_user: Option<String>,
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
    /// A file with a one-time token for the first certificate, whatever the evidence later; shown again, where it is
    /// a new one, when the CA refuses the key of an enrolled host.
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
            s3_region: None,
            s3: None,
            proxy: None,
            tls_roots: None,
            user: "eic".to_owned(),
            helper: PathBuf::from(DEFAULT_SOCKET),
            logins: PathBuf::from(DEFAULT_LOGINS),
            command_user: None,
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
    /// Whom the door for logins serves: the configured account, or the first usual one that exists.
    #[must_use]
    pub fn command_user(&self, accounts: &[Account]) -> &str {
        let exists = |name: &&str| accounts.iter().any(|account| account.name == *name);
        let usual = || USUAL_COMMAND_USERS.into_iter().find(exists);
        let named = self.command_user.as_deref().or_else(usual);
        named.unwrap_or(USUAL_COMMAND_USERS[0])
    }

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
    /// `s3://bucket/prefix/`, read with the instance role's credentials.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// What the names of its objects begin with: empty, or ending with a slash.
        prefix: String,
    },
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
        if let Some(place) = text.strip_prefix("s3://") {
            return s3_folder(place).ok_or_else(refused);
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

/// A bucket's name by S3's rules, and a prefix of characters that need no encoding.
fn s3_folder(place: &str) -> Option<Folder> {
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edges = |text: &str| !text.starts_with(['-', '.']) && !text.ends_with(['-', '.']);
    let named = (3..=63).contains(&bucket.len()) && bucket.bytes().all(inner) && edges(bucket);
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b);
    let parts = || prefix.split('/');
    let sound = prefix.is_empty() || parts().all(|part| !matches!(part, "" | "." | ".."));
    (named && sound && prefix.bytes().all(plain)).then(|| Folder::S3 {
        bucket: bucket.to_owned(),
        prefix: match prefix {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        },
    })
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
        "`{0}` is no folder of trust documents: write `https://host/path/`, `s3://bucket/prefix/` or `file:/absolute/path`"
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
            "trust_from = \"s3://\"",
            "trust_from = \"s3://ab\"",
            "trust_from = \"s3://Bucket/x\"",
            "trust_from = \"s3://-bucket/x\"",
            "trust_from = \"s3://user@bucket/x\"",
            "trust_from = \"s3://bucket/a//b\"",
            "trust_from = \"s3://bucket/../b\"",
            "trust_from = \"s3://bucket/a?b\"",
            "s3_region = \"mars-1\"",
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
        for (text, wanted) in [
            ("s3://my.bucket-1", ""),
            ("s3://my.bucket-1/a/b", "a/b/"),
            ("s3://my.bucket-1/a/b/", "a/b/"),
        ] {
            let bucket = "my.bucket-1".to_owned();
            let prefix = wanted.to_owned();
            assert_eq!(text.parse(), Ok(Folder::S3 { bucket, prefix }));
        }
        assert_eq!(
            "http://127.0.0.1:8000".parse(),
            Ok(Folder::Web("http://127.0.0.1:8000/".to_owned()))
        );
    }

    #[test]
    fn the_door_for_logins_is_the_configured_accounts_or_the_usual_ones() {
        let account = |name: &str| Account {
            name: name.to_owned(),
            uid: 7,
            gid: 7,
            home: "/".into(),
        };
        let usual = service("").unwrap();
        assert_eq!(usual.command_user(&[]), "eic");
        assert_eq!(
            usual.command_user(&[account("ec2-instance-connect")]),
            "ec2-instance-connect"
        );
        let both = [account("ec2-instance-connect"), account("eic")];
        assert_eq!(usual.command_user(&both), "eic");
        let own = service("command_user = \"svc\"").unwrap();
        assert_eq!(own.command_user(&both), "svc");
    }

    #[test]
    fn the_defaults_end_no_session() {
        let default = service("").unwrap();
        assert!(!default.end_revoked_sessions);
        assert_eq!(default.status_path(), Path::new("/run/eic/status.json"));
    }
}
