//! A metadata service for tests, which can be slow, wrong, endless or absent. Test code only.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const TOKEN: &str = "AQAEAtestTOKEN==";

/// What the service does with one request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// These bytes, and the connection stays.
    RawKept(Vec<u8>),
    /// These bytes, one every 50 ms.
    Drip(Vec<u8>),
    /// Nothing, for ever.
    Silence,
    /// The end of the connection.
    Hangup,
}

impl Answer {
    pub(crate) fn ok(body: &str) -> Self {
        Self::status(200, body)
    }

    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self::RawKept(
            format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
        )
    }
}

/// The service; it ends with the value.
pub(crate) struct Imds {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<BTreeMap<String, Answer>>,
    heads: Mutex<Vec<String>>,
    connections: AtomicUsize,
    one_by_one: bool,
    stop: AtomicBool,
}

impl Imds {
    pub(crate) fn start() -> Self {
        Self::with_manner(false)
    }

    /// A service that looks at the next connection only when the one before it has ended.
    pub(crate) fn one_by_one() -> Self {
        Self::with_manner(true)
    }

    fn with_manner(one_by_one: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            one_by_one,
            ..Shared::default()
        });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &own));
        Self { address, shared }.with("PUT", "/latest/api/token", Answer::ok(TOKEN))
    }

    pub(crate) fn with(self, method: &str, path: &str, answer: Answer) -> Self {
        self.set(method, path, answer);
        self
    }

    /// Changes one answer from now on.
    pub(crate) fn set(&self, method: &str, path: &str, answer: Answer) {
        let mut answers = self.shared.answers.lock().unwrap();
        answers.insert(format!("{method} {path}"), answer);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `METHOD PATH` of each request.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.heads().iter().map(|head| request_line(head)).collect()
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Imds {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let own = Arc::clone(shared);
        let serving = std::thread::spawn(move || serve(stream.unwrap(), &own));
        if shared.one_by_one {
            serving.join().unwrap();
        }
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    while let Some(head) = read_head(&mut stream) {
        let line = request_line(&head);
        let body_is_sent = !line.starts_with("HEAD ");
        shared.heads.lock().unwrap().push(head);
        let answer = shared
            .answers
            .lock()
            .unwrap()
            .get(&line)
            .cloned()
            .unwrap_or_else(|| Answer::status(404, "not found"));
        match answer {
            Answer::RawKept(bytes) if body_is_sent => stream.write_all(&bytes).unwrap_or(()),
            Answer::RawKept(bytes) => stream.write_all(head_of(&bytes)).unwrap_or(()),
            Answer::Raw(bytes) => return stream.write_all(&bytes).unwrap_or(()),
            Answer::Drip(bytes) => return drip(&mut stream, &bytes, shared),
            Answer::Silence => return wait_for_end(&mut stream),
            Answer::Hangup => return,
        }
    }
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

fn request_line(head: &str) -> String {
    head.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn head_of(response: &[u8]) -> &[u8] {
    let end = response
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map_or(response.len(), |at| at + 4);
    &response[..end]
}

fn drip(stream: &mut TcpStream, bytes: &[u8], shared: &Shared) {
    for byte in bytes {
        if shared.stop.load(Ordering::SeqCst) || stream.write_all(&[*byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn wait_for_end(stream: &mut TcpStream) {
    let mut rest = [0; 64];
    while stream.read(&mut rest).is_ok_and(|count| count > 0) {}
}
