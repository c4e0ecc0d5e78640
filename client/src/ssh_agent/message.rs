//! Agent messages: numbers, frames and those that are answered here. Everything else is refused.

use std::io;
use std::time::Duration;

use eic_protocol::wire::{Reader, Truncated, Writer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::lock::Passphrase;

/// Longest message, as OpenSSH's agent has it (RFC 9987 §3 leaves it open). Bytes.
pub const MAX_MESSAGE: usize = 256 * 1024;

const FAILURE: u8 = 5;
const SUCCESS: u8 = 6;
pub(crate) const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const REMOVE_IDENTITY: u8 = 18;
const REMOVE_ALL_IDENTITIES: u8 = 19;
const LOCK: u8 = 22;
const UNLOCK: u8 = 23;
const EXTENSION: u8 = 27;
/// `SSH_AGENT_RSA_SHA2_256` (RFC 9987 §3.6.1).
pub const FLAG_RSA_SHA2_256: u32 = 2;
/// `SSH_AGENT_RSA_SHA2_512` (RFC 9987 §3.6.1).
pub const FLAG_RSA_SHA2_512: u32 = 4;
const SESSION_BIND: &[u8] = b"session-bind@openssh.com";

/// A request that means something here.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `SSH_AGENTC_REQUEST_IDENTITIES`
    Identities,
    /// `SSH_AGENTC_SIGN_REQUEST`
    Sign {
        /// The public key or certificate.
        blob: &'a [u8],
        /// What is to be signed.
        data: &'a [u8],
        /// The wanted RSA hash, as flags.
        flags: u32,
    },
    /// `SSH_AGENTC_REMOVE_IDENTITY` of this public key or certificate.
    Remove(&'a [u8]),
    /// `SSH_AGENTC_REMOVE_ALL_IDENTITIES`
    RemoveAll,
    /// `SSH_AGENTC_LOCK`
    Lock(Passphrase<'a>),
    /// `SSH_AGENTC_UNLOCK`
    Unlock(Passphrase<'a>),
    /// The `session-bind@openssh.com` extension (OpenSSH PROTOCOL.agent §1).
    SessionBind(&'a [u8]),
    /// Anything else.
    Other,
}

impl<'a> Request<'a> {
    /// Parses a message without its length.
    ///
    /// # Errors
    /// [`Truncated`] where a known message ends early or goes on after its end.
    pub fn parse(message: &'a [u8]) -> Result<Self, Truncated> {
        let mut r = Reader::new(message);
        let request = match r.byte()? {
            REQUEST_IDENTITIES => Self::Identities,
            SIGN_REQUEST => {
                let (blob, data) = (r.string()?, r.string()?);
                let flags = r.u32()?;
                Self::Sign { blob, data, flags }
            }
            REMOVE_IDENTITY => Self::Remove(r.string()?),
            REMOVE_ALL_IDENTITIES => Self::RemoveAll,
            LOCK => Self::Lock(Passphrase(r.string()?)),
            UNLOCK => Self::Unlock(Passphrase(r.string()?)),
            EXTENSION if r.string()? == SESSION_BIND => return Ok(Self::SessionBind(r.rest())),
            _ => return Ok(Self::Other),
        };
        if r.is_at_end() {
            Ok(request)
        } else {
            Err(Truncated)
        }
    }
}

/// An answer, with its length in front.
#[must_use]
pub fn failure() -> Vec<u8> {
    framed(&[FAILURE])
}

/// It worked.
#[must_use]
pub fn success() -> Vec<u8> {
    framed(&[SUCCESS])
}

/// The identities on offer: blob and comment each.
#[must_use]
pub fn identities(offered: &[(Vec<u8>, String)]) -> Vec<u8> {
    let mut w = Writer::new();
    w.byte(IDENTITIES_ANSWER)
        .u32(u32::try_from(offered.len()).unwrap_or(0));
    for (blob, comment) in offered {
        w.string(blob).string(comment.as_bytes());
    }
    framed(w.as_slice())
}

/// A signature.
#[must_use]
pub fn signature(signature: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.byte(SIGN_RESPONSE).string(signature);
    framed(w.as_slice())
}

/// `message` behind its length.
#[must_use]
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.string(message);
    w.into_bytes()
}

/// The next message without its length; `None` at an orderly end.
///
/// # Errors
/// `InvalidData` for an announced length of 0 or beyond [`MAX_MESSAGE`]; nothing is allocated for it.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut prefix = [0; 4];
    match stream.read_exact(&mut prefix).await {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if !(1..=MAX_MESSAGE).contains(&length) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "an agent message of this length is refused",
        ));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Sends an answer.
///
/// # Errors
/// `TimedOut` where the other side asks and does not read: it would hold its place for ever.
pub async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    answer: &[u8],
    limit: Duration,
) -> io::Result<()> {
    let written = tokio::time::timeout(limit, stream.write_all(answer)).await;
    written.map_err(|_| io::ErrorKind::TimedOut)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_and_does_not_read_loses_the_connection() {
        // H-07
        let (mut ours, _theirs) = tokio::io::duplex(16);
        let limit = Duration::from_millis(20);
        let error = write(&mut ours, &[0; 17], limit).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn absurd_lengths_and_truncated_messages_are_refused() {
        // H-07
        for bad in [
            &[0xff, 0xff, 0xff, 0xff, 1][..],
            &[0, 0, 0, 0],
            &[0, 4, 0, 1, 0],
            &[0, 0, 0, 5, 11],
        ] {
            assert!(read(&mut &bad[..]).await.is_err(), "{bad:?}");
        }
        assert_eq!(read(&mut &[][..]).await.unwrap(), None);
    }

    #[test]
    fn malformed_requests_are_refused() {
        for bad in [
            &[][..],
            &[13],
            &[13, 0, 0, 0, 9, 1],
            &[11, 0],
            &[27, 0, 0],
            &[18],
            &[19, 0],
            &[22],
            &[23, 0, 0, 0, 1],
        ] {
            assert!(Request::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn adding_keys_with_or_without_constraints_is_not_understood() {
        for number in [17, 20, 21, 25, 26, 9, 1, 0, 255] {
            assert_eq!(
                Request::parse(&[number]).unwrap(),
                Request::Other,
                "{number}"
            );
        }
    }
}
