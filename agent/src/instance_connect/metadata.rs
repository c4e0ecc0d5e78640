//! The metadata service's client, version 2 (token first, always).
//! One connection where the server keeps it; at most 64 KiB and one deadline for the whole run;
//! never a request without a token, never a redirect, never a proxy.

use std::fmt;
use std::io::{ErrorKind, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::clock::Deadline;
use crate::instance_connect::endpoint::Endpoint;
use crate::instance_connect::http::{Budget, Head, HttpError, Reader};

/// A session with the metadata service.
#[derive(Debug)]
pub struct Metadata {
    address: SocketAddr,
    host: String,
    deadline: Deadline,
    budget: Budget,
    connection: Option<Reader<Timed>>,
    token: Token,
}

/// Bytes that one run may read in all. The largest honest answer is the signer's chain, about 6 KiB.
const MAX_BYTES: usize = 64 * 1024;

/// Longest wait for a connection: the first SYN's repetition after 1 s still counts.
const CONNECT: Duration = Duration::from_millis(1200);

impl Metadata {
    /// Connects and fetches a token.
    ///
    /// # Errors
    /// [`MetadataError::Unreachable`] where nothing listens; otherwise the token was refused or unusable.
    pub fn open(endpoint: &Endpoint, deadline: Deadline) -> Result<Self, MetadataError> {
        let (address, stream) = connect_first(endpoint, deadline)?;
        let connection = Some(Reader::new(Timed { stream, deadline }));
        let budget = Budget::new(MAX_BYTES);
        let host = host_header(address);
        let mut session = Self {
            address,
            host,
            deadline,
            budget,
            connection,
            token: Token::none(),
        };
        session.token = session.fetch_token()?;
        Ok(session)
    }

    /// The body of `GET /latest/PATH`, which must be answered with 200.
    ///
    /// # Errors
    /// Any other status, a malformed or too large answer, the deadline.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>, MetadataError> {
        let head = self.ask("GET", path)?;
        if head.status != 200 {
            return Err(MetadataError::Status {
                path: path.to_owned(),
                status: head.status,
            });
        }
        self.body(&head, path)
    }

    /// Whether `HEAD /latest/PATH` is answered with 200.
    ///
    /// # Errors
    /// A malformed answer, the deadline.
    pub fn exists(&mut self, path: &str) -> Result<bool, MetadataError> {
        let head = self.ask("HEAD", path)?;
        self.end_response(&head);
        Ok(head.status == 200)
    }

    fn fetch_token(&mut self) -> Result<Token, MetadataError> {
        let request = format!(
            "PUT /latest/api/token HTTP/1.1\r\nHost: {}\r\nX-aws-ec2-metadata-token-ttl-seconds: {TOKEN_SECONDS}\r\nContent-Length: 0\r\n\r\n",
            self.host
        );
        let head = self.send(&request, "api/token")?;
        if head.status != 200 {
            return Err(MetadataError::Status {
                path: "api/token".to_owned(),
                status: head.status,
            });
        }
        let body = self.body(&head, "api/token")?;
        Token::parse(&body).ok_or(MetadataError::Token)
    }

    fn ask(&mut self, method: &str, path: &str) -> Result<Head, MetadataError> {
        let request = format!(
            "{method} /latest/{path} HTTP/1.1\r\nHost: {}\r\nX-aws-ec2-metadata-token: {}\r\n\r\n",
            self.host, self.token.0
        );
        self.send(&request, path)
    }

    fn send(&mut self, request: &str, path: &str) -> Result<Head, MetadataError> {
        let failed = |source| MetadataError::Http {
            path: path.to_owned(),
            source,
        };
        if self.connection.is_none() {
            let stream =
                connect(self.address, self.deadline).map_err(MetadataError::Unreachable)?;
            self.connection = Some(Reader::new(Timed {
                stream,
                deadline: self.deadline,
            }));
        }
        let Some(connection) = self.connection.as_mut() else {
            return Err(failed(HttpError::Closed));
        };
        connection
            .stream()
            .write_all(request.as_bytes())
            .map_err(|e| failed(HttpError::Stream(e)))?;
        connection.head(&mut self.budget).map_err(failed)
    }

    fn body(&mut self, head: &Head, path: &str) -> Result<Vec<u8>, MetadataError> {
        let failed = |source| MetadataError::Http {
            path: path.to_owned(),
            source,
        };
        let Some(connection) = self.connection.as_mut() else {
            return Err(failed(HttpError::Closed));
        };
        let body = connection.body(head, &mut self.budget).map_err(failed)?;
        self.end_response(head);
        Ok(body)
    }

    /// Drops a connection that the server will close, or on which it talks out of turn.
    fn end_response(&mut self, head: &Head) {
        if head.closes || self.connection.as_ref().is_some_and(Reader::has_surplus) {
            self.connection = None;
        }
    }
}

