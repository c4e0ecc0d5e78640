//! One call of AWS's JSON protocol (`application/x-amz-json-1.1`): signed, bounded, its refusal read.
//! Which target and body, and what the answer means, is the caller's business.

use std::time::Duration;

use http::Request;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::error::AwsError;
use crate::http_client::{HttpClient, Limits};
use crate::sigv4::{Scope, sign_request};

const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(10),
    max_body: 64 * 1024,
};

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

/// Calls `target` (`Service.Operation`, the header `x-amz-target`) with `body` and reads the answer.
///
/// # Errors
/// [`AwsError::Service`] with the API's code, [`AwsError::Malformed`] for another answer, or no answer in 10 s.
pub async fn call<T: DeserializeOwned>(
    client: &HttpClient,
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    target: &str,
    body: &impl Serialize,
) -> Result<T, AwsError> {
    let signing = |e: &dyn std::fmt::Display| AwsError::Signing(e.to_string());
    let body = serde_json::to_vec(body).map_err(|e| signing(&e))?;
    let mut request = Request::post(endpoint.url("/"))
        .header("host", endpoint.host())
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", target)
        .body(body)
        .map_err(|e| signing(&e))?;
    sign_request(scope, &mut request)?;
    let answer = client.send(request, LIMITS).await?;
    if answer.status != 200 {
        return Err(refusal(answer.status, &answer.body));
    }
    serde_json::from_slice(&answer.body).map_err(|_| AwsError::Malformed("not JSON"))
}

fn refusal(status: u16, body: &[u8]) -> AwsError {
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    // `com.amazonaws.…#AuthException` in some answers.
    let code = refusal.kind.rsplit('#').next().unwrap_or_default();
    AwsError::service(status, code, &refusal.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_the_code_and_escape_the_message() {
        // H-15
        let error = refusal(
            400,
            br#"{"__type":"com.amazon#AuthException","Message":"no\u001b[0m"}"#,
        );
        assert_eq!(error.code(), Some("AuthException"));
        assert!(error.to_string().contains("no\\u{1b}[0m"));
        assert!(!refusal(400, b"<html>").is_transient());
        assert!(refusal(400, br#"{"__type":"ThrottlingException"}"#).is_transient());
    }
}
