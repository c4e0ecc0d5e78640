//! `SHA256:…` fingerprints of SSH keys, as ssh-keygen and sshd's `%f` and `%F` write them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Deserialize;

/// `SHA256:` and 43 characters of unpadded base64.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let decoded = text
            .strip_prefix("SHA256:")
            .and_then(|hash| STANDARD_NO_PAD.decode(hash).ok());
        match decoded {
            Some(hash) if hash.len() == 32 => Ok(Self(text.to_owned())),
            _ => Err(InvalidFingerprint(eic_protocol::text::printable(text))),
        }
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = InvalidFingerprint;

    fn try_from(text: String) -> Result<Self, InvalidFingerprint> {
        text.parse()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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

    #[test]
    fn other_texts_are_refused() {
        let good = format!("SHA256:{}", "A".repeat(43));
        assert!(good.parse::<Fingerprint>().is_ok());
        for bad in [
            "",
            "SHA256:",
            "MD5:00:11",
            &good[7..],
            &format!("{good}="),
            &format!("{good}A"),
            &format!(" {good}"),
        ] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad:?}");
        }
    }
}
