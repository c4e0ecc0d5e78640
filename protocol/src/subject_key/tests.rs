//! Tests of the parent module: keys made by ssh-keygen, and keys that nobody should make.

use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use crate::wire::Writer;

/// A public key line made by ssh-keygen.
pub(crate) fn generated(kind: &str, bits: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-t", kind, "-N", "", "-C", "a comment", "-f"])
        .arg(&file);
    if !bits.is_empty() {
        command.args(["-b", bits]);
    }
    assert!(command.status().unwrap().success());
    std::fs::read_to_string(file.with_extension("pub")).unwrap()
}

fn rsa_key(exponent: &[u8], modulus: &[u8]) -> Result<SubjectKey, InvalidKey> {
    let mut w = Writer::new();
    w.string(b"ssh-rsa").mpint(exponent).mpint(modulus);
    SubjectKey::from_blob(w.as_slice())
}

fn blob(parts: &[&[u8]]) -> Vec<u8> {
    let mut w = Writer::new();
    for part in parts {
        w.string(part);
    }
    w.into_bytes()
}

#[test]
fn weak_rsa_keys_are_refused_in_bounded_time() {
    // D-13
    let odd = |bytes: usize, low: u8| {
        let mut n = vec![0xc5; bytes];
        *n.last_mut().unwrap() = low;
        n
    };
    let e = [1, 0, 1];
    assert_eq!(
        rsa_key(&e, &odd(128, 1)),
        Err(InvalidKey::RsaSize {
            bits: 1024,
            min: 2048
        })
    );
    assert!(matches!(
        rsa_key(&e, &odd(2048, 1)),
        Err(InvalidKey::TooLong | InvalidKey::RsaSize { .. })
    ));
    for (exponent, modulus) in [
        (&[1][..], odd(256, 1)),
        (&[3], odd(256, 1)),
        (&[1, 0, 0], odd(256, 1)),
        (&[1, 0, 0, 0, 1], odd(256, 1)),
        (&e, odd(256, 2)),
        (&e, odd(256, 5)),
    ] {
        let started = Instant::now();
        let refused = rsa_key(exponent, &modulus);
        assert!(
            matches!(refused, Err(InvalidKey::RsaWeak(_))),
            "{refused:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(5), "unbounded");
    }
}

#[test]
fn moduli_of_two_neighbouring_factors_are_refused() {
    // D-13: 2^1023 + an offset, and a factor right beside it; without small factors, as primes would be.
    use ::rsa::BoxedUint;
    let one = BoxedUint::one_with_precision(2048);
    let base = one.shl(1023);
    // The square is the first that is tried, or a later one: about 2^2k / 2^1026 of them come before, for a distance of 2^k.
    let near = [0_u64, 2, 1_000].map(BoxedUint::from);
    let far = [514, 515, 516].map(|bits| one.shl(bits));
    for distance in near.iter().chain(&far) {
        let found = (0..10_000_u64)
            .map(|step| 1_155 + 2 * step)
            .find_map(|offset| {
                let p = base.wrapping_add(BoxedUint::from(offset));
                let q = p.wrapping_add(distance);
                let refused = rsa_key(&[1, 0, 1], &p.wrapping_mul(&q).to_be_bytes());
                (refused != Err(InvalidKey::RsaWeak("its modulus has a small factor")))
                    .then_some(refused)
            });
        let close = InvalidKey::RsaWeak("its two primes are too close to each other");
        assert_eq!(found, Some(Err(close)), "{distance}");
    }
}

#[test]
fn moduli_of_the_form_of_infineons_generator_are_refused() {
    // D-13: a power of 65537 modulo each of the primes that mark CVE-2017-15361.
    use ::rsa::BoxedUint;
    let primes = [
        11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
    ];
    let product: u128 = primes.iter().product();
    let found = (0..1_000_u64).find_map(|step| {
        let multiple = BoxedUint::one_with_precision(2048)
            .shl(1947)
            .wrapping_add(BoxedUint::from(2 * step));
        let n = multiple
            .wrapping_mul(BoxedUint::from(product))
            .wrapping_add(BoxedUint::from(65_537_u64));
        let refused = rsa_key(&[1, 0, 1], &n.to_be_bytes());
        (refused != Err(InvalidKey::RsaWeak("its modulus has a small factor"))).then_some(refused)
    });
    assert_eq!(
        found,
        Some(Err(InvalidKey::RsaWeak(
            "it has the form of CVE-2017-15361 (ROCA)"
        )))
    );
}

#[test]
fn points_off_their_curve_or_of_small_order_are_refused() {
    let p256 =
        |point: &[u8]| SubjectKey::from_blob(&blob(&[b"ecdsa-sha2-nistp256", b"nistp256", point]));
    assert!(p256(&[&[4][..], &[1; 64]].concat()).is_err());
    assert!(p256(&[0]).is_err());
    let ed25519 = |bytes: [u8; 32]| SubjectKey::from_blob(&blob(&[b"ssh-ed25519", &bytes]));
    let mut one = [0; 32];
    one[0] = 1;
    assert_eq!(ed25519(one), Err(InvalidKey::Point), "the neutral element");
    assert_eq!(
        ed25519([0; 32]),
        Err(InvalidKey::Point),
        "a point of order 4"
    );
    let mut not_reduced = [0xff; 32];
    not_reduced[31] = 0x7f;
    not_reduced[0] = 0xf0;
    assert_eq!(ed25519(not_reduced), Err(InvalidKey::Point), "y ≥ p");
}

#[test]
fn certificates_unknown_types_and_trailing_bytes_are_refused() {
    let line = generated("ed25519", "");
    let good: SubjectKey = line.trim_end().parse().unwrap();
    let mut trailing = good.blob().to_vec();
    trailing.push(0);
    assert_eq!(SubjectKey::from_blob(&trailing), Err(InvalidKey::Trailing));
    let certificate = blob(&[b"ssh-ed25519-cert-v01@openssh.com", &[0; 32]]);
    assert_eq!(
        SubjectKey::from_blob(&certificate),
        Err(InvalidKey::Certificate)
    );
    assert!(SubjectKey::from_blob(&blob(&[b"ssh-unknown", &[0; 32]])).is_err());
    assert!(matches!(
        generated("ecdsa", "521").trim_end().parse::<SubjectKey>(),
        Err(InvalidKey::Type(_))
    ));
    for bad in [
        "",
        "ssh-ed25519",
        "ssh-rsa AAAA",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        &"x".repeat(5000),
    ] {
        assert!(bad.parse::<SubjectKey>().is_err(), "{bad:.40}");
    }
    let renamed = line.replacen("ssh-ed25519", "ssh-rsa", 1);
    assert_eq!(renamed.parse::<SubjectKey>(), Err(InvalidKey::Malformed));
}

#[test]
fn short_rsa_and_fido_keys_are_no_ca_keys() {
    let short = generated("rsa", "2048");
    assert!(short.trim_end().parse::<SubjectKey>().is_ok());
    assert_eq!(
        short.trim_end().parse::<CaKey>(),
        Err(InvalidKey::RsaSize {
            bits: 2048,
            min: 3072
        })
    );
    let ed = generated("ed25519", "")
        .trim_end()
        .parse::<SubjectKey>()
        .unwrap();
    let point = ed.blob().get(19..).unwrap();
    let sk =
        SubjectKey::from_blob(&blob(&[b"sk-ssh-ed25519@openssh.com", point, b"ssh:"])).unwrap();
    assert!(sk.is_fido());
    assert!(matches!(CaKey::new(sk), Err(InvalidKey::Type(_))));
}

#[test]
fn keys_of_every_accepted_type_keep_their_text_and_fingerprint() {
    for (kind, bits) in [
        ("ed25519", ""),
        ("ecdsa", "256"),
        ("ecdsa", "384"),
        ("rsa", "3072"),
    ] {
        let line = generated(kind, bits);
        let key: SubjectKey = line.trim_end().parse().unwrap();
        let without_comment = line.trim_end().trim_end_matches("a comment").trim_end();
        assert_eq!(key.to_string(), without_comment);
        assert!(key.fingerprint().starts_with("SHA256:"));
        assert_eq!(key.to_string().parse::<CaKey>().unwrap().key(), &key);
    }
}
