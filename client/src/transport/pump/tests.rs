//! The pump between an in-memory stream and an in-memory server.

use super::*;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Message};

type Server = WebSocketStream<DuplexStream>;
type Pumping = tokio::task::JoinHandle<Result<(), Ended>>;

async fn scene(beat: Duration) -> (Server, DuplexStream, Pumping) {
    scene_with(beat, 1 << 20).await
}

/// The local side holds `room` bytes that nobody has read.
async fn scene_with(beat: Duration, room: usize) -> (Server, DuplexStream, Pumping) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (local, ssh) = tokio::io::duplex(room);
    let client = Websocket::new(ours, Vec::new());
    let server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
    let local_set = pump(client, local, beat);
    (server, ssh, tokio::spawn(local_set))
}

fn close(code: u16, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::from(code),
        reason: reason.into(),
    }))
}

#[tokio::test]
async fn text_and_other_close_codes_are_errors_with_the_servers_words() {
    for (message, told) in [
        (Message::text("hello"), "text"),
        (
            close(1008, "max duration\u{1b}[2J"),
            "code 1008: max duration\\u{1b}[2J",
        ),
        (close(1011, ""), "code 1011"),
    ] {
        let (mut server, _ssh, pumping) = scene(BEAT).await;
        server.send(message).await.unwrap();
        let ended = pumping.await.unwrap().unwrap_err().to_string();
        assert!(ended.contains(told), "{ended}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_not_taken_for_an_end() {
    let (server, _ssh, pumping) = scene(BEAT).await;
    drop(server);
    assert!(matches!(pumping.await.unwrap(), Err(Ended::Broken(_))));
}

#[tokio::test]
async fn a_normal_close_delivers_everything_and_ends_well() {
    for end in [close(1000, ""), Message::Close(None)] {
        let (mut server, mut ssh, pumping) = scene(BEAT).await;
        server
            .feed(Message::binary(vec![7; 300_000]))
            .await
            .unwrap();
        server.send(end).await.unwrap();
        let mut received = Vec::new();
        ssh.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, vec![7; 300_000]);
        assert_eq!(pumping.await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn frames_stay_within_the_limit_and_the_end_is_said_once() {
    let (mut server, mut ssh, pumping) = scene(BEAT).await;
    let sending = tokio::spawn(async move {
        ssh.write_all(&vec![9; 200_000]).await.unwrap();
        ssh.shutdown().await.unwrap();
        let mut last = Vec::new();
        ssh.read_to_end(&mut last).await.unwrap();
        last
    });
    let (mut bytes, mut closes) = (0, 0);
    while let Some(Ok(message)) = server.next().await {
        match message {
            Message::Binary(payload) => {
                assert!(!payload.is_empty() && payload.len() <= MAX_PAYLOAD);
                bytes += payload.len();
            }
            Message::Close(frame) => {
                assert!(frame.is_none());
                closes += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((bytes, closes), (200_000, 1));
    assert_eq!(pumping.await.unwrap(), Ok(()));
    assert!(sending.await.unwrap().is_empty());
}

#[tokio::test]
async fn pings_are_answered_and_sent_on_a_quiet_tunnel() {
    let (mut server, _ssh, pumping) = scene(Duration::from_millis(20)).await;
    server
        .send(Message::Ping(Bytes::from_static(b"x")))
        .await
        .unwrap();
    let (mut pinged, mut answered) = (false, false);
    while !(pinged && answered) {
        match server.next().await.unwrap().unwrap() {
            Message::Ping(_) => pinged = true,
            Message::Pong(payload) => answered = payload.as_ref() == b"x",
            other => panic!("{other:?}"),
        }
    }
    pumping.abort();
}

#[tokio::test]
async fn an_hour_of_silence_is_an_hour_of_pings_after_which_bytes_still_pass() {
    let hour = u32::try_from(Duration::from_secs(3600).as_secs() / BEAT.as_secs()).unwrap();
    assert!(BEAT < Duration::from_secs(60) && hour == 180);
    let (mut raw, theirs) = tokio::io::duplex(1 << 20);
    let (local, mut ssh) = tokio::io::duplex(1 << 20);
    let client = Websocket::new(theirs, Vec::new());
    let pumping = tokio::spawn(pump(client, local, Duration::from_millis(2)));
    // None is answered: a server that never did is not taken for gone, however slow this machine is.
    for _ in 0..hour {
        let mut ping = [0; 6];
        raw.read_exact(&mut ping).await.unwrap();
        assert_eq!(ping[..2], [0x89, 0x80]);
    }
    let mut server = WebSocketStream::from_raw_socket(raw, Role::Server, None).await;
    ssh.write_all(b"still").await.unwrap();
    let said = loop {
        match server.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => break bytes,
            other => assert!(matches!(other, Message::Ping(_)), "{other:?}"),
        }
    };
    assert_eq!(said.as_ref(), b"still");
    server
        .send(Message::binary(b"here".to_vec()))
        .await
        .unwrap();
    server.close(None).await.unwrap();
    let mut heard = Vec::new();
    ssh.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"here");
    pumping.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_fell_silent_ends_the_tunnel_and_one_that_never_answers_pings_does_not() {
    let beat = Duration::from_millis(20);
    let (mut server, _ssh, pumping) = scene(beat).await;
    // One answer to a ping, then nothing is read any more.
    server.next().await.unwrap().unwrap();
    server.flush().await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), pumping).await;
    assert_eq!(ended.unwrap().unwrap(), Err(Ended::Silent));

    let (server, _ssh, pumping) = scene(beat).await;
    tokio::time::sleep(beat * 10).await;
    assert!(!pumping.is_finished());
    drop(server);
    let _ = pumping.await;
}

#[tokio::test]
async fn a_local_side_that_does_not_read_for_ten_beats_loses_neither_tunnel_nor_bytes() {
    let (mut server, mut ssh, pumping) = scene_with(Duration::from_millis(20), 64).await;
    // One answer to a ping, then more than the local side takes.
    assert!(matches!(
        server.next().await.unwrap().unwrap(),
        Message::Ping(_)
    ));
    server
        .send(Message::binary(vec![7; 300_000]))
        .await
        .unwrap();
    for _ in 0..10 {
        let next = server.next().await.unwrap().unwrap();
        assert!(matches!(next, Message::Ping(_)), "{next:?}");
    }
    server.send(close(1000, "")).await.unwrap();
    let mut received = Vec::new();
    ssh.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, vec![7; 300_000]);
    assert_eq!(pumping.await.unwrap(), Ok(()));
}
