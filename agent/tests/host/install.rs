//! `eic-agent install` and `uninstall` against a real sshd's configuration.

use crate::documents::{BUNDLE_KEY, CA_KEY, HOST_CA_KEY, INSTANCE, key, public, signed};
use crate::login::{has_pid_file, listening};
use crate::sandbox::{Host, Running, current, now, ok, refused, succeed, wait_until};
use eic_protocol::sshsig::Namespace;
use ssh_key::certificate::{Builder, CertType};

fn host() -> Option<Host> {
    let host = Host::new()?;
    host.documents(&current());
    // The first call puts the documents where `install` looks.
    host.write("etc/eic-documents/.keep", "");
    Some(host)
}

/// Runs `install`, which must fail and leave everything as it was; returns what it said.
fn fails_without_a_trace(host: &Host, more: &[&str]) -> String {
    let before = host.snapshot();
    let said = refused(&host.install(more));
    assert_eq!(host.snapshot(), before, "{said}");
    said
}

#[test]
fn documents_that_do_not_verify_are_not_installed() {
    let Some(host) = host() else { return };
    let good = current();
    let view = serde_json::to_vec(&good.view).unwrap();
    host.write(
        "documents/host-view.json",
        signed(Namespace::HostView, &view, &[CA_KEY]),
    );
    assert!(fails_without_a_trace(&host, &[]).contains("failed to trust `host-view.json`"));
    let root = serde_json::to_vec(&good.root).unwrap();
    host.documents(&good);
    host.write(
        "documents/root.json",
        signed(Namespace::Root, &root, &[BUNDLE_KEY]),
    );
    assert!(fails_without_a_trace(&host, &[]).contains("failed to trust `root.json`"));
    host.write("documents/root.json", "<html>");
    assert!(fails_without_a_trace(&host, &[]).contains("not a signed document"));
}

#[test]
fn another_hosts_view_is_not_installed() {
    // J-16
    let Some(host) = host() else { return };
    host.tag("i-0fedcba9876543210");
    assert!(fails_without_a_trace(&host, &[]).contains("not for this host"));
}

#[test]
fn a_root_without_usable_ca_keys_is_not_installed() {
    let Some(host) = host() else { return };
    let mut documents = current();
    documents.root.user_cas.clear();
    host.documents(&documents);
    assert!(fails_without_a_trace(&host, &[]).contains("names none that this sshd"));
}

#[test]
fn a_configuration_that_sshd_refuses_already_is_left_alone() {
    let Some(host) = host() else { return };
    host.write(
        "etc/ssh/sshd_config.d/50-broken.conf",
        "NoSuchKeyword yes\n",
    );
    assert!(fails_without_a_trace(&host, &[]).contains("Bad configuration option"));
}

#[test]
fn another_ca_of_sshds_is_not_replaced_unless_that_is_meant() {
    // J-09
    let Some(host) = host() else { return };
    host.write(
        "etc/ssh/sshd_config.d/50-site.conf",
        "TrustedUserCAKeys /etc/ssh/company-ca.pub\n",
    );
    let said = fails_without_a_trace(&host, &[]);
    assert!(
        said.contains("50-site.conf:1 sets `trustedusercakeys`") && said.contains("--replace"),
        "{said}"
    );
    ok(&host.install(&["--replace"]));
}

#[test]
fn a_command_that_runs_as_root_is_not_chained() {
    let Some(host) = host() else { return };
    host.write(
        "etc/ssh/sshd_config.d/50-site.conf",
        "AuthorizedKeysCommand /usr/bin/true %u\nAuthorizedKeysCommandUser root\n",
    );
    assert!(fails_without_a_trace(&host, &[]).contains("chain `/usr/bin/true %u`"));
}

#[test]
fn another_command_goes_on_behind_ours() {
    // J-09: sshd takes the first value it meets, so the block stands before the file that would win
    let Some(host) = host() else { return };
    host.write(
        "etc/ssh/sshd_config.d/00-site.conf",
        "AuthorizedKeysCommand /usr/bin/true %u %h\nAuthorizedKeysCommandUser nobody\n",
    );
    let before = host.snapshot();
    let said = ok(&host.install(&[]));
    assert!(
        said.contains("goes on as a chained command, as eic instead of nobody"),
        "{said}"
    );
    let toml = host.read("etc/eic/agent.toml");
    assert!(
        toml.contains(
            "[[authorized_keys.command]]\ncommand = [\"/usr/bin/true\", \"%u\", \"%h\"]\n"
        ),
        "{toml}"
    );
    let main = host.read("etc/ssh/sshd_config");
    assert!(main.starts_with("# BEGIN eic-agent"), "{main}");
    // The token that only the chained command needs is asked for.
    assert!(main.contains("authorized-keys %u %f h=%h\n"), "{main}");
    let after_first = host.snapshot();
    assert!(ok(&host.install(&[])).starts_with("nothing to change: "));
    assert_eq!(host.snapshot(), after_first);
    ok(&host.agent(&["uninstall"]));
    assert_eq!(without_backups(host.snapshot()), without_backups(before));
}

#[test]
fn a_match_block_with_its_own_keys_command_is_left_alone_and_told() {
    // J-09
    let Some(host) = host() else { return };
    host.write(
        "etc/ssh/sshd_config.d/50-git.conf",
        "Match User root\n  AuthorizedKeysCommand /usr/bin/true git\n  AuthorizedKeysCommandUser nobody\n",
    );
    let said = ok(&host.install(&[]));
    assert!(
        said.contains("note: `Match User root` keeps its own authorizedkeyscommand"),
        "{said}"
    );
}

