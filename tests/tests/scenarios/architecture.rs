//! ARCHITECTURE.md's arrows, held against `cargo tree`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates that a package of ours is built from, without its tests' own.
fn tree(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--package",
            package,
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn has(crates: &[String], name: &str) -> bool {
    crates.iter().any(|c| c == name)
}

#[test]
fn ca_client_and_agent_do_not_depend_on_each_other() {
    let parts = ["eic-ca", "eic-login", "eic-agent"];
    for part in parts {
        let crates = tree(part);
        assert!(has(&crates, "eic-protocol"), "{part}");
        for other in parts.into_iter().filter(|other| *other != part) {
            assert!(!has(&crates, other), "{part} depends on {other}");
        }
    }
}

#[test]
fn the_protocol_has_no_network_no_runtime_and_no_database() {
    let crates = tree("eic-protocol");
    for bad in [
        "tokio",
        "hyper",
        "rustls",
        "rusqlite",
        "aws-config",
        "eic-aws",
    ] {
        assert!(!has(&crates, bad), "{bad}");
    }
}

#[test]
fn the_agent_is_built_from_no_runtime_and_no_aws_sdk() {
    let crates = tree("eic-agent");
    let sdk = crates.iter().find(|c| c.starts_with("aws-"));
    assert_eq!(sdk, None);
    for bad in ["tokio", "hyper", "clap"] {
        assert!(!has(&crates, bad), "{bad}");
    }
}

/// The agent's service speaks HTTPS; what sshd starts twice per login is another program and has no TLS in it.
#[test]
fn the_program_on_the_login_path_has_no_tls_and_its_service_has() {
    let symbols = |program: &str| {
        let file = eic_lab::binaries::find(program).unwrap();
        let output = Command::new("nm").arg("-C").arg(file).output().unwrap();
        assert!(output.status.success(), "nm: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(symbols("eic-agent-service").contains("rustls::"));
    let agent = symbols("eic-agent");
    assert!(agent.contains("eic_agent::"), "the binary has its symbols");
    for bad in ["rustls::", "ureq::"] {
        assert!(!agent.contains(bad), "{bad}");
    }
}

#[test]
fn kms_and_the_database_occur_under_the_ca_service_only() {
    assert!(has(&tree("eic-ca"), "aws-sdk-kms") && has(&tree("eic-ca"), "rusqlite"));
    for part in ["eic-login", "eic-aws", "eic-agent"] {
        let crates = tree(part);
        assert!(
            !has(&crates, "aws-sdk-kms") && !has(&crates, "rusqlite"),
            "{part}"
        );
    }
}

/// The code of CA, client and agent without comments and tests.
fn code() -> String {
    let mut text = String::new();
    for part in ["aws", "ca-service", "client", "agent"] {
        read_code(&root().join(part).join("src"), &mut text);
    }
    text
}

fn read_code(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if ["tests", "testing", "sample"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            read_code(&path, text);
            continue;
        }
        let file = std::fs::read_to_string(&path).unwrap();
        let code = file.split("#[cfg(test)]").next().unwrap();
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        lines.for_each(|line| *text += line);
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Whether the code calls the action `service:Name`: by its name in the query or JSON protocol, by the SDK's method or
/// provider, by a path, or by a function of ours (S3's REST calls have no names).
fn is_called(code: &str, action: &str) -> bool {
    let (_, name) = action.split_once(':').unwrap();
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    let (first, rest) = name.split_at(1);
    [
        format!("\"{name}\""),
        format!(".{name}\""),
        format!(".{snake}()"),
        format!("{name}Provider"),
        format!("/{}{rest}", first.to_ascii_lowercase()),
        format!("pub async fn {snake}("),
    ]
    .iter()
    .any(|spelling| code.contains(spelling))
}

#[test]
fn iam_policies_of_infra_are_json_and_name_only_calls_that_we_make() {
    let code = code();
    assert!(!is_called(&code, "ec2:TerminateInstances") && !is_called(&code, "kms:Decrypt"));
    let mut named = 0;
    for entry in std::fs::read_dir(root().join("infra/iam")).unwrap() {
        let file = entry.unwrap().path();
        let policy: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for statement in policy["Statement"].as_array().unwrap() {
            if statement["Sid"] == "AdministratorsDoNotSign" {
                continue;
            }
            let action = &statement["Action"];
            for action in action.as_array().cloned().unwrap_or(vec![action.clone()]) {
                let action = action.as_str().unwrap();
                assert!(is_called(&code, action), "{}: {action}", file.display());
                named += 1;
            }
        }
    }
    assert!(named >= 10, "{named}");
}
