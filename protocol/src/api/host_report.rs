//! `POST /v1/hosts/report`: what a host runs, believes and lets in, and whom its sshd accepted.
//! Signed by the host's enrolled key. A report by the host itself: the CA compares, it does not believe.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::base64_text::Base64Bytes;
use crate::grant::Nonce;
use crate::instance_id::InstanceId;
use crate::key_fingerprint::KeyFingerprint;
use crate::proof::{Audience, CanonicalRequest, Fields, Route, Signed};
use crate::request_id::RequestId;
use crate::sshsig::{self, InvalidSignature, Namespace};
use crate::subject_key::SubjectKey;
use crate::text::{Line, printable};

/// Most logins of one report; the rest waits for the next.
pub const MAX_LOGINS: usize = 500;
/// Largest report. Bytes: 500 logins of about 1 kB at most.
pub const MAX_REPORT: usize = 1024 * 1024;
/// Most ports that one sshd listens on.
const MAX_PORTS: usize = 16;

/// A report with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHostReport {
    /// What is reported.
    pub report: HostReport,
    /// A host key that the host is enrolled with.
    pub host_key: SubjectKey,
    /// SSHSIG by it over the canonical request (namespace `eic-request-v1`).
    pub signature: Base64Bytes,
}

/// What a host reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostReport {
    /// Protocol version that the agent speaks.
    pub protocol: u32,
    /// The host.
    pub instance: InstanceId,
    /// When the report was made, by the host's clock, in Unix seconds.
    pub time: u64,
    /// Makes two reports of one second different.
    pub nonce: Nonce,
    /// Versions of what runs there.
    pub versions: HostVersions,
    /// What it believes.
    pub trust: TrustReport,
    /// The host's clock less the CA's, in milliseconds, by the last answer; absent: none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// Ports that sshd listens on.
    pub ssh_ports: BTreeSet<u16>,
    /// Ways in that sshd really accepts, as its effective configuration says.
    pub ways_in: BTreeSet<WayIn>,
    /// Logins that sshd accepted or that ended since the last report, oldest first.
    pub logins: Vec<AcceptedLogin>,
    /// Logins that were lost before they could be reported.
    pub lost_logins: u64,
}

/// Versions of what runs on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostVersions {
    /// The agent's.
    pub agent: Line,
    /// sshd's, as it shows it.
    pub sshd: Line,
    /// The operating system's, `PRETTY_NAME` of os-release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<Line>,
}

/// What a host believes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustReport {
    /// Version of its root.
    pub root_version: u64,
    /// Sequence of its bundle, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_sequence: Option<u64>,
    /// Version of its revocation list, as sshd reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub krl_number: Option<u64>,
    /// Version of its host view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view_version: Option<u64>,
    /// When its first host certificate ends, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_certificate_ends: Option<u64>,
    /// Whether all is well.
    pub health: Health,
    /// Why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Line>,
}

/// Most reasons of one report.
const MAX_REASONS: usize = 32;

/// Whether all is well with a host's trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Yes.
    Healthy,
    /// Out of date, or something offered was refused; logins go on.
    Degraded,
    /// No certificate opens the host.
    Stopped,
}

impl Health {
    /// The name as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Stopped => "stopped",
        }
    }
}

/// A way into a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WayIn {
    /// Certificates, with principals from this agent.
    Certificates,
    /// Certificates, with principals from elsewhere or by user name.
    OtherCertificates,
    /// Keys pushed by Instance Connect.
    InstanceConnect,
    /// Keys from another AuthorizedKeysCommand.
    OtherKeysCommand,
    /// Keys from root-owned files.
    KeyFiles,
    /// Keys from files that users can write: these can hold `cert-authority` too.
    UserKeyFiles,
    /// Passwords.
    Password,
    /// Keyboard-interactive (PAM).
    KeyboardInteractive,
    /// Host-based.
    HostBased,
    /// Kerberos.
    Gssapi,
}

impl WayIn {
    /// The name as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificates => "certificates",
            Self::OtherCertificates => "other-certificates",
            Self::InstanceConnect => "instance-connect",
            Self::OtherKeysCommand => "other-keys-command",
            Self::KeyFiles => "key-files",
            Self::UserKeyFiles => "user-key-files",
            Self::Password => "password",
            Self::KeyboardInteractive => "keyboard-interactive",
            Self::HostBased => "host-based",
            Self::Gssapi => "gssapi",
        }
    }
}

/// A login that sshd accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedLogin {
    /// The account, as the host names it.
    pub user: Line,
    /// What opened it.
    pub by: Credential,
    /// Where it came from, where sshd's log says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Port at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// The kernel's audit session, which joins what the user did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_session: Option<u32>,
    /// When it was accepted, in Unix seconds.
    pub started: u64,
    /// When it ended, in Unix seconds; absent: it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
}

/// What opened a login, one member named for its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Credential {
    /// A certificate.
    Certificate {
        /// Any serial: one that no CA of ours would write is what an alarm is for.
        serial: ReportedSerial,
        /// Its key id, escaped.
        key_id: Line,
        /// The CA's key.
        ca: KeyFingerprint,
    },
    /// A plain key.
    Key {
        /// The key.
        fingerprint: KeyFingerprint,
    },
    /// Anything else, by sshd's name (`password`, `gssapi-with-mic`, …).
    Other {
        /// The method.
        method: Line,
    },
}

