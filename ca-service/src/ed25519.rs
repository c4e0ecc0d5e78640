//! Verifies Ed25519 signatures of a key that signs often: the key's multiples are computed once, and a verification is
//! then a sum of some of them, at less than half of its usual cost. Of public values only; nothing here signs.

use std::sync::LazyLock;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity as _;
use sha2::{Digest as _, Sha512};

/// Length of an Ed25519 signature, and of each of its halves. RFC 8032 §5.1.6.
pub(crate) const SIGNATURE: usize = 64;
const HALF: usize = 32;

/// The base point's multiples, of which every verification needs some.
static BASE: LazyLock<Multiples> =
    LazyLock::new(|| Multiples::of(ED25519_BASEPOINT_POINT, Window::Wide));

/// Bits of a scalar below the group's order, and one for the carry of its last digit.
const BITS: usize = 254;

/// How many bits of a scalar one multiple stands for: memory against time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Window {
    /// 4 bits: 80 KiB, made in the time of some four verifications.
    Narrow,
    /// 8 bits: 640 KiB, half the additions. With 10 bits, and 6 for the others, the service was no faster, and 13 MiB larger.
    Wide,
}

impl Window {
    const fn bits(self) -> usize {
        match self {
            Self::Narrow => 4,
            Self::Wide => 8,
        }
    }
}

/// A public key with its multiples.
pub(crate) struct Verifier {
    /// As it stands in what is hashed.
    public: [u8; HALF],
    /// Of the negated key.
    negated: Multiples,
}

impl Verifier {
    /// None where the bytes are no point.
    pub(crate) fn of(public: [u8; HALF], window: Window) -> Option<Self> {
        let point = CompressedEdwardsY(public).decompress()?;
        let negated = Multiples::of(-point, window);
        Some(Self { public, negated })
    }

    /// RFC 8032 §5.1.7, without cofactor: the encoding of `[S]B − [k]A` must be just the signature's R,
    /// with S below the group's order.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = <&[u8; SIGNATURE]>::try_from(signature) else {
            return false;
        };
        let (r, s) = signature.split_at(HALF);
        let s = <[u8; HALF]>::try_from(s).ok();
        let Some(s) = s.and_then(|s| Scalar::from_canonical_bytes(s).into_option()) else {
            return false;
        };
        let hash = Sha512::new()
            .chain_update(r)
            .chain_update(self.public)
            .chain_update(message)
            .finalize();
        let k = Scalar::from_bytes_mod_order_wide(&hash.into());
        let expected = self
            .negated
            .times(&k, BASE.times(&s, EdwardsPoint::identity()));
        expected.compress().as_bytes() == r
    }
}

/// `1·2^(wi) P … 2^(w-1)·2^(wi) P` for each digit i of a scalar: a product is a sum of one of each row.
/// The time of a sum tells the scalar, so that both must be public.
struct Multiples {
    window: usize,
    rows: Box<[Box<[EdwardsPoint]>]>,
}

impl Multiples {
    fn of(point: EdwardsPoint, window: Window) -> Self {
        let window = window.bits();
        let mut base = point;
        let rows = (0..BITS.div_ceil(window)).map(|_| {
            let first = base;
            let next = |multiple: &EdwardsPoint| Some(multiple + first);
            let row: Box<[_]> = std::iter::successors(Some(first), next)
                .take(1 << (window - 1))
                .collect();
            base = (0..window).fold(first, |point, _| point + point);
            row
        });
        let rows = rows.collect();
        Self { window, rows }
    }

    /// `sum + [scalar] P`
    fn times(&self, scalar: &Scalar, mut sum: EdwardsPoint) -> EdwardsPoint {
        let mut digits = Digits {
            bytes: scalar.as_bytes(),
            window: self.window,
            at: 0,
            carry: 0,
        };
        for row in &self.rows {
            let digit = digits.next_digit();
            let multiple = row.get(usize::from(digit.unsigned_abs()).wrapping_sub(1));
            match multiple {
                None => {}
                Some(multiple) if digit > 0 => sum += multiple,
                Some(multiple) => sum -= multiple,
            }
        }
        sum
    }
}

/// A scalar's digits from the lowest, each within ±2^(window−1): half the multiples of unsigned ones.
struct Digits<'a> {
    bytes: &'a [u8; HALF],
    window: usize,
    at: usize,
    carry: i16,
}

