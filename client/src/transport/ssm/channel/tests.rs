//! Both ends of the protocol, message by message.

use super::*;

fn output(sequence: i64, payload_type: u32, payload: &[u8]) -> Vec<u8> {
    Message::new(
        message::OUTPUT_STREAM,
        Ids::default().next(),
        sequence,
        payload_type,
        payload.to_vec(),
    )
    .encode(0)
}

fn acknowledge(sequence: i64) -> Vec<u8> {
    let mut ids = Ids::default();
    let of = Message::new(
        message::INPUT,
        ids.next(),
        sequence,
        message::OUTPUT,
        Vec::new(),
    );
    acknowledgement(&of, ids.next()).encode(0)
}

fn outputs(events: &[Event]) -> Vec<u8> {
    let bytes = events.iter().filter_map(|event| match event {
        Event::Output(bytes) => Some(bytes.clone()),
        _ => None,
    });
    bytes.flatten().collect()
}

#[test]
fn encrypted_foreign_and_malformed_sessions_are_refused() {
    let request = |action: &str| output(0, message::HANDSHAKE_REQUEST, action.as_bytes());
    for (bytes, error) in [
        (b"SSH-2.0".to_vec(), ChannelError::Malformed),
        (request("{"), ChannelError::Malformed),
        (
            request(
                r#"{"RequestedClientActions":[{"ActionType":"KMSEncryption","ActionParameters":{"KMSKeyId":"k"}}]}"#,
            ),
            ChannelError::Encrypted,
        ),
        (
            request(
                r#"{"RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Standard_Stream"}}]}"#,
            ),
            ChannelError::Kind,
        ),
        (
            request(r#"{"RequestedClientActions":[{"ActionType":"Dance"}]}"#),
            ChannelError::Action("Dance".to_owned()),
        ),
        (
            output(0, message::FLAG, &message::PORT_ERROR.to_be_bytes()),
            ChannelError::Port,
        ),
        (
            output(0, message::CHALLENGE, b"{}"),
            ChannelError::Encrypted,
        ),
    ] {
        let refused = match Channel::default().receive(&bytes, 0) {
            Ok(mut events) => events.pop(),
            Err(error) => Some(Event::Refused(error)),
        };
        assert_eq!(refused, Some(Event::Refused(error)));
    }
}

#[test]
fn what_is_asked_and_not_spoken_is_declined_before_the_session_is_given_up() {
    let request = r#"{"RequestedClientActions":[{"ActionType":"KMSEncryption"},{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port"}}]}"#;
    let message = output(0, message::HANDSHAKE_REQUEST, request.as_bytes());
    let events = Channel::default().receive(&message, 0).unwrap();
    let [
        _,
        Event::Send(answer),
        Event::Refused(ChannelError::Encrypted),
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    let answer = Message::decode(answer).unwrap().payload;
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let statuses = ["0", "1"].map(|at| {
        let path = format!("/ProcessedClientActions/{at}/ActionStatus");
        answer.pointer(&path).cloned().unwrap()
    });
    assert_eq!(statuses, [3, 1]);
}

#[test]
fn what_comes_too_early_is_kept_up_to_a_megabyte_and_not_from_far_ahead() {
    let mut channel = Channel::default();
    let large = vec![0; 64 * 1024];
    let mut kept = 0;
    for sequence in 1..100 {
        let message = output(sequence, message::OUTPUT, &large);
        let events = channel.receive(&message, 0).unwrap();
        assert!(events.len() <= 1, "something was delivered");
        kept += events.len();
    }
    assert_eq!(kept, 15, "64 KiB each");
    // Twice the same takes no more.
    let again = output(1, message::OUTPUT, b"");
    channel.receive(&again, 0).unwrap();
    let held: usize = channel.held.values().map(weight).sum();
    assert!(channel.held_bytes == held && held <= MAX_HELD);
    // Nothing that is not kept is acknowledged, and the missing one frees the rest.
    let events = channel
        .receive(&output(0, message::OUTPUT, b"x"), 0)
        .unwrap();
    assert_eq!(outputs(&events).len(), 1 + 14 * large.len());
    assert_eq!((channel.held_bytes, channel.expected), (0, 16));
    for far in [16 + MAX_AHEAD + 1, i64::MAX] {
        let refused = channel.receive(&output(far, message::OUTPUT, b"x"), 0);
        assert_eq!(refused.unwrap(), [], "{far}");
    }
    let reachable = channel.receive(&output(16 + MAX_AHEAD, message::OUTPUT, b"x"), 0);
    assert_eq!(reachable.unwrap().len(), 1);
}

#[test]
fn the_handshake_is_acknowledged_and_answered() {
    let mut channel = Channel::default();
    let request = r#"{"AgentVersion":"3.3.1","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port","Properties":{"portNumber":"22"}}}]}"#;
    let events = channel
        .receive(
            &output(0, message::HANDSHAKE_REQUEST, request.as_bytes()),
            0,
        )
        .unwrap();
    let [Event::Send(ack), Event::Send(answer)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(Message::decode(ack).unwrap().kind, message::ACKNOWLEDGE);
    let answer = Message::decode(answer).unwrap();
    assert_eq!(
        (answer.sequence, answer.payload_type),
        (0, message::HANDSHAKE_RESPONSE)
    );
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["ProcessedClientActions"][0]["ActionStatus"], 1);
    let events = channel
        .receive(&output(1, message::HANDSHAKE_COMPLETE, b"{}"), 0)
        .unwrap();
    assert!(events.contains(&Event::Ready));
}

#[test]
fn messages_out_of_order_and_twice_are_delivered_once_in_order() {
    let mut channel = Channel::default();
    let mut take = |sequence: i64, payload: &[u8]| {
        let events = channel
            .receive(&output(sequence, message::OUTPUT, payload), 0)
            .unwrap();
        assert!(matches!(events[0], Event::Send(_)), "not acknowledged");
        outputs(&events)
    };
    assert!(take(2, b"c").is_empty());
    assert!(take(1, b"b").is_empty());
    assert_eq!(take(0, b"a"), b"abc");
    assert!(take(1, b"b").is_empty());
    assert_eq!(take(3, b"d"), b"d");
}

#[test]
fn what_is_not_acknowledged_is_sent_again_until_nobody_is_there() {
    let mut channel = Channel::default();
    let first = channel.data(b"one", 1_000);
    channel.data(b"two", 1_000);
    assert!(channel.due(1_100).unwrap().is_empty());
    assert_eq!(channel.due(1_300).unwrap().len(), 2);
    channel.receive(&acknowledge(1), 1_310).unwrap();
    assert_eq!(channel.due(2_400).unwrap(), [first]);
    assert_eq!(channel.due(62_000), Err(ChannelError::Silent));
}

#[test]
fn the_window_and_a_pause_stop_new_data() {
    let mut channel = Channel::default();
    for _ in 0..WINDOW {
        assert!(channel.room() > 0);
        channel.data(b"x", 0);
    }
    assert_eq!(channel.room(), 0);
    channel.receive(&acknowledge(0), 1).unwrap();
    assert!(channel.room() > 0);
    let publication = |kind: &str| Message::new(kind, [1; 16], 0, 0, Vec::new()).encode(0);
    channel.receive(&publication(message::PAUSE), 1).unwrap();
    assert_eq!(channel.room(), 0);
    channel.receive(&publication(message::START), 1).unwrap();
    assert!(channel.room() > 0);
}

#[test]
fn the_end_comes_with_the_services_words_made_printable() {
    let content = br#"{"Output":"idle \u001b[2J timeout"}"#;
    let closed = Message::new(message::CLOSED, [1; 16], 0, 0, content.to_vec()).encode(0);
    let events = Channel::default().receive(&closed, 0).unwrap();
    assert_eq!(
        events,
        [Event::Closed("idle \\u{1b}[2J timeout".to_owned())]
    );
}

#[test]
fn messages_of_strangers_never_panic() {
    let good = output(0, message::OUTPUT, b"payload");
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            let _ = Channel::default().receive(&bytes, 0);
        }
    }
}
