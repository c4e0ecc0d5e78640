//! A data channel over its websocket: opened with a token, then pumped to a local stream.

use std::time::Duration;

use eic_protocol::secret::Secret;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::channel::{Channel, ChannelError, Event, MAX_PAYLOAD};
use super::start::CLIENT_VERSION;

/// How long the host's agent may take to answer.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// How often what is late is looked for.
const TICK: Duration = Duration::from_millis(100);
/// How often a quiet channel is pinged.
const BEAT: Duration = Duration::from_secs(20);
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a refusal may take: somebody waits for the other way.
const PARTING: Duration = Duration::from_secs(1);
/// Most that is read of the local side at once, and cut into messages then. Bytes.
const AT_ONCE: usize = 64 * 1024;
/// Most messages that wait for the websocket: a window of data, and as many acknowledgements again.
const QUEUE: usize = 8_192;

/// An open session.
pub struct Session<S> {
    channel: Channel,
    sink: SplitSink<WebSocketStream<S>, Message>,
    stream: SplitStream<WebSocketStream<S>>,
    /// What the host said before the local side was there.
    early: Vec<u8>,
    started: Instant,
    now: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct OpenDataChannel<'a> {
    message_schema_version: &'static str,
    request_id: String,
    token_value: &'a Secret<String>,
    client_id: String,
    client_version: &'static str,
}

/// Opens the channel; `now` is the time in milliseconds.
///
/// # Errors
/// [`SessionError`].
pub async fn open<S>(
    socket: WebSocketStream<S>,
    token: &Secret<String>,
    now: u64,
) -> Result<Session<S>, SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, stream) = socket.split();
    let mut session = Session {
        channel: Channel::default(),
        sink,
        stream,
        early: Vec::new(),
        started: Instant::now(),
        now,
    };
    let done = tokio::time::timeout(HANDSHAKE, session.handshake(token)).await;
    done.map_err(|_| SessionError::Slow)??;
    Ok(session)
}

impl<S> Session<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    async fn handshake(&mut self, token: &Secret<String>) -> Result<(), SessionError> {
        let opening = OpenDataChannel {
            message_schema_version: "1.0",
            request_id: random_id(),
            token_value: token,
            client_id: random_id(),
            client_version: CLIENT_VERSION,
        };
        let text = serde_json::to_string(&opening).unwrap_or_default();
        self.sink.send(Message::text(text)).await.map_err(broken)?;
        loop {
            let message = self.stream.next().await.ok_or(SessionError::Ended)?;
            let mut is_ready = false;
            for event in self.events(message.map_err(broken)?)? {
                match event {
                    Event::Send(bytes) => self
                        .sink
                        .send(Message::binary(bytes))
                        .await
                        .map_err(broken)?,
                    // Agents before 2.3 shake no hands.
                    Event::Output(bytes) => {
                        self.early.extend(bytes);
                        is_ready = true;
                    }
                    Event::Ready => is_ready = true,
                    Event::Closed(words) => return Err(SessionError::Closed(words)),
                    Event::Refused(error) => {
                        self.part().await;
                        return Err(error.into());
                    }
                }
            }
            if is_ready {
                return Ok(());
            }
        }
    }

    /// Closes, and reads what still comes: a connection that is dropped over unread bytes is reset, and the refusal
    /// could be lost with it.
    async fn part(&mut self) {
        let parting = async {
            let _ = self.sink.close().await;
            while let Some(Ok(_)) = self.stream.next().await {}
        };
        let _ = tokio::time::timeout(PARTING, parting).await;
    }

    fn events(&mut self, message: Message) -> Result<Vec<Event>, SessionError> {
        let now = self.time();
        match message {
            Message::Binary(bytes) => Ok(self.channel.receive(&bytes, now)?),
            Message::Close(frame) => {
                let words = frame.map(|frame| eic_protocol::text::printable(&frame.reason));
                Ok(vec![Event::Closed(words.unwrap_or_default())])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn time(&self) -> u64 {
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.now.saturating_add(passed)
    }

    /// Pumps until one side ends.
    ///
    /// # Errors
    /// [`SessionError`] where the service or the host ended it.
    pub async fn pump(self, local: impl AsyncRead + AsyncWrite) -> Result<(), SessionError> {
        let (sender, queue) = channel(QUEUE);
        let Self {
            channel,
            sink,
            stream,
            early,
            started,
            now,
        } = self;
        let pumping = Pumping {
            channel,
            started,
            now,
            queue: sender,
        };
        let (reader, writer) = tokio::io::split(local);
        let write = write_out(sink, queue);
        let work = pumping.run(stream, reader, writer, early);
        // The writer ends when the other has let its queue go: last words are sent.
        let ((), outcome) = tokio::join!(write, work);
        outcome
    }
}

/// Everything to be sent, in order; flushed when nothing more waits.
async fn write_out<S>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut queue: Receiver<Message>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = queue.recv().await {
        let sent = sink.feed(message).await.is_ok();
        if !sent || (queue.is_empty() && sink.flush().await.is_err()) {
            // The reader learns of it too; what is still queued goes nowhere.
            queue.close();
            return;
        }
    }
    let _ = tokio::time::timeout(FAREWELL, sink.close()).await;
}

/// What a message of the service's leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// Both sides.
    GoesOn,
    /// The agent has ended the session.
    Over,
    /// The local side takes nothing more.
    NobodyHere,
}

