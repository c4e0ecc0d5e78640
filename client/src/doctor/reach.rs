//! Whether something that speaks SSH answers at the host's addresses.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::IpAddr;
use std::time::Duration;

use eic_protocol::text::printable;

use crate::cause::Cause;
use crate::exit_code::{self, Failure};
use crate::transport::direct::{self, NotReached};

/// How long sshd may take to say who it is.
const BANNER: Duration = Duration::from_secs(5);
/// Longest first line in bytes that is shown.
const LINE: u64 = 64;

/// Connects and reads the first line (RFC 4253 §4.2); returns it.
pub(super) fn reach(addresses: &[IpAddr], port: u16) -> Result<String, Failure> {
    let failed = |message: String, cause: Cause| {
        Failure::new(exit_code::UNREACHABLE, message).because(cause)
    };
    let stream = direct::connect(addresses, port).map_err(|error| {
        let cause = cause(&error);
        failed(error.to_string(), cause)
    })?;
    let _ = stream.set_read_timeout(Some(BANNER));
    let mut first = Vec::new();
    // What came before an error counts.
    let _ = BufReader::new(stream.take(LINE)).read_until(b'\n', &mut first);
    let text = String::from_utf8_lossy(&first).into_owned();
    let line = printable(text.lines().next().unwrap_or_default());
    match text.as_str() {
        "" => Err(failed(
            format!("port {port} is open, but nothing that speaks SSH answers there"),
            Cause::ClosedEarly,
        )),
        banner if banner.starts_with("SSH-2.0-") || banner.starts_with("SSH-1.99-") => Ok(line),
        _ => Err(failed(
            format!("port {port} answers `{line}`, which is not SSH"),
            Cause::NotSsh,
        )),
    }
}

fn cause(error: &NotReached) -> Cause {
    match error {
        NotReached::NoAddress => Cause::NoAddress,
        NotReached::Failed { cause, .. } => match cause.kind() {
            std::io::ErrorKind::ConnectionRefused => Cause::Refused,
            _ => Cause::TimedOut,
        },
        NotReached::TimedOut { .. } => Cause::TimedOut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::TcpListener;

    const LOOPBACK: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)];

    /// A server that says this and closes.
    fn saying(what: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.write_all(what).unwrap();
        });
        port
    }

    #[test]
    fn ports_without_an_sshd_are_told_apart() {
        // Nobody listens there, and no port is given to anybody below 1024.
        let closed = 1;
        for (addresses, port, cause) in [
            (&LOOPBACK[..], closed, Cause::Refused),
            (&[], 22, Cause::NoAddress),
            (
                &LOOPBACK,
                saying(b"HTTP/1.1 400 Bad Request\r\n"),
                Cause::NotSsh,
            ),
            (&LOOPBACK, saying(b""), Cause::ClosedEarly),
        ] {
            assert_eq!(
                reach(addresses, port).unwrap_err().cause,
                cause,
                "{cause:?}"
            );
        }
        let banner = reach(&LOOPBACK, saying(b"SSH-2.0-OpenSSH_9.2\r\n")).unwrap();
        assert_eq!(banner, "SSH-2.0-OpenSSH_9.2");
    }
}
