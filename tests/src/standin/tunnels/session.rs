//! Session Manager: StartSession within its rate, the websocket that it names, and an agent behind it that carries
//! the bytes of one port: sequence numbers, acknowledgements, messages sent again, 1,024 bytes in each.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, SinkExt, StreamExt};
use http::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::aws::{Call, REGION};
use crate::standin::answer::{self, error, request_id};
use crate::standin::signed_request::{SignedRequest, unix_seconds};
use crate::standin::tunnels::State;
use crate::standin::tunnels::door::Head;
use crate::standin::tunnels::message::ChannelMessage;
use crate::standin::tunnels::signature::{Scope, sha256, signature};
use crate::standin::{Shared, locked};
use crate::xml;

/// Where websockets of sessions are.
pub(super) const NAME: &str = "ssmmessages.us-east-1.amazonaws.com";

/// StartSession calls per second and account (Systems Manager quotas).
const STARTS_PER_SECOND: f64 = 3.0;

/// So many at once after a pause: AWS meters by token buckets, whose size for this call it does not publish. Calls
/// that left in time arrive in clumps.
const STARTS_AT_ONCE: f64 = 6.0;

/// Largest payload of a message, in both directions. Bytes.
const LARGEST_PAYLOAD: usize = 1024;

/// Most that is read of a client at once: a record of TLS. Bytes.
const LONGEST_READ: usize = 16 * 1024;

/// Most that is read of the host at once, and cut into messages then. Bytes.
const AT_ONCE: usize = 64 * 1024;

/// Messages that the agent has under way at most.
const WINDOW: usize = 500;

/// When the agent sends a message again.
const AGAIN: Duration = Duration::from_millis(800);

/// How long what the client still sends is read after the last message.
const FAREWELL: Duration = Duration::from_secs(5);

/// A session whose websocket has not come yet.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    token: String,
    target: SocketAddr,
    access_key_id: String,
}

/// StartSession of `AWS-StartSSHSession`. moto knows no such call; what it says of the caller counts.
pub(crate) async fn start(
    shared: &Shared,
    request: &SignedRequest,
    verdict: Response<Bytes>,
    arrived: Instant,
) -> Response<Bytes> {
    if matches!(verdict.status().as_u16(), 400 | 403) {
        return verdict;
    }
    if !in_pace(&shared.tunnels, arrived) {
        return error("ssm", 400, "ThrottlingException", "Rate exceeded");
    }
    let body = request.json();
    match target(shared, request, &body).await {
        Some(target) => started(shared, request, target),
        None => error(
            "ssm",
            400,
            "TargetNotConnected",
            "the target is not connected",
        ),
    }
}

/// By when the call arrived: how long moto takes is no affair of the quota.
fn in_pace(state: &State, arrived: Instant) -> bool {
    state.with(|record| {
        let (tokens, then) = record.starts.unwrap_or((STARTS_AT_ONCE, arrived));
        let since = arrived.saturating_duration_since(then).as_secs_f64();
        let tokens = (tokens + since * STARTS_PER_SECOND).min(STARTS_AT_ONCE);
        let admitted = tokens >= 1.0;
        record.seen.throttled += usize::from(!admitted);
        let left = if admitted { tokens - 1.0 } else { tokens };
        record.starts = Some((left, arrived.max(then)));
        admitted
    })
}

/// The instance's address, by moto, and the port that was asked for.
async fn target(shared: &Shared, request: &SignedRequest, body: &Value) -> Option<SocketAddr> {
    if body.get("DocumentName")? != "AWS-StartSSHSession" {
        return None;
    }
    let port = body
        .pointer("/Parameters/portNumber/0")?
        .as_str()?
        .parse::<u16>()
        .ok()?;
    let id = body.get("Target")?.as_str()?;
    let account = shared.caller(&request.access_key_id)?.account;
    let call = Call::query("ec2", "DescribeInstances", &[("InstanceId.1", id)]);
    let answer = shared
        .ask(&account, &call.region(&request.region))
        .await
        .ok()?;
    let address: Ipv4Addr = xml::text(&answer, "privateIpAddress")?.parse().ok()?;
    Some((address, port).into())
}

fn started(shared: &Shared, request: &SignedRequest, target: SocketAddr) -> Response<Bytes> {
    let (id, token) = (format!("lab-{}", request_id()), request_id());
    let path = format!("/v1/data-channel/{id}?role=publish_subscribe");
    let waiting = Waiting {
        token: token.clone(),
        target,
        access_key_id: request.access_key_id.clone(),
    };
    shared
        .tunnels
        .with(|record| record.waiting.insert(path.clone(), waiting));
    answer::json(&json!({
        "SessionId": id, "TokenValue": token, "StreamUrl": format!("wss://{NAME}{path}"),
    }))
}

