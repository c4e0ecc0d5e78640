//! A folder of published trust documents on a web server of the host's own loopback, which can be told to answer
//! something else.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use eic_lab::Host;

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8099);

/// Longer than any request's head takes on loopback.
const SILENCE: Duration = Duration::from_secs(5);

/// What is answered when the bundle is asked for.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The file of this folder.
    Folder(PathBuf),
    /// This, under a status.
    Other(u16, Vec<u8>),
    /// A body that is said to have a gigabyte, and goes on until the other end has had enough.
    Endless,
}

/// The server. Dropping it ends it.
pub(super) struct WebFolder {
    answer: Arc<Mutex<Answer>>,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl WebFolder {
    /// For the agent's `trust_from`.
    pub(super) const URL: &str = "http://127.0.0.1:8099/";

    pub(super) fn start(host: &Host, answer: Answer) -> Self {
        let listener = host.room().in_network(|| TcpListener::bind(ADDRESS));
        let listener = listener.unwrap().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (answer, stop) = (Arc::new(Mutex::new(answer)), Arc::default());
        let (told, ended) = (Arc::clone(&answer), Arc::clone(&stop));
        let server = std::thread::spawn(move || serve(&listener, &told, &ended));
        Self {
            answer,
            stop,
            server: Some(server),
        }
    }

    pub(super) fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

impl Drop for WebFolder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn serve(listener: &TcpListener, answer: &Mutex<Answer>, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) => {
                let answer = answer.lock().unwrap().clone();
                // The other end may have had enough before the end.
                let _ = give(stream, &answer);
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn give(mut stream: TcpStream, answer: &Answer) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let path = String::from_utf8_lossy(&head)
        .split(' ')
        .nth(1)
        .map(str::to_owned);
    let name = path.unwrap_or_default().trim_start_matches('/').to_owned();
    match answer {
        Answer::Folder(folder) => match std::fs::read(folder.join(&name)) {
            Ok(body) => whole(&mut stream, 200, &body),
            Err(_) => whole(&mut stream, 404, b""),
        },
        _ if name != "trust-bundle.json" => whole(&mut stream, 404, b""),
        Answer::Other(status, body) => whole(&mut stream, *status, body),
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 1000000000\r\n\r\n{")?;
            loop {
                stream.write_all(&[b' '; 4096])?;
            }
        }
    }
}

fn whole(stream: &mut TcpStream, status: u16, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())
}
