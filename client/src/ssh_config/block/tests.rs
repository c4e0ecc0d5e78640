//! The block as text, and as the installed ssh understands it.

use std::process::Command;

use super::*;

fn block(patterns: &[&str]) -> Block {
    let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
    Block::new(
        Path::new("/opt/eic tools/eic-login"),
        Path::new("/run/user/1000/eic"),
        &patterns,
    )
    .unwrap()
}

/// What the installed ssh makes of `ssh ARGS` with the block and a user's own settings behind it.
fn ssh_g(block: &Block, args: &[&str]) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    let users_own = "Host *\n  ProxyCommand none\n  StrictHostKeyChecking accept-new\n  IdentityFile ~/.ssh/own\n  VerifyHostKeyDNS yes\n";
    std::fs::write(&file, format!("{}{users_own}", block.render())).unwrap();
    let output = Command::new("ssh")
        .arg("-G")
        .arg("-F")
        .arg(&file)
        .args(args)
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

fn option<'a>(shown: &'a str, name: &str) -> Vec<&'a str> {
    shown
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(n, _)| *n == name)
        .map(|(_, value)| value)
        .collect()
}

#[test]
fn paths_and_patterns_with_a_meaning_of_their_own_are_refused() {
    // H-17
    for path in [
        "/opt/e'ic",
        "/opt/$(id)/x",
        "/opt/a\nHost *",
        "/opt/%h",
        "/opt/\"x",
        "relative/x",
        "/opt/a\\b",
        "/opt/a;b",
    ] {
        assert!(
            Block::new(Path::new(path), Path::new("/run/eic"), &[]).is_err(),
            "{path:?}"
        );
        assert!(
            Block::new(Path::new("/usr/bin/eic-login"), Path::new(path), &[]).is_err(),
            "{path:?}"
        );
    }
    for pattern in ["*", "a b", "x\nMatch exec id", "\"q\""] {
        assert!(
            Block::new(
                Path::new("/usr/bin/eic-login"),
                Path::new("/run/eic"),
                &[pattern.to_owned()]
            )
            .is_err(),
            "{pattern:?}"
        );
    }
}

#[test]
fn the_folder_of_sockets_is_read_back_and_from_nothing_else() {
    let told = run_dir_of(&block(&["web-*"]).render());
    assert_eq!(told, Some(PathBuf::from("/run/user/1000/eic")));
    for other in [
        "",
        "    IdentityAgent ~/agent\n",
        "    IdentityAgent \"/a/%r\"\n",
    ] {
        assert_eq!(run_dir_of(other), None, "{other:?}");
    }
}

#[test]
fn no_match_exec_is_written() {
    // H-17
    assert!(
        !block(&["web-*"])
            .render()
            .to_ascii_lowercase()
            .contains("exec")
    );
}

#[test]
fn names_with_quotes_never_reach_the_shell() {
    // H-03: the ProxyCommand of such a host is not ours, and that of such a user names neither.
    let (_, shown) = ssh_g(&block(&[]), &["i-'$(id)'"]);
    assert_eq!(
        option(&shown, "proxycommand"),
        Vec::<&str>::new(),
        "{shown}"
    );
    let (_, shown) = ssh_g(&block(&[]), &["-l", "a'$(id)'", "i-01234567"]);
    let command = option(&shown, "proxycommand");
    assert!(
        command
            .iter()
            .all(|c| !c.contains("%r") && !c.contains("$(id)")),
        "{command:?}"
    );
}

#[test]
fn other_hosts_are_left_alone() {
    let (ok, shown) = ssh_g(&block(&["web-*"]), &["example.org"]);
    assert!(ok);
    assert!(
        !shown.contains("eic-login") && option(&shown, "stricthostkeychecking") == ["accept-new"],
        "{shown}"
    );
}

#[test]
fn the_installed_ssh_takes_the_block_and_it_wins_over_later_settings() {
    // H-08, H-10
    for host in ["i-0123456789abcdef0", "mi-0123456789abcdef0", "web-1"] {
        let (ok, shown) = ssh_g(&block(&["web-*"]), &["-l", "alice", host]);
        assert!(ok, "{shown}");
        let command = "'/opt/eic tools/eic-login' connect --dir '/run/user/1000/eic' --user '%r' --host '%h' --port '%p'";
        assert_eq!(option(&shown, "proxycommand"), [command]);
        for (name, value) in [
            ("proxyusefdpass", "yes"),
            ("identitiesonly", "no"),
            ("stricthostkeychecking", "true"),
            ("userknownhostsfile", "/dev/null"),
            ("globalknownhostsfile", "/dev/null"),
            ("verifyhostkeydns", "false"),
            ("updatehostkeys", "false"),
        ] {
            assert_eq!(option(&shown, name), [value], "{name}");
        }
        assert_eq!(
            option(&shown, "identityagent"),
            [format!("/run/user/1000/eic/alice@{host}")]
        );
        assert!(
            option(&shown, "knownhostscommand")[0]
                .starts_with("\"/opt/eic tools/eic-login\" known-hosts")
        );
        // ssh appends a user's own `IdentityFile`; files are offered after everything that the agent holds.
        assert_eq!(option(&shown, "identityfile"), ["none", "~/.ssh/own"]);
    }
}

#[test]
fn the_options_are_also_good_as_arguments() {
    let mut args: Vec<String> = Vec::new();
    for (name, value) in block(&[]).options() {
        args.push(format!("-o{name}={value}"));
    }
    let output = Command::new("ssh")
        .args(["-G", "-F", "none"])
        .args(&args)
        .arg("web-1")
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && option(&shown, "proxyusefdpass") == ["yes"],
        "{shown}"
    );
}
