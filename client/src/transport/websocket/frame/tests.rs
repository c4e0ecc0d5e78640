//! Frames against the examples of RFC 6455 §5.7, against another implementation, and against what no server may send.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

use super::*;

/// All pieces of `bytes`, which come `step` at a time.
fn decoded(bytes: &[u8], step: usize) -> Result<(Vec<u8>, Vec<String>), FrameError> {
    let (mut decoder, mut data, mut others) = (Decoder::default(), Vec::new(), Vec::new());
    for mut some in bytes.chunks(step) {
        while let Some(piece) = decoder.next(&mut some)? {
            match piece {
                Piece::Data(bytes) => data.extend_from_slice(bytes),
                other => others.push(format!("{other:?}")),
            }
        }
        assert!(some.is_empty());
    }
    Ok((data, others))
}

#[test]
fn what_no_server_may_send_is_refused_at_its_header() {
    for (bytes, error) in [
        (&[0x81, 0x02][..], FrameError::Text),
        // Masked; a bit of an extension; unknown opcodes.
        (&[0x82, 0x85], FrameError::Malformed),
        (&[0xc2, 0x01], FrameError::Malformed),
        (&[0x83, 0x01], FrameError::Malformed),
        (&[0x8b, 0x01], FrameError::Malformed),
        // A continuation of nothing; a message within another; control frames in pieces or too long.
        (&[0x80, 0x01], FrameError::Malformed),
        (&[0x02, 0x01, 0x00, 0x82, 0x01], FrameError::Malformed),
        (&[0x09, 0x01], FrameError::Malformed),
        (&[0x89, 0x7e], FrameError::Malformed),
        // A close with half a code.
        (&[0x88, 0x01, 0x03], FrameError::Malformed),
    ] {
        for step in [1, 16] {
            assert_eq!(decoded(bytes, step), Err(error), "{bytes:02x?}");
        }
    }
}

#[test]
fn frames_are_read_however_they_are_cut() {
    let mut bytes = Vec::new();
    // In two fragments with a ping between (§5.4), then one of 16 and one of 64 bits of length, then the end.
    bytes.extend([
        0x02, 3, b'a', b'b', b'c', 0x89, 2, b'h', b'i', 0x80, 2, b'd', b'e',
    ]);
    bytes.extend([0x82, 126, 1, 0]);
    bytes.extend([1; 256]);
    bytes.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    bytes.extend([2; 65_536]);
    bytes.extend([
        0x8a, 0, 0x82, 0, 0x88, 6, 0x03, 0xe8, b'b', b'y', b'e', 0x1b,
    ]);
    let data = [b"abcde".to_vec(), vec![1; 256], vec![2; 65_536]].concat();
    let others = [
        "Ping([104, 105])",
        "Pong",
        r#"Close(Some((1000, "bye\\u{1b}")))"#,
    ];
    for step in [1, 2, 3, 7, 4096, bytes.len()] {
        let (read, told) = decoded(&bytes, step).unwrap();
        assert!(read == data, "{step}");
        assert_eq!(told, others, "{step}");
    }
}

#[test]
fn another_implementation_reads_what_is_written() {
    for length in [1, 7, 8, 125, 126, 4_097, 65_000, 65_535, 65_536, 200_000] {
        let payload: Vec<u8> = (0..=250).cycle().take(length).collect();
        let mut frame = Outgoing::new(length + 3);
        frame.room()[..length].copy_from_slice(&payload);
        let mut bytes = frame.seal(Kind::Binary, length).to_vec();
        bytes.extend(Outgoing::control(Kind::Ping, b"hm"));
        bytes.extend(Outgoing::control(Kind::Close, b""));
        let config = WebSocketConfig::default();
        let mut server = WebSocket::from_raw_socket(Cursor::new(bytes), Role::Server, Some(config));
        assert!(
            server.read().unwrap() == Message::binary(payload),
            "{length}"
        );
        assert_eq!(server.read().unwrap(), Message::Ping("hm".into()));
        assert_eq!(server.read().unwrap(), Message::Close(None));
    }
}

#[test]
fn each_frame_has_a_mask_of_its_own() {
    let mut frame = Outgoing::new(8);
    let mut sealed = || {
        frame.room().fill(0);
        frame.seal(Kind::Binary, 8).to_vec()
    };
    assert_ne!(sealed(), sealed());
}
