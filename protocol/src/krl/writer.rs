//! Writes a list in the one form that [`super::read`] takes: sections and entries sorted, none empty.

use super::entry::RevokedKey;
use super::serial_ranges::{SerialRange, SerialRanges};
use super::{
    CaRevocations, FORMAT, KEY_IDS, Krl, MAGIC, MAX_SIZE, SECTION_CERTIFICATES, SECTION_KEYS,
    SECTION_SHA256, SERIAL_BITMAP, SERIAL_LIST, SERIAL_RANGE, SIZE_BUDGET,
};
use crate::subject_key::CaKey;
use crate::wire::Writer;

/// Widest bitmap. sshbuf reads numbers of up to 16,384 bits (SSHBUF_MAX_BIGNUM).
pub(super) const MAX_BITMAP_BITS: u64 = 8_192;
/// Most serials between two that share a bitmap: 64 bits are as long as one more list entry.
const MAX_GAP: u64 = 64;
/// Section type and length, offset, length of the number and its sign byte. Bytes.
const BITMAP_OVERHEAD: u64 = 18;
/// Section type and length, both ends. Bytes.
const RANGE_SIZE: u64 = 21;
/// One list entry. Bytes.
const SERIAL_SIZE: u64 = 8;

/// A list's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedKrl {
    /// The file.
    pub bytes: Vec<u8>,
    /// Over the budget: logins get slower.
    pub warning: Option<OverBudget>,
}

/// The list is larger than its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the revocation list has {0} bytes, more than the {SIZE_BUDGET} within which logins stay fast: \
     shorten certificate lifetimes, or retire a CA key instead of listing its certificates"
)]
pub struct OverBudget(pub usize);

/// The list is larger than what hosts take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the revocation list has {0} bytes, more than the {MAX_SIZE} that hosts take: \
     revoke the CA key instead of its certificates"
)]
pub struct TooLarge(pub usize);

impl Krl {
    /// The file's bytes; never none, whatever is revoked.
    ///
    /// # Errors
    /// [`TooLarge`] over 512 KiB.
    pub fn encode(&self) -> Result<EncodedKrl, TooLarge> {
        let mut w = Writer::new();
        header(&mut w, self);
        for (ca, revoked) in self.cas.iter().filter(|(_, revoked)| !revoked.is_empty()) {
            section(&mut w, SECTION_CERTIFICATES, &certificates(ca, revoked));
        }
        let keys = self.keys.iter().map(RevokedKey::blob);
        entries(&mut w, SECTION_KEYS, keys);
        let hashes = self.fingerprints.iter().map(|f| f.as_bytes().as_slice());
        entries(&mut w, SECTION_SHA256, hashes);
        finish(w.into_bytes())
    }
}

fn finish(bytes: Vec<u8>) -> Result<EncodedKrl, TooLarge> {
    let size = bytes.len();
    if size > MAX_SIZE {
        return Err(TooLarge(size));
    }
    let warning = (size > SIZE_BUDGET).then_some(OverBudget(size));
    Ok(EncodedKrl { bytes, warning })
}

fn header(w: &mut Writer, krl: &Krl) {
    w.raw(MAGIC).u32(FORMAT).u64(krl.version).u64(krl.generated);
    // No flags, nothing reserved.
    w.u64(0).string(b"").string(krl.comment.as_str().as_bytes());
}

fn section(w: &mut Writer, kind: u8, data: &[u8]) {
    w.byte(kind).string(data);
}

/// A section of strings; left out where it would be empty.
fn entries<'a>(w: &mut Writer, kind: u8, values: impl Iterator<Item = &'a [u8]>) {
    let mut data = Writer::new();
    for value in values {
        data.string(value);
    }
    if !data.as_slice().is_empty() {
        section(w, kind, data.as_slice());
    }
}