impl Digits<'_> {
    /// Windows are of 4 or 8 bits, so that none is in two bytes.
    fn next_digit(&mut self) -> i16 {
        let byte = self.bytes.get(self.at / 8).copied().unwrap_or(0);
        let bits = (u16::from(byte) >> (self.at % 8)) & ((1 << self.window) - 1);
        self.at += self.window;
        let digit = i16::try_from(bits).unwrap_or(0) + self.carry;
        self.carry = i16::from(digit > 1 << (self.window - 1));
        digit - (self.carry << self.window)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey, Verifier as _};

    use super::*;

    const WINDOWS: [Window; 2] = [Window::Narrow, Window::Wide];

    fn verifier(key: &SigningKey, window: Window) -> Verifier {
        Verifier::of(key.verifying_key().to_bytes(), window).unwrap()
    }

    #[test]
    fn whatever_is_changed_in_a_signature_its_message_or_its_key_is_refused() {
        // D-22
        for window in WINDOWS {
            let key = SigningKey::from_bytes(&[7; 32]);
            let (check, message) = (verifier(&key, window), b"a certificate's body".to_vec());
            let good = key.sign(&message).to_bytes();
            assert!(check.verifies(&message, &good));
            for bit in 0..8 * SIGNATURE {
                let mut bad = good;
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(!check.verifies(&message, &bad), "bit {bit}");
            }
            for at in 0..message.len() {
                let mut other = message.clone();
                other[at] ^= 1;
                assert!(!check.verifies(&other, &good), "byte {at}");
            }
            let stranger = SigningKey::from_bytes(&[8; 32]);
            assert!(!check.verifies(&message, &stranger.sign(&message).to_bytes()));
            for length in [0, 32, 63, 65] {
                let mut cut = good.to_vec();
                cut.resize(length, 0);
                assert!(!check.verifies(&message, &cut), "{length} bytes");
            }
            assert!(!check.verifies(&message, &[0; SIGNATURE]));
            assert!(!check.verifies(&message, &[0xff; SIGNATURE]));
        }
    }

    #[test]
    fn the_other_spelling_of_s_is_refused() {
        // S + L names the same scalar (RFC 8032 §8.4).
        let key = SigningKey::from_bytes(&[7; 32]);
        let mut signature = key.sign(b"x").to_bytes();
        let order = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut carry = 0_u16;
        for (byte, add) in signature[HALF..].iter_mut().zip(order) {
            carry += u16::from(*byte) + add;
            *byte = carry.to_le_bytes()[0];
            carry >>= 8;
        }
        for window in WINDOWS {
            assert!(!verifier(&key, window).verifies(b"x", &signature));
        }
    }

    #[test]
    fn it_says_what_a_general_verification_says() {
        for n in 0..200_u8 {
            let key = SigningKey::from_bytes(&[n; 32]);
            let message = vec![n; usize::from(n)];
            let good = key.sign(&message).to_bytes();
            let mut bad = good;
            bad[usize::from(n) % SIGNATURE] ^= 4;
            let general = ed25519_dalek::Signature::from_bytes(&bad);
            let general = key.verifying_key().verify(&message, &general).is_ok();
            let check = verifier(&key, Window::Narrow);
            assert!(check.verifies(&message, &good));
            assert_eq!(check.verifies(&message, &bad), general, "{n}");
        }
    }

    #[test]
    fn a_product_is_the_librarys_for_scalars_of_every_shape() {
        let ones = [0xff; 32];
        let edges = (0..32).map(|byte| {
            let mut edge = [0; 32];
            edge[byte] = 0x88;
            edge
        });
        let random = (0..200).map(|_| crate::random::bytes().unwrap());
        for window in WINDOWS {
            let multiples = Multiples::of(ED25519_BASEPOINT_POINT, window);
            let shapes = [[0; 32], [0x80; 32], [0x77; 32], ones];
            for bytes in shapes
                .into_iter()
                .chain(edges.clone())
                .chain(random.clone())
            {
                let scalar = Scalar::from_bytes_mod_order(bytes);
                let product = multiples.times(&scalar, EdwardsPoint::identity());
                assert_eq!(product, EdwardsPoint::mul_base(&scalar), "{bytes:?}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_point_make_no_verifier() {
        let mut bytes = [0; 32];
        bytes[0] = 2;
        assert!(Verifier::of(bytes, Window::Narrow).is_none());
    }
}
