//! The client against metadata services that misbehave.

use super::*;
use crate::instance_connect::test_imds::{Answer, Imds, TOKEN};
use std::time::Instant;

/// For answers that come: a busy machine may take long for them.
const HONEST: Duration = Duration::from_secs(10);

/// For answers that never come; long enough for the token before them.
const SLOW: Duration = Duration::from_secs(2);

fn open(imds: &Imds) -> Result<Metadata, MetadataError> {
    open_for(imds, HONEST)
}

fn open_for(imds: &Imds, time: Duration) -> Result<Metadata, MetadataError> {
    let mut metadata = Metadata::open(&imds.url().parse().unwrap(), Deadline::after(time))?;
    metadata.patience = HONEST;
    Ok(metadata)
}

#[test]
fn no_token_means_no_request() {
    // I-02: version 1 is never tried
    for answer in [
        Answer::status(403, "no"),
        Answer::status(404, ""),
        Answer::status(500, ""),
        Answer::Silence,
        Answer::Hangup,
        Answer::ok(""),
        Answer::ok("a b"),
        Answer::ok("a\r\nX-Evil: 1"),
        Answer::ok(&"x".repeat(1025)),
    ] {
        let time = match answer {
            Answer::Silence => SLOW,
            _ => HONEST,
        };
        let imds = Imds::start().with("PUT", "/latest/api/token", answer);
        assert!(open_for(&imds, time).is_err());
        assert_eq!(imds.requests(), ["PUT /latest/api/token"]);
    }
}

#[test]
fn nothing_listening_is_told_apart() {
    // I-22
    let endpoint: Endpoint = "http://127.0.0.1:1".parse().unwrap();
    let outcome = Metadata::open(&endpoint, Deadline::after(HONEST));
    // At once, by what the kernel says, not by the time that a connection may take.
    assert!(
        matches!(&outcome, Err(MetadataError::Unreachable(e)) if e.kind() == ErrorKind::ConnectionRefused),
        "{outcome:?}"
    );
}

#[test]
fn redirects_are_not_followed() {
    // I-03
    let attacker = Imds::start();
    let location = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{}/x\r\nContent-Length: 0\r\n\r\n",
        attacker.address()
    );
    for status_line in ["302 Found", "301 Moved", "307 Temporary", "308 Permanent"] {
        let answer = Answer::Raw(location.replace("302 Found", status_line).into_bytes());
        let imds = Imds::start().with("GET", "/latest/x", answer);
        let outcome = open(&imds).unwrap().get("x");
        assert!(
            matches!(outcome, Err(MetadataError::Status { .. })),
            "{status_line}"
        );
    }
    assert!(attacker.requests().is_empty());
}

#[test]
fn errors_with_bodies_that_look_like_keys_give_nothing() {
    // I-05
    for status in [204, 400, 401, 404, 418, 500, 503] {
        let imds = Imds::start().with(
            "GET",
            "/latest/x",
            Answer::status(status, "ssh-ed25519 AAAA"),
        );
        assert!(
            matches!(
                open(&imds).unwrap().get("x"),
                Err(MetadataError::Status { .. })
            ),
            "{status}"
        );
    }
}

#[test]
fn slow_answers_end_at_the_deadline() {
    // I-04: a byte now and then, which makes 20 s, and no byte at all
    let body = "a".repeat(400);
    for answer in [
        Answer::Drip(format!("HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{body}").into_bytes()),
        Answer::Silence,
    ] {
        let imds = Imds::start().with("GET", "/latest/x", answer);
        let started = Instant::now();
        assert!(open_for(&imds, SLOW).unwrap().get("x").is_err());
        let took = started.elapsed();
        let fitting = SLOW - Duration::from_millis(100)..SLOW + Duration::from_secs(10);
        assert!(fitting.contains(&took), "{took:?}");
    }
}

#[test]
fn large_and_endless_answers_are_refused() {
    // I-04: 64 KiB in all
    let announced = Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n".to_vec());
    let endless = Answer::Raw([b"HTTP/1.0 200 OK\r\n\r\n".as_slice(), &[b'x'; 200_000]].concat());
    for answer in [announced, endless, Answer::ok(&"x".repeat(65_536))] {
        let imds = Imds::start().with("GET", "/latest/x", answer);
        let outcome = open(&imds).unwrap().get("x");
        assert!(
            matches!(
                outcome,
                Err(MetadataError::Http {
                    source: HttpError::TooMuch,
                    ..
                })
            ),
            "{outcome:?}"
        );
    }
}

#[test]
fn the_limit_counts_all_answers_of_a_run() {
    // I-04
    let imds = Imds::start().with("GET", "/latest/x", Answer::ok(&"x".repeat(20_000)));
    let mut session = open(&imds).unwrap();
    let outcomes: Vec<bool> = (0..4).map(|_| session.get("x").is_ok()).collect();
    assert_eq!(outcomes, [true, true, true, false]);
}

#[test]
fn cut_answers_are_refused() {
    for raw in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
    ] {
        let imds = Imds::start().with("GET", "/latest/x", Answer::Raw(raw.as_bytes().to_vec()));
        assert!(open(&imds).unwrap().get("x").is_err(), "{raw}");
    }
}

#[test]
fn an_answer_that_was_not_asked_for_is_not_taken_for_the_next_one() {
    let two = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".to_vec();
    let imds = Imds::start()
        .with("GET", "/latest/x", Answer::RawKept(two))
        .with("GET", "/latest/y", Answer::ok("honest"));
    let mut session = open(&imds).unwrap();
    assert_eq!(session.get("x").unwrap(), b"a");
    assert_ne!(session.get("y").ok(), Some(b"evil".to_vec()));
}

