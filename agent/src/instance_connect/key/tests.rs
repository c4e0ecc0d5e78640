//! Keys that are never handed to sshd, then those that are.

use super::*;
use crate::instance_connect::test_pki::ed25519_line;
use eic_protocol::wire::Writer;

fn all() -> BTreeSet<ExtraKeyType> {
    [
        ExtraKeyType::P256,
        ExtraKeyType::P384,
        ExtraKeyType::P521,
        ExtraKeyType::SkEd25519,
        ExtraKeyType::SkP256,
    ]
    .into()
}

fn line(kind: &str, fields: &[&[u8]]) -> String {
    let mut w = Writer::new();
    w.string(kind.as_bytes());
    for field in fields {
        w.string(field);
    }
    format!("{kind} {}", STANDARD.encode(w.as_slice()))
}

/// An odd modulus of `bits` bits, as mpint.
fn modulus(bits: usize) -> Vec<u8> {
    let mut number = vec![0xff; bits.div_ceil(8)];
    if !bits.is_multiple_of(8) {
        number[0] = (1 << (bits % 8)) - 1;
    }
    let padding: &[u8] = if bits.is_multiple_of(8) { &[0] } else { &[] };
    [padding, number.as_slice()].concat()
}

pub(crate) fn rsa_line(bits: usize) -> String {
    line("ssh-rsa", &[&[1, 0, 1], &modulus(bits)])
}

fn refusal(line: &str) -> UnusableKey {
    PushedKey::parse(line, &BTreeSet::new()).unwrap_err()
}

#[test]
fn certificates_and_dsa_are_refused_even_with_every_extra_type() {
    // I-17
    for kind in [
        "ssh-dss",
        "ssh-ed25519-cert-v01@openssh.com",
        "ssh-rsa-cert-v01@openssh.com",
        "rsa-sha2-256",
        "sshfoo",
        "ssh-ed448",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "SSH-RSA",
        "ssh-rsa\0",
    ] {
        assert_eq!(
            PushedKey::parse(&line(kind, &[&[0; 32]]), &all()),
            Err(UnusableKey::Type),
            "{kind}"
        );
    }
}

#[test]
fn ecdsa_and_fido_keys_need_to_be_configured() {
    // I-17
    for kind in [
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ] {
        assert_eq!(refusal(&line(kind, &[])), UnusableKey::Type, "{kind}");
    }
}

#[test]
fn short_long_and_unsound_rsa_keys_are_refused() {
    // I-17: RSA-1024
    for bits in [512, 1024, 2040, 2047, 16385] {
        assert_eq!(refusal(&rsa_line(bits)), UnusableKey::WeakRsa, "{bits}");
    }
    for exponent in [&[1_u8][..], &[2], &[4, 0, 0]] {
        assert_eq!(
            refusal(&line("ssh-rsa", &[exponent, &modulus(2048)])),
            UnusableKey::WeakRsa,
            "{exponent:?}"
        );
    }
    let mut even = modulus(2048);
    *even.last_mut().unwrap() = 0xfe;
    assert_eq!(
        refusal(&line("ssh-rsa", &[&[1, 0, 1], &even])),
        UnusableKey::WeakRsa
    );
}

#[test]
fn numbers_in_other_encodings_are_refused() {
    let negative = vec![0xff; 256];
    let padded = [&[0, 0][..], &modulus(2048)[1..]].concat();
    for number in [negative.as_slice(), &padded, &[]] {
        assert_eq!(
            refusal(&line("ssh-rsa", &[&[1, 0, 1], number])),
            UnusableKey::Malformed
        );
        assert_eq!(
            refusal(&line("ssh-rsa", &[number, &modulus(2048)])),
            UnusableKey::Malformed
        );
    }
}

#[test]
fn malformed_keys_are_refused() {
    let good = ed25519_line(1);
    let blob = good.split(' ').nth(1).unwrap().to_owned();
    for (flaw, bad) in [
        ("no key", "ssh-ed25519".to_owned()),
        ("not base64", "ssh-ed25519 garbage!".to_owned()),
        ("base64 of nothing", "ssh-ed25519 AAAA".to_owned()),
        ("another type inside", format!("ssh-rsa {blob}")),
        ("short key", line("ssh-ed25519", &[&[1; 31]])),
        ("long key", line("ssh-ed25519", &[&[1; 33]])),
        ("trailing field", line("ssh-ed25519", &[&[1; 32], b""])),
        ("no fields", line("ssh-ed25519", &[])),
        (
            "unpadded base64",
            format!("ssh-ed25519 {}", blob.trim_end_matches('=')),
        ),
    ] {
        let refused = PushedKey::parse(&bad, &all());
        assert!(
            refused == Err(UnusableKey::Malformed)
                || !blob.ends_with('=') && flaw == "unpadded base64",
            "{flaw}: {refused:?}"
        );
    }
    for bad in ["", "command=\"x\" ssh-ed25519 AAAA", "restrict", "#"] {
        assert!(PushedKey::parse(bad, &all()).is_err(), "{bad}");
    }
}

#[test]
fn points_in_other_forms_are_refused() {
    let compressed = [&[2][..], &[7; 32]].concat();
    let point = [&[4][..], &[7; 64]].concat();
    for fields in [
        [b"nistp256".as_slice(), &compressed],
        [b"nistp384".as_slice(), &point],
        [b"nistp256".as_slice(), &point[..64]],
        [b"nistp256".as_slice(), b""],
    ] {
        assert_eq!(
            PushedKey::parse(&line("ecdsa-sha2-nistp256", &fields), &all()),
            Err(UnusableKey::Malformed)
        );
    }
    let application = |name: &[u8]| line("sk-ssh-ed25519@openssh.com", &[&[1; 32], name]);
    assert!(PushedKey::parse(&application(b""), &all()).is_err());
    assert!(PushedKey::parse(&application(b"ssh:\n"), &all()).is_err());
    assert!(PushedKey::parse(&application(b"ssh:"), &all()).is_ok());
}

#[test]
fn accepted_keys_are_written_as_type_and_base64_only() {
    for good in [
        ed25519_line(1),
        rsa_line(2048),
        rsa_line(2049),
        rsa_line(4096),
        rsa_line(16384),
    ] {
        let key = PushedKey::parse(
            &format!("{good}  # command=\"x\" comment"),
            &BTreeSet::new(),
        )
        .unwrap();
        assert_eq!(key.line(), good);
    }
    let p256 = line(
        "ecdsa-sha2-nistp256",
        &[b"nistp256", &[&[4][..], &[7; 64]].concat()],
    );
    assert_eq!(PushedKey::parse(&p256, &all()).unwrap().line(), p256);
}

#[test]
fn fingerprints_are_ssh_keygens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    for kind in ["ed25519", "rsa"] {
        let file = path.with_extension(kind);
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-t", kind, "-f"])
            .arg(&file)
            .status();
        assert!(
            made.expect("ssh-keygen(1) is needed as the witness")
                .success()
        );
        let shown = std::process::Command::new("ssh-keygen")
            .arg("-lf")
            .arg(&file)
            .output()
            .unwrap();
        let line = std::fs::read_to_string(file.with_extension(format!("{kind}.pub"))).unwrap();
        let key = PushedKey::parse(line.trim_end(), &BTreeSet::new()).unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(shown.split(' ').nth(1), Some(key.fingerprint().as_str()));
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_blobs_never_panic(blob in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        for kind in ["ssh-rsa", "ssh-ed25519", "sk-ssh-ed25519@openssh.com"] {
            let _ = PushedKey::parse(&format!("{kind} {}", STANDARD.encode(&blob)), &all());
        }
    }
}