#[test]
fn a_match_block_that_wins_is_noticed() {
    // J-09
    let Some(host) = host() else { return };
    host.write(
        "etc/ssh/sshd_config.d/00-site.conf",
        "Match User root\n  TrustedUserCAKeys /etc/ssh/other\n",
    );
    let said = fails_without_a_trace(&host, &["--replace"]);
    assert!(
        said.contains("make `TrustedUserCAKeys` effective for `root`"),
        "{said}"
    );
}

#[test]
fn another_ca_of_a_match_block_is_not_closed_unless_that_is_meant() {
    // J-09
    let Some(host) = host() else { return };
    let block = "Match User backup\n  TrustedUserCAKeys /etc/ssh/other\n";
    host.write("etc/ssh/sshd_config.d/50-site.conf", block);
    let said = fails_without_a_trace(&host, &[]);
    assert!(
        said.contains("50-site.conf:2 sets `trustedusercakeys`") && said.contains("--replace"),
        "{said}"
    );
    let said = ok(&host.install(&["--replace"]));
    let told = "`Match User backup` (/etc/ssh/sshd_config.d/50-site.conf:2) trusts a CA of its own";
    assert!(said.contains(&format!("note: {told}")), "{said}");
    ok(&host.agent(&["uninstall"]));
    let with_names = format!("{block}  AuthorizedPrincipalsFile /etc/ssh/names\n");
    host.write("etc/ssh/sshd_config.d/50-site.conf", with_names);
    let said = ok(&host.install(&[]));
    assert!(
        said.contains("note: `Match User backup` keeps its own trustedusercakeys"),
        "{said}"
    );
    assert!(!ok(&host.agent(&["status"])).contains(told));
    // Names taken out, or a block put in, after the installation.
    host.write("etc/ssh/sshd_config.d/50-site.conf", block);
    let said = ok(&host.agent(&["status"]));
    assert!(said.contains(&format!("note: {told}")), "{said}");
}

#[test]
fn names_of_keys_by_md5_are_refused_before_anything_changes() {
    let Some(host) = host() else { return };
    host.write(
        "etc/ssh/sshd_config.d/50-site.conf",
        "FingerprintHash md5\n",
    );
    for more in [&[][..], &["--dry-run"]] {
        let said = fails_without_a_trace(&host, more);
        assert!(
            said.contains("sshd names them by MD5") && said.contains("50-site.conf"),
            "{said}"
        );
    }
}

#[test]
fn a_match_block_without_a_keys_command_is_left_alone() {
    let Some(host) = host() else { return };
    host.write(
        "etc/ssh/sshd_config.d/50-backup.conf",
        "Match User root\n  AuthorizedKeysCommand none\n",
    );
    let said = ok(&host.install(&[]));
    assert!(said.starts_with("installed: "), "{said}");
}

