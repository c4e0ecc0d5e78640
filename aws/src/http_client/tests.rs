//! Tests of the parent module against listeners that misbehave.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use super::*;

/// Accepts connections for the rest of the test and answers each with `answer` after reading the head.
fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(answer);
            // Hold the connection open: a client without a deadline would wait for more.
            std::thread::spawn(move || connection.read(&mut [0; 1]));
        }
    });
    address
}

async fn get(url: String, deadline_ms: u64, max_body: usize) -> Result<Answer, HttpError> {
    let limits = Limits {
        deadline: Duration::from_millis(deadline_ms),
        max_body,
    };
    let request = Request::get(url).body(Vec::new()).unwrap();
    HttpClient::plain_only()
        .unwrap()
        .send(request, limits)
        .await
}

#[tokio::test]
async fn redirects_are_not_followed() {
    //
    let address =
        server(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(
        get(format!("http://{address}/"), 2_000, 100)
            .await
            .unwrap()
            .status,
        302
    );
}

#[tokio::test]
async fn answers_beyond_the_size_cap_are_refused() {
    let address = server(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world");
    assert_eq!(
        get(format!("http://{address}/"), 2_000, 10)
            .await
            .unwrap_err(),
        HttpError::TooLarge(10)
    );
}

#[tokio::test]
async fn an_answer_that_never_ends_meets_the_deadline() {
    //
    let address = server(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello");
    let error = get(format!("http://{address}/"), 200, 100)
        .await
        .unwrap_err();
    assert!(error.is_unreachable() && matches!(error, HttpError::TimedOut(_)));
}

#[tokio::test]
async fn nobody_there_differs_from_somebody_wrong_there() {
    // H-18: only the first may lead to a fallback.
    let unused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = get(format!("http://{unused}/"), 2_000, 100)
        .await
        .unwrap_err();
    assert!(matches!(refused, HttpError::Unreachable(_)), "{refused:?}");

    // RFC 6761: this name never resolves.
    let unknown = get("http://ca.invalid/".to_owned(), 10_000, 100)
        .await
        .unwrap_err();
    assert!(
        matches!(unknown, HttpError::Name(_)) && !unknown.is_unreachable(),
        "{unknown:?}"
    );

    let plain = server(b"HTTP/1.1 200 OK\r\n\r\n");
    let wrong = get(format!("https://{plain}/"), 2_000, 100)
        .await
        .unwrap_err();
    assert!(matches!(wrong, HttpError::Tls(_)), "{wrong:?}");
    assert!(!wrong.is_unreachable());
}
