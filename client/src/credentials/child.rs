//! The parent's side: starts `eic-login credentials` with exactly the selected environment and reads its answer.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use aws_credential_types::Credentials;
use eic_aws::endpoint::Endpoint;
use eic_aws::proxy::Proxy;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::secret::Secret;
use eic_protocol::text::printable;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::printed::printed_after;
use super::remedy::remedy;
use super::selection::Selection;
use crate::cause::Cause;
use crate::exit_code::{self, Failure};
use crate::terminal::one_line;

/// A person may be asked for a second factor by a credential process; ssh's own patience is longer.
const DEADLINE: Duration = Duration::from_secs(60);
/// Longest answer. Bytes.
const MAX_ANSWER: u64 = 64 * 1024;
/// Region where neither environment nor profile names one: STS answers there for the whole partition.
const DEFAULT_REGION: &str = "us-east-1";

/// The child's argument where a proxy is on its stdin.
pub(crate) const PROXIED: &str = "--proxied";

/// The child's answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The credentials.
    Found(Wire),
    /// None.
    Failed {
        /// Why.
        reason: Reason,
        /// The provider's words.
        message: String,
    },
}

/// Why there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reason {
    /// Nothing is configured.
    Missing,
    /// A login has ended.
    Expired,
    /// A provider failed.
    Failed,
}

/// Credentials on their way through the pipe.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Wire {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: Hidden,
    pub(super) session_token: Option<Hidden>,
    pub(super) expires_at: Option<u64>,
    pub(super) region: Option<String>,
    pub(super) endpoint_ec2: Option<String>,
    pub(super) endpoint_instance_connect: Option<String>,
    #[serde(default)]
    pub(super) endpoint_ssm: Option<String>,
    #[serde(default)]
    pub(super) endpoint_sts: Option<String>,
}

/// A secret text that `Debug` does not show.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Hidden(Secret<String>);

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(Secret::new(text))
    }
}

/// Credentials with where they are good for.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The credentials.
    pub credentials: Credentials,
    /// When they end, in Unix seconds.
    pub expires_at: Option<u64>,
    /// The Region that the selection names, or us-east-1.
    pub region: AwsRegion,
    /// Whether it names one.
    pub names_region: bool,
    /// Where EC2 is, if not at AWS's own place.
    pub ec2: Option<Endpoint>,
    /// Where EC2 Instance Connect is, if not at AWS's own place.
    pub instance_connect: Option<Endpoint>,
    /// Where Systems Manager is, if not at AWS's own place.
    pub ssm: Option<Endpoint>,
    /// Where tokens of sts:GetWebIdentityToken are asked for, if not at AWS's own place.
    pub sts: Option<Endpoint>,
    /// What they were asked for through, and are used through.
    pub proxy: Option<Proxy>,
}

/// Resolves the credentials that `selection` means, in a child process of `program`. Whatever it asks over HTTPS goes
/// through `proxy`, where there is one; metadata services of this machine are plain HTTP.
///
/// # Errors
/// [`CredentialsError`] with what to run.
pub async fn resolve_in_child(
    program: &Path,
    selection: &Selection,
    proxy: Option<&Proxy>,
) -> Result<Resolved, CredentialsError> {
    let advice = || remedy(selection);
    match ask(program, selection, proxy).await? {
        Answer::Found(wire) => Ok(Resolved {
            proxy: proxy.cloned(),
            ..resolved(wire)?
        }),
        Answer::Failed {
            reason: Reason::Missing,
            ..
        } => Err(CredentialsError::Missing { advice: advice() }),
        Answer::Failed {
            reason: Reason::Expired,
            ..
        } => Err(CredentialsError::Expired { advice: advice() }),
        Answer::Failed { message, .. } => Err(CredentialsError::Failed {
            message: printable(&message),
            advice: advice(),
        }),
    }
}

