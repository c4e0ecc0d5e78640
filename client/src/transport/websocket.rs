//! A websocket to an AWS endpoint: TCP (or a proxy), TLS with the system's roots, the upgrade of
//! RFC 6455 §4.1 by hand, so that a refusal's own words reach the user. Raw bytes go by frames of our own; where
//! messages count as such, tokio-tungstenite keeps them together.

pub(super) mod frame;

use std::net::TcpStream as StdTcp;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use eic_aws::proxy::Proxy;
use eic_protocol::secret::Secret;
use eic_protocol::text::printable;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::proxy::{self, ProxyError};

/// A websocket to AWS.
pub type Socket = Websocket<TlsStream<TcpStream>>;

/// A connection after the upgrade.
#[derive(Debug)]
pub struct Websocket<S> {
    stream: S,
    /// What came behind the server's answer.
    rest: Vec<u8>,
}

impl<S> Websocket<S> {
    /// One on which the upgrade is over; `rest` came behind it.
    pub fn new(stream: S, rest: Vec<u8>) -> Self {
        Self { stream, rest }
    }

    pub(super) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.rest)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Websocket<S> {
    /// For a protocol of messages.
    pub async fn into_messages(self) -> WebSocketStream<S> {
        // All of this is cleared before each read, which is of one TLS record at most (16 KiB).
        let config = WebSocketConfig::default()
            .read_buffer_size(MAX_RECORD)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let (stream, rest) = self.into_parts();
        WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await
    }
}

/// Port of `wss://`.
const PORT: u16 = 443;
/// TLS handshake and upgrade together; the endpoint connects to the instance meanwhile.
const DEADLINE: Duration = Duration::from_secs(15);
/// Longest plaintext of a TLS record (RFC 8446 §5.1). Bytes.
const MAX_RECORD: usize = 16 * 1024;
/// Longest head of an answer, and longest body of a refusal that is read. Bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Longest text of a refusal. Bytes.
const MAX_BODY: usize = 4 * 1024;
/// Largest message of a server: AWS's are far below it. Bytes.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// RFC 6455 §1.3.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// TCP to a websocket server, by the configured proxy or that of the environment; blocking, before a runtime exists.
///
/// # Errors
/// [`UpgradeError::Proxy`].
pub fn dial(host: &str, configured: Option<&Proxy>) -> Result<StdTcp, UpgradeError> {
    Ok(proxy::connect(host, PORT, configured)?)
}

/// TLS and the upgrade on a connection that [`dial`] made. `path` holds a signature: no error repeats it.
///
/// # Errors
/// [`UpgradeError`]; a refusal has the server's words.
pub async fn upgrade(
    tcp: StdTcp,
    host: &str,
    path: &str,
    headers: &[(String, Secret<String>)],
) -> Result<Socket, UpgradeError> {
    let work = async {
        tcp.set_nonblocking(true).map_err(UpgradeError::Broken)?;
        let tcp = TcpStream::from_std(tcp).map_err(UpgradeError::Broken)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| UpgradeError::Name)?;
        let tls = connector()?.connect(name, tcp).await;
        let mut tls = tls.map_err(|e| UpgradeError::Tls(e.to_string()))?;
        let rest = switch(&mut tls, host, path, headers).await?;
        Ok(Websocket::new(tls, rest))
    };
    let done = tokio::time::timeout(DEADLINE, work).await;
    done.map_err(|_| UpgradeError::TimedOut)?
}

fn connector() -> Result<TlsConnector, UpgradeError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(UpgradeError::Tls(
            "the system has no trusted roots".to_owned(),
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| UpgradeError::Tls(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Asks for the upgrade; what the server sent behind its answer is returned.
async fn switch(
    stream: &mut TlsStream<TcpStream>,
    host: &str,
    path: &str,
    headers: &[(String, Secret<String>)],
) -> Result<Vec<u8>, UpgradeError> {
    let key = nonce()?;
    let agent = concat!("eic-login/", env!("CARGO_PKG_VERSION"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nUser-Agent: {agent}\r\n{}\r\n",
        lines(headers)
    );
    let sent = stream.write_all(request.as_bytes()).await;
    sent.map_err(UpgradeError::Broken)?;
    stream.flush().await.map_err(UpgradeError::Broken)?;
    let (head, rest) = read_head(stream).await?;
    let answer = Answer::parse(&head)?;
    if answer.status != 101 {
        let body = read_body(stream, rest, answer.length).await;
        return Err(refusal(answer.status, &answer, &body));
    }
    let agrees = answer.accept.as_deref() == Some(accepted(&key).as_str());
    if agrees && answer.upgrades && !answer.extended {
        Ok(rest)
    } else {
        Err(UpgradeError::NotWebsocket)
    }
}

/// The signature's headers come from our own signer: one line each.
fn lines(headers: &[(String, Secret<String>)]) -> String {
    let lines = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\r\n", value.reveal()));
    lines.collect()
}

fn nonce() -> Result<String, UpgradeError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| UpgradeError::Broken(std::io::Error::other(e.to_string())))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// What the server answers to a key, to show that it speaks this protocol (RFC 6455 §4.2.2); no secret is involved.
#[must_use]
pub fn accepted(key: &str) -> String {
    let hash = digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{ACCEPT_SUFFIX}").as_bytes(),
    );
    base64::engine::general_purpose::STANDARD.encode(hash)
}

async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<(String, Vec<u8>), UpgradeError> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        if bytes.len() > MAX_HEAD {
            return Err(UpgradeError::NotHttp);
        }
        let read = stream
            .read_buf(&mut bytes)
            .await
            .map_err(UpgradeError::Broken)?;
        if read == 0 {
            return Err(UpgradeError::NotHttp);
        }
    }
}

