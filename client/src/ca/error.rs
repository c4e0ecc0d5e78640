//! Why the CA gave nothing, and whether that may lead to a pushed key (H-18).

use eic_aws::error::AwsError;
use eic_aws::http_client::HttpError;
use eic_protocol::api::problem::{Problem, ProblemCode};
use eic_protocol::cert::check::Mismatch;
use eic_protocol::text::printable;

use crate::cause::Cause;
use crate::exit_code::{self, Failure};
use crate::key::KeyError;

/// Why the CA gave nothing usable.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// No answer.
    #[error("the CA gave no answer: {0}")]
    Http(#[from] HttpError),
    /// It said no.
    #[error("{}", describe(.0))]
    Problem(Box<Problem>),
    /// An answer that is none of the API's.
    #[error("the CA answered HTTP {0} without a problem document: is the URL right?")]
    Status(u16),
    /// Not of its form.
    #[error("the CA's answer is not of its documented form: {0}")]
    Malformed(String),
    /// No common protocol version.
    #[error(
        "the CA serves protocol {lowest} to {highest} and this program another: update the older one"
    )]
    Protocol {
        /// Lowest that it serves.
        lowest: u32,
        /// Highest that it serves.
        highest: u32,
    },
    /// The certificate is not what was asked for.
    #[error("the certificate is not used: {0}")]
    Certificate(#[from] Mismatch),
    /// The proof cannot be signed.
    #[error("the identity proof cannot be made: {0}")]
    Proof(#[from] AwsError),
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl CaError {
    /// Refused, timed out, or 503: nobody was there to decide. Nothing else ever leads to a pushed key:
    /// not a TLS error, not a 4xx, not a certificate that failed its check.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Http(error) => error.is_unreachable(),
            Self::Problem(problem) => problem.status == 503,
            Self::Status(status) => *status == 503,
            _ => false,
        }
    }

    /// The same absence once more, where this is one.
    #[must_use]
    pub fn as_absence(&self) -> Option<Self> {
        match self {
            absent if !absent.is_absence() => None,
            Self::Http(error) => Some(Self::Http(error.clone())),
            Self::Problem(problem) => Some(Self::Problem(problem.clone())),
            Self::Status(status) => Some(Self::Status(*status)),
            _ => None,
        }
    }

    /// Whether a new session may help: the CA does not know the grant any more.
    #[must_use]
    pub fn wants_new_session(&self) -> bool {
        use ProblemCode::{GrantExpired, GrantInvalid, GrantRequired};
        matches!(self, Self::Problem(p) if matches!(p.code, GrantExpired | GrantInvalid | GrantRequired))
    }
}

fn describe(problem: &Problem) -> String {
    let mut text = format!("the CA refused: {}", printable(&problem.detail));
    if problem.detail.is_empty() {
        text.push_str(problem.code.title());
    }
    // A detail that says it already is not repeated.
    let hints: Vec<String> = problem
        .would_allow
        .iter()
        .take(5)
        .map(|hint| printable(hint))
        .filter(|hint| !text.contains(hint))
        .collect();
    if !hints.is_empty() {
        text.push_str(&format!("; allowed would be: {}", hints.join(", ")));
    }
    text.push_str(&format!(
        " ({}, request {})",
        problem.code.as_str(),
        problem.request_id
    ));
    text
}

impl From<CaError> for Failure {
    fn from(error: CaError) -> Self {
        let code = match &error {
            absent if absent.is_absence() => exit_code::UNREACHABLE,
            CaError::Http(HttpError::Name(_) | HttpError::Proxy(_)) => exit_code::UNREACHABLE,
            CaError::Http(HttpError::Tls(_) | HttpError::Roots(_)) | CaError::Certificate(_) => {
                exit_code::UNTRUSTED
            }
            CaError::Problem(p) if p.code == ProblemCode::ProofRefused => exit_code::CREDENTIALS,
            CaError::Problem(_) => exit_code::DENIED,
            _ => exit_code::FAILURE,
        };
        Self::new(code, error.to_string()).because(cause(&error))
    }
}

