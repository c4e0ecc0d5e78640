//! Processes and lines that must not have a session ended, then the one that must.

use super::*;
use crate::trust_state::tests::{CA_KEY, public};
use eic_protocol::krl::{RevocationSet, Target};
use eic_protocol::serial::Serial;
use eic_protocol::subject_key::CaKey;

const BOOT: u64 = 1_795_000_000;

/// A /proc with one process; `None` leaves the file out.
fn proc_with(pid: u32, comm: &str, title: &str, uids: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("stat"), format!("cpu 1\nbtime {BOOT}\n")).unwrap();
    let process = folder.path().join(pid.to_string());
    std::fs::create_dir(&process).unwrap();
    std::fs::write(process.join("comm"), format!("{comm}\n")).unwrap();
    std::fs::write(process.join("cmdline"), format!("{title}\0")).unwrap();
    std::fs::write(process.join("status"), format!("Name:\tx\nUid:\t{uids}\n")).unwrap();
    let fields = [
        "S", "1", "1", "1", "0", "-1", "0", "0", "0", "0", "0", "0", "0", "0", "0", "20", "0", "1",
        "0", "5000",
    ];
    let stat = format!("{pid} (a) b) {} 0 0\n", fields.join(" "));
    std::fs::write(process.join("stat"), stat).unwrap();
    folder
}

const ROOT: &str = "0\t0\t0\t0";

#[test]
fn only_roots_sshd_with_a_users_name_is_a_session() {
    for (comm, title, uids) in [
        ("bash", "sshd: alice [priv]", ROOT),
        ("sshd", "sshd: alice [priv]", "1000\t1000\t1000\t1000"),
        ("sshd", "sshd: alice [priv]", "0\t1000\t0\t0"),
        (
            "sshd",
            "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
            ROOT,
        ),
        ("sshd", "sshd: unknown [priv]x", ROOT),
        ("sshd", "sshd: [accepted]", ROOT),
        ("sshd", "/usr/sbin/sshd", ROOT),
        ("sshd", "", ROOT),
    ] {
        let folder = proc_with(7, comm, title, uids);
        assert_eq!(processes(folder.path()), [], "{comm} {title} {uids}");
    }
    for (title, user) in [
        ("sshd: alice [priv]", "alice"),
        ("sshd-session: alice [priv]", "alice"),
        ("sshd: root@pts/0", "root"),
        ("sshd: root@notty", "root"),
        ("sshd: alice@corp.example [priv]", "alice@corp.example"),
    ] {
        let folder = proc_with(7, "sshd", title, ROOT);
        let found = processes(folder.path());
        assert_eq!(
            (found[0].user.as_str(), found[0].started),
            (user, BOOT + 50),
            "{title}"
        );
    }
}

fn process(user: &str) -> Process {
    Process {
        pid: 7,
        user: user.to_owned(),
        started: BOOT,
        ticks: 0,
    }
}

fn login(user: &str, serial: u64, key_id: &str) -> Accepted {
    let ca = public(CA_KEY).fingerprint();
    Accepted::parse(&format!(
        "Accepted publickey for {user} from 10.0.0.7 port 9 ssh2: ED25519-CERT {} ID {key_id} (serial {serial}) CA ED25519 {ca}",
        public(40).fingerprint()
    ))
    .unwrap()
}

#[test]
fn lines_of_other_processes_users_and_times_do_not_count() {
    let entry = |pid, time, user| Entry {
        time,
        pid,
        login: login(user, 1, "x"),
    };
    for wrong in [
        entry(8, None, "alice"),
        entry(7, None, "bob"),
        entry(7, Some(BOOT - 10), "alice"),
        entry(7, Some(BOOT + 601), "alice"),
    ] {
        assert_eq!(
            certificate_of(&process("alice"), std::slice::from_ref(&wrong)),
            None,
            "{wrong:?}"
        );
    }
    let right = entry(7, Some(BOOT + 3), "alice");
    assert!(certificate_of(&process("alice"), &[right]).is_some());
    // A process number that came round again: the last line decides.
    let entries = [entry(7, None, "alice"), entry(7, None, "bob")];
    assert_eq!(certificate_of(&process("alice"), &entries), None);
}

fn list(target: Target) -> Krl {
    let mut set = RevocationSet::new();
    set.insert(target, None);
    set.krl(1, BOOT, "test".parse().unwrap())
}

fn ca(seed: u8) -> CaKey {
    CaKey::new(public(seed)).unwrap()
}

#[test]
fn a_certificate_of_a_ca_that_no_list_names_goes_on_whatever_the_root_says_of_it() {
    let others = list(Target::serial(ca(5), Serial::new(7).unwrap()));
    assert!(!is_revoked(&login("a", 7, "x"), &others));
    // Retired at once, for it was stolen: then its key is in the list.
    assert!(!is_revoked(
        &login("a", 7, "x"),
        &list(Target::CaKey(ca(5)))
    ));
    assert!(is_revoked(
        &login("a", 7, "x"),
        &list(Target::CaKey(ca(CA_KEY)))
    ));
}

#[test]
fn only_what_the_list_revokes_is_revoked() {
    let by_serial = list(Target::serial(ca(CA_KEY), Serial::new(7).unwrap()));
    assert!(!is_revoked(&login("a", 8, "x"), &by_serial));
    assert!(is_revoked(&login("a", 7, "x"), &by_serial));
    let by_key = list(Target::Key(
        eic_protocol::krl::RevokedKey::from_blob(public(40).blob()).unwrap(),
    ));
    assert!(is_revoked(&login("a", 8, "x"), &by_key));
    let password = Accepted::parse("Accepted password for a from 10.0.0.7 port 9 ssh2").unwrap();
    assert!(!is_revoked(&password, &by_key));
    let key = |seed: u8| {
        let line = "Accepted publickey for a from 10.0.0.7 port 9 ssh2: ED25519";
        Accepted::parse(&format!("{line} {}", public(seed).fingerprint())).unwrap()
    };
    assert!(is_revoked(&key(40), &by_key) && !is_revoked(&key(41), &by_key));
}

#[test]
fn nothing_is_ended_where_the_log_cannot_be_read() {
    let folder = proc_with(7, "sshd", "sshd: alice [priv]", ROOT);
    let krl = RevocationSet::new().krl(1, BOOT, "test".parse().unwrap());
    let log = LoginLog::File("/nonexistent/auth.log".into());
    assert!(end_revoked(&log, &krl, folder.path()).is_err());
}
