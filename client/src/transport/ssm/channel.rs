//! The state of one data channel: order, acknowledgements, window, resending, the handshake. Pure: bytes and the
//! time in milliseconds go in, what to send and what came out.

use std::collections::{BTreeMap, VecDeque};

use eic_protocol::text::printable;
use serde::{Deserialize, Serialize};

use tokio_tungstenite::tungstenite::Bytes;

use super::message::{self, Ids, Message, id_text};

/// Largest payload: both ends of the published protocol cut the stream so.
pub(super) const MAX_PAYLOAD: usize = 1024;
/// Most messages that are not acknowledged yet. The other side keeps 10,000 that are out of order.
const WINDOW: usize = 2_000;
/// How far ahead a message may be that is kept until those before it come.
const MAX_AHEAD: i64 = 10_000;
/// Most that is kept out of order, payloads and [`HELD_COST`] for each. Bytes: the sender decides how large a message is.
const MAX_HELD: usize = 1024 * 1024;
/// What a kept message takes beside its payload. Bytes.
const HELD_COST: usize = 256;
/// Least and longest time after which a message is sent again. Milliseconds.
const MIN_TIMEOUT: u64 = 200;
const MAX_TIMEOUT: u64 = 1_000;
/// When a message that nobody acknowledges means that nobody is there. Milliseconds.
const GIVE_UP: u64 = 60_000;
/// Values of `ActionStatus` in the answer to a handshake.
const DONE: u32 = 1;
const UNSUPPORTED: u32 = 3;
/// Most messages that are sent again at once.
const BURST: usize = 64;

/// What a received message means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// To be sent.
    Send(Bytes),
    /// Bytes of the host.
    Output(Vec<u8>),
    /// The handshake is over.
    Ready,
    /// It asks for something that was declined: what is to be sent before says so.
    Refused(ChannelError),
    /// The session is over.
    Closed(String),
}