fn cause(error: &CaError) -> Cause {
    match error {
        CaError::Http(HttpError::Unreachable(_) | HttpError::TimedOut(_)) => Cause::CaUnreachable,
        CaError::Http(HttpError::Name(_)) => Cause::CaName,
        CaError::Http(HttpError::Proxy(_)) => Cause::Proxy,
        CaError::Http(HttpError::Tls(_) | HttpError::Roots(_)) => Cause::CaTls,
        CaError::Http(_) | CaError::Malformed(_) => Cause::CaNotACa,
        CaError::Status(503) => Cause::CaUnavailable,
        CaError::Status(_) => Cause::CaNotACa,
        CaError::Problem(problem) => cause_of(problem.code),
        CaError::Protocol { .. } => Cause::Protocol,
        CaError::Certificate(Mismatch::Expired { .. }) => Cause::Clock,
        CaError::Certificate(_) => Cause::WrongCertificate,
        CaError::Proof(_) | CaError::Key(_) => Cause::Other,
    }
}

fn cause_of(code: ProblemCode) -> Cause {
    use ProblemCode as Code;
    match code {
        Code::ProofStale | Code::RequestStale | Code::ClockSkew => Cause::Clock,
        Code::ProofRefused => Cause::CredentialsRejected,
        Code::AccountNotAccepted => Cause::Account,
        Code::CallerRevoked => Cause::CallerRevoked,
        Code::NotAllowed => Cause::NotAllowed,
        Code::ConditionsNotMet | Code::LifetimeNotAllowed => Cause::ConditionsNotMet,
        Code::TooManyRequests => Cause::TooManyRequests,
        Code::UnsupportedProtocol => Cause::Protocol,
        Code::NotFound => Cause::CaNotACa,
        code if code.status() == 503 => Cause::CaUnavailable,
        _ => Cause::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn problem(code: ProblemCode, detail: &str) -> CaError {
        let id = "00112233445566778899aabbccddeeff".parse().unwrap();
        CaError::Problem(Box::new(Problem::new(code, detail, id)))
    }

    #[test]
    fn only_silence_refusal_of_the_connection_and_503_are_absence() {
        // H-18
        for code in ProblemCode::ALL {
            assert_eq!(
                problem(*code, "").is_absence(),
                code.status() == 503,
                "{}",
                code.as_str()
            );
        }
        for (error, absence) in [
            (CaError::Http(HttpError::Tls("wrong name".into())), false),
            (CaError::Http(HttpError::Broken("reset".into())), false),
            (CaError::Http(HttpError::TooLarge(1)), false),
            (CaError::Http(HttpError::Name("no such name".into())), false),
            (CaError::Http(HttpError::Proxy("403".into())), false),
            (
                CaError::Http(HttpError::Unreachable("refused".into())),
                true,
            ),
            (
                CaError::Http(HttpError::TimedOut(Duration::from_secs(1))),
                true,
            ),
            (CaError::Status(302), false),
            (CaError::Status(500), false),
            (CaError::Status(503), true),
            (CaError::Certificate(Mismatch::Field("principals")), false),
            (CaError::Malformed("x".into()), false),
        ] {
            assert_eq!(error.is_absence(), absence, "{error}");
        }
    }

    #[test]
    fn texts_of_the_ca_are_escaped_and_hints_are_told() {
        // H-15
        let CaError::Problem(mut inner) = problem(ProblemCode::ConditionsNotMet, "no\u{1b}[31m")
        else {
            panic!()
        };
        inner.would_allow = vec!["ec2:osuser = ubuntu".to_owned()];
        let text = CaError::Problem(inner).to_string();
        assert!(
            !text.contains('\u{1b}') && text.contains("allowed would be: ec2:osuser = ubuntu"),
            "{text}"
        );
    }
}
