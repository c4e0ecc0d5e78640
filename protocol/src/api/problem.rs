//! Errors as RFC 9457 problems with a closed list of codes.
//! The detail is for the person who asked; what the operator needs is in log and audit.

use serde::{Deserialize, Serialize};

use crate::request_id::RequestId;

/// Media type of a problem (RFC 9457 §3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:eic:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code's fixed title.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// The code.
    pub code: ProblemCode,
    /// What was wrong and what to do.
    pub detail: String,
    /// The request's id, as in the audit.
    pub request_id: RequestId,
    /// What the caller could ask for instead, where policy lets him know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_allow: Vec<String>,
}

impl Problem {
    /// A problem with the code's own title and status.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>, request_id: RequestId) -> Self {
        Self {
            kind: format!("urn:eic:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            request_id,
            would_allow: Vec::new(),
        }
    }
}

macro_rules! problem_codes {
    ($($variant:ident $status:literal $code:literal $title:literal;)*) => {
        /// Every problem that the API can answer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ProblemCode {
            $(#[doc = $title] #[serde(rename = $code)] $variant,)*
        }

        impl ProblemCode {
            /// All codes, for documentation and coverage tests.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code as in JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// One line for people.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// The HTTP status.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }
        }
    };
}

problem_codes! {
    MalformedRequest 400 "malformed-request" "the request is not of the documented form";
    UnsupportedProtocol 400 "unsupported-protocol" "the protocol version is not served here";
    KeyNotAccepted 400 "key-not-accepted" "the public key may not be certified";
    RestrictionInvalid 400 "restriction-invalid" "a restriction cannot be written into a certificate";
    LifetimeNotAllowed 403 "lifetime-not-allowed" "the lifetime is out of bounds";
    NotFound 404 "not-found" "there is no such resource";
    MethodNotAllowed 405 "method-not-allowed" "the resource does not take this method";
    BodyTooLarge 413 "body-too-large" "the request body is too large";
    UnsupportedMediaType 415 "unsupported-media-type" "the body must be application/json";
    ProofStale 401 "proof-stale" "the identity proof is too old or from the future";
    ProofReplayed 401 "proof-replayed" "the identity proof was used before";
    ProofRefused 401 "proof-refused" "the identity proof was refused";
    PossessionNotProven 401 "possession-not-proven" "the signature by the public key is missing or wrong";
    AccountNotAccepted 403 "account-not-accepted" "identities of this account are not accepted";
    WebIdentityRequired 401 "web-identity-required" "this account's identities need a token of sts:GetWebIdentityToken";
    IssuerUnavailable 503 "issuer-unavailable" "the token issuer's keys could not be fetched";
    StsUnavailable 503 "sts-unavailable" "AWS STS did not answer in time";
    GrantRequired 401 "grant-required" "the request carries no session grant";
    GrantInvalid 401 "grant-invalid" "the session grant is not one of this CA";
    GrantExpired 401 "grant-expired" "the session grant has ended";
    RequestStale 401 "request-stale" "the signed request is too old or from the future";
    RequestReplayed 401 "request-replayed" "the signed request was used before";
    RequestSignature 401 "request-signature" "the request is not signed by the key that the grant is bound to";
    CallerRevoked 403 "caller-revoked" "the caller is revoked";
    NotAllowed 403 "not-allowed" "no policy allows this";
    ConditionsNotMet 403 "conditions-not-met" "policy allows this only in another form";
    EvidenceRefused 401 "evidence-refused" "the host's evidence does not hold";
    EvidenceStale 401 "evidence-stale" "the host's evidence is too old or was used before";
    EnrolmentTokenInvalid 401 "enrolment-token-invalid" "the enrolment token is not known, used or ended";
    InstanceNotAccepted 403 "instance-not-accepted" "the instance is not running, or not one of the accepted accounts";
    HostNotEnrolled 403 "host-not-enrolled" "the host is not enrolled with this key";
    HostKeyChanged 409 "host-key-changed" "the host is enrolled with another key: sign with that one too, or have an operator approve";
    BundleUnavailable 503 "bundle-unavailable" "there is no trust bundle yet";
    KeyNotPropagated 503 "key-not-propagated" "the signing key is not known to hosts yet";
    TooManyRequests 429 "too-many-requests" "too many requests";
    SignerUnavailable 503 "signer-unavailable" "the signing key did not answer in time";
    StoreUnavailable 503 "store-unavailable" "the request could not be recorded";
    InventoryUnavailable 503 "inventory-unavailable" "the instance could not be looked up";
    ClockSkew 503 "clock-skew" "the CA's clock disagrees with AWS's";
    Overloaded 503 "overloaded" "the CA is at its limit";
    Internal 500 "internal" "an error inside the CA";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_no_problem_has_a_success_status() {
        let mut seen = std::collections::HashSet::new();
        for code in ProblemCode::ALL {
            assert!(seen.insert(code.as_str()), "{}", code.as_str());
            assert!((400..600).contains(&code.status()));
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
