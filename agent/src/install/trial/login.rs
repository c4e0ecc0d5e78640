//! One login of the trial: stock ssh, its connection a pipe to an sshd that serves just this one (`sshd -i`).
//! sshd's log decides, not the client: the account's shell, limits and forced commands are not what is tried.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::keys;
use crate::child;
use crate::clock::Deadline;
use crate::install::InstallError;
use crate::install::drop_in::plain;

/// One attempt.
pub(super) struct Login<'a> {
    pub(super) sshd: &'a Path,
    pub(super) config: &'a Path,
    /// The trial's folder.
    pub(super) folder: &'a Path,
    pub(super) certificate: &'a Path,
    pub(super) user: &'a str,
}

/// What sshd made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Let in.
    Accepted,
    /// The certificate counted, but something else kept the account closed: sshd's words.
    CertificateAccepted(String),
    /// This account is closed to every key (AllowUsers, a locked password, no shell).
    AccountClosed,
    /// The certificate did not count: sshd's words.
    Refused(String),
}

/// Longest attempt; an honest one takes a quarter of a second.
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
/// Most attempts.
const ATTEMPTS: u8 = 3;
/// What is told of an attempt of which sshd said nothing.
const NOTHING: &str = "nothing";

/// Whether the stock client is installed.
pub(super) fn has_client() -> bool {
    let found = |name: &str| {
        child::PATH
            .split(':')
            .any(|dir| Path::new(dir).join(name).is_file())
    };
    found("ssh") && found("ssh-keygen")
}

impl Login<'_> {
    /// An attempt of which sshd says nothing was broken off, by the client or by a host that had no time for it: that
    /// judges no certificate, so there are some more.
    pub(super) fn run(&self) -> Result<Verdict, InstallError> {
        let mut verdict = self.attempt()?;
        for _ in 1..ATTEMPTS {
            if verdict != Verdict::Refused(NOTHING.to_owned()) {
                break;
            }
            verdict = self.attempt()?;
        }
        Ok(verdict)
    }

    fn attempt(&self) -> Result<Verdict, InstallError> {
        let log = self.folder.join("keys/log");
        let _ = std::fs::remove_file(&log);
        let client = Command::new("ssh")
            .args(self.arguments(&log)?)
            .env_clear()
            .env("PATH", child::PATH)
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| InstallError::Trial(format!("ssh could not be started: {e}")))?;
        wait(client, &log);
        Ok(verdict(&read(&log)))
    }

    fn arguments(&self, log: &Path) -> Result<Vec<String>, InstallError> {
        let proxy = format!(
            "ProxyCommand={} -i -f {} -h {} -E {} -o LogLevel=VERBOSE",
            plain(self.sshd)?,
            plain(self.config)?,
            plain(&keys::path(self.folder, keys::HOST))?,
            plain(log)?
        );
        let certificate = format!("CertificateFile={}", plain(self.certificate)?);
        let identity = plain(&keys::path(self.folder, keys::USER))?;
        let mut arguments = vec!["-F".to_owned(), "none".to_owned(), "-N".to_owned()];
        for option in [proxy.as_str(), &certificate].iter().chain(&OPTIONS) {
            arguments.extend(["-o".to_owned(), (*option).to_owned()]);
        }
        arguments.extend(["-i".to_owned(), identity]);
        arguments.push(format!("{}@eic-agent-trial", self.user));
        Ok(arguments)
    }
}

const OPTIONS: [&str; 9] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "GlobalKnownHostsFile=/dev/null",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "PreferredAuthentications=publickey",
    "ControlPath=none",
    "ConnectTimeout=15",
];

/// Until the client gives up, sshd lets it in, or the time is up.
fn wait(mut client: Child, log: &Path) {
    let deadline = Deadline::after(LIMIT);
    while deadline.remaining().is_some() {
        let ended = !matches!(client.try_wait(), Ok(None));
        if ended || read(log).contains(ACCEPTED) {
            break;
        }
        std::thread::sleep(POLL);
    }
    // sshd ends by itself when its pipe closes.
    let _ = client.kill();
    let _ = client.wait();
}

fn read(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// sshd's words, the same from 7.4 to 10.x (auth.c, auth2-pubkey.c).
const ACCEPTED: &str = "Accepted publickey for ";

fn verdict(log: &str) -> Verdict {
    let certificate = format!("Accepted certificate ID \"{}\"", keys::KEY_ID);
    if log.contains(ACCEPTED) {
        Verdict::Accepted
    } else if log.contains(&certificate) {
        Verdict::CertificateAccepted(last_words(log))
    } else if log.contains(" not allowed because ") || log.contains("Invalid user ") {
        Verdict::AccountClosed
    } else {
        Verdict::Refused(last_words(log))
    }
}

/// The last lines that say something, without the connection's own coming and going.
fn last_words(log: &str) -> String {
    let said: Vec<&str> = log
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .filter(|line| {
            !["Connection", "Postponed", "Server listening"]
                .iter()
                .any(|s| line.starts_with(s))
        })
        .collect();
    let from = said.len().saturating_sub(3);
    let last = said.get(from..).unwrap_or_default();
    if last.is_empty() {
        return NOTHING.to_owned();
    }
    eic_protocol::text::printable(&last.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sshds_words_decide() {
        for (log, expected) in [
            ("Connection from UNKNOWN port 65535\n", Verdict::Refused("nothing".to_owned())),
            (
                "Certificate invalid: expired\n",
                Verdict::Refused("Certificate invalid: expired".to_owned()),
            ),
            (
                "User root from UNKNOWN not allowed because not listed in AllowUsers\n",
                Verdict::AccountClosed,
            ),
            (
                "Accepted certificate ID \"eic-agent-trial\" (serial 0) signed by ED25519 CA SHA256:x via /t\nROOT LOGIN REFUSED FROM UNKNOWN port 65535\n",
                Verdict::CertificateAccepted(
                    "Accepted certificate ID \"eic-agent-trial\" (serial 0) signed by ED25519 CA SHA256:x via /t; ROOT LOGIN REFUSED FROM UNKNOWN port 65535".to_owned(),
                ),
            ),
            ("Accepted publickey for root from UNKNOWN port 65535 ssh2\n", Verdict::Accepted),
        ] {
            assert_eq!(verdict(log), expected, "{log}");
        }
        // A certificate of somebody else's making does not count as ours.
        assert!(matches!(
            verdict("Accepted certificate ID \"other\" (serial 0)\n"),
            Verdict::Refused(_)
        ));
    }
}
