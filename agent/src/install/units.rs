//! The units of this agent's own service: fitted to the accounts of this host by drop-ins, enabled where `--ca`
//! names a CA for them and they are there, disabled again by `uninstall`. Logins rest on none of them, so whatever
//! goes wrong here is a remark.

use std::path::{Path, PathBuf};

use super::accounts::{self, Account, AccountError, CommandUser};
use super::manifest::Manifest;
use super::systemd::{self, FOLDERS, SystemctlError};
use super::{InstallOptions, SshdOptions};
use crate::config::Config;

const HELPER: &str = "eic-agent-helper.socket";
const SERVICE: &str = "eic-agent.service";
const HARVEST: &str = "eic-agent-harvest.service";
/// The helper's door for chained commands of other users.
const LOGINS: &str = "eic-agent-logins.socket";
/// What systemd has started behind that door.
const LOGINS_SERVICE: &str = "eic-agent-logins.service";
/// The account that the units name.
pub(super) const USER: &str = "eic";

/// Our drop-in of a unit.
const NAME: &str = "eic-accounts.conf";
const HEADER: &str = "# Written by `eic-agent install`; `eic-agent uninstall` takes it back.\n";

/// What an installation does about these units.
#[derive(Debug)]
pub(super) struct Units {
    /// What `--ca` has enabled.
    pub(super) enabled: Vec<String>,
    /// Those of them that are not enabled yet, and so are ours to disable again.
    pub(super) new: Vec<String>,
    /// Drop-ins of the units that are there, for accounts of other names than the units have.
    pub(super) drop_ins: Vec<(PathBuf, String)>,
    /// The service's account, where it must be made.
    pub(super) account: Option<&'static str>,
}

impl Units {
    /// Looks; changes nothing.
    ///
    /// # Errors
    /// `[service] user` is no account, or root's.
    pub(super) fn plan(
        options: &InstallOptions,
        config: &Config,
        accounts: &[Account],
        command_user: &CommandUser,
    ) -> Result<Self, AccountError> {
        let enabled = enabled(options, config);
        let service = account(config, accounts)?;
        let is_new = |unit: &&String| !systemd::is_there() || !systemd::says("is-enabled", unit);
        Ok(Self {
            new: enabled.iter().filter(is_new).cloned().collect(),
            enabled,
            drop_ins: drop_ins(service.as_ref(), command_user),
            account: service.as_ref().and_then(CommandUser::missing),
        })
    }
}

fn enabled(options: &InstallOptions, config: &Config) -> Vec<String> {
    if options.ca.is_none() {
        return Vec::new();
    }
    let mut commands = config.authorized_keys.command.iter();
    let logins = commands.any(|command| command.user.is_some());
    let units = [HELPER, SERVICE]
        .into_iter()
        .chain(logins.then_some(LOGINS));
    units.map(str::to_owned).collect()
}

/// Whom the service runs as, where the configuration has one: `[service] user`, or the units' own account. Not by
/// `--ca`: a later run without it must leave a service of another account as it is.
fn account(config: &Config, accounts: &[Account]) -> Result<Option<CommandUser>, AccountError> {
    let user = config.service.user.as_str();
    if config.service.ca.is_none() && user == USER {
        return Ok(None);
    }
    let asked = (user != USER).then_some(user);
    accounts::choose(asked, accounts).map(Some)
}

fn drop_ins(service: Option<&CommandUser>, command_user: &CommandUser) -> Vec<(PathBuf, String)> {
    let is_there = |(unit, _): &(&str, String)| systemd::is_installed(unit);
    texts(service, command_user)
        .into_iter()
        .filter(is_there)
        .map(|(unit, text)| (systemd::drop_in(unit, NAME), text))
        .collect()
}

/// Numbers: a name could hold what systemd would expand.
fn texts(service: Option<&CommandUser>, command_user: &CommandUser) -> Vec<(&'static str, String)> {
    let socket = |a: &Account| format!("{HEADER}[Socket]\nSocketGroup={}\n", a.gid);
    let runs = |a: &Account| format!("{HEADER}[Service]\nUser={}\nGroup={}\n", a.uid, a.gid);
    let mut texts = Vec::new();
    if let Some(account) = of_another_name(command_user) {
        texts.push((LOGINS, socket(account)));
    }
    if let Some(account) = service.and_then(of_another_name) {
        texts.push((HELPER, socket(account)));
        texts.extend([SERVICE, HARVEST].map(|unit| (unit, runs(account))));
    }
    texts
}

fn of_another_name(user: &CommandUser) -> Option<&Account> {
    match user {
        CommandUser::Existing(account) if account.name != USER => Some(account),
        _ => None,
    }
}

/// Whether a path is one of our drop-ins for these units.
pub(super) fn is_drop_in(path: &Path) -> bool {
    let [top, ..] = FOLDERS;
    path.file_name().is_some_and(|name| name == NAME) && path.starts_with(top)
}

/// Enables and starts `units`, those with a `changed` drop-in anew; says what was done, or why not and what to do.
pub(super) fn enable(units: &[String], changed: &[&Path], sshd: &SshdOptions) -> Option<String> {
    if units.is_empty() && (changed.is_empty() || !systemd::is_there()) {
        return None;
    }
    let commands = commands(units, changed);
    let by_hand = by_hand(&commands);
    let reason = match obstacle(units, sshd) {
        Some(reason) => reason,
        None => match ask(&commands) {
            Ok(()) => return Some(format!("{by_hand}\n")),
            Err(refused) => refused.to_string(),
        },
    };
    let what = match units.is_empty() {
        true => "systemd was not told of the units' accounts",
        false => "the service was not enabled",
    };
    Some(format!("note: {what} ({reason}); then: {by_hand}\n"))
}