async fn ask(
    program: &Path,
    selection: &Selection,
    proxy: Option<&Proxy>,
) -> Result<Answer, CredentialsError> {
    let child_failed = |what: String| CredentialsError::Child(printable(&what));
    let mut command = Command::new(program);
    command
        .arg("credentials")
        .env_clear()
        .envs(selection.aws_variables());
    // On stdin: arguments and environment are for everybody, or every child, to read.
    let told = proxy.map(serde_json::to_vec).transpose();
    let told = told.map_err(|e| child_failed(e.to_string()))?;
    if told.is_some() {
        command.arg(PROXIED);
    }
    let told = Zeroizing::new(told.unwrap_or_default());
    let printed = printed_after(&mut command, &told, MAX_ANSWER, DEADLINE).await;
    let (status, bytes) = printed.map_err(|e| match e.kind() {
        ErrorKind::TimedOut => CredentialsError::TimedOut,
        _ => child_failed(e.to_string()),
    })?;
    serde_json::from_slice(&bytes).map_err(|_| child_failed(status.to_string()))
}

fn resolved(wire: Wire) -> Result<Resolved, CredentialsError> {
    let invalid = |e: &dyn std::fmt::Display| CredentialsError::Invalid(e.to_string());
    let region = wire.region.as_deref().unwrap_or(DEFAULT_REGION);
    let endpoint = |url: Option<String>| url.map(|url| Endpoint::overridden(&url)).transpose();
    let token = wire.session_token.map(|token| token.0.reveal().clone());
    // The SDK's own expiry is not set: the cache above decides when to ask again.
    let secret = wire.secret_access_key.0.reveal().clone();
    Ok(Resolved {
        credentials: Credentials::new(wire.access_key_id, secret, token, None, "eic-login"),
        expires_at: wire.expires_at,
        region: region.parse().map_err(|e| invalid(&e))?,
        names_region: wire.region.is_some(),
        ec2: endpoint(wire.endpoint_ec2).map_err(|e| invalid(&e))?,
        instance_connect: endpoint(wire.endpoint_instance_connect).map_err(|e| invalid(&e))?,
        ssm: endpoint(wire.endpoint_ssm).map_err(|e| invalid(&e))?,
        sts: endpoint(wire.endpoint_sts).map_err(|e| invalid(&e))?,
        proxy: None,
    })
}

/// There are no usable credentials.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Nothing is configured.
    #[error("no AWS credentials were found: {advice}")]
    Missing {
        /// What to run.
        advice: String,
    },
    /// A login has ended.
    #[error("the AWS credentials have expired: {advice}")]
    Expired {
        /// What to run.
        advice: String,
    },
    /// AWS does not take them.
    #[error("AWS does not accept these credentials: {advice} ({message})")]
    Rejected {
        /// AWS's words, or the CA's about them.
        message: String,
        /// What to run.
        advice: String,
    },
    /// A provider failed.
    #[error("the AWS credentials cannot be loaded: {advice} ({message})")]
    Failed {
        /// The provider's words.
        message: String,
        /// What to run.
        advice: String,
    },
    /// Region or endpoint cannot be used.
    #[error("the AWS configuration cannot be used: {0}")]
    Invalid(String),
    /// No answer.
    #[error("the AWS credentials were not loaded within {} s", DEADLINE.as_secs())]
    TimedOut,
    /// The child process failed.
    #[error("the AWS credentials cannot be loaded: the child process ended with `{0}`")]
    Child(String),
}

impl CredentialsError {
    /// Credentials that AWS does not take.
    #[must_use]
    pub fn rejected(selection: &Selection, message: &str) -> Self {
        Self::Rejected {
            message: one_line(message),
            advice: remedy(selection),
        }
    }
}

impl From<CredentialsError> for Failure {
    fn from(error: CredentialsError) -> Self {
        let cause = match &error {
            CredentialsError::Missing { .. } => Cause::CredentialsMissing,
            CredentialsError::Expired { .. } => Cause::CredentialsExpired,
            // AWS says so where a signature is of another time than its own.
            CredentialsError::Rejected { message, .. } if message.contains("RequestExpired") => {
                Cause::Clock
            }
            CredentialsError::Rejected { .. } => Cause::CredentialsRejected,
            _ => Cause::CredentialsFailed,
        };
        Self::new(exit_code::CREDENTIALS, error.to_string()).because(cause)
    }
}