#[test]
fn one_connection_serves_a_run_where_the_server_keeps_it() {
    let imds = Imds::start()
        .with("GET", "/latest/x", Answer::ok("1"))
        .with("HEAD", "/latest/x", Answer::ok("1"));
    let mut session = open(&imds).unwrap();
    assert!(session.exists("x").unwrap());
    assert_eq!(session.get("x").unwrap(), b"1");
    assert!(!session.exists("none").unwrap());
    assert_eq!(imds.connections(), 1);
}

#[test]
fn a_server_that_closes_after_each_answer_is_asked_again() {
    let closing =
        Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1".to_vec());
    let imds = Imds::start().with("GET", "/latest/x", closing);
    let mut session = open(&imds).unwrap();
    assert_eq!(
        (session.get("x").unwrap(), session.get("x").unwrap()),
        (b"1".to_vec(), b"1".to_vec())
    );
    assert_eq!(imds.connections(), 2);
}

#[test]
fn every_request_carries_the_token() {
    let imds = Imds::start().with("GET", "/latest/x", Answer::ok("1"));
    open(&imds).unwrap().get("x").unwrap();
    let heads = imds.heads();
    assert!(heads[0].contains("X-aws-ec2-metadata-token-ttl-seconds: 5\r\n"));
    assert!(heads[1].contains(&format!("X-aws-ec2-metadata-token: {TOKEN}\r\n")));
}

#[test]
fn tokens_are_not_shown() {
    let imds = Imds::start();
    assert!(!format!("{:?}", open(&imds).unwrap()).contains(TOKEN));
}

/// Paths `a`, `b`, … each answered with its own name.
fn named(imds: Imds, names: &[&str]) -> Imds {
    names.iter().fold(imds, |imds, name| {
        imds.with("GET", &format!("/latest/{name}"), Answer::ok(name))
    })
}

#[test]
fn one_failing_answer_of_several_fails_them_all() {
    for bad in ["a", "b", "c", "d"] {
        for answer in [
            Answer::status(404, "a"),
            Answer::Hangup,
            Answer::Raw(b"SSH-2.0-x\r\n\r\n".to_vec()),
            Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".to_vec()),
            Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n".to_vec()),
        ] {
            let imds = named(Imds::start(), &["a", "b", "c", "d"]);
            let imds = imds.with("GET", &format!("/latest/{bad}"), answer);
            let mut metadata = open(&imds).unwrap();
            assert!(metadata.get_all(["a", "b", "c", "d"]).is_err(), "{bad}");
        }
    }
}

#[test]
fn several_answers_share_one_budget() {
    // I-04: 64 KiB in all, on however many connections
    let imds = ["a", "b", "c"].iter().fold(Imds::start(), |imds, name| {
        imds.with(
            "GET",
            &format!("/latest/{name}"),
            Answer::ok(&"x".repeat(30_000)),
        )
    });
    assert!(open(&imds).unwrap().get_all(["a", "b"]).is_ok());
    assert!(open(&imds).unwrap().get_all(["a", "b", "c"]).is_err());
}

#[test]
fn several_answers_come_in_the_order_of_their_paths() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let imds = named(Imds::start(), &names);
    let mut metadata = open(&imds).unwrap();
    let expected: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    assert_eq!(metadata.get_each(&names).unwrap(), expected);
    assert_eq!(metadata.get_each(&[]).unwrap(), Vec::<Vec<u8>>::new());
    // Seven answers, at most four connections, and each path asked once.
    assert_eq!(imds.connections(), MAX_CONNECTIONS);
    assert_eq!(imds.requests().len(), 1 + names.len());
}

#[test]
fn a_server_that_closes_after_each_answer_is_asked_on_new_connections() {
    let closing =
        Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx".to_vec());
    let imds = ["a", "b", "c"].iter().fold(Imds::start(), |imds, name| {
        imds.with("GET", &format!("/latest/{name}"), closing.clone())
    });
    let mut metadata = open(&imds).unwrap();
    assert!(metadata.get_all(["a", "b", "c"]).is_ok());
    assert!(metadata.get_all(["c", "b", "a"]).is_ok());
}

#[test]
fn a_server_that_serves_one_connection_at_a_time_is_asked_one_by_one() {
    let imds = named(Imds::one_by_one(), &["a", "b", "c", "d"]);
    let mut metadata = open(&imds).unwrap();
    // Once is within the deadline; once for each of the three further connections is not.
    metadata.patience = HONEST * 2 / 5;
    assert_eq!(
        metadata.get_all(["a", "b", "c", "d"]).unwrap(),
        ["a", "b", "c", "d"].map(|name| name.as_bytes().to_vec())
    );
    // Found out once: from now on without any patience.
    metadata.patience = HONEST * 2;
    assert!(metadata.get_all(["d", "c", "b", "a"]).is_ok());
    assert_eq!((metadata.side_by_side, imds.connections()), (1, 1));
}

#[test]
fn a_kept_connection_that_was_closed_silently_is_opened_again_once() {
    let silent = Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx".to_vec());
    let imds = named(Imds::start(), &["b"]).with("GET", "/latest/a", silent);
    let mut metadata = open(&imds).unwrap();
    for _ in 0..3 {
        assert_eq!(metadata.get("a").unwrap(), b"x");
        assert_eq!(metadata.get("b").unwrap(), b"b");
    }
    let gone = Imds::start().with("GET", "/latest/a", Answer::Hangup);
    assert!(open(&gone).unwrap().get("a").is_err());
    // Once on the kept connection, once on a new one.
    assert_eq!(gone.requests().len(), 3);
}
