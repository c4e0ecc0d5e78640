//! The nonce by which a person's ID token is bound to one CA and one key (docs/protocol.md): stolen on its way, it is of no
//! use with another. A fresh key for each sign-in makes it fresh, too.

use eic_protocol::proof::Audience;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::wire::Writer;
use sha2::{Digest as _, Sha256};

/// `eic-v1-` and the hash of CA and key.
#[must_use]
pub fn bound_nonce(ca: &Audience, key: &SubjectKey) -> String {
    let mut bound = Writer::new();
    bound
        .string(b"eic-oidc-nonce-v1")
        .string(ca.as_str().as_bytes())
        .string(key.blob());
    format!("eic-v1-{}", hex::encode(Sha256::digest(bound.as_slice())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nonce_is_that_of_the_documented_vector() {
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKNuPrbMfSDEwKHIeOHeJOVY7tZ6b3vXv7Y1xqVrCg3w";
        let key = key.parse().unwrap();
        let of = |ca: &str| bound_nonce(&ca.parse().unwrap(), &key);
        assert_eq!(
            of("https://ca.example"),
            "eic-v1-ce03ae1340fe20ba22a1836c0f94b8d0c0e54a14d913206b305a02b9007101e9"
        );
        assert_ne!(of("https://ca.example"), of("https://rogue.example"));
    }
}
