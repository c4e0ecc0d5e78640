//! The connection itself: sizes, times, framing (threats G-04, G-05), and the rate of one peer.

use std::time::{Duration, Instant};

use eic_aws::http_client::{HttpClient, HttpError, Limits, Roots};
use eic_protocol::api::problem::ProblemCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{World, code};

/// For what a busy machine may take long for.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing comes after a part of an answer before it counts as whole.
const SILENCE: Duration = Duration::from_millis(700);

/// Sends raw bytes and returns what comes back until the connection closes or falls silent.
async fn raw(world: &World, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    // A server that has heard enough may close while we still write.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    let mut patience = PATIENCE;
    while let Ok(Ok(count)) = tokio::time::timeout(patience, stream.read(&mut chunk)).await {
        if count == 0 {
            break;
        }
        patience = SILENCE;
        answer.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn answers(text: &str) -> usize {
    text.matches("HTTP/1.1 ").count()
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    // G-04
    let world = World::new().await;
    let headers = [("content-type", "application/json".to_owned())];
    let body = format!("{{\"x\":\"{}\"}}", "a".repeat(70_000)).into_bytes();
    assert_eq!(
        code(&world.send("POST", "/v1/sessions", &headers, body).await),
        ProblemCode::BodyTooLarge
    );
    let head = "POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 67108864\r\n\r\n";
    let answer = raw(&world, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let chunks = "ffff\r\n".to_owned()
        + &"a".repeat(0xffff)
        + "\r\nffff\r\n"
        + &"a".repeat(0xffff)
        + "\r\n0\r\n\r\n";
    let head = "POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = raw(&world, (head.to_owned() + &chunks).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn too_many_or_too_long_headers_are_refused() {
    // G-04
    let world = World::new().await;
    let many: String = (0..10_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "a".repeat(100_000));
    for headers in [many, long] {
        let answer = raw(
            &world,
            format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n").as_bytes(),
        )
        .await;
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 431 ")
                || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
    }
    let answer = raw(
        &world,
        format!(
            "GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "a".repeat(100_000)
        )
        .as_bytes(),
    )
    .await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_request_has_one_framing_or_none() {
    // G-05: what one reader takes for the end, another must not take for a beginning.
    let world = World::new().await;
    let hidden = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for headers in [
        format!(
            "content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
            hidden.len() + 5
        ),
        format!("transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n{hidden}"),
        format!(
            "content-length: 0\r\ncontent-length: {}\r\n\r\n{hidden}",
            hidden.len()
        ),
        format!("content-length: +{}\r\n\r\n{hidden}", hidden.len()),
        format!("transfer-encoding: xchunked\r\n\r\n{hidden}"),
        format!("transfer-encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
    ] {
        let text = format!(
            "POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}"
        );
        let answer = raw(&world, text.as_bytes()).await;
        assert!(!answer.contains("\"healthy\""), "{headers}\n{answer}");
        assert!(
            answers(&answer) <= 1 && !answer.starts_with("HTTP/1.1 200"),
            "{headers}\n{answer}"
        );
    }
}

#[tokio::test]
async fn control_bytes_in_headers_are_refused() {
    //
    let world = World::new().await;
    for header in [
        "x: a\0b",
        "x y: z",
        "x: a\n b",
        " x: y",
        "x\u{80}: y",
        "x:\u{1}",
    ] {
        let answer = raw(
            &world,
            format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{header}\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{header:?}: {answer}");
    }
}

#[tokio::test]
async fn a_header_that_trickles_in_is_given_up() {
    // G-04, slowloris
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\n")
        .await
        .unwrap();
    let started = Instant::now();
    let mut closed = false;
    while started.elapsed() < Duration::from_secs(25) {
        let _ = stream.write_all(b"x: y\r\n").await;
        let mut byte = [0; 64];
        let read = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut byte)).await;
        if matches!(read, Ok(Ok(0) | Err(_))) {
            closed = true;
            break;
        }
    }
    assert!(
        closed,
        "the connection is still open after {:?}",
        started.elapsed()
    );
}

/// A connection that was accepted, as an answer over it shows; it is kept open.
async fn served(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut bytes = [0; 12];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"HTTP/1.1 200");
    stream
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_and_others_are_served_when_one_ends() {
    let world = World::with(|config| config + "\n[limits]\nconnections = 2\n").await;
    let first = served(&world).await;
    let second = served(&world).await;
    let mut third = TcpStream::connect(world.address).await.unwrap();
    third
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut byte = [0; 16];
    assert!(
        tokio::time::timeout(Duration::from_millis(300), third.read(&mut byte))
            .await
            .is_err()
    );
    drop(first);
    let read = tokio::time::timeout(PATIENCE, third.read(&mut byte)).await;
    assert_eq!(read.unwrap().unwrap(), 16);
    drop(second);
}

#[tokio::test]
async fn one_peers_storm_is_cut_off_whatever_it_says_of_itself() {
    // G-13, G-01
    let world =
        World::with(|config| config + "\n[limits]\npeer_rate = 1\nburst_seconds = 10\n").await;
    let mut refused = 0;
    for n in 0..40 {
        let headers = [
            ("x-forwarded-for", format!("10.0.0.{n}")),
            ("forwarded", format!("for=10.1.0.{n}")),
        ];
        if world
            .send("GET", "/healthz", &headers, Vec::new())
            .await
            .status
            == 429
        {
            refused += 1;
        }
    }
    assert!(refused >= 20, "{refused}");
}

#[tokio::test]
async fn tls_is_served_from_files_and_its_requests_are_secure() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let world = World::with_files(
        |config| {
            let tls = "tls = { certificate = \"server.crt\", key = \"server.key\" }\n[store]";
            config.replace("[store]", tls)
        },
        &[("server.crt", &certificate), ("server.key", &key)],
    )
    .await;
    let client = HttpClient::new(Roots::PemFile(&world.path("server.crt")), None).unwrap();
    let limits = Limits {
        deadline: PATIENCE,
        max_body: 1 << 16,
    };
    let get = async |client: &HttpClient, scheme: &str| {
        let url = format!("{scheme}://localhost:{}/healthz", world.address.port());
        client
            .send(http::Request::get(url).body(Vec::new()).unwrap(), limits)
            .await
    };
    assert_eq!(get(&client, "https").await.unwrap().status, 200);
    assert!(matches!(
        get(&HttpClient::plain_only().unwrap(), "https").await,
        Err(HttpError::Tls(_))
    ));
    assert!(
        get(&client, "http").await.is_err(),
        "plain HTTP on a TLS listener"
    );
}
