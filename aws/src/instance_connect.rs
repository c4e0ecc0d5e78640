//! ec2-instance-connect:SendSSHPublicKey (EC2 Instance Connect API reference, version 2018-04-02).

use std::time::Duration;

use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;
use eic_protocol::subject_key::SubjectKey;
use http::Request;
use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::error::AwsError;
use crate::http_client::{HttpClient, Limits};
use crate::sigv4::{Scope, sign_request};

const TARGET: &str = "AWSEC2InstanceConnectService.SendSSHPublicKey";
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(10),
    max_body: 64 * 1024,
};

/// How long a pushed key lives in instance metadata. Seconds.
pub const KEY_LIFETIME: u64 = 60;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Push<'a> {
    instance_id: &'a str,
    #[serde(rename = "InstanceOSUser")]
    os_user: &'a str,
    #[serde(rename = "SSHPublicKey")]
    public_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability_zone: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pushed {
    request_id: Option<String>,
    success: Option<bool>,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

/// Pushes `key` to the instance's metadata for 60 s; returns AWS's request id.
///
/// # Errors
/// [`AwsError::Service`] with the API's code: `AuthException`, `EC2InstanceNotFoundException`, `ThrottlingException`, …
pub async fn send_ssh_public_key(
    client: &HttpClient,
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    instance: &InstanceId,
    user: &OsUser,
    key: &SubjectKey,
    availability_zone: Option<&str>,
) -> Result<String, AwsError> {
    let push = Push {
        instance_id: instance.as_str(),
        os_user: user.as_str(),
        public_key: key.to_string(),
        availability_zone,
    };
    let body = serde_json::to_vec(&push).map_err(|e| AwsError::Signing(e.to_string()))?;
    let mut request = Request::post(endpoint.url("/"))
        .header("host", endpoint.host())
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", TARGET)
        .body(body)
        .map_err(|e| AwsError::Signing(e.to_string()))?;
    sign_request(scope, &mut request)?;
    let answer = client.send(request, LIMITS).await?;
    if answer.status != 200 {
        return Err(refusal(answer.status, &answer.body));
    }
    let pushed: Pushed =
        serde_json::from_slice(&answer.body).map_err(|_| AwsError::Malformed("not JSON"))?;
    match pushed {
        Pushed {
            success: Some(true),
            request_id,
        } => Ok(request_id.unwrap_or_default()),
        _ => Err(AwsError::Malformed("a push without success")),
    }
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
