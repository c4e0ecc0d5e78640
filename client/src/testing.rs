//! Keys by number, and what they sign, and programs that stand in for others, for tests of several modules. Compiled
//! for tests only.

use std::ops::Range;
use std::path::Path;

use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::sshsig::{self, Namespace};
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::trust::envelope::{Envelope, EnvelopeSignature};
use signature::Signer as _;
use ssh_key::PrivateKey;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::{Ed25519Keypair, KeypairData};

/// The Ed25519 key of this number.
pub(crate) fn private(seed: u8) -> PrivateKey {
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32]));
    PrivateKey::new(pair, "").unwrap()
}

/// Its public half.
pub(crate) fn public(seed: u8) -> SubjectKey {
    let line = private(seed).public_key().to_openssh();
    line.unwrap().parse().unwrap()
}

/// A script to be run. Another process writes it: while a descriptor that writes is open, in a child of another test
/// even, nobody can run the file (execve(2), ETXTBSY).
pub(crate) fn write_program(file: &Path, script: &str) {
    let written = std::process::Command::new("sh")
        .args([
            "-c",
            r#"printf %s "$2" > "$1.new" && chmod 755 "$1.new" && mv "$1.new" "$1""#,
            "sh",
        ])
        .arg(file)
        .arg(script)
        .status();
    assert!(written.unwrap().success());
}

/// A document that this key signed.
pub(crate) fn enveloped(
    namespace: Namespace,
    document: &impl serde::Serialize,
    by: u8,
) -> Envelope {
    let bytes = serde_json::to_vec(document).unwrap();
    let signature = private(by).try_sign(&sshsig::signed_data(namespace, &bytes));
    let blob = sshsig::blob(namespace, &public(by), &signature.unwrap()).unwrap();
    Envelope {
        signed: Base64Bytes(bytes),
        signatures: vec![EnvelopeSignature {
            key: public(by),
            signature: Base64Bytes(blob),
        }],
    }
}

/// The certificate with serial 7 for key `leaf` by key `ca`, good within `validity` (Unix seconds).
pub(crate) fn certificate(
    (ca, leaf): (u8, u8),
    kind: CertType,
    principal: &str,
    validity: Range<u64>,
) -> Vec<u8> {
    let subject = private(leaf).public_key().key_data().clone();
    let builder = Builder::new(vec![1; 32], subject, validity.start, validity.end);
    let mut builder = builder.unwrap();
    builder.serial(7).unwrap();
    builder.key_id("test").unwrap();
    builder.cert_type(kind).unwrap();
    builder.valid_principal(principal).unwrap();
    builder.sign(&private(ca)).unwrap().to_bytes().unwrap()
}
