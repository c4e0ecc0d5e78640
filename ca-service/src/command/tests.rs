//! Commands as an operator types them, on a CA that `eic-ca init` made.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use tempfile::TempDir;

use super::{CommandLine, run};
use crate::audit::{self, Filter};
use crate::config::Config;
use crate::policy::PolicySet;
use crate::store::{Reader, Store, StoreConfig};

fn made() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    assert!(succeeds(&[
        "init",
        folder.path().join("ca").to_str().unwrap()
    ]));
    folder
}

fn succeeds(arguments: &[&str]) -> bool {
    let line = [&["eic-ca"], arguments].concat();
    let parsed = CommandLine::try_parse_from(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
    run(&parsed) == ExitCode::SUCCESS
}

fn with_config(folder: &TempDir, arguments: &[&str]) -> bool {
    let config = folder.path().join("ca/eic-ca.toml");
    succeeds(&[arguments, &["--config", config.to_str().unwrap()]].concat())
}

fn events(folder: &TempDir) -> Vec<String> {
    let reader = Reader::new(&folder.path().join("ca/eic-ca.db"));
    let entries = audit::query(&reader, &Filter::default()).unwrap();
    entries
        .iter()
        .map(|entry| entry.value()["eventName"].as_str().unwrap().to_owned())
        .collect()
}

fn is_revoked(folder: &TempDir) -> bool {
    let store = Store::open(&StoreConfig::at(folder.path().join("ca/eic-ca.db"))).unwrap();
    let caller = crate::issuance::tests::caller();
    store.revocations().covers(&caller)
}

#[test]
fn whom_nobody_can_revoke_is_refused_before_anything_happens() {
    for bad in ["alice", "arn:aws:s3:::bucket", "AKIAABCDEFGHIJKLMNOP"] {
        assert!(
            CommandLine::try_parse_from(["eic-ca", "revoke", "caller", bad]).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn a_caller_is_revoked_and_let_in_again_and_both_are_audited() {
    let folder = made();
    let role = "arn:aws:iam::111122223333:role/Dev";
    assert!(with_config(
        &folder,
        &["revoke", "caller", role, "--reason", "left the company"]
    ));
    assert!(is_revoked(&folder));
    assert!(with_config(&folder, &["revoke", "caller", role, "--undo"]));
    assert!(!is_revoked(&folder));
    assert!(
        !with_config(&folder, &["revoke", "caller", role, "--undo"]),
        "nothing to undo"
    );
    assert_eq!(events(&folder), ["RevokeCaller", "UnrevokeCaller"]);
}

#[test]
fn before_there_is_a_store_there_is_no_host_and_none_is_made() {
    let folder = made();
    let store = folder.path().join("ca/eic-ca.db");
    std::fs::remove_file(&store).unwrap_or_default();
    assert!(with_config(&folder, &["hosts", "list"]));
    assert!(with_config(&folder, &["hosts", "list", "--json"]));
    assert!(with_config(&folder, &["hosts", "pending"]));
    assert!(!with_config(
        &folder,
        &["hosts", "show", "i-0123456789abcdef0"]
    ));
    let told = Reader::new(&store).query(|_| Ok(())).unwrap_err();
    assert!(told.to_string().contains("there is none yet"), "{told}");
    assert!(!store.exists());
}

#[test]
fn verify_fails_on_a_chain_that_was_changed() {
    let folder = made();
    let checkpoint = folder.path().join("checkpoint");
    let checkpoint = checkpoint.to_str().unwrap();
    for who in ["AROA0123456789ABCDEF", "AIDA0123456789ABCDEF"] {
        assert!(with_config(&folder, &["revoke", "caller", who]));
    }
    assert!(with_config(
        &folder,
        &["audit", "verify", "--write-checkpoint", checkpoint]
    ));
    assert!(with_config(
        &folder,
        &["audit", "verify", "--checkpoint", checkpoint]
    ));
    assert!(with_config(
        &folder,
        &[
            "audit",
            "query",
            "--event",
            "RevokeCaller",
            "--since",
            "1h",
            "--json"
        ]
    ));
    assert!(with_config(&folder, &["audit", "tail", "-n", "1"]));
    let connection = rusqlite::Connection::open(folder.path().join("ca/eic-ca.db")).unwrap();
    connection
        .execute("DELETE FROM audit WHERE seq = 1", [])
        .unwrap();
    assert!(!with_config(&folder, &["audit", "verify"]));
}

#[test]
fn host_state_writes_a_hosts_files_and_refuses_unknown_fleets() {
    let folder = made();
    let out = folder.path().join("state");
    let key = folder.path().join("host.pub");
    std::fs::write(
        &key,
        format!("{} root@web-1\n", crate::issuance::tests::subject()),
    )
    .unwrap();
    let (out, key) = (out.to_str().unwrap(), key.to_str().unwrap());
    let order = [
        "host-state",
        "--instance",
        "i-0123456789abcdef0",
        "--out",
        out,
    ];
    assert!(!with_config(
        &folder,
        &[&order[..], &["--fleet", "nowhere"]].concat()
    ));
    assert!(!Path::new(out).exists());
    assert!(with_config(
        &folder,
        &[&order[..], &["--host-key", key, "--hard-stop", "30"]].concat()
    ));
    for name in ["root.json", "host-view.json", "host-cert.pub"] {
        assert!(Path::new(out).join(name).exists(), "{name}");
    }
    assert_eq!(events(&folder), ["SignHostView", "IssueHostCertificate"]);
}

#[test]
fn a_new_user_ca_needs_a_new_root() {
    let folder = made();
    assert!(with_config(&folder, &["root", "show"]));
    let file = folder.path().join("ca/keys/user-ca");
    let generate = [
        "key",
        "generate",
        "--type",
        "ecdsa-p384",
        file.to_str().unwrap(),
    ];
    assert!(!succeeds(&generate), "an existing key is not overwritten");
    for old in [file.clone(), file.with_extension("pub")] {
        std::fs::remove_file(old).unwrap();
    }
    assert!(succeeds(&generate));
    let out = folder.path().join("state");
    let order = [
        "host-state",
        "--instance",
        "i-0123456789abcdef0",
        "--out",
        out.to_str().unwrap(),
    ];
    assert!(
        !with_config(&folder, &order),
        "the root does not name the key"
    );
    assert!(with_config(&folder, &["root", "update"]));
    assert_eq!(events(&folder), ["InstallRoot"]);
    assert!(with_config(&folder, &order));
}

#[test]
fn all_mistakes_of_all_policies_are_told_at_once() {
    let folder = made();
    let policy = r#"{ "Version": "2012-10-17", "Statement": [
        { "Effect": "Perhaps", "Principal": "*", "Action": "*", "Resource": "*" },
        { "Sid": "Fine", "Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*" },
        { "Effect": "Allow", "Principal": "*", "Actoin": "*", "Resource": "*" } ] }"#;
    std::fs::write(folder.path().join("ca/policy.json"), policy).unwrap();
    let config = Config::load(&folder.path().join("ca/eic-ca.toml")).unwrap();
    let sources = crate::app::policy_sources(&config);
    let mistakes: Vec<String> = PolicySet::mistakes(&sources)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        mistakes.len() == 2 && mistakes[0].contains("Perhaps") && mistakes[1].contains("Actoin"),
        "{mistakes:?}"
    );
    assert!(PolicySet::load(&sources).is_err());
}

#[test]
fn a_check_finds_what_would_keep_the_service_from_starting_and_writes_nothing() {
    let folder = made();
    let config = folder.path().join("ca/eic-ca.toml");
    let check = || succeeds(&["config", "check", config.to_str().unwrap()]);
    assert!(check());
    assert!(!folder.path().join("ca/eic-ca.db").exists());
    // Another user CA than the root document names.
    let keys = folder.path().join("ca/keys");
    std::fs::remove_file(keys.join("user-ca")).unwrap();
    crate::keys::new_key_file(&keys.join("other"), crate::keys::KeyType::Ed25519).unwrap();
    std::fs::rename(keys.join("other"), keys.join("user-ca")).unwrap();
    assert!(!check());
}

#[test]
fn a_host_that_is_forgotten_is_audited_and_one_that_was_never_enrolled_is_said_so() {
    let folder = made();
    let host = "i-0123456789abcdef0";
    assert!(!with_config(&folder, &["forget-host", host]));
    let out = folder.path().join("out");
    let state = ["host-state", "--instance", host, "--out"];
    assert!(with_config(
        &folder,
        &[&state[..], &[out.to_str().unwrap()]].concat()
    ));
    assert!(with_config(
        &folder,
        &["forget-host", host, "--reason", "reinstalled"]
    ));
    assert!(events(&folder).contains(&"ForgetHost".to_owned()));
    assert!(!with_config(&folder, &["forget-host", host]));
}

#[test]
fn an_offline_check_does_not_ask_kms_for_a_spare_either_and_misses_a_spares_file() {
    let folder = made();
    let config = folder.path().join("ca/eic-ca.toml");
    let sample = std::fs::read_to_string(&config).unwrap();
    let check = |spare: &str| {
        let line = format!(
            "host_ca = {{ signer = \"local\", file = \"keys/host-ca\" }}\nspare_user_cas = [{spare}]"
        );
        let text = sample.replace(
            "host_ca = { signer = \"local\", file = \"keys/host-ca\" }",
            &line,
        );
        assert_ne!(text, sample);
        std::fs::write(&config, text).unwrap();
        succeeds(&["config", "check", "--offline", config.to_str().unwrap()])
    };
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/12345678-1234-1234-1234-123456789012";
    assert!(check(&format!(
        "{{ signer = \"kms\", arn = \"{arn}\", region = \"eu-west-1\" }}"
    )));
    assert!(!check("{ signer = \"local\", file = \"keys/none\" }"));
}
