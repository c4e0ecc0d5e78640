//! Raw bytes over a websocket, both ways, until one side ends: binary frames of at most 65,000 bytes, as AWS's own
//! client sends them. Knows nothing of where the websocket leads.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use eic_protocol::text::printable;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;

use super::websocket::Websocket;
use super::websocket::frame::{Decoder, FrameError, Kind, Outgoing, Piece};

/// Largest payload of a client's frame. Bytes.
pub const MAX_PAYLOAD: usize = 65_000;
/// Most that is taken from the server before it is handed on: several records of TLS (16 KiB each) in one write. Bytes.
const AT_ONCE: usize = 128 * 1024;
/// How often a quiet tunnel is pinged: below the 60 s after which network devices forget a connection.
pub const BEAT: Duration = Duration::from_secs(20);
/// How long the last words of the other side may take after ours.
const FAREWELL: Duration = Duration::from_secs(5);
/// A side that answered a ping once and then leaves so many unanswered is gone.
const UNANSWERED: u32 = 3;

/// Pumps until the local side or the server ends.
///
/// # Errors
/// [`Ended`] where the server ended it otherwise than by a normal close.
pub async fn pump<S>(
    socket: Websocket<S>,
    local: impl AsyncRead + AsyncWrite,
    beat: Duration,
) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (stream, rest) = socket.into_parts();
    let (server, to_server) = tokio::io::split(stream);
    let (reader, writer) = tokio::io::split(local);
    let mut sender = Sender::new(to_server);
    // Only the last ping must be answered (RFC 6455 §5.5.3): more than one are never kept.
    let (pings, asked) = watch::channel(Vec::new());
    let pulse = Pulse::default();
    let outcome = {
        let up = upstream(reader, &mut sender, asked, &pulse, beat);
        let down = downstream(server, rest, writer, pings, &pulse);
        tokio::pin!(up, down);
        tokio::select! {
            result = &mut down => result,
            // Half a close cannot be said: ours is the whole one, and what is still under way is delivered.
            sent = &mut up => match sent {
                Err(ended) => Err(ended),
                Ok(()) => {
                    // How the other side goes after our close is its own affair.
                    let _ = tokio::time::timeout(FAREWELL, down).await;
                    Ok(())
                }
            },
        }
    };
    // Where the local side went first; a close that was said already is not said again.
    let _ = tokio::time::timeout(FAREWELL, sender.end()).await;
    outcome
}

/// The way to the server.
struct Sender<W> {
    stream: W,
    is_closed: bool,
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    fn new(stream: W) -> Self {
        Self {
            stream,
            is_closed: false,
        }
    }

    /// A dead network takes no bytes either: sending has the same patience as waiting.
    async fn send(&mut self, frame: &[u8], pulse: &Pulse, beat: Duration) -> Result<(), Ended> {
        let sending = async {
            self.stream.write_all(frame).await?;
            self.stream.flush().await
        };
        tokio::pin!(sending);
        loop {
            match tokio::time::timeout(beat, &mut sending).await {
                Ok(sent) => return sent.map_err(Ended::from),
                Err(_) => pulse.beat()?,
            }
        }
    }

    /// Says the end, once. The client's close has no code.
    async fn close(&mut self) {
        if !std::mem::replace(&mut self.is_closed, true) {
            let frame = Outgoing::control(Kind::Close, &[]);
            let _ = self.stream.write_all(&frame).await;
            let _ = self.stream.flush().await;
        }
    }

    async fn end(&mut self) {
        self.close().await;
        let _ = self.stream.shutdown().await;
    }
}

/// Whether the server is there.
#[derive(Default)]
struct Pulse {
    /// Beats since it was heard, but for those at which nobody listened.
    unanswered: AtomicU32,
    answers_pings: AtomicBool,
    /// Whether the local side is being written to: until it takes the bytes nothing is read of the server.
    is_deaf: AtomicBool,
}

impl Pulse {
    fn hear(&self) {
        self.unanswered.store(0, Ordering::Relaxed);
    }

    /// Counts one more beat without an answer. A server that never answered a ping may not know how: its silence means
    /// nothing.
    fn beat(&self) -> Result<(), Ended> {
        if self.is_deaf.load(Ordering::Relaxed) || !self.answers_pings.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.unanswered.fetch_add(1, Ordering::Relaxed) {
            UNANSWERED.. => Err(Ended::Silent),
            _ => Ok(()),
        }
    }
}

/// What is to be sent next.
enum Next {
    Bytes(usize),
    Pong(Vec<u8>),
    Ping,
}

