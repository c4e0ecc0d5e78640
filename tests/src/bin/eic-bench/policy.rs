//! Policy evaluations per second: 200 statements with tags, users and variables, of which the last allows.

use std::time::{Duration, Instant};

use eic_ca::policy::{
    Action, Asked, Caller, Fact, PolicySet, Request, Resource, Source, Sources, Tags, evaluate,
};
use serde_json::json;

use crate::summary::{Goal, Row};

const STATEMENTS: usize = 200;

/// The row.
pub(crate) fn evaluations() -> Result<Vec<Row>, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = folder.path().join("policy.json");
    std::fs::write(&file, document()).map_err(|e| e.to_string())?;
    let sources = Sources {
        files: vec![file],
        ..Sources::default()
    };
    let set = PolicySet::load(&sources).map_err(|e| e.to_string())?;
    let rate = rate(&set)?;
    Ok(vec![Row::new(
        "policy evaluations/s, 200 statements, one core",
        rate,
        "1/s",
        None,
        (Goal::None, "printed"),
    )])
}

fn document() -> String {
    let statement = |n: usize| {
        json!({
            "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:user/alice"},
            "Action": "ec2-instance-connect:SendSSHPublicKey",
            "Resource": "arn:aws:ec2:*:123456789012:instance/*",
            "Condition": {
                "StringEquals": {"ec2:osuser": "ubuntu", "aws:ResourceTag/team": format!("team-{n}")},
                "StringLike": {"aws:ResourceTag/owner": "${aws:username}-*"},
            },
        })
    };
    json!({"Version": "2012-10-17", "Statement": (0..STATEMENTS).map(statement).collect::<Vec<_>>()}).to_string()
}

fn rate(set: &PolicySet) -> Result<f64, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let arn = "arn:aws:iam::123456789012:user/alice"
        .parse()
        .map_err(|e| text(&e))?;
    let caller = Caller::aws(arn, "AIDAIOSFODNN7EXAMPLE1", None, true);
    let account = "123456789012".parse().map_err(|e| text(&e))?;
    let last = format!("team-{}", STATEMENTS - 1);
    let tags = Tags::from([
        ("team".to_owned(), last),
        ("owner".to_owned(), "alice-1".to_owned()),
    ]);
    let id = "i-0123456789abcdef0".parse().map_err(|e| text(&e))?;
    let resource = Resource::instance(
        eic_protocol::arn::Partition::Aws,
        "us-east-1",
        &account,
        &id,
        Fact::Present(&tags),
    );
    let user = "ubuntu".parse().map_err(|e| text(&e))?;
    let asked = Asked {
        os_user: Some(&user),
        ..Asked::default()
    };
    let source = Source::of([203, 0, 113, 9].into(), &[]);
    let request = Request {
        caller: &caller,
        action: Action::SendSshPublicKey,
        resource: &resource,
        asked: &asked,
        source,
        secure_transport: true,
        now: 1_800_000_000,
    };
    if evaluate(set, &request).permit().is_none() {
        return Err("the policy of the bench does not allow what it should".to_owned());
    }
    let started = Instant::now();
    let mut count = 0_u32;
    while started.elapsed() < Duration::from_secs(2) {
        for _ in 0..100 {
            std::hint::black_box(evaluate(set, std::hint::black_box(&request)));
        }
        count += 100;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}
