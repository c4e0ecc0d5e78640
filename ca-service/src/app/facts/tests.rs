//! Tests of the parent module: what policy learns of a request, by policies that turn on it.

use std::net::IpAddr;

use eic_protocol::request_id::RequestId;

use super::*;
use crate::caller::Proven;
use crate::inventory::Inventory;
use crate::inventory::static_file::StaticInventory;
use crate::policy::{Decision, PolicySet, Sources, evaluate};
use crate::store::HostsSeen;

const HOST: &str = "[[instance]]\nid = \"i-0123456789abcdef0\"\naccount = \"111122223333\"\nregion = \"eu-west-1\"\n\
                    tags = { Env = \"dev\" }\n";

fn caller(arn: &str, key: &str, standing: NameStanding) -> Caller {
    let id = if arn.contains(":user/") {
        "AIDA0123456789ABCDEF"
    } else {
        "AROA0123456789ABCDEF:alice"
    };
    Caller::new(Proven {
        arn: arn.parse().unwrap(),
        user_id: id.to_owned(),
        standing,
        access_key_id: key.parse().unwrap(),
        session_id: RequestId::from_random([1; 16]),
    })
}

fn role() -> Caller {
    caller(
        "arn:aws:sts::111122223333:assumed-role/Dev/alice",
        "ASIAABCDEFGHIJKLMNOP",
        NameStanding::Claimed,
    )
}

fn user() -> Caller {
    caller(
        "arn:aws:iam::111122223333:user/alice",
        "AKIAABCDEFGHIJKLMNOP",
        NameStanding::Attested,
    )
}

fn context(source: &str, secure: bool) -> Context {
    Context {
        request_id: RequestId::from_random([2; 16]),
        source: source.parse::<IpAddr>().unwrap(),
        secure,
        user_agent: None,
        now: 1_800_000_000,
    }
}

fn asked_for(extra: serde_json::Value) -> UserCertificateRequest {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFtQOjoMyC921Z0zEmRTDxKB5oQx3D4Uxh/oAAhGFkk8";
    let scope =
        serde_json::json!({ "target": { "user": "ubuntu", "instance": "i-0123456789abcdef0" } });
    let mut request = serde_json::json!({ "protocol": 1, "public_key": key, "scope": scope });
    for (name, value) in extra.as_object().unwrap() {
        request[name] = value.clone();
    }
    serde_json::from_value(request).unwrap()
}

/// Whether an Allow for everybody with this condition lets the request through.
async fn holds(
    condition: &str,
    caller: &Caller,
    context: &Context,
    request: &UserCertificateRequest,
) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (policy, hosts) = (
        folder.path().join("policy.json"),
        folder.path().join("hosts.toml"),
    );
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*",
           "Action":"ec2-instance-connect:SendSSHPublicKey","Resource":"*","Condition":{condition}}}]}}"#
    );
    std::fs::write(&policy, text).unwrap();
    std::fs::write(&hosts, HOST).unwrap();
    let set = PolicySet::load(&Sources {
        files: vec![policy],
        ..Sources::default()
    })
    .unwrap();
    let inventory = Inventory::new(
        Some(StaticInventory::open(&hosts).unwrap()),
        None,
        HostsSeen::default(),
    );
    let host = inventory
        .instance(&"i-0123456789abcdef0".parse().unwrap(), "test", 0)
        .await
        .unwrap()
        .unwrap();
    let nat = ["range = 10.9.0.0/16"].map(|_| NatRule {
        range: "10.9.0.0/16".parse().unwrap(),
        public: "203.0.113.77".parse().unwrap(),
    });
    let facts = Facts::of(caller, context, &nat);
    let (resource, choices) = (resource(&host), Choices::of(request).unwrap());
    let asked = choices.asked(request.scope.os_user(), None);
    matches!(
        evaluate(
            &set,
            &facts.request(Action::SendSshPublicKey, &resource, &asked)
        ),
        Decision::Allow(_)
    )
}

#[tokio::test]
async fn what_this_proof_cannot_show_never_allows() {
    let (request, here) = (
        asked_for(serde_json::json!({})),
        context("198.51.100.7", true),
    );
    for condition in [
        r#"{"StringEquals":{"aws:PrincipalTag/team":"x"}}"#,
        r#"{"Bool":{"aws:MultiFactorAuthPresent":"true"}}"#,
        r#"{"Bool":{"aws:MultiFactorAuthPresent":"false"}}"#,
        r#"{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}"#,
        r#"{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/eng/Dev"}}"#,
        r#"{"DateGreaterThan":{"aws:TokenIssueTime":"2020-01-01T00:00:00Z"}}"#,
    ] {
        assert!(
            !holds(condition, &role(), &here, &request).await,
            "{condition}"
        );
    }
}

