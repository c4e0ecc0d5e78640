//! Who may assume a role, from its trust policy: where EC2 alone may, a session that is named for an instance
//! is that instance's; where others may too, they choose the session's name and it says nothing (threats E-04).

use eic_protocol::text::printable;
use serde_json::Value;

/// Longest trust policy that IAM takes (IAM user guide, "IAM quotas": 4,096 characters after an increase),
/// with room for its white space.
const MAX_POLICY: usize = 64 * 1024;
/// EC2 as a service principal, in each partition's spelling.
const EC2: [&str; 2] = ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"];

/// Who may assume a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// EC2, for its instances, and nobody else.
    OnlyEc2,
    /// Somebody else too; the first of them.
    Others(String),
}

/// Reads a trust policy. What is not understood counts as somebody else.
#[must_use]
pub fn read(policy: &str) -> Trust {
    let others = |text: &str| Trust::Others(text.to_owned());
    if policy.len() > MAX_POLICY {
        return others("a policy that is too long to read");
    }
    let Ok(document) = serde_json::from_str::<Value>(policy) else {
        return others("a policy that is not JSON");
    };
    let statements = match document.get("Statement") {
        Some(Value::Array(statements)) => statements.iter().collect(),
        Some(statement @ Value::Object(_)) => vec![statement],
        _ => return others("a policy without statements"),
    };
    let mut allows = false;
    for statement in statements {
        match allowed(statement) {
            Allowed::Nobody => {}
            Allowed::Ec2 => allows = true,
            Allowed::Somebody(who) => return Trust::Others(printable(&who)),
        }
    }
    if allows {
        Trust::OnlyEc2
    } else {
        others("nobody: EC2 itself may not assume it")
    }
}

enum Allowed {
    Nobody,
    Ec2,
    Somebody(String),
}

fn allowed(statement: &Value) -> Allowed {
    if statement.get("Effect").and_then(Value::as_str) == Some("Deny") {
        return Allowed::Nobody;
    }
    let Some(Value::Object(principal)) = statement.get("Principal") else {
        let text = statement.get("Principal").map(ToString::to_string);
        return Allowed::Somebody(text.unwrap_or_else(|| "everybody".to_owned()));
    };
    for (kind, names) in principal {
        for name in names_of(names) {
            if kind != "Service" || !EC2.contains(&name.as_str()) {
                return Allowed::Somebody(format!("{kind} {name}"));
            }
        }
    }
    Allowed::Ec2
}

fn names_of(names: &Value) -> Vec<String> {
    match names {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) if !names.is_empty() => {
            let text = |name: &Value| {
                name.as_str()
                    .map_or_else(|| name.to_string(), str::to_owned)
            };
            names.iter().map(text).collect()
        }
        other => vec![other.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_others_may_assume_names_them() {
        // E-04
        for (principal, who) in [
            (
                r#"{"AWS":"arn:aws:iam::111122223333:root"}"#,
                "AWS arn:aws:iam::111122223333:root",
            ),
            (
                r#"{"Service":["ec2.amazonaws.com","lambda.amazonaws.com"]}"#,
                "Service lambda.amazonaws.com",
            ),
            (
                r#"{"Service":"ec2.amazonaws.com","Federated":"x"}"#,
                "Federated x",
            ),
            (r#""*""#, "\"*\""),
            (r#"{"Service":{}}"#, "Service {}"),
            (r#"{"Service":[]}"#, "Service []"),
        ] {
            let policy = format!(
                r#"{{"Statement":[{{"Effect":"Allow","Principal":{{"Service":"ec2.amazonaws.com"}},"Action":"sts:AssumeRole"}},
                {{"Effect":"Allow","Principal":{principal},"Action":"sts:AssumeRole"}}]}}"#
            );
            assert_eq!(read(&policy), Trust::Others(who.to_owned()), "{policy}");
        }
    }

    #[test]
    fn what_is_not_understood_is_somebody_else() {
        for policy in [
            "",
            "{",
            "{}",
            r#"{"Statement":[]}"#,
            r#"{"Statement":[{"Effect":"Allow","NotPrincipal":{"AWS":"1"}}]}"#,
            r#"{"Statement":[{"Effect":"Deny","Principal":{"Service":"ec2.amazonaws.com"}}]}"#,
            &" ".repeat(MAX_POLICY + 1),
        ] {
            assert!(matches!(read(policy), Trust::Others(_)), "{policy}");
        }
    }

    #[test]
    fn a_role_for_instances_only_is_found_to_be_so() {
        for principal in [
            "\"ec2.amazonaws.com\"",
            "[\"ec2.amazonaws.com\"]",
            "\"ec2.amazonaws.com.cn\"",
        ] {
            let policy = format!(
                r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"Service":{principal}}},"Action":"sts:AssumeRole"}}}}"#
            );
            assert_eq!(read(&policy), Trust::OnlyEc2, "{policy}");
        }
    }
}
