//! The way in: HTTP CONNECT as a web proxy takes it, TLS under AWS's names, one HTTP request, the switch to a
//! websocket or a refusal in AWS's form.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::error::{Result, unexpected};
use crate::standin::Shared;
use crate::standin::answer::request_id;
use crate::standin::tunnels::{endpoint, session};

/// Longest head of a request.
const LONGEST_HEAD: usize = 16 * 1024;

/// Most that is taken from a client's connection at once: several records of TLS. Bytes.
const AT_ONCE: usize = 256 * 1024;

/// RFC 6455 section 1.3.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A TLS acceptor for both names, and the PEM of the certificate that clients are to trust.
pub(super) fn tls() -> Result<(TlsAcceptor, String)> {
    let failed =
        |cause: &dyn std::fmt::Display| unexpected("make a certificate for tunnels", cause);
    let names = vec![endpoint::NAME.to_owned(), session::NAME.to_owned()];
    let certified = rcgen::generate_simple_self_signed(names).map_err(|cause| failed(&cause))?;
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| failed(&cause))?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .map_err(|cause| failed(&cause))?;
    Ok((TlsAcceptor::from(Arc::new(config)), certified.cert.pem()))
}

/// Serves one connection. How it ends is the client's affair: a client that trusts nobody ends in the handshake.
pub(super) async fn open(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    drop(serve(stream, tls, &shared).await);
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(AT_ONCE, stream);
    let asked = Head::read(&mut stream).await?;
    let name = asked.target().strip_suffix(":443").unwrap_or_default();
    let name = name.to_owned();
    if ![endpoint::NAME, session::NAME].contains(&name.as_str()) {
        return stream.write_all(b"HTTP/1.1 502 no such host\r\n\r\n").await;
    }
    stream.write_all(b"HTTP/1.1 200 connected\r\n\r\n").await?;
    let mut stream = BufReader::new(tls.accept(stream).await?);
    let head = Head::read(&mut stream).await?;
    if name == endpoint::NAME {
        match endpoint::admit(shared, &head) {
            Ok(target) => {
                switch(&mut stream, &head).await?;
                endpoint::carry(stream, target, shared).await
            }
            Err(why) => refuse(&mut stream, &why, shared).await,
        }
    } else {
        match session::admit(shared, &head) {
            Ok(waiting) => {
                switch(&mut stream, &head).await?;
                session::carry(stream, waiting, shared).await
            }
            Err(why) => refuse(&mut stream, &why, shared).await,
        }
    }
}

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head(String);

impl Head {
    async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Head> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if head.len() > LONGEST_HEAD || stream.read_line(&mut head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Head(head))
    }

    /// The second word of the first line.
    pub(super) fn target(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    /// A header by its name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }

    /// Whether it asks for a websocket under this name, as RFC 6455 section 4.1 has it and nothing beyond.
    pub(super) fn check_upgrade(&self, name: &str) -> Result<(), String> {
        let wanted = [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
            ("host", name),
        ];
        let wrong = wanted
            .into_iter()
            .find(|(header, value)| self.header(header) != Some(value));
        if let Some((header, _)) = wrong {
            return Err(format!("header {header} is wrong"));
        }
        let extensions = ["sec-websocket-protocol", "sec-websocket-extensions"];
        match extensions.into_iter().find(|h| self.header(h).is_some()) {
            Some(header) => Err(format!("header {header} does not belong here")),
            None => Ok(()),
        }
    }
}

async fn switch(stream: &mut (impl AsyncWrite + Unpin), head: &Head) -> io::Result<()> {
    let key = head.header("sec-websocket-key").unwrap_or_default();
    let hash = digest::digest(
        &digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{ACCEPT_SUFFIX}").as_bytes(),
    );
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nx-amzn-RequestId: {}\r\n\r\n",
        STANDARD.encode(hash),
        request_id()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await
}

async fn refuse(
    stream: &mut (impl AsyncWrite + Unpin),
    why: &str,
    shared: &Shared,
) -> io::Result<()> {
    shared
        .tunnels
        .with(|record| record.seen.refused.push(why.to_owned()));
    let body = serde_json::json!({"message": why}).to_string();
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\nx-amzn-RequestId: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        request_id(),
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