/// What is checked before the websocket opens: a session that waits, and its starter's signature in the headers.
pub(super) fn admit(shared: &Shared, head: &Head) -> Result<Waiting, String> {
    head.check_upgrade(NAME)?;
    let path = head.target();
    let waiting = shared.tunnels.with(|record| record.waiting.remove(path));
    let waiting = waiting.ok_or("no such session")?;
    check_signature(shared, head, &waiting.access_key_id)?;
    shared.tunnels.with(|record| {
        record.seen.by_session += 1;
        record.seen.open += 1;
    });
    Ok(waiting)
}

fn check_signature(shared: &Shared, head: &Head, access_key_id: &str) -> Result<(), String> {
    let header = |name: &str| head.header(name).ok_or(format!("no {name}"));
    let (date, given) = (header("x-amz-date")?, header("authorization")?);
    let made = unix_seconds(date).ok_or("no date")?;
    if made.abs_diff(shared.clock.now()) > 15 * 60 {
        return Err("Signature expired".to_owned());
    }
    let (path, query) = head.target().split_once('?').ok_or("no query")?;
    let day = date.get(..8).unwrap_or_default();
    let signed = "host;x-amz-date";
    let canonical = format!(
        "GET\n{path}\n{query}\nhost:{NAME}\nx-amz-date:{date}\n\n{signed}\n{}",
        sha256(b"")
    );
    let scope = Scope {
        day,
        region: REGION,
        service: "ssmmessages",
    };
    let caller = locked(&shared.handed_out).get(access_key_id).cloned();
    let caller = caller.ok_or("no such key")?;
    let right = signature(&caller.secret_access_key, scope, date, &canonical);
    let expected = format!(
        "AWS4-HMAC-SHA256 Credential={access_key_id}/{day}/{REGION}/ssmmessages/aws4_request, \
         SignedHeaders={signed}, Signature={right}"
    );
    if given == expected {
        Ok(())
    } else {
        Err("The request signature we calculated does not match".to_owned())
    }
}

/// Carries the port until one side ends.
pub(super) async fn carry<S>(stream: S, waiting: Waiting, shared: &Shared) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // All of this is cleared before each read.
    let config = WebSocketConfig::default().read_buffer_size(LONGEST_READ);
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let outcome = converse(socket, &waiting, shared).await;
    shared
        .tunnels
        .with(|record| record.seen.open = record.seen.open.saturating_sub(1));
    outcome
}