#[tokio::test]
async fn the_source_address_is_what_aws_would_see() {
    let request = asked_for(serde_json::json!({}));
    let public = r#"{"IpAddress":{"aws:SourceIp":"198.51.100.0/24"}}"#;
    let private = r#"{"IpAddress":{"aws:VpcSourceIp":"10.0.0.0/8"}}"#;
    let mapped = r#"{"IpAddress":{"aws:SourceIp":"203.0.113.77/32"}}"#;
    for (condition, from, expected) in [
        (public, "198.51.100.7", true),
        (public, "198.51.101.7", false),
        (public, "10.1.2.3", false),
        (private, "10.1.2.3", true),
        (private, "198.51.100.7", false),
        (mapped, "10.9.8.7", true),
        (private, "10.9.8.7", false),
    ] {
        assert_eq!(
            holds(condition, &role(), &context(from, true), &request).await,
            expected,
            "{condition} {from}"
        );
    }
}

#[tokio::test]
async fn caller_host_time_and_transport_are_told() {
    let request = asked_for(serde_json::json!({}));
    for (condition, expected) in [
        (r#"{"StringEquals":{"aws:ResourceTag/Env":"dev"}}"#, true),
        (r#"{"StringEquals":{"ec2:ResourceTag/Env":"prod"}}"#, false),
        (
            r#"{"StringEquals":{"aws:userid":"AROA0123456789ABCDEF:alice"}}"#,
            true,
        ),
        (
            r#"{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}"#,
            true,
        ),
        (
            r#"{"StringEquals":{"aws:PrincipalAccount":"111122223333"}}"#,
            true,
        ),
        (
            r#"{"DateLessThan":{"aws:CurrentTime":"2027-01-15T08:00:01Z"}}"#,
            true,
        ),
        (
            r#"{"DateLessThan":{"aws:CurrentTime":"2027-01-15T08:00:00Z"}}"#,
            false,
        ),
        (r#"{"Bool":{"aws:SecureTransport":"true"}}"#, true),
        (r#"{"Bool":{"eic:NameAttested":"true"}}"#, false),
        (r#"{"StringEquals":{"eic:KeyType":"ssh-ed25519"}}"#, true),
    ] {
        assert_eq!(
            holds(condition, &role(), &context("198.51.100.7", true), &request).await,
            expected,
            "{condition}"
        );
    }
    let plain = context("198.51.100.7", false);
    assert!(
        !holds(
            r#"{"Bool":{"aws:SecureTransport":"true"}}"#,
            &role(),
            &plain,
            &request
        )
        .await
    );
    assert!(
        holds(
            r#"{"Bool":{"eic:NameAttested":"true"}}"#,
            &user(),
            &plain,
            &request
        )
        .await
    );
    assert!(
        holds(
            r#"{"StringEquals":{"aws:username":"alice"}}"#,
            &user(),
            &plain,
            &request
        )
        .await
    );
    // Of a long-term key AWS knows no MFA: the key is absent, which IfExists lets pass.
    assert!(
        holds(
            r#"{"BoolIfExists":{"aws:MultiFactorAuthPresent":"true"}}"#,
            &user(),
            &plain,
            &request
        )
        .await
    );
}

#[tokio::test]
async fn what_the_request_asks_for_is_told() {
    let here = context("198.51.100.7", true);
    let restricted = asked_for(serde_json::json!({
        "ttl_seconds": 60,
        "force_command": "uptime",
        "source_addresses": ["10.0.0.0/8"],
        "extensions": ["permit-pty"],
        "reason": "T-1",
    }));
    let plain = asked_for(serde_json::json!({}));
    for condition in [
        r#"{"NumericLessThanEquals":{"eic:TtlSeconds":"60"}}"#,
        r#"{"StringEquals":{"eic:ForceCommand":"uptime"}}"#,
        r#"{"IpAddress":{"eic:SourceAddress":"10.0.0.0/8"}}"#,
        r#"{"ForAllValues:StringEquals":{"eic:Extensions":"permit-pty"}}"#,
        r#"{"StringLike":{"eic:Reason":"T-*"}}"#,
    ] {
        assert!(
            holds(condition, &role(), &here, &restricted).await,
            "{condition}"
        );
        assert!(
            !holds(condition, &role(), &here, &plain).await,
            "{condition}"
        );
    }
}
