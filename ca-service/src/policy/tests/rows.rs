//! Runs the tables in `semantics/`: AWS's documented semantics, row by row.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::context::World;
use crate::policy::{
    AttachedPrincipal, Attachment, Decision, DenialKind, Effect, LoadError, PolicySet, Sources,
    Truth, evaluate, explain, reach,
};

const TABLES: [(&str, &str); 6] = [
    ("strings", include_str!("semantics/strings.rows")),
    ("typed", include_str!("semantics/typed.rows")),
    ("sets", include_str!("semantics/sets.rows")),
    ("variables", include_str!("semantics/variables.rows")),
    ("elements", include_str!("semantics/elements.rows")),
    ("ours", include_str!("semantics/ours.rows")),
];

struct Row<'t> {
    place: String,
    expected: &'t str,
    policy: &'t str,
    world: World,
}

#[test]
fn every_row_of_the_semantics_tables_holds() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for row in rows() {
        count += 1;
        let outcome = outcome(&row);
        let agrees = match row.expected.split_once(' ') {
            Some(("refused", text)) => outcome
                .strip_prefix("refused ")
                .is_some_and(|message| message.contains(text)),
            _ => outcome == row.expected,
        };
        if !agrees {
            wrong.push(format!(
                "{}: expected {}, got {outcome}: {}",
                row.place, row.expected, row.policy
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} rows are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(count > 600, "only {count} rows were read");
}

#[test]
fn an_explanation_never_disagrees_with_the_decision() {
    for row in rows() {
        let Ok(set) = compile(row.policy, &row.world) else {
            continue;
        };
        row.world.ask(|request| {
            let explained = explain(&set, request);
            assert_eq!(explained.decision, evaluate(&set, request), "{}", row.place);
            let decisive = explained.statements.iter().find(|own| match own.effect {
                Effect::Deny => own.matches != Truth::No,
                Effect::Allow => own.matches == Truth::Yes,
            });
            let named = match &explained.decision {
                Decision::Allow(permit) => Some(permit.statement().clone()),
                Decision::Deny(denial) => match denial.kind() {
                    DenialKind::Explicit(statement) => Some(statement.clone()),
                    _ => None,
                },
            };
            assert_eq!(
                decisive.map(|own| own.statement.clone()),
                named,
                "{}\n{explained}",
                row.place
            );
            assert!(!explained.to_string().is_empty());
        });
    }
}

#[test]
fn whoever_is_allowed_can_also_see_the_resource() {
    for row in rows().into_iter().filter(|row| row.expected == "allow") {
        let set = compile(row.policy, &row.world).unwrap();
        assert!(
            row.world.ask(|request| reach(&set, request)).is_some(),
            "{}",
            row.place
        );
    }
}

#[test]
fn a_deny_beside_it_overrules_every_allow() {
    // C-02, over all rows: an explicit Deny of everything leaves nothing.
    for row in rows().into_iter().filter(|row| row.expected == "allow") {
        let mut sources = sources(&row.world, Path::new("row.json"));
        sources.files.insert(0, PathBuf::from("deny.json"));
        let deny = json!({"Version": "2012-10-17", "Statement": statement(json!({"Effect": "Deny", "Action": "*"}))});
        let set = load(
            &sources,
            &[
                ("row.json", &document(row.policy)),
                ("deny.json", &deny.to_string()),
                EVERYONE,
            ],
        )
        .unwrap();
        assert!(
            matches!(
                row.world.ask(|request| evaluate(&set, request)),
                Decision::Deny(_)
            ),
            "{}",
            row.place
        );
    }
}

#[test]
fn hiding_facts_never_allows_what_was_denied() {
    // C-20, over all rows: less knowledge is never more access.
    for mut row in rows() {
        let Ok(set) = compile(row.policy, &row.world) else {
            continue;
        };
        let allowed = |row: &Row<'_>| {
            row.world
                .ask(|request| evaluate(&set, request))
                .permit()
                .is_some()
        };
        let before = allowed(&row);
        row.world.hide_facts();
        assert!(before || !allowed(&row), "{}", row.place);
    }
}

fn rows() -> Vec<Row<'static>> {
    let lines = TABLES
        .iter()
        .flat_map(|(name, text)| text.lines().enumerate().map(move |line| (*name, line)));
    let rows = lines.filter(|(_, (_, line))| !line.is_empty() && !line.starts_with('#'));
    rows.map(|(table, (index, line))| {
        let place = format!("{table}.rows:{}", index + 1);
        let fields: Vec<&str> = line
            .split(" | ")
            .flat_map(|field| split_empty(field))
            .collect();
        let [expected, policy, request, _why] = fields[..] else {
            panic!("{place}: not four fields: {fields:?}")
        };
        Row {
            world: World::new(request),
            place,
            expected: expected.trim(),
            policy: policy.trim(),
        }
    })
    .collect()
}

