//! A plain key: whether any way in names it. The account's own files, Instance Connect, and the commands behind
//! it, which are named but not run: they run as another account than root.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use eic_protocol::subject_key::SubjectKey;
use eic_protocol::trust::host_view::Stage;

use super::Case;
use super::account::Account;
use super::finding::Findings;
use crate::child;
use crate::clock::Deadline;
use crate::commands::cannot;
use crate::instance_connect::{Answer, Question, authorized_keys};
use crate::sshd::Settings;
use crate::syslog::Log;
use crate::trusted_file::read_of_anybody;

/// Largest file of keys that is read, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

pub(super) fn examine(file: &Path, case: &Case<'_>, findings: &mut Findings) {
    let Some((public, key)) = read(file, findings) else {
        return;
    };
    let fingerprint = key.fingerprint();
    findings.note("key", format!("{} {fingerprint}", key.algorithm_name()));
    check_type(&key.algorithm_name(), &case.settings, findings);
    revoked(&public, &case.settings, findings);
    let in_files = case
        .account
        .as_ref()
        .is_some_and(|account| in_files(account, &key, &case.settings, findings));
    let pushed = examine_instance_connect(case, Some(&fingerprint), findings);
    if in_files || pushed {
        return;
    }
    let chained: Vec<&str> = case
        .config
        .authorized_keys
        .command
        .iter()
        .map(|command| command.name.as_str())
        .collect();
    if chained.is_empty() {
        findings.bad(
            "key",
            "no way in names this key",
            "push it again (a pushed key lives 60 s), or use a certificate",
        );
    } else {
        findings.note(
            "key",
            format!(
                "only a chained command can name this key: {}",
                chained.join(", ")
            ),
        );
    }
}

/// The public key in a file, or beside a private one.
fn read(file: &Path, findings: &mut Findings) -> Option<(PathBuf, SubjectKey)> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".pub");
    let candidates = [file.to_path_buf(), PathBuf::from(beside)];
    let found = candidates.into_iter().find_map(|path| {
        let text = bounded(&path)?;
        let words: Vec<&str> = text.lines().next()?.split_whitespace().take(2).collect();
        let key = words.join(" ").parse().ok()?;
        Some((path, key))
    });
    if found.is_none() {
        findings.bad(
            "key",
            format!("{} holds no public key that can be read", file.display()),
            "name the .pub file; for a certificate use --cert",
        );
    }
    found
}

