//! Calls and policies that several topics use.

use eic_lab::aws::Call;
use eic_lab::error::{Error, Result};
use serde_json::json;

/// Lets its holder push keys and look at instances.
pub(crate) const INSTANCE_CONNECT: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
    "Action":["ec2-instance-connect:SendSSHPublicKey","ec2:DescribeInstances","ec2:GetConsoleOutput"],"Resource":"*"}]}"#;

/// Lets its holder do nothing.
pub(crate) const NOTHING: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;

/// GetCallerIdentity.
pub(crate) fn who_am_i() -> Call {
    Call::query("sts", "GetCallerIdentity", &[])
}

/// SendSSHPublicKey.
pub(crate) fn push(instance: &str, user: &str, key: &str) -> Call {
    let body = json!({"InstanceId": instance, "InstanceOSUser": user, "SSHPublicKey": key.trim()});
    Call::json("ec2-instance-connect", "SendSSHPublicKey", &body)
}

/// Status and body of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T>) -> (u16, String) {
    match outcome {
        Err(Error::Refused { status, body, .. }) => (status, body),
        other => panic!("not refused: {other:?}"),
    }
}
