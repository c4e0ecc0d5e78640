//! A bounded HTTP/1.1 load over kept connections: requests are complete bytes before the clock starts.
//! One thread, so that the server under test keeps the other core. Loopback only.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

mod answer;
pub mod ca;
mod generator;
pub mod key_service;
pub mod server;

use answer::Answer;

/// What a round of load measured.
#[derive(Clone, Debug)]
pub struct Round {
    /// Good answers per second.
    pub rate: f64,
    /// Median latency.
    pub p50: Duration,
    /// 99th percentile.
    pub p99: Duration,
    /// Good answers.
    pub answers: usize,
}

/// Sends every request once over `connections` connections and waits for each answer.
///
/// # Errors
/// A text with the first answer that was not 200.
pub async fn run(
    server: SocketAddr,
    requests: Vec<Vec<u8>>,
    connections: usize,
) -> Result<Round, String> {
    run_for(200, server, requests, connections).await
}

/// The same where another status is the good answer.
///
/// # Errors
/// A text with the first answer that was not that.
pub async fn run_for(
    status: u16,
    server: SocketAddr,
    requests: Vec<Vec<u8>>,
    connections: usize,
) -> Result<Round, String> {
    if !server.ip().is_loopback() {
        return Err(format!("{server} is not loopback"));
    }
    // Stand-ins that the server asks meanwhile may be on this thread.
    let (done, driven) = tokio::sync::oneshot::channel();
    let drive = move || {
        let started = Instant::now();
        let latencies = generator::drive(status, server, &requests, connections);
        let _ = done.send(latencies.map(|latencies| summarise(latencies, started.elapsed())));
    };
    let thread = std::thread::Builder::new().name("load".to_owned());
    thread.spawn(drive).map_err(|e| e.to_string())?;
    driven.await.map_err(|e| e.to_string())?
}

fn summarise(mut latencies: Vec<Duration>, elapsed: Duration) -> Round {
    latencies.sort_unstable();
    let at = |share: usize| {
        latencies
            .get(latencies.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    let answers = latencies.len();
    let count = f64::from(u32::try_from(answers).unwrap_or(u32::MAX));
    Round {
        rate: count / elapsed.as_secs_f64(),
        p50: at(50),
        p99: at(99),
        answers,
    }
}

/// A kept connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nothing listens there.
    pub async fn open(server: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(server)
            .await
            .map_err(|e| format!("{server}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(8192),
        })
    }

    /// Sends one request and reads its answer: status and body.
    ///
    /// # Errors
    /// When the connection breaks or the answer is not HTTP.
    pub async fn call(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>), String> {
        self.stream
            .write_all(request)
            .await
            .map_err(|e| e.to_string())?;
        loop {
            if let Some(answer) = Answer::complete(&self.buffer)? {
                let body = self.buffer.get(answer.head..answer.end);
                let body = body.unwrap_or_default().to_vec();
                self.buffer.drain(..answer.end);
                return Ok((answer.status, body));
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), String> {
        let read = self
            .stream
            .read_buf(&mut self.buffer)
            .await
            .map_err(|e| e.to_string())?;
        if read == 0 {
            Err("the server closed the connection".to_owned())
        } else {
            Ok(())
        }
    }
}

/// The bytes of a request with a JSON body.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    [
        head.as_bytes(),
        b"content-type: application/json\r\n\r\n",
        body,
    ]
    .concat()
}

/// A port that was free a moment ago, for servers that take no port 0.
///
/// # Errors
/// When the machine has none.
pub fn free_port() -> Result<SocketAddr, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    listener.local_addr().map_err(|e| e.to_string())
}

/// Waits until something answers `path` at `address` by HTTP, 30 s at most.
///
/// # Errors
/// When it does not.
pub async fn wait_for(address: SocketAddr, path: &str) -> Result<Connection, String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match answers(address, path).await {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() > deadline => return Err(format!("{address}: {error}")),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn answers(address: SocketAddr, path: &str) -> Result<Connection, String> {
    let mut connection = Connection::open(address).await?;
    let (status, _) = connection.call(&request("GET", path, &[], b"")).await?;
    if status < 500 {
        Ok(connection)
    } else {
        Err(format!("answer {status}"))
    }
}
