//! The CA's HTTP end, as far as a host meets it; what it answers is a function that a test can change.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eic_protocol::api::trust_bundle::TrustBundleResponse;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `GET /path?query`
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What goes back: status, further header lines, body.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// An honest answer.
    Honest(u16, Vec<String>, Vec<u8>),
    /// These bytes instead of one.
    Raw(Vec<u8>),
}

impl Reply {
    pub(crate) fn json(body: &impl serde::Serialize) -> Self {
        Self::Honest(200, Vec::new(), serde_json::to_vec(body).unwrap())
    }

    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self::Honest(status, Vec::new(), body.as_bytes().to_vec())
    }
}

type Behaviour = Box<dyn Fn(&Asked) -> Reply + Send>;

/// The server; it ends with the value.
pub(crate) struct Standin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    documents: Mutex<Option<TrustBundleResponse>>,
    otherwise: Mutex<Behaviour>,
    asked: Mutex<Vec<Asked>>,
    stop: AtomicBool,
}

impl Standin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            documents: Mutex::new(None),
            otherwise: Mutex::new(Box::new(|_| Reply::status(404, "{}"))),
            asked: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.stop.load(Ordering::SeqCst) {
                    return;
                }
                let own = Arc::clone(&own);
                std::thread::spawn(move || serve(stream.unwrap(), &own));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves these documents, with tags and long polls as the CA does.
    pub(crate) fn serve(&self, documents: TrustBundleResponse) {
        *self.shared.documents.lock().unwrap() = Some(documents);
    }

    /// Serves no documents; every request goes to `otherwise`.
    pub(crate) fn serve_nothing(&self) {
        *self.shared.documents.lock().unwrap() = None;
    }

    /// What every other request gets.
    pub(crate) fn otherwise(&self, behaviour: impl Fn(&Asked) -> Reply + Send + 'static) {
        *self.shared.otherwise.lock().unwrap() = Box::new(behaviour);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    while let Some(asked) = read(&mut stream) {
        shared.asked.lock().unwrap().push(asked.clone());
        let reply =
            bundle(&asked, shared).unwrap_or_else(|| (shared.otherwise.lock().unwrap())(&asked));
        let bytes = match reply {
            Reply::Honest(status, headers, body) => honest(status, &headers, &body),
            Reply::Raw(bytes) => {
                // The other end may have had enough before the end.
                let _ = stream.write_all(&bytes);
                return;
            }
        };
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn honest(status: u16, headers: &[String], body: &[u8]) -> Vec<u8> {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// `GET /v1/trust-bundle` while there are documents: 200 with a tag, or 304 after the wait that was asked for.
fn bundle(asked: &Asked, shared: &Shared) -> Option<Reply> {
    let query = asked.line.strip_prefix("GET /v1/trust-bundle?")?;
    let field = |name: &str| {
        let fields = query.split('&').filter_map(|field| field.split_once('='));
        fields
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
            .next()
    };
    let newest: u64 = field("root").unwrap_or_default().parse().unwrap_or(0);
    let wait: u64 = field("wait").unwrap_or_default().parse().unwrap_or(0);
    let deadline = Instant::now() + Duration::from_secs(wait);
    loop {
        let mut documents = shared.documents.lock().unwrap().clone()?;
        documents.roots.retain(|root| version(root) > newest);
        let tag = documents.entity_tag().to_string();
        let known = asked
            .head
            .to_lowercase()
            .contains(&format!("if-none-match: {tag}"));
        if !known {
            let body = serde_json::to_vec(&documents).unwrap();
            return Some(Reply::Honest(200, vec![format!("ETag: {tag}")], body));
        }
        if Instant::now() >= deadline || shared.stop.load(Ordering::SeqCst) {
            return Some(Reply::Honest(304, vec![format!("ETag: {tag}")], Vec::new()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn version(root: &eic_protocol::trust::envelope::Envelope) -> u64 {
    let document: serde_json::Value = serde_json::from_slice(root.signed.as_slice()).unwrap();
    document["version"].as_u64().unwrap()
}

fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    let line = head.split(' ').take(2).collect::<Vec<_>>().join(" ");
    Some(Asked { line, head, body })
}