struct Pumping {
    channel: Channel,
    started: Instant,
    now: u64,
    queue: Sender<Message>,
}

impl Pumping {
    async fn run<S>(
        mut self,
        mut stream: SplitStream<WebSocketStream<S>>,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        early: Vec<u8>,
    ) -> Result<(), SessionError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if writer.write_all(&early).await.is_err() {
            return self.farewell(stream, writer).await;
        }
        let mut buffer = vec![0; AT_ONCE];
        let (mut tick, mut beat) = (tokio::time::interval(TICK), tokio::time::interval(BEAT));
        loop {
            let limit = self.room().saturating_mul(MAX_PAYLOAD).min(AT_ONCE);
            let free = buffer.get_mut(..limit).unwrap_or_default();
            tokio::select! {
                read = reader.read(free), if limit > 0 => {
                    let Some(bytes) = buffer.get(..read.unwrap_or(0)).filter(|b| !b.is_empty()) else {
                        return self.farewell(stream, writer).await;
                    };
                    self.send_data(bytes)?;
                }
                message = stream.next() => {
                    let message = message.ok_or(SessionError::Ended)?.map_err(broken)?;
                    match self.deliver(message, &mut writer).await? {
                        After::GoesOn => {}
                        After::Over => return Ok(()),
                        // ssh may be gone before that is read: the session is ended all the same.
                        After::NobodyHere => return self.farewell(stream, writer).await,
                    }
                }
                _ = tick.tick() => {
                    for bytes in self.channel.due(self.time())? {
                        self.send(Message::binary(bytes))?;
                    }
                }
                _ = beat.tick() => self.send(Message::Ping(Bytes::new()))?,
            }
        }
    }

    /// How many messages of data may be sent. Half of the queue is left to acknowledgements and resending.
    fn room(&self) -> usize {
        let queue = self.queue.capacity().saturating_sub(QUEUE / 2);
        self.channel.room().min(queue)
    }

    fn send_data(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let now = self.time();
        for payload in bytes.chunks(MAX_PAYLOAD) {
            let data = self.channel.data(payload, now);
            self.send(Message::binary(data))?;
        }
        Ok(())
    }

    /// The local side is done: the agent is asked to end, and what is under way is delivered.
    async fn farewell<S>(
        mut self,
        mut stream: SplitStream<WebSocketStream<S>>,
        mut writer: impl AsyncWrite + Unpin,
    ) -> Result<(), SessionError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let bytes = self.channel.terminate(self.time());
        self.send(Message::binary(bytes))?;
        let last = async {
            while let Some(Ok(message)) = stream.next().await {
                // What nobody here takes any more does not matter; the agent's word that it is over does.
                match self.deliver(message, &mut writer).await {
                    Ok(After::GoesOn | After::NobodyHere) => {}
                    Ok(After::Over) | Err(_) => return,
                }
            }
        };
        let _ = tokio::time::timeout(FAREWELL, last).await;
        Ok(())
    }

    async fn deliver(
        &mut self,
        message: Message,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<After, SessionError> {
        let events = match message {
            Message::Binary(bytes) => self.channel.receive(&bytes, self.time())?,
            Message::Close(_) => return Err(SessionError::Ended),
            _ => Vec::new(),
        };
        for event in events {
            match event {
                Event::Send(bytes) => self.send(Message::binary(bytes))?,
                Event::Output(bytes) if writer.write_all(&bytes).await.is_err() => {
                    return Ok(After::NobodyHere);
                }
                Event::Closed(words) if words.is_empty() => return Ok(After::Over),
                Event::Closed(words) => return Err(SessionError::Closed(words)),
                Event::Refused(error) => return Err(error.into()),
                Event::Output(_) | Event::Ready => {}
            }
        }
        Ok(After::GoesOn)
    }

    /// Never waits: a queue that is full is a dead network, and what matters is sent again.
    fn send(&self, message: Message) -> Result<(), SessionError> {
        match self.queue.try_send(message) {
            Err(tokio::sync::mpsc::error::TrySendError::Closed(_)) => Err(SessionError::Ended),
            _ => Ok(()),
        }
    }

    fn time(&self) -> u64 {
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.now.saturating_add(passed)
    }
}

