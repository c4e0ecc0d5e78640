//! A permit of the real policy engine grants what it was given for, and nothing else.

use std::collections::BTreeSet;

use eic_protocol::api::session::NameStanding;

use super::*;
use crate::issuance::tests::{NOW, caller, request, verified};
use crate::policy::{self, Asked, Decision, Fact, PolicySet, Resource, Settings, Source, Sources};

const POLICY: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [{
    "Sid": "Dev", "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::111122223333:role/Dev" },
    "Action": "ec2-instance-connect:SendSSHPublicKey",
    "Resource": "arn:aws:ec2:*:111122223333:instance/*",
    "Condition": {
      "StringEquals": { "ec2:osuser": ["ubuntu", "admin"] },
      "NumericLessThanEquals": { "eic:TtlSeconds": "900" }
    }
  }]
}"#;

/// What the policy answers to this request.
fn permit(request: &UserCertificateRequest) -> Permit {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.json");
    std::fs::write(&file, POLICY).unwrap();
    let sources = Sources {
        files: vec![file],
        attachments: Vec::new(),
        settings: Settings::default(),
    };
    let set = PolicySet::load(&sources).unwrap();
    let CertificateScope::Target { user, instance } = &request.scope else {
        panic!("a target")
    };
    let account = "111122223333".parse().unwrap();
    let partition = eic_protocol::arn::Partition::Aws;
    let resource = Resource::instance(partition, "eu-west-1", &account, instance, Fact::Absent);
    let proven = caller();
    let attested = proven.standing() == NameStanding::Attested;
    let who = policy::Caller::aws(
        proven.arn().unwrap().clone(),
        proven.user_id(),
        None,
        attested,
    );
    let extensions = request
        .extensions
        .as_ref()
        .map(|set| set.iter().copied().collect());
    let asked = Asked {
        os_user: Some(user),
        ttl_seconds: request.ttl_seconds,
        extensions,
        ..Asked::default()
    };
    let question = policy::Request {
        caller: &who,
        action: Action::SendSshPublicKey,
        resource: &resource,
        asked: &asked,
        source: Source::Public("192.0.2.7".parse().unwrap()),
        secure_transport: true,
        now: NOW,
    };
    match policy::evaluate(&set, &question) {
        Decision::Allow(permit) => permit,
        Decision::Deny(denial) => panic!("{denial:?}"),
    }
}

fn target(user: &str, instance: &str) -> CertificateScope {
    CertificateScope::Target {
        user: user.parse().unwrap(),
        instance: instance.parse().unwrap(),
    }
}

#[test]
fn a_permit_for_another_user_host_or_scope_grants_nothing() {
    // D10: one statement covers one certificate.
    let permit = permit(&request());
    let fleet = CertificateScope::Fleet {
        user: "ubuntu".parse().unwrap(),
        fleet: "web".parse().unwrap(),
    };
    for scope in [
        target("admin", "i-0123456789abcdef0"),
        target("ubuntu", "i-0123456789abcdef1"),
        fleet,
    ] {
        let other = UserCertificateRequest { scope, ..request() };
        assert_eq!(
            Grant::new(verified(other), &permit).unwrap_err(),
            GrantError::OtherRequest
        );
    }
}

#[test]
fn a_permit_for_another_lifetime_or_other_extensions_grants_nothing() {
    let permit = permit(&UserCertificateRequest {
        ttl_seconds: Some(600),
        ..request()
    });
    let longer = UserCertificateRequest {
        ttl_seconds: Some(900),
        ..request()
    };
    assert_eq!(
        Grant::new(verified(longer), &permit).unwrap_err(),
        GrantError::Lifetime
    );
    for extensions in [Extension::ALL.into(), BTreeSet::new()] {
        let more = UserCertificateRequest {
            ttl_seconds: Some(600),
            extensions: Some(extensions),
            ..request()
        };
        assert_eq!(
            Grant::new(verified(more), &permit).unwrap_err(),
            GrantError::Extensions
        );
    }
}

#[test]
fn a_permit_grants_the_default_or_the_asked_lifetime_and_names_its_statement() {
    let by_default = Grant::new(verified(request()), &permit(&request())).unwrap();
    assert_eq!(by_default.ttl, 300);
    assert_eq!(by_default.extensions, Extension::defaults());
    let asked = UserCertificateRequest {
        ttl_seconds: Some(900),
        extensions: Some(BTreeSet::new()),
        ..request()
    };
    let grant = Grant::new(verified(asked.clone()), &permit(&asked)).unwrap();
    assert_eq!((grant.ttl, grant.extensions.len()), (900, 0));
    assert!(
        grant.decision.statement.contains("`Dev`"),
        "{}",
        grant.decision.statement
    );
    assert_eq!(grant.decision.policy_hash.len(), 64);
    assert_eq!(grant.decision.account.as_deref(), Some("111122223333"));
    assert_eq!(grant.decision.region.as_deref(), Some("eu-west-1"));
}

#[test]
fn a_host_certificate_of_more_than_a_day_is_not_granted() {
    let operator = Operator { uid: 0, name: None };
    let id = "i-0123456789abcdef0".parse().unwrap();
    let request_id = RequestId::from_random([1; 16]);
    let key = crate::issuance::tests::subject();
    let refused = HostGrant::by_operator(operator, key, id, request_id, MAX_HOST_TTL + 1);
    assert_eq!(refused.unwrap_err(), GrantError::Lifetime);
}
