//! The stand-in for Session Manager's websocket and the agent behind it. Reads and writes the messages of the data
//! channel by itself, loses and swaps some, and checks what it gets: signature, token, digests, sizes, order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::service::{State, mac};

pub(crate) const HOST: &str = "ssmmessages.eu-west-1.amazonaws.com";
const PATH: &str = "/v1/data-channel/alice-0a1b?role=publish_subscribe";
const TOKEN: &str = "token-canary";

/// What StartSession answers.
pub(crate) fn started() -> String {
    format!(
        r#"{{"SessionId":"alice-0a1b","TokenValue":"{TOKEN}","StreamUrl":"wss://{HOST}{PATH}"}}"#
    )
}

pub(crate) async fn serve<S>(mut stream: S, head: &str, state: &Mutex<State>) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = check(head).unwrap();
    let accept = eic_login::transport::websocket::accepted(&key);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await?;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let opening = socket.next().await.unwrap().unwrap().into_text().unwrap();
    let opening: serde_json::Value = serde_json::from_str(&opening).unwrap();
    assert_eq!(
        (&opening["TokenValue"], &opening["MessageSchemaVersion"]),
        (&TOKEN.into(), &"1.0".into())
    );
    let (target, agent) = {
        let state = state.lock().unwrap();
        (state.target.unwrap(), state.agent)
    };
    let mut host = TcpStream::connect(target).await?;
    Agent::new(agent).run(&mut socket, &mut host, state).await;
    Ok(())
}

/// The signature in the headers, by hand; gives the websocket key.
fn check(head: &str) -> Result<String, String> {
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(n, _)| n.eq_ignore_ascii_case(name));
        found
            .map(|(_, value)| value.to_owned())
            .ok_or(format!("no {name}"))
    };
    if head.split(' ').nth(1) != Some(PATH) {
        return Err("another path".to_owned());
    }
    let (date, given) = (header("x-amz-date")?, header("authorization")?);
    let (path, query) = PATH.split_once('?').unwrap();
    let empty = hex::encode(Sha256::digest([]));
    let signed = "host;x-amz-date";
    let canonical =
        format!("GET\n{path}\n{query}\nhost:{HOST}\nx-amz-date:{date}\n\n{signed}\n{empty}");
    let day = &date[..8];
    let scope = format!("{day}/eu-west-1/ssmmessages/aws4_request");
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hex::encode(Sha256::digest(canonical))
    );
    let key = ["eu-west-1", "ssmmessages", "aws4_request"]
        .iter()
        .fold(mac(b"AWS4secret", day), |key, part| mac(&key, part));
    let signature = hex::encode(mac(&key, &text));
    if given.contains(&scope)
        && given.contains(signed)
        && given.ends_with(&format!("Signature={signature}"))
    {
        header("sec-websocket-key")
    } else {
        Err(format!("the signature does not match: {given}"))
    }
}

/// A message as the published layout has it.
fn message(kind: &str, sequence: i64, payload_type: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = 116_u32.to_be_bytes().to_vec();
    bytes.extend(format!("{kind:<32}").bytes());
    bytes.extend(1_u32.to_be_bytes());
    bytes.extend(0_u64.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(0_u64.to_be_bytes());
    bytes.extend([7; 16]);
    bytes.extend(Sha256::digest(payload));
    bytes.extend(payload_type.to_be_bytes());
    bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload);
    bytes
}

struct Agent {
    fault: &'static str,
    next: i64,
    unacknowledged: BTreeMap<i64, (Vec<u8>, Instant)>,
    expected: i64,
    held: BTreeMap<i64, Vec<u8>>,
    lost: std::collections::BTreeSet<i64>,
    swapped: Option<Vec<u8>>,
}

impl Agent {
    fn new(fault: &'static str) -> Self {
        Self {
            fault,
            next: 0,
            unacknowledged: BTreeMap::new(),
            expected: 0,
            held: BTreeMap::new(),
            lost: std::collections::BTreeSet::new(),
            swapped: None,
        }
    }

    async fn run<S>(
        mut self,
        socket: &mut WebSocketStream<S>,
        host: &mut TcpStream,
        state: &Mutex<State>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let action = match self.fault {
            "encrypted" => r#"{"ActionType":"KMSEncryption","ActionParameters":{"KMSKeyId":"k"}}"#,
            _ => {
                r#"{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port","Properties":{"portNumber":"22"}}}"#
            }
        };
        let request = format!(r#"{{"AgentVersion":"3.3.1","RequestedClientActions":[{action}]}}"#);
        self.send(socket, 5, request.as_bytes()).await;
        let mut buffer = [0; 1024];
        let mut again = tokio::time::interval(Duration::from_millis(50));
        let (mut read_bytes, mut is_open) = (0, false);
        loop {
            tokio::select! {
                read = host.read(&mut buffer), if is_open && self.unacknowledged.len() < 500 => {
                    let read = read.unwrap_or(0);
                    if read == 0 || (self.fault == "closes" && read_bytes > 50_000) {
                        let words = br#"{"Output":"maximum session duration","MessageType":"channel_closed"}"#;
                        let words: &[u8] = if self.fault == "closes" { words } else { b"{}" };
                        let _ = socket.send(Message::binary(message("channel_closed", 0, 0, words))).await;
                        // What the client still sends is read: a socket closed over unread bytes is reset, and
                        // the reason could be lost with it.
                        let rest = async { while socket.next().await.is_some_and(|got| got.is_ok()) {} };
                        let _ = tokio::time::timeout(Duration::from_secs(5), rest).await;
                        return;
                    }
                    read_bytes += read;
                    let bytes = buffer[..read].to_vec();
                    self.send(socket, 1, &bytes).await;
                }
                got = socket.next() => match got {
                    Some(Ok(Message::Binary(bytes))) => {
                        is_open |= !self.take(&bytes, socket, host, state).await;
                    }
                    Some(Ok(Message::Ping(_))) => {}
                    _ => return,
                },
                _ = again.tick() => self.send_again(socket).await,
            }
        }
    }

    /// Each 97th message is lost at first, each 50th comes after the next one.
    async fn send<S>(&mut self, socket: &mut WebSocketStream<S>, payload_type: u32, payload: &[u8])
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let sequence = self.next;
        self.next += 1;
        let bytes = message("output_stream_data", sequence, payload_type, payload);
        self.unacknowledged
            .insert(sequence, (bytes.clone(), Instant::now()));
        if self.fault == "lossy" && sequence % 97 == 96 {
            return;
        }
        if self.fault == "lossy" && sequence % 50 == 49 {
            self.swapped = Some(bytes);
            return;
        }
        let _ = socket.send(Message::binary(bytes)).await;
        if let Some(swapped) = self.swapped.take() {
            let _ = socket.send(Message::binary(swapped)).await;
        }
    }

