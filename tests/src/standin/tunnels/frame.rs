//! Websocket frames as an endpoint's server takes and makes them (RFC 6455 section 5): a client's must be masked, whole
//! and within the endpoint's limit. Written apart from the client's own code, which is what it checks.

/// What a client's frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Binary,
    Close,
    Ping,
    Pong,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// Bytes for the host.
    Bytes(&'a [u8]),
    /// A control frame and what is in it.
    Control(Kind, Vec<u8>),
}

/// The frame that is being read.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: Vec<u8>,
    left: usize,
    key: [u8; 4],
    largest: usize,
}

impl Frames {
    /// For payloads up to `largest` bytes.
    pub(super) fn new(largest: usize) -> Self {
        Self {
            largest,
            ..Self::default()
        }
    }

    /// The next of what is in `bytes`, unmasked in place; none: more must come. An error ends the connection.
    pub(super) fn next<'a>(
        &mut self,
        bytes: &mut &'a mut [u8],
    ) -> Result<Option<Said<'a>>, &'static str> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = first(bytes, self.left);
                self.left -= taken.len();
                self.unmask(taken);
                return Ok(Some(Said::Bytes(taken)));
            }
            let missing = self.wanted()?.saturating_sub(self.head.len());
            self.head.extend_from_slice(first(bytes, missing));
            if self.head.len() == self.wanted()? {
                let head = std::mem::take(&mut self.head);
                if let Some(said) = self.open(&head)? {
                    return Ok(Some(said));
                }
            }
        }
        Ok(None)
    }

    /// How much of a frame is read before it is looked at: its header, and all of a control frame.
    fn wanted(&self) -> Result<usize, &'static str> {
        let [first, second, ..] = self.head.as_slice() else {
            return Ok(2);
        };
        let (kind, length) = (kind(*first)?, usize::from(second & 0x7f));
        match (kind, length) {
            _ if second & 0x80 == 0 => Err("a frame without a mask"),
            (Kind::Binary, 0) => Err("an empty frame"),
            (Kind::Binary, 126) => Ok(8),
            (Kind::Binary, 127) => Err("a frame beyond the limit"),
            (Kind::Binary, _) => Ok(6),
            (_, 126 | 127) => Err("a control frame that is too long"),
            (_, length) => Ok(6 + length),
        }
    }

    fn open(&mut self, head: &[u8]) -> Result<Option<Said<'static>>, &'static str> {
        let short = "a frame that is too short";
        let [first, second, rest @ ..] = head else {
            return Err(short);
        };
        let kind = kind(*first)?;
        let (long, rest) = match (kind, second & 0x7f) {
            (Kind::Binary, 126) => rest.split_first_chunk::<2>().ok_or(short)?,
            (_, length) => (&[0, length], rest),
        };
        let (key, payload) = rest.split_first_chunk::<4>().ok_or(short)?;
        self.key = *key;
        if kind != Kind::Binary {
            let mut payload = payload.to_vec();
            self.unmask(&mut payload);
            return Ok(Some(Said::Control(kind, payload)));
        }
        self.left = usize::from(u16::from_be_bytes(*long));
        if self.left > self.largest {
            return Err("a frame beyond the limit");
        }
        Ok(None)
    }

    /// Eight bytes at a time; the key goes on where these bytes end.
    fn unmask(&mut self, bytes: &mut [u8]) {
        let [a, b, c, d] = self.key;
        let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let next = bytes.len() % 4;
        let (words, last) = bytes.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
        for (byte, key) in last.iter_mut().zip(self.key.into_iter().cycle()) {
            *byte ^= key;
        }
        self.key.rotate_left(next);
    }
}

fn kind(first: u8) -> Result<Kind, &'static str> {
    match first {
        0x82 => Ok(Kind::Binary),
        0x88 => Ok(Kind::Close),
        0x89 => Ok(Kind::Ping),
        0x8a => Ok(Kind::Pong),
        _ => Err("text, a fragment, an extension, or no frame"),
    }
}

fn first<'a>(bytes: &mut &'a mut [u8], length: usize) -> &'a mut [u8] {
    let length = length.min(bytes.len());
    let (taken, left) = std::mem::take(bytes).split_at_mut(length);
    *bytes = left;
    taken
}

/// Room for a server's longest header. Bytes.
pub(super) const HEADER: usize = 10;

/// Writes the header of `length` bytes right before the end of `room`, of [`HEADER`] bytes; gives where it begins.
pub(super) fn head(room: &mut [u8], length: usize) -> usize {
    let mut head = vec![0x82];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) if length < 126 => head.push(length),
        (_, Ok(length)) => {
            head.push(126);
            head.extend(length.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend(u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    let begin = room.len().saturating_sub(head.len());
    if let Some(place) = room.get_mut(begin..) {
        place.copy_from_slice(&head);
    }
    begin
}

/// A control frame; at most 125 bytes.
pub(super) fn control(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let opcode = match kind {
        Kind::Binary => 0x82,
        Kind::Close => 0x88,
        Kind::Ping => 0x89,
        Kind::Pong => 0x8a,
    };
    let length = u8::try_from(payload.len()).unwrap_or(125).min(125);
    let mut frame = vec![opcode, length];
    frame.extend(payload.iter().take(usize::from(length)));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 section 5.7: "Hello", masked.
    const HELLO: [u8; 11] = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];

    fn read(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize), &'static str> {
        let (mut frames, mut data, mut controls) = (Frames::new(65_000), Vec::new(), 0);
        let mut bytes = bytes.to_vec();
        for mut some in bytes.chunks_mut(step) {
            while let Some(said) = frames.next(&mut some)? {
                match said {
                    Said::Bytes(bytes) => data.extend_from_slice(bytes),
                    Said::Control(..) => controls += 1,
                }
            }
        }
        Ok((data, controls))
    }

    #[test]
    fn frames_that_an_endpoint_does_not_take_are_refused() {
        for bad in [
            &HELLO[..],
            &[0x82, 0x05],
            &[0x02, 0x85],
            &[0xc2, 0x85],
            &[0x82, 0x80],
            &[0x82, 0xff],
            &[0x82, 0xfe, 0xfd, 0xe9, 0, 0, 0, 0],
            &[0x89, 0xfe],
        ] {
            assert!(read(bad, bad.len()).is_err(), "{bad:02x?}");
        }
    }

    #[test]
    fn the_example_of_the_rfc_is_read_however_it_is_cut() {
        let mut bytes = HELLO;
        bytes[0] = 0x82;
        let twice = [&bytes[..], &[0x89, 0x80, 0, 0, 0, 0], &bytes[..]].concat();
        for step in 1..=twice.len() {
            assert_eq!(read(&twice, step), Ok((b"HelloHello".to_vec(), 1)));
        }
    }

    #[test]
    fn headers_have_the_three_lengths() {
        for (length, right) in [
            (125, &[0x82, 125][..]),
            (126, &[0x82, 126, 0, 126]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut room = [0; HEADER];
            let begin = head(&mut room, length);
            assert_eq!(&room[begin..], right);
        }
    }
}
