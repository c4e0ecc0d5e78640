//! The host's accounts: name, numbers, home, shell, whether a password is set, and whether sshd's own lists
//! (AllowUsers and the like) let them in. Local files; for one named account the system is asked (getent(1)).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use super::key_file::read_regular;
use super::{Kind, WayIn};
use crate::sshd::Settings;

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) home: PathBuf,
    pub(super) shell: PathBuf,
    pub(super) password: Password,
    pub(super) groups: BTreeSet<String>,
}

/// What `/etc/shadow` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Password {
    /// A hash.
    Set,
    /// Anybody knows it.
    Empty,
    /// `!` in front: sshd without PAM refuses the account whatever is offered.
    Locked,
    /// No password opens it (`*`, or not in the file).
    None,
}

/// All local accounts.
pub(super) struct Accounts {
    accounts: Vec<Account>,
    shadow: String,
    group: String,
}

const MAX_BYTES: u64 = 16 * 1024 * 1024;

impl Accounts {
    pub(super) fn read() -> Result<Self, AccountError> {
        let text = |path: &'static str| {
            let bytes = read_regular(path.as_ref(), MAX_BYTES).ok_or(AccountError::Read(path))?;
            Ok::<_, AccountError>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let (passwd, group) = (text("/etc/passwd")?, text("/etc/group")?);
        // A host may do without shadow passwords; nobody has one then.
        let shadow = text("/etc/shadow").unwrap_or_default();
        let accounts = passwd
            .lines()
            .filter_map(|line| account(line, &shadow, &group));
        Ok(Self {
            accounts: accounts.collect(),
            shadow,
            group,
        })
    }

    /// All of them, or the one that is named.
    pub(super) fn selected(self, name: Option<&str>) -> Result<Vec<Account>, AccountError> {
        let Some(name) = name else {
            return Ok(self.accounts);
        };
        let local = self.accounts.iter().find(|account| account.name == name);
        let found = local.cloned().or_else(|| self.elsewhere(name));
        found
            .map(|account| vec![account])
            .ok_or_else(|| AccountError::Unknown(eic_protocol::text::printable(name)))
    }

    fn elsewhere(&self, name: &str) -> Option<Account> {
        let mut question = Command::new("getent");
        question.args(["passwd", "--", name]);
        let output = crate::child::output(&mut question, crate::child::LIMIT).ok()?;
        let line = String::from_utf8(output.stdout).ok()?;
        account(line.trim_end(), &self.shadow, &self.group).filter(|account| account.name == name)
    }
}

/// A line of passwd(5).
fn account(line: &str, shadow: &str, group: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields.as_slice() else {
        return None;
    };
    Some(Account {
        name: (*name).to_owned(),
        uid: uid.parse().ok()?,
        home: PathBuf::from(home),
        shell: PathBuf::from(if shell.is_empty() { "/bin/sh" } else { shell }),
        password: password(name, shadow),
        groups: groups(name, gid, group),
    })
}

fn password(name: &str, shadow: &str) -> Password {
    let mut lines = shadow.lines().map(|line| line.split(':'));
    let hash = lines.find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.next()));
    match hash.flatten() {
        None => Password::None,
        Some("") => Password::Empty,
        Some(hash) if hash.starts_with('!') => Password::Locked,
        Some(hash) if hash.starts_with('*') => Password::None,
        Some(_) => Password::Set,
    }
}

/// The primary group and every group that lists the name (group(5)).
fn groups(name: &str, gid: &str, group: &str) -> BTreeSet<String> {
    group
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [own, _, number, members] = fields.as_slice() else {
                return None;
            };
            let is_member = *number == gid || members.split(',').any(|member| member == name);
            is_member.then(|| (*own).to_owned())
        })
        .collect()
}

impl Account {
    /// Why sshd refuses the account whatever is offered (sshd_config(5): Deny and Allow lists, PermitRootLogin;
    /// auth.c's shell check).
    pub(super) fn barred(&self, settings: &Settings) -> Option<String> {
        let users = |keyword| lists(settings, keyword).iter().any(|p| self.is_user(p));
        let groups = |keyword| lists(settings, keyword).iter().any(|p| self.is_in(p));
        let is_set = |keyword| !lists(settings, keyword).is_empty();
        if self.uid == 0 && settings.values("PermitRootLogin") == ["no"] {
            return Some("PermitRootLogin is `no`".to_owned());
        }
        let with_pam = settings.values("UsePAM") == ["yes"];
        if self.password == Password::Locked && !with_pam {
            return Some("the account is locked (`!` in /etc/shadow)".to_owned());
        }
        if !self.shell.exists() {
            return Some(format!(
                "its shell `{}` does not exist",
                self.shell.display()
            ));
        }
        let keyword = match () {
            () if users("DenyUsers") => "DenyUsers names it",
            () if is_set("AllowUsers") && !users("AllowUsers") => "AllowUsers does not name it",
            () if groups("DenyGroups") => "DenyGroups names one of its groups",
            () if is_set("AllowGroups") && !groups("AllowGroups") => {
                "AllowGroups names none of its groups"
            }
            () => return None,
        };
        Some(keyword.to_owned())
    }

    /// What PermitRootLogin leaves of root's ways.
    pub(super) fn root_rule(&self, way: &WayIn, settings: &Settings) -> Option<String> {
        if self.uid != 0 {
            return None;
        }
        let rule = settings
            .values("PermitRootLogin")
            .first()
            .copied()
            .unwrap_or_default();
        let is_password = matches!(way.kind, Kind::Password | Kind::KeyboardInteractive);
        let forced = way.options.as_ref().is_some_and(|o| o.contains("command="));
        let refused = match rule {
            "without-password" | "prohibit-password" => is_password,
            "forced-commands-only" => is_password || (way.kind == Kind::Key && !forced),
            _ => false,
        };
        refused.then(|| format!("PermitRootLogin is `{rule}`"))
    }

    /// A pattern of a user list; what stands behind `@` limits addresses, which nobody knows yet.
    fn is_user(&self, pattern: &str) -> bool {
        let name = pattern.rsplit_once('@').map_or(pattern, |(name, _)| name);
        matches(name, &self.name)
    }

    fn is_in(&self, pattern: &str) -> bool {
        self.groups.iter().any(|group| matches(pattern, group))
    }
}

/// The patterns of a list that `sshd -T` prints one a line.
fn lists<'a>(settings: &'a Settings, keyword: &str) -> Vec<&'a str> {
    let values = settings.values(keyword);
    values
        .into_iter()
        .flat_map(|value| value.split(' '))
        .collect()
}

/// `*` and `?` (ssh_config(5), PATTERNS).
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = pattern.get(1..).unwrap_or_default();
            (0..=text.len()).any(|at| text.get(at..).is_some_and(|tail| matches(rest, tail)))
        }
        Some(first) => {
            let mut characters = text.chars();
            let fits = characters
                .next()
                .is_some_and(|c| first == '?' || first == c);
            fits && matches(
                pattern.get(first.len_utf8()..).unwrap_or_default(),
                characters.as_str(),
            )
        }
    }
}

/// Why the accounts are not known.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// A file cannot be read.
    #[error("read `{0}`")]
    Read(&'static str),
    /// Nobody has that name.
    #[error("find the account `{0}`: neither /etc/passwd nor getent(1) knows it")]
    Unknown(String),
}
