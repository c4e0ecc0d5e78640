//! Raw bytes over a websocket, both ways, until one side ends: binary frames of at most 65,000 bytes, as AWS's own
//! client sends them. Knows nothing of where the websocket leads.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use eic_protocol::text::printable;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

/// Largest payload of a client's frame. Bytes.
pub const MAX_PAYLOAD: usize = 65_000;
/// How often a quiet tunnel is pinged: below the 60 s after which network devices forget a connection.
pub const BEAT: Duration = Duration::from_secs(20);
/// How long the last words of the other side may take after ours.
const FAREWELL: Duration = Duration::from_secs(5);
/// A side that answered a ping once and is silent for so many beats is gone.
const SILENT_BEATS: u32 = 3;

/// Pumps until the local side or the server ends.
///
/// # Errors
/// [`Ended`] where the server ended it otherwise than by a normal close.
pub async fn pump<S>(
    socket: WebSocketStream<S>,
    local: impl AsyncRead + AsyncWrite,
    beat: Duration,
) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, stream) = socket.split();
    let (reader, writer) = tokio::io::split(local);
    let pulse = Pulse::new();
    let outcome = {
        let up = upstream(reader, &mut sink, &pulse, beat);
        let down = downstream(stream, writer, &pulse);
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
    let _ = tokio::time::timeout(FAREWELL, sink.close()).await;
    outcome
}

/// When the server was last heard of.
struct Pulse {
    started: Instant,
    /// Milliseconds after the start.
    heard: AtomicU64,
    answers_pings: AtomicBool,
}

impl Pulse {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            heard: AtomicU64::new(0),
            answers_pings: AtomicBool::new(false),
        }
    }

    fn age(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn hear(&self) {
        self.heard.store(self.age(), Ordering::Relaxed);
    }

    /// A server that never answered a ping may not know how: its silence means nothing.
    fn is_gone(&self, beat: Duration) -> bool {
        let silence = self
            .age()
            .saturating_sub(self.heard.load(Ordering::Relaxed));
        let limit = (beat * SILENT_BEATS).as_millis();
        self.answers_pings.load(Ordering::Relaxed) && u128::from(silence) > limit
    }
}

async fn upstream(
    mut local: impl AsyncRead + Unpin,
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    pulse: &Pulse,
    beat: Duration,
) -> Result<(), Ended> {
    let mut buffer = vec![0; MAX_PAYLOAD];
    let mut beats = tokio::time::interval(beat);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    beats.tick().await;
    loop {
        let message = tokio::select! {
            read = local.read(&mut buffer) => match buffer.get(..read.unwrap_or(0)) {
                Some(bytes) if !bytes.is_empty() => Message::Binary(Bytes::copy_from_slice(bytes)),
                // The end, said once: never an empty frame.
                _ => {
                    let _ = sink.send(Message::Close(None)).await;
                    return Ok(());
                }
            },
            _ = beats.tick() => {
                if pulse.is_gone(beat) {
                    return Err(Ended::Silent);
                }
                Message::Ping(Bytes::new())
            }
        };
        send(sink, message, pulse, beat).await?;
    }
}

/// A dead network takes no bytes either: sending has the same patience as waiting.
async fn send(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    message: Message,
    pulse: &Pulse,
    beat: Duration,
) -> Result<(), Ended> {
    let sending = sink.send(message);
    tokio::pin!(sending);
    loop {
        match tokio::time::timeout(beat, &mut sending).await {
            Ok(sent) => return sent.map_err(Ended::from),
            Err(_) if pulse.is_gone(beat) => return Err(Ended::Silent),
            Err(_) => {}
        }
    }
}

async fn downstream(
    mut stream: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut local: impl AsyncWrite + Unpin,
    pulse: &Pulse,
) -> Result<(), Ended> {
    while let Some(message) = stream.next().await {
        pulse.hear();
        match message? {
            Message::Binary(bytes) => {
                // The local side is gone: nobody to tell.
                if local.write_all(&bytes).await.is_err() || local.flush().await.is_err() {
                    return Ok(());
                }
            }
            Message::Text(_) => return Err(Ended::Text),
            Message::Pong(_) => pulse.answers_pings.store(true, Ordering::Relaxed),
            Message::Close(frame) => return closed(frame),
            // Pings are answered by the library.
            Message::Ping(_) | Message::Frame(_) => {}
        }
    }
    Err(Ended::Broken("it ended without a close".to_owned()))
}

/// 1000 is a normal end, and so is a close without a code.
fn closed(frame: Option<CloseFrame>) -> Result<(), Ended> {
    match frame.map(|frame| (u16::from(frame.code), frame.reason)) {
        None | Some((1000 | 1005, _)) => Ok(()),
        Some((code, reason)) => Err(Ended::Closed {
            code,
            reason: printable(&reason),
        }),
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

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Broken("it ended without a close".to_owned())
            }
            other => Self::Broken(printable(&other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
