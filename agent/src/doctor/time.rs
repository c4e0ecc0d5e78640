//! The clock: certificates are good for minutes, so a clock that is off refuses them. Compared with the date
//! that the instance metadata service puts in its answers; elsewhere nothing is compared.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::finding::Findings;
use crate::calendar::{http_date, rfc3339};
use crate::config::Config;
use crate::install::System;

/// sshd grants no leeway; certificates are backdated by at most a minute.
const TOLERATED: u64 = 60;
const LIMIT: Duration = Duration::from_secs(1);
/// Largest head that is read, in bytes.
const MAX_HEAD: u64 = 4096;

pub(super) fn examine(config: &Config, system: &System, now: u64, findings: &mut Findings) {
    let Ok(settings) = config.instance_connect.settings(&system.trusted) else {
        return;
    };
    let there = settings
        .endpoint
        .addresses()
        .iter()
        .find_map(|address| date(*address));
    match there {
        Some(date) => compare(now, date, findings),
        None => findings.note(
            "time",
            format!(
                "this host's clock says {}; nothing to compare it with",
                rfc3339(now)
            ),
        ),
    }
}

fn compare(now: u64, there: u64, findings: &mut Findings) {
    let off = now.abs_diff(there);
    let here = rfc3339(now);
    if off <= TOLERATED {
        findings.good(
            "time",
            format!("this host's clock says {here}, {off} s off"),
        );
    } else {
        findings.bad(
            "time",
            format!("this host's clock says {here}, but it is {}: certificates count too early or too late", rfc3339(there)),
            "set the clock, and keep it set (chrony with 169.254.169.123)",
        );
    }
}

/// The date of the answer to a token request: asking without a token would count as use of version 1.
fn date(address: SocketAddr) -> Option<u64> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.set_write_timeout(Some(LIMIT)).ok()?;
    let request = format!(
        "PUT /latest/api/token HTTP/1.1\r\nHost: {}\r\nX-aws-ec2-metadata-token-ttl-seconds: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        address.ip()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut head = Vec::new();
    // A server that keeps the connection open ends the reading by the time limit: what came counts.
    let _ = stream.take(MAX_HEAD).read_to_end(&mut head);
    let head = String::from_utf8_lossy(&head);
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date")
            .then(|| http_date(value.trim()))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(now: u64, there: u64) -> bool {
        let mut findings = Findings::default();
        compare(now, there, &mut findings);
        findings.judged(false).good
    }

    #[test]
    fn a_clock_that_is_off_either_way_is_found() {
        assert!(!verdict(1000, 1061));
        assert!(!verdict(1061, 1000));
        assert!(verdict(1060, 1000) && verdict(1000, 1060));
    }

    #[test]
    fn the_date_of_an_answer_is_read_and_silence_is_no_date() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let answers = std::thread::spawn(move || {
            for answer in [
                "HTTP/1.1 200 OK\r\ndate: Mon, 15 Jun 2026 12:00:00 GMT\r\n\r\ntoken",
                "HTTP/1.1 403 No\r\n\r\n",
            ] {
                let (mut stream, _) = server.accept().unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"PUT /latest/api/token "));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert_eq!(date(address), Some(1_781_524_800));
        assert_eq!(date(address), None);
        answers.join().unwrap();
        assert_eq!(date(address), None);
    }
}
