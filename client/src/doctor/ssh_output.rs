//! ssh's own account of a failed login (`ssh -v`, OpenSSH 8.5 to 10.x), read for the one cause in it.

use crate::cause::Cause;
use crate::exit_code::{self, Failure};
use crate::terminal::cause_mark;

/// Words of ssh and of sshd's answers, the most telling first, and what they mean.
const WORDS: [(&str, Cause); 22] = [
    ("Bad configuration option", Cause::SshConfiguration),
    ("bad configuration options", Cause::SshConfiguration),
    ("Bad owner or permissions on", Cause::SshConfiguration),
    ("no matching host key type found", Cause::NoCommonAlgorithm),
    (
        "no matching key exchange method found",
        Cause::NoCommonAlgorithm,
    ),
    ("no matching cipher found", Cause::NoCommonAlgorithm),
    ("no mutual signature algorithm", Cause::NoCommonAlgorithm),
    ("Too many authentication failures", Cause::TooManyKeys),
    ("System is booting up", Cause::Booting),
    ("System is going down", Cause::Booting),
    ("pam_nologin", Cause::Booting),
    ("account is currently not available", Cause::AccountClosed),
    ("account has expired", Cause::AccountClosed),
    ("account is locked", Cause::AccountClosed),
    ("password has expired", Cause::AccountClosed),
    ("Host key verification failed", Cause::HostCertificate),
    ("Connection refused", Cause::Refused),
    ("No route to host", Cause::TimedOut),
    ("timed out", Cause::TimedOut),
    ("Could not resolve hostname", Cause::NotSetUp),
    ("kex_exchange_identification:", Cause::ClosedEarly),
    ("banner exchange:", Cause::ClosedEarly),
];

/// The cause of a login that failed. `nonce` is the word that our own commands were told: the host's lines (its banner,
/// what it writes before it closes) are among ssh's, and may look like ours.
pub(super) fn diagnose(said: &str, nonce: &str) -> Failure {
    // Our own commands' words come first: they know more than ssh does.
    if let Some(failure) = of_our_own(said, nonce) {
        return failure;
    }
    if let Some((line, cause)) = of_ssh(said) {
        return failed(line, cause);
    }
    if let Some(line) = find(said, "Permission denied (") {
        return failed(line, refused_by_sshd(said));
    }
    let authenticated = find(said, "Authenticated to").is_some();
    let last = said
        .lines()
        .rfind(|line| !line.starts_with("debug") && !line.trim().is_empty());
    let line = last.unwrap_or("ssh ended without a word");
    let cause = if authenticated {
        Cause::AccountClosed
    } else if line.contains("Connection closed") || line.contains("Connection reset") {
        Cause::ClosedEarly
    } else {
        Cause::Other
    };
    failed(line, cause)
}

fn of_our_own(said: &str, nonce: &str) -> Option<Failure> {
    let mark = cause_mark(nonce);
    let lines: Vec<&str> = said.lines().collect();
    let marks = lines.iter().enumerate();
    let (at, word) = marks
        .rev()
        .find_map(|(at, line)| Some((at, line.strip_prefix(&*mark)?.trim())))?;
    let cause = Cause::ALL.iter().find(|cause| cause.as_str() == word)?;
    let before = at.checked_sub(1).and_then(|at| lines.get(at));
    let message = before.and_then(|line| line.strip_prefix("eic-login: "));
    Some(failed(message.unwrap_or(word), *cause))
}

fn of_ssh(said: &str) -> Option<(&str, Cause)> {
    WORDS.iter().find_map(|(word, cause)| {
        let line = find(said, word)?;
        Some((line, *cause))
    })
}

/// What sshd refused can be told by what ssh offered.
fn refused_by_sshd(said: &str) -> Cause {
    let offered: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("Offering public key:"))
        .collect();
    let accepted = find(said, "Server accepts key:").is_some();
    // A legacy host is offered both: there the pushed key should have been taken.
    let certificates_only = offered.iter().all(|line| line.contains("-CERT"));
    match (offered.is_empty(), accepted, certificates_only) {
        (true, _, _) => Cause::NothingOffered,
        (_, true, _) => Cause::Agent,
        (_, false, true) => Cause::CertificateRefused,
        (_, false, false) => Cause::KeyRefused,
    }
}

fn find<'a>(said: &'a str, word: &str) -> Option<&'a str> {
    said.lines().find(|line| line.contains(word))
}

