//! The stand-in endpoint: TLS, a web proxy in front of it (names of AWS do not resolve here), the checks of the
//! presigned address, websocket frames within the protocol, 20 connections, the end of a tunnel.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::clock::unix_now;

pub(crate) const ENDPOINT: &str = "eice-0123456789abcdef0";
pub(crate) const HOST: &str =
    "eice-0123456789abcdef0.0a1b2c3d.ec2-instance-connect-endpoint.eu-west-1.amazonaws.com";
/// The secret of the test's credentials.
const SECRET: &str = "secret";

/// How the service behaves, and what it has seen.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Where tunnels lead, whatever address is asked for.
    pub(crate) target: Option<SocketAddr>,
    /// Refuse every tunnel with these words.
    pub(crate) refuse: Option<&'static str>,
    /// End each tunnel after so many bytes to the client, with this code and reason.
    pub(crate) end: Option<(usize, u16, &'static str)>,
    /// End the connection without a close after so many bytes.
    pub(crate) vanish: Option<usize>,
    pub(crate) open: usize,
    pub(crate) most_open: usize,
    /// Parameters of each tunnel that was opened.
    pub(crate) tunnels: Vec<BTreeMap<String, String>>,
    /// What was wrong with those that were not.
    pub(crate) refused: Vec<String>,
    pub(crate) largest_frame: usize,
    pub(crate) pings: usize,
    /// What is wrong with the host's agent: see the session service.
    pub(crate) agent: &'static str,
    /// Messages that the agent got twice, and flags that it got.
    pub(crate) resent: usize,
    pub(crate) flags: Vec<u32>,
    /// Sessions whose client declined what the agent asked for.
    pub(crate) declined: usize,
    /// Names that were asked of the proxy.
    pub(crate) connects: Vec<String>,
}

/// A running service.
pub(crate) struct Service {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) proxy: SocketAddr,
    pub(crate) roots: PathBuf,
}

impl Service {
    pub(crate) async fn start(dir: &Path) -> Self {
        let certified = rcgen::generate_simple_self_signed(vec![
            HOST.to_owned(),
            crate::session_service::HOST.to_owned(),
        ])
        .unwrap();
        let roots = dir.join("endpoint-roots.pem");
        std::fs::write(&roots, certified.cert.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        tokio::spawn(accept(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            Arc::clone(&state),
        ));
        Self {
            state,
            proxy,
            roots,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            // A client that trusts nobody ends in the middle of the handshake.
            let _ = through_proxy(stream, tls, state).await;
        });
    }
}

async fn through_proxy(
    stream: TcpStream,
    tls: TlsAcceptor,
    state: Arc<Mutex<State>>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let head = read_head(&mut stream).await?;
    let asked = head.split(' ').nth(1).unwrap_or_default().to_owned();
    state.lock().unwrap().connects.push(asked.clone());
    let is_session = asked == format!("{}:443", crate::session_service::HOST);
    if asked != format!("{HOST}:443") && !is_session {
        return stream.write_all(b"HTTP/1.1 502 no such host\r\n\r\n").await;
    }
    stream.write_all(b"HTTP/1.1 200 connected\r\n\r\n").await?;
    let mut stream = BufReader::new(tls.accept(stream).await?);
    let head = read_head(&mut stream).await?;
    if is_session {
        return crate::session_service::serve(stream, &head, &state).await;
    }
    match check(&head, &state) {
        Err(why) => {
            state.lock().unwrap().refused.push(why.clone());
            refuse(&mut stream, &why).await
        }
        Ok(key) => {
            let accept = eic_login::transport::websocket::accepted(&key);
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nx-amzn-RequestId: r-1\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
            let result = tunnel(stream, &state).await;
            state.lock().unwrap().open -= 1;
            result
        }
    }
}

pub(crate) async fn read_head(
    stream: &mut (impl tokio::io::AsyncBufRead + Unpin),
) -> std::io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// In two pieces, so that a client which takes the first packet for all of it shows.
async fn refuse(
    stream: &mut (impl tokio::io::AsyncWrite + Unpin),
    why: &str,
) -> std::io::Result<()> {
    let body = format!("{{\"message\":\"{why}\"}}");
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\nx-amzn-RequestId: r-9\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.write_all(body.as_bytes()).await?;
    stream.flush().await
}

/// What AWS checks before it opens a tunnel; gives the websocket key.
fn check(head: &str, state: &Mutex<State>) -> Result<String, String> {
    let mut state = state.lock().unwrap();
    if let Some(words) = state.refuse {
        return Err(words.to_owned());
    }
    let path = head
        .strip_prefix("GET ")
        .and_then(|rest| rest.split(' ').next());
    let (path, query) = path.and_then(|p| p.split_once('?')).ok_or("no query")?;
    if path != "/openTunnel" {
        return Err(format!("no such path {path}"));
    }
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
    };
    let wanted = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("host", HOST),
    ];
    for (name, value) in wanted {
        if header(name).as_deref() != Some(value) {
            return Err(format!("header {name} is wrong"));
        }
    }
    for name in [
        "sec-websocket-protocol",
        "sec-websocket-extensions",
        "authorization",
    ] {
        if header(name).is_some() {
            return Err(format!("header {name} does not belong here"));
        }
    }
    check_signature(query)?;
    let pairs: BTreeMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    check_parameters(&pairs)?;
    if state.open >= 20 {
        return Err("The maximum number of concurrent connections (20) is reached".to_owned());
    }
    state.open += 1;
    state.most_open = state.most_open.max(state.open);
    state.tunnels.push(pairs);
    header("sec-websocket-key").ok_or_else(|| "no key".to_owned())
}

