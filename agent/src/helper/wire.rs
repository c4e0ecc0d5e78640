//! How service and helper speak: one JSON line each way over a Unix socket, bounded in size and time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Deadline;

/// Longest line in bytes: some roots, a bundle and a host view of a megabyte each, in base64.
const MAX_LINE: usize = 8 * 1024 * 1024;
/// Longest silence between two pieces of a line.
const SILENCE: Duration = Duration::from_secs(10);

/// Sends one message.
///
/// # Errors
/// The peer is gone or does not read.
pub(crate) fn send(stream: &UnixStream, message: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.set_write_timeout(Some(SILENCE))?;
    let mut stream = stream;
    stream.write_all(&line)
}

/// Receives one message; `wait` bounds the silence before and within it.
///
/// # Errors
/// The peer is gone, says nothing, too much or something else.
pub(crate) fn receive<T: DeserializeOwned>(
    stream: &UnixStream,
    wait: Duration,
) -> std::io::Result<T> {
    line(stream, MAX_LINE, |silent| match silent {
        true => Err(ErrorKind::TimedOut.into()),
        false => Ok(wait),
    })
}

/// How long a whole message is waited for.
pub(crate) struct Patience<'a> {
    /// The end of it.
    pub(crate) deadline: Deadline,
    /// Whether nobody wants it any more.
    pub(crate) cancelled: &'a dyn Fn() -> bool,
}

/// Receives one message of at most `max` bytes while there is `patience`.
///
/// # Errors
/// As [`receive`].
pub(crate) fn receive_within<T: DeserializeOwned>(
    stream: &UnixStream,
    max: usize,
    patience: &Patience<'_>,
) -> std::io::Result<T> {
    line(stream, max, |_| {
        let left = patience.deadline.remaining();
        let left = left.filter(|_| !(patience.cancelled)());
        Ok(left.ok_or(ErrorKind::TimedOut)?.min(STEP))
    })
}

/// How late it is noticed that nobody waits any more.
const STEP: Duration = Duration::from_millis(20);

/// One line as JSON. `wait` gives the time for the next piece, told whether the last wait was in vain.
fn line<T: DeserializeOwned>(
    mut stream: &UnixStream,
    max: usize,
    wait: impl Fn(bool) -> std::io::Result<Duration>,
) -> std::io::Result<T> {
    let mut line = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut silent = false;
    loop {
        stream.set_read_timeout(Some(wait(silent)?))?;
        let read = stream.read(&mut chunk);
        // A process that is stopped and goes on meets EINTR where its socket has a time limit (signal(7)).
        if read
            .as_ref()
            .is_err_and(|e| e.kind() == ErrorKind::Interrupted)
        {
            continue;
        }
        silent = read.as_ref().is_err_and(is_silence);
        if silent {
            continue;
        }
        let count = read?;
        line.extend(chunk.iter().take(count));
        if line.ends_with(b"\n") {
            return Ok(serde_json::from_slice(&line)?);
        }
        if count == 0 || line.len() > max {
            return Err(ErrorKind::InvalidData.into());
        }
    }
}

fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// How long a request may take to arrive.
pub(crate) const REQUEST_WAIT: Duration = SILENCE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_end_cut_lines_and_silence_are_refused() {
        let wait = Duration::from_millis(50);
        for bytes in [b"{\"a\":1".as_slice(), b"", b"nonsense\n", b"{} {}\n"] {
            let (a, b) = UnixStream::pair().unwrap();
            (&a).write_all(bytes).unwrap();
            drop(a);
            assert!(receive::<serde_json::Value>(&b, wait).is_err());
        }
        let (_silent, b) = UnixStream::pair().unwrap();
        assert!(receive::<serde_json::Value>(&b, wait).is_err());
    }

    #[test]
    fn a_message_in_drops_ends_with_the_patience() {
        let (a, b) = UnixStream::pair().unwrap();
        let dripping = std::thread::spawn(move || {
            while (&a).write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        for (milliseconds, wanted) in [(100, true), (10_000, false)] {
            let started = std::time::Instant::now();
            let patience = Patience {
                deadline: Deadline::after(Duration::from_millis(milliseconds)),
                cancelled: &|| !wanted,
            };
            assert!(receive_within::<String>(&b, 1 << 20, &patience).is_err());
            assert!(started.elapsed() < Duration::from_secs(5));
        }
        drop(b);
        dripping.join().unwrap();
    }

    #[test]
    fn a_message_that_never_ends_stops_at_the_limit() {
        let (a, b) = UnixStream::pair().unwrap();
        let flood = std::thread::spawn(move || {
            let chunk = vec![b'x'; 1 << 20];
            (0..20).try_for_each(|_| (&a).write_all(&chunk)).is_err()
        });
        assert!(receive::<String>(&b, Duration::from_secs(5)).is_err());
        drop(b);
        assert!(flood.join().unwrap());
    }

    #[test]
    fn a_message_arrives_as_it_was_sent() {
        let (a, b) = UnixStream::pair().unwrap();
        send(&a, &"text\nwith a line end").unwrap();
        let read: String = receive(&b, Duration::from_secs(5)).unwrap();
        assert_eq!(read, "text\nwith a line end");
    }
}