impl SessionError {
    /// Whether the session asks for what AWS's plugin may know.
    #[must_use]
    pub fn is_the_plugins(&self) -> bool {
        matches!(
            self,
            Self::Channel(ChannelError::Encrypted | ChannelError::Action(_))
        )
    }
}

fn random_id() -> String {
    super::message::id_text(super::message::Ids::default().next())
}

fn broken(error: tokio_tungstenite::tungstenite::Error) -> SessionError {
    SessionError::Broken(eic_protocol::text::printable(&error.to_string()))
}

/// The session is over or never was.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The protocol.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The service says why.
    #[error("Session Manager ended the session: {0}")]
    Closed(String),
    /// It does not.
    #[error("Session Manager ended the session")]
    Ended,
    /// The connection.
    #[error("the connection to Session Manager broke: {0}")]
    Broken(String),
    /// The host's agent.
    #[error("the host's Session Manager agent did not answer within {} s", HANDSHAKE.as_secs())]
    Slow,
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{DuplexStream, ReadBuf};
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::super::message::{self, Ids};
    use super::*;

    /// A local side that was gone before the end of its bytes was seen: it says nothing and takes nothing more.
    struct Gone {
        takes: usize,
    }

    impl AsyncRead for Gone {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Gone {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(match self.takes.checked_sub(1) {
                None => Err(io::ErrorKind::BrokenPipe.into()),
                Some(left) => {
                    self.takes = left;
                    Ok(bytes.len())
                }
            })
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn output(sequence: i64) -> Message {
        let (kind, id) = (message::OUTPUT_STREAM, Ids::default().next());
        let said = message::Message::new(kind, id, sequence, message::OUTPUT, b"SSH-2.0".to_vec());
        Message::binary(said.encode(0))
    }

    /// Says two things as the host's agent, and reads until it is asked to end the session.
    async fn is_asked_to_end(mut agent: WebSocketStream<DuplexStream>) -> bool {
        agent.next().await;
        for sequence in 0..2 {
            agent.send(output(sequence)).await.unwrap();
        }
        while let Some(Ok(sent)) = agent.next().await {
            let sent = message::Message::decode(&sent.into_data());
            let terminates = |sent: &message::Message| {
                sent.payload_type == message::FLAG
                    && sent.payload == message::TERMINATE.to_be_bytes()
            };
            if sent.as_ref().is_some_and(terminates) {
                return true;
            }
        }
        false
    }

    #[tokio::test]
    async fn a_session_is_ended_also_where_nobody_is_there_to_read_the_hosts_last_words() {
        for takes in [0, 1] {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let agent = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
            let asked = tokio::spawn(is_asked_to_end(agent));
            let socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
            let token = Secret::new("token".to_owned());
            let session = open(socket, &token, 0).await.unwrap();
            session.pump(Gone { takes }).await.unwrap();
            assert!(asked.await.unwrap(), "{takes}");
        }
    }
}