#[test]
fn the_account_of_amazons_package_is_not_taken_unasked() {
    let Some(host) = host() else { return };
    let account = [
        "-r",
        "-M",
        "-s",
        "/usr/sbin/nologin",
        "ec2-instance-connect",
    ];
    succeed(host.command("useradd").args(account));
    let said = ok(&host.install(&[]));
    assert!(said.contains("as eic\n"), "{said}");
    let lines = host.read("etc/ssh/sshd_config.d/10-eic.conf");
    assert!(!lines.contains("ec2-instance-connect"), "{lines}");
    ok(&host.agent(&["uninstall"]));
    let amazons = ["--command-user", "ec2-instance-connect"];
    assert!(ok(&host.install(&amazons)).contains("as ec2-instance-connect\n"));
    let toml = host.read("etc/eic/agent.toml");
    assert!(
        toml.contains("command_user = \"ec2-instance-connect\""),
        "{toml}"
    );
    let output = host.agent(&["status"]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        told.contains("sshd runs the commands as ec2-instance-connect"),
        "{told}"
    );
    // What the note says to do.
    assert!(ok(&host.install(&["--command-user", "eic"])).contains("as eic\n"));
    let output = host.agent(&["status"]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(!told.contains("runs the commands as"), "{told}");
}

#[test]
fn where_sshd_reads_no_drop_ins_a_block_in_its_main_file_does() {
    let Some(host) = host() else { return };
    let main = "# ours\nUsePAM yes\nMatch User nobody\n  X11Forwarding no\n";
    host.write("etc/ssh/sshd_config", main);
    succeed(host.command("chmod").args(["0600", "/etc/ssh/sshd_config"]));
    let before = host.snapshot();
    ok(&host.install(&[]));
    let installed = host.read("etc/ssh/sshd_config");
    assert!(
        installed.starts_with("# BEGIN eic-agent") && installed.ends_with(main),
        "{installed}"
    );
    // Lines that an administrator adds meanwhile survive.
    let edited = format!("{installed}Match all\nPrintMotd no\n");
    host.write("etc/ssh/sshd_config", &edited);
    assert!(ok(&host.install(&[])).starts_with("nothing to change: "));
    let said = ok(&host.agent(&["uninstall"]));
    assert!(
        said.starts_with("uninstalled: sshd does not ask this agent any more\n")
            || said.starts_with("uninstalled: every file is as it was\n"),
        "{said}"
    );
    let expected = format!("{main}Match all\nPrintMotd no\n");
    assert_eq!(host.read("etc/ssh/sshd_config"), expected);
    host.write("etc/ssh/sshd_config", main);
    assert_eq!(without_backups(host.snapshot()), without_backups(before));
}

#[test]
fn the_packages_override_on_sshds_command_line_is_taken_over_and_given_back() {
    // I-21
    let Some(host) = host() else { return };
    let unit = "[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -o \"AuthorizedKeysCommand /usr/share/ec2-instance-connect/eic_run_authorized_keys %%u %%f\" -o \"AuthorizedKeysCommandUser ec2-instance-connect\" $SSHD_OPTS\n";
    host.write(
        "usr/lib/systemd/system/ssh.service.d/ec2-instance-connect.conf",
        unit,
    );
    let before = host.snapshot();
    let said = ok(&host.install(&[]));
    assert!(said.starts_with("installed: "), "{said}");
    let ours = host.read("etc/systemd/system/ssh.service.d/zz-eic.conf");
    assert!(
        ours.ends_with("[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D $SSHD_OPTS\n"),
        "{ours}"
    );
    // What AWS's package did, the agent does itself.
    assert!(!host.read("etc/eic/agent.toml").contains("authorized_keys"));
    let after_first = host.snapshot();
    assert!(ok(&host.install(&[])).starts_with("nothing to change: "));
    assert_eq!(host.snapshot(), after_first);
    ok(&host.agent(&["uninstall"]));
    assert_eq!(without_backups(host.snapshot()), without_backups(before));
}

/// A systemctl that only writes down what it is asked; `fails` names the verb that it refuses. Enabled are the
/// units of /run/enabled.
fn systemctl(host: &Host, fails: &str) {
    program(
        host,
        "usr/bin/systemctl",
        &format!(
            "case \"$1 $3\" in is-enabled*|*active\\ eic*) exec grep -qxs \"$3\" /run/\"${{1#is-}}\";; esac\necho \"$*\" >>/run/systemctl.log\n[ \"$1\" != {fails} ] || {{ echo no >&2; exit 1; }}\n"
        ),
    );
    host.write("run/systemd/system/.keep", "");
}

/// A shell script in place of a program of the system's.
fn program(host: &Host, path: &str, script: &str) {
    host.program(path, &format!("#!/bin/sh\n{script}"));
}

#[test]
fn a_taken_over_unit_needs_a_restart_and_a_failed_one_is_taken_back() {
    let Some(host) = host() else { return };
    host.write(
        "etc/systemd/system/ssh.service.d/site.conf",
        "[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -oAuthorizedKeysCommand=/usr/bin/true -oAuthorizedKeysCommandUser=nobody\n",
    );
    systemctl(&host, "restart");
    assert!(fails_without_a_trace(&host, &[]).contains("systemctl said `no`"));
    systemctl(&host, "none");
    std::fs::remove_file(host.path("run/systemctl.log")).unwrap();
    let said = ok(&host.install(&[]));
    assert!(said.contains("systemctl restart ssh\n"), "{said}");
    assert_eq!(
        host.read("run/systemctl.log"),
        "daemon-reload\nis-active --quiet ssh\nrestart ssh\n"
    );
    assert!(
        host.read("etc/eic/agent.toml")
            .contains("command = [\"/usr/bin/true\"]")
    );
    ok(&host.agent(&["uninstall"]));
    assert!(
        host.read("run/systemctl.log")
            .ends_with("daemon-reload\nis-active --quiet ssh\nrestart ssh\n")
    );
}

const UNITS: &str = "eic-agent-helper.socket eic-agent.service";

/// What makes systemd know another group of the door for logins.
const REGROUPED: &str = "systemctl daemon-reload && systemctl stop eic-agent-logins.service && systemctl try-restart eic-agent-logins.socket";

/// A host with systemd and the agent's units.
fn host_with_units(fails: &str) -> Option<Host> {
    let host = host()?;
    systemctl(&host, fails);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/systemd");
    for unit in [
        "eic-agent-helper.socket",
        "eic-agent.service",
        "eic-agent-harvest.service",
        "eic-agent-logins.socket",
        "eic-agent-logins.service",
    ] {
        let text = std::fs::read(format!("{folder}/{unit}")).unwrap();
        host.write(&format!("etc/systemd/system/{unit}"), text);
    }
    Some(host)
}

#[test]
fn what_is_no_ca_and_what_cannot_be_enabled_is_told() {
    let Some(host) = host() else { return };
    for bad in ["http://ca.example", "ca.example", "https://ca.example/path"] {
        assert!(
            refused(&host.install(&["--ca", bad])).contains("is no CA"),
            "{bad}"
        );
    }
    // No systemd here.
    let said = ok(&host.install(&["--ca", "https://ca.example"]));
    assert!(
        said.contains("the service was not enabled (there is no systemd"),
        "{said}"
    );
    assert!(
        said.contains(&format!("systemctl enable --now {UNITS}\n")),
        "{said}"
    );
    let Some(host) = host_with_units("enable") else {
        return;
    };
    let said = ok(&host.install(&["--ca", "https://ca.example"]));
    assert!(
        said.contains("was not enabled (systemctl said `no`)"),
        "{said}"
    );
    std::fs::remove_file(host.path("etc/systemd/system/eic-agent.service")).unwrap();
    let said = ok(&host.install(&["--ca", "https://ca.example"]));
    assert!(
        said.contains("(eic-agent.service is not in /etc/systemd/system"),
        "{said}"
    );
}

#[test]
fn another_account_for_the_commands_is_the_one_that_the_helpers_door_serves() {
    let Some(host) = host() else { return };
    let before = host.snapshot();
    ok(&host.install(&["--command-user", "daemon"]));
    let toml = host.read("etc/eic/agent.toml");
    assert!(
        toml.contains("\n[service]\ncommand_user = \"daemon\"\n"),
        "{toml}"
    );
    for again in [&["--command-user", "daemon"][..], &[]] {
        let said = ok(&host.install(again));
        assert!(said.starts_with("nothing to change: "), "{again:?}: {said}");
    }
    ok(&host.agent(&["uninstall"]));
    assert_eq!(without_backups(host.snapshot()), without_backups(before));
}

#[test]
fn the_account_of_the_commands_that_the_configuration_names_is_made_where_it_is_ours() {
    let Some(host) = host() else { return };
    let set = |user: &str| {
        let toml = format!("[service]\ncommand_user = \"{user}\"\n");
        host.write("etc/eic/agent.toml", toml);
    };
    set("nosuch");
    assert!(fails_without_a_trace(&host, &[]).contains("no such account"));
    set("eic");
    assert!(ok(&host.install(&[])).contains("as eic\n"));
    set("daemon");
    assert!(ok(&host.install(&[])).contains("as daemon\n"));
}

/// `daemon` in /etc/passwd: its numbers.
const DAEMON: u32 = 1;
const SOCKET_GROUP: &str = "etc/systemd/system/eic-agent-logins.socket.d/eic-accounts.conf";

#[test]
fn with_a_ca_the_units_get_their_account_and_the_door_for_logins_that_of_the_commands() {
    let Some(host) = host_with_units("none") else {
        return;
    };
    let command = "[[authorized_keys.command]]\ncommand = [\"/usr/bin/true\"]\nuser = \"daemon\"\n";
    host.write("etc/eic/agent.toml", command);
    let before = host.snapshot();
    let arguments = ["--ca", "https://ca.example", "--command-user", "daemon"];
    let shown = ok(&host.install(&[&arguments[..], &["--dry-run"]].concat()));
    assert!(
        shown.contains("new: system account eic\n"),
        "the units name it: {shown}"
    );
    let told = ok(&host.install(&arguments));
    assert!(told.contains("as daemon\n"), "{told}");
    assert!(host.read("etc/passwd").contains("\neic:"));
    let group = format!("\n[Socket]\nSocketGroup={DAEMON}\n");
    assert!(host.read(SOCKET_GROUP).ends_with(&group));
    let log = host.read("run/systemctl.log");
    let expected = format!(
        "daemon-reload\nstop eic-agent-logins.service\ntry-restart eic-agent-logins.socket\nenable --now {UNITS} eic-agent-logins.socket\n"
    );
    assert!(log.ends_with(&expected), "{log}");
    assert!(ok(&host.install(&arguments)).starts_with("nothing to change: "));
    ok(&host.agent(&["uninstall"]));
    let log = host.read("run/systemctl.log");
    assert!(
        log.ends_with("eic-agent-logins.socket\ndaemon-reload\n"),
        "{log}"
    );
    assert_eq!(without_backups(host.snapshot()), without_backups(before));
}

#[test]
fn the_services_own_account_is_what_its_units_run_as() {
    let Some(host) = host_with_units("none") else {
        return;
    };
    let ca = ["--ca", "https://ca.example"];
    for (user, reason) in [("nosuch", "no such account"), ("root", "uid 0")] {
        host.write(
            "etc/eic/agent.toml",
            format!("[service]\nuser = \"{user}\"\n"),
        );
        assert!(fails_without_a_trace(&host, &ca).contains(reason), "{user}");
    }
    host.write("etc/eic/agent.toml", "[service]\nuser = \"daemon\"\n");
    ok(&host.install(&ca));
    for unit in ["eic-agent.service", "eic-agent-harvest.service"] {
        let text = host.read(&format!("etc/systemd/system/{unit}.d/eic-accounts.conf"));
        let account = format!("\n[Service]\nUser={DAEMON}\nGroup={DAEMON}\n");
        assert!(text.ends_with(&account), "{unit}: {text}");
    }
    let socket = host.read("etc/systemd/system/eic-agent-helper.socket.d/eic-accounts.conf");
    assert!(
        socket.ends_with(&format!("SocketGroup={DAEMON}\n")),
        "{socket}"
    );
    // The commands have an account of their own, which no unit has to be told.
    assert!(!host.path(SOCKET_GROUP).exists());
    let log = host.read("run/systemctl.log");
    let again = ok(&host.install(&[]));
    assert!(again.starts_with("nothing to change: "), "{again}");
    assert_eq!(host.read("run/systemctl.log"), log);
}

#[test]
fn units_that_are_not_started_by_install_are_started_by_the_told_lines() {
    let Some(host) = host_with_units("none") else {
        return;
    };
    let arguments = [
        "--ca",
        "https://ca.example",
        "--command-user",
        "daemon",
        "--no-reload",
    ];
    let told = ok(&host.install(&arguments));
    let by_hand = format!(
        "note: the service was not enabled (--no-reload); then: {REGROUPED} && systemctl enable --now {UNITS}\n"
    );
    assert!(told.contains(&by_hand), "{told}");
    assert!(!host.path("run/systemctl.log").exists());
}

#[test]
fn without_a_ca_no_unit_is_enabled_and_the_door_for_logins_still_gets_the_commands_group() {
    let Some(host) = host_with_units("none") else {
        return;
    };
    let told = ok(&host.install(&["--command-user", "daemon"]));
    assert!(told.contains(&format!("\n{REGROUPED}\n")), "{told}");
    assert!(host.path(SOCKET_GROUP).exists());
    let log = host.read("run/systemctl.log");
    let expected =
        "daemon-reload\nstop eic-agent-logins.service\ntry-restart eic-agent-logins.socket\n";
    assert!(log.ends_with(expected), "{log}");
    assert!(!host.read("etc/passwd").contains("\neic:"));
}

#[test]
fn systemd_that_refuses_is_told_in_its_own_words() {
    for verb in ["daemon-reload", "try-restart", "stop"] {
        let Some(host) = host_with_units(verb) else {
            return;
        };
        let told = ok(&host.install(&["--command-user", "daemon"]));
        let note = format!(
            "note: systemd was not told of the units' accounts (systemctl said `no`); then: {REGROUPED}\n"
        );
        assert!(told.contains(&note), "{verb}: {told}");
    }
}

#[test]
fn units_that_were_enabled_before_are_left_enabled_by_uninstall() {
    let Some(host) = host_with_units("none") else {
        return;
    };
    let made = [
        "--system",
        "--user-group",
        "--home-dir",
        "/nonexistent",
        "eic",
    ];
    succeed(host.command("useradd").args(made));
    host.write("run/enabled", "eic-agent-helper.socket\n");
    ok(&host.install(&["--ca", "https://ca.example"]));
    host.write("run/enabled", UNITS.replace(' ', "\n"));
    ok(&host.install(&["--ca", "https://ca.example"]));
    ok(&host.agent(&["uninstall"]));
    let log = host.read("run/systemctl.log");
    assert!(log.ends_with("disable --now eic-agent.service\n"), "{log}");
}

#[test]
fn units_whose_account_goes_are_stopped_and_disabled_by_whomever_they_were_enabled() {
    let Some(host) = host_with_units("none") else {
        return;
    };
    host.write("run/enabled", format!("{UNITS} ").replace(' ', "\n"));
    host.write("run/active", "eic-agent-harvest.service\n");
    ok(&host.install(&["--ca", "https://ca.example"]));
    let all = format!("{UNITS} eic-agent-harvest.service");
    let shown = ok(&host.agent(&["uninstall", "--dry-run"]));
    let goes = format!("disabled: {all}\nremoved: system account eic\n");
    assert!(shown.contains(&goes), "{shown}");
    ok(&host.agent(&["uninstall"]));
    let log = host.read("run/systemctl.log");
    assert!(log.ends_with(&format!("disable --now {all}\n")), "{log}");
}

#[test]
fn a_file_that_somebody_edits_meanwhile_is_left_as_he_wrote_it() {
    let Some(host) = host() else { return };
    succeed(
        host.command("cp")
            .args(["-a", "/usr/sbin/useradd", "/etc/useradd"]),
    );
    let edit = "echo '# mine' >/etc/ssh/sshd_config.d/10-eic.conf\nexec /etc/useradd \"$@\"\n";
    program(&host, "usr/sbin/useradd", edit);
    let before = host.snapshot();
    let said = refused(&host.install(&[]));
    assert!(
        said.contains("10-eic.conf`: somebody else has just changed it"),
        "{said}"
    );
    let edited = "etc/ssh/sshd_config.d/10-eic.conf";
    assert_eq!(host.read(edited), "# mine\n");
    std::fs::remove_file(host.path(edited)).unwrap();
    assert_eq!(without_backups(host.snapshot()), without_backups(before));
}

#[test]
fn the_service_is_enabled_for_its_ca_and_disabled_by_uninstall() {
    let Some(host) = host_with_units("none") else {
        return;
    };
    let before = host.snapshot();
    let ca = ["--ca", "https://ca.example"];
    let shown = ok(&host.install(&[&ca[..], &["--dry-run"]].concat()));
    assert!(shown.contains("+ ca = \"https://ca.example\"\n"), "{shown}");
    assert!(shown.contains(&format!("enabled: {UNITS}\n")), "{shown}");
    assert!(!host.path("run/systemctl.log").exists());
    let said = ok(&host.install(&ca));
    assert!(
        said.contains(&format!("systemctl enable --now {UNITS}\n")),
        "{said}"
    );
    let told = format!("enable --now {UNITS}\n");
    assert!(host.read("run/systemctl.log").ends_with(&told));
    let toml = host.read("etc/eic/agent.toml");
    assert!(
        toml.contains("\n[service]\nca = \"https://ca.example\"\n"),
        "{toml}"
    );
    // A command of another user needs the helper's second door.
    let command = "[[authorized_keys.command]]\ncommand = [\"/usr/bin/true\"]\nuser = \"daemon\"\n";
    host.write("etc/eic/agent.toml", format!("{toml}\n{command}"));
    let said = ok(&host.install(&ca));
    assert!(
        said.contains(&format!("{UNITS} eic-agent-logins.socket\n")),
        "{said}"
    );
    // What an administrator has edited last is kept: this is ours again.
    host.write("etc/eic/agent.toml", toml);
    ok(&host.install(&ca));
    let shown = ok(&host.agent(&["uninstall", "--dry-run"]));
    assert!(
        shown.contains(&format!("disabled: {UNITS} eic-agent-logins.socket\n")),
        "{shown}"
    );
    ok(&host.agent(&["uninstall"]));
    assert!(
        host.read("run/systemctl.log")
            .ends_with(&format!("disable --now {UNITS} eic-agent-logins.socket\n"))
    );
    assert_eq!(without_backups(host.snapshot()), without_backups(before));
}

#[test]
fn a_trial_login_that_is_refused_takes_everything_back() {
    let Some(host) = host() else { return };
    host.write(
        "etc/ssh/sshd_config.d/90-site.conf",
        "PubkeyAuthentication no\n",
    );
    let said = fails_without_a_trace(&host, &[]);
    assert!(
        said.contains("a good certificate for root was refused"),
        "{said}"
    );
}

#[test]
fn a_trial_login_that_was_broken_off_is_tried_again() {
    // A loaded host may end the first attempt before sshd says a word.
    let Some(host) = host() else { return };
    host.copy("/usr/sbin/sshd", "usr/sbin/sshd.real");
    host.program(
        "usr/sbin/sshd",
        "#!/bin/sh\ncase \" $* \" in *\" -i \"*) [ -e /run/tried ] || { >/run/tried; exit; } ;; esac\n\
         exec /usr/sbin/sshd.real \"$@\"\n",
    );
    let said = ok(&host.install(&[]));
    assert!(host.path("run/tried").exists());
    assert!(said.starts_with("installed: "), "{said}");
}

#[test]
fn a_trial_login_that_lets_the_wrong_one_in_takes_everything_back() {
    // J-09: a principals file is asked before the command
    let Some(host) = host() else { return };
    host.write(
        "etc/ssh/sshd_config.d/90-site.conf",
        "AuthorizedPrincipalsFile /etc/ssh/principals\n",
    );
    host.write("etc/ssh/principals", format!("not-root@{INSTANCE}\n"));
    let said = fails_without_a_trace(&host, &[]);
    assert!(
        said.contains("a certificate for another user opened the account root"),
        "{said}"
    );
}

#[test]
fn an_account_that_sshd_keeps_closed_is_no_reason_to_refuse() {
    let Some(host) = host() else { return };
    host.write(
        "etc/ssh/sshd_config.d/90-site.conf",
        "PermitRootLogin no\nAllowUsers root\n",
    );
    let said = ok(&host.install(&[]));
    assert!(
        said.contains("note: in the trial sshd took the certificate for root, but then said"),
        "{said}"
    );
    ok(&host.agent(&["uninstall"]));
    host.write("etc/ssh/sshd_config.d/90-site.conf", "AllowUsers nobody\n");
    let said = ok(&host.install(&[]));
    assert!(
        said.contains("note: the trial login showed nothing"),
        "{said}"
    );
}

#[test]
fn an_option_that_no_unit_holds_is_named() {
    // I-21
    let Some(host) = host() else { return };
    host.write("etc/default/ssh", "SSHD_OPTS=\"-o TrustedUserCAKeys=/x\"\n");
    let said = fails_without_a_trace(&host, &[]);
    assert!(
        said.contains("sshd's command line sets it in `/etc/default/ssh`"),
        "{said}"
    );
}

#[test]
fn a_program_that_others_could_replace_is_refused() {
    // J-12
    let Some(host) = host() else { return };
    succeed(host.command("chmod").args(["0777", "/usr/local/bin"]));
    assert!(fails_without_a_trace(&host, &[]).contains("only root can write"));
    succeed(host.command("chmod").args(["0755", "/usr/local/bin"]));
    succeed(
        host.command("chown")
            .args(["nobody", "/usr/local/bin/eic-agent"]),
    );
    assert!(fails_without_a_trace(&host, &[]).contains("only root can write"));
}

#[test]
fn accounts_that_do_not_exist_or_are_root_are_refused() {
    let Some(host) = host() else { return };
    assert!(
        fails_without_a_trace(&host, &["--command-user", "nosuch"]).contains("no such account")
    );
    assert!(fails_without_a_trace(&host, &["--command-user", "root"]).contains("uid 0"));
}

#[test]
fn a_configuration_of_the_agent_that_others_may_write_is_refused() {
    let Some(host) = host() else { return };
    host.write("etc/eic/agent.toml", "");
    succeed(host.command("chmod").args(["0666", "/etc/eic/agent.toml"]));
    assert!(fails_without_a_trace(&host, &[]).contains("writable by nobody else"));
}

#[test]
fn commands_that_the_account_cannot_use_are_noticed_and_taken_back() {
    // The account is made, the files are written, the self-test fails, and all of it goes again.
    let Some(host) = host() else { return };
    succeed(host.command("mkdir").args(["-m", "0700", "/etc/eic"]));
    let said = fails_without_a_trace(&host, &[]);
    assert!(said.contains("run the commands as `eic`"), "{said}");
}

#[test]
fn older_documents_are_refused() {
    // F-07
    let Some(host) = host() else { return };
    ok(&host.install(&[]));
    let mut documents = current();
    documents.view.version -= 1;
    host.documents(&documents);
    assert!(
        fails_without_a_trace(&host, &[])
            .contains("install host-view.json version 8: version 9 is installed already")
    );
    documents = current();
    documents.root.version -= 1;
    documents.view.root_version -= 1;
    host.documents(&documents);
    assert!(
        fails_without_a_trace(&host, &[])
            .contains("install root.json version 4: version 5 is installed already")
    );
}

#[test]
fn a_host_certificate_for_another_key_is_refused() {
    let Some(host) = host() else { return };
    host.write(
        "etc/eic-documents/host-cert.pub",
        host_certificate(&public(33).to_string()),
    );
    assert!(fails_without_a_trace(&host, &[]).contains("none of this host's keys"));
}

#[test]
fn a_dry_run_shows_the_change_and_makes_none() {
    let Some(host) = host() else { return };
    let before = host.snapshot();
    let shown = ok(&host.install(&["--dry-run"]));
    assert_eq!(host.snapshot(), before);
    for part in [
        "new: system account eic",
        "new: /etc/ssh/sshd_config.d/10-eic.conf, mode 0644",
        "+ AuthorizedKeysCommandUser eic",
        "new: /var/lib/eic/root.json, mode 0644\n  root document version 5, user CAs: SHA256:",
        "  host view version 9 of i-0123456789abcdef0, fleets: web, eu\n",
        "  a key revocation list of 44 bytes\n",
        "note: no host-cert.pub came with the documents",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(!shown.contains("\"signed\""), "{shown}");
}

#[test]
fn an_installation_is_effective_and_a_second_one_changes_nothing() {
    let Some(host) = host() else { return };
    let said = ok(&host.install(&[]));
    assert!(
        said.starts_with("installed: sshd asks /usr/local/bin/eic-agent as eic\n"),
        "{said}"
    );
    // J-09: the user's own files are told
    assert!(
        said.contains("note: users can still let keys and CAs in by their own files"),
        "{said}"
    );
    assert_eq!(
        host.read("var-lib/eic/user-ca-keys"),
        format!("{}\n", public(CA_KEY))
    );
    let effective =
        succeed(
            host.command("sshd")
                .args(["-T", "-C", "user=root,host=h,addr=192.0.2.9"]),
        );
    assert!(effective.contains(
        "authorizedprincipalscommand /usr/local/bin/eic-agent authorized-principals %u %F\n"
    ));
    let after_first = host.snapshot();
    assert!(ok(&host.install(&["--dry-run"])).starts_with("nothing would change\n"));
    assert!(ok(&host.install(&[])).starts_with("nothing to change: "));
    assert_eq!(host.snapshot(), after_first);
}

#[test]
fn what_was_installed_is_taken_back_byte_for_byte() {
    let Some(host) = host() else { return };
    // Settings and an odd mode that must survive.
    host.write(
        "etc/eic/agent.toml",
        "# mine\n[instance_connect]\nextra_key_types = []\n",
    );
    host.write(
        "etc/ssh/sshd_config.d/10-eic.conf",
        "# an old drop-in of the same name\n",
    );
    succeed(
        host.command("chmod")
            .args(["0600", "/etc/ssh/sshd_config.d/10-eic.conf"]),
    );
    ok(&host.install(&["--dry-run"]));
    let before = host.snapshot();
    ok(&host.install(&[]));
    assert!(
        host.read("etc/eic/agent.toml")
            .starts_with("# mine\n[instance_connect]\nextra_key_types = []\n\n[trust]\n")
    );
    // A newer view over the first installation does not make the record forget what came before it.
    let mut newer = current();
    newer.view.version += 1;
    host.documents(&newer);
    ok(&host.install(&[]));
    assert_ne!(host.snapshot(), before);
    let shown = ok(&host.agent(&["uninstall", "--dry-run"]));
    assert!(
        shown.contains("+ # an old drop-in of the same name"),
        "{shown}"
    );
    let said = ok(&host.agent(&["uninstall"]));
    assert!(
        said.starts_with("uninstalled: every file is as it was\n") && !said.contains("left over"),
        "{said}"
    );
    assert_eq!(without_backups(host.snapshot()), without_backups(before));
    assert!(ok(&host.agent(&["uninstall"])).starts_with("nothing is installed: "));
}

/// useradd(8) and userdel(8) keep copies (`passwd-`) outside the snapshot; group and shadow lines are compared.
fn without_backups(lines: Vec<String>) -> Vec<String> {
    lines
        .into_iter()
        .filter(|line| !line.contains("/passwd-"))
        .collect()
}

#[test]
fn a_configuration_that_was_edited_since_is_kept() {
    let Some(host) = host() else { return };
    ok(&host.install(&[]));
    let edited = host.read("etc/eic/agent.toml") + "bare_principals = true\n";
    host.write("etc/eic/agent.toml", &edited);
    let said = ok(&host.agent(&["uninstall"]));
    assert!(
        said.contains("kept: /etc/eic/agent.toml was edited"),
        "{said}"
    );
    assert_eq!(host.read("etc/eic/agent.toml"), edited);
    assert!(!host.path("etc/ssh/sshd_config.d/10-eic.conf").exists());
    assert!(!host.path("var-lib/eic").exists());
}

#[test]
fn lines_that_were_added_to_the_drop_in_are_saved() {
    let Some(host) = host() else { return };
    ok(&host.install(&[]));
    let edited = host.read("etc/ssh/sshd_config.d/10-eic.conf") + "X11Forwarding no\n";
    host.write("etc/ssh/sshd_config.d/10-eic.conf", &edited);
    let said = ok(&host.agent(&["uninstall"]));
    assert!(said.contains("10-eic.conf.saved"), "{said}");
    assert_eq!(host.read("etc/ssh/sshd_config.d/10-eic.conf.saved"), edited);
    assert!(!host.path("etc/ssh/sshd_config.d/10-eic.conf").exists());
}

#[test]
fn an_uninstallation_that_sshd_would_refuse_is_not_made() {
    let Some(host) = host() else { return };
    ok(&host.install(&[]));
    host.write(
        "etc/ssh/sshd_config.d/50-broken.conf",
        "NoSuchKeyword yes\n",
    );
    let before = host.snapshot();
    assert!(refused(&host.agent(&["uninstall"])).contains("Bad configuration option"));
    assert_eq!(host.snapshot(), before);
}

#[test]
fn a_stopped_or_damaged_view_is_still_a_floor() {
    // F-07
    let Some(host) = host() else { return };
    let mut stopped = current();
    // In force while it is installed, on a busy machine too.
    stopped.view.hard_stop = Some(now() + 20);
    host.documents(&stopped);
    ok(&host.install(&[]));
    let mut older = current();
    older.view.version -= 1;
    host.documents(&older);
    wait_until("the hard stop", || now() > stopped.view.hard_stop.unwrap());
    assert!(fails_without_a_trace(&host, &[]).contains("version 9 is installed already"));
    host.write("var-lib/eic/host-view.json", "damaged");
    older.root.version -= 1;
    older.view.root_version -= 1;
    host.documents(&older);
    assert!(fails_without_a_trace(&host, &[]).contains("install root.json version 4"));
}

fn host_certificate(public_key: &str) -> String {
    let host_key = ssh_key::PublicKey::from_openssh(public_key).unwrap();
    let mut builder = Builder::new(vec![7; 16], &host_key, now() - 10, now() + 3600).unwrap();
    builder
        .serial(1)
        .unwrap()
        .cert_type(CertType::Host)
        .unwrap()
        .key_id("host")
        .unwrap();
    builder.valid_principal(INSTANCE).unwrap();
    builder
        .sign(&key(HOST_CA_KEY))
        .unwrap()
        .to_openssh()
        .unwrap()
        + "\n"
}

#[test]
fn a_fitting_host_certificate_is_shown_by_sshd_and_goes_with_a_later_set_without_one() {
    let Some(host) = host() else { return };
    host.write(
        "etc/eic-documents/host-cert.pub",
        host_certificate(&host.read("etc/ssh/ssh_host_ed25519_key.pub")),
    );
    ok(&host.install(&[]));
    assert!(
        host.read("etc/ssh/sshd_config.d/10-eic.conf")
            .ends_with("HostCertificate /var/lib/eic/host-cert.pub\n")
    );
    assert!(host.path("var-lib/eic/host-cert.pub").exists());
    std::fs::remove_file(host.path("etc/eic-documents/host-cert.pub")).unwrap();
    ok(&host.install(&[]));
    assert!(
        !host
            .read("etc/ssh/sshd_config.d/10-eic.conf")
            .contains("HostCertificate")
    );
    assert!(!host.path("var-lib/eic/host-cert.pub").exists());
}

/// An sshd that listens on a port of its own, with more options on its command line.
fn running_sshd(host: &Host, options: &[&str]) -> Running {
    let start = |port| {
        host.write(
            "etc/ssh/sshd_config.d/90-test.conf",
            format!("Port {port}\nListenAddress 127.0.0.1\nPidFile /run/sshd.pid\n"),
        );
        let log = std::fs::File::create(host.path("sshd.log")).unwrap();
        let mut sshd = host.command("/usr/sbin/sshd");
        sshd.args(["-D", "-e"]).args(options).stderr(log);
        sshd
    };
    listening(host, start).1
}

#[test]
fn an_option_of_the_running_sshd_that_would_beat_ours_is_named() {
    // I-21: as the package's drop-in writes it, with a blank inside
    let Some(host) = host() else { return };
    let options = [
        "-o",
        "AuthorizedKeysCommand /usr/bin/true %u %f",
        "-o",
        "AuthorizedKeysCommandUser nobody",
    ];
    let _sshd = running_sshd(&host, &options);
    let said = fails_without_a_trace(&host, &[]);
    assert!(
        said.contains(
            "make `authorizedkeyscommand` effective: sshd's command line sets it in `/proc/"
        ),
        "{said}"
    );
}

#[test]
fn the_running_sshd_reads_its_configuration_again() {
    let Some(host) = host() else { return };
    let _sshd = running_sshd(&host, &[]);
    let said = ok(&host.install(&[]));
    assert!(said.contains("reads its configuration again"), "{said}");
    // It writes its pid file anew, after it listens again: without it nobody knows that it runs.
    wait_until("sshd's reload", || {
        let log = host.read("sshd.log");
        let again = log.split_once("Received SIGHUP; restarting.");
        again.is_some_and(|(_, since)| since.contains("Server listening")) && has_pid_file(&host)
    });
    // F-10: an sshd that nobody tells goes on reading the list; without it every key would be refused.
    let said = ok(&host.agent(&["uninstall", "--no-reload"]));
    assert!(
        said.contains("left over: /var/lib/eic: the running sshd still reads"),
        "{said}"
    );
    assert!(host.path("var-lib/eic/revoked-keys").exists());
    assert!(!host.path("etc/ssh/sshd_config.d/10-eic.conf").exists());
}

#[test]
fn documents_of_another_root_key_need_its_fingerprint() {
    let Some(host) = host() else { return };
    let pin = public(99).fingerprint();
    ok(&host.install(&["--dry-run"]));
    let output = host.agent(&[
        "install",
        "--root-fingerprint",
        &pin,
        "--state-from",
        "/etc/eic-documents",
    ]);
    assert!(refused(&output).contains("failed to trust `root.json`"));
}

/// Holds a folder locked as `nobody`, who may read it.
fn held_by_nobody(host: &Host, folder: &str) -> Running {
    let mut command = host.command("setpriv");
    command.args(["--reuid", "nobody", "--clear-groups", "flock", "-n", folder]);
    command.args(["sh", "-c", "echo held; exec sleep 60"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert_eq!(&said, b"held\n");
    Running(child)
}

#[test]
fn accounts_that_lock_what_they_can_read_hold_no_installation_up() {
    // F-11
    let Some(host) = host() else { return };
    let _configuration = held_by_nobody(&host, "/etc/ssh");
    ok(&host.install(&[]));
    let _state = held_by_nobody(&host, "/var/lib/eic");
    let lock = host.path("var-lib/eic/.lock");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&lock).unwrap());
    assert_eq!(mode & 0o7777, 0o600);
    ok(&host.install(&[]));
    ok(&host.agent(&["uninstall"]));
    assert!(!lock.exists());
}

#[test]
fn programs_of_the_callers_path_are_not_run_by_root() {
    let Some(host) = host() else { return };
    let mark = "#!/bin/sh\necho \"$0\" >> /run/mark\n";
    for name in [
        "systemctl",
        "journalctl",
        "getent",
        "id",
        "ssh-keygen",
        "useradd",
    ] {
        host.write(&format!("run/fakes/{name}"), mark);
        succeed(
            host.command("chmod")
                .args(["0755", &format!("/run/fakes/{name}")]),
        );
    }
    std::fs::create_dir_all(host.path("run/systemd/system")).unwrap();
    let pin = public(crate::documents::ROOT_KEY).fingerprint();
    ok(&host.install(&[]));
    for arguments in [
        &[
            "install",
            "--root-fingerprint",
            &pin,
            "--state-from",
            "/etc/eic-documents",
        ][..],
        &["status"],
        &["doctor", "--user", "root"],
        &["keys", "list", "--user", "root"],
        &["uninstall"],
    ] {
        let mut command = host.command("env");
        command.arg("PATH=/run/fakes:/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg("/usr/local/bin/eic-agent").args(arguments);
        let output = command.output().unwrap();
        assert!(
            !host.path("run/mark").exists(),
            "{arguments:?}: {}: {output:?}",
            host.read("run/mark")
        );
    }
}
