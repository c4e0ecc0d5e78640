//! Keeps many connections busy from one thread, with one read and one write for a request: what it costs is taken from the
//! server under test, which shares the machine, and blurs every comparison of servers.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::slice::Iter;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::Answer;

/// Room for one read; answers are of 2 to 4 KiB.
const READ: usize = 16 * 1024;
/// Longest wait for any answer.
const PATIENCE: rustix::event::Timespec = rustix::event::Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};

/// A connection with one request under way.
struct Busy {
    stream: TcpStream,
    sent: Instant,
    /// What came of the answer so far.
    came: Vec<u8>,
}

/// Sends every request once over `connections` connections, each when the last one of its connection was answered.
/// How long each took.
///
/// # Errors
/// The first answer of another status than `good`, and what breaks a connection.
pub(super) fn drive(
    good: u16,
    server: SocketAddr,
    requests: &[Vec<u8>],
    connections: usize,
) -> Result<Vec<Duration>, String> {
    let mut load = Load {
        good,
        ready: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| e.to_string())?,
        busy: Vec::with_capacity(connections),
        open: 0,
        requests: requests.iter(),
        latencies: Vec::with_capacity(requests.len()),
        buffer: vec![0; READ],
    };
    for _ in 0..connections.min(requests.len()) {
        load.connect(server)?;
    }
    let mut events = Vec::with_capacity(connections);
    while load.open > 0 {
        events.clear();
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&load.ready, room, Some(&PATIENCE)) {
            Ok(0) => return Err("the server does not answer".to_owned()),
            // A tracer came or went.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.to_string()),
        }
        for event in &events {
            load.go_on(event.data.u64())?;
        }
    }
    Ok(load.latencies)
}

/// The connections and what is still to be sent.
struct Load<'a> {
    good: u16,
    ready: OwnedFd,
    busy: Vec<Busy>,
    /// Connections with a request under way.
    open: usize,
    requests: Iter<'a, Vec<u8>>,
    latencies: Vec<Duration>,
    buffer: Vec<u8>,
}

impl Load<'_> {
    fn connect(&mut self, server: SocketAddr) -> Result<(), String> {
        let request = self.requests.next().ok_or("no request is left")?;
        let connection = Busy::open(server, request).map_err(|e| format!("{server}: {e}"))?;
        let id = u64::try_from(self.busy.len()).map_err(|e| e.to_string())?;
        let (id, flags) = (epoll::EventData::new_u64(id), epoll::EventFlags::IN);
        epoll::add(&self.ready, &connection.stream, id, flags).map_err(|e| e.to_string())?;
        self.busy.push(connection);
        self.open += 1;
        Ok(())
    }

    /// Reads from this connection; once its answer is complete, sends the next request.
    fn go_on(&mut self, id: u64) -> Result<(), String> {
        let id = usize::try_from(id).map_err(|e| e.to_string())?;
        let connection = self.busy.get_mut(id).ok_or("no such connection")?;
        let Some(status) = connection.read(&mut self.buffer)? else {
            return Ok(());
        };
        connection.judge(status, self.good)?;
        self.latencies.push(connection.sent.elapsed());
        if let Some(request) = self.requests.next() {
            return connection.send(request).map_err(|e| e.to_string());
        }
        self.open -= 1;
        epoll::delete(&self.ready, &connection.stream).map_err(|e| e.to_string())
    }
}

impl Busy {
    fn open(server: SocketAddr, request: &[u8]) -> std::io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (sent, came) = (Instant::now(), Vec::with_capacity(READ));
        let mut connection = Self { stream, sent, came };
        connection.send(request)?;
        Ok(connection)
    }

    /// A whole request has room in the socket: the last one was answered, so that nothing else is in it.
    fn send(&mut self, request: &[u8]) -> std::io::Result<()> {
        self.came.clear();
        self.sent = Instant::now();
        self.stream.write_all(request)
    }

    /// The status, once the answer is complete.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<u16>, String> {
        let read = match self.stream.read(buffer) {
            Ok(0) => return Err("the server closed the connection".to_owned()),
            Ok(read) => read,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        self.came
            .extend_from_slice(buffer.get(..read).unwrap_or_default());
        Ok(Answer::complete(&self.came)?.map(|answer| answer.status))
    }

    fn judge(&self, status: u16, good: u16) -> Result<(), String> {
        if status == good {
            return Ok(());
        }
        let answer = String::from_utf8_lossy(&self.came);
        Err(format!("answer {status}: {answer}"))
    }
}