/// One channel.
#[derive(Debug, Default)]
pub(super) struct Channel {
    ids: Ids,
    expected: i64,
    next: i64,
    held: BTreeMap<i64, Message>,
    /// Bytes of those.
    held_bytes: usize,
    unacknowledged: VecDeque<Sent>,
    paused: bool,
    smoothed: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Sent {
    sequence: i64,
    bytes: Bytes,
    first: u64,
    last: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Acknowledgement<'a> {
    acknowledged_message_type: &'a str,
    acknowledged_message_id: String,
    acknowledged_message_sequence_number: i64,
    is_sequential_message: bool,
}

/// What counts of the other side's.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Acknowledged {
    acknowledged_message_sequence_number: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Handshake {
    #[serde(default)]
    requested_client_actions: Vec<Action>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Action {
    action_type: String,
    #[serde(default)]
    action_parameters: serde_json::Value,
}

impl Channel {
    /// How many messages may be sent now.
    pub(super) fn room(&self) -> usize {
        match self.paused {
            true => 0,
            false => WINDOW.saturating_sub(self.unacknowledged.len()),
        }
    }

    /// Bytes for the host, at most [`MAX_PAYLOAD`].
    pub(super) fn data(&mut self, bytes: &[u8], now: u64) -> Bytes {
        self.send(message::OUTPUT, bytes.to_vec(), now)
    }

    /// Asks the host's agent to end the session.
    pub(super) fn terminate(&mut self, now: u64) -> Bytes {
        self.send(
            message::FLAG,
            message::TERMINATE.to_be_bytes().to_vec(),
            now,
        )
    }

    fn send(&mut self, payload_type: u32, payload: Vec<u8>, now: u64) -> Bytes {
        let id = self.ids.next();
        let message = Message::new(message::INPUT, id, self.next, payload_type, payload);
        let bytes = Bytes::from(message.encode(now));
        self.unacknowledged.push_back(Sent {
            sequence: self.next,
            bytes: bytes.clone(),
            first: now,
            last: now,
        });
        self.next += 1;
        bytes
    }

    /// What is to be sent again.
    pub(super) fn due(&mut self, now: u64) -> Result<Vec<Bytes>, ChannelError> {
        let timeout = self.timeout();
        let oldest = self.unacknowledged.front();
        if oldest.is_some_and(|sent| now.saturating_sub(sent.first) > GIVE_UP) {
            return Err(ChannelError::Silent);
        }
        let late = self
            .unacknowledged
            .iter_mut()
            .filter(|sent| now.saturating_sub(sent.last) > timeout);
        Ok(late
            .take(BURST)
            .map(|sent| {
                sent.last = now;
                sent.bytes.clone()
            })
            .collect())
    }

    /// RFC 6298 §2, within bounds.
    fn timeout(&self) -> u64 {
        let estimate = self
            .smoothed
            .map_or(MIN_TIMEOUT, |(mean, variation)| mean + 4 * variation);
        estimate.clamp(MIN_TIMEOUT, MAX_TIMEOUT)
    }

    /// Takes one message of the other side.
    pub(super) fn receive(&mut self, bytes: &[u8], now: u64) -> Result<Vec<Event>, ChannelError> {
        let message = Message::decode(bytes).ok_or(ChannelError::Malformed)?;
        match message.kind.as_str() {
            message::OUTPUT_STREAM => self.stream(message, now),
            message::ACKNOWLEDGE => {
                self.acknowledged(&message, now);
                Ok(Vec::new())
            }
            message::CLOSED => Ok(vec![Event::Closed(closing_words(&message.payload))]),
            message::PAUSE => {
                self.paused = true;
                Ok(Vec::new())
            }
            message::START => {
                self.paused = false;
                Ok(Vec::new())
            }
            // A kind that came later than this client.
            _ => Ok(Vec::new()),
        }
    }

    /// Acknowledges a message that is kept, and takes all that are in order now.
    fn stream(&mut self, message: Message, now: u64) -> Result<Vec<Event>, ChannelError> {
        let mut events = Vec::new();
        // One too many is not acknowledged, so that it comes again.
        if !self.has_space_for(&message) {
            return Ok(events);
        }
        let answer = acknowledgement(&message, self.ids.next()).encode(now);
        events.push(Event::Send(answer.into()));
        if message.sequence < self.expected {
            return Ok(events);
        }
        self.hold(message);
        while let Some(message) = self.held.remove(&self.expected) {
            self.held_bytes = self.held_bytes.saturating_sub(weight(&message));
            self.expected += 1;
            self.take(message, now, &mut events)?;
        }
        Ok(events)
    }

    /// The next one is handed on and takes no space.
    fn has_space_for(&self, message: &Message) -> bool {
        let in_reach = message.sequence <= self.expected.saturating_add(MAX_AHEAD);
        let fits = self.held_bytes.saturating_add(weight(message)) <= MAX_HELD;
        message.sequence <= self.expected || (in_reach && fits)
    }

    fn hold(&mut self, message: Message) {
        self.held_bytes = self.held_bytes.saturating_add(weight(&message));
        if let Some(same) = self.held.insert(message.sequence, message) {
            self.held_bytes = self.held_bytes.saturating_sub(weight(&same));
        }
    }

    fn take(
        &mut self,
        message: Message,
        now: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), ChannelError> {
        match message.payload_type {
            message::OUTPUT => events.push(Event::Output(message.payload)),
            message::HANDSHAKE_REQUEST => {
                let (answer, refusal) = answer(&message.payload)?;
                let sent = self.send(message::HANDSHAKE_RESPONSE, answer, now);
                events.push(Event::Send(sent));
                events.extend(refusal.map(Event::Refused));
            }
            message::HANDSHAKE_COMPLETE => events.push(Event::Ready),
            message::CHALLENGE => return Err(ChannelError::Encrypted),
            message::FLAG if message.payload == message::PORT_ERROR.to_be_bytes() => {
                return Err(ChannelError::Port);
            }
            _ => {}
        }
        Ok(())
    }

    fn acknowledged(&mut self, message: &Message, now: u64) {
        let Ok(content) = serde_json::from_slice::<Acknowledged>(&message.payload) else {
            return;
        };
        let sequence = content.acknowledged_message_sequence_number;
        let Some(at) = self
            .unacknowledged
            .iter()
            .position(|sent| sent.sequence == sequence)
        else {
            return;
        };
        if let Some(sent) = self.unacknowledged.remove(at) {
            // Karn: of one that was sent twice nobody knows which was answered.
            if sent.first == sent.last {
                self.measure(now.saturating_sub(sent.first));
            }
        }
    }

    fn measure(&mut self, round_trip: u64) {
        self.smoothed = Some(match self.smoothed {
            None => (round_trip, round_trip / 2),
            Some((mean, variation)) => {
                let variation = (3 * variation + mean.abs_diff(round_trip)) / 4;
                ((7 * mean + round_trip) / 8, variation)
            }
        });
    }
}

fn weight(message: &Message) -> usize {
    message.payload.len().saturating_add(HELD_COST)
}

fn acknowledgement(message: &Message, id: [u8; 16]) -> Message {
    let content = Acknowledgement {
        acknowledged_message_type: &message.kind,
        acknowledged_message_id: id_text(message.id),
        acknowledged_message_sequence_number: message.sequence,
        is_sequential_message: true,
    };
    let payload = serde_json::to_vec(&content).unwrap_or_default();
    Message::new(message::ACKNOWLEDGE, id, 0, 0, payload)
}

/// The answer to a handshake, and what it declines: only port sessions without a key of their own are taken. The
/// agent ends a session whose client declines, rather than keeping it until it is idle for too long.
fn answer(request: &[u8]) -> Result<(Vec<u8>, Option<ChannelError>), ChannelError> {
    let handshake: Handshake =
        serde_json::from_slice(request).map_err(|_| ChannelError::Malformed)?;
    let (mut processed, mut refusal) = (Vec::new(), None);
    for action in &handshake.requested_client_actions {
        let declined = declined(action);
        let (status, error) = match &declined {
            None => (DONE, String::new()),
            Some(declined) => (UNSUPPORTED, declined.to_string()),
        };
        processed.push(serde_json::json!({
            "ActionType": action.action_type, "ActionStatus": status, "ActionResult": null, "Error": error,
        }));
        refusal = refusal.or(declined);
    }
    let errors: Vec<String> = refusal.iter().map(ToString::to_string).collect();
    let response = serde_json::json!({
        "ClientVersion": super::start::CLIENT_VERSION, "ProcessedClientActions": processed, "Errors": errors,
    });
    let response = serde_json::to_vec(&response).map_err(|_| ChannelError::Malformed)?;
    Ok((response, refusal))
}

fn declined(action: &Action) -> Option<ChannelError> {
    let kind = action.action_parameters.get("SessionType");
    match (action.action_type.as_str(), kind.and_then(|k| k.as_str())) {
        ("SessionType", Some("Port")) => None,
        ("SessionType", _) => Some(ChannelError::Kind),
        ("KMSEncryption", _) => Some(ChannelError::Encrypted),
        (other, _) => Some(ChannelError::Action(printable(other))),
    }
}

fn closing_words(payload: &[u8]) -> String {
    let content: Option<serde_json::Value> = serde_json::from_slice(payload).ok();
    let output = content
        .as_ref()
        .and_then(|content| content.get("Output")?.as_str());
    printable(output.unwrap_or_default())
}

/// The channel cannot go on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Bytes that are no message.
    #[error("Session Manager sent something that is not of its documented form")]
    Malformed,
    /// Another kind of session than was asked for.
    #[error("Session Manager opened another kind of session than a port session")]
    Kind,
    /// Encryption with a key of KMS.
    #[error(
        "this account's Session Manager preferences encrypt sessions with a KMS key, which only AWS's session-manager-plugin does: install it, or use another way"
    )]
    Encrypted,
    /// Something else that is asked of the client.
    #[error(
        "Session Manager asks for `{0}`, which this client does not know: install session-manager-plugin, or use another way"
    )]
    Action(String),
    /// sshd.
    #[error(
        "nothing listens on that port of the host: is sshd running, and on which port (tag eic:ssh-port)?"
    )]
    Port,
    /// Nobody acknowledges.
    #[error("the host's Session Manager agent has gone silent")]
    Silent,
}

#[cfg(test)]
mod tests;
