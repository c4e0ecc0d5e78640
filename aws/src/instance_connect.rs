//! ec2-instance-connect:SendSSHPublicKey and SendSerialConsoleSSHPublicKey (EC2 Instance Connect API reference,
//! version 2018-04-02).

use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;
use eic_protocol::subject_key::SubjectKey;
use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::error::AwsError;
use crate::http_client::HttpClient;
use crate::json_call;
use crate::sigv4::Scope;

const SEND_KEY: &str = "AWSEC2InstanceConnectService.SendSSHPublicKey";
const SEND_CONSOLE_KEY: &str = "AWSEC2InstanceConnectService.SendSerialConsoleSSHPublicKey";

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

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConsolePush<'a> {
    instance_id: &'a str,
    /// EC2 knows port 0 only.
    serial_port: u8,
    #[serde(rename = "SSHPublicKey")]
    public_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pushed {
    request_id: Option<String>,
    success: Option<bool>,
}

impl Pushed {
    fn request_id(self) -> Result<String, AwsError> {
        match self.success {
            Some(true) => Ok(self.request_id.unwrap_or_default()),
            _ => Err(AwsError::Malformed("a push without success")),
        }
    }
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
    let pushed: Pushed = json_call::call(client, endpoint, scope, SEND_KEY, &push).await?;
    pushed.request_id()
}

/// Pushes `key` for 60 s to the instance's serial console; returns AWS's request id.
///
/// # Errors
/// As [`send_ssh_public_key`], also `SerialConsoleAccessDisabledException`.
pub async fn send_serial_console_key(
    client: &HttpClient,
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    instance: &InstanceId,
    key: &SubjectKey,
) -> Result<String, AwsError> {
    let push = ConsolePush {
        instance_id: instance.as_str(),
        serial_port: 0,
        public_key: key.to_string(),
    };
    let pushed: Pushed = json_call::call(client, endpoint, scope, SEND_CONSOLE_KEY, &push).await?;
    pushed.request_id()
}