/// An empty request reads `| |`.
fn split_empty(field: &str) -> Vec<&str> {
    field
        .strip_prefix("| ")
        .map_or_else(|| vec![field], |rest| vec!["", rest])
}

fn outcome(row: &Row<'_>) -> String {
    let set = match compile(row.policy, &row.world) {
        Ok(set) => set,
        Err(error) => return format!("refused {error}"),
    };
    if set.statement_count() == usize::from(row.world.everyone) && !set.unread().is_empty() {
        return "unread".into();
    }
    match row.world.ask(|request| evaluate(&set, request)) {
        Decision::Allow(_) => "allow".into(),
        Decision::Deny(denial) if matches!(denial.kind(), DenialKind::Explicit(_)) => {
            "explicit".into()
        }
        Decision::Deny(_) => "deny".into(),
    }
}

const EVERYONE: (&str, &str) = (
    "everyone.json",
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}"#,
);

fn compile(policy: &str, world: &World) -> Result<PolicySet, LoadError> {
    load(
        &sources(world, Path::new("row.json")),
        &[("row.json", &document(policy)), EVERYONE],
    )
}

fn sources(world: &World, file: &Path) -> Sources {
    let mut sources = Sources {
        settings: world.settings.clone(),
        ..Sources::default()
    };
    if world.everyone {
        sources.files.push("everyone.json".into());
    }
    let Some(principal) = &world.attach else {
        sources.files.push(file.into());
        return sources;
    };
    let principal = match principal.split_once(' ') {
        Some((issuer, subject)) => AttachedPrincipal::Oidc {
            issuer: issuer.into(),
            subject: subject.into(),
        },
        None => AttachedPrincipal::Aws(principal.clone()),
    };
    sources.attachments.push(Attachment {
        file: file.into(),
        principal,
        accounts: world.attach_accounts.clone(),
    });
    sources
}

fn load(sources: &Sources, files: &[(&str, &str)]) -> Result<PolicySet, LoadError> {
    PolicySet::compile(sources, |path| {
        let file = files
            .iter()
            .find(|(name, _)| Path::new(name) == path)
            .unwrap();
        Ok(file.1.as_bytes().to_vec())
    })
}

/// The document that a row's shorthand stands for. See `semantics/README.md`.
fn document(policy: &str) -> String {
    let (kind, body) = policy.split_once(' ').unwrap();
    let statements = match kind {
        "P" | "A" => return body.to_owned(),
        // Spliced as text: a row may hold what a JSON value cannot, such as a repeated member.
        "C" => {
            return format!(
                r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow",{BASE},"Condition":{body}}}}}"#
            );
        }
        "D" => vec![deny_with(body), statement(json!({"Action": "*"}))],
        "S" => with_everyone(statement(serde_json::from_str(body).unwrap())),
        other => panic!("unknown shorthand {other}"),
    };
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

const BASE: &str =
    r#""Principal":"*","Action":"ec2-instance-connect:SendSSHPublicKey","Resource":"*""#;

fn deny_with(condition: &str) -> Value {
    statement(
        json!({"Effect": "Deny", "Condition": serde_json::from_str::<Value>(condition).unwrap()}),
    )
}

fn with_everyone(own: Value) -> Vec<Value> {
    if own["Effect"] == "Deny" {
        vec![own, statement(json!({"Action": "*"}))]
    } else {
        vec![own]
    }
}

fn statement(members: Value) -> Value {
    let mut whole: Value =
        serde_json::from_str(&format!(r#"{{"Effect":"Allow",{BASE}}}"#)).unwrap();
    for (name, value) in members.as_object().unwrap() {
        if value.is_null() {
            whole.as_object_mut().unwrap().remove(name);
        } else {
            whole[name] = value.clone();
        }
    }
    whole
}