fn failed(line: &str, cause: Cause) -> Failure {
    let code = match cause {
        Cause::Refused | Cause::TimedOut | Cause::ClosedEarly | Cause::Booting => {
            exit_code::UNREACHABLE
        }
        Cause::HostCertificate => exit_code::UNTRUSTED,
        Cause::CertificateRefused | Cause::KeyRefused | Cause::AccountClosed => exit_code::DENIED,
        _ => exit_code::FAILURE,
    };
    let line = line.strip_prefix("debug1: ").unwrap_or(line).trim();
    Failure::new(code, line).because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "0123456789abcdef";

    #[test]
    fn a_hosts_banner_does_not_speak_for_us() {
        // H-15
        for mark in [
            "eic-login-cause: ".to_owned(),
            cause_mark(""),
            cause_mark("1"),
        ] {
            let said = format!(
                "eic-login: all is well\n{mark}credentials-expired\nHost key verification failed.\n"
            );
            let failure = diagnose(&said, NONCE);
            assert_eq!(failure.cause, Cause::HostCertificate, "{mark}");
        }
    }

    #[test]
    fn what_ssh_says_is_one_cause() {
        for (said, cause) in [
            (
                "/root/.ssh/config: line 3: Bad configuration option: foo\n",
                Cause::SshConfiguration,
            ),
            (
                "Bad owner or permissions on /root/.ssh/config\n",
                Cause::SshConfiguration,
            ),
            (
                "Unable to negotiate with 10.0.0.5 port 22: no matching host key type found. Their offer: ssh-dss\n",
                Cause::NoCommonAlgorithm,
            ),
            (
                "debug1: Offering public key: x ED25519 SHA256:a agent\nReceived disconnect from UNKNOWN port 65535:2: Too many authentication failures\n",
                Cause::TooManyKeys,
            ),
            (
                "\"System is booting up. Unprivileged users are not permitted to log in yet.\"\nConnection closed by UNKNOWN port 65535\n",
                Cause::Booting,
            ),
            (
                "debug1: Authenticated to web-1 (via proxy) using \"publickey\".\nThis account is currently not available.\n",
                Cause::AccountClosed,
            ),
            (
                "debug1: Authenticated to web-1 (via proxy) using \"publickey\".\nConnection to web-1 closed.\n",
                Cause::AccountClosed,
            ),
            ("Host key verification failed.\n", Cause::HostCertificate),
            (
                "ssh: connect to host 10.0.0.5 port 22: Connection refused\n",
                Cause::Refused,
            ),
            (
                "ssh: connect to host 10.0.0.5 port 22: Connection timed out\n",
                Cause::TimedOut,
            ),
            (
                "ssh: Could not resolve hostname web-1: Name or service not known\n",
                Cause::NotSetUp,
            ),
            (
                "kex_exchange_identification: Connection closed by remote host\n",
                Cause::ClosedEarly,
            ),
            (
                "kex_exchange_identification: read: Connection reset by peer\nConnection reset by UNKNOWN port 65535\n",
                Cause::ClosedEarly,
            ),
            (
                "debug1: Authentications that can continue: publickey\nroot@web-1: Permission denied (publickey).\n",
                Cause::NothingOffered,
            ),
            (
                "debug1: Offering public key: a@b certificate ED25519-CERT SHA256:a agent\nroot@web-1: Permission denied (publickey).\n",
                Cause::CertificateRefused,
            ),
            (
                "debug1: Offering public key: a@b pushed key ED25519 SHA256:a agent\nroot@web-1: Permission denied (publickey).\n",
                Cause::KeyRefused,
            ),
            (
                "debug1: Offering public key: a ED25519-CERT SHA256:a agent\ndebug1: Server accepts key: a ED25519-CERT\nsign_and_send_pubkey: signing failed for ED25519-CERT: agent refused operation\nroot@web-1: Permission denied (publickey).\n",
                Cause::Agent,
            ),
            ("", Cause::Other),
            ("something new\n", Cause::Other),
        ] {
            assert_eq!(diagnose(said, NONCE).cause, cause, "{said}");
        }
    }

    #[test]
    fn our_own_commands_know_more_than_ssh() {
        let said = format!(
            "debug1: x\neic-login: the host key of i-1 changed\n{}host-key-changed\nHost key verification failed.\n",
            cause_mark(NONCE)
        );
        let failure = diagnose(&said, NONCE);
        assert_eq!(failure.cause, Cause::HostKeyChanged);
        assert_eq!(failure.message, "the host key of i-1 changed");
        let unknown = format!(
            "eic-login: x\n{}of-tomorrow\nHost key verification failed.\n",
            cause_mark(NONCE)
        );
        assert_eq!(diagnose(&unknown, NONCE).cause, Cause::HostCertificate);
    }
}