/// The address without the default port, as every HTTP client writes it (RFC 9110 §7.2).
fn host_header(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.port() == 80 => v4.ip().to_string(),
        SocketAddr::V6(v6) if v6.port() == 80 => format!("[{}]", v6.ip()),
        other => other.to_string(),
    }
}

/// The life that is asked for the token: the deadline of a run, rounded up generously.
const TOKEN_SECONDS: u8 = 5;

/// The session token of metadata version 2.
struct Token(String);

impl Token {
    fn none() -> Self {
        Self(String::new())
    }

    /// Only what can stand in a header: a line end would let the server write our requests.
    fn parse(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body)
            .ok()?
            .trim_end_matches(['\r', '\n']);
        let sized = (1..=1024).contains(&text.len());
        (sized && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A connection whose every read and write ends by the deadline.
#[derive(Debug)]
struct Timed {
    stream: TcpStream,
    deadline: Deadline,
}

impl Timed {
    fn remaining(&self) -> std::io::Result<Duration> {
        self.deadline
            .remaining()
            .ok_or_else(|| ErrorKind::TimedOut.into())
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.set_write_timeout(Some(self.remaining()?))?;
        self.stream.write_all(bytes)
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            self.stream.set_read_timeout(Some(self.remaining()?))?;
            match self.stream.read(buffer) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

fn connect(address: SocketAddr, deadline: Deadline) -> std::io::Result<TcpStream> {
    let left = deadline
        .remaining()
        .ok_or_else(|| std::io::Error::from(ErrorKind::TimedOut))?;
    let stream = TcpStream::connect_timeout(&address, left.min(CONNECT))?;
    // Requests are one small packet each: waiting for more to send would add 40 ms to each answer.
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn connect_first(
    endpoint: &Endpoint,
    deadline: Deadline,
) -> Result<(SocketAddr, TcpStream), MetadataError> {
    let mut failure = std::io::Error::from(ErrorKind::AddrNotAvailable);
    for address in endpoint.addresses() {
        match connect(*address, deadline) {
            Ok(stream) => return Ok((*address, stream)),
            Err(e) => failure = e,
        }
    }
    Err(MetadataError::Unreachable(failure))
}

/// Why the metadata service gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// Nothing listens there.
    #[error("reach the instance metadata service: is it enabled for this instance?")]
    Unreachable(#[source] std::io::Error),
    /// The token cannot stand in a header.
    #[error("get a token from the instance metadata service: the answer is no token")]
    Token,
    /// Another answer than 200.
    #[error("get `{path}` from the instance metadata service: status {status}")]
    Status {
        /// The path under `/latest/`.
        path: String,
        /// The status.
        status: u16,
    },
    /// The answer could not be read.
    #[error("get `{path}` from the instance metadata service")]
    Http {
        /// The path under `/latest/`.
        path: String,
        /// What was wrong with it.
        source: HttpError,
    },
}

#[cfg(test)]
mod tests;