fn obstacle(units: &[String], sshd: &SshdOptions) -> Option<String> {
    if !sshd.reload {
        return Some("--no-reload".to_owned());
    }
    if !systemd::is_there() {
        let instead = "start `eic-agent helper --listen` and `eic-agent run`";
        return Some(format!("there is no systemd; {instead}"));
    }
    let unit = units.iter().find(|unit| !systemd::is_installed(unit))?;
    let folders = FOLDERS.join(", ");
    Some(format!(
        "{unit} is not in {folders}: put it there and run this again"
    ))
}

/// What systemctl is asked for, each time in words; the same is told where nobody asks it.
///
/// What runs with the old account or group runs with the new one. A socket does not start beside a running service
/// of its own; this one is started again by the next login.
fn commands<'a>(units: &'a [String], changed: &[&'a Path]) -> Vec<Vec<&'a str>> {
    let mut commands = Vec::new();
    let fitted: Vec<&str> = changed.iter().filter_map(|path| unit_of(path)).collect();
    if !fitted.is_empty() {
        commands.push(vec!["daemon-reload"]);
        if fitted.contains(&LOGINS) && systemd::is_installed(LOGINS_SERVICE) {
            commands.push(vec!["stop", LOGINS_SERVICE]);
        }
        commands.push([&["try-restart"], fitted.as_slice()].concat());
    }
    if !units.is_empty() {
        let units = units.iter().map(String::as_str);
        commands.push(["enable", "--now"].into_iter().chain(units).collect());
    }
    commands
}

fn by_hand(commands: &[Vec<&str>]) -> String {
    let line = |words: &Vec<&str>| format!("systemctl {}", words.join(" "));
    commands.iter().map(line).collect::<Vec<_>>().join(" && ")
}

fn ask(commands: &[Vec<&str>]) -> Result<(), SystemctlError> {
    commands.iter().try_for_each(|words| systemd::run(words))
}

fn unit_of(drop_in: &Path) -> Option<&str> {
    let folder = drop_in.parent()?.file_name()?;
    folder.to_str()?.strip_suffix(".d")
}

/// The units that go with an installation: those that it enabled and, with the account that they name, every other
/// that is enabled or runs.
pub(super) fn leaving(manifest: &Manifest) -> Vec<String> {
    let mut units = manifest.units.clone();
    if manifest.account.is_none() || !systemd::is_there() {
        return units;
    }
    let is_used = |unit: &&str| {
        let questions = ["is-enabled", "is-active"];
        systemd::is_installed(unit) && questions.iter().any(|asks| systemd::says(asks, unit))
    };
    let others = [HELPER, SERVICE, HARVEST, LOGINS].map(str::to_owned);
    let others = others.into_iter().filter(|unit| is_used(&unit.as_str()));
    let others: Vec<String> = others.filter(|unit| !units.contains(unit)).collect();
    units.extend(others);
    units
}

/// Stops and disables units that go with an installation, and forgets its drop-ins; the reason where that failed.
pub(super) fn disable(units: &[String], had_drop_ins: bool) -> Option<String> {
    if !systemd::is_there() {
        return None;
    }
    let there = units.iter().map(String::as_str);
    let there: Vec<&str> = there.filter(|unit| systemd::is_installed(unit)).collect();
    let disabled = match there.as_slice() {
        [] => Ok(()),
        there => systemd::run(&[&["disable", "--now"], there].concat()),
    };
    let reread = match had_drop_ins {
        true => systemd::run(&["daemon-reload"]),
        false => Ok(()),
    };
    disabled
        .and(reread)
        .err()
        .map(|refused| refused.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, uid: u32, gid: u32) -> CommandUser {
        CommandUser::Existing(Account {
            name: name.to_owned(),
            uid,
            gid,
            home: "/".into(),
        })
    }

    #[test]
    fn accounts_of_the_units_own_name_need_no_drop_in() {
        for eic in [account(USER, 990, 990), CommandUser::ToCreate(USER)] {
            assert_eq!(texts(Some(&eic), &eic), []);
        }
    }

    #[test]
    fn each_unit_that_names_another_account_gets_its_numbers() {
        let (service, command) = (account("svc", 7, 70), account("keys", 8, 80));
        let all = texts(Some(&service), &command);
        let lines = |unit: &str| {
            let text = all.iter().find(|(name, _)| *name == unit).unwrap();
            text.1.strip_prefix(HEADER).unwrap().to_owned()
        };
        assert_eq!(lines(LOGINS), "[Socket]\nSocketGroup=80\n");
        assert_eq!(lines(HELPER), "[Socket]\nSocketGroup=70\n");
        for unit in [SERVICE, HARVEST] {
            assert_eq!(lines(unit), "[Service]\nUser=7\nGroup=70\n");
        }
    }

    #[test]
    fn drop_ins_of_others_are_not_ours() {
        let own = systemd::drop_in(LOGINS, NAME);
        assert!(is_drop_in(&own));
        assert_eq!(unit_of(&own), Some(LOGINS));
        for other in [
            "/etc/systemd/system/x.service.d/zz-eic.conf",
            "/usr/lib/systemd/system/x.service.d/eic-accounts.conf",
        ] {
            assert!(!is_drop_in(Path::new(other)), "{other}");
        }
    }
}
