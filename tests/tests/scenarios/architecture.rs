//! ARCHITECTURE.md's arrows, held against `cargo tree`.

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

#[test]
fn iam_policies_of_infra_are_json_and_name_only_calls_that_we_make() {
    let calls = [
        "ec2:DescribeInstances",
        "ec2:GetConsoleOutput",
        "ec2-instance-connect:SendSSHPublicKey",
        "sts:AssumeRole",
        "iam:GetRolePolicy",
        "iam:GetInstanceProfile",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceConnectEndpoints",
        "ec2:DescribeSecurityGroups",
        "ec2-instance-connect:OpenTunnel",
        "ssm:StartSession",
        "kms:Sign",
        "kms:GetPublicKey",
    ];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/iam");
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let policy: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for statement in policy["Statement"].as_array().unwrap() {
            if statement["Sid"] == "AdministratorsDoNotSign" {
                continue;
            }
            let action = &statement["Action"];
            let named = action.as_array().cloned().unwrap_or(vec![action.clone()]);
            for action in named {
                assert!(
                    calls.contains(&action.as_str().unwrap()),
                    "{file:?}: {action}"
                );
            }
        }
    }
}
