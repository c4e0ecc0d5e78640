//! Bounds: what a policy file can cost at load and at each decision.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::context::World;
use super::fixture::{allow, compile, compile_with, policy};
use crate::policy::{Decision, Settings, evaluate};

fn repeated(statement: &str, count: usize) -> String {
    let statements = vec![statement; count].join(",");
    format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#)
}

const SMALL: &str = r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#;

#[test]
fn a_policy_bomb_is_refused_by_its_size() {
    // C-16: 10 MB; 100,000 statements; a value of 64 kB.
    let started = Instant::now();
    let large = repeated(SMALL, 160_000);
    assert!(large.len() > 10_000_000);
    assert!(
        compile(&large)
            .unwrap_err()
            .to_string()
            .contains("larger than 1 MiB")
    );
    let value = allow(&format!(
        r#"{{"StringEquals":{{"aws:username":"{}"}}}}"#,
        "x".repeat(64 * 1024)
    ));
    assert!(
        compile(&repeated(&value, 1))
            .unwrap_err()
            .to_string()
            .contains("longer than 2048")
    );
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn the_statements_of_all_files_together_are_bounded() {
    // C-16
    let half = repeated(SMALL, 5_001);
    let refusal =
        compile_with(Settings::default(), &[("a.json", &half), ("b.json", &half)]).unwrap_err();
    assert!(
        refusal.to_string().contains("more than 10000 statements"),
        "{refusal}"
    );
    assert_eq!(refusal.file(), "b.json");
    let unread = repeated(
        r#"{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}"#,
        10_001,
    );
    assert!(compile(&unread).is_err(), "unread statements count too");
}

#[test]
fn the_largest_policy_that_loads_is_decided_in_linear_work() {
    // C-16: 10,000 statements whose patterns almost match.
    let statement = allow(r#"{"StringLike":{"ec2:osuser":"*u*u*x"}}"#)
        .replace("\"Resource\":\"*\"", "\"Resource\":\"arn:*:*9\"");
    let count = 1024 * 1024 / (statement.len() + 1) - 1;
    let set = compile(&repeated(&statement, count)).unwrap();
    let world = World::new("os=uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu");
    let started = Instant::now();
    assert!(matches!(
        world.ask(|request| evaluate(&set, request)),
        Decision::Deny(_)
    ));
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{count} statements took {:?}",
        started.elapsed()
    );
}

#[test]
fn hostile_patterns_of_a_policy_are_decided_in_bounded_time() {
    // C-06: 1,000 `*` against the longest tag value.
    let pattern = format!("{}b", "*a".repeat(1000));
    let set = policy(&allow(&format!(
        r#"{{"StringLike":{{"aws:ResourceTag/a":"{pattern}"}}}}"#
    )));
    let world = World::new(&format!("tag.a={}", "a".repeat(2048)));
    let started = Instant::now();
    assert!(matches!(
        world.ask(|request| evaluate(&set, request)),
        Decision::Deny(_)
    ));
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

/// One of everything that the loader reads.
const RICH: &str = r#"{"Version":"2012-10-17","Id":"x","Statement":[{"Sid":"A","Effect":"Deny","NotPrincipal":{"AWS":["111122223333","arn:aws:iam::111122223333:role/a/Dev"],"Federated":"idp.example"},"NotAction":["s3:*","eic:Read*"],"NotResource":"arn:aws:ec2:*:*:instance/${aws:username, 'x'}","Condition":{"ForAnyValue:StringLikeIfExists":{"aws:ResourceTag/a":["*${*}?",5,true]},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"DateLessThan":{"aws:CurrentTime":"2030-01-01T00:00:00Z"},"BinaryEquals":{"aws:ResourceTag/b":"eA=="},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/?x*"}}}]}"#;

proptest! {
    #[test]
    fn a_damaged_document_is_refused_or_decided_and_never_a_panic(
        edits in proptest::collection::vec((0..RICH.len(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let mut bytes = RICH.as_bytes().to_vec();
        for (at, byte, kind) in edits {
            let at = at % bytes.len();
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Ok(set) = String::from_utf8(bytes).map_err(drop).and_then(|text| compile(&text).map_err(drop)) {
            let world = World::new("role=Dev/alice; tag.a=x; os=root");
            let _ = world.ask(|request| evaluate(&set, request));
        }
    }

    #[test]
    fn condition_values_of_any_text_are_refused_or_decided(
        operator in proptest::sample::select(vec!["StringLike", "NumericEquals", "DateEquals", "Bool", "BinaryEquals", "IpAddress", "ArnLike"]),
        value in "[0-9a-z:/.*?${}', TZ+=-]{0,24}",
        tag in "[0-9a-zA-Z:/.*?${}', +=-]{0,24}",
    ) {
        let value = serde_json::Value::from(value);
        if let Ok(set) = compile(&repeated(&allow(&format!(r#"{{"{operator}":{{"aws:ResourceTag/a":{value}}}}}"#)), 1)) {
            let _ = World::new(&format!("tag.a={}", tag.replace("; ", ""))).ask(|request| evaluate(&set, request));
        }
    }
}
