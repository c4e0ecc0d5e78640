//! As much of ASN.1's basic encoding rules (X.690) as AWS's PKCS #7 signatures use: indefinite lengths and
//! octet strings in pieces are read, tags of several bytes are refused. Not a general decoder.

/// Nesting of what is read; AWS's signatures have 9 levels.
const MAX_DEPTH: u8 = 16;

/// `SEQUENCE`
pub(super) const SEQUENCE: u8 = 0x30;
/// `SET`
pub(super) const SET: u8 = 0x31;
/// `INTEGER`
pub(super) const INTEGER: u8 = 0x02;
/// `OBJECT IDENTIFIER`
pub(super) const OID: u8 = 0x06;
/// `OCTET STRING` in one piece.
pub(super) const OCTET_STRING: u8 = 0x04;
/// `OCTET STRING` in pieces.
const CONSTRUCTED_OCTET_STRING: u8 = 0x24;
const CONSTRUCTED: u8 = 0x20;
const LONG_TAG: u8 = 0x1f;
const INDEFINITE: u8 = 0x80;
const END_OF_CONTENTS: &[u8] = &[0, 0];

/// `[n]` with contents of its own.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    /// Its one tag byte.
    pub(super) tag: u8,
    /// Its contents, without an end-of-contents mark.
    pub(super) value: &'a [u8],
    /// All of its bytes.
    pub(super) raw: &'a [u8],
    /// Whether its length is written in front of it.
    pub(super) definite: bool,
}

/// Not of the form that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ASN.1 structure is malformed")]
pub struct Malformed;

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    depth: u8,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            depth: 0,
        }
    }

    /// The next element, whatever it is.
    pub(super) fn any(&mut self) -> Result<Element<'a>, Malformed> {
        let (element, rest) = element(self.rest, self.depth)?;
        self.rest = rest;
        Ok(element)
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Element<'a>, Malformed> {
        self.any().and_then(|element| {
            if element.tag == tag {
                Ok(element)
            } else {
                Err(Malformed)
            }
        })
    }

    /// The next element where it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Malformed> {
        if self.rest.first() == Some(&tag) {
            self.any().map(Some)
        } else {
            Ok(None)
        }
    }

    /// The contents of the next element, which must have this tag.
    pub(super) fn inside(&mut self, tag: u8) -> Result<Self, Malformed> {
        Ok(Self {
            rest: self.expect(tag)?.value,
            depth: self.depth.saturating_add(1),
        })
    }

    /// An octet string, joined where it comes in pieces.
    pub(super) fn octets(&mut self) -> Result<Vec<u8>, Malformed> {
        if self.rest.first() != Some(&CONSTRUCTED_OCTET_STRING) {
            return Ok(self.expect(OCTET_STRING)?.value.to_vec());
        }
        let mut pieces = self.inside(CONSTRUCTED_OCTET_STRING)?;
        let mut joined = Vec::new();
        while !pieces.is_at_end() {
            joined.extend_from_slice(pieces.expect(OCTET_STRING)?.value);
        }
        Ok(joined)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses what follows.
    pub(super) fn end(self) -> Result<(), Malformed> {
        self.is_at_end().then_some(()).ok_or(Malformed)
    }
}

fn element(bytes: &[u8], depth: u8) -> Result<(Element<'_>, &[u8]), Malformed> {
    let (&tag, after_tag) = bytes.split_first().ok_or(Malformed)?;
    let (&first, after_first) = after_tag.split_first().ok_or(Malformed)?;
    // 0 is the end-of-contents mark, which only `indefinite` may meet.
    if depth >= MAX_DEPTH || tag == 0 || tag & LONG_TAG == LONG_TAG {
        return Err(Malformed);
    }
    if first == INDEFINITE {
        return indefinite(bytes, tag, after_first, depth);
    }
    let (length, contents) = definite_length(first, after_first)?;
    let (value, rest) = contents.split_at_checked(length).ok_or(Malformed)?;
    let used = bytes.len().checked_sub(rest.len()).ok_or(Malformed)?;
    let raw = bytes.get(..used).ok_or(Malformed)?;
    let element = Element {
        tag,
        value,
        raw,
        definite: true,
    };
    Ok((element, rest))
}

/// Up to four bytes of length: more than any bound on what is read here.
fn definite_length(first: u8, rest: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    if first < INDEFINITE {
        return Ok((usize::from(first), rest));
    }
    let count = usize::from(first & 0x7f);
    if count > 4 {
        return Err(Malformed);
    }
    let (digits, rest) = rest.split_at_checked(count).ok_or(Malformed)?;
    let length = digits
        .iter()
        .fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit));
    Ok((length, rest))
}

/// Contents until the mark that belongs to them.
fn indefinite<'a>(
    bytes: &'a [u8],
    tag: u8,
    contents: &'a [u8],
    depth: u8,
) -> Result<(Element<'a>, &'a [u8]), Malformed> {
    if tag & CONSTRUCTED == 0 {
        return Err(Malformed);
    }
    let mut rest = contents;
    loop {
        if let Some(after) = rest.strip_prefix(END_OF_CONTENTS) {
            let length = contents.len().checked_sub(rest.len()).ok_or(Malformed)?;
            let used = bytes.len().checked_sub(after.len()).ok_or(Malformed)?;
            let element = Element {
                tag,
                value: contents.get(..length).ok_or(Malformed)?,
                raw: bytes.get(..used).ok_or(Malformed)?,
                definite: false,
            };
            return Ok((element, after));
        }
        rest = element(rest, depth.saturating_add(1))?.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_lie_and_endless_nesting_are_refused() {
        // G-07
        let deep: Vec<u8> = [0x30, 0x80].repeat(1000);
        for bad in [
            &b""[..],
            b"\x30",
            b"\x30\x05\x00",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x85\x00\x00\x00\x00\x00",
            b"\x30\x80\x02\x01\x01",
            b"\x04\x80\x00\x00",
            b"\x1f\x01\x00",
            b"\x00\x00",
            &deep,
        ] {
            assert!(Reader::new(bad).any().is_err(), "{bad:x?}");
        }
    }

    #[test]
    fn both_kinds_of_length_are_read() {
        let mut reader =
            Reader::new(b"\x30\x03\x02\x01\x05\x30\x80\x30\x80\x00\x00\x02\x01\x07\x00\x00");
        let definite = reader.expect(SEQUENCE).unwrap();
        assert_eq!(
            (definite.value, definite.definite),
            (&b"\x02\x01\x05"[..], true)
        );
        let mut inside = reader.inside(SEQUENCE).unwrap();
        assert!(!inside.expect(SEQUENCE).unwrap().definite);
        assert_eq!(inside.expect(INTEGER).unwrap().value, b"\x07");
        assert!(inside.is_at_end() && reader.end().is_ok());
    }

    #[test]
    fn an_octet_string_in_pieces_is_joined() {
        let mut reader = Reader::new(b"\x24\x80\x04\x02ab\x04\x01c\x00\x00");
        assert_eq!(reader.octets().unwrap(), b"abc");
        assert!(
            Reader::new(b"\x24\x80\x02\x01\x00\x00\x00")
                .octets()
                .is_err()
        );
    }
}
