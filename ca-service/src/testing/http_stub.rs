//! A server in place of AWS: records the exact bytes of each request and answers any bytes.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One request as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Request line and headers.
    pub(crate) head: String,
    /// Body.
    pub(crate) body: String,
}

impl Received {
    /// Names and values of the headers, names in lower case, in the order of the wire.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let lines = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "));
        lines
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect()
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers()
            .into_iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value)
    }
}

type Answer = dyn Fn(&Received) -> Vec<u8> + Send + Sync;

/// The server. It ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct HttpStub {
    origin: String,
    received: Arc<Mutex<Vec<Received>>>,
    answer: Arc<Mutex<Arc<Answer>>>,
}

impl HttpStub {
    /// Listens on a free port of loopback.
    pub(crate) async fn start(
        answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let stub = Self {
            origin,
            received: Arc::default(),
            answer: Arc::new(Mutex::new(Arc::new(answer))),
        };
        let own = stub.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(own.clone().serve(stream));
            }
        });
        stub
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Every request so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Another answer from now on.
    pub(crate) fn answer_with(
        &self,
        answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static,
    ) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let count = match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            };
            bytes.extend_from_slice(&chunk[..count]);
            let Some(request) = complete(&bytes) else {
                continue;
            };
            bytes.clear();
            self.received.lock().unwrap().push(request.clone());
            let answer = Arc::clone(&self.answer.lock().unwrap());
            if stream.write_all(&answer(&request)).await.is_err() {
                return;
            }
        }
    }
}

/// The request, once head and body are there.
fn complete(bytes: &[u8]) -> Option<Received> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let received = Received {
        head: head.to_owned(),
        body: body.to_owned(),
    };
    let length = received
        .header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    (body.len() >= length).then_some(received)
}

/// A whole HTTP answer, dated `now` (Unix seconds).
pub(crate) fn response(status: u16, now: u64, body: &str) -> Vec<u8> {
    let date = jiff::Timestamp::from_second(i64::try_from(now).unwrap()).unwrap();
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT");
    format!(
        "HTTP/1.1 {status} X\r\ndate: {date}\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
