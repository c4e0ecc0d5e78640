//! A document's exact bytes and the SSHSIG signatures over them.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base64_text::Base64Bytes;
use crate::sshsig::{self, Namespace};
use crate::subject_key::{InvalidKey, SubjectKey};

/// Largest document. Bytes.
pub const MAX_DOCUMENT: usize = 1024 * 1024;
/// Most signatures that are looked at.
const MAX_SIGNATURES: usize = 16;

/// Bytes with signatures. What was signed is parsed only after enough signatures verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The document's bytes.
    pub signed: Base64Bytes,
    /// Signatures by distinct keys.
    pub signatures: Vec<EnvelopeSignature>,
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeSignature {
    /// The signer's public key.
    pub key: SubjectKey,
    /// SSHSIG blob.
    pub signature: Base64Bytes,
}

impl Envelope {
    /// The bytes, once `threshold` of the keys that `trusted` accepts have signed them.
    ///
    /// # Errors
    /// [`Untrusted`] with how many of how many signatures were good.
    pub fn verified(
        &self,
        namespace: Namespace,
        threshold: usize,
        trusted: impl Fn(&SubjectKey) -> bool,
    ) -> Result<&[u8], Untrusted> {
        let bytes = self.signed.as_slice();
        if bytes.len() > MAX_DOCUMENT {
            return Err(Untrusted::TooLarge);
        }
        let good: BTreeSet<&[u8]> = self
            .signatures
            .iter()
            .take(MAX_SIGNATURES)
            .filter(|s| trusted(&s.key))
            .filter(|s| sshsig::verify(namespace, &s.key, bytes, s.signature.as_slice()).is_ok())
            .map(|s| s.key.blob())
            .collect();
        // A threshold of 0 would accept anything.
        let needed = threshold.max(1);
        if good.len() >= needed {
            Ok(bytes)
        } else {
            Err(Untrusted::Signatures {
                good: good.len(),
                needed,
            })
        }
    }
}

/// Parses a verified document strictly.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Untrusted> {
    serde_json::from_slice(bytes).map_err(|e| Untrusted::Malformed(e.to_string()))
}

/// Why a document does not count.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Over 1 MiB.
    #[error("the document is larger than 1 MiB")]
    TooLarge,
    /// Not enough good signatures by pinned keys.
    #[error("the document has {good} of {needed} needed signatures by trusted keys")]
    Signatures {
        /// Good ones.
        good: usize,
        /// Needed ones.
        needed: usize,
    },
    /// Signed, but not of its form.
    #[error("the signed document is malformed: {0}")]
    Malformed(String),
    /// Older than what is already installed.
    #[error("the document has version {offered}, older than the installed {installed}")]
    Rollback {
        /// Offered.
        offered: u64,
        /// Installed.
        installed: u64,
    },
    /// A version was left out on the way.
    #[error(
        "the document has version {offered}, but after {installed} comes the next: fetch those between"
    )]
    Gap {
        /// Offered.
        offered: u64,
        /// Installed.
        installed: u64,
    },
    /// It goes with a newer root.
    #[error(
        "the document goes with root {needed}, but {installed} is installed: fetch the newer roots"
    )]
    NeedsRoot {
        /// The root that it goes with.
        needed: u64,
        /// Installed.
        installed: u64,
    },
    /// The same version, other bytes.
    #[error("there are two different documents with version {0}")]
    Equivocation(u64),
    /// Too many roots at once.
    #[error("more than {0} roots are offered at once")]
    TooMany(usize),
    /// For another host.
    #[error("the host view is for `{0}`, not for this host")]
    OtherHost(String),
    /// Ended.
    #[error("the document's hard stop has passed")]
    HardStop,
    /// It names keys that cannot be.
    #[error(transparent)]
    Key(#[from] InvalidKey),
}
