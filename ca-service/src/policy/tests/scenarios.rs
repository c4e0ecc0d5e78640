//! Named cases: denials that explain themselves and those that do not, limits of permits, listings.

use super::context::World;
use super::fixture::{allow, compile, policy};
use crate::policy::{
    Caller, Decision, Denial, DenialKind, Permit, PolicySet, Reach, UNIFORM_DENIAL, concerns,
    evaluate, explain, reach,
};

fn decide(set: &PolicySet, request: &str) -> Decision {
    World::new(request).ask(|request| evaluate(set, request))
}

fn denied(set: &PolicySet, request: &str) -> Denial {
    match decide(set, request) {
        Decision::Deny(denial) => denial,
        Decision::Allow(permit) => panic!("allowed by {}", permit.statement()),
    }
}

fn permitted(set: &PolicySet, request: &str) -> Permit {
    decide(set, request).permit().unwrap()
}

#[test]
fn a_policy_concerns_whom_an_allow_may_cover_and_nobody_else() {
    let alice = Caller::oidc("https://idp.example", "alice", Default::default());
    let about = |principal: &str, effect: &str| {
        let statement = format!(
            r#"{{"Effect":"{effect}","Principal":{principal},"Action":"ec2-instance-connect:SendSSHPublicKey","Resource":"*"}}"#
        );
        concerns(&policy(&statement), &alice)
    };
    assert!(!about(r#"{"Federated":"other.example"}"#, "Allow"));
    assert!(!about(r#"{"Federated":"idp.example"}"#, "Deny"));
    assert!(about(r#"{"Federated":"idp.example"}"#, "Allow"));
    assert!(about(r#""*""#, "Allow"));
}

#[test]
fn a_user_outside_the_grammar_cannot_even_be_asked_for() {
    // C-15
    for name in ["Ubuntu", "ubuntu\u{200b}", "\u{430}dmin", "ubuntu "] {
        assert!(name.parse::<eic_protocol::os_user::OsUser>().is_err());
    }
    let set = policy(&allow(r#"{"StringLike":{"ec2:osuser":["*"]}}"#));
    assert!(
        matches!(decide(&set, "os="), Decision::Deny(_)),
        "a request without a user"
    );
}

#[test]
fn one_allow_covers_the_whole_certificate_or_none_does() {
    // C-12, D10: lifetime of one statement, user of another, extension of a third.
    let set = policy(&[
        allow(r#"{"StringEquals":{"ec2:osuser":"admin"}}"#),
        allow(r#"{"StringEquals":{"ec2:osuser":"ubuntu"},"NumericLessThanEquals":{"eic:TtlSeconds":"1800"}}"#),
        allow(
            r#"{"StringEquals":{"ec2:osuser":"ubuntu"},"ForAllValues:StringEquals":{"eic:Extensions":["permit-pty","permit-agent-forwarding"]}}"#,
        ),
    ].join(","));
    denied(&set, "os=admin; ttl=1800");
    denied(&set, "os=ubuntu; ttl=1800; ext=permit-agent-forwarding");
    assert_eq!(permitted(&set, "os=ubuntu; ttl=1800").statement().index, 2);
    assert_eq!(
        permitted(&set, "os=ubuntu; ext=permit-agent-forwarding")
            .statement()
            .index,
        3
    );
}

#[test]
fn a_superset_is_denied_and_never_trimmed() {
    // C-12
    let set = policy(&allow(r#"{"StringEquals":{"ec2:osuser":"ubuntu"}}"#));
    denied(&set, "os=root");
    denied(&set, "os=ubuntu; ttl=301");
    denied(&set, "os=ubuntu; ext=permit-pty,permit-user-rc");
}

#[test]
fn a_permit_says_what_was_permitted_and_by_what() {
    let set = policy(
        &allow(r#"{"NumericLessThanEquals":{"eic:TtlSeconds":"1800"}}"#)
            .replace("\"Effect\"", "\"Sid\":\"Dev\",\"Effect\""),
    );
    let permit = permitted(&set, "os=ubuntu; ttl=900; ext=permit-pty");
    assert_eq!(
        permit.statement().to_string(),
        "`policy.json` statement 1 (`Dev`)"
    );
    assert_eq!(permit.policy(), set.digest());
    assert_eq!(
        (permit.ttl_seconds(), permit.max_ttl_seconds()),
        (Some(900), Some(1800))
    );
    assert_eq!(permit.extensions().to_string(), "permit-pty");
    assert_eq!(permit.os_user().unwrap().as_str(), "ubuntu");
    assert_eq!(
        permit.resource(),
        "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0"
    );
}

#[test]
fn a_permit_without_choices_has_the_defaults() {
    let permit = permitted(&policy(&allow("{}")), "");
    assert_eq!(
        (permit.ttl_seconds(), permit.max_ttl_seconds()),
        (Some(300), Some(300))
    );
    assert_eq!(
        permit.extensions().to_string(),
        "permit-port-forwarding,permit-pty"
    );
    let fleet = policy(&allow("{}").replace("ec2-instance-connect:SendSSHPublicKey", "eic:*"));
    let permit = permitted(&fleet, "act=eic:IssueFleetCertificate; fleet=web");
    assert_eq!(
        (permit.ttl_seconds(), permit.max_ttl_seconds()),
        (Some(3600), Some(3600))
    );
    assert_eq!(permitted(&fleet, "act=eic:ReadAudit").ttl_seconds(), None);
}

#[test]
fn a_lifetime_never_exceeds_the_cap_whatever_the_policy_says() {
    // C-13
    let set = policy(&allow(
        r#"{"NumericLessThanEquals":{"eic:TtlSeconds":"99999999999999999999"}}"#,
    ));
    assert_eq!(permitted(&set, "ttl=60").max_ttl_seconds(), Some(3600));
    denied(&set, "ttl=3601");
    denied(&set, &format!("ttl={}", u64::MAX));
}

#[test]
fn of_two_bounds_of_one_statement_the_lower_counts() {
    let set = policy(&allow(
        r#"{"NumericLessThanEquals":{"eic:TtlSeconds":"1800"},"NumericLessThan":{"eic:TtlSeconds":"600"}}"#,
    ));
    assert_eq!(permitted(&set, "ttl=60").max_ttl_seconds(), Some(599));
}

#[test]
fn a_denial_names_what_the_caller_could_choose_instead() {
    let set = policy(&allow(
        r#"{"StringEquals":{"ec2:osuser":["ubuntu","${aws:username}"]},"NumericLessThanEquals":{"eic:TtlSeconds":"600"}}"#,
    ));
    assert_eq!(
        denied(&set, "os=admin; ttl=601").caller_text(),
        "not with this request; what would do: ec2:osuser `ubuntu` or `alice` and eic:TtlSeconds from 5 to 600"
    );
    let demands = policy(&allow(
        r#"{"Null":{"eic:Reason":"false"},"IpAddress":{"eic:SourceAddress":"10.0.0.0/8"}}"#,
    ));
    assert_eq!(
        denied(&demands, "").caller_text(),
        "not with this request; what would do: eic:Reason given and eic:SourceAddress within `10.0.0.0/8`"
    );
    assert_eq!(
        denied(&policy(&allow("{}")), "ext=permit-user-rc").caller_text(),
        "not with this request; what would do: eic:Extensions only of `permit-port-forwarding,permit-pty`"
    );
}

#[test]
fn a_hint_never_names_a_user_whom_a_deny_forbids() {
    let deny = r#"{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{"StringEquals":{"ec2:osuser":"admin"}}}"#;
    let set = policy(&format!(
        "{},{deny}",
        allow(r#"{"StringEquals":{"ec2:osuser":["admin","ubuntu"]}}"#)
    ));
    assert_eq!(
        denied(&set, "os=dev").caller_text(),
        "not with this request; what would do: ec2:osuser `ubuntu`"
    );
    let nobody = policy(&format!(
        "{},{deny}",
        allow(r#"{"StringEquals":{"ec2:osuser":"admin"}}"#)
    ));
    assert_eq!(denied(&nobody, "os=dev").caller_text(), UNIFORM_DENIAL);
}

#[test]
fn a_denied_root_login_says_that_no_statement_names_root() {
    // C-14
    let text = denied(&policy(&allow("{}")), "os=root").caller_text();
    assert_eq!(
        text,
        "not with this request; what would do: ec2:osuser other than `root`, which no statement names"
    );
}

#[test]
fn a_denial_that_the_caller_cannot_help_has_the_uniform_text() {
    // C-18: not the caller, not the resource, not an explicit Deny, not a key that he did not choose.
    let elsewhere = allow("{}").replace(
        "\"Resource\":\"*\"",
        "\"Resource\":\"arn:aws:ec2:eu-west-1:*:instance/*\"",
    );
    let someone = allow("{}").replace(
        "\"Principal\":\"*\"",
        r#""Principal":{"AWS":"arn:aws:iam::111122223333:user/bob"}"#,
    );
    let deny = r#"{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}"#;
    for statements in [
        String::new(),
        elsewhere,
        someone,
        format!("{},{deny}", allow("{}")),
        format!(
            "{},{deny}",
            allow(r#"{"StringEquals":{"ec2:osuser":"admin"}}"#)
        ),
        allow(r#"{"StringEquals":{"aws:ResourceTag/team":"red"}}"#),
        allow(r#"{"IpAddress":{"aws:SourceIp":"198.51.100.0/24"}}"#),
        allow(r#"{"StringEquals":{"ec2:osuser":"admin","aws:ResourceTag/team":"red"}}"#),
        allow(r#"{"StringEquals":{"ec2:osuser":"admin"},"Bool":{"eic:NameAttested":"true"}}"#),
        allow(r#"{"StringEquals":{"ec2:osuser":"${aws:PrincipalTag/login}"}}"#),
    ] {
        assert_eq!(
            denied(&policy(&statements), "").caller_text(),
            UNIFORM_DENIAL,
            "{statements}"
        );
    }
}

#[test]
fn a_hint_passes_no_terminal_escapes_on() {
    // H-15: the value of a variable comes from a tag.
    let set = policy(&allow(
        r#"{"StringEquals":{"eic:Reason":"${aws:ResourceTag/r}"}}"#,
    ));
    let text = denied(&set, "tag.r=a\u{1b}]52;c\u{7}").caller_text();
    assert!(text.ends_with("eic:Reason `a\\u{1b}]52;c\\u{7}`"), "{text}");
}

#[test]
fn several_allows_are_alternatives_and_few_are_shown() {
    let users = ["a", "b", "c", "d", "e", "f", "g"];
    let statements =
        users.map(|user| allow(&format!(r#"{{"StringEquals":{{"ec2:osuser":"{user}"}}}}"#)));
    let denial = denied(&policy(&statements.join(",")), "os=ubuntu");
    let DenialKind::Chosen(hints) = denial.kind() else {
        panic!("{denial:?}")
    };
    assert_eq!(hints.len(), 5);
    assert_eq!(hints[1].needs()[0].wanted, "`b`");
    let many: Vec<_> = (0..20).map(|n| format!("\"u{n}\"")).collect();
    let set = policy(&allow(&format!(
        r#"{{"StringEquals":{{"ec2:osuser":[{}]}}}}"#,
        many.join(",")
    )));
    assert!(
        denied(&set, "os=ubuntu")
            .caller_text()
            .ends_with("`u7` or others")
    );
}

#[test]
fn an_explicit_deny_is_named_for_the_audit_and_not_for_the_caller() {
    let set = policy(&format!(
        r#"{},{{"Sid":"NoRoot","Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{{"StringEquals":{{"ec2:osuser":"root"}}}}}}"#,
        allow(r#"{"StringEquals":{"ec2:osuser":["root","ubuntu"]}}"#)
    ));
    let denial = denied(&set, "os=root");
    let DenialKind::Explicit(statement) = denial.kind() else {
        panic!("{denial:?}")
    };
    assert_eq!(statement.sid.as_deref(), Some("NoRoot"));
    assert_eq!(denial.caller_text(), UNIFORM_DENIAL);
    assert_eq!(denial.policy(), Some(set.digest()));
    permitted(&set, "os=ubuntu");
}

#[test]
fn a_listing_shows_only_what_can_be_reached_and_as_whom() {
    let set = policy(&allow(
        r#"{"StringEquals":{"ec2:osuser":["ubuntu","root","${aws:username}"],"aws:ResourceTag/team":"red"}}"#,
    ));
    let reach_of =
        |set: &PolicySet, request: &str| World::new(request).ask(|request| reach(set, request));
    assert_eq!(reach_of(&set, "os="), None);
    let users = ["alice", "root", "ubuntu"]
        .map(|user| user.parse().unwrap())
        .to_vec();
    assert_eq!(
        reach_of(&set, "os=; tag.team=red"),
        Some(Reach {
            users,
            others: true
        })
    );
    let deny_root = r#"{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{"StringLike":{"ec2:osuser":"r*"}}}"#;
    let fewer = policy(&format!(
        "{},{deny_root}",
        allow(r#"{"StringEquals":{"ec2:osuser":["ubuntu","root"]}}"#)
    ));
    let users = vec!["ubuntu".parse().unwrap()];
    assert_eq!(
        reach_of(&fewer, "os="),
        Some(Reach {
            users,
            others: false
        })
    );
    let deny_all = deny_root.replace(r#","Condition":{"StringLike":{"ec2:osuser":"r*"}}"#, "");
    let none = policy(&format!("{},{deny_all}", allow("{}")));
    assert_eq!(reach_of(&none, "os="), None);
    assert_eq!(
        reach_of(&policy(&allow("{}")), "os="),
        Some(Reach {
            users: vec![],
            others: true
        })
    );
}

#[test]
fn an_explanation_shows_each_statement_and_what_the_request_had() {
    let set = policy(&format!(
        r#"{},{{"Sid":"Mfa","Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{{"Bool":{{"aws:MultiFactorAuthPresent":"false"}}}}}}"#,
        allow(r#"{"StringEquals":{"ec2:osuser":"ubuntu"}}"#)
    ));
    let text = World::new("role=Dev/alice")
        .ask(|request| explain(&set, request))
        .to_string();
    insta_like(
        &text,
        &[
            "denied: `policy.json` statement 2 (`Mfa`) denies it",
            "Deny `policy.json` statement 2 (`Mfa`) turns on something unknowable, so it denies",
            "  yes Action — request: ec2-instance-connect:SendSSHPublicKey",
            "  ?   Condition aws:MultiFactorAuthPresent Bool `false` — request: unknowable from this proof",
            "Allow `policy.json` statement 1 matches",
            "  yes Condition ec2:osuser StringEquals `ubuntu` — request: ubuntu",
        ],
    );
}

#[test]
fn an_explanation_leaves_out_what_cannot_apply() {
    use crate::policy::{AttachedPrincipal, Attachment, Settings, Sources};

    let identity = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
        "Action":"ec2-instance-connect:SendSSHPublicKey","Resource":"*"}]}"#;
    let attached = |file: &str, role: &str| Attachment {
        file: file.into(),
        principal: AttachedPrincipal::Aws(format!("arn:aws:iam::111122223333:role/{role}")),
        accounts: Vec::new(),
    };
    let sources = Sources {
        files: Vec::new(),
        attachments: vec![attached("dev.json", "Dev"), attached("ops.json", "Ops")],
        settings: Settings::default(),
    };
    let set = PolicySet::compile(&sources, |_| Ok(identity.as_bytes().to_vec())).unwrap();
    let told = |request: &str| {
        World::new(request)
            .ask(|request| explain(&set, request))
            .to_string()
    };
    let text = told("role=Dev/alice; os=ubuntu");
    assert!(
        text.contains("dev.json") && !text.contains("ops.json"),
        "{text}"
    );
    assert!(
        text.contains("not shown: 1 of policies attached to others"),
        "{text}"
    );
    assert!(text.contains("accounts of the attachment"), "{text}");
    assert!(!text.contains("uid 0"), "{text}");
    assert!(told("role=Dev/alice; os=root").contains("uid 0"));
    let own = policy(&allow("{}"));
    let text = World::new("os=ubuntu")
        .ask(|request| explain(&own, request))
        .to_string();
    assert!(!text.contains("attach"), "{text}");
}

fn insta_like(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            text.lines().any(|own| own == *line),
            "`{line}` is not in\n{text}"
        );
    }
}

#[test]
fn documents_pasted_from_instance_connect_work_for_certificates() {
    // Shape of the policy in the EC2 user guide, "Grant IAM permissions for EC2 Instance Connect".
    let set = compile(
        r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/alice"},
             "Action":"ec2-instance-connect:SendSSHPublicKey",
             "Resource":["arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0","arn:aws:ec2:us-east-1:111122223333:instance/i-0598c7d356eba48d7"],
             "Condition":{"StringEquals":{"ec2:osuser":"ec2-user"}}},
            {"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/alice"},"Action":"ec2:DescribeInstances","Resource":"*"}]}"#,
    )
    .unwrap();
    assert_eq!((set.statement_count(), set.unread().len()), (1, 1));
    permitted(&set, "os=ec2-user");
    denied(&set, "os=ubuntu");
    denied(&set, "os=ec2-user; inst=i-0123456789abcdef1");
}