async fn converse<S>(
    mut socket: WebSocketStream<S>,
    waiting: &Waiting,
    shared: &Shared,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(Ok(Message::Text(opening))) = socket.next().await else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let opening: Value = serde_json::from_str(&opening)?;
    let said = |name: &str| opening.get(name).and_then(Value::as_str);
    if said("TokenValue") != Some(&waiting.token) || said("MessageSchemaVersion") != Some("1.0") {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let host = TcpStream::connect(waiting.target).await?;
    host.set_nodelay(true)?;
    Agent::new(socket, host).run(shared).await
}

/// The agent on the instance, and the service between it and the client.
struct Agent<S> {
    socket: WebSocketStream<S>,
    host: TcpStream,
    next: i64,
    under_way: BTreeMap<i64, (Vec<u8>, Instant)>,
    expected: i64,
    held: BTreeMap<i64, ChannelMessage>,
    is_open: bool,
    /// When the client was last heard of.
    heard: Instant,
}

/// What a round of the conversation came to.
#[derive(PartialEq, Eq)]
enum Round {
    GoOn,
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Agent<S> {
    fn new(socket: WebSocketStream<S>, host: TcpStream) -> Self {
        Self {
            socket,
            host,
            next: 0,
            under_way: BTreeMap::new(),
            expected: 0,
            held: BTreeMap::new(),
            is_open: false,
            heard: Instant::now(),
        }
    }

    async fn run(mut self, shared: &Shared) -> io::Result<()> {
        let request = json!({"AgentVersion": "3.3.1", "RequestedClientActions": [{
            "ActionType": "SessionType",
            "ActionParameters": {"SessionType": "Port", "Properties": {"portNumber": "22"}},
        }]});
        self.send(5, request.to_string().as_bytes()).await?;
        let mut buffer = vec![0; AT_ONCE];
        let mut beat = tokio::time::interval(AGAIN / 4);
        loop {
            // What is there already is answered in one go.
            while let Some(got) = self.socket.next().now_or_never() {
                self.heard = Instant::now();
                if self.heard_of(got, shared).await? == Round::End {
                    return self.flush().await;
                }
            }
            self.flush().await?;
            let room = WINDOW.saturating_sub(self.under_way.len()) * LARGEST_PAYLOAD;
            let limit = if self.is_open { room.min(AT_ONCE) } else { 0 };
            let free = buffer.get_mut(..limit).unwrap_or_default();
            let round = tokio::select! {
                read = self.host.read(free), if limit > 0 => {
                    let bytes = buffer.get(..read.unwrap_or(0)).unwrap_or_default();
                    self.host_said(bytes).await?
                }
                got = self.socket.next() => {
                    self.heard = Instant::now();
                    self.heard_of(got, shared).await?
                }
                _ = beat.tick() => self.beat(shared).await?,
            };
            if round == Round::End {
                return self.flush().await;
            }
        }
    }

    async fn heard_of(
        &mut self,
        got: Option<Result<Message, Error>>,
        shared: &Shared,
    ) -> io::Result<Round> {
        match got {
            Some(Ok(Message::Binary(bytes))) => self.client_said(&bytes).await,
            Some(Ok(Message::Ping(_))) => {
                shared.tunnels.with(|record| record.seen.pings += 1);
                Ok(Round::GoOn)
            }
            _ => Ok(Round::End),
        }
    }

    async fn beat(&mut self, shared: &Shared) -> io::Result<Round> {
        let quiet = shared.tunnels.with(|record| record.quiet);
        if quiet.is_some_and(|quiet| self.heard.elapsed() > quiet) {
            return Ok(Round::End);
        }
        self.send_again().await?;
        Ok(Round::GoOn)
    }

    async fn host_said(&mut self, bytes: &[u8]) -> io::Result<Round> {
        for payload in bytes.chunks(LARGEST_PAYLOAD) {
            self.send(1, payload).await?;
        }
        if !bytes.is_empty() {
            return Ok(Round::GoOn);
        }
        let close = ChannelMessage::new("channel_closed", 0, 0, b"{}");
        self.write(close.encode()).await?;
        self.flush().await?;
        // What the client still sends is read: a socket closed over unread bytes is reset, and the end is lost.
        let rest = async { while self.socket.next().await.is_some_and(|got| got.is_ok()) {} };
        drop(tokio::time::timeout(FAREWELL, rest).await);
        Ok(Round::End)
    }

    async fn client_said(&mut self, bytes: &[u8]) -> io::Result<Round> {
        let message = ChannelMessage::decode(bytes).ok_or(io::ErrorKind::InvalidData)?;
        if message.payload.len() > LARGEST_PAYLOAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if message.kind == "acknowledge" {
            let content: Value = serde_json::from_slice(&message.payload)?;
            let sequence = content.get("AcknowledgedMessageSequenceNumber");
            let sequence = sequence.and_then(Value::as_i64);
            self.under_way.remove(&sequence.unwrap_or(-1));
            return Ok(Round::GoOn);
        }
        self.acknowledge(&message).await?;
        if message.sequence >= self.expected {
            self.held.insert(message.sequence, message);
        }
        while let Some(message) = self.held.remove(&self.expected) {
            self.expected += 1;
            if self.take(&message).await? == Round::End {
                return Ok(Round::End);
            }
        }
        Ok(Round::GoOn)
    }

    async fn take(&mut self, message: &ChannelMessage) -> io::Result<Round> {
        match message.payload_type {
            6 => {
                let done = br#"{"HandshakeTimeToComplete":1,"CustomerMessage":""}"#;
                self.send(7, done).await?;
                self.is_open = true;
            }
            // A flag: 2 ends the session.
            10 => return Ok(Round::End),
            _ => self.host.write_all(&message.payload).await?,
        }
        Ok(Round::GoOn)
    }

    async fn acknowledge(&mut self, message: &ChannelMessage) -> io::Result<()> {
        let content = json!({
            "AcknowledgedMessageType": message.kind, "AcknowledgedMessageId": message.uuid(),
            "AcknowledgedMessageSequenceNumber": message.sequence, "IsSequentialMessage": true,
        });
        let answer = ChannelMessage::new("acknowledge", 0, 0, content.to_string().as_bytes());
        self.write(answer.encode()).await
    }

    async fn send(&mut self, payload_type: u32, payload: &[u8]) -> io::Result<()> {
        let sequence = self.next;
        self.next += 1;
        let message = ChannelMessage::new("output_stream_data", sequence, payload_type, payload);
        let bytes = message.encode();
        self.under_way
            .insert(sequence, (bytes.clone(), Instant::now()));
        self.write(bytes).await
    }

    async fn send_again(&mut self) -> io::Result<()> {
        let mut late = VecDeque::new();
        for (bytes, sent) in self.under_way.values_mut() {
            if sent.elapsed() > AGAIN {
                *sent = Instant::now();
                late.push_back(bytes.clone());
            }
        }
        for bytes in late {
            self.write(bytes).await?;
        }
        Ok(())
    }

    /// Sent with what comes after it, or by a flush.
    async fn write(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let fed = self.socket.feed(Message::binary(bytes)).await;
        fed.map_err(io::Error::other)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.socket.flush().await.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_sessions_than_the_quota_allows_are_throttled_until_time_has_passed() {
        let (state, begun) = (State::default(), Instant::now());
        for _ in 0..6 {
            assert!(in_pace(&state, begun));
        }
        assert!(!in_pace(&state, begun));
        assert!(!in_pace(&state, begun + Duration::from_millis(200)));
        assert!(in_pace(&state, begun + Duration::from_millis(400)));
        assert_eq!(state.with(|record| record.seen.throttled), 2);
    }
}
