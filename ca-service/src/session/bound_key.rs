//! The key that a grant is bound to, ready to verify many requests.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use eic_protocol::sshsig::{self, InvalidSignature, Namespace};
use eic_protocol::subject_key::SubjectKey;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Signature};

use super::busy_keys::BusyKeys;
use crate::ed25519::SIGNATURE;

/// Requests after which a key's multiples pay: they cost some four verifications and halve each that follows.
/// People ask for a few certificates in a session, jobs for hundreds.
const OFTEN: usize = 8;

/// A key and, for Ed25519, what its signatures have in common.
pub(super) struct BoundKey {
    key: SubjectKey,
    ed25519: Option<Ed25519>,
}

struct Ed25519 {
    parsed: ParsedPublicKey,
    public: [u8; 32],
    /// An SSHSIG blob of this key for a request, up to the signature proper.
    prefix: Vec<u8>,
    asked: AtomicUsize,
}

/// When a request is verified, and what is kept of keys that ask often.
#[derive(Clone, Copy)]
pub(super) struct Desk<'a> {
    pub(super) busy: &'a BusyKeys,
    /// In Unix seconds.
    pub(super) now: u64,
}

impl BoundKey {
    pub(super) fn of(key: SubjectKey) -> Self {
        Self {
            ed25519: Ed25519::of(&key),
            key,
        }
    }

    pub(super) fn key(&self) -> &SubjectKey {
        &self.key
    }

    /// Checks a request's signature. What does not have the one usual form is judged by the general
    /// verifier, which says why it is refused.
    pub(super) fn verify(
        &self,
        message: &[u8],
        blob: &[u8],
        desk: Desk<'_>,
    ) -> Result<(), InvalidSignature> {
        let usual = self.ed25519.as_ref().and_then(|own| {
            let signature = blob.strip_prefix(own.prefix.as_slice())?;
            (signature.len() == SIGNATURE).then_some((own, signature))
        });
        let Some((own, signature)) = usual else {
            return sshsig::verify(Namespace::Request, &self.key, message, blob);
        };
        let signed = sshsig::signed_data(Namespace::Request, message);
        own.verify(&signed, signature, desk)
    }
}

impl Ed25519 {
    fn of(key: &SubjectKey) -> Option<Self> {
        let KeyData::Ed25519(public) = key.key_data() else {
            return None;
        };
        let parsed = ParsedPublicKey::new(&ED25519, public.0).ok()?;
        let signature = Signature::new(Algorithm::Ed25519, vec![0; SIGNATURE]).ok()?;
        let mut prefix = sshsig::blob(Namespace::Request, key, &signature).ok()?;
        prefix.truncate(prefix.len().checked_sub(SIGNATURE)?);
        Some(Self {
            parsed,
            public: public.0,
            prefix,
            asked: AtomicUsize::new(0),
        })
    }