/// As much of the body as there is, within the bound; a broken one is as good as none.
async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    mut body: Vec<u8>,
    length: Option<usize>,
) -> Vec<u8> {
    let wanted = length.unwrap_or(MAX_BODY).min(MAX_BODY);
    while body.len() < wanted {
        match stream.read_buf(&mut body).await {
            Ok(read) if read > 0 => {}
            _ => break,
        }
    }
    body.truncate(wanted);
    body
}

/// The parts of an answer's head that count.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    accept: Option<String>,
    request_id: Option<String>,
    length: Option<usize>,
    upgrades: bool,
    extended: bool,
}

impl Answer {
    fn parse(head: &str) -> Result<Self, UpgradeError> {
        let mut lines = head.lines();
        let mut status = lines.next().unwrap_or_default().split(' ');
        let version = status.next().filter(|v| v.starts_with("HTTP/1."));
        let status = version.and_then(|_| status.next()?.parse().ok());
        let mut answer = Self {
            status: status.ok_or(UpgradeError::NotHttp)?,
            ..Self::default()
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            answer.take(&name.to_ascii_lowercase(), value.trim());
        }
        Ok(answer)
    }

    fn take(&mut self, name: &str, value: &str) {
        match name {
            "sec-websocket-accept" => self.accept = Some(value.to_owned()),
            "x-amzn-requestid" => self.request_id = Some(printable(value)),
            "content-length" => self.length = value.parse().ok(),
            "upgrade" => self.upgrades = value.eq_ignore_ascii_case("websocket"),
            // None was offered, so none may be chosen.
            "sec-websocket-extensions" | "sec-websocket-protocol" => self.extended = true,
            _ => {}
        }
    }
}

fn refusal(status: u16, answer: &Answer, body: &[u8]) -> UpgradeError {
    let text = String::from_utf8_lossy(body);
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let named = json.as_ref().and_then(|json| {
        let mut names = ["message", "Message", "errorMessage"].iter();
        names.find_map(|name| json.get(name)?.as_str())
    });
    let message = printable(named.unwrap_or(&text).trim());
    UpgradeError::Refused {
        status,
        message: if message.is_empty() {
            "it gives no reason".to_owned()
        } else {
            message
        },
        request: answer
            .request_id
            .as_ref()
            .map_or_else(String::new, |id| format!(" (request {id})")),
    }
}

/// There is no websocket.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// No connection.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// TLS.
    #[error("the TLS connection failed: {0}")]
    Tls(String),
    /// The host's name cannot be one of a certificate.
    #[error("the endpoint's DNS name is not valid")]
    Name,
    /// The server says no.
    #[error("the service refused the tunnel with status {status}: {message}{request}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words, made printable.
        message: String,
        /// AWS's id of the request, where it gave one.
        request: String,
    },
    /// Something else answers there.
    #[error("the server does not answer as HTTP does")]
    NotHttp,
    /// It switched to something else.
    #[error("the server did not switch to the websocket protocol")]
    NotWebsocket,
    /// It broke.
    #[error("the connection broke: {0}")]
    Broken(std::io::Error),
    /// Too slow.
    #[error("there was no answer within {} s", DEADLINE.as_secs())]
    TimedOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_is_that_of_the_rfc() {
        // RFC 6455 §1.3.
        assert_eq!(
            accepted("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn refusals_are_told_in_the_services_own_words_made_printable() {
        let answer =
            Answer::parse("HTTP/1.1 403 Forbidden\r\nx-amzn-RequestId: r-1\r\n\r\n").unwrap();
        for (body, told) in [
            (
                &br#"{"message":"not \u001b[2Jallowed"}"#[..],
                "status 403: not \\u{1b}[2Jallowed (request r-1)",
            ),
            (b"plain words\n", "status 403: plain words (request r-1)"),
            (b"", "it gives no reason"),
        ] {
            let text = refusal(403, &answer, body).to_string();
            assert!(text.contains(told), "{text}");
        }
    }

    #[test]
    fn answers_that_are_not_http_are_refused() {
        for bad in [
            "",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/2 101\r\n",
            "HTTP/1.1 abc x\r\n",
        ] {
            assert!(Answer::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn heads_and_bodies_are_bounded() {
        let endless = vec![b'x'; MAX_HEAD * 2];
        assert!(read_head(&mut endless.as_slice()).await.is_err());
        let body = read_body(&mut endless.as_slice(), Vec::new(), None).await;
        assert_eq!(body.len(), MAX_BODY);
    }
}
