//! What an AWS call can fail with.

use eic_protocol::text::printable;

use crate::http_client::HttpError;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer that says no.
    #[error("AWS answered {status} {code}: {message}")]
    Service {
        /// HTTP status.
        status: u16,
        /// AWS's error code, e.g. `AuthFailure`.
        code: String,
        /// AWS's message, made printable.
        message: String,
    },
    /// An answer that is not of the documented form.
    #[error("the answer of AWS is not of its documented form: {0}")]
    Malformed(&'static str),
    /// The request could not be signed.
    #[error("the request cannot be signed: {0}")]
    Signing(String),
}

impl AwsError {
    pub(crate) fn service(status: u16, code: &str, message: &str) -> Self {
        Self::Service {
            status,
            code: printable(code),
            message: printable(message),
        }
    }

    /// AWS's error code, where it gave one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Service { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether a later try may help: throttling, 5xx, no answer.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http(HttpError::Name(_)) => true,
            Self::Http(error) => error.is_unreachable(),
            Self::Service { status, .. } => *status >= 500 || self.is_throttled(),
            Self::Malformed(_) | Self::Signing(_) => false,
        }
    }

    /// Whether AWS said that it is asked too often: `ThrottlingException` of the JSON APIs, `Throttling` of STS
    /// and IAM, `RequestLimitExceeded` of EC2.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        self.code().is_some_and(is_throttling)
    }
}

/// Whether an error code of AWS means that it is asked too often.
#[must_use]
pub fn is_throttling(code: &str) -> bool {
    code.contains("Throttl") || code == "RequestLimitExceeded"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_or_a_server_at_fault_is_no_throttling() {
        for (status, code) in [(400, "AuthException"), (500, "InternalError"), (503, "")] {
            assert!(
                !AwsError::service(status, code, "").is_throttled(),
                "{code}"
            );
        }
        assert!(!AwsError::Malformed("x").is_throttled());
    }

    #[test]
    fn throttling_has_three_names_and_a_later_try_may_help() {
        for code in ["ThrottlingException", "Throttling", "RequestLimitExceeded"] {
            let error = AwsError::service(400, code, "Rate exceeded");
            assert!(error.is_throttled() && error.is_transient(), "{code}");
        }
    }
}
