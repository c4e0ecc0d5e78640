//! The metadata service's client, version 2 (token first, always).
//! One connection where the server keeps it, and a few more once several answers are wanted that do not depend
//! on each other (never two requests at once on one connection: not every server stands that).
//! At most 64 KiB and one deadline for the whole run; never a request without a token, a redirect or a proxy.

use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

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
    /// Kept connections with no answer outstanding, the oldest first.
    idle: VecDeque<Connection>,
    /// How many connections the server is asked to serve at a time.
    side_by_side: usize,
    /// [`PATIENCE`], but for tests.
    patience: Duration,
    token: Token,
}

/// Connections at a time: what a login needs together are four answers.
const MAX_CONNECTIONS: usize = 4;

/// How long a further connection may be silent before the server is taken for one that serves them one by one
/// (emulators do); its question is then asked again on the first connection.
const PATIENCE: Duration = Duration::from_millis(150);

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
        let mut session = Self {
            address,
            host: host_header(address),
            deadline,
            budget: Budget::new(MAX_BYTES),
            idle: VecDeque::from([Connection::new(stream, deadline)]),
            side_by_side: MAX_CONNECTIONS,
            patience: PATIENCE,
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
        let connection = self.ask("GET", path)?;
        self.body(connection, path)
    }

    /// The bodies of several `GET`s that do not depend on each other: asked together, each on a connection of
    /// its own, and read in the given order. Where no further connection can be had, one after the other.
    ///
    /// # Errors
    /// As [`Self::get`], of the first path in the given order that fails.
    pub fn get_all<const N: usize>(
        &mut self,
        paths: [&str; N],
    ) -> Result<[Vec<u8>; N], MetadataError> {
        let bodies = self.get_each(&paths)?;
        // One body for each path, or an error before this line.
        bodies.try_into().map_err(|_| MetadataError::Token)
    }

    /// [`Self::get_all`] for a number of paths that is known at run time only.
    ///
    /// # Errors
    /// As [`Self::get_all`].
    pub fn get_each(&mut self, paths: &[&str]) -> Result<Vec<Vec<u8>>, MetadataError> {
        let mut bodies = Vec::with_capacity(paths.len());
        let mut rest = paths;
        while let Some((first, _)) = rest.split_first() {
            self.open_more(rest.len());
            // At least one, so that the loop goes on: `ask` connects where nothing is idle.
            let (now, later) = rest.split_at(self.idle.len().clamp(1, rest.len()));
            let asked: Vec<_> = now.iter().map(|path| self.ask("GET", path)).collect();
            for (path, connection) in now.iter().zip(asked) {
                let connection = connection?;
                bodies.push(if path == first || self.is_answered(&connection) {
                    self.body(connection, path)?
                } else {
                    drop(connection);
                    self.get(path)?
                });
            }
            rest = later;
        }
        Ok(bodies)
    }

    /// Opens connections until `wanted` are idle, as far as the limit and the server let it.
    fn open_more(&mut self, wanted: usize) {
        while self.idle.len() < wanted.min(self.side_by_side)
            && let Ok(stream) = connect(self.address, self.deadline)
        {
            self.idle.push_back(Connection::new(stream, self.deadline));
        }
    }

    /// Whether the server begins to answer on a further connection; the first that it ignores is the last one.
    fn is_answered(&mut self, connection: &Connection) -> bool {
        let answered = self.side_by_side > 1 && connection.is_readable_within(self.patience);
        if !answered {
            self.side_by_side = 1;
        }
        answered
    }

    /// Whether `HEAD /latest/PATH` is answered with 200.
    ///
    /// # Errors
    /// A malformed answer, the deadline.
    pub fn exists(&mut self, path: &str) -> Result<bool, MetadataError> {
        let mut connection = self.ask("HEAD", path)?;
        let head = self.head(&mut connection, path)?;
        self.keep(connection, &head);
        Ok(head.status == 200)
    }

    fn fetch_token(&mut self) -> Result<Token, MetadataError> {
        let request = format!(
            "PUT /latest/api/token HTTP/1.1\r\nHost: {}\r\nX-aws-ec2-metadata-token-ttl-seconds: {TOKEN_SECONDS}\r\nContent-Length: 0\r\n\r\n",
            self.host
        );
        let connection = self.send(request, TOKEN_PATH)?;
        let body = self.body(connection, TOKEN_PATH)?;
        Token::parse(&body).ok_or(MetadataError::Token)
    }

    fn ask(&mut self, method: &str, path: &str) -> Result<Connection, MetadataError> {
        let request = format!(
            "{method} /latest/{path} HTTP/1.1\r\nHost: {}\r\nX-aws-ec2-metadata-token: {}\r\n\r\n",
            self.host, self.token.0
        );
        self.send(request, path)
    }

    /// Sends a request on an idle connection, or a new one, and returns that connection.
    fn send(&mut self, request: String, path: &str) -> Result<Connection, MetadataError> {
        let mut connection = match self.idle.pop_front() {
            Some(idle) => idle,
            None => self.connect()?,
        };
        match connection.ask(request) {
            // Seen again, and mended, when the answer is read.
            Err(_) if connection.has_served => Ok(connection),
            Err(e) => Err(failed(path, e)),
            Ok(()) => Ok(connection),
        }
    }

    fn connect(&self) -> Result<Connection, MetadataError> {
        let stream = connect(self.address, self.deadline).map_err(MetadataError::Unreachable)?;
        Ok(Connection::new(stream, self.deadline))
    }

    /// Reads a head. A server may close a kept connection at any time, even while the next request is on its way
    /// (RFC 9112 §9.3.1): where one that has served before ends without a word, the question is asked once more.
    fn head(&mut self, connection: &mut Connection, path: &str) -> Result<Head, MetadataError> {
        let read = connection.reader.head(&mut self.budget);
        let was_closed = matches!(&read, Err(HttpError::Closed | HttpError::Stream(_)))
            && connection.has_served
            && !connection.reader.has_surplus()
            && self.deadline.remaining().is_some();
        if !was_closed {
            return read.map_err(|e| failed(path, e));
        }
        let request = std::mem::take(&mut connection.request);
        *connection = self.connect()?;
        connection.ask(request).map_err(|e| failed(path, e))?;
        let again = connection.reader.head(&mut self.budget);
        again.map_err(|e| failed(path, e))
    }

    fn body(&mut self, mut connection: Connection, path: &str) -> Result<Vec<u8>, MetadataError> {
        let head = self.head(&mut connection, path)?;
        if head.status != 200 {
            return Err(MetadataError::Status {
                path: path.to_owned(),
                status: head.status,
            });
        }
        let body = connection
            .reader
            .body(&head, &mut self.budget)
            .map_err(|e| failed(path, e))?;
        self.keep(connection, &head);
        Ok(body)
    }

    /// Keeps a connection for the next request, unless the server will close it or talks out of turn.
    fn keep(&mut self, mut connection: Connection, head: &Head) {
        connection.has_served = true;
        if !head.closes && !connection.reader.has_surplus() {
            self.idle.push_back(connection);
        }
    }
}

const TOKEN_PATH: &str = "api/token";

fn failed(path: &str, source: HttpError) -> MetadataError {
    MetadataError::Http {
        path: path.to_owned(),
        source,
    }
}

struct Connection {
    reader: Reader<Timed>,
    /// The request that is to be answered; it holds the token, hence no Debug.
    request: String,
    has_served: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection(..)")
    }
}

impl Connection {
    fn new(stream: TcpStream, deadline: Deadline) -> Self {
        Self {
            reader: Reader::new(Timed { stream, deadline }),
            request: String::new(),
            has_served: false,
        }
    }

    fn ask(&mut self, request: String) -> Result<(), HttpError> {
        self.request = request;
        let stream = self.reader.stream();
        let written = stream.write_all(self.request.as_bytes());
        written.map_err(HttpError::Stream)
    }

    fn is_readable_within(&self, patience: Duration) -> bool {
        let stream = &self.reader.stream_ref().stream;
        let mut waited = [PollFd::new(stream, PollFlags::IN)];
        Timespec::try_from(patience)
            .is_ok_and(|time| poll(&mut waited, Some(&time)).is_ok_and(|ready| ready > 0))
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
