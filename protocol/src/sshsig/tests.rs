//! Tests of the parent module, with signatures by ssh-keygen and by `ssh-key`.

use std::process::{Command, Stdio};

use signature::Signer as _;

use super::*;
use crate::cert::tests::private_key;

fn sign(key: &ssh_key::PrivateKey, namespace: Namespace, message: &[u8]) -> (SubjectKey, Vec<u8>) {
    let public: SubjectKey = key.public_key().to_openssh().unwrap().parse().unwrap();
    let signature = key.try_sign(&signed_data(namespace, message)).unwrap();
    let bytes = blob(namespace, &public, &signature).unwrap();
    (public, bytes)
}

#[test]
fn signatures_for_another_purpose_key_or_message_are_refused() {
    let key = private_key();
    let (public, good) = sign(&key, Namespace::Request, b"message");
    assert_eq!(
        verify(Namespace::Request, &public, b"message", &good),
        Ok(())
    );
    assert_eq!(
        verify(Namespace::Root, &public, b"message", &good),
        Err(InvalidSignature::Namespace)
    );
    assert_eq!(
        verify(Namespace::Request, &public, b"other", &good),
        Err(InvalidSignature::Wrong)
    );
    let (other, _) = sign(&private_key(), Namespace::Request, b"message");
    assert_eq!(
        verify(Namespace::Request, &other, b"message", &good),
        Err(InvalidSignature::OtherKey)
    );
}

#[test]
fn every_flipped_byte_and_every_cut_is_refused() {
    let (public, good) = sign(&private_key(), Namespace::Request, b"message");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(
            verify(Namespace::Request, &public, b"message", &bad).is_err(),
            "byte {at}"
        );
        assert!(
            verify(Namespace::Request, &public, b"message", &good[..at]).is_err(),
            "cut at {at}"
        );
    }
    let longer = [good.as_slice(), b"x"].concat();
    assert_eq!(
        verify(Namespace::Request, &public, b"message", &longer),
        Err(InvalidSignature::Malformed)
    );
}

#[test]
fn a_raw_signature_over_the_message_itself_is_no_sshsig() {
    let key = private_key();
    let (public, _) = sign(&key, Namespace::Request, b"message");
    let plain = Vec::<u8>::try_from(key.try_sign(b"message").unwrap()).unwrap();
    assert_eq!(
        verify(Namespace::Request, &public, b"message", &plain),
        Err(InvalidSignature::Malformed)
    );
}

#[test]
fn ssh_keygen_accepts_our_signatures() {
    let key = private_key();
    let (public, bytes) = sign(&key, Namespace::Request, b"message");
    let dir = tempfile::tempdir().unwrap();
    let (allowed, file) = (dir.path().join("allowed"), dir.path().join("sig"));
    std::fs::write(&allowed, format!("me {public}\n")).unwrap();
    let pem = ssh_key::SshSig::from_pem(to_pem(&bytes))
        .unwrap()
        .to_pem(ssh_key::LineEnding::LF)
        .unwrap();
    std::fs::write(&file, pem).unwrap();
    let mut child = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-I", "me", "-n", "eic-request-v1", "-f"])
        .arg(&allowed)
        .arg("-s")
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"message").unwrap();
    assert!(child.wait().unwrap().success());
}

fn to_pem(blob: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(blob);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(70)
        .map(|c| String::from_utf8_lossy(c).into_owned())
        .collect();
    format!(
        "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
        lines.join("\n")
    )
}
