//! Reads a list strictly: what [`Krl::encode`] would not write is refused, so that no bytes reach sshd
//! that it might read differently, slowly, or not at all.

use std::collections::BTreeSet;

use super::entry::{Comment, RevokedKey, RevokedKeyId};
use super::serial_ranges::SerialRange;
use super::writer::MAX_BITMAP_BITS;
use super::{
    CaRevocations, FORMAT, KEY_IDS, Krl, MAGIC, MAX_SIZE, SECTION_CERTIFICATES, SECTION_KEYS,
    SECTION_SHA256, SERIAL_BITMAP, SERIAL_LIST, SERIAL_RANGE,
};
use crate::key_fingerprint::KeyFingerprint;
use crate::subject_key::{CaKey, SubjectKey};
use crate::wire::{Reader, Truncated};

/// Reads a list.
///
/// # Errors
/// [`UnreadableKrl`]: anything that our writer does not write, text files and signed lists included.
pub fn read(bytes: &[u8]) -> Result<Krl, UnreadableKrl> {
    if bytes.len() > MAX_SIZE {
        return Err(UnreadableKrl::TooLarge);
    }
    let mut r = Reader::new(bytes);
    let mut krl = header(&mut r)?;
    while !r.is_at_end() {
        let (kind, data) = (r.byte()?, r.string()?);
        match kind {
            SECTION_CERTIFICATES => certificates(&mut krl, data)?,
            SECTION_KEYS => keys(&mut krl, data)?,
            SECTION_SHA256 => fingerprints(&mut krl, data)?,
            other => return Err(UnreadableKrl::Section(other)),
        }
    }
    Ok(krl)
}

