//! The ways in that sshd's effective configuration leaves open (`sshd -T`): for the report, not for a decision.

use std::collections::BTreeSet;

use eic_protocol::api::host_report::WayIn;
use eic_protocol::trust::host_view::Stage;

use crate::sshd::Settings;

/// What sshd accepts. `stage` is the host view's, `chained` whether further keys commands are configured.
pub(super) fn of(settings: &Settings, stage: Option<Stage>, chained: bool) -> BTreeSet<WayIn> {
    let mut ways = BTreeSet::new();
    if opens(settings, PUBLIC_KEY) {
        ways.extend(certificates(settings));
        ways.extend(keys_command(settings, stage, chained));
        ways.extend(key_files(settings));
    }
    let others = [
        ("password", WayIn::Password),
        ("keyboard-interactive", WayIn::KeyboardInteractive),
        ("hostbased", WayIn::HostBased),
        ("gssapi-with-mic", WayIn::Gssapi),
    ];
    let open = others
        .into_iter()
        .filter(|(method, _)| opens(settings, method));
    ways.extend(open.map(|(_, way)| way));
    ways
}

/// The method that certificates and keys go by.
const PUBLIC_KEY: &str = "publickey";

/// Whether a method lets somebody in. Where AuthenticationMethods names several together, one by a key is a way in by
/// key: what must come beside it opens nothing by itself.
fn opens(settings: &Settings, method: &str) -> bool {
    if !is_on(settings, method) {
        return false;
    }
    let lists = settings.values("authenticationmethods");
    let mut lists = lists.iter().flat_map(|line| line.split_whitespace());
    let all: Vec<Vec<&str>> = lists.by_ref().map(methods).collect();
    let counts = |list: &Vec<&str>| {
        let by_key = list.contains(&PUBLIC_KEY);
        let is_usable = list.iter().all(|method| is_on(settings, method));
        list.contains(&method) && is_usable && (method == PUBLIC_KEY || !by_key)
    };
    all.is_empty() || all.iter().any(|list| list == &["any"] || counts(list))
}

/// The methods of one list, without their devices (`keyboard-interactive:pam`).
fn methods(list: &str) -> Vec<&str> {
    let names = list.split(',');
    names
        .map(|name| name.split(':').next().unwrap_or(name))
        .collect()
}

/// Whether a method is switched on.
fn is_on(settings: &Settings, method: &str) -> bool {
    let keywords: &[&str] = match method {
        PUBLIC_KEY => &["pubkeyauthentication"],
        "password" => &["passwordauthentication"],
        // The second name is that of sshd before 8.7.
        "keyboard-interactive" => &[
            "kbdinteractiveauthentication",
            "challengeresponseauthentication",
        ],
        "hostbased" => &["hostbasedauthentication"],
        "gssapi-with-mic" => &["gssapiauthentication"],
        _ => &[],
    };
    let says_yes = |keyword: &&str| settings.values(keyword).contains(&"yes");
    keywords.iter().any(says_yes)
}

fn certificates(settings: &Settings) -> Option<WayIn> {
    if settings.values("trustedusercakeys").is_empty() {
        return None;
    }
    let command = settings.values("authorizedprincipalscommand");
    let ours = command
        .iter()
        .any(|line| line.contains(" authorized-principals"));
    Some(if ours {
        WayIn::Certificates
    } else {
        WayIn::OtherCertificates
    })
}

fn keys_command(settings: &Settings, stage: Option<Stage>, chained: bool) -> Vec<WayIn> {
    let commands = settings.values("authorizedkeyscommand");
    let Some(command) = commands.first() else {
        return Vec::new();
    };
    let ours = command.contains(" authorized-keys");
    let official = command.contains("eic_run_authorized_keys");
    let pushed = official || (ours && stage != Some(Stage::CertificatesOnly));
    let others = (ours && chained) || !(ours || official);
    let ways = [
        (pushed, WayIn::InstanceConnect),
        (others, WayIn::OtherKeysCommand),
    ];
    ways.into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, way)| way)
        .collect()
}

/// A path below a home folder, or relative to it, is the user's own to write.
fn key_files(settings: &Settings) -> Vec<WayIn> {
    let files = settings.values("authorizedkeysfile");
    let mut words = files.iter().flat_map(|line| line.split_whitespace());
    let users =
        |word: &str| !word.starts_with('/') || word.contains("%h") || word.starts_with("/home/");
    let all: Vec<&str> = words.by_ref().filter(|word| *word != "none").collect();
    let ways = [
        (all.iter().any(|word| users(word)), WayIn::UserKeyFiles),
        (all.iter().any(|word| !users(word)), WayIn::KeyFiles),
    ];
    ways.into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, way)| way)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(text: &str, stage: Option<Stage>) -> Vec<&'static str> {
        let ways = of(&Settings::parse(text), stage, false);
        ways.iter().map(|way| way.as_str()).collect()
    }

    #[test]
    fn what_is_switched_off_is_no_way_in() {
        let text = "pubkeyauthentication no\ntrustedusercakeys /k\nauthorizedkeysfile .ssh/authorized_keys\npasswordauthentication no\n";
        assert!(ways(text, None).is_empty());
    }

    #[test]
    fn what_authentication_methods_leave_out_is_no_way_in() {
        let on = "pubkeyauthentication yes\nauthorizedkeysfile .ssh/authorized_keys\npasswordauthentication yes\nkbdinteractiveauthentication yes\nhostbasedauthentication no\n";
        let with = |methods: &str| ways(&format!("{on}authenticationmethods {methods}\n"), None);
        assert_eq!(
            with("any"),
            ["user-key-files", "password", "keyboard-interactive"]
        );
        assert_eq!(with("publickey"), ["user-key-files"]);
        assert_eq!(with("publickey,password"), ["user-key-files"]);
        assert_eq!(
            with("publickey,password keyboard-interactive:pam"),
            ["user-key-files", "keyboard-interactive"]
        );
        assert_eq!(with("password,keyboard-interactive").len(), 2);
        // One that is off makes its whole list useless.
        assert!(with("hostbased,publickey").is_empty());
    }

    #[test]
    fn each_way_is_told() {
        let text = "pubkeyauthentication yes\ntrustedusercakeys /k\nauthorizedprincipalscommand /usr/local/bin/eic-agent authorized-principals %u %F\nauthorizedkeyscommand /usr/local/bin/eic-agent authorized-keys %u %f\nauthorizedkeysfile .ssh/authorized_keys /etc/keys/%u\npasswordauthentication yes\n";
        let all = [
            "certificates",
            "instance-connect",
            "key-files",
            "user-key-files",
            "password",
        ];
        assert_eq!(ways(text, Some(Stage::Hybrid)), all);
        assert!(!ways(text, Some(Stage::CertificatesOnly)).contains(&"instance-connect"));
        let other = "pubkeyauthentication yes\ntrustedusercakeys /k\nauthorizedkeyscommand /usr/bin/sss_ssh_authorizedkeys\n";
        assert_eq!(
            ways(other, None),
            ["other-certificates", "other-keys-command"]
        );
    }
}