async fn upstream<W: AsyncWrite + Unpin>(
    mut local: impl AsyncRead + Unpin,
    sender: &mut Sender<W>,
    mut asked: watch::Receiver<Vec<u8>>,
    pulse: &Pulse,
    beat: Duration,
) -> Result<(), Ended> {
    let mut outgoing = Outgoing::new(MAX_PAYLOAD);
    let mut beats = tokio::time::interval(beat);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    beats.tick().await;
    loop {
        let next = tokio::select! {
            read = local.read(outgoing.room()) => Next::Bytes(read.unwrap_or(0)),
            Ok(()) = asked.changed() => Next::Pong(asked.borrow_and_update().clone()),
            _ = beats.tick() => Next::Ping,
        };
        match next {
            // The end, said once: never an empty frame.
            Next::Bytes(0) => {
                let _ = tokio::time::timeout(FAREWELL, sender.close()).await;
                return Ok(());
            }
            Next::Bytes(length) => {
                let frame = outgoing.seal(Kind::Binary, length);
                sender.send(frame, pulse, beat).await?;
            }
            Next::Pong(payload) => {
                let frame = Outgoing::control(Kind::Pong, &payload);
                sender.send(&frame, pulse, beat).await?;
            }
            Next::Ping => {
                pulse.beat()?;
                let frame = Outgoing::control(Kind::Ping, &[]);
                sender.send(&frame, pulse, beat).await?;
            }
        }
    }
}

async fn downstream(
    mut server: impl AsyncRead + Unpin,
    early: Vec<u8>,
    mut local: impl AsyncWrite + Unpin,
    pings: watch::Sender<Vec<u8>>,
    pulse: &Pulse,
) -> Result<(), Ended> {
    let mut decoder = Decoder::default();
    let mut buffer = early;
    let mut length = buffer.len();
    buffer.resize(AT_ONCE.max(length), 0);
    loop {
        let mut bytes = buffer.get(..length).unwrap_or_default();
        while let Some(piece) = decoder.next(&mut bytes)? {
            match piece {
                Piece::Data(bytes) => {
                    pulse.is_deaf.store(true, Ordering::Relaxed);
                    // The local side is gone: nobody to tell.
                    if local.write_all(bytes).await.is_err() || local.flush().await.is_err() {
                        return Ok(());
                    }
                    pulse.is_deaf.store(false, Ordering::Relaxed);
                }
                Piece::Ping(payload) => drop(pings.send_replace(payload)),
                Piece::Pong => pulse.answers_pings.store(true, Ordering::Relaxed),
                Piece::Close(end) => return closed(end),
            }
        }
        length = fill(&mut server, &mut buffer).await?;
        pulse.hear();
        if length == 0 {
            return Err(Ended::Broken("it ended without a close".to_owned()));
        }
    }
}

/// Waits for some bytes, and takes all that are there. An error after bytes comes again with the next call.
async fn fill(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut buffer = ReadBuf::new(buffer);
    std::future::poll_fn(|context| {
        while buffer.remaining() > 0 {
            let before = buffer.filled().len();
            let read = Pin::new(&mut *stream).poll_read(context, &mut buffer);
            let (is_first, is_more) = (before == 0, buffer.filled().len() > before);
            match read {
                Poll::Ready(Ok(())) if is_more => {}
                Poll::Pending | Poll::Ready(Err(_)) if !is_first => break,
                Poll::Ready(Ok(())) => break,
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(buffer.filled().len()))
    })
    .await
}

/// 1000 is a normal end, and so is a close without a code.
fn closed(end: Option<(u16, String)>) -> Result<(), Ended> {
    match end {
        None | Some((1000 | 1005, _)) => Ok(()),
        Some((code, reason)) => Err(Ended::Closed { code, reason }),
    }
}

/// Why a tunnel ended.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The server says why.
    #[error("the service ended the tunnel with code {code}: {reason}")]
    Closed {
        /// RFC 6455 §7.4.
        code: u16,
        /// Its words, made printable.
        reason: String,
    },
    /// Text among the bytes.
    #[error("the service sent text where only bytes belong: the tunnel is closed")]
    Text,
    /// No sign of life.
    #[error("the service has gone silent: the network may be down")]
    Silent,
    /// It broke.
    #[error("the tunnel broke: {0}")]
    Broken(String),
}

impl From<std::io::Error> for Ended {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "it ended without a close".to_owned(),
            _ => printable(&error.to_string()),
        })
    }
}

impl From<FrameError> for Ended {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Text => Self::Text,
            FrameError::Malformed => Self::Broken(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
