//! ec2-instance-connect:SendSerialConsoleSSHPublicKey (EC2 Instance Connect API reference, version 2018-04-02).

use std::time::Duration;

use eic_aws::endpoint::Endpoint;
use eic_aws::error::AwsError;
use eic_aws::http_client::{HttpClient, Limits};
use eic_aws::sigv4::{Scope, sign_request};
use eic_protocol::instance_id::InstanceId;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::text::printable;
use http::Request;
use serde::Deserialize;

const TARGET: &str = "AWSEC2InstanceConnectService.SendSerialConsoleSSHPublicKey";
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(10),
    max_body: 64 * 1024,
};

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

/// Pushes `key` for 60 s; returns AWS's request id.
pub(super) async fn send_key(
    client: &HttpClient,
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    instance: &InstanceId,
    key: &SubjectKey,
) -> Result<String, AwsError> {
    let body = serde_json::json!({
        "InstanceId": instance.as_str(),
        "SerialPort": 0,
        "SSHPublicKey": key.to_string(),
    });
    let mut request = Request::post(endpoint.url("/"))
        .header("host", endpoint.host())
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", TARGET)
        .body(body.to_string().into_bytes())
        .map_err(|e| AwsError::Signing(e.to_string()))?;
    sign_request(scope, &mut request)?;
    let answer = client.send(request, LIMITS).await?;
    if answer.status != 200 {
        return Err(refusal(answer.status, &answer.body));
    }
    let pushed: Pushed =
        serde_json::from_slice(&answer.body).map_err(|_| AwsError::Malformed("not JSON"))?;
    match pushed.success {
        Some(true) => Ok(pushed.request_id.unwrap_or_default()),
        _ => Err(AwsError::Malformed("a push without success")),
    }
}

fn refusal(status: u16, body: &[u8]) -> AwsError {
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let code = refusal.kind.rsplit('#').next().unwrap_or_default();
    AwsError::Service {
        status,
        code: printable(code),
        message: printable(&refusal.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_their_code_and_are_escaped() {
        // H-15
        let body = br#"{"__type":"x#SerialConsoleAccessDisabledException","Message":"no\u001b"}"#;
        let error = refusal(403, body);
        assert_eq!(error.code(), Some("SerialConsoleAccessDisabledException"));
        assert!(!error.to_string().contains('\u{1b}'));
        assert_eq!(refusal(500, b"<html>").code(), Some(""));
    }
}
