//! Who came in by which way, counted from the system's log: sshd's own lines, and those by which this agent
//! (or AWS's scripts) handed out an Instance Connect key. A log that others may write to proves nothing.

use std::collections::BTreeSet;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Serialize;

/// Accepted logins by way, over what the source still has of the last seven days (journal) or of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Logins {
    /// Where they were counted; none: no log could be read.
    pub(super) source: Option<String>,
    pub(super) certificate: u64,
    pub(super) instance_connect: u64,
    pub(super) other_certificate: u64,
    pub(super) other_key: u64,
    pub(super) other: u64,
}

/// Most of a log that is read, in bytes: its end.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Longest wait for journalctl(1).
const JOURNAL_LIMIT: Duration = Duration::from_secs(10);
/// Where syslog daemons keep the authpriv facility: Debian, Red Hat and Amazon Linux, SUSE.
const FILES: [&str; 3] = ["/var/log/auth.log", "/var/log/secure", "/var/log/messages"];

/// Counts from the journal where there is one, else from the first log file.
pub(super) fn read() -> Logins {
    if let Some(text) = journal() {
        return count(&text, "the journal of the last 7 days");
    }
    let files = FILES.iter().map(Path::new);
    let found = files.filter_map(|file| Some((file, end_of(file)?))).next();
    match found {
        Some((file, text)) => count(&text, &file.display().to_string()),
        None => Logins::default(),
    }
}

/// What sshd and the commands wrote to the journal; none where there is no journal, or nothing in it.
fn journal() -> Option<String> {
    let mut child = Command::new("journalctl")
        .args(["--quiet", "--no-pager", "--output=cat", "--since=-7 days"])
        .args(["_COMM=sshd", "_COMM=sshd-session", "_COMM=sshd-auth"])
        .args(["+", "SYSLOG_IDENTIFIER=ec2-instance-connect"])
        // Root asks: not the caller's word on where programs are.
        .env("PATH", crate::child::PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let stdout = child.stdout.take()?;
    let read = crate::watchdog::within(JOURNAL_LIMIT, move || {
        let mut bytes = Vec::new();
        stdout
            .take(MAX_BYTES)
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    });
    // It may still be writing when enough was read.
    let _ = child.kill();
    let _ = child.wait();
    let bytes = read.ok()?.ok()?;
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

fn end_of(file: &Path) -> Option<String> {
    let mut file = std::fs::File::open(file).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_BYTES)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

const PROVIDED: &str = "Providing ssh key from EC2 Instance Connect with fingerprint: ";

fn count(text: &str, source: &str) -> Logins {
    let pushed: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split_once(PROVIDED))
        .filter_map(|(_, rest)| rest.split([',', ' ']).next())
        .collect();
    let mut logins = Logins {
        source: Some(source.to_owned()),
        ..Logins::default()
    };
    for message in text.lines().filter_map(message) {
        *logins.counter(message, &pushed) += 1;
    }
    logins
}

/// sshd's `Accepted …` message of a line; in a file it follows `sshd[123]: `.
fn message(line: &str) -> Option<&str> {
    let message = match line.split_once("]: ") {
        Some((head, rest)) if head.contains("sshd") => rest,
        Some(_) => return None,
        None => line,
    };
    message.strip_prefix("Accepted ")
}

impl Logins {
    fn counter(&mut self, message: &str, pushed: &BTreeSet<&str>) -> &mut u64 {
        let Some(key) = message.strip_prefix("publickey for ") else {
            return &mut self.other;
        };
        // `USER from ADDRESS port N ssh2: TYPE FINGERPRINT [ID … (serial N) CA …]`
        let shown = key.split_once(" ssh2: ").map_or("", |(_, shown)| shown);
        let mut words = shown.split(' ');
        let (kind, fingerprint) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if kind.ends_with("-CERT") {
            if shown.contains(" ID eic:") {
                &mut self.certificate
            } else {
                &mut self.other_certificate
            }
        } else if pushed.contains(fingerprint) {
            &mut self.instance_connect
        } else {
            &mut self.other_key
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
Nov 22 05:00:00 host ec2-instance-connect[7]: Providing ssh key from EC2 Instance Connect with fingerprint: SHA256:pushed, request-id: r, for IAM principal: arn:aws:iam::1:user/a
Nov 22 05:00:00 host sshd[8]: Accepted publickey for ubuntu from 192.0.2.1 port 5 ssh2: ED25519 SHA256:pushed
Nov 22 05:00:01 host sshd[9]: Accepted publickey for ubuntu from 192.0.2.1 port 5 ssh2: ED25519-CERT SHA256:x ID eic:user/a:r1 (serial 7) CA ED25519 SHA256:ca
Nov 22 05:00:01 host sshd-session[9]: Accepted publickey for ubuntu from 192.0.2.1 port 5 ssh2: ED25519-CERT SHA256:x ID eic:user/a:r2 (serial 8) CA ED25519 SHA256:ca
Nov 22 05:00:02 host sshd[9]: Accepted publickey for ubuntu from 192.0.2.1 port 5 ssh2: RSA-CERT SHA256:x ID mine (serial 0) CA RSA SHA256:other
Nov 22 05:00:03 host sshd[9]: Accepted publickey for ubuntu from 192.0.2.1 port 5 ssh2: RSA SHA256:file
Nov 22 05:00:04 host sshd[9]: Accepted password for ubuntu from 192.0.2.1 port 5 ssh2
";

    #[test]
    fn lines_of_other_programs_and_failures_are_not_counted() {
        let text = "Nov 22 host app[1]: Accepted publickey for root\n\
                    Nov 22 host sshd[1]: Failed publickey for root from 192.0.2.1 port 5 ssh2: RSA SHA256:x\n\
                    Nov 22 host sshd[1]: Invalid user Accepted from 192.0.2.1\n";
        let expected = Logins {
            source: Some("f".to_owned()),
            ..Logins::default()
        };
        assert_eq!(count(text, "f"), expected);
    }

    #[test]
    fn each_way_in_is_counted_from_a_file_and_from_the_journal() {
        let expected = Logins {
            source: Some("f".to_owned()),
            certificate: 2,
            instance_connect: 1,
            other_certificate: 1,
            other_key: 1,
            other: 1,
        };
        assert_eq!(count(FILE, "f"), expected);
        let journal: String = FILE
            .lines()
            .filter_map(|line| line.split_once("]: "))
            .map(|(_, message)| format!("{message}\n"))
            .collect();
        assert_eq!(count(&journal, "f"), expected);
    }

    #[test]
    fn only_the_end_of_a_large_log_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(MAX_BYTES + 10).unwrap();
        let read = end_of(&path).unwrap();
        assert_eq!(u64::try_from(read.len()).unwrap(), MAX_BYTES);
        assert_eq!(end_of(&folder.path().join("none")), None);
    }
}
