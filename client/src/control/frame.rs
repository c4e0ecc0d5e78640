//! Length-prefixed JSON frames, blocking and asynchronous, with one bound for both.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

/// Largest frame. Bytes. A selection with its session token has about 10 KiB, a table of 1,000 hosts 400 KiB.
pub const MAX_FRAME: usize = 1024 * 1024;

/// Writes one message.
///
/// # Errors
/// The stream's error, or `InvalidData` for a message beyond [`MAX_FRAME`].
pub fn write(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    stream.write_all(&encode(message)?)
}

/// Reads one message.
///
/// # Errors
/// The stream's error, or `InvalidData`.
pub fn read<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let mut body = Zeroizing::new(vec![0; length(prefix)?]);
    stream.read_exact(&mut body)?;
    decode(&body)
}

/// Writes one message.
///
/// # Errors
/// As [`write()`].
pub async fn write_async(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    stream.write_all(&encode(message)?).await
}

/// Reads one message.
///
/// # Errors
/// As [`read()`].
pub async fn read_async<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<T> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await?;
    let mut body = Zeroizing::new(vec![0; length(prefix)?]);
    stream.read_exact(&mut body).await?;
    decode(&body)
}

/// Wiped after use: a request may hold credentials.
fn encode(message: &impl Serialize) -> io::Result<Zeroizing<Vec<u8>>> {
    let body = Zeroizing::new(serde_json::to_vec(message).map_err(invalid)?);
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= MAX_FRAME);
    let length = length.ok_or_else(|| invalid("the message is too long"))?;
    let mut frame = Zeroizing::new(Vec::with_capacity(body.len() + 4));
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

fn length(prefix: [u8; 4]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).map_err(invalid)?;
    if length <= MAX_FRAME {
        Ok(length)
    } else {
        Err(invalid("the announced message is too long"))
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(invalid)
}

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_lengths_beyond_the_bound_and_truncated_frames_are_refused() {
        // H-07: nothing is allocated for a 4 GiB prefix.
        let huge = read::<String>(&mut &[0xff, 0xff, 0xff, 0xff, b'"'][..]).unwrap_err();
        assert_eq!(huge.kind(), io::ErrorKind::InvalidData);
        for truncated in [&b""[..], &[0, 0, 0], &[0, 0, 0, 9, b'"', b'a']] {
            assert_eq!(
                read::<String>(&mut &truncated[..]).unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof
            );
        }
        assert!(write(&mut Vec::new(), &"x".repeat(MAX_FRAME)).is_err());
    }

    #[tokio::test]
    async fn both_kinds_of_stream_read_what_the_other_wrote() {
        let mut bytes = Vec::new();
        write(&mut bytes, &"one").unwrap();
        assert_eq!(read_async::<String>(&mut &bytes[..]).await.unwrap(), "one");
        let mut bytes = Vec::new();
        write_async(&mut bytes, &2).await.unwrap();
        assert_eq!(read::<u8>(&mut &bytes[..]).unwrap(), 2);
    }
}
