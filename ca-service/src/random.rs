//! Random values from the operating system: serials, nonces, ids, keys.
//! No generator of ours, no seed, no fallback: without entropy nothing is issued.
//! Ids, serials and nonces, which are no secrets, are read ahead: a certificate takes five of them.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use eic_protocol::cert::tbs::CertNonce;
use eic_protocol::request_id::RequestId;
use eic_protocol::serial::Serial;

/// `N` random bytes.
///
/// # Errors
/// [`NoEntropy`] where the operating system gives none.
pub fn bytes<const N: usize>() -> Result<[u8; N], NoEntropy> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoEntropy)?;
    Ok(bytes)
}

/// Bytes that are read ahead by one thread: some four certificates' worth.
const AHEAD: usize = 512;

/// Random bytes of the operating system that nobody has got yet.
struct Ahead {
    bytes: [u8; AHEAD],
    /// How many, from the front, are left.
    left: usize,
}

impl Ahead {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], NoEntropy> {
        if self.left < N {
            self.left = 0;
            getrandom::fill(&mut self.bytes).map_err(NoEntropy)?;
            self.left = AHEAD;
        }
        let mut taken = [0; N];
        let rest = self.left - N;
        // None of them is ever given twice.
        if let Some(source) = self.bytes.get_mut(rest..self.left) {
            taken.copy_from_slice(source);
            source.fill(0);
        } else {
            getrandom::fill(&mut taken).map_err(NoEntropy)?;
        }
        self.left = rest;
        Ok(taken)
    }
}

thread_local! {
    static READ_AHEAD: RefCell<Ahead> = const { RefCell::new(Ahead { bytes: [0; AHEAD], left: 0 }) };
}

/// `N` random bytes, at most [`AHEAD`], for what is no secret.
fn public_bytes<const N: usize>() -> Result<[u8; N], NoEntropy> {
    const { assert!(N <= AHEAD) };
    READ_AHEAD.with_borrow_mut(Ahead::take)
}

/// A serial of this moment, by the machine's own clock; one that would be 0 is drawn again.
///
/// # Errors
/// [`NoEntropy`].
pub fn serial() -> Result<Serial, NoEntropy> {
    loop {
        // A clock before 1970 leaves the random part alone.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        if let Some(serial) = Serial::drawn(now.unwrap_or_default(), public_bytes()?) {
            return Ok(serial);
        }
    }
}

/// A certificate's nonce.
///
/// # Errors
/// [`NoEntropy`].
pub fn cert_nonce() -> Result<CertNonce, NoEntropy> {
    public_bytes().map(CertNonce::from_random)
}

/// The id of a request.
///
/// # Errors
/// [`NoEntropy`].
pub fn request_id() -> Result<RequestId, NoEntropy> {
    public_bytes().map(RequestId::from_random)
}

/// A random UUID (RFC 9562, version 4), the form of CloudTrail's `eventID`.
///
/// # Errors
/// [`NoEntropy`].
pub fn uuid() -> Result<String, NoEntropy> {
    let random = u128::from_be_bytes(public_bytes()?);
    let version = (random & !(0xf << 76)) | (0x4 << 76);
    let value = (version & !(0x3 << 62)) | (0x2 << 62);
    let hex = format!("{value:032x}");
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    Ok([
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-"))
}

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("get random bytes from the operating system: {0}")]
pub struct NoEntropy(getrandom::Error);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_hundred_thousand_nonces_are_32_bytes_and_none_repeats() {
        // D-12
        let nonces: HashSet<[u8; 32]> = (0..100_000).map(|_| public_bytes().unwrap()).collect();
        assert_eq!(nonces.len(), 100_000);
        assert!(!nonces.contains(&[0; 32]));
    }

    #[test]
    fn bytes_that_are_read_ahead_are_given_once_and_never_as_zeros() {
        // D-05, D-12: also where the next value does not fit into what is left.
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            for half in public_bytes::<32>().unwrap().chunks(8) {
                assert!(seen.insert(half.to_vec()));
            }
            assert!(seen.insert(public_bytes::<9>().unwrap()[..8].to_vec()));
            assert!(seen.insert(public_bytes::<511>().unwrap()[..8].to_vec()));
        }
        assert!(!seen.contains(&[0; 8][..]));
    }

    #[test]
    fn serials_fit_63_bits_and_none_is_zero_or_repeats() {
        // D-05
        let serials: HashSet<u64> = (0..10_000).map(|_| serial().unwrap().value()).collect();
        assert_eq!(serials.len(), 10_000);
        assert!(serials.iter().all(|s| *s != 0 && s >> 63 == 0));
    }

    #[test]
    fn a_uuid_names_its_version_and_variant() {
        let text = uuid().unwrap();
        let parts: Vec<&str> = text.split('-').collect();
        assert_eq!(
            parts.iter().map(|p| p.len()).collect::<Vec<_>>(),
            [8, 4, 4, 4, 12]
        );
        assert!(
            parts[2].starts_with('4') && "89ab".contains(&parts[3][..1]),
            "{text}"
        );
        assert_ne!(text, uuid().unwrap());
    }
}
