//! The helper's verbs and answers. Whatever a request says is verified by the helper again.

use eic_protocol::api::host_certificate::HostCertificateRequest;
use eic_protocol::api::host_keys::HostKeysRequest;
use eic_protocol::api::host_report::{AcceptedLogin, SignedHostReport};
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::grant::Nonce;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::text::Line;
use eic_protocol::trust::envelope::Envelope;
use serde::{Deserialize, Serialize};

use super::session::Ended;
use crate::run::status::Installed;

/// The closed list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Take newer trust documents.
    InstallTrust(Offer),
    /// Make the files of sshd and its commands from the installed documents again, where they differ.
    Repair {},
    /// Which of the host's keys are certified.
    HostKeys {},
    /// Sign a request for host certificates by the host's keys; its signatures are ignored.
    SignHostRequest(Box<HostCertificateRequest>),
    /// All of the host's keys that can sign.
    AllHostKeys {},
    /// Sign a request that makes all of them known, by each; its signatures are ignored.
    SignHostKeys(Box<HostKeysRequest>),
    /// Take a host certificate, test sshd's configuration, reload where needed.
    InstallHostCertificate {
        /// One OpenSSH line.
        certificate: String,
    },
    /// Write the enrolment line to the console.
    WriteConsole {
        /// The CA's challenge.
        challenge: Nonce,
        /// Name all keys that can sign, as `all-host-keys` does, not the certified one alone.
        #[serde(default)]
        all: bool,
    },
    /// Complete and sign a report.
    SignReport(Box<ReportDraft>),
    /// End live sessions of revoked certificates, where the configuration wants that.
    EndRevokedSessions {},
}

/// Documents as they came.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Roots by version.
    pub roots: Vec<Envelope>,
    /// A bundle.
    pub bundle: Option<Envelope>,
    /// This host's view.
    pub view: Option<Envelope>,
}

/// What the service knows for a report; the rest the helper sees itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportDraft {
    /// The host's clock less the CA's.
    pub clock_offset_ms: Option<i64>,
    /// What does not work.
    pub reasons: Vec<Line>,
    /// Logins since the last report.
    pub logins: Vec<AcceptedLogin>,
    /// Logins that do not fit in.
    pub lost_logins: u64,
}

/// What became of a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// Of `install-trust` and `repair`.
    Trust(TrustAnswer),
    /// Of `host-keys` and `all-host-keys`.
    HostKeys(Vec<SubjectKey>),
    /// Of `sign-host-request` and `sign-host-keys`: one for each key, in its order.
    Signatures(Vec<Base64Bytes>),
    /// Of `install-host-certificate` and `write-console`.
    Done {
        /// What was done, for the log.
        said: String,
        /// When what was installed ends, in Unix seconds.
        ends: Option<u64>,
        /// Why it has no effect, where it has none.
        warning: Option<String>,
    },
    /// Of `sign-report`.
    Report(Box<SignedHostReport>),
    /// Of `end-revoked-sessions`.
    Ended(Vec<Ended>),
    /// Nothing was done.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What is in place now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustAnswer {
    /// The documents.
    pub installed: Installed,
    /// Files that were replaced.
    pub changed: Vec<String>,
    /// Why something that was offered was not taken.
    pub refused: Option<String>,
    /// What is in place but not as good as it should be.
    pub warnings: Vec<String>,
}
