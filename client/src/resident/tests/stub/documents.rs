//! Keys by number, and what is signed with them: roots, envelopes, host certificates.

use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::sshsig::{self, Namespace};
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::trust::envelope::{Envelope, EnvelopeSignature};
use eic_protocol::trust::root::{KeyState, Root, Scope, ScopedCa};
use signature::Signer as _;
use ssh_key::PrivateKey;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::{Ed25519Keypair, KeypairData};

use super::unix_now;

pub(crate) const ROOT: u8 = 1;
pub(crate) const USER_CA: u8 = 2;
pub(crate) const HOST_CA: u8 = 3;
pub(crate) const BUNDLE: u8 = 4;
pub(crate) const STRANGER: u8 = 9;

pub(crate) fn private(seed: u8) -> PrivateKey {
    PrivateKey::new(
        KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])),
        "",
    )
    .unwrap()
}

pub(crate) fn public(seed: u8) -> SubjectKey {
    private(seed)
        .public_key()
        .to_openssh()
        .unwrap()
        .parse()
        .unwrap()
}

/// A host's certificate, as a running agent on it would show.
pub(crate) fn host_certificate(ca: u8, instance: &str, leaf: u8) -> Vec<u8> {
    let now = unix_now();
    let mut builder = Builder::new(
        vec![1; 32],
        private(leaf).public_key().key_data().clone(),
        now - 60,
        now + 600,
    )
    .unwrap();
    builder
        .serial(7)
        .unwrap()
        .key_id("host")
        .unwrap()
        .cert_type(CertType::Host)
        .unwrap()
        .valid_principal(instance)
        .unwrap();
    builder.sign(&private(ca)).unwrap().to_bytes().unwrap()
}

pub(crate) fn root() -> Envelope {
    root_of(1, USER_CA)
}

/// A root of this version, which names this user CA.
pub(crate) fn root_of(version: u64, user_ca: u8) -> Envelope {
    changed_root(version, user_ca, |_| {})
}

/// The same with one thing changed.
pub(crate) fn changed_root(version: u64, user_ca: u8, change: impl FnOnce(&mut Root)) -> Envelope {
    let mut root = Root {
        version,
        issued: 1,
        root_keys: vec![public(ROOT)],
        threshold: 1,
        bundle_keys: vec![public(BUNDLE)],
        user_cas: vec![ScopedCa {
            key: public(user_ca).to_string().parse().unwrap(),
            state: KeyState::Active,
            scope: Scope::default(),
        }],
        host_cas: vec![public(HOST_CA).to_string().parse().unwrap()],
    };
    change(&mut root);
    enveloped(Namespace::Root, &root, ROOT)
}

/// A document that this key signed.
pub(crate) fn enveloped(
    namespace: Namespace,
    document: &impl serde::Serialize,
    by: u8,
) -> Envelope {
    let bytes = serde_json::to_vec(document).unwrap();
    let signature = private(by)
        .try_sign(&sshsig::signed_data(namespace, &bytes))
        .unwrap();
    let blob = sshsig::blob(namespace, &public(by), &signature).unwrap();
    Envelope {
        signed: Base64Bytes(bytes),
        signatures: vec![EnvelopeSignature {
            key: public(by),
            signature: Base64Bytes(blob),
        }],
    }
}