/// Any 64-bit serial; in JSON a decimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReportedSerial(pub u64);

impl TryFrom<String> for ReportedSerial {
    type Error = InvalidHostReport;

    fn try_from(text: String) -> Result<Self, InvalidHostReport> {
        let canonical = text.parse::<u64>().ok().filter(|n| n.to_string() == text);
        canonical
            .map(Self)
            .ok_or(InvalidHostReport::Value("serial"))
    }
}

impl From<ReportedSerial> for String {
    fn from(serial: ReportedSerial) -> Self {
        serial.0.to_string()
    }
}

impl Signed for HostReport {
    const ROUTE: Route = Route::HostReports;

    fn fields(&self, fields: &mut Fields) {
        fields
            .required(self.protocol.to_be_bytes())
            .required(self.instance.as_str())
            .required(self.time.to_be_bytes())
            .required(self.nonce.as_bytes())
            .required(self.versions.agent.as_str())
            .required(self.versions.sshd.as_str())
            .optional(self.versions.os.as_ref().map(Line::as_str));
        self.trust.fields(fields);
        fields
            .optional(self.clock_offset_ms.map(i64::to_be_bytes))
            .list(self.ssh_ports.iter().map(|port| port.to_be_bytes()))
            .list(self.ways_in.iter().map(|way| way.as_str()))
            .records(&self.logins, AcceptedLogin::fields)
            .required(self.lost_logins.to_be_bytes());
    }
}

impl TrustReport {
    fn fields(&self, fields: &mut Fields) {
        fields
            .required(self.root_version.to_be_bytes())
            .optional(self.bundle_sequence.map(u64::to_be_bytes))
            .optional(self.krl_number.map(u64::to_be_bytes))
            .optional(self.view_version.map(u64::to_be_bytes))
            .optional(self.host_certificate_ends.map(u64::to_be_bytes))
            .required(self.health.as_str())
            .list(self.reasons.iter().map(Line::as_str));
    }
}

impl AcceptedLogin {
    fn fields(&self, fields: &mut Fields) {
        fields.required(self.user.as_str());
        self.by.fields(fields);
        fields
            .optional(self.source.map(|address| address.to_string()))
            .optional(self.source_port.map(u16::to_be_bytes))
            .optional(self.audit_session.map(u32::to_be_bytes))
            .required(self.started.to_be_bytes())
            .optional(self.ended.map(u64::to_be_bytes));
    }
}

impl Credential {
    fn fields(&self, fields: &mut Fields) {
        match self {
            Self::Certificate { serial, key_id, ca } => fields
                .required("certificate")
                .required(serial.0.to_be_bytes())
                .required(key_id.as_str())
                .required(ca.as_bytes()),
            Self::Key { fingerprint } => fields.required("key").required(fingerprint.as_bytes()),
            Self::Other { method } => fields.required("other").required(method.as_str()),
        };
    }
}

impl SignedHostReport {
    /// Reads a report: bounded, strict.
    ///
    /// # Errors
    /// [`InvalidHostReport`] says what is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidHostReport> {
        if body.len() > MAX_REPORT {
            return Err(InvalidHostReport::TooLarge);
        }
        let report: Self = serde_json::from_slice(body)
            .map_err(|flaw| InvalidHostReport::Form(printable(&flaw.to_string())))?;
        report.report.check()?;
        Ok(report)
    }

    /// Checks that the named key signed the report for this audience. Whether the host is enrolled
    /// with that key is for the caller to look up.
    ///
    /// # Errors
    /// [`InvalidSignature`]
    pub fn check_signature(&self, audience: &Audience) -> Result<(), InvalidSignature> {
        sshsig::verify(
            Namespace::Request,
            &self.host_key,
            CanonicalRequest::of(audience, &self.report).as_slice(),
            self.signature.as_slice(),
        )
    }
}

impl HostReport {
    /// Whether its parts are within bounds and its times are in order.
    ///
    /// # Errors
    /// [`InvalidHostReport`] names the part.
    pub fn check(&self) -> Result<(), InvalidHostReport> {
        let ports = (1..=MAX_PORTS).contains(&self.ssh_ports.len());
        let in_order = |login: &AcceptedLogin| login.ended.is_none_or(|end| login.started <= end);
        let checks = [
            ("logins", self.logins.len() <= MAX_LOGINS),
            ("reasons", self.trust.reasons.len() <= MAX_REASONS),
            ("ports", ports && !self.ssh_ports.contains(&0)),
            ("times of a login", self.logins.iter().all(in_order)),
        ];
        match checks.iter().find(|(_, holds)| !holds) {
            Some((what, _)) => Err(InvalidHostReport::Value(what)),
            None => Ok(()),
        }
    }
}

/// Not a host report.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHostReport {
    /// Over 1 MiB.
    #[error("the report is larger than {MAX_REPORT} bytes")]
    TooLarge,
    /// Not JSON of the form.
    #[error("the report is malformed: {0}")]
    Form(String),
    /// A part that cannot be.
    #[error("the report's {0} cannot be")]
    Value(&'static str),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReportResponse {
    /// The CA's clock, in Unix seconds.
    pub server_time: u64,
    /// When to report again, in seconds.
    pub report_again_after: u64,
    /// The report's id, as in the audit.
    pub request_id: RequestId,
}
