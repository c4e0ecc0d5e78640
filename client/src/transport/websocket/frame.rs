//! Frames of RFC 6455 §5 as the client of a tunnel of raw bytes needs them: written and masked where the bytes lie,
//! read as they arrive, so that no frame is ever kept whole. Knows no sockets; sends no fragments, speaks no extension.

use eic_protocol::text::printable;

/// Room for a client's longest header: 2 bytes, a length of 8, a mask of 4 (§5.2). Bytes.
const HEADER: usize = 14;
/// Longest payload of a control frame (§5.5). Bytes.
const MAX_CONTROL: usize = 125;
/// The last frame of its message, and a masked one; the bits of extensions.
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const RESERVED: u8 = 0x70;

/// What a client sends (§5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Binary,
    Close,
    Ping,
    Pong,
}

impl Kind {
    fn opcode(self) -> u8 {
        match self {
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }
}

/// A payload with room for its header before it: what is read into it is sent from where it lies.
#[derive(Debug)]
pub(crate) struct Outgoing(Vec<u8>);

impl Outgoing {
    /// For payloads up to this length. Bytes.
    pub(crate) fn new(longest: usize) -> Self {
        Self(vec![0; HEADER + longest])
    }

    /// One frame of a few bytes, which are kept as far as a control frame goes.
    pub(crate) fn control(kind: Kind, payload: &[u8]) -> Vec<u8> {
        let payload = payload.get(..MAX_CONTROL).unwrap_or(payload);
        let mut frame = Self::new(payload.len());
        frame.room().copy_from_slice(payload);
        frame.seal(kind, payload.len()).to_vec()
    }

    /// Where the payload goes.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.0.get_mut(HEADER..).unwrap_or_default()
    }

    /// Masks the first `length` bytes of the payload and gives the frame.
    pub(crate) fn seal(&mut self, kind: Kind, length: usize) -> &[u8] {
        let mut key = [0; 4];
        // A mask keeps proxies from taking a payload for HTTP (§10.3); within TLS none sees it.
        let _ = getrandom::fill(&mut key);
        let header = header(kind, length, key);
        let begin = HEADER.saturating_sub(header.len());
        if let Some(place) = self.0.get_mut(begin..HEADER) {
            place.copy_from_slice(&header);
        }
        let end = HEADER.saturating_add(length).min(self.0.len());
        mask(self.0.get_mut(HEADER..end).unwrap_or_default(), key);
        self.0.get(begin..end).unwrap_or_default()
    }
}

fn header(kind: Kind, length: usize, key: [u8; 4]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.push(FIN | kind.opcode());
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) if usize::from(length) <= MAX_CONTROL => header.push(MASKED | length),
        (_, Ok(length)) => {
            header.push(MASKED | 126);
            header.extend(length.to_be_bytes());
        }
        _ => {
            header.push(MASKED | 127);
            header.extend(u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    header.extend(key);
    header
}

/// §5.3, eight bytes at a time.
fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, last) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in last.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Some bytes of a message; where its frames end is nobody's affair here.
    Data(&'a [u8]),
    /// To be answered with the same bytes.
    Ping(Vec<u8>),
    /// An answer.
    Pong,
    /// The end, with code and words where there are any.
    Close(Option<(u16, String)>),
}

/// Reads a server's frames from bytes as they come.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Bytes of a data frame that are still to come.
    left: u64,
    /// The beginning of a header, or of a control frame.
    held: Vec<u8>,
    /// A message was begun whose last frame has not come.
    is_open: bool,
}

impl Decoder {
    /// Takes the next piece off `bytes`; none: more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`]; nothing after it means anything.
    pub(crate) fn next<'a>(
        &mut self,
        bytes: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, FrameError> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX);
                let piece = take(bytes, length);
                let taken = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                self.left = self.left.saturating_sub(taken);
                return Ok(Some(Piece::Data(piece)));
            }
            let missing = self.needed()?.saturating_sub(self.held.len());
            self.held.extend_from_slice(take(bytes, missing));
            if self.held.len() == self.needed()? {
                let begun = std::mem::take(&mut self.held);
                if let Some(piece) = self.begin(&begun)? {
                    return Ok(Some(piece));
                }
            }
        }
        Ok(None)
    }

    /// How long what is held must become: a header, and all of a control frame.
    fn needed(&self) -> Result<usize, FrameError> {
        let &[first, second, ..] = self.held.as_slice() else {
            return Ok(2);
        };
        self.check(first, second)?;
        Ok(match second {
            126 => 4,
            127 => 10,
            length if is_control(first) => 2 + usize::from(length),
            _ => 2,
        })
    }

    fn check(&self, first: u8, second: u8) -> Result<(), FrameError> {
        if first & RESERVED != 0 || second & MASKED != 0 {
            return Err(FrameError::Malformed);
        }
        let is_whole = first & FIN != 0 && usize::from(second) <= MAX_CONTROL;
        match (first & 0x0f, self.is_open) {
            (0x0, true) | (0x2, false) => Ok(()),
            (0x1, _) => Err(FrameError::Text),
            (0x8..=0xa, _) if is_whole => Ok(()),
            _ => Err(FrameError::Malformed),
        }
    }

    fn begin(&mut self, begun: &[u8]) -> Result<Option<Piece<'static>>, FrameError> {
        let (head, rest) = begun.split_at_checked(2).ok_or(FrameError::Malformed)?;
        let (first, second) = match head {
            [first, second] => (*first, *second),
            _ => return Err(FrameError::Malformed),
        };
        match first & 0x0f {
            0x8 => closing(rest).map(|end| Some(Piece::Close(end))),
            0x9 => Ok(Some(Piece::Ping(rest.to_vec()))),
            0xa => Ok(Some(Piece::Pong)),
            _ => {
                self.is_open = first & FIN == 0;
                self.left = match second {
                    126 | 127 => rest.iter().fold(0, |sum, b| sum << 8 | u64::from(*b)),
                    length => u64::from(length),
                };
                Ok(None)
            }
        }
    }
}

fn is_control(first: u8) -> bool {
    first & 0x08 != 0
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, left) = bytes.split_at(length.min(bytes.len()));
    *bytes = left;
    taken
}

/// §5.5.1: nothing, or a code of two bytes and words.
fn closing(payload: &[u8]) -> Result<Option<(u16, String)>, FrameError> {
    match payload {
        [] => Ok(None),
        [_] => Err(FrameError::Malformed),
        [high, low, words @ ..] => {
            let words = printable(&String::from_utf8_lossy(words));
            Ok(Some((u16::from_be_bytes([*high, *low]), words)))
        }
    }
}

/// Not what a server may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the service sent text where only bytes belong")]
    Text,
    #[error("the service sent what is no websocket frame")]
    Malformed,
}

#[cfg(test)]
mod tests;
