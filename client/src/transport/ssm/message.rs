//! One message of the data channel: a header of 116 bytes behind its length, big-endian, and a payload.

use sha2::{Digest as _, Sha256};

/// Bytes of the header after its own length field, as that field says.
const HEADER: u32 = 116;
/// Where the payload begins.
const PAYLOAD_AT: usize = 120;
/// Bytes of the name of a message's kind, padded with blanks.
const KIND_LEN: usize = 32;

/// What is in a payload.
pub(super) const OUTPUT: u32 = 1;
pub(super) const HANDSHAKE_REQUEST: u32 = 5;
pub(super) const HANDSHAKE_RESPONSE: u32 = 6;
pub(super) const HANDSHAKE_COMPLETE: u32 = 7;
pub(super) const CHALLENGE: u32 = 8;
pub(super) const FLAG: u32 = 10;
/// Values of a flag.
pub(super) const TERMINATE: u32 = 2;
pub(super) const PORT_ERROR: u32 = 3;

pub(super) const INPUT: &str = "input_stream_data";
pub(super) const OUTPUT_STREAM: &str = "output_stream_data";
pub(super) const ACKNOWLEDGE: &str = "acknowledge";
pub(super) const CLOSED: &str = "channel_closed";
pub(super) const START: &str = "start_publication";
pub(super) const PAUSE: &str = "pause_publication";

/// SYN and FIN both: what an acknowledgement carries.
const ACK_FLAGS: u64 = 3;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: String,
    pub(super) sequence: i64,
    pub(super) id: [u8; 16],
    pub(super) payload_type: u32,
    pub(super) payload: Vec<u8>,
}

/// Names for the messages of one channel, which acknowledgements repeat: random at first, then counted, since asking
/// the system for each would cost as much as sending it.
#[derive(Debug)]
pub(super) struct Ids {
    upper: [u8; 8],
    next: u64,
}

impl Default for Ids {
    fn default() -> Self {
        let (mut upper, mut lower) = ([0; 8], [0; 8]);
        // Without randomness the names are unique within the channel still, which is where they mean something.
        let _ = getrandom::fill(&mut upper).and_then(|()| getrandom::fill(&mut lower));
        // RFC 9562 §5.4: version 4.
        let [_, _, _, _, _, _, version, _] = &mut upper;
        *version = (*version & 0x0f) | 0x40;
        Self {
            upper,
            next: u64::from_be_bytes(lower),
        }
    }
}

impl Ids {
    /// The next one.
    pub(super) fn next(&mut self) -> [u8; 16] {
        self.next = self.next.wrapping_add(1);
        let mut lower = self.next.to_be_bytes();
        let [variant, ..] = &mut lower;
        *variant = (*variant & 0x3f) | 0x80;
        let mut id = [0; 16];
        for (slot, byte) in id.iter_mut().zip(self.upper.into_iter().chain(lower)) {
            *slot = byte;
        }
        id
    }
}

/// As text.
pub(super) fn id_text(id: [u8; 16]) -> String {
    let text = hex::encode(id);
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    let parts = parts.map(|(from, to)| text.get(from..to).unwrap_or_default());
    parts.join("-")
}

impl Message {
    /// A message of ours.
    pub(super) fn new(
        kind: &str,
        id: [u8; 16],
        sequence: i64,
        payload_type: u32,
        payload: Vec<u8>,
    ) -> Self {
        Self {
            kind: kind.to_owned(),
            sequence,
            id,
            payload_type,
            payload,
        }
    }

