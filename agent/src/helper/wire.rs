//! How service and helper speak: one JSON line each way over a Unix socket, bounded in size and time.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest line in bytes: some roots, a bundle and a host view of a megabyte each, in base64.
const MAX_LINE: u64 = 8 * 1024 * 1024;
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
    stream.set_read_timeout(Some(wait))?;
    let mut stream = stream;
    let mut line = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut chunk)?;
        line.extend(chunk.iter().take(count));
        if line.ends_with(b"\n") {
            return Ok(serde_json::from_slice(&line)?);
        }
        let long = u64::try_from(line.len()).unwrap_or(u64::MAX) > MAX_LINE;
        if count == 0 || long {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    }
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
