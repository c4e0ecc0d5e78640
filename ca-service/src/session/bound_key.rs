//! The key that a grant is bound to, ready to verify many requests.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use eic_protocol::sshsig::{self, InvalidSignature, Namespace};
use eic_protocol::subject_key::SubjectKey;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Signature};

use crate::ed25519::{SIGNATURE, Verifier, Window};

/// Requests after which a key's multiples pay: they cost some four verifications and halve each that follows.
/// People ask for a few certificates in a session, jobs for hundreds.
const OFTEN: usize = 8;
/// Keys whose multiples are kept at a time, of 82 KiB each: grants are remembered by the thousand.
const MOST_KEPT: usize = 64;
static KEPT: AtomicUsize = AtomicUsize::new(0);

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
    often: OnceLock<Often>,
}

/// The multiples of a key that asks often; counted in [`KEPT`] for as long as they are there.
struct Often(Verifier);

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
    pub(super) fn verify(&self, message: &[u8], blob: &[u8]) -> Result<(), InvalidSignature> {
        let usual = self.ed25519.as_ref().and_then(|own| {
            let signature = blob.strip_prefix(own.prefix.as_slice())?;
            (signature.len() == SIGNATURE).then_some((own, signature))
        });
        let Some((own, signature)) = usual else {
            return sshsig::verify(Namespace::Request, &self.key, message, blob);
        };
        let signed = sshsig::signed_data(Namespace::Request, message);
        own.verify(&signed, signature)
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
            often: OnceLock::new(),
        })
    }

    fn verify(&self, signed: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let holds = match self.often() {
            Some(Often(verifier)) => verifier.verifies(signed, signature),
            None => self.parsed.verify_sig(signed, signature).is_ok(),
        };
        holds.then_some(()).ok_or(InvalidSignature::Wrong)
    }

    /// Two requests at once may make the multiples twice; one of them is kept.
    fn often(&self) -> Option<&Often> {
        if self.often.get().is_none() && self.asked.fetch_add(1, Ordering::Relaxed) >= OFTEN {
            let made = Often::of(self.public)?;
            return Some(self.often.get_or_init(|| made));
        }
        self.often.get()
    }
}

impl Often {
    /// None where enough keys have theirs.
    fn of(public: [u8; 32]) -> Option<Self> {
        let room = |kept: usize| (kept < MOST_KEPT).then_some(kept + 1);
        KEPT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .ok()?;
        let verifier = Verifier::of(public, Window::Narrow);
        if verifier.is_none() {
            KEPT.fetch_sub(1, Ordering::Relaxed);
        }
        verifier.map(Self)
    }
}

impl Drop for Often {
    fn drop(&mut self) {
        KEPT.fetch_sub(1, Ordering::Relaxed);
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

    /// One test at a time: they share the room for multiples.
    static ROOM: std::sync::Mutex<()> = std::sync::Mutex::new(());

    /// A key that has asked so often that its multiples are kept, where there is room.
    fn frequent(private: &SigningKey, key: &SubjectKey) -> BoundKey {
        let bound = BoundKey::of(key.clone());
        let good = signed(private, key, Namespace::Request);
        for _ in 0..=OFTEN {
            assert_eq!(bound.verify(b"request", &good), Ok(()));
        }
        bound
    }

    fn has_multiples(bound: &BoundKey) -> bool {
        bound.ed25519.as_ref().unwrap().often.get().is_some()
    }

    #[test]
    fn the_multiples_of_no_more_keys_than_allowed_are_kept_and_every_key_still_verifies() {
        let _room = ROOM.lock().unwrap();
        let keys: Vec<_> = (0..u8::try_from(MOST_KEPT).unwrap() + 8).map(key).collect();
        let bound: Vec<_> = keys
            .iter()
            .map(|(private, key)| frequent(private, key))
            .collect();
        let kept = bound.iter().filter(|bound| has_multiples(bound)).count();
        // Other tests keep some as well.
        assert!((MOST_KEPT - 8..=MOST_KEPT).contains(&kept), "{kept}");
        for (bound, (private, key)) in bound.iter().zip(&keys) {
            let good = signed(private, key, Namespace::Request);
            assert_eq!(bound.verify(b"request", &good), Ok(()));
            assert_eq!(
                bound.verify(b"another", &good),
                Err(InvalidSignature::Wrong)
            );
        }
        drop(bound);
        let (private, key) = key(1);
        assert!(has_multiples(&frequent(&private, &key)), "room again");
    }

    #[test]
    fn every_changed_byte_of_a_signature_is_refused_as_the_general_verifier_refuses_it() {
        let _room = ROOM.lock().unwrap();
        let (private, key) = key(1);
        let seldom = BoundKey::of(key.clone());
        let frequent = frequent(&private, &key);
        assert!(!has_multiples(&seldom) && has_multiples(&frequent));
        refuses_what_the_general_verifier_refuses(&seldom, &private);
        refuses_what_the_general_verifier_refuses(&frequent, &private);
    }

    fn refuses_what_the_general_verifier_refuses(bound: &BoundKey, private: &SigningKey) {
        let key = bound.key().clone();
        assert!(bound.ed25519.is_some());
        let good = signed(private, &key, Namespace::Request);
        assert_eq!(bound.verify(b"request", &good), Ok(()));
        assert!(bound.verify(b"another", &good).is_err());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let general = sshsig::verify(Namespace::Request, &key, b"request", &bad);
            assert_eq!(
                bound.verify(b"request", &bad).is_err(),
                general.is_err(),
                "{at}"
            );
        }
        for blob in [
            &good[..good.len() - 1],
            &[good.as_slice(), b"x"].concat(),
            b"",
        ] {
            assert!(bound.verify(b"request", blob).is_err());
        }
    }

    #[test]
    fn signatures_of_other_keys_and_for_other_purposes_are_refused() {
        let ((private, own), (stranger, other)) = (key(1), key(2));
        let bound = BoundKey::of(own.clone());
        let elsewhere = signed(&private, &own, Namespace::Root);
        assert_eq!(
            bound.verify(b"request", &elsewhere),
            Err(InvalidSignature::Namespace)
        );
        let foreign = signed(&stranger, &other, Namespace::Request);
        assert_eq!(
            bound.verify(b"request", &foreign),
            Err(InvalidSignature::OtherKey)
        );
        // Another's signature under our own name.
        let forged = signed(&stranger, &own, Namespace::Request);
        assert_eq!(
            bound.verify(b"request", &forged),
            Err(InvalidSignature::Wrong)
        );
    }
}
