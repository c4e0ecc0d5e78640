//! Lines for the system log, written to `/dev/log` as one datagram each (RFC 3164 form without the
//! time stamp, which the log daemon adds). Best effort: a missing or full log never delays a login.
//! Not a logging framework: two levels of authpriv, and every foreign character made harmless.

use std::fmt::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

/// Where a command tells the administrator what it did.
pub trait Log {
    /// One line at authpriv.info.
    fn info(&self, message: &str);
}

/// The system's log daemon.
#[derive(Clone, Debug)]
pub struct Syslog {
    socket: PathBuf,
    tag: &'static str,
}

impl Syslog {
    /// The daemon behind `/dev/log`; `tag` names the program in each line.
    #[must_use]
    pub fn system(tag: &'static str) -> Self {
        Self {
            socket: PathBuf::from("/dev/log"),
            tag,
        }
    }

    fn send(&self, line: &str) -> std::io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        // A log daemon that does not read must not hold up the login.
        socket.set_nonblocking(true)?;
        socket.send_to(line.as_bytes(), &self.socket).map(drop)
    }
}

impl Log for Syslog {
    fn info(&self, message: &str) {
        let line = format!(
            "<{AUTHPRIV_INFO}>{}[{}]: {}",
            self.tag,
            std::process::id(),
            sanitised(message)
        );
        // Best effort by contract: sshd's own log still says which key was accepted.
        let _ = self.send(&line);
    }
}

/// Facility 10 (authpriv) × 8 + severity 6 (info), RFC 3164 §4.1.1.
const AUTHPRIV_INFO: u8 = 86;

/// Longest message in bytes; RFC 3164 §4.1 allows 1,024 for the whole packet.
const MAX_BYTES: usize = 900;

/// `message` with everything but printable ASCII as `\xNN`: a newline would forge a line.
fn sanitised(message: &str) -> String {
    let mut clean = String::with_capacity(message.len().min(MAX_BYTES));
    for byte in message.bytes() {
        if clean.len() >= MAX_BYTES {
            clean.push_str("[cut]");
            break;
        }
        if byte == b' ' || byte.is_ascii_graphic() {
            clean.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(clean, "\\x{byte:02x}");
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn newlines_and_escapes_cannot_forge_a_line() {
        assert_eq!(
            sanitised("a\nsshd: ok\u{1b}[2J\u{e9}"),
            "a\\x0asshd: ok\\x1b[2J\\xc3\\xa9"
        );
    }

    #[test]
    fn long_messages_are_cut() {
        assert_eq!(
            sanitised(&"x".repeat(5000)).len(),
            MAX_BYTES + "[cut]".len()
        );
    }

    #[test]
    fn a_missing_log_daemon_is_no_error() {
        Syslog {
            socket: PathBuf::from("/nonexistent/log"),
            tag: "t",
        }
        .info("message");
    }

    #[test]
    fn a_line_carries_priority_tag_and_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        daemon
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        Syslog {
            socket: path,
            tag: "ec2-instance-connect",
        }
        .info("Providing ssh key");
        let mut buffer = [0; 512];
        let length = daemon.recv(&mut buffer).unwrap();
        let line = std::str::from_utf8(&buffer[..length]).unwrap();
        assert_eq!(
            line,
            format!(
                "<86>ec2-instance-connect[{}]: Providing ssh key",
                std::process::id()
            )
        );
    }
}