fn header(r: &mut Reader<'_>) -> Result<Krl, UnreadableKrl> {
    // Without the magic, sshd reads the file as a list of text keys.
    if r.take(MAGIC.len()).ok() != Some(MAGIC.as_slice()) {
        return Err(UnreadableKrl::NotKrl);
    }
    if r.u32()? != FORMAT {
        return Err(UnreadableKrl::Header("format version"));
    }
    let (version, generated, flags) = (r.u64()?, r.u64()?, r.u64()?);
    let (reserved, comment) = (r.string()?, r.string()?);
    if version == 0 {
        return Err(UnreadableKrl::Header("number"));
    }
    if flags != 0 || !reserved.is_empty() {
        return Err(UnreadableKrl::Header("flags"));
    }
    Ok(Krl {
        version,
        generated,
        comment: text(comment)
            .and_then(|t| t.parse::<Comment>().ok())
            .ok_or(UnreadableKrl::Header("comment"))?,
        ..Krl::empty()
    })
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn certificates(krl: &mut Krl, data: &[u8]) -> Result<(), UnreadableKrl> {
    if !krl.keys.is_empty() || !krl.fingerprints.is_empty() {
        return Err(UnreadableKrl::Order("sections"));
    }
    let mut r = Reader::new(data);
    // An empty key would stand for every CA.
    let ca = SubjectKey::from_blob(r.string()?).and_then(CaKey::new);
    let ca = ca.map_err(|_| UnreadableKrl::Entry("CA key"))?;
    if !r.string()?.is_empty() {
        return Err(UnreadableKrl::Entry("reserved field"));
    }
    if krl
        .cas
        .last_key_value()
        .is_some_and(|(last, _)| *last >= ca)
    {
        return Err(UnreadableKrl::Order("CA keys"));
    }
    krl.cas.insert(ca, revocations(r)?);
    Ok(())
}

fn revocations(mut r: Reader<'_>) -> Result<CaRevocations, UnreadableKrl> {
    let mut ranges = Ascending::default();
    let mut key_ids = BTreeSet::new();
    while !r.is_at_end() {
        let (kind, data) = (r.byte()?, r.string()?);
        if !key_ids.is_empty() {
            return Err(UnreadableKrl::Order("certificate sections"));
        }
        match kind {
            SERIAL_LIST => list(&mut ranges, data)?,
            SERIAL_RANGE => range(&mut ranges, data)?,
            SERIAL_BITMAP => bitmap(&mut ranges, data)?,
            KEY_IDS => key_ids = strings(data, "key id", key_id)?,
            other => return Err(UnreadableKrl::Section(other)),
        }
    }
    let revoked = CaRevocations {
        serials: ranges.0.into_iter().collect(),
        key_ids,
    };
    if revoked.is_empty() {
        Err(UnreadableKrl::Empty)
    } else {
        Ok(revoked)
    }
}

/// Ranges as they come, each above the one before.
#[derive(Default)]
struct Ascending(Vec<SerialRange>);

impl Ascending {
    fn push(&mut self, first: u64, last: u64) -> Result<(), UnreadableKrl> {
        let range =
            SerialRange::unbounded(first, last).ok_or(UnreadableKrl::Entry("serial or range"))?;
        if self.0.last().is_some_and(|before| before.last() >= first) {
            return Err(UnreadableKrl::Order("serials"));
        }
        self.0.push(range);
        Ok(())
    }
}

fn list(ranges: &mut Ascending, data: &[u8]) -> Result<(), UnreadableKrl> {
    if data.is_empty() {
        return Err(UnreadableKrl::Empty);
    }
    let mut r = Reader::new(data);
    while !r.is_at_end() {
        let serial = r.u64()?;
        ranges.push(serial, serial)?;
    }
    Ok(())
}

fn range(ranges: &mut Ascending, data: &[u8]) -> Result<(), UnreadableKrl> {
    let mut r = Reader::new(data);
    let (first, last) = (r.u64()?, r.u64()?);
    end(&r)?;
    if first == last {
        return Err(UnreadableKrl::Entry("serial or range"));
    }
    ranges.push(first, last)
}

fn bitmap(ranges: &mut Ascending, data: &[u8]) -> Result<(), UnreadableKrl> {
    let flaw = UnreadableKrl::Entry("bitmap");
    let mut r = Reader::new(data);
    let (offset, number) = (r.u64()?, r.string()?);
    end(&r)?;
    let digits = match number {
        [0, rest @ ..] if rest.first().is_some_and(|b| b & 0x80 != 0) => rest,
        [0, ..] | [0x80..=0xff, ..] => return Err(flaw),
        digits => digits,
    };
    // One serial alone stands in a list; bit 0 is the offset itself.
    let at_least_two = digits.len() > 1 || digits.first().is_some_and(|b| *b > 1);
    let starts_at_offset = digits.last().is_some_and(|b| b & 1 == 1);
    let bits = u64::try_from(digits.len())
        .unwrap_or(u64::MAX)
        .saturating_mul(8);
    if !at_least_two || !starts_at_offset || bits > MAX_BITMAP_BITS {
        return Err(flaw);
    }
    for bit in (0..bits).filter(|bit| is_set(digits, *bit)) {
        let serial = offset.saturating_add(bit);
        ranges.push(serial, serial)?;
    }
    Ok(())
}

fn is_set(big_endian: &[u8], bit: u64) -> bool {
    let at = usize::try_from(bit / 8).unwrap_or(usize::MAX);
    let byte = big_endian.iter().rev().nth(at);
    byte.is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
}

fn key_id(bytes: &[u8]) -> Option<RevokedKeyId> {
    text(bytes)?.parse().ok()
}

fn keys(krl: &mut Krl, data: &[u8]) -> Result<(), UnreadableKrl> {
    if !krl.keys.is_empty() || !krl.fingerprints.is_empty() {
        return Err(UnreadableKrl::Order("sections"));
    }
    krl.keys = strings(data, "key", |blob| RevokedKey::from_blob(blob).ok())?;
    Ok(())
}

fn fingerprints(krl: &mut Krl, data: &[u8]) -> Result<(), UnreadableKrl> {
    if !krl.fingerprints.is_empty() {
        return Err(UnreadableKrl::Order("sections"));
    }
    krl.fingerprints = strings(data, "fingerprint", |hash| {
        hash.try_into().ok().map(KeyFingerprint::from_hash)
    })?;
    Ok(())
}

/// A section of strings: at least one, each greater than the one before.
fn strings<T: Ord>(
    data: &[u8],
    what: &'static str,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<BTreeSet<T>, UnreadableKrl> {
    let mut r = Reader::new(data);
    let mut values = BTreeSet::new();
    while !r.is_at_end() {
        let value = parse(r.string()?).ok_or(UnreadableKrl::Entry(what))?;
        if values.last().is_some_and(|last| *last >= value) {
            return Err(UnreadableKrl::Order(what));
        }
        values.insert(value);
    }
    if values.is_empty() {
        Err(UnreadableKrl::Empty)
    } else {
        Ok(values)
    }
}

fn end(r: &Reader<'_>) -> Result<(), UnreadableKrl> {
    if r.is_at_end() {
        Ok(())
    } else {
        Err(UnreadableKrl::Trailing)
    }
}

/// Why bytes are not a list of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableKrl {
    /// Over 512 KiB.
    #[error("the revocation list is larger than {MAX_SIZE} bytes")]
    TooLarge,
    /// No magic: text, HTML, anything.
    #[error("the file is not an OpenSSH revocation list")]
    NotKrl,
    /// It ends within a field.
    #[error("the revocation list is cut off")]
    Truncated,
    /// Bytes after a field that ends its section.
    #[error("the revocation list has bytes after the end of a section")]
    Trailing,
    /// A header field that is not as written here.
    #[error("the {0} of the revocation list is not accepted")]
    Header(&'static str),
    /// SHA-1 fingerprints, a signature, an extension, or something newer.
    #[error("the revocation list has a section of type {0}, which this CA does not write")]
    Section(u8),
    /// Unsorted or repeated.
    #[error("the {0} of the revocation list are not sorted and unique")]
    Order(&'static str),
    /// A value that cannot be.
    #[error("a {0} in the revocation list is not valid")]
    Entry(&'static str),
    /// A section without entries.
    #[error("the revocation list has an empty section")]
    Empty,
}

impl From<Truncated> for UnreadableKrl {
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}
