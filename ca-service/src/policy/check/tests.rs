//! Findings of the linter, one by one.

use super::*;
use crate::policy::{Settings, Sources};

fn findings_of(statement: &str, proofs: &[Proof], knows_role_paths: bool) -> Vec<Finding> {
    let document = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
    check(&compiled(&document), proofs, knows_role_paths)
}

fn compiled(document: &str) -> PolicySet {
    let settings = Settings {
        whole_account: true,
        ..Settings::default()
    };
    let sources = Sources {
        files: vec!["p.json".into()],
        attachments: Vec::new(),
        settings,
    };
    PolicySet::compile(&sources, |_| Ok(document.as_bytes().to_vec())).unwrap()
}

fn found(statement: &str) -> Vec<String> {
    findings_of(statement, &[Proof::AwsSts], false)
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn allow(condition: &str) -> String {
    let principal = r#"{"AWS":"arn:aws:iam::111122223333:user/alice"}"#;
    format!(
        r#"{{"Effect":"Allow","Principal":{principal},"Action":"ec2-instance-connect:*","Resource":"arn:aws:ec2:*:*:instance/*","Condition":{condition}}}"#
    )
}

fn assert_found(statement: &str, severity: &str, text: &str) {
    let all = found(statement);
    let hit = all
        .iter()
        .any(|finding| finding.starts_with(severity) && finding.contains(text));
    assert!(
        hit,
        "no {severity} with `{text}` for {statement} in {all:#?}"
    );
}

#[test]
fn the_policies_of_the_page_are_read_and_have_no_findings() {
    let page = include_str!("../../../../docs/policy.md");
    let blocks = page.split("```json\n").skip(1);
    let mut policies = 0;
    for policy in blocks.filter_map(|rest| rest.split("\n```").next()) {
        let set = compiled(policy);
        assert_eq!((set.statements().count(), set.unread().len()), (1, 0));
        let proof = if policy.contains("Federated") {
            Proof::Oidc
        } else {
            Proof::AwsSts
        };
        assert_eq!(check(&set, &[proof], false), [], "{policy}");
        policies += 1;
    }
    assert_eq!(policies, 2);
}

#[test]
fn a_sound_statement_has_no_findings() {
    assert_eq!(
        found(&allow(
            r#"{"StringEquals":{"ec2:osuser":"ubuntu","aws:ResourceTag/team":"red"}}"#
        )),
        Vec::<String>::new()
    );
    let trusted = allow(r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/*"}}"#);
    assert_eq!(found(&trusted), Vec::<String>::new());
}

#[test]
fn an_approval_that_nobody_can_give_is_a_warning() {
    let statement = allow(r#"{"StringEquals":{"eic:ApprovedBy":"bob","ec2:osuser":"ubuntu"}}"#);
    assert_found(&statement, "warning", "no approvals");
}

#[test]
fn unknowable_keys_are_named_with_their_consequence() {
    // C-20
    for key in [
        "aws:PrincipalOrgID",
        "aws:PrincipalTag/team",
        "aws:SourceVpce",
        "aws:SourceIdentity",
    ] {
        let condition = format!(r#"{{"StringEquals":{{"{key}":"x"}}}}"#);
        assert_found(
            &allow(&condition),
            "warning",
            &format!("`{key}` cannot be known from aws-sts: there this Allow never applies"),
        );
        let deny = allow(&condition).replace("Allow", "Deny");
        assert_found(
            &deny,
            "warning",
            "there this Deny applies whenever the rest of it matches",
        );
    }
    assert_found(
        &allow(r#"{"Bool":{"aws:MultiFactorAuthPresent":"true"}}"#),
        "warning",
        "`aws:MultiFactorAuthPresent`",
    );
    assert_found(
        &allow(r#"{"StringEquals":{"aws:ResourceTag/t":"${aws:PrincipalTag/t}"}}"#),
        "warning",
        "`aws:PrincipalTag/t`",
    );
    let resource = allow("{}").replace("instance/*", "instance/${aws:PrincipalTag/i}");
    assert_found(&resource, "warning", "`aws:PrincipalTag/i`");
}

#[test]
fn a_key_that_a_proof_carries_is_not_reported_for_it() {
    let statement = allow(r#"{"StringEquals":{"aws:PrincipalTag/team":"red"}}"#);
    assert!(findings_of(&statement, &[Proof::WebIdentity], true).is_empty());
    let text = findings_of(&statement, &[Proof::AwsSts, Proof::WebIdentity], true)[0].to_string();
    assert!(text.contains("from aws-sts:"), "{text}");
}

#[test]
fn role_paths_are_reported_unless_they_are_looked_up() {
    // A-32, C-20
    let sso = allow(
        r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/*/AWSReservedSSO_Dev_*"}}"#,
    );
    assert_found(&sso, "warning", "a role's path");
    assert!(findings_of(&sso, &[Proof::AwsSts], true).is_empty());
    assert_found(
        &allow(r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/Dev*"}}"#),
        "warning",
        "a role's path",
    );
    let principal = allow("{}").replace("user/alice", "role/team/Dev");
    assert_found(&principal, "warning", "a role's path");
}

#[test]
fn an_open_account_is_an_error() {
    // C-06
    for condition in [
        r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/*"}}"#,
        r#"{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::1111222233??:user/alice"}}"#,
        r#"{"StringLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/alice"}}"#,
        r#"{"StringLike":{"aws:PrincipalArn":"*:user/alice"}}"#,
        r#"{"StringLike":{"aws:PrincipalArn":"arn:aws:iam:*alice"}}"#,
    ] {
        assert_found(&allow(condition), "error", "leaves the account open");
    }
}

#[test]
fn an_open_subject_is_an_error_and_pull_requests_are_a_warning() {
    // B-18, B-19
    assert_found(
        &allow(r#"{"StringLike":{"oidc:sub":"repo:acme/app*"}}"#),
        "error",
        "also covers every longer name",
    );
    assert_found(
        &allow(r#"{"StringLike":{"oidc:sub":"repo:acme*"}}"#),
        "error",
        "also covers every longer name",
    );
    assert_found(
        &allow(r#"{"StringLike":{"oidc:sub":"repo:acme/app:*"}}"#),
        "warning",
        "pull requests",
    );
    assert!(
        found(&allow(
            r#"{"StringLike":{"oidc:sub":"repo:acme/app:ref:refs/heads/*"}}"#
        ))
        .is_empty()
    );
}

#[test]
fn everyone_without_a_condition_on_who_is_a_warning() {
    let everyone =
        allow("{}").replace(r#"{"AWS":"arn:aws:iam::111122223333:user/alice"}"#, "\"*\"");
    assert_found(
        &everyone,
        "warning",
        "every caller that can prove any identity",
    );
    let narrowed = everyone.replace(
        "{}",
        r#"{"StringEquals":{"aws:PrincipalAccount":"111122223333"}}"#,
    );
    assert!(found(&narrowed).is_empty());
    assert!(found(&everyone.replace("Allow", "Deny")).is_empty());
}

#[test]
fn a_claimed_session_name_is_a_warning() {
    let session = allow("{}").replace(
        "arn:aws:iam::111122223333:user/alice",
        "arn:aws:sts::111122223333:assumed-role/Dev/alice",
    );
    assert_found(
        &session,
        "warning",
        "who assumes the role chooses that name",
    );
}

#[test]
fn a_resource_that_nothing_fits_is_a_warning() {
    for resource in [
        "arn:aws:ec2:*:*:instances/*",
        "arn:aws:s3:::bucket",
        "arn:aws:eic:us-east-1::fleet/web",
        "arn:aws:eic:::fleets/web",
    ] {
        let statement = allow("{}").replace("arn:aws:ec2:*:*:instance/*", resource);
        assert_found(&statement, "warning", "it never applies");
    }
}

#[test]
fn weak_conditions_of_an_allow_are_reported() {
    assert_found(
        &allow(r#"{"ForAllValues:StringEquals":{"oidc:groups":["dev"]}}"#),
        "warning",
        "also holds when the key is absent",
    );
    let guarded = allow(
        r#"{"ForAllValues:StringEquals":{"oidc:groups":["dev"]},"Null":{"oidc:groups":"false"}}"#,
    );
    assert!(found(&guarded).is_empty());
    assert_found(
        &allow(r#"{"StringNotEquals":{"aws:ResourceTag/a":"x"}}"#),
        "note",
        "unlike in AWS",
    );
    assert_found(
        &allow(r#"{"StringLike":{"ec2:osuser":"*"}}"#),
        "note",
        "never covers `root`",
    );
    assert_found(
        &allow(r#"{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}"#),
        "note",
        "every address",
    );
    assert_found(
        &allow(r#"{"NumericLessThanEquals":{"eic:TtlSeconds":"86400"}}"#),
        "note",
        "no certificate lives longer than 43200 s",
    );
}

#[test]
fn unread_statements_are_counted_and_errors_come_first() {
    let other = r#"{"Sid":"S3","Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}"#;
    let service = r#"{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"*","Resource":"*"}"#;
    let open = allow(r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/*"}}"#);
    let all = found(&format!("{other},{service},{open}"));
    assert!(all[0].starts_with("error"), "{all:#?}");
    assert!(
        all.contains(
            &"note: `p.json` statement 1 (`S3`): left unread: none of its actions is decided here"
                .to_owned()
        )
    );
    assert!(all.contains(&"note: `p.json` statement 2: left unread: none of its principals can call this service".to_owned()));
}