fn check_parameters(pairs: &BTreeMap<String, String>) -> Result<(), String> {
    let known = [
        "instanceConnectEndpointId",
        "remotePort",
        "privateIpAddress",
        "maxTunnelDuration",
    ];
    if let Some(name) = pairs
        .keys()
        .find(|n| !known.contains(&n.as_str()) && !n.starts_with("X-Amz-"))
    {
        return Err(format!("unknown parameter {name}"));
    }
    let value = |name: &str| pairs.get(name).map(String::as_str).unwrap_or_default();
    if value("instanceConnectEndpointId") != ENDPOINT {
        return Err("no such endpoint".to_owned());
    }
    if value("remotePort").parse::<u16>().is_err() {
        return Err("no port".to_owned());
    }
    let address = value("privateIpAddress").replace("%3A", ":");
    if address.parse::<std::net::IpAddr>().is_err() {
        return Err("no address".to_owned());
    }
    let duration = pairs.get("maxTunnelDuration");
    if duration.is_some_and(|d| d.parse::<u16>().is_ok_and(|d| !(1..=3600).contains(&d))) {
        return Err("maxTunnelDuration out of range".to_owned());
    }
    Ok(())
}

pub(crate) fn mac(key: &[u8], message: &str) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    aws_lc_rs::hmac::sign(&key, message.as_bytes())
        .as_ref()
        .to_vec()
}

/// SigV4 in the query, by hand ("Authenticating requests: using query parameters").
fn check_signature(query: &str) -> Result<(), String> {
    let (signed, mut others): (Vec<&str>, Vec<&str>) = query
        .split('&')
        .partition(|pair| pair.starts_with("X-Amz-Signature="));
    others.sort_unstable();
    let value = |name: &str| {
        let mut pairs = others.iter().filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v.to_owned())
            .ok_or(format!("no {name}"))
    };
    let credential = value("X-Amz-Credential")?.replace("%2F", "/");
    let parts: Vec<&str> = credential.split('/').collect();
    let [_, day, region, service, end] = parts[..] else {
        return Err("no scope".to_owned());
    };
    let date = value("X-Amz-Date")?;
    let fresh = date.starts_with(day)
        && value("X-Amz-Expires")?
            .parse::<u64>()
            .is_ok_and(|e| e <= 60);
    let ours = (region, service, end) == ("eu-west-1", "ec2-instance-connect", "aws4_request");
    if !fresh || !ours || value("X-Amz-SignedHeaders")? != "host" || !is_now(&date) {
        return Err("scope, date or expiry is wrong".to_owned());
    }
    let empty = hex::encode(Sha256::digest([]));
    let canonical = format!(
        "GET\n/openTunnel\n{}\nhost:{HOST}\n\nhost\n{empty}",
        others.join("&")
    );
    let scope = format!("{day}/{region}/{service}/{end}");
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hex::encode(Sha256::digest(canonical))
    );
    let key = mac(format!("AWS4{SECRET}").as_bytes(), day);
    let key = [region, service, end]
        .iter()
        .fold(key, |key, part| mac(&key, part));
    if signed == [format!("X-Amz-Signature={}", hex::encode(mac(&key, &text)))] {
        Ok(())
    } else {
        Err("The request signature we calculated does not match".to_owned())
    }
}

/// `20261122T053000Z`, within a minute.
fn is_now(date: &str) -> bool {
    let number =
        |range: std::ops::Range<usize>| date.get(range).and_then(|d| d.parse::<u64>().ok());
    let of_day = |date: u64| date % 86_400;
    let (Some(h), Some(m), Some(s)) = (number(9..11), number(11..13), number(13..15)) else {
        return false;
    };
    let (then, now) = (h * 3600 + m * 60 + s, of_day(unix_now()));
    then.abs_diff(now) < 60 || then.abs_diff(now) > 86_340
}

async fn tunnel<S>(stream: S, state: &Mutex<State>) -> std::io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // Larger frames than the protocol allows, and unmasked ones, end the connection.
    let config = WebSocketConfig::default().max_frame_size(Some(65_000));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (mut sink, mut frames) = socket.split();
    let (target, end, vanish) = {
        let state = state.lock().unwrap();
        (state.target.unwrap(), state.end, state.vanish)
    };
    let target = TcpStream::connect(target).await?;
    target.set_nodelay(true)?;
    let (mut from_host, mut to_host) = target.into_split();
    let down = async {
        let (mut sent, mut buffer) = (0, vec![0; 256 * 1024]);
        loop {
            let read = from_host.read(&mut buffer).await.unwrap_or(0);
            if read == 0 {
                let _ = sink.send(close(1000, "")).await;
                return;
            }
            sent += read;
            let bytes = buffer[..read].to_vec();
            if sink.send(Message::binary(bytes)).await.is_err() {
                return;
            }
            if vanish.is_some_and(|limit| sent > limit) {
                return;
            }
            if let Some((_, code, reason)) = end.filter(|(limit, ..)| sent > *limit) {
                let _ = sink.send(close(code, reason)).await;
                return;
            }
        }
    };
    let up = async {
        while let Some(Ok(message)) = frames.next().await {
            match message {
                Message::Binary(bytes) => {
                    assert!(!bytes.is_empty(), "an empty frame");
                    note_size(state, bytes.len());
                    if to_host.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Message::Ping(_) => state.lock().unwrap().pings += 1,
                Message::Close(_) => return,
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::select! {
        () = down => {}
        () = up => {}
    }
    Ok(())
}

fn note_size(state: &Mutex<State>, size: usize) {
    let mut state = state.lock().unwrap();
    state.largest_frame = state.largest_frame.max(size);
}

fn close(code: u16, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::from(code),
        reason: reason.into(),
    }))
}