    fn verify(
        &self,
        signed: &[u8],
        signature: &[u8],
        Desk { busy, now }: Desk<'_>,
    ) -> Result<(), InvalidSignature> {
        let often = self.asked.fetch_add(1, Ordering::Relaxed) >= OFTEN;
        let verifier = busy.find(&self.public, now);
        let make = || often.then(|| busy.make(&self.public, now)).flatten();
        let verifier = verifier.or_else(make);
        let holds = match verifier {
            Some(verifier) => verifier.verifies(signed, signature),
            None => self.parsed.verify_sig(signed, signature).is_ok(),
        };
        holds.then_some(()).ok_or(InvalidSignature::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    fn key(byte: u8) -> (SigningKey, SubjectKey) {
        let private = SigningKey::from_bytes(&[byte; 32]);
        let public = ssh_key::public::Ed25519PublicKey(private.verifying_key().to_bytes());
        let line = ssh_key::PublicKey::from(KeyData::Ed25519(public)).to_openssh();
        (private, line.unwrap().parse().unwrap())
    }

    fn signed(private: &SigningKey, key: &SubjectKey, namespace: Namespace) -> Vec<u8> {
        let signature = private.sign(&sshsig::signed_data(namespace, b"request"));
        let signature = Signature::new(Algorithm::Ed25519, signature.to_bytes().to_vec()).unwrap();
        sshsig::blob(namespace, key, &signature).unwrap()
    }

    const NOW: u64 = 1_800_000_000;

    fn verify(
        bound: &BoundKey,
        message: &[u8],
        blob: &[u8],
        busy: &BusyKeys,
    ) -> Result<(), InvalidSignature> {
        bound.verify(message, blob, Desk { busy, now: NOW })
    }

    #[test]
    fn multiples_are_made_for_a_key_that_asks_often() {
        let (private, key) = key(1);
        let (bound, busy) = (BoundKey::of(key.clone()), BusyKeys::default());
        let good = signed(&private, &key, Namespace::Request);
        for n in 0..=OFTEN {
            assert_eq!(busy.len(), 0, "{n}");
            assert_eq!(verify(&bound, b"request", &good, &busy), Ok(()));
        }
        assert_eq!(busy.len(), 1);
        // Its next session has them from the first request on.
        let next = BoundKey::of(key.clone());
        assert_eq!(verify(&next, b"request", &good, &busy), Ok(()));
        assert_eq!(
            verify(&next, b"another", &good, &busy),
            Err(InvalidSignature::Wrong)
        );
    }

    #[test]
    fn every_changed_byte_of_a_signature_is_refused_as_the_general_verifier_refuses_it() {
        let (private, key) = key(1);
        let good = signed(&private, &key, Namespace::Request);
        let seldom = |message: &[u8], blob: &[u8]| {
            verify(
                &BoundKey::of(key.clone()),
                message,
                blob,
                &BusyKeys::default(),
            )
        };
        refuses_what_the_general_verifier_refuses(&key, &good, seldom);
        let (bound, busy) = (BoundKey::of(key.clone()), BusyKeys::default());
        let public = bound.ed25519.as_ref().unwrap().public;
        assert!(busy.make(&public, NOW).is_some());
        let often = |message: &[u8], blob: &[u8]| verify(&bound, message, blob, &busy);
        refuses_what_the_general_verifier_refuses(&key, &good, often);
    }

    fn refuses_what_the_general_verifier_refuses(
        key: &SubjectKey,
        good: &[u8],
        verify: impl Fn(&[u8], &[u8]) -> Result<(), InvalidSignature>,
    ) {
        assert_eq!(verify(b"request", good), Ok(()));
        assert!(verify(b"another", good).is_err());
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            let general = sshsig::verify(Namespace::Request, key, b"request", &bad);
            assert_eq!(verify(b"request", &bad).is_err(), general.is_err(), "{at}");
        }
        for blob in [&good[..good.len() - 1], &[good, b"x"].concat(), b""] {
            assert!(verify(b"request", blob).is_err());
        }
    }

    #[test]
    fn signatures_of_other_keys_and_for_other_purposes_are_refused() {
        let ((private, own), (stranger, other)) = (key(1), key(2));
        let (bound, busy) = (BoundKey::of(own.clone()), BusyKeys::default());
        let elsewhere = signed(&private, &own, Namespace::Root);
        assert_eq!(
            verify(&bound, b"request", &elsewhere, &busy),
            Err(InvalidSignature::Namespace)
        );
        let foreign = signed(&stranger, &other, Namespace::Request);
        assert_eq!(
            verify(&bound, b"request", &foreign, &busy),
            Err(InvalidSignature::OtherKey)
        );
        // Another's signature under our own name.
        let forged = signed(&stranger, &own, Namespace::Request);
        assert_eq!(
            verify(&bound, b"request", &forged, &busy),
            Err(InvalidSignature::Wrong)
        );
    }
}
