//! The ways in that sshd's effective configuration leaves open (`sshd -T`): for the report, not for a decision.

use std::collections::BTreeSet;

use eic_protocol::api::host_report::WayIn;
use eic_protocol::trust::host_view::Stage;

use crate::sshd::Settings;

/// What sshd accepts. `stage` is the host view's, `chained` whether further keys commands are configured.
pub(super) fn of(settings: &Settings, stage: Option<Stage>, chained: bool) -> BTreeSet<WayIn> {
    let mut ways = BTreeSet::new();
    if is_on(settings, "pubkeyauthentication") {
        ways.extend(certificates(settings));
        ways.extend(keys_command(settings, stage, chained));
        ways.extend(key_files(settings));
    }
    let switches = [
        ("passwordauthentication", WayIn::Password),
        ("kbdinteractiveauthentication", WayIn::KeyboardInteractive),
        (
            "challengeresponseauthentication",
            WayIn::KeyboardInteractive,
        ),
        ("hostbasedauthentication", WayIn::HostBased),
        ("gssapiauthentication", WayIn::Gssapi),
    ];
    let on = switches
        .into_iter()
        .filter(|(keyword, _)| is_on(settings, keyword));
    ways.extend(on.map(|(_, way)| way));
    ways
}

fn is_on(settings: &Settings, keyword: &str) -> bool {
    settings.values(keyword).contains(&"yes")
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
