//! Messages of Session Manager's data channel, as the layout that AWS publishes with its plugin has them.

use ring::digest;

/// Head before the payload's length. Bytes.
const HEAD: u32 = 116;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChannelMessage {
    pub(super) kind: String,
    pub(super) sequence: i64,
    pub(super) id: [u8; 16],
    pub(super) payload_type: u32,
    pub(super) payload: Vec<u8>,
}

impl ChannelMessage {
    /// A message of the agent's. Its id tells the sequence number, which is unique within a session.
    pub(super) fn new(kind: &str, sequence: i64, payload_type: u32, payload: &[u8]) -> Self {
        let mut id = [7; 16];
        for (place, byte) in id.iter_mut().zip(sequence.to_be_bytes()) {
            *place = byte;
        }
        Self {
            kind: kind.to_owned(),
            sequence,
            id,
            payload_type,
            payload: payload.to_vec(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = HEAD.to_be_bytes().to_vec();
        bytes.extend(format!("{:<32}", self.kind).bytes());
        bytes.extend(1_u32.to_be_bytes());
        bytes.extend(0_u64.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(0_u64.to_be_bytes());
        bytes.extend(self.id);
        bytes.extend(digest::digest(&digest::SHA256, &self.payload).as_ref());
        bytes.extend(self.payload_type.to_be_bytes());
        bytes.extend(
            u32::try_from(self.payload.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        bytes.extend(&self.payload);
        bytes
    }

    /// None where the layout, the payload's length or its digest is wrong.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let kind = std::str::from_utf8(bytes.get(4..36)?).ok()?;
        let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let payload = bytes.get(120..)?;
        let digest = digest::digest(&digest::SHA256, payload);
        let right = number(0)? == HEAD
            && usize::try_from(number(116)?).ok()? == payload.len()
            && bytes.get(80..112)? == digest.as_ref();
        right.then_some(Self {
            kind: kind.trim_end().to_owned(),
            sequence: i64::from_be_bytes(bytes.get(48..56)?.try_into().ok()?),
            id: bytes.get(64..80)?.try_into().ok()?,
            payload_type: number(112)?,
            payload: payload.to_vec(),
        })
    }

    /// The id as acknowledgements write it: a UUID whose two halves are swapped on the wire.
    pub(super) fn uuid(&self) -> String {
        let text = hex::encode(self.id);
        let (low, high) = text.split_at(16);
        let part = |half: &str, from: usize, to: usize| half.get(from..to).unwrap_or("").to_owned();
        [
            part(high, 0, 8),
            part(high, 8, 12),
            part(high, 12, 16),
            part(low, 0, 4),
            part(low, 4, 16),
        ]
        .join("-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_another_digest_or_length_is_refused() {
        let right = ChannelMessage::new("output_stream_data", 5, 1, b"bytes").encode();
        let decoded = ChannelMessage::decode(&right).unwrap();
        assert_eq!(
            (
                decoded.kind.as_str(),
                decoded.sequence,
                decoded.payload.as_slice()
            ),
            ("output_stream_data", 5, b"bytes".as_slice())
        );
        let mut other = right.clone();
        other[121] ^= 1;
        assert_eq!(ChannelMessage::decode(&other), None);
        assert_eq!(ChannelMessage::decode(&right[..right.len() - 1]), None);
        assert_eq!(ChannelMessage::decode(&right[..40]), None);
    }
}
