//! sshd's effective settings for one account: what would refuse it whatever it shows.

use super::account::Account;
use super::finding::Findings;
use crate::sshd::Settings;
use crate::sshd::config_file::matches;

/// Looks at the settings in sshd's order: names and groups first (auth.c allowed_user), then root, then methods.
pub(super) fn examine(account: &Account, settings: &Settings, findings: &mut Findings) {
    lists(account, settings, findings);
    root(account, settings, findings);
    if settings.values("PubkeyAuthentication") == ["no"] {
        findings.bad(
            "sshd",
            "PubkeyAuthentication is off: neither keys nor certificates count",
            "PubkeyAuthentication yes",
        );
    }
    let methods = settings.values("AuthenticationMethods").join(" ");
    let alone = methods.is_empty()
        || methods
            .split(' ')
            .any(|list| list == "any" || list == "publickey");
    if !alone {
        findings.note(
            "sshd",
            format!("a key or certificate alone is not enough: AuthenticationMethods {methods}"),
        );
    }
}

fn lists(account: &Account, settings: &Settings, findings: &mut Findings) {
    let user = [account.name.clone()];
    let checks = [
        ("DenyUsers", &user[..], false),
        ("AllowUsers", &user[..], true),
        ("DenyGroups", &account.groups[..], false),
        ("AllowGroups", &account.groups[..], true),
    ];
    for (keyword, names, must_match) in checks {
        let patterns: Vec<&str> = settings
            .values(keyword)
            .iter()
            .flat_map(|value| value.split(' '))
            .collect();
        let found = patterns
            .iter()
            .find(|p| names.iter().any(|name| fits(p, name)));
        match (must_match, found) {
            (true, None) if !patterns.is_empty() => findings.bad(
                "sshd",
                format!(
                    "{keyword} {} does not name {}",
                    patterns.join(" "),
                    account.name
                ),
                &format!("add it to {keyword}"),
            ),
            (false, Some(pattern)) if !pattern.contains('@') => findings.bad(
                "sshd",
                format!("{keyword} {pattern} keeps {} out", account.name),
                &format!("take it out of {keyword}"),
            ),
            (_, Some(pattern)) if pattern.contains('@') => {
                findings.note(
                    "sshd",
                    format!("{keyword} {pattern} depends on where the client is"),
                );
            }
            _ => {}
        }
    }
}

/// `USER` or `USER@HOST`, with wildcards (ssh_config(5), PATTERNS); the host part is the connection's.
fn fits(pattern: &str, name: &str) -> bool {
    let user = pattern.rsplit_once('@').map_or(pattern, |(user, _)| user);
    matches(user, name)
}

fn root(account: &Account, settings: &Settings, findings: &mut Findings) {
    if account.uid != 0 {
        return;
    }
    match settings.values("PermitRootLogin").first().copied() {
        Some("no") => findings.bad(
            "sshd",
            "PermitRootLogin is off",
            "log in as another account, or PermitRootLogin prohibit-password",
        ),
        Some("forced-commands-only") => findings.note(
            "sshd",
            "PermitRootLogin forced-commands-only: root's key or certificate needs a forced command",
        ),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(name: &str, uid: u32, settings: &str) -> String {
        let account = Account {
            name: name.to_owned(),
            uid,
            home: "/h".into(),
            shell: "/bin/sh".into(),
            groups: vec!["staff".to_owned(), "web".to_owned()],
        };
        let mut findings = Findings::default();
        examine(&account, &Settings::parse(settings), &mut findings);
        findings.judged(false).text
    }

    #[test]
    fn lists_that_keep_the_account_out_are_found() {
        for settings in [
            "denyusers al*\n",
            "denyusers bob\ndenyusers alice\n",
            "allowusers bob\n",
            "denygroups web\n",
            "allowgroups admins\n",
            "pubkeyauthentication no\n",
        ] {
            assert!(
                verdict("alice", 1000, settings).contains("FAIL sshd: "),
                "{settings}"
            );
        }
        assert!(verdict("root", 0, "permitrootlogin no\n").contains("FAIL sshd: PermitRootLogin"));
    }

    #[test]
    fn lists_that_let_it_in_are_silent_and_conditions_are_told() {
        for settings in [
            "allowusers alice\n",
            "allowusers bob\nallowusers a?ice\n",
            "allowgroups sta*\n",
            "denyusers bob\n",
            "permitrootlogin no\n",
            "authenticationmethods any\n",
        ] {
            assert!(
                !verdict("alice", 1000, settings).contains("sshd: "),
                "{settings}"
            );
        }
        for settings in [
            "denyusers alice@192.0.2.*\n",
            "allowusers alice@192.0.2.*\n",
            "authenticationmethods publickey,password\n",
        ] {
            assert!(
                verdict("alice", 1000, settings).contains("note sshd: "),
                "{settings}"
            );
        }
    }
}
