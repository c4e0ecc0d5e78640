//! The ways in that are no key in a file: commands, passwords, PAM, other hosts, Kerberos.

use std::path::Path;

use super::account::{Account, Password};
use super::{Kind, WayIn};
use crate::chained::ChainedCommand;
use crate::chained::elsewhere::has_door;
use crate::config::Config;
use crate::official::Program;
use crate::sshd::Settings;
use crate::trusted_file::Trusted;

/// Whether a yes-or-no setting says yes.
pub(super) fn is_on(settings: &Settings, keyword: &str) -> bool {
    settings.values(keyword) == ["yes"]
}

/// AuthorizedKeysCommand and AuthorizedPrincipalsCommand; this agent's own with what it asks in turn.
pub(super) fn commands(settings: &Settings, config: &Config) -> Vec<WayIn> {
    let mut ways = Vec::new();
    for keyword in ["AuthorizedKeysCommand", "AuthorizedPrincipalsCommand"] {
        for command in settings.values(keyword) {
            let user = format!("{keyword}User");
            let user = settings
                .values(&user)
                .first()
                .copied()
                .unwrap_or("nobody")
                .to_owned();
            let unsafe_path = not_run(command);
            let from = format!("{keyword}, run as {user}");
            ways.push(WayIn::new(Kind::Command, command, from).blocked(unsafe_path.clone()));
            if keyword == "AuthorizedKeysCommand" && is_ours(command) {
                ways.extend(
                    asked_in_turn(config)
                        .into_iter()
                        .map(|way| way.blocked(unsafe_path.clone())),
                );
            }
        }
    }
    ways
}

/// sshd runs only what root alone could have put there.
fn not_run(command: &str) -> Option<String> {
    let program = command.split(' ').next().unwrap_or_default();
    let safe = Trusted::system().check(Path::new(program));
    safe.err()
        .map(|e| format!("sshd does not run it: failed to {e}"))
}

fn is_ours(command: &str) -> bool {
    let program = command.split(' ').next().unwrap_or_default();
    let name = Path::new(program).file_name();
    name.is_some_and(|name| name == "eic-agent" || Program::named(name).is_some())
}

fn asked_in_turn(config: &Config) -> Vec<WayIn> {
    let instance_connect = WayIn::new(
        Kind::Key,
        "any key that EC2 Instance Connect holds for the account, for 60 seconds",
        "instance metadata",
    );
    let chained = config.authorized_keys.command.iter().map(|command| {
        let user = command.user.as_ref();
        let user = user
            .map(|user| format!(", run as {user}"))
            .unwrap_or_default();
        let what = format!("{} ({}){user}", command.name, command.program.display());
        let not_run =
            not_run(&command.program.to_string_lossy()).or_else(|| without_helper(command, config));
        WayIn::new(Kind::Command, what, "[[authorized_keys.command]]").blocked(not_run)
    });
    std::iter::once(instance_connect).chain(chained).collect()
}

/// Why a command of another user is not run, where that is so.
pub(super) fn without_helper(command: &ChainedCommand, config: &Config) -> Option<String> {
    let door = &config.service.logins;
    (command.user.is_some() && !has_door(door)).then(|| {
        format!(
            "it needs the root helper, and there is no {}: systemctl enable --now eic-agent-logins.socket",
            door.display()
        )
    })
}

/// Every command of another user that is not run, with the reason: logins by certificate do not rest on them.
pub(crate) fn closed_commands(config: &Config) -> impl Iterator<Item = String> {
    let commands = config.authorized_keys.command.iter();
    commands.filter_map(|command| {
        let reason = without_helper(command, config)?;
        Some(format!(
            "the keys command `{}` gives no keys: {reason}",
            command.name
        ))
    })
}

/// What needs no key at all.
pub(super) fn without_keys(account: &Account, settings: &Settings) -> Vec<WayIn> {
    let mut ways = Vec::new();
    if is_on(settings, "PasswordAuthentication") {
        ways.extend(password(account, settings));
    }
    let by_keyboard = [
        "KbdInteractiveAuthentication",
        "ChallengeResponseAuthentication",
    ];
    if let Some(keyword) = by_keyboard
        .into_iter()
        .find(|keyword| is_on(settings, keyword))
    {
        let no_pam = (!is_on(settings, "UsePAM")).then(|| "UsePAM is `no`".to_owned());
        ways.push(
            WayIn::new(Kind::KeyboardInteractive, "whatever PAM asks", keyword).blocked(no_pam),
        );
    }
    let others = [
        (
            "HostbasedAuthentication",
            Kind::HostBased,
            "the hosts of shosts.equiv, and of .shosts unless IgnoreRhosts",
        ),
        (
            "GSSAPIAuthentication",
            Kind::Kerberos,
            "a ticket for the account, or a principal of its .k5login",
        ),
        (
            "KerberosAuthentication",
            Kind::Kerberos,
            "the account's Kerberos password",
        ),
    ];
    let on = others
        .into_iter()
        .filter(|(keyword, ..)| is_on(settings, keyword));
    ways.extend(on.map(|(keyword, kind, what)| WayIn::new(kind, what, keyword)));
    ways
}

fn password(account: &Account, settings: &Settings) -> Option<WayIn> {
    let way = |what, blocked: Option<&str>| {
        let way = WayIn::new(Kind::Password, what, "/etc/shadow, PasswordAuthentication");
        Some(way.blocked(blocked.map(str::to_owned)))
    };
    match account.password {
        Password::Set => way("its password", None),
        Password::Empty if is_on(settings, "PermitEmptyPasswords") => {
            way("an EMPTY password", None)
        }
        Password::Empty => way("an EMPTY password", Some("PermitEmptyPasswords is `no`")),
        Password::Locked | Password::None => None,
    }
}

/// What narrows or widens every way, and cannot be told from here.
pub(super) fn remarks(settings: &Settings) -> Vec<String> {
    let mut remarks = Vec::new();
    for file in settings.values("RevokedKeys") {
        remarks.push(format!(
            "keys and certificates that `{file}` revokes are refused all the same (RevokedKeys)"
        ));
    }
    for methods in settings.values("AuthenticationMethods") {
        if methods != "any" {
            remarks.push(format!(
                "AuthenticationMethods `{methods}`: one way may not be enough"
            ));
        }
    }
    if is_on(settings, "UsePAM") && is_on(settings, "PasswordAuthentication") {
        remarks.push("PAM decides about passwords: accounts of a directory service may have one that is not in /etc/shadow".to_owned());
    }
    remarks
}
