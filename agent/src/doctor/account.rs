//! The account: whether it exists, has a shell, is locked or expired. Asked of the system's own name service
//! (getent(1)), so that accounts of a directory count as well.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::finding::Findings;
use crate::child;
use crate::sshd::Settings;

/// A login account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) home: PathBuf,
    pub(super) shell: PathBuf,
    /// Its groups by name.
    pub(super) groups: Vec<String>,
}

/// Looks the account up.
pub(super) fn find(user: &str, findings: &mut Findings) -> Option<Account> {
    // A name that begins with a dash would be an option of getent's.
    let plain = !user.is_empty() && !user.starts_with('-');
    let line = plain.then(|| output("getent", &["passwd", user])).flatten();
    match line.and_then(|line| parse(&line)) {
        Some(account) => {
            let groups = output("id", &["-Gn", user]).unwrap_or_default();
            let groups = groups.split_whitespace().map(str::to_owned).collect();
            Some(Account { groups, ..account })
        }
        None => {
            findings.bad(
                "account",
                format!("{user} does not exist: sshd asks nobody about it"),
                "make the account, or log in as another",
            );
            None
        }
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = child::output(Command::new(program).args(arguments), child::LIMIT).ok()?;
    let found = output.status.success() && !output.stdout.is_empty();
    found.then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.trim_end().split(':').collect();
    let [name, _password, uid, _gid, _gecos, home, shell] = fields.as_slice() else {
        return None;
    };
    let shell = if shell.is_empty() { "/bin/sh" } else { shell };
    Some(Account {
        name: (*name).to_owned(),
        uid: uid.parse().ok()?,
        home: PathBuf::from(home),
        shell: PathBuf::from(shell),
        groups: Vec::new(),
    })
}

/// What sshd checks of an account before any key (auth.c allowed_user), and PAM at its end.
pub(super) fn examine(account: &Account, settings: &Settings, now: u64, findings: &mut Findings) {
    let name = &account.name;
    findings.good("account", format!("{name} exists (uid {})", account.uid));
    if !is_program(&account.shell) {
        findings.bad(
            "account",
            format!(
                "its shell {} is no program: sshd refuses the account",
                account.shell.display()
            ),
            &format!("usermod --shell /bin/sh {name}"),
        );
    } else if ["nologin", "false"]
        .iter()
        .any(|end| account.shell.ends_with(end))
    {
        findings.note(
            "account",
            format!("its shell {} ends every session", account.shell.display()),
        );
    }
    if account.uid != 0 && Path::new("/etc/nologin").exists() {
        findings.bad(
            "account",
            "/etc/nologin keeps everybody but root out",
            "remove /etc/nologin",
        );
    }
    let shadow = std::fs::read_to_string("/etc/shadow").unwrap_or_default();
    let pam = settings.values("UsePAM") == ["yes"];
    locked(&shadow, name, pam, now, findings);
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path)
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// shadow(5): a password that begins with `!` is locked, field 8 is the day on which the account ends.
fn locked(shadow: &str, name: &str, pam: bool, now: u64, findings: &mut Findings) {
    let line = shadow
        .lines()
        .find(|line| line.split(':').next() == Some(name));
    let Some(line) = line else { return };
    let fields: Vec<&str> = line.split(':').collect();
    let password = fields.get(1).copied().unwrap_or_default();
    if password.starts_with('!') && !pam {
        findings.bad(
            "account",
            "its password is locked, and without PAM sshd refuses such an account",
            &format!("usermod --password '*' {name}, or UsePAM yes"),
        );
    }
    let ends: Option<u64> = fields.get(7).and_then(|day| day.parse().ok());
    if ends.is_some_and(|day| day.saturating_mul(86_400) <= now) {
        findings.bad(
            "account",
            "it has expired",
            &format!("chage --expiredate -1 {name}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shadow(line: &str, pam: bool, now: u64) -> String {
        let mut findings = Findings::default();
        locked(line, "a", pam, now, &mut findings);
        findings.judged(false).text
    }

    #[test]
    fn locked_and_expired_accounts_are_found() {
        assert!(
            shadow("a:!:1:0:9:7:::", false, 0).contains("FAIL account: its password is locked")
        );
        assert!(!shadow("a:!:1:0:9:7:::", true, 0).contains("FAIL"));
        assert!(!shadow("a:*:1:0:9:7:::", false, 0).contains("FAIL"));
        assert!(shadow("a:*:1:0:9:7::10:", true, 864_000).contains("it has expired"));
        assert!(!shadow("a:*:1:0:9:7::10:", true, 863_999).contains("FAIL"));
        assert!(!shadow("ab:!:1:0:9:7::1:", false, u64::MAX).contains("FAIL"));
    }

    #[test]
    fn accounts_that_nobody_has_are_refused() {
        for user in ["", "-s", "no such user", "eic-nobody-has-this-name"] {
            let mut findings = Findings::default();
            assert_eq!(find(user, &mut findings), None, "{user}");
            assert!(!findings.judged(false).good);
        }
        assert_eq!(find("root", &mut Findings::default()).unwrap().uid, 0);
    }

    #[test]
    fn a_line_without_shell_means_sh() {
        let account = parse("a:x:7:7::/home/a:\n").unwrap();
        assert_eq!((account.uid, account.shell), (7, "/bin/sh".into()));
        assert_eq!(parse("a:x:7"), None);
    }
}
