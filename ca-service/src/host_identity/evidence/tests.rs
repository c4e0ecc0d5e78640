//! Statements about a host that do not agree.

use super::*;
use crate::store::ReplayClaim;

const ID: &str = "i-0123456789abcdef0";

pub(in crate::host_identity) fn document() -> IdentityDocument {
    IdentityDocument {
        instance: ID.parse().unwrap(),
        account: "111122223333".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        pending_time: 1_700_000_000,
        private_ip: "10.0.0.5".parse().unwrap(),
    }
}

pub(in crate::host_identity) fn described() -> Described {
    Described {
        instance: ID.parse().unwrap(),
        account: "111122223333".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        state: "running".to_owned(),
        private_ips: vec!["10.0.0.5".parse().unwrap()],
        role: Some(InstanceRole {
            name: "Web".to_owned(),
            trust: Trust::OnlyEc2,
        }),
    }
}

fn check(caller: &str, described: &Described) -> Result<HostEvidence, Disagreement> {
    HostEvidence::of_document(&document(), &caller.parse().unwrap(), described)
}

const OWN: &str = "arn:aws:sts::111122223333:assumed-role/Web/i-0123456789abcdef0";

fn refused(caller: &str) -> Disagreement {
    check(caller, &described()).unwrap_err()
}

#[test]
fn a_genuine_document_in_other_hands_is_refused() {
    // E-04
    for (caller, why) in [
        (
            "arn:aws:sts::111122223333:assumed-role/Web/i-00000000000000bad",
            Disagreement::Session,
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/Web/alice",
            Disagreement::Session,
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/Admin/i-0123456789abcdef0",
            Disagreement::Role,
        ),
        (
            "arn:aws:sts::444455556666:assumed-role/Web/i-0123456789abcdef0",
            Disagreement::Account,
        ),
        (
            "arn:aws-cn:sts::111122223333:assumed-role/Web/i-0123456789abcdef0",
            Disagreement::Account,
        ),
        (
            "arn:aws:iam::111122223333:user/i-0123456789abcdef0",
            Disagreement::NotARole,
        ),
        (
            "arn:aws:sts::111122223333:federated-user/i-0123456789abcdef0",
            Disagreement::NotARole,
        ),
        ("arn:aws:iam::111122223333:root", Disagreement::NotARole),
    ] {
        assert_eq!(refused(caller), why, "{caller}");
    }
}

#[test]
fn an_instance_that_is_not_there_any_more_is_refused() {
    // E-06
    for state in [
        "stopped",
        "stopping",
        "shutting-down",
        "terminated",
        "",
        "Running",
    ] {
        let gone = Described {
            state: state.to_owned(),
            ..described()
        };
        assert_eq!(
            check(OWN, &gone).unwrap_err(),
            Disagreement::State,
            "{state}"
        );
    }
    let other = |change: fn(&mut Described)| {
        let mut described = described();
        change(&mut described);
        check(OWN, &described).unwrap_err()
    };
    assert_eq!(
        other(|d| d.account = "444455556666".parse().unwrap()),
        Disagreement::Account
    );
    assert_eq!(
        other(|d| d.region = "us-east-1".parse().unwrap()),
        Disagreement::Account
    );
    assert_eq!(
        other(|d| d.instance = "i-00000000".parse().unwrap()),
        Disagreement::Account
    );
    assert_eq!(
        other(|d| d.private_ips = vec!["10.0.0.6".parse().unwrap()]),
        Disagreement::Address
    );
    assert_eq!(other(|d| d.role = None), Disagreement::Role);
}

#[test]
fn a_role_that_others_may_assume_is_remembered_as_such() {
    let mut shared = described();
    shared.role = Some(InstanceRole {
        name: "Web".to_owned(),
        trust: Trust::Others("AWS *".to_owned()),
    });
    assert_eq!(check(OWN, &shared).unwrap().shared_role(), Some("AWS *"));
    assert_eq!(check(OWN, &described()).unwrap().shared_role(), None);
}

#[test]
fn a_token_of_an_instance_that_is_gone_or_elsewhere_is_refused() {
    let identity = WebIdentity {
        instance: ID.parse().unwrap(),
        account: "111122223333".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        role: "arn:aws:iam::111122223333:role/Web".to_owned(),
        private_ip: Some("10.0.0.5".parse().unwrap()),
        claim: ReplayClaim::of_signed_time([0; 32], 0, 0),
    };
    let evidence = HostEvidence::of_token(&identity, &described()).unwrap();
    assert_eq!(
        (evidence.instance().as_str(), evidence.kind()),
        (ID, EvidenceKind::WebIdentity)
    );
    let gone = Described {
        state: "terminated".to_owned(),
        ..described()
    };
    assert_eq!(
        HostEvidence::of_token(&identity, &gone).unwrap_err(),
        Disagreement::State
    );
    let moved = Described {
        private_ips: Vec::new(),
        ..described()
    };
    assert_eq!(
        HostEvidence::of_token(&identity, &moved).unwrap_err(),
        Disagreement::Address
    );
}
