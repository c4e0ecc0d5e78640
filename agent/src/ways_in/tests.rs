//! What is found in files and settings; the whole list is judged beside a real sshd in `tests/host`.

use super::account::{Password, matches};
use super::key_line::KeyLine;
use super::*;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";

fn account(home: &Path) -> Account {
    Account {
        name: "alice".to_owned(),
        uid: rustix::process::geteuid().as_raw(),
        home: home.to_owned(),
        shell: PathBuf::from("/bin/sh"),
        password: Password::Set,
        groups: BTreeSet::from(["dev".to_owned(), "alice".to_owned()]),
    }
}

fn settings(text: &str) -> Settings {
    Settings::parse(text)
}

const OLD: Version = Version { major: 9, minor: 2 };
const NEW: Version = Version {
    major: 10,
    minor: 0,
};

#[test]
fn lines_without_a_key_are_no_way_in() {
    for bad in [
        "",
        "# ssh-ed25519 AAAA",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 !!!!",
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB",
        "restrict",
        &format!("command=\"a {KEY}"),
        &format!("restrict {KEY} ").replace("ssh-ed25519", "ssh-ed25518"),
    ] {
        assert_eq!(KeyLine::parse(bad), None, "{bad}");
    }
}

#[test]
fn options_are_told_from_keys_as_sshd_tells_them() {
    for (line, options, authority) in [
        (KEY.to_owned(), None, false),
        (format!("{KEY} cert-authority"), None, false),
        (format!("restrict {KEY}"), Some("restrict"), false),
        (
            format!("\t restrict,command=\"a \\\" b\" {KEY} me"),
            Some("restrict,command=\"a \\\" b\""),
            false,
        ),
        (
            format!("cert-authority {KEY}"),
            Some("cert-authority"),
            true,
        ),
        (
            format!("Cert-Authority,principals=\"a,b\" {KEY}"),
            Some("Cert-Authority,principals=\"a,b\""),
            true,
        ),
        (
            format!("command=\"x,cert-authority,y\" {KEY}"),
            Some("command=\"x,cert-authority,y\""),
            false,
        ),
    ] {
        let found = KeyLine::parse(&line).unwrap();
        assert_eq!(
            (found.options.as_deref(), found.is_authority()),
            (options, authority),
            "{line}"
        );
        assert!(found.shown().starts_with("ssh-ed25519 SHA256:"));
    }
}

#[test]
fn keys_in_files_that_others_may_write_are_refused_for_now() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().canonicalize().unwrap();
    fs::create_dir(home.join(".ssh")).unwrap();
    let file = home.join(".ssh/authorized_keys");
    fs::write(
        &file,
        format!("# mine\n{KEY} me@laptop\ncert-authority {KEY}\n"),
    )
    .unwrap();
    let found = |settings: &str, mode: u32, folder_mode: u32| {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(home.join(".ssh"), fs::Permissions::from_mode(folder_mode)).unwrap();
        key_file::ways(&account(&home), &self::settings(settings), OLD)
    };
    let strict = "authorizedkeysfile .ssh/authorized_keys\nstrictmodes yes\n";
    for (mode, folder_mode) in [(0o666, 0o700), (0o620, 0o700), (0o600, 0o770)] {
        let ways = found(strict, mode, folder_mode);
        assert!(
            ways.iter().all(|way| way.blocked.is_some()),
            "{mode:o} {folder_mode:o}"
        );
    }
    assert!(
        found(&strict.replace("yes", "no"), 0o666, 0o777)
            .iter()
            .all(|way| way.blocked.is_none())
    );
    let ways = found(strict, 0o600, 0o700);
    assert_eq!(ways.len(), 2);
    assert_eq!(
        (ways[0].kind, ways[1].kind),
        (Kind::Key, Kind::CertificateAuthority)
    );
    assert!(ways[0].what.ends_with("me@laptop") && ways[0].from.ends_with("authorized_keys:2"));
    assert!(ways.iter().all(|way| way.blocked.is_none()));
}

#[test]
fn a_fifo_in_place_of_a_key_file_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authorized_keys");
    let status = std::process::Command::new("mkfifo")
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(key_file::read_regular(&path, 100), None);
}

#[test]
fn key_types_that_sshd_does_not_take_are_refused_for_now() {
    let line = KeyLine::parse(KEY).unwrap();
    let refused = |text: &str| key_file::refused_kind(&line, &settings(text)).is_some();
    assert!(refused(
        "pubkeyacceptedalgorithms rsa-sha2-512,ssh-ed25519-cert-v01@openssh.com\n"
    ));
    assert!(refused("pubkeyacceptedkeytypes rsa-sha2-512\n"));
    assert!(!refused(
        "pubkeyacceptedalgorithms rsa-sha2-512,ssh-ed25519\n"
    ));
    assert!(!refused(""));
    let rsa = |bits| KeyLine::parse(&crate::instance_connect::key::tests::rsa_line(bits)).unwrap();
    let sizes = settings("requiredrsasize 2048\npubkeyacceptedalgorithms rsa-sha2-256\n");
    assert!(key_file::refused_kind(&rsa(1024), &sizes).is_some());
    assert!(key_file::refused_kind(&rsa(2048), &sizes).is_none());
    assert!(
        key_file::refused_kind(
            &rsa(2048),
            &settings("pubkeyacceptedalgorithms ssh-ed25519\n")
        )
        .is_some()
    );
}