    async fn send_again<S>(&mut self, socket: &mut WebSocketStream<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        for (bytes, sent) in self.unacknowledged.values_mut() {
            if sent.elapsed() > Duration::from_millis(300) {
                *sent = Instant::now();
                let _ = socket.send(Message::binary(bytes.clone())).await;
            }
        }
    }

    /// Whether the handshake is still going on.
    async fn take<S>(
        &mut self,
        bytes: &[u8],
        socket: &mut WebSocketStream<S>,
        host: &mut TcpStream,
        state: &Mutex<State>,
    ) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let got = Got::checked(bytes);
        if got.kind == "acknowledge" {
            self.unacknowledged.remove(&got.acknowledged());
            return self.expected == 0;
        }
        assert_eq!(got.kind, "input_stream_data");
        if self.fault == "lossy" && got.sequence % 101 == 100 && self.lost.insert(got.sequence) {
            return false;
        }
        let answer = message("acknowledge", 0, 0, got.acknowledgement().as_bytes());
        let _ = socket.send(Message::binary(answer)).await;
        if got.sequence < self.expected {
            state.lock().unwrap().resent += 1;
            return false;
        }
        match got.payload_type {
            6 => return self.shake_hands(&got.payload, socket, state).await,
            10 => {
                let flag = u32::from_be_bytes(got.payload.try_into().unwrap());
                state.lock().unwrap().flags.push(flag);
                self.expected += 1;
                let _ = host.shutdown().await;
            }
            _ => self.hand_on(got, host).await,
        }
        false
    }

    /// The client's answer to what was asked; whether the handshake still goes on.
    async fn shake_hands<S>(
        &mut self,
        answer: &[u8],
        socket: &mut WebSocketStream<S>,
        state: &Mutex<State>,
    ) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let answer: serde_json::Value = serde_json::from_slice(answer).unwrap();
        self.expected += 1;
        let status = &answer["ProcessedClientActions"][0]["ActionStatus"];
        if self.fault == "encrypted" {
            // Declined: the agent ends the session.
            assert_eq!(*status, 3);
            state.lock().unwrap().declined += 1;
            return true;
        }
        assert_eq!(*status, 1);
        let done = b"{\"HandshakeTimeToComplete\":1,\"CustomerMessage\":\"\"}";
        self.send(socket, 7, done).await;
        if self.fault == "no port" {
            self.send(socket, 10, &3_u32.to_be_bytes()).await;
        }
        self.fault == "no port"
    }

    /// In order.
    async fn hand_on(&mut self, got: Got, host: &mut TcpStream) {
        self.held.insert(got.sequence, got.payload);
        while let Some(bytes) = self.held.remove(&self.expected) {
            self.expected += 1;
            let _ = host.write_all(&bytes).await;
        }
    }
}

/// A client's message.
struct Got {
    kind: String,
    sequence: i64,
    id: String,
    payload_type: u32,
    payload: Vec<u8>,
}

impl Got {
    fn checked(bytes: &[u8]) -> Self {
        let payload = &bytes[120..];
        assert_eq!(bytes[80..112], *Sha256::digest(payload), "digest");
        assert!(payload.len() <= 1024, "size");
        let (upper, lower) = (hex::encode(&bytes[72..80]), hex::encode(&bytes[64..72]));
        let parts = [
            &upper[..8],
            &upper[8..12],
            &upper[12..],
            &lower[..4],
            &lower[4..],
        ];
        Self {
            kind: String::from_utf8_lossy(&bytes[4..36]).trim_end().to_owned(),
            sequence: i64::from_be_bytes(bytes[48..56].try_into().unwrap()),
            id: parts.join("-"),
            payload_type: u32::from_be_bytes(bytes[112..116].try_into().unwrap()),
            payload: payload.to_vec(),
        }
    }

    /// Which of the agent's messages an acknowledgement names.
    fn acknowledged(&self) -> i64 {
        let content: serde_json::Value = serde_json::from_slice(&self.payload).unwrap();
        assert_eq!(
            content["AcknowledgedMessageId"],
            "07070707-0707-0707-0707-070707070707"
        );
        let sequence = &content["AcknowledgedMessageSequenceNumber"];
        sequence.as_i64().unwrap()
    }

    fn acknowledgement(&self) -> String {
        let content = serde_json::json!({
            "AcknowledgedMessageType": self.kind, "AcknowledgedMessageId": self.id,
            "AcknowledgedMessageSequenceNumber": self.sequence, "IsSequentialMessage": true,
        });
        content.to_string()
    }
}
