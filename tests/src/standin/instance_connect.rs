//! SendSSHPublicKey with a memory: what AWS checks beyond signature and policy, and the keys that metadata shows for a
//! minute.
//!
//! Checks and error names follow the service's API model; where the model leaves open which error a case gets, the
//! nearest is taken and said. The condition key `ec2:osuser` is not judged (moto ignores conditions).

use http::Response;
use hyper::body::Bytes;
use ssh_key::{Algorithm, PublicKey};

use crate::aws::Call;
use crate::standin::answer::{error, json, request_id};
use crate::standin::signed_request::SignedRequest;
use crate::standin::{Shared, locked};
use crate::xml;

/// How long a pushed key lives (API page of SendSSHPublicKey).
const LIFETIME: u64 = 60;

/// A key that Instance Connect holds for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedKey {
    /// The instance.
    pub instance_id: String,
    /// The user of the operating system.
    pub os_user: String,
    /// The public key as it was sent.
    pub key: String,
    /// Who sent it.
    pub caller: String,
    /// The answer's RequestId.
    pub request_id: String,
    /// Unix seconds; gone from then on.
    pub expires: u64,
}

/// The request's members.
struct Push {
    instance_id: String,
    os_user: String,
    key: String,
    availability_zone: Option<String>,
}

/// An error's name and text.
struct Refusal(&'static str, String);

/// What AWS would answer, after moto has judged signature and policy.
pub(crate) async fn send_ssh_public_key(
    shared: &Shared,
    request: &SignedRequest,
    verdict: Response<Bytes>,
) -> Response<Bytes> {
    if verdict.status() != 200 {
        return verdict;
    }
    match push(shared, request).await {
        Ok(id) => json(&serde_json::json!({"RequestId": id, "Success": true})),
        Err(Refusal(code, message)) => error("ec2-instance-connect", 400, code, &message),
    }
}

async fn push(shared: &Shared, request: &SignedRequest) -> Result<String, Refusal> {
    let push = parse(&request.json())?;
    let caller = shared.caller(&request.access_key_id);
    let caller = caller.ok_or_else(|| {
        Refusal(
            "AuthException",
            "the lab does not know this access key's owner".into(),
        )
    })?;
    let instance = describe(shared, &caller.account, &request.region, &push.instance_id).await?;
    check_instance(&push, &instance)?;
    let key = PushedKey {
        instance_id: push.instance_id,
        os_user: push.os_user,
        key: push.key,
        caller: caller.arn,
        request_id: request_id(),
        expires: shared.clock.now() + LIFETIME,
    };
    let id = key.request_id.clone();
    locked(&shared.pushed).push(key);
    Ok(id)
}

fn parse(body: &serde_json::Value) -> Result<Push, Refusal> {
    let text = |name: &str| {
        body.get(name)
            .and_then(|value| value.as_str())
            .map(str::to_owned)
    };
    let required = |name: &str| text(name).ok_or_else(|| invalid(&format!("{name} is missing")));
    let push = Push {
        instance_id: required("InstanceId")?,
        os_user: required("InstanceOSUser")?,
        key: required("SSHPublicKey")?,
        availability_zone: text("AvailabilityZone"),
    };
    let checks = [
        (instance_id_is_valid(&push.instance_id), "InstanceId"),
        (os_user_is_valid(&push.os_user), "InstanceOSUser"),
        (key_is_valid(&push.key), "SSHPublicKey"),
        (
            push.availability_zone.as_deref().is_none_or(zone_is_valid),
            "AvailabilityZone",
        ),
    ];
    match checks.into_iter().find(|(valid, _)| !valid) {
        Some((_, name)) => Err(invalid(&format!("{name} is not valid"))),
        None => Ok(push),
    }
}

fn invalid(message: &str) -> Refusal {
    Refusal("InvalidArgsException", message.into())
}

/// `^i-[a-f0-9]+$`, 10 to 32 characters.
fn instance_id_is_valid(id: &str) -> bool {
    (10..=32).contains(&id.len())
        && id
            .strip_prefix("i-")
            .is_some_and(|digits| digits.bytes().all(is_lower_hex))
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// 1 to 32 characters, in one of two forms: a letter or underscore first, or digits with something else behind. The
/// last character may also be `$`.
fn os_user_is_valid(user: &str) -> bool {
    let middle = |c: char| c.is_ascii_alphanumeric() || "@._-".contains(c);
    let last = |c: char| c.is_ascii_alphanumeric() || "$_-".contains(c);
    let Some(first) = user.chars().next().filter(|_| user.len() <= 32) else {
        return false;
    };
    let (Some(end), inner) = (
        user.chars().last(),
        user.chars().skip(1).take(user.len().saturating_sub(2)),
    ) else {
        return false;
    };
    let shape = inner.clone().all(middle) && (user.len() == 1 || last(end));
    match first {
        'A'..='Z' | 'a'..='z' | '_' => shape,
        '0'..='9' => {
            shape
                && inner
                    .clone()
                    .chain([end])
                    .any(|c| c.is_ascii_alphabetic() || "@._-".contains(c))
        }
        _ => false,
    }
}

/// 80 to 4096 characters, an Ed25519 or RSA key in OpenSSH form.
fn key_is_valid(key: &str) -> bool {
    let parsed = PublicKey::from_openssh(key.trim_end());
    (80..=4096).contains(&key.len())
        && parsed
            .is_ok_and(|key| matches!(key.algorithm(), Algorithm::Ed25519 | Algorithm::Rsa { .. }))
}

/// `^(\w+-){2,3}\d+\w+$`, 6 to 32 characters.
fn zone_is_valid(zone: &str) -> bool {
    let parts: Vec<&str> = zone.split('-').collect();
    let word = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let end = parts.last().copied().unwrap_or_default();
    (6..=32).contains(&zone.len())
        && (3..=4).contains(&parts.len())
        && parts.iter().all(word)
        && end.len() >= 2
        && end.starts_with(|c: char| c.is_ascii_digit())
}

/// The instance's state and zone, by moto.
async fn describe(
    shared: &Shared,
    account: &str,
    region: &str,
    id: &str,
) -> Result<(String, String), Refusal> {
    let call = Call::query("ec2", "DescribeInstances", &[("InstanceId.1", id)]).region(region);
    let absent = || {
        Refusal(
            "EC2InstanceNotFoundException",
            format!("Instance not found: {id}"),
        )
    };
    let answer = shared.ask(account, &call).await.map_err(|_| absent())?;
    let state = answer
        .split_once("<instanceState>")
        .and_then(|(_, rest)| xml::text(rest, "name"));
    let zone = xml::text(&answer, "availabilityZone");
    state.zip(zone).ok_or_else(absent)
}

/// A wrong zone gets the error of an unknown instance: the model names no own one.
fn check_instance(push: &Push, (state, zone): &(String, String)) -> Result<(), Refusal> {
    if state != "running" {
        return Err(Refusal(
            "EC2InstanceStateInvalidException",
            format!("Instance is {state}"),
        ));
    }
    if push
        .availability_zone
        .as_ref()
        .is_some_and(|asked| asked != zone)
    {
        return Err(Refusal(
            "EC2InstanceNotFoundException",
            format!("Instance not found: {}", push.instance_id),
        ));
    }
    Ok(())
}

impl Shared {
    /// The keys that are alive for a user of an instance.
    pub(crate) fn active_keys(&self, instance_id: &str, user: &str) -> Vec<PushedKey> {
        let now = self.clock.now();
        let mut pushed = locked(&self.pushed);
        pushed.retain(|key| key.expires > now);
        pushed
            .iter()
            .filter(|key| key.instance_id == instance_id && key.os_user == user)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_users_outside_the_models_two_forms_are_refused() {
        for user in [
            "",
            "$",
            "-a",
            "a b",
            "a/b",
            "123",
            "a@",
            &"a".repeat(33),
            "ü",
            "a$b",
        ] {
            assert!(!os_user_is_valid(user), "{user}");
        }
        for user in [
            "a",
            "_",
            "ubuntu",
            "Admin.x@corp",
            "svc$",
            "1a",
            "12@x",
            &"a".repeat(32),
        ] {
            assert!(os_user_is_valid(user), "{user}");
        }
    }

    #[test]
    fn zones_and_instance_ids_outside_the_model_are_refused() {
        for zone in ["us-east-1", "us-east", "us--1a", "a-b-c-d-1a", "us-east-a1"] {
            assert!(!zone_is_valid(zone), "{zone}");
        }
        for zone in ["us-east-1a", "us-gov-east-1a", "eu-west-12b"] {
            assert!(zone_is_valid(zone), "{zone}");
        }
        for id in [
            "i-",
            "i-0123456",
            "i-0123456789ABCDEF0",
            "mi-0123456789abcdef0",
            "i-0123456789abcdef0/",
        ] {
            assert!(!instance_id_is_valid(id), "{id}");
        }
        assert!(instance_id_is_valid("i-0123456789abcdef0"));
    }
}