#[test]
fn every_pattern_of_a_key_file_is_expanded() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().canonicalize().unwrap();
    fs::create_dir_all(home.join("keys.d")).unwrap();
    for name in ["b.pub", "a.pub", ".hidden.pub", "c.txt"] {
        fs::write(home.join("keys.d").join(name), "").unwrap();
    }
    let mut who = account(&home);
    who.uid = 1234;
    for (pattern, expected) in [
        ("/etc/keys/%u", "/etc/keys/alice".to_owned()),
        ("/etc/keys/%U/%%", "/etc/keys/1234/%".to_owned()),
        ("%h/.keys", format!("{}/.keys", home.display())),
        (".ssh/k", format!("{}/.ssh/k", home.display())),
    ] {
        assert_eq!(
            key_file::files(pattern, &who, OLD),
            [PathBuf::from(expected)],
            "{pattern}"
        );
    }
    assert_eq!(key_file::files("keys.d/*.pub", &who, OLD).len(), 1);
    let found = key_file::files("keys.d/*.pub", &who, NEW);
    assert_eq!(
        found,
        [home.join("keys.d/a.pub"), home.join("keys.d/b.pub")]
    );
    assert!(key_file::files("none/*", &who, NEW).is_empty());
}

#[test]
fn accounts_that_sshds_lists_leave_out_are_refused_for_now() {
    let who = Account {
        uid: 1000,
        ..account(Path::new("/home/alice"))
    };
    for (text, barred) in [
        ("denyusers bob\ndenyusers al*\n", true),
        ("denyusers alice@10.0.0.0/8\n", true),
        ("allowusers bob\nallowusers root\n", true),
        ("allowusers bob\nallowusers a?ice\n", false),
        ("denygroups dev\n", true),
        ("allowgroups ops\n", true),
        ("allowgroups d*\n", false),
        ("permitrootlogin no\n", false),
        ("", false),
    ] {
        assert_eq!(who.barred(&settings(text)).is_some(), barred, "{text}");
    }
    let gone = Account {
        shell: PathBuf::from("/nonexistent/sh"),
        ..account(Path::new("/"))
    };
    assert!(gone.barred(&settings("")).is_some());
    let locked = Account {
        password: Password::Locked,
        ..account(Path::new("/"))
    };
    assert!(locked.barred(&settings("usepam no\n")).is_some());
    assert!(locked.barred(&settings("usepam yes\n")).is_none());
    let root = Account {
        uid: 0,
        name: "root".to_owned(),
        ..account(Path::new("/"))
    };
    assert!(root.barred(&settings("permitrootlogin no\n")).is_some());
}

#[test]
fn roots_ways_follow_permit_root_login() {
    let root = Account {
        uid: 0,
        ..account(Path::new("/root"))
    };
    let alice = account(Path::new("/home/alice"));
    let rule = |account: &Account, way: &WayIn, value: &str| {
        let account = Account {
            uid: account.uid,
            ..account.clone()
        };
        account
            .root_rule(way, &settings(&format!("permitrootlogin {value}\n")))
            .is_some()
    };
    let key = WayIn::new(Kind::Key, "k", "f");
    let forced = WayIn {
        options: Some("command=\"x\"".to_owned()),
        ..key.clone()
    };
    let password = WayIn::new(Kind::Password, "p", "f");
    for (way, value, refused) in [
        (&key, "yes", false),
        (&password, "yes", false),
        (&key, "without-password", false),
        (&password, "without-password", true),
        (&password, "prohibit-password", true),
        (&key, "forced-commands-only", true),
        (&forced, "forced-commands-only", false),
        (&password, "forced-commands-only", true),
    ] {
        assert_eq!(rule(&root, way, value), refused, "{way:?} {value}");
    }
    let other = Account { uid: 1000, ..alice };
    assert!(!rule(&other, &password, "forced-commands-only"));
}

