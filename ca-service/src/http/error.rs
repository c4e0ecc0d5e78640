//! The only place that knows both texts: why a request was refused, and what its sender is told.
//! Codes are a closed list (`eic_protocol::api::problem`); nothing of the inside is told by accident,
//! because each case is mapped by hand.

use ::http::StatusCode;
use ::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::body::Body;
use axum::response::Response;
use eic_protocol::api::problem::{MEDIA_TYPE, Problem, ProblemCode};
use eic_protocol::request_id::RequestId;

use crate::audit::AppendError;
use crate::authn::AuthnError;
use crate::inventory::InventoryError;
use crate::issuance::{IssueError, PrepareError};
use crate::policy::UNIFORM_DENIAL;
use crate::refusal::{Denied, Refusal};
use crate::session::SessionError;
use crate::store::StoreError;
use crate::web_token::claims::InvalidToken;

/// What the outside is told.
#[derive(Debug)]
pub struct ApiError {
    code: ProblemCode,
    detail: String,
    would_allow: Vec<String>,
    /// What the inside knows of it, for the log.
    cause: Option<Box<Refusal>>,
}

impl ApiError {
    /// A problem whose detail is for its sender.
    pub(super) fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            would_allow: Vec::new(),
            cause: None,
        }
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> ProblemCode {
        self.code
    }

    /// The text.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The response, as RFC 9457 has it.
    pub(super) fn into_response(self, request_id: RequestId) -> Response {
        self.log(request_id);
        let mut problem = Problem::new(self.code, self.detail, request_id);
        problem.would_allow = self.would_allow;
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if matches!(problem.status, 429 | 503) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn log(&self, request_id: RequestId) {
        let (code, cause) = (self.code.as_str(), self.cause.as_deref());
        let cause = cause.map_or_else(|| self.detail.clone(), ToString::to_string);
        if self.code.status() >= 500 {
            tracing::error!(%request_id, code, cause, "request failed");
        } else {
            tracing::info!(%request_id, code, cause, "request refused");
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (code, detail) = told(&refusal);
        let would_allow = match &refusal {
            Refusal::Denied(denied) => denied.hints(),
            _ => Vec::new(),
        };
        Self {
            code,
            detail,
            would_allow,
            cause: Some(Box::new(refusal)),
        }
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        Refusal::from(error).into()
    }
}

fn told(refusal: &Refusal) -> (ProblemCode, String) {
    use ProblemCode as Code;
    match refusal {
        Refusal::Authn(error) => (authn_code(error), error.to_string()),
        Refusal::Session(error) => (session_code(error), error.to_string()),
        Refusal::Replayed => (
            Code::RequestReplayed,
            "the signed request was used before; sign each one with a new nonce".to_owned(),
        ),
        Refusal::Revoked => (
            Code::CallerRevoked,
            "your access was revoked; ask whoever runs this CA".to_owned(),
        ),
        Refusal::TooManyOwn => (
            Code::TooManyRequests,
            "without `eic:Revoke` you may revoke so much of your own in a time; wait (ten seconds for a certificate, half an hour for a key \
             or yourself), or ask somebody who has it"
                .to_owned(),
        ),
        Refusal::TooMany => (
            Code::TooManyRequests,
            "you make too many requests; wait a second".to_owned(),
        ),
        Refusal::Malformed(detail) => (Code::MalformedRequest, detail.clone()),
        Refusal::NothingToRevoke => (
            Code::NotFound,
            "there is no such certificate, or it has ended; of CA keys, a root must name them"
                .to_owned(),
        ),
        Refusal::KeyNotPropagated(_) => (
            Code::KeyNotPropagated,
            "the CA's new signing key is not known to every host yet; ask whoever runs this CA"
                .to_owned(),
        ),
        Refusal::CaRevoked => (
            Code::SignerUnavailable,
            "the signing key is revoked; the CA's operator must activate another".to_owned(),
        ),
        Refusal::NotInForce => (
            Code::BundleUnavailable,
            "the revocation is recorded, but no bundle holds it yet; the CA keeps trying"
                .to_owned(),
        ),
        Refusal::Host(error) => (error.code(), error.detail()),
        Refusal::Denied(denied) => denial(denied),
        // Not a 503: our own limit must never look like an absent CA, which lets clients push keys (H-18).
        Refusal::Inventory(InventoryError::Busy) => (
            Code::TooManyRequests,
            "too many unknown hosts were asked for; try again in a moment".to_owned(),
        ),
        Refusal::Inventory(_) => (
            Code::InventoryUnavailable,
            "the host could not be looked up; try again".to_owned(),
        ),
        Refusal::Issue(error) => issue(error),
        Refusal::Unrecorded(AppendError::Store(error)) => store(error),
        Refusal::Unrecorded(_) => unrecorded(),
        Refusal::Store(error) => store(error),
        Refusal::Grant(_) | Refusal::Entropy(_) | Refusal::Json(_) => internal(),
    }
}

fn authn_code(error: &AuthnError) -> ProblemCode {
    match error {
        AuthnError::UnsupportedProtocol { .. } => ProblemCode::UnsupportedProtocol,
        AuthnError::SpecialKey => ProblemCode::KeyNotAccepted,
        AuthnError::PossessionNotProven(_) => ProblemCode::PossessionNotProven,
        AuthnError::Stale { .. } => ProblemCode::ProofStale,
        AuthnError::Replayed => ProblemCode::ProofReplayed,
        AuthnError::AccountNotAccepted(_) => ProblemCode::AccountNotAccepted,
        AuthnError::Token(InvalidToken::Ended | InvalidToken::Old(_) | InvalidToken::Future) => {
            ProblemCode::ProofStale
        }
        AuthnError::Refused(_)
        | AuthnError::Token(_)
        | AuthnError::TooManyClaims(_)
        | AuthnError::ClaimNotTaken(_)
        | AuthnError::OtherPrincipal => ProblemCode::ProofRefused,
        AuthnError::WebIdentityRequired(_) => ProblemCode::WebIdentityRequired,
        AuthnError::IssuerUnavailable(_) => ProblemCode::IssuerUnavailable,
        // Not a 503: a flood of strangers must not look like an absent CA, which lets clients push keys.
        AuthnError::Busy => ProblemCode::TooManyRequests,
        AuthnError::StsUnavailable(_) => ProblemCode::StsUnavailable,
        AuthnError::ClockSkew(_) => ProblemCode::ClockSkew,
    }
}

fn session_code(error: &SessionError) -> ProblemCode {
    match error {
        SessionError::Required => ProblemCode::GrantRequired,
        SessionError::Invalid => ProblemCode::GrantInvalid,
        SessionError::Expired => ProblemCode::GrantExpired,
        SessionError::Stale(_) => ProblemCode::RequestStale,
        SessionError::OtherKey | SessionError::Signature(_) => ProblemCode::RequestSignature,
    }
}

/// One text for everything that the caller may not tell apart (threats C-18).
fn denial(denied: &Denied) -> (ProblemCode, String) {
    match denied {
        Denied::Policy(denial) if !denied.hints().is_empty() => {
            (ProblemCode::ConditionsNotMet, denial.caller_text())
        }
        // Only who may use the host gets that far.
        Denied::HostDown => (
            ProblemCode::NotAllowed,
            "the host is not running".to_owned(),
        ),
        _ => (ProblemCode::NotAllowed, UNIFORM_DENIAL.to_owned()),
    }
}

fn issue(error: &IssueError) -> (ProblemCode, String) {
    match error {
        IssueError::Revoked => told(&Refusal::Revoked),
        IssueError::Replayed => told(&Refusal::Replayed),
        IssueError::Prepare(PrepareError::SpecialKey(_)) => (
            ProblemCode::KeyNotAccepted,
            "the public key is one of the CA's own keys".to_owned(),
        ),
        IssueError::Prepare(PrepareError::Lint(_)) => (
            ProblemCode::RestrictionInvalid,
            "a restriction cannot be written into a certificate".to_owned(),
        ),
        IssueError::Prepare(PrepareError::Validity(invalid)) => {
            (ProblemCode::LifetimeNotAllowed, invalid.to_string())
        }
        IssueError::Store(error) => store(error),
        IssueError::Record(_) => unrecorded(),
        IssueError::Sign(_) if error.is_overload() => overloaded(),
        IssueError::Prepare(PrepareError::CaRetires) | IssueError::Sign(_) => (
            ProblemCode::SignerUnavailable,
            "the signing key did not answer; try again".to_owned(),
        ),
        IssueError::Prepare(PrepareError::Entropy(_))
        | IssueError::Entropy(_)
        | IssueError::Serials => internal(),
    }
}

fn store(error: &StoreError) -> (ProblemCode, String) {
    match error {
        StoreError::Overloaded => overloaded(),
        _ => unrecorded(),
    }
}

fn unrecorded() -> (ProblemCode, String) {
    (
        ProblemCode::StoreUnavailable,
        "the request could not be recorded, so nothing was done; try again".to_owned(),
    )
}

fn overloaded() -> (ProblemCode, String) {
    (
        ProblemCode::Overloaded,
        "the CA is at its limit; try again".to_owned(),
    )
}

fn internal() -> (ProblemCode, String) {
    (
        ProblemCode::Internal,
        "an error inside the CA; the request id leads its operator to the cause".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use eic_protocol::api::problem::Problem;
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn a_spent_look_up_budget_never_looks_like_an_absent_ca() {
        let code = told(&Refusal::Inventory(InventoryError::Busy)).0;
        assert_eq!((code, code.status()), (ProblemCode::TooManyRequests, 429));
    }

    #[test]
    fn a_flood_of_sign_ins_never_looks_like_an_absent_ca() {
        let code = told(&AuthnError::Busy.into()).0;
        assert_eq!((code, code.status()), (ProblemCode::TooManyRequests, 429));
    }

    #[test]
    fn what_may_not_be_told_apart_has_one_text() {
        // C-18
        let texts = [
            Denied::NoSuchHost,
            Denied::NoSuchFleet,
            Denied::FleetMember("i-1".to_owned()),
        ]
        .map(|denied| told(&denied.into()));
        assert!(
            texts
                .iter()
                .all(|text| *text == (ProblemCode::NotAllowed, UNIFORM_DENIAL.to_owned())),
            "{texts:?}"
        );
    }

    #[tokio::test]
    async fn inner_causes_are_not_told() {
        // D-27
        let secret = "arn:aws:iam::111122223333:role/inner";
        let error = ApiError::from(Refusal::Inventory(InventoryError::Ec2(secret.to_owned())));
        let response = error.into_response(RequestId::from_random([7; 16]));
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], MEDIA_TYPE);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem.code, ProblemCode::InventoryUnavailable);
        assert!(!String::from_utf8_lossy(&body).contains("inner"));
        assert_eq!(problem.request_id, RequestId::from_random([7; 16]));
    }
}
