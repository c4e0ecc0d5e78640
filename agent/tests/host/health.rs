//! `eic-agent status` and `eic-agent doctor` on a host that is set up, and on one where something is wrong.

use std::process::Output;

use crate::attempt::{certificate, user_key};
use crate::documents::{CA_KEY, INSTANCE, public};
use crate::sandbox::{Host, current, now, ok, succeed, wait_until};

fn host() -> Option<Host> {
    let host = Host::new()?;
    host.documents(&current());
    user_key(&host);
    // Nothing listens there: the address of the metadata service would be waited for.
    host.write(
        "etc/eic/agent.toml",
        "[instance_connect]\nimds_endpoint = \"http://127.0.0.1:1\"\n",
    );
    ok(&host.install(&[]));
    Some(host)
}

/// The output of a command that found something wrong: exit code 1, all of it on stdout.
fn bad(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn doctor(host: &Host, more: &[&str]) -> Output {
    host.agent(&[&["doctor"], more].concat())
}

const CERTIFICATE: [&str; 4] = ["--user", "root", "--cert", "/etc/user/id-cert.pub"];

#[test]
fn a_host_that_is_not_set_up_is_unhealthy() {
    let Some(host) = Host::new() else { return };
    let said = bad(&host.agent(&["status"]));
    assert!(
        said.contains("unhealthy: cannot read `/etc/eic/agent.toml`: no such file"),
        "{said}"
    );
    assert!(
        said.contains(
            "unhealthy: sshd is not set up to ask this agent\n  fix: eic-agent install\n"
        ),
        "{said}"
    );
    assert!(said.contains("trust: no certificate counts here"), "{said}");
}

#[test]
fn a_keys_command_of_another_user_without_the_helper_is_told_and_harms_no_health() {
    let Some(host) = host() else { return };
    let toml = host.read("etc/eic/agent.toml");
    let command = "[[authorized_keys.command]]\nname = \"other\"\nuser = \"daemon\"\ncommand = [\"/bin/echo\"]\n";
    host.write("etc/eic/agent.toml", format!("{toml}\n{command}"));
    let told = "the keys command `other` gives no keys: it needs the root helper";
    let status = ok(&host.agent(&["status"]));
    assert!(status.contains(told), "{status}");
    assert!(ok(&doctor(&host, &[])).contains(told));
    let listed = ok(&host.agent(&["keys", "list", "--user", "root"]));
    assert!(
        listed.contains("other (/bin/echo), run as daemon"),
        "{listed}"
    );
    assert!(listed.contains("eic-agent-logins.socket"), "{listed}");
}

#[test]
fn what_breaks_after_an_installation_is_named_with_its_fix() {
    let Some(host) = host() else { return };
    let unhealthy = |part: &str| {
        let said = bad(&host.agent(&["status"]));
        assert!(said.contains(part), "{said}");
    };
    let revoked = std::fs::read(host.path("var-lib/eic/revoked-keys")).unwrap();
    host.write("var-lib/eic/revoked-keys", "<html>");
    unhealthy("is no key revocation list: sshd refuses every key");
    host.write("var-lib/eic/revoked-keys", revoked);
    let keys = host.read("var-lib/eic/user-ca-keys");
    host.write("var-lib/eic/user-ca-keys", format!("{}\n", public(77)));
    unhealthy("does not hold the CA keys of the signed documents");
    host.write("var-lib/eic/user-ca-keys", keys);
    host.write(
        "etc/ssh/sshd_config.d/00-other.conf",
        "AuthorizedKeysCommand /usr/bin/true\nAuthorizedKeysCommandUser nobody\n",
    );
    unhealthy("cannot make `AuthorizedKeysCommand` effective for `root`");
    host.write(
        "etc/ssh/sshd_config.d/00-other.conf",
        "FingerprintHash md5\n",
    );
    unhealthy("cannot know keys by their names: sshd names them by MD5");
    std::fs::remove_file(host.path("etc/ssh/sshd_config.d/00-other.conf")).unwrap();
    succeed(host.command("chmod").args(["0777", "/usr/local/bin"]));
    unhealthy("sshd does not run /usr/local/bin/eic-agent");
    succeed(host.command("chmod").args(["0755", "/usr/local/bin"]));
    host.tag("i-0fedcba9876543210");
    unhealthy("unhealthy: cannot trust `host-view.json`");
    host.tag(INSTANCE);
    assert!(ok(&host.agent(&["status"])).starts_with("healthy: "));
}

#[test]
fn a_view_that_should_have_been_renewed_is_unhealthy() {
    let Some(host) = Host::new() else { return };
    let mut documents = current();
    documents.view.refresh_after = now() + 3;
    host.documents(&documents);
    ok(&host.install(&[]));
    wait_until("the end of the view", || {
        now() > documents.view.refresh_after
    });
    let said = bad(&host.agent(&["status"]));
    assert!(
        said.contains("unhealthy: the host view should have been renewed by 20"),
        "{said}"
    );
}

#[test]
fn a_healthy_host_tells_what_it_trusts() {
    let Some(host) = host() else { return };
    let said = ok(&host.agent(&["status"]));
    let ca = format!(
        "  user CA ssh-ed25519 {} (active)\n",
        public(CA_KEY).fingerprint()
    );
    for part in [
        "healthy: certificates of the CA open this host\n",
        "trust: this host is i-0123456789abcdef0\n",
        "  root version 5, issued 20",
        "  host view version 9, issued 20",
        "  fleets: web, eu\n",
        &ca,
        "asks this agent (/etc/ssh/sshd_config.d/10-eic.conf)\n",
        "  host certificate: none\n",
        "Instance Connect: on; metadata service: cannot reach the instance metadata service",
        "logins",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&ok(&host.agent(&["status", "--json"]))).unwrap();
    assert_eq!(json["healthy"], true);
    assert_eq!(json["trust"]["host_view"]["version"], 9);
    assert_eq!(json["trust"]["user_cas"][0]["state"], "active");
    assert_eq!(json["sshd"]["effective"], true);
    assert!(
        json["sshd"]["installed"]
            .as_str()
            .unwrap()
            .starts_with("20")
    );
}

#[test]
fn a_certificate_that_sshd_would_refuse_is_explained() {
    let Some(host) = host() else { return };
    let refused = |principal: &str, user: &str, part: &str| {
        certificate(&host, principal);
        let said = bad(&doctor(
            &host,
            &["--user", user, "--cert", "/etc/user/id-cert.pub"],
        ));
        assert!(said.contains(part), "{said}");
    };
    refused(
        "root@i-0fedcba9876543210",
        "root",
        "FAIL certificate: it names root@i-0fedcba9876543210, this host takes root@i-0123456789abcdef0",
    );
    refused(
        "alice@i-0123456789abcdef0",
        "root",
        "FAIL certificate: it names alice@",
    );
    refused(
        &format!("nobody-here@{INSTANCE}"),
        "nobody-here",
        "FAIL account: nobody-here does not exist",
    );
    host.write(
        "etc/ssh/sshd_config.d/50-site.conf",
        "DenyUsers ro*\nCASignatureAlgorithms ecdsa-sha2-nistp256\n",
    );
    certificate(&host, &format!("root@{INSTANCE}"));
    let said = bad(&doctor(&host, &CERTIFICATE));
    assert!(
        said.contains("FAIL sshd: DenyUsers ro* keeps root out"),
        "{said}"
    );
    assert!(
        said.contains("FAIL certificate: sshd takes no CA signature of the kind ssh-ed25519"),
        "{said}"
    );
    assert!(said.contains("this login is refused"), "{said}");
}

#[test]
fn a_revoked_key_is_named() {
    let Some(host) = host() else { return };
    certificate(&host, &format!("root@{INSTANCE}"));
    let list = "/var/lib/eic/revoked-keys";
    succeed(
        host.command("ssh-keygen")
            .args(["-q", "-k", "-f", list, "/etc/user/id.pub"]),
    );
    let said = bad(&doctor(&host, &CERTIFICATE));
    assert!(
        said.contains(&format!("FAIL key: it is revoked by {list}")),
        "{said}"
    );
}

#[test]
fn a_certificate_that_opens_the_host_is_good() {
    let Some(host) = host() else { return };
    certificate(&host, &format!("root@{INSTANCE}"));
    let said = ok(&doctor(&host, &CERTIFICATE));
    for part in [
        "ok   host: sshd asks this agent, and it answers\n",
        "ok   account: root exists (uid 0)\n",
        "note certificate: ID eic:user/a:test (serial 4711), signed by SHA256:",
        "ok   certificate: its CA is trusted here\n",
        "ok   certificate: it names root@i-0123456789abcdef0\n",
        "ok   key: it is not in /var/lib/eic/revoked-keys\n",
        "nothing here refuses this login\n",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let json = ok(&doctor(&host, &[&CERTIFICATE[..], &["--json"]].concat()));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["accepted"], true);
}

#[test]
fn a_key_that_no_way_in_names_is_refused_and_one_in_a_file_is_found() {
    let Some(host) = host() else { return };
    let offered = ["--user", "root", "--key", "/etc/user/id.pub"];
    let said = bad(&doctor(&host, &offered));
    assert!(
        said.contains("FAIL key: no way in names this key"),
        "{said}"
    );
    let line = host.read("etc/user/id.pub");
    host.write("etc/user/authorized_keys", line);
    host.write(
        "etc/ssh/sshd_config.d/50-site.conf",
        "AuthorizedKeysFile /etc/user/authorized_keys\n",
    );
    let said = ok(&doctor(&host, &offered));
    assert!(
        said.contains("ok   key: /etc/user/authorized_keys names it"),
        "{said}"
    );
    // The private key's name does as well.
    ok(&doctor(&host, &["--user", "root", "--key", "/etc/user/id"]));
}
