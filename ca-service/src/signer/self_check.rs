//! The last look at a certificate: its signature must verify with the CA's published key, or it never leaves.
//!
//! An Ed25519 CA's key is the same for every certificate, so its multiples are computed once: the check
//! then costs half of a general verification, which is the dearest step of issuing. It is arithmetic of
//! another library than the one that signs. Other key types go the general way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use curve25519_dalek::constants::ED25519_BASEPOINT_TABLE;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsBasepointTable};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::BasepointTable as _;
use eic_protocol::cert::lint::{LintError, Linted};
use eic_protocol::subject_key::CaKey;
use eic_protocol::wire::{Reader, Writer};
use sha2::{Digest as _, Sha512};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Signature};

/// Length of an Ed25519 signature, and of each of its halves. RFC 8032 §5.1.6.
const LEN: usize = 64;
const HALF: usize = 32;

/// A certificate whose signature the CA's published key verifies; made here only.
#[derive(Clone, Debug)]
pub(crate) struct Checked(String);

impl Checked {
    /// The OpenSSH line, `type base64`.
    pub(crate) fn into_line(self) -> String {
        self.0
    }

    pub(super) fn line(&self) -> &str {
        &self.0
    }
}

/// Checks what one CA key signed.
pub(super) struct SelfCheck(Option<Ed25519Check>);

/// Verifies Ed25519 signatures of one key.
struct Ed25519Check {
    /// As published.
    public: [u8; HALF],
    /// Multiples of the negated key.
    negated: Box<EdwardsBasepointTable>,
}

impl SelfCheck {
    /// For signatures of this key.
    pub(super) fn of(ca: &CaKey) -> Self {
        Self(match ca.key().key_data() {
            KeyData::Ed25519(key) => Ed25519Check::of(key.0),
            _ => None,
        })
    }

    /// Puts body and signature together, if the key verifies it.
    ///
    /// # Errors
    /// [`LintError::Signature`]
    pub(super) fn attach(
        &self,
        linted: Linted,
        signature: &Signature,
    ) -> Result<Checked, LintError> {
        let Some(ed25519) = &self.0 else {
            return Ok(Checked(linted.attach(signature)?.line().to_owned()));
        };
        let body = linted.as_slice();
        if signature.algorithm() != Algorithm::Ed25519
            || !ed25519.verifies(body, signature.as_bytes())
        {
            return Err(LintError::Signature);
        }
        line(body, signature.as_bytes()).ok_or(LintError::Signature)
    }
}

/// The body names its type first (draft-miller-ssh-cert §2.1), as the line does.
fn line(body: &[u8], signature: &[u8]) -> Option<Checked> {
    let kind = std::str::from_utf8(Reader::new(body).string().ok()?).ok()?;
    let mut inner = Writer::new();
    inner.string(b"ssh-ed25519").string(signature);
    let mut whole = Writer::new();
    whole.raw(body).string(inner.as_slice());
    Some(Checked(format!(
        "{kind} {}",
        STANDARD.encode(whole.as_slice())
    )))
}

impl Ed25519Check {
    fn of(public: [u8; HALF]) -> Option<Self> {
        let point = CompressedEdwardsY(public).decompress()?;
        let negated = Box::new(EdwardsBasepointTable::create(&-point));
        Some(Self { public, negated })
    }

    /// RFC 8032 §5.1.7, without cofactor: the encoding of `[S]B − [k]A` must be just the signature's R,
    /// with S below the group's order.
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = <&[u8; LEN]>::try_from(signature) else {
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
        let expected = ED25519_BASEPOINT_TABLE * &s + &*self.negated * &k;
        expected.compress().as_bytes() == r
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey, Verifier as _};

    use super::*;

    fn check(key: &SigningKey) -> Ed25519Check {
        Ed25519Check::of(key.verifying_key().to_bytes()).unwrap()
    }

    #[test]
    fn whatever_is_changed_in_a_signature_its_message_or_its_key_is_refused() {
        // D-22
        let key = SigningKey::from_bytes(&[7; 32]);
        let (check, message) = (check(&key), b"a certificate's body".to_vec());
        let good = key.sign(&message).to_bytes();
        assert!(check.verifies(&message, &good));
        for bit in 0..8 * LEN {
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
        assert!(!check.verifies(&message, &[0; LEN]) && !check.verifies(&message, &[0xff; LEN]));
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
        assert!(!check(&key).verifies(b"x", &signature));
    }

    #[test]
    fn it_says_what_a_general_verification_says() {
        for n in 0..200_u8 {
            let key = SigningKey::from_bytes(&[n; 32]);
            let message = vec![n; usize::from(n)];
            let mut signature = key.sign(&message);
            assert!(check(&key).verifies(&message, &signature.to_bytes()));
            let mut bytes = signature.to_bytes();
            bytes[usize::from(n) % LEN] ^= 4;
            signature = ed25519_dalek::Signature::from_bytes(&bytes);
            let general = key.verifying_key().verify(&message, &signature).is_ok();
            assert_eq!(check(&key).verifies(&message, &bytes), general, "{n}");
        }
    }
}
