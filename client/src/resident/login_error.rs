//! Why a login cannot be prepared, and with which exit code that ends.

use eic_aws::error::AwsError;
use eic_protocol::api::problem::ProblemCode;
use eic_protocol::instance_id::InstanceId;

use super::Resident;
use crate::ca::CaError;
use crate::config::ConfigError;
use crate::credentials::{CredentialsError, Selection};
use crate::exit_code::{self, Failure};
use crate::fallback::NoPush;
use crate::files::FileError;
use crate::host_name::HostName;
use crate::host_trust::memory::MemoryError;
use crate::host_trust::verdict::Untrusted;
use crate::key::KeyError;

/// Why a login cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The CA.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// AWS, while something was tried.
    #[error("{doing}: {cause}")]
    Aws {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        cause: AwsError,
    },
    /// No such host.
    #[error("no running instance `{0}` is known, or you may not log in there")]
    UnknownHost(HostName),
    /// Several hosts.
    #[error("`{host}` names {} instances: use an id ({})", .ids.len(), join(.ids))]
    Ambiguous {
        /// The name.
        host: HostName,
        /// Their ids.
        ids: Vec<InstanceId>,
    },
    /// The answer is about another host.
    #[error("asked for {asked}, the CA answered about {answered}: nothing of it is used")]
    OtherInstance {
        /// What was asked.
        asked: String,
        /// What came.
        answered: InstanceId,
    },
    /// No push is possible.
    #[error("{reason}{}", .ca.as_ref().map(|e| format!(" ({e})")).unwrap_or_default())]
    NoPush {
        /// Why not.
        reason: NoPush,
        /// Why one would be needed.
        ca: Option<CaError>,
    },
    /// The host key.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The console could not be read just now, and it decides.
    #[error(
        "the console of {instance} cannot be read now, and its host key is not known yet: {cause}; try again"
    )]
    Console {
        /// The instance.
        instance: InstanceId,
        /// Why not.
        cause: AwsError,
    },
    /// A host key for a login that nobody opened.
    #[error(
        "no login to `{0}` is being made: ssh must use `eic-login connect` as its ProxyCommand"
    )]
    NoLogin(HostName),
    /// The socket's name is too long.
    #[error("`{0}` is too long for a socket's name: use the instance id")]
    SocketName(String),
    /// A certificate is wanted, and there is nobody to issue it.
    #[error("certificates need a CA: run `eic-login setup URL`")]
    NoCa,
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is remembered.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A push cannot be queued for the audit.
    #[error("the pushed key cannot be noted for the audit: {0}")]
    Events(String),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A socket.
    #[error("cannot open the login's socket: {0}")]
    Socket(std::io::Error),
}

fn join(ids: &[InstanceId]) -> String {
    let shown: Vec<&str> = ids.iter().take(5).map(InstanceId::as_str).collect();
    let more = if ids.len() > shown.len() { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        let code = match error {
            LoginError::Config(error) => return error.into(),
            LoginError::Credentials(error) => return error.into(),
            LoginError::Ca(error) => return error.into(),
            LoginError::Untrusted(_)
            | LoginError::OtherInstance { .. }
            | LoginError::NoLogin(_) => exit_code::UNTRUSTED,
            LoginError::Aws { ref cause, .. } | LoginError::Console { ref cause, .. }
                if cause.is_transient() =>
            {
                exit_code::UNREACHABLE
            }
            LoginError::Aws { .. } | LoginError::UnknownHost(_) | LoginError::NoPush { .. } => {
                exit_code::DENIED
            }
            LoginError::Ambiguous { .. } | LoginError::SocketName(_) | LoginError::NoCa => {
                exit_code::USAGE
            }
            _ => exit_code::FAILURE,
        };
        Self::new(code, error.to_string())
    }
}

impl Resident {
    /// An error of AWS. Where it says that the credentials are no good, they are forgotten and the remedy is told.
    pub(super) fn aws_error(
        &self,
        selection: &Selection,
        doing: &'static str,
        cause: AwsError,
    ) -> LoginError {
        let rejected = cause.code().is_some_and(|code| REJECTED.contains(&code));
        if !rejected {
            return LoginError::Aws { doing, cause };
        }
        self.aws.forget(selection);
        CredentialsError::rejected(selection, &cause.to_string()).into()
    }

    /// An error of the CA while signing in; the same where it passes on that AWS rejects the credentials.
    pub(super) fn sign_in_error(&self, selection: &Selection, error: CaError) -> LoginError {
        self.aws.forget(selection);
        match error {
            CaError::Problem(problem) if problem.code == ProblemCode::ProofRefused => {
                let told = CaError::Problem(problem).to_string();
                CredentialsError::rejected(selection, &told).into()
            }
            other => other.into(),
        }
    }
}

/// The codes with which EC2 and Instance Connect say that credentials have ended or never were.
const REJECTED: [&str; 7] = [
    "RequestExpired",
    "ExpiredToken",
    "ExpiredTokenException",
    "AuthFailure",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
];
