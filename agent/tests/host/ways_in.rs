//! `eic-agent keys list` beside the real sshd's configuration.

use crate::login::{instance_connect, key_line};
use crate::sandbox::{Host, current, ok, refused};

const SHADOW: &str = "root:*:1::::::\nwithpass:$6$x$y:1::::::\nlocked:!$6$x$y:1::::::\n";

/// A host where every kind of way in exists.
fn host() -> Option<Host> {
    let host = Host::new()?;
    host.documents(&current());
    std::mem::forget(instance_connect(&host, "root", &key_line(41)));
    ok(&host.install(&[]));
    let users = "withpass:x:2001:2001::/etc/homes/withpass:/bin/sh\nlocked:x:2002:2002::/etc/homes/locked:/bin/sh\n";
    host.write(
        "etc/passwd",
        format!(
            "root:x:0:0::/etc/homes/root:/bin/sh\n{users}{}",
            commands_account(&host)
        ),
    );
    host.write("etc/shadow", SHADOW);
    host.write(
        "etc/homes/root/.ssh/authorized_keys",
        format!(
            "# old\n{} me@laptop\nrestrict,command=\"backup now\" {}\n",
            key_line(50),
            key_line(51)
        ),
    );
    host.write(
        "etc/homes/withpass/.ssh/authorized_keys2",
        format!("cert-authority,principals=\"x\" {}\n", key_line(52)),
    );
    Some(host)
}

/// The account that sshd runs our commands as, which `install` made.
fn commands_account(host: &Host) -> String {
    let passwd = host.read("etc/passwd");
    let lines = passwd
        .lines()
        .filter(|line| line.starts_with("eic:") || line.starts_with("sshd:"));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn unknown_accounts_and_strangers_get_no_list() {
    let Some(host) = Host::new() else { return };
    assert!(
        refused(&host.agent(&["keys", "list", "--user", "nobody-of-that-name"]))
            .contains("find the account")
    );
    assert!(
        refused(&host.agent(&["keys", "list", "--user", "--help"])).contains("find the account")
    );
    let by_nobody = ["-u", "65534", "/usr/local/bin/eic-agent", "keys", "list"];
    let output = host
        .command("setpriv")
        .args(["--reuid", "65534"])
        .args(&by_nobody[2..])
        .output()
        .unwrap();
    assert!(refused(&output).contains("as root"));
}

#[test]
fn every_way_in_is_named() {
    let Some(host) = host() else { return };
    host.write(
        "etc/ssh/sshd_config.d/50-test.conf",
        "PasswordAuthentication yes\nUsePAM no\nHostbasedAuthentication yes\nPermitRootLogin prohibit-password\n\
         AuthorizedPrincipalsFile /etc/principals/%u\nRevokedKeys none\n",
    );
    host.write("etc/principals/withpass", "team-a\n");
    let text = ok(&host.agent(&["keys", "list"]));
    let accepted = text.split("refused for now").next().unwrap();
    for part in [
        "root: key ssh-ed25519 SHA256:",
        "me@laptop (/etc/homes/root/.ssh/authorized_keys:2)",
        "[restrict,command=\"backup now\"]",
        "withpass: certificate authority ssh-ed25519",
        "for the names that AuthorizedPrincipalsCommand prints (/var/lib/eic/user-ca-keys",
        "withpass: certificate name team-a (/etc/principals/withpass:1)",
        "command /usr/local/bin/eic-agent authorized-keys %u %f (AuthorizedKeysCommand, run as",
        "command /usr/local/bin/eic-agent authorized-principals",
        "any key that EC2 Instance Connect holds",
        "withpass: password its password",
        "host-based",
    ] {
        assert!(accepted.contains(part), "{part}: {text}");
    }
    assert!(!accepted.contains("root: password"), "{text}");
    let blocked = text.split("refused for now").nth(1).unwrap();
    assert!(
        blocked.contains("locked") && blocked.contains("the account is locked"),
        "{text}"
    );
}

#[test]
fn one_account_and_programs_are_served() {
    let Some(host) = host() else { return };
    let chained = "[[authorized_keys.command]]\nname = \"sss\"\ncommand = [\"/usr/bin/env\"]\n";
    let toml = host.read("etc/eic/agent.toml");
    host.write("etc/eic/agent.toml", format!("{toml}\n{chained}"));
    let text = ok(&host.agent(&["keys", "list", "--user", "withpass", "--json"]));
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ways = list["ways"].as_array().unwrap();
    assert!(
        ways.iter()
            .all(|way| way["users"] == serde_json::json!(["withpass"]))
    );
    assert!(
        ways.iter()
            .any(|way| way["kind"] == "command" && way["what"] == "sss (/usr/bin/env)")
    );
    assert!(
        ways.iter()
            .any(|way| way["options"] == "cert-authority,principals=\"x\"")
    );
    assert!(!text.contains("me@laptop"));
}

#[test]
fn a_key_that_strict_modes_refuses_is_told_apart() {
    let Some(host) = host() else { return };
    ok(&host
        .command("chmod")
        .args(["go+w", "/etc/homes/root/.ssh"])
        .output()
        .unwrap());
    let text = ok(&host.agent(&["keys", "list", "--user", "root"]));
    let (accepted, blocked) = text.split_once("refused for now").unwrap();
    assert!(
        !accepted.contains("me@laptop") && blocked.contains("me@laptop"),
        "{text}"
    );
    assert!(blocked.contains("is open to others"), "{text}");
}
