//! One request for each connection: its head and body to the stand-in that is meant, and the answer back.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{State, aws, ca};

pub(super) async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve_one(stream, Arc::clone(&state)));
    }
}

async fn serve_one(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut bytes = Vec::new();
    let (head, body_at, length) = loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.unwrap();
        if read == 0 {
            return;
        }
        bytes.extend_from_slice(&piece[..read]);
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
            let length = head
                .to_ascii_lowercase()
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "))
                .map_or(0, |l| l.parse().unwrap());
            break (head, at + 4, length);
        }
    };
    while bytes.len() < body_at + length {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.unwrap();
        bytes.extend_from_slice(&piece[..read]);
    }
    let (status, body) = answer(&head, &bytes[body_at..], &mut state.lock().unwrap());
    let answer = format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(&[answer.as_bytes(), &body].concat()).await;
}

/// AWS's services are asked at `/`, everything else is the CA's.
fn answer(head: &str, body: &[u8], state: &mut State) -> (u16, Vec<u8>) {
    match head.split(' ').nth(1) {
        Some("/") => aws::answer(&head.to_ascii_lowercase(), body, state),
        _ => ca::answer(head, body, state),
    }
}
