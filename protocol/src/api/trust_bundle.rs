//! `GET /v1/trust-bundle`: the roots that a host lacks, the bundle, and the host's view.
//! Everything in the answer is signed; nothing of it counts for having come from here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::instance_id::InstanceId;
use crate::trust::envelope::{Envelope, MAX_DOCUMENT};
use crate::trust::root::MAX_WALK;
use crate::trust::state::Documents;
use crate::wire::Writer;

/// The path.
pub const PATH: &str = "/v1/trust-bundle";
/// Longest long poll. Seconds; below the 60 after which load balancers close idle connections.
pub const MAX_WAIT: u64 = 50;
/// Largest answer that is read. Bytes: bundle and roots of 1 MiB in base64 within base64.
pub const MAX_RESPONSE: usize = 4 * MAX_DOCUMENT;

/// The query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustBundleQuery {
    /// The newest root that the host has; the answer holds those after it. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<u64>,
    /// The host whose view is asked for. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<InstanceId>,
    /// How long to wait for a change where `If-None-Match` names the current answer. Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
}

impl TrustBundleQuery {
    /// How long to wait, at most 50 s.
    #[must_use]
    pub fn wait_seconds(&self) -> u64 {
        self.wait.unwrap_or(0).min(MAX_WAIT)
    }
}

/// The answer. Unknown members are ignored: newer servers may say more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustBundleResponse {
    /// The roots after the one that was named, oldest first.
    pub roots: Vec<Envelope>,
    /// The bundle.
    pub bundle: Envelope,
    /// The host's view, where it was asked for and the host is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<Envelope>,
}

impl TrustBundleResponse {
    /// Reads an answer: bounded, JSON of this form.
    ///
    /// # Errors
    /// [`NotTrustBundle`] for anything else: an HTML page, a 204, a cut or endless body.
    pub fn parse(body: &[u8]) -> Result<Self, NotTrustBundle> {
        if body.len() > MAX_RESPONSE {
            return Err(NotTrustBundle::TooLarge);
        }
        let response: Self = serde_json::from_slice(body).map_err(|_| NotTrustBundle::Form)?;
        if response.roots.len() > MAX_WALK {
            return Err(NotTrustBundle::TooLarge);
        }
        Ok(response)
    }

    /// The documents, for `TrustState::advance`.
    #[must_use]
    pub fn documents(&self) -> Documents<'_> {
        Documents {
            roots: &self.roots,
            bundle: Some(&self.bundle),
            view: self.view.as_ref(),
        }
    }

    /// The entity tag: SHA-256 over the documents, however the JSON is written.
    #[must_use]
    pub fn entity_tag(&self) -> EntityTag {
        let mut w = Writer::new();
        w.string(b"eic-trust-bundle-v1");
        let all = self.roots.iter().chain([&self.bundle]).chain(&self.view);
        all.for_each(|envelope| envelope_fields(&mut w, envelope));
        EntityTag(Sha256::digest(w.as_slice()).into())
    }
}

fn envelope_fields(w: &mut Writer, envelope: &Envelope) {
    w.string(envelope.signed.as_slice());
    let mut signatures = Writer::new();
    for signature in &envelope.signatures {
        signatures
            .string(signature.key.blob())
            .string(signature.signature.as_slice());
    }
    w.string(signatures.as_slice());
}

/// `ETag` and `If-None-Match` (RFC 9110 §8.8.3): 64 hex digits in double quotes, never weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag([u8; 32]);

impl FromStr for EntityTag {
    type Err = NotTrustBundle;

    fn from_str(text: &str) -> Result<Self, NotTrustBundle> {
        let digits = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        let digits = digits.filter(|t| !t.bytes().any(|b| b.is_ascii_uppercase()));
        let mut hash = [0; 32];
        match digits.map(|digits| hex::decode_to_slice(digits, &mut hash)) {
            Some(Ok(())) => Ok(Self(hash)),
            _ => Err(NotTrustBundle::EntityTag),
        }
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", hex::encode(self.0))
    }
}

/// Not an answer of the trust-bundle endpoint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTrustBundle {
    /// Over 4 MiB, or over 1,024 roots.
    #[error("the answer is larger than a trust bundle can be")]
    TooLarge,
    /// Not JSON of the form.
    #[error("the answer is not a trust bundle: does the URL lead to the CA?")]
    Form,
    /// Not an entity tag of ours.
    #[error("an entity tag is 64 lower-case hex digits in double quotes")]
    EntityTag,
}