fn certificates(ca: &CaKey, revoked: &CaRevocations) -> Vec<u8> {
    let mut w = Writer::new();
    w.string(ca.key().blob()).string(b"");
    serials(&mut w, &revoked.serials);
    let ids = revoked.key_ids.iter().map(|id| id.as_str().as_bytes());
    entries(&mut w, KEY_IDS, ids);
    w.into_bytes()
}

/// Serials in ascending order, each cluster in its shortest form.
fn serials(w: &mut Writer, serials: &SerialRanges) {
    let mut list = Writer::new();
    for cluster in clusters(serials) {
        if bitmap_is_shorter(&cluster) {
            flush(w, &mut list);
            section(w, SERIAL_BITMAP, &bitmap(&cluster));
        } else {
            cluster
                .iter()
                .for_each(|range| list_or_range(w, &mut list, *range));
        }
    }
    flush(w, &mut list);
}

fn list_or_range(w: &mut Writer, list: &mut Writer, range: SerialRange) {
    if range.count().saturating_mul(SERIAL_SIZE) <= RANGE_SIZE {
        for serial in range.first()..=range.last() {
            list.u64(serial);
        }
        return;
    }
    flush(w, list);
    let mut ends = Writer::new();
    ends.u64(range.first()).u64(range.last());
    section(w, SERIAL_RANGE, ends.as_slice());
}

/// Writes the list that has been gathered, if any.
fn flush(w: &mut Writer, list: &mut Writer) {
    let gathered = std::mem::take(list);
    if !gathered.as_slice().is_empty() {
        section(w, SERIAL_LIST, gathered.as_slice());
    }
}

/// Ranges that lie close enough together for a bitmap.
fn clusters(serials: &SerialRanges) -> Vec<Vec<SerialRange>> {
    let mut clusters: Vec<Vec<SerialRange>> = Vec::new();
    for range in serials.iter() {
        match clusters.last_mut() {
            Some(cluster) if belongs(cluster, range) => cluster.push(range),
            _ => clusters.push(vec![range]),
        }
    }
    clusters
}

fn belongs(cluster: &[SerialRange], range: SerialRange) -> bool {
    let (Some(first), Some(last)) = (cluster.first(), cluster.last()) else {
        return false;
    };
    let gap = range.first().saturating_sub(last.last());
    let span = range.last().saturating_sub(first.first());
    gap <= MAX_GAP && span < MAX_BITMAP_BITS
}

/// One range alone is always shorter as such.
fn bitmap_is_shorter(cluster: &[SerialRange]) -> bool {
    let [first, .., last] = cluster else {
        return false;
    };
    let span = last.last().saturating_sub(first.first());
    let as_bitmap = (span / 8).saturating_add(BITMAP_OVERHEAD);
    let plain = cluster
        .iter()
        .map(|range| range.count().saturating_mul(SERIAL_SIZE).min(RANGE_SIZE));
    as_bitmap < plain.fold(0, u64::saturating_add)
}

/// Offset, and a number whose bit n stands for offset + n.
fn bitmap(cluster: &[SerialRange]) -> Vec<u8> {
    let offset = cluster.first().map_or(0, |range| range.first());
    let last = cluster.last().map_or(0, |range| range.last());
    let highest = last.saturating_sub(offset);
    // At most 1,024 bytes: `belongs` bounds the span.
    let length = usize::try_from(highest / 8).unwrap_or(0).saturating_add(1);
    let mut little_endian = vec![0_u8; length];
    for range in cluster {
        (range.first()..=range.last())
            .for_each(|serial| set_bit(&mut little_endian, serial - offset));
    }
    little_endian.reverse();
    let mut w = Writer::new();
    w.u64(offset).mpint(&little_endian);
    w.into_bytes()
}

fn set_bit(little_endian: &mut [u8], bit: u64) {
    let at = usize::try_from(bit / 8).unwrap_or(usize::MAX);
    if let Some(byte) = little_endian.get_mut(at) {
        *byte |= 1 << (bit % 8);
    }
}