#[test]
fn passwords_count_only_where_sshd_takes_them() {
    let who = |password| Account {
        password,
        ..account(Path::new("/"))
    };
    let ways = |password, text: &str| further::without_keys(&who(password), &settings(text));
    let on = "passwordauthentication yes\n";
    assert!(ways(Password::Set, "passwordauthentication no\n").is_empty());
    assert!(ways(Password::Locked, on).is_empty() && ways(Password::None, on).is_empty());
    assert_eq!(ways(Password::Set, on)[0].blocked, None);
    assert!(ways(Password::Empty, on)[0].blocked.is_some());
    let both = format!("{on}permitemptypasswords yes\n");
    assert_eq!(ways(Password::Empty, &both)[0].blocked, None);
    for (keyword, kind) in [
        ("hostbasedauthentication", Kind::HostBased),
        ("gssapiauthentication", Kind::Kerberos),
        ("kerberosauthentication", Kind::Kerberos),
        ("kbdinteractiveauthentication", Kind::KeyboardInteractive),
        ("challengeresponseauthentication", Kind::KeyboardInteractive),
    ] {
        let found = ways(Password::None, &format!("{keyword} yes\nusepam yes\n"));
        assert_eq!(
            found.iter().map(|w| w.kind).collect::<Vec<_>>(),
            [kind],
            "{keyword}"
        );
        assert!(
            ways(Password::None, &format!("{keyword} no\n")).is_empty(),
            "{keyword}"
        );
    }
    let without_pam = ways(
        Password::None,
        "kbdinteractiveauthentication yes\nusepam no\n",
    );
    assert!(without_pam[0].blocked.is_some());
}

#[test]
fn authorities_end_at_the_first_line_without_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cas");
    fs::write(
        &file,
        format!("# ours\n\n{KEY} one\r\n{KEY} two\ncert-authority {KEY}\n{KEY} three\n"),
    )
    .unwrap();
    let text = format!("trustedusercakeys {}\n", file.display());
    let ways = authorities::ways(&account(folder.path()), &settings(&text));
    let froms: Vec<&str> = ways
        .iter()
        .map(|w| w.from.rsplit(':').next().unwrap())
        .collect();
    assert_eq!(froms, ["3", "4"]);
    assert!(ways[0].what.contains("for certificates that name `alice`"));
    assert!(
        authorities::ways(
            &account(folder.path()),
            &settings("trustedusercakeys /none\n")
        )
        .is_empty()
    );
}

#[test]
fn principals_files_are_read_as_sshd_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().canonicalize().unwrap();
    fs::write(home.join("cas"), format!("{KEY}\n")).unwrap();
    let text = format!(
        "trustedusercakeys {0}/cas\nauthorizedprincipalsfile {0}/%u\n",
        home.display()
    );
    let ways = authorities::ways(&account(&home), &settings(&text));
    assert_eq!(ways.len(), 1);
    assert!(ways[0].blocked.is_some());
    fs::write(
        home.join("alice"),
        "team-a#x\nrestrict,command=\"a b\" team-b \n# c\n\n",
    )
    .unwrap();
    let ways = authorities::ways(&account(&home), &settings(&text));
    let names: Vec<_> = ways[1..]
        .iter()
        .map(|w| (w.what.as_str(), w.options.as_deref()))
        .collect();
    assert_eq!(
        names,
        [
            ("team-a", None),
            ("team-b", Some("restrict,command=\"a b\""))
        ]
    );
    assert_eq!(ways[0].blocked, None);
}

#[test]
fn commands_that_sshd_would_not_run_are_refused_for_now() {
    let config =
        Config::parse("[[authorized_keys.command]]\nname = \"sss\"\ncommand = [\"/bin/echo\"]\n")
            .unwrap();
    let ways = |command: &str| {
        let text = format!("authorizedkeyscommand {command}\nauthorizedkeyscommanduser eic\n");
        further::commands(&settings(&text), &config)
    };
    let foreign = ways("/bin/echo %u");
    assert_eq!((foreign.len(), foreign[0].blocked.clone()), (1, None));
    assert!(ways("/nonexistent %u")[0].blocked.is_some());
    let ours = ways("/nonexistent/eic-agent authorized-keys %u %f");
    assert_eq!(ours.len(), 3);
    assert!(ours[1].what.contains("Instance Connect") && ours[2].what.contains("sss (/bin/echo)"));
    assert!(ours.iter().all(|way| way.blocked.is_some()));
    assert!(further::commands(&settings("authorizedkeyscommand none\n"), &config).is_empty());
}

#[test]
fn a_command_of_another_user_is_closed_without_the_helpers_door() {
    let folder = tempfile::tempdir().unwrap();
    let door = folder.path().join("door");
    let text = format!(
        "[service]\nlogins = {door:?}\n[[authorized_keys.command]]\nname = \"sss\"\ncommand = [\"/bin/echo\"]\nuser = \"daemon\"\n"
    );
    let config = Config::parse(&text).unwrap();
    let command = config.authorized_keys.command.iter().next().unwrap();
    let blocked = further::without_helper(command, &config).unwrap();
    assert!(blocked.contains("eic-agent-logins.socket"), "{blocked}");
    let _listener = std::os::unix::net::UnixListener::bind(&door).unwrap();
    assert_eq!(further::without_helper(command, &config), None);
}

#[test]
fn patterns_match_as_sshds_do() {
    for (pattern, text, fits) in [
        ("", "", true),
        ("", "a", false),
        ("*", "", true),
        ("*", "abc", true),
        ("a*c", "abbc", true),
        ("a*c", "ab", false),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("?", "é", true),
        ("*.example", "a.example", true),
        ("abc", "abcd", false),
    ] {
        assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
    }
}
