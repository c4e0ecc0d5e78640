//! `SHA256:…` fingerprints of SSH keys, as ssh-keygen and sshd's `%f` and `%F` write them.
//! A name for a key that somebody saw in a log; not a key to verify anything with.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::text::printable;

/// SHA-256 of a plain key's wire form; written `SHA256:` and 43 characters of unpadded base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyFingerprint([u8; 32]);

impl KeyFingerprint {
    /// The fingerprint of a plain key in SSH wire form.
    #[must_use]
    pub fn of_blob(blob: &[u8]) -> Self {
        Self(Sha256::digest(blob).into())
    }

    /// The fingerprint with this hash.
    #[must_use]
    pub fn from_hash(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for KeyFingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let hash = text
            .strip_prefix("SHA256:")
            .and_then(|encoded| STANDARD_NO_PAD.decode(encoded).ok())
            .and_then(|hash| hash.try_into().ok());
        hash.map(Self)
            .ok_or_else(|| InvalidFingerprint(printable(text)))
    }
}

impl TryFrom<String> for KeyFingerprint {
    type Error = InvalidFingerprint;

    fn try_from(text: String) -> Result<Self, InvalidFingerprint> {
        text.parse()
    }
}

impl From<KeyFingerprint> for String {
    fn from(fingerprint: KeyFingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", STANDARD_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no fingerprint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a fingerprint: expected `SHA256:` and 43 characters, as `ssh-keygen -l` shows it"
)]
pub struct InvalidFingerprint(String);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cert::tests::{private_key, subject};

    #[test]
    fn other_hashes_lengths_and_paddings_are_refused() {
        for bad in [
            "",
            "SHA256:",
            "MD5:00:11",
            "SHA256:AAAA",
            "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV",
        ] {
            assert!(bad.parse::<KeyFingerprint>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_has_the_fingerprint_that_ssh_shows() {
        let key = subject(&private_key());
        let own = KeyFingerprint::of_blob(key.blob());
        assert_eq!(own.to_string(), key.fingerprint());
        assert_eq!(own.to_string().parse(), Ok(own));
    }
}