fn bounded(path: &Path) -> Option<String> {
    let bytes = read_of_anybody(path, MAX_BYTES).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether sshd takes keys of a type at all; the keyword was renamed in 8.5.
pub(super) fn check_type(kind: &str, settings: &Settings, findings: &mut Findings) {
    let keywords = ["PubkeyAcceptedAlgorithms", "PubkeyAcceptedKeyTypes"];
    let lists: Vec<&str> = keywords.iter().flat_map(|k| settings.values(k)).collect();
    let accepted = |name: &str| lists.iter().any(|list| list.split(',').any(|a| a == name));
    // An RSA key signs by SHA-2 whatever its own name says.
    let names: &[&str] = match kind {
        "ssh-rsa" => &["rsa-sha2-512", "rsa-sha2-256"],
        "ssh-rsa-cert-v01@openssh.com" => &[
            "rsa-sha2-512-cert-v01@openssh.com",
            "rsa-sha2-256-cert-v01@openssh.com",
        ],
        other => &[other],
    };
    if !lists.is_empty() && !names.iter().any(|name| accepted(name)) {
        findings.bad(
            "key",
            format!("sshd takes no keys of the type {kind}"),
            "PubkeyAcceptedAlgorithms, or a key of another type",
        );
    }
}

/// sshd's lists of revoked keys, asked by ssh-keygen, which reads them as sshd does.
pub(super) fn revoked(file: &Path, settings: &Settings, findings: &mut Findings) {
    for list in settings.values("RevokedKeys") {
        let mut question = Command::new("ssh-keygen");
        question.args(["-Q", "-f", list]).arg(file);
        let Ok(output) = child::output(&mut question, child::LIMIT) else {
            findings.note("key", format!("no ssh-keygen has read {list}"));
            continue;
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            findings.good("key", format!("it is not in {list}"));
        } else if said.contains("REVOKED") {
            findings.bad(
                "key",
                format!("it is revoked by {list}"),
                "a new key and certificate",
            );
        } else {
            let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            findings.bad(
                "key",
                format!("{list} cannot be read, so sshd refuses every key: {complaint}"),
                "put a valid list there (eic-agent install)",
            );
        }
    }
}

/// Looks for the key in the account's AuthorizedKeysFile.
fn in_files(
    account: &Account,
    key: &SubjectKey,
    settings: &Settings,
    findings: &mut Findings,
) -> bool {
    let wanted = key.to_string();
    let blob = wanted.split(' ').nth(1).unwrap_or(&wanted);
    for file in files(account, settings) {
        let text = bounded(&file).unwrap_or_default();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        let mut lines = lines.filter(|line| line.split_whitespace().any(|word| word == blob));
        if lines.next().is_none() {
            continue;
        }
        let strict = settings.values("StrictModes") != ["no"];
        match open_to_others(&file, account).filter(|_| strict) {
            Some(part) => findings.bad(
                "key",
                format!(
                    "{} names it, but others may write {}, so sshd does not read it",
                    file.display(),
                    part.display()
                ),
                &format!("chown {} and chmod go-w {}", account.name, part.display()),
            ),
            None => {
                findings.good("key", format!("{} names it", file.display()));
                return true;
            }
        }
    }
    false
}

/// The files of AuthorizedKeysFile, with `%h`, `%u` and `%%` expanded; relative ones lie in the home.
fn files(account: &Account, settings: &Settings) -> Vec<PathBuf> {
    let home = account.home.display().to_string();
    settings
        .values("AuthorizedKeysFile")
        .iter()
        .flat_map(|value| value.split(' '))
        .filter(|word| !word.is_empty() && *word != "none")
        .map(|word| {
            word.replace("%h", &home)
                .replace("%u", &account.name)
                .replace("%%", "%")
        })
        .map(|path| account.home.join(path))
        .collect()
}

/// The first part of the path that somebody else may write (misc.c safe_path), up to the home.
fn open_to_others(file: &Path, account: &Account) -> Option<PathBuf> {
    let parts = file.ancestors().take_while(|part| {
        *part == account.home || part.starts_with(&account.home) || !file.starts_with(&account.home)
    });
    parts
        .filter(|part| {
            std::fs::metadata(part).is_ok_and(|about| {
                let owned = about.uid() == 0 || about.uid() == account.uid;
                !owned || about.mode() & 0o022 != 0
            })
        })
        .map(Path::to_path_buf)
        .next()
}

/// Nothing: the doctor's questions are no logins, and must not look like ones in the log.
struct Silent;

impl Log for Silent {
    fn info(&self, _message: &str) {}
}

/// What Instance Connect holds; true: a key that opens the account.
pub(super) fn examine_instance_connect(
    case: &Case<'_>,
    fingerprint: Option<&str>,
    findings: &mut Findings,
) -> bool {
    let stage = case.trust.as_ref().map(|state| state.view.stage);
    if stage == Some(Stage::CertificatesOnly) {
        findings.note(
            "instance-connect",
            "switched off for this host by its signed host view",
        );
        return false;
    }
    let settings = match case.config.instance_connect.settings(&case.system.trusted) {
        Ok(settings) => settings,
        Err(e) => {
            findings.bad("instance-connect", cannot(&e), "correct agent.toml");
            return false;
        }
    };
    let question = Question {
        user: case
            .options
            .user
            .clone()
            .unwrap_or_else(|| "root".to_owned()),
        fingerprint: fingerprint.map(str::to_owned),
    };
    let deadline = Deadline::after(Duration::from_millis(1800));
    let machine = &case.system.identity.machine;
    let answer = authorized_keys(&question, &settings, machine, &Silent, case.now, deadline);
    match answer {
        Ok(answer) => told(&answer, &question.user, findings),
        Err(e) => {
            findings.bad(
                "instance-connect",
                cannot(&e),
                "until then no pushed key counts here; certificates do",
            );
            false
        }
    }
}

fn told(answer: &Answer, user: &str, findings: &mut Findings) -> bool {
    let text = match answer {
        Answer::Keys(lines) if !lines.is_empty() => {
            findings.good(
                "instance-connect",
                format!("{} key(s) open {user} now", lines.lines().count()),
            );
            return true;
        }
        Answer::Keys(_) => format!("keys are pushed for {user}, but none that counts is this one"),
        Answer::NoneActive => format!("no key is pushed for {user} (one lives 60 s)"),
        Answer::NoService => "the metadata service is switched off for this instance".to_owned(),
        Answer::NotHere => {
            format!("none for {user}: this is no EC2 instance, or no name that it takes")
        }
    };
    findings.note("instance-connect", text);
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust_state::tests::public;
    use std::os::unix::fs::PermissionsExt;

    fn account(home: &Path) -> Account {
        Account {
            name: "a".to_owned(),
            uid: rustix::process::geteuid().as_raw(),
            home: home.to_path_buf(),
            shell: "/bin/sh".into(),
            groups: Vec::new(),
        }
    }

    #[test]
    fn key_types_that_sshd_does_not_take_are_found() {
        let settings = Settings::parse("pubkeyacceptedalgorithms ssh-ed25519,rsa-sha2-256\n");
        for (kind, good) in [
            ("ssh-ed25519", true),
            ("ssh-rsa", true),
            ("ecdsa-sha2-nistp256", false),
            ("ssh-ed25519-cert-v01@openssh.com", false),
        ] {
            let mut findings = Findings::default();
            check_type(kind, &settings, &mut findings);
            assert_eq!(findings.judged(false).good, good, "{kind}");
        }
        let mut findings = Findings::default();
        check_type("ssh-dss", &Settings::default(), &mut findings);
        assert!(findings.judged(false).good);
    }

    #[test]
    fn a_file_that_others_may_write_does_not_count() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        let file = home.path().join(".ssh/authorized_keys");
        std::fs::write(&file, format!("# {0}\nrestrict {0} me\n", public(5))).unwrap();
        let settings =
            Settings::parse("authorizedkeysfile .ssh/authorized_keys none\nstrictmodes yes\n");
        let (account, mut findings) = (account(home.path()), Findings::default());
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
        assert!(!in_files(&account, &public(5), &settings, &mut findings));
        assert!(findings.judged(false).text.contains("others may write"));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(in_files(
            &account,
            &public(5),
            &settings,
            &mut Findings::default()
        ));
        assert!(!in_files(
            &account,
            &public(6),
            &settings,
            &mut Findings::default()
        ));
    }

    #[test]
    fn a_fifo_in_place_of_a_key_file_holds_nobody_up() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let home = tempfile::tempdir().unwrap();
        let fifo = home.path().join("key.pub");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(read(&fifo, &mut Findings::default()).is_none());
        assert_eq!(bounded(Path::new("/dev/zero")), None);
    }

    #[test]
    fn tokens_in_file_names_are_expanded() {
        let settings = Settings::parse("authorizedkeysfile /etc/keys/%u %h/k 100%%\n");
        let home = Path::new("/home/a");
        assert_eq!(
            files(&account(home), &settings),
            ["/etc/keys/a", "/home/a/k", "/home/a/100%"].map(PathBuf::from)
        );
    }
}
