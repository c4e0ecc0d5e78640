//! systemd's journal through journalctl(1): its fields that begin with `_` are the kernel's word.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use super::{Cursor, MAX_BYTES, NoLog, Read, Told, told};
use crate::watchdog;

/// Whatever PATH says.
const PROGRAM: &str = "/usr/bin/journalctl";
/// Longest wait for it.
const LIMIT: Duration = Duration::from_secs(20);
/// Only what root's sshd wrote; two identifiers because 9.8 split the program.
const FILTER: [&str; 6] = [
    "--output=json",
    "--no-pager",
    "--quiet",
    "_UID=0",
    "SYSLOG_IDENTIFIER=sshd",
    "SYSLOG_IDENTIFIER=sshd-session",
];

pub(super) fn read(cursor: Option<&Cursor>, since: u64) -> Result<Read, NoLog> {
    let start = match cursor {
        Some(Cursor::Journal(cursor)) => format!("--after-cursor={cursor}"),
        _ => format!("--since=@{since}"),
    };
    Ok(parse(&run(&[start])?, cursor))
}

pub(super) fn of_processes(pids: &[u32], since: u64) -> Result<Read, NoLog> {
    // Matches of one field are alternatives (journalctl(1)).
    let pids = pids.iter().map(|pid| format!("_PID={pid}"));
    let words: Vec<String> = std::iter::once(format!("--since=@{since}"))
        .chain(pids)
        .collect();
    Ok(parse(&run(&words)?, None))
}

fn run(words: &[String]) -> Result<String, NoLog> {
    let failed = |e: std::io::Error| NoLog::Journal(e.to_string());
    let mut child = Command::new(PROGRAM)
        .args(FILTER)
        .args(words)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let output = child.stdout.take();
    let read = watchdog::within(LIMIT, move || {
        let cap = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
        let mut text = Vec::new();
        let output = output.ok_or(std::io::ErrorKind::BrokenPipe)?;
        output.take(cap).read_to_end(&mut text).map(|_| text)
    });
    let Ok(Ok(text)) = read else {
        // It hangs, or its pipe broke; nothing of it counts.
        let _ = child.kill();
        let _ = child.wait();
        return Err(NoLog::Journal("journalctl did not answer".to_owned()));
    };
    // At the cap the pipe is closed and journalctl ends by it; what was read counts up to its last line.
    let full = text.len() >= MAX_BYTES;
    let status = child.wait().map_err(failed)?;
    if status.success() || full {
        Ok(String::from_utf8_lossy(&text).into_owned())
    } else {
        Err(NoLog::Journal(format!("journalctl ended with {status}")))
    }
}

/// One object a line.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    time: String,
    #[serde(rename = "_PID")]
    pid: Option<String>,
    #[serde(rename = "MESSAGE")]
    message: Option<serde_json::Value>,
}

fn parse(text: &str, old: Option<&Cursor>) -> Read {
    let mut read = Read {
        told: Vec::new(),
        cursor: old.cloned(),
    };
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Line>(line) else {
            continue;
        };
        read.told.extend(of_line(&line));
        read.cursor = Some(Cursor::Journal(line.cursor));
    }
    read
}

fn of_line(line: &Line) -> Option<Told> {
    let microseconds: u64 = line.time.parse().ok()?;
    let pid = line.pid.as_deref()?.parse().ok()?;
    let message = text(line.message.as_ref()?)?;
    told(Some(microseconds / 1_000_000), pid, &message)
}

/// journalctl writes what is no plain text as an array of bytes: a login must not go unseen for one such byte.
fn text(message: &serde_json::Value) -> Option<String> {
    if let Some(text) = message.as_str() {
        return Some(text.to_owned());
    }
    let bytes = message.as_array()?.iter();
    let bytes = bytes.map(|byte| u8::try_from(byte.as_u64()?).ok());
    let bytes: Option<Vec<u8>> = bytes.collect();
    Some(String::from_utf8_lossy(&bytes?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cursor: &str, message: &str) -> String {
        format!(
            "{{\"__CURSOR\":\"{cursor}\",\"__REALTIME_TIMESTAMP\":\"1795323221000001\",\"_PID\":\"12\",\"_UID\":\"0\",\"MESSAGE\":{message}}}\n"
        )
    }

    #[test]
    fn lines_that_are_no_logins_move_the_cursor_only() {
        let text = line("s=1", "\"Connection closed\"") + &line("s=2", "[1,2]") + "garbage\n";
        let read = parse(&text, None);
        assert!(read.told.is_empty());
        assert_eq!(read.cursor, Some(Cursor::Journal("s=2".to_owned())));
        assert_eq!(parse("", read.cursor.as_ref()), read);
    }

    fn login(read: &Read) -> &super::super::Entry {
        match &read.told[0] {
            Told::Login(entry) => entry,
            Told::End(end) => panic!("{end:?}"),
        }
    }

    #[test]
    fn a_message_that_is_told_in_bytes_is_read() {
        let bytes = b"Accepted password for a from 10.0.0.7 port 1 ssh2: \xff";
        let message = serde_json::to_string(&bytes.to_vec()).unwrap();
        let read = parse(&line("s=1", &message), None);
        assert_eq!(login(&read).login.user, "a");
        for odd in ["[300]", "[\"a\"]", "{}", "null", "7"] {
            assert!(parse(&line("s=1", odd), None).told.is_empty(), "{odd}");
        }
    }

    #[test]
    fn time_and_process_are_the_journals() {
        let message = "\"Accepted password for a from 10.0.0.7 port 1 ssh2\"";
        let read = parse(&line("s=1", message), None);
        let entry = login(&read);
        assert_eq!((entry.time, entry.pid), (Some(1_795_323_221), 12));
    }
}
