//! The unprivileged account that sshd runs the commands as, and the accounts that can log in.

use std::process::Command;
use std::time::Duration;

use super::units;
use crate::child;
use crate::clock::Deadline;
pub(super) use crate::passwd::{Account, read};

/// Which account the commands, or the service, will run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CommandUser {
    Existing(Account),
    ToCreate(&'static str),
}

impl CommandUser {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Existing(account) => &account.name,
            Self::ToCreate(name) => name,
        }
    }

    /// The account to be made.
    pub(super) fn missing(&self) -> Option<&'static str> {
        match self {
            Self::Existing(_) => None,
            Self::ToCreate(name) => Some(name),
        }
    }
}

/// The account that was asked for, or our own, which is made where it is missing.
pub(super) fn choose(
    asked: Option<&str>,
    accounts: &[Account],
) -> Result<CommandUser, AccountError> {
    let find = |name: &str| {
        accounts
            .iter()
            .find(|account| account.name == name)
            .cloned()
    };
    let chosen = match asked {
        Some(name) => {
            find(name).ok_or_else(|| AccountError::Missing(eic_protocol::text::printable(name)))?
        }
        None => match find(units::USER) {
            Some(account) => account,
            None => return Ok(CommandUser::ToCreate(units::USER)),
        },
    };
    // As root a mistake in the commands would be a mistake of root.
    if chosen.uid == 0 {
        Err(AccountError::Root(chosen.name))
    } else {
        Ok(CommandUser::Existing(chosen))
    }
}

/// root and a few people: the accounts for which sshd's effective settings are looked at.
pub(crate) fn samples(accounts: &[Account]) -> Vec<String> {
    let people = accounts
        .iter()
        .filter(|account| (1000..60_000).contains(&account.uid))
        .take(8);
    std::iter::once("root".to_owned())
        .chain(people.map(|account| account.name.clone()))
        .collect()
}

pub(super) fn create(name: &str) -> Result<(), AccountError> {
    let options = [
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        "/nonexistent",
        "--shell",
        "/usr/sbin/nologin",
    ];
    run("useradd", &[options.as_slice(), &[name]].concat())
}

/// Removes an account; one that is gone already is no failure. One that a login's command is still running
/// as is waited for: such a command ends within seconds.
pub(super) fn delete(name: &str) -> Result<(), AccountError> {
    let deadline = Deadline::after(IN_USE_LIMIT);
    loop {
        match run("userdel", &[name]) {
            Err(AccountError::Refused { code, .. }) if code == Some(NO_SUCH_ACCOUNT) => {
                return Ok(());
            }
            Err(AccountError::Refused { code, .. })
                if code == Some(IN_USE) && deadline.remaining().is_some() =>
            {
                std::thread::sleep(IN_USE_PAUSE);
            }
            other => return other,
        }
    }
}

/// userdel(8): "specified user doesn't exist".
const NO_SUCH_ACCOUNT: i32 = 6;
/// userdel(8): "user currently logged in", which any process of the user's counts as.
const IN_USE: i32 = 8;
const IN_USE_LIMIT: Duration = Duration::from_secs(10);
const IN_USE_PAUSE: Duration = Duration::from_millis(50);

fn run(program: &'static str, arguments: &[&str]) -> Result<(), AccountError> {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", child::PATH)
        .output()
        .map_err(|source| AccountError::Program { program, source })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(AccountError::Refused {
        program,
        code: output.status.code(),
        complaint,
    })
}

/// Why there is no account for the commands.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// `--command-user` or `[service] user` names nobody.
    #[error("run as `{0}`: there is no such account in /etc/passwd, make it first")]
    Missing(String),
    /// It is root, or a second name of root.
    #[error("run as `{0}`: it is uid 0, name an unprivileged account")]
    Root(String),
    /// useradd or userdel could not be started.
    #[error("run {program}: is it installed?")]
    Program {
        /// Which.
        program: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// useradd or userdel failed.
    #[error("change the accounts: {program} said `{complaint}`")]
    Refused {
        /// Which.
        program: &'static str,
        /// Its exit code.
        code: Option<i32>,
        /// Its words.
        complaint: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, uid: u32) -> Account {
        Account {
            name: name.to_owned(),
            uid,
            gid: uid,
            home: "/".into(),
        }
    }

    #[test]
    fn root_under_any_name_and_strangers_are_refused() {
        let accounts = [account("root", 0), account("toor", 0)];
        assert!(matches!(
            choose(Some("root"), &accounts),
            Err(AccountError::Root(_))
        ));
        assert!(matches!(
            choose(Some("toor"), &accounts),
            Err(AccountError::Root(_))
        ));
        assert!(matches!(
            choose(Some("none"), &accounts),
            Err(AccountError::Missing(_))
        ));
        assert!(matches!(
            choose(None, &[account("eic", 0)]),
            Err(AccountError::Root(_))
        ));
    }

    #[test]
    fn an_account_of_another_package_is_taken_only_where_it_is_asked_for() {
        let (eic, ec2) = (account("eic", 990), account("ec2-instance-connect", 991));
        let chosen = |asked, accounts: &[Account]| choose(asked, accounts).unwrap();
        let amazons = std::slice::from_ref(&ec2);
        assert_eq!(chosen(None, amazons), CommandUser::ToCreate("eic"));
        let both = [ec2.clone(), eic.clone()];
        assert_eq!(chosen(None, &both), CommandUser::Existing(eic));
        let asked = chosen(Some("ec2-instance-connect"), amazons);
        assert_eq!(asked, CommandUser::Existing(ec2));
    }

    #[test]
    fn effective_settings_are_looked_at_for_root_and_people() {
        let accounts = [
            account("root", 0),
            account("daemon", 1),
            account("alice", 1000),
            account("nobody", 65534),
        ];
        assert_eq!(samples(&accounts), ["root", "alice"]);
    }
}