    /// The bytes of one websocket message. `now` in milliseconds.
    pub(super) fn encode(&self, now: u64) -> Vec<u8> {
        let flags = if self.kind == ACKNOWLEDGE {
            ACK_FLAGS
        } else {
            0
        };
        let mut bytes = Vec::with_capacity(PAYLOAD_AT + self.payload.len());
        bytes.extend_from_slice(&HEADER.to_be_bytes());
        let kind = self.kind.bytes().chain(std::iter::repeat(b' '));
        bytes.extend(kind.take(KIND_LEN));
        bytes.extend_from_slice(&1_u32.to_be_bytes());
        bytes.extend_from_slice(&now.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&flags.to_be_bytes());
        // The id's lower half goes first.
        let (upper, lower) = self.id.split_at(8);
        bytes.extend_from_slice(lower);
        bytes.extend_from_slice(upper);
        bytes.extend_from_slice(&Sha256::digest(&self.payload));
        bytes.extend_from_slice(&self.payload_type.to_be_bytes());
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Reads a message; the digest must be that of the payload.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let header = usize::try_from(u32::from_be_bytes(array(bytes, 0)?)).ok()?;
        // `channel_closed` has no payload type, so its header is shorter by it.
        let length_at = Some(header).filter(|h| (112..=1024).contains(h))?;
        let payload = bytes.get(length_at + 4..)?;
        let length = usize::try_from(u32::from_be_bytes(array(bytes, length_at)?)).ok()?;
        let payload = payload.get(..length).filter(|p| p.len() == payload.len())?;
        let digest: [u8; 32] = array(bytes, 80)?;
        if !payload.is_empty() && digest != *Sha256::digest(payload) {
            return None;
        }
        let mut id = [0; 16];
        for (slot, byte) in id
            .iter_mut()
            .zip(bytes.get(72..80)?.iter().chain(bytes.get(64..72)?))
        {
            *slot = *byte;
        }
        let payload_type = if header >= 116 {
            u32::from_be_bytes(array(bytes, 112)?)
        } else {
            0
        };
        let kind = std::str::from_utf8(bytes.get(4..4 + KIND_LEN)?).ok()?;
        Some(Self {
            kind: kind.trim_matches(|c| c == ' ' || c == '\0').to_owned(),
            sequence: i64::from_be_bytes(array(bytes, 48)?),
            id,
            payload_type,
            payload: payload.to_vec(),
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortened_lengthened_and_changed_messages_are_refused() {
        let bytes = Message::new(INPUT, Ids::default().next(), 7, OUTPUT, b"payload".to_vec())
            .encode(1_795_304_439_000);
        for cut in [0, 3, 4, 119, 120, bytes.len() - 1] {
            assert_eq!(Message::decode(&bytes[..cut]), None, "{cut}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(Message::decode(&longer), None);
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(Message::decode(&changed), None);
        let mut header = bytes.clone();
        header[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(Message::decode(&header), None);
    }

    #[test]
    fn no_two_messages_have_the_same_name_and_each_is_a_uuid_of_version_4() {
        let mut ids = Ids {
            next: u64::MAX - 500,
            ..Ids::default()
        };
        let texts: std::collections::BTreeSet<String> =
            (0..1000).map(|_| id_text(ids.next())).collect();
        assert_eq!(texts.len(), 1000);
        for text in texts {
            assert!(
                text[14..].starts_with('4') && "89ab".contains(&text[19..20]),
                "{text}"
            );
        }
        assert_ne!(Ids::default().next(), Ids::default().next());
    }

    #[test]
    fn the_layout_is_the_published_one() {
        let message = Message {
            id: *b"\x00\x01\x02\x03\x04\x05\x46\x07\x88\x09\x0a\x0b\x0c\x0d\x0e\x0f",
            ..Message::new(INPUT, Ids::default().next(), 7, OUTPUT, b"payload".to_vec())
        };
        let bytes = message.encode(5);
        assert_eq!(&bytes[..36], b"\0\0\0\x74input_stream_data               ");
        assert_eq!(bytes[36..40], 1_u32.to_be_bytes());
        assert_eq!(bytes[40..48], 5_u64.to_be_bytes());
        assert_eq!(bytes[48..56], 7_i64.to_be_bytes());
        assert_eq!(&bytes[64..72], b"\x88\x09\x0a\x0b\x0c\x0d\x0e\x0f");
        assert_eq!(bytes[112..120], [0, 0, 0, 1, 0, 0, 0, 7]);
        assert_eq!(&bytes[120..], b"payload");
        assert_eq!(Message::decode(&bytes), Some(message.clone()));
        assert_eq!(id_text(message.id), "00010203-0405-4607-8809-0a0b0c0d0e0f");
    }
}
