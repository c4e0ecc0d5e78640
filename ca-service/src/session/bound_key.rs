//! The key that a grant is bound to, ready to verify many requests.

use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use eic_protocol::sshsig::{self, InvalidSignature, Namespace};
use eic_protocol::subject_key::SubjectKey;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Signature};

/// Length of an Ed25519 signature. RFC 8032 §5.1.6.
const LEN: usize = 64;

/// A key and, for Ed25519, what its signatures have in common.
pub(super) struct BoundKey {
    key: SubjectKey,
    ed25519: Option<Ed25519>,
}

struct Ed25519 {
    parsed: ParsedPublicKey,
    /// An SSHSIG blob of this key for a request, up to the signature proper.
    prefix: Vec<u8>,
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
    pub(super) fn verify(&self, message: &[u8], blob: &[u8]) -> Result<(), InvalidSignature> {
        let usual = self.ed25519.as_ref().and_then(|own| {
            let signature = blob.strip_prefix(own.prefix.as_slice())?;
            (signature.len() == LEN).then_some((own, signature))
        });
        let Some((own, signature)) = usual else {
            return sshsig::verify(Namespace::Request, &self.key, message, blob);
        };
        let signed = sshsig::signed_data(Namespace::Request, message);
        own.parsed
            .verify_sig(&signed, signature)
            .map_err(|_| InvalidSignature::Wrong)
    }
}

impl Ed25519 {
    fn of(key: &SubjectKey) -> Option<Self> {
        let KeyData::Ed25519(public) = key.key_data() else {
            return None;
        };
        let parsed = ParsedPublicKey::new(&ED25519, public.0).ok()?;
        let signature = Signature::new(Algorithm::Ed25519, vec![0; LEN]).ok()?;
        let mut prefix = sshsig::blob(Namespace::Request, key, &signature).ok()?;
        prefix.truncate(prefix.len().checked_sub(LEN)?);
        Some(Self { parsed, prefix })
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

    #[test]
    fn every_changed_byte_of_a_signature_is_refused_as_the_general_verifier_refuses_it() {
        let (private, key) = key(1);
        let bound = BoundKey::of(key.clone());
        assert!(bound.ed25519.is_some());
        let good = signed(&private, &key, Namespace::Request);
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
