//! One bundle with the roots that lead to it, in the bytes that hosts get.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use eic_protocol::trust::bundle::Bundle;
use eic_protocol::trust::envelope::Envelope;
use eic_protocol::wire::Writer;
use sha2::{Digest as _, Sha256};

use crate::keys::RootHistory;

/// How often the content is looked at although nobody said that it changed: entries end by themselves. Seconds.
pub(super) const LOOK: u64 = 60;
/// Answers that are kept, by what their hosts have already.
const MAX_BEGINNINGS: usize = 4;

/// A bundle as it is served.
pub struct Edition {
    bundle: Bundle,
    envelope: Envelope,
    roots: Arc<RootHistory>,
    content: [u8; 32],
    /// The store's revision that it was last compared with.
    compared: AtomicU64,
    /// The store's revision of which it leaves nothing out.
    revision: AtomicU64,
    /// When its content is to be looked at again, in Unix seconds.
    look_at: AtomicU64,
    /// By how many roots are left out.
    beginnings: Mutex<HashMap<usize, Arc<Beginning>>>,
}

/// Roots and bundle, which are the same for all hosts with the same root.
struct Beginning {
    /// `{"roots":[…],"bundle":{…}`
    json: Vec<u8>,
    /// The entity tag's hash so far.
    hash: Sha256,
}

/// A signed host view, ready to be sent.
#[derive(Clone, Debug)]
pub struct SealedView {
    envelope: Envelope,
    json: Vec<u8>,
}

/// An answer, as far as it is made before anybody wants its body.
#[derive(Clone)]
pub struct Answer {
    tag: String,
    beginning: Arc<Beginning>,
    view: Option<Arc<SealedView>>,
}

impl Answer {
    /// The entity tag, in quotes.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> Bytes {
        let mut body = self.beginning.json.clone();
        if let Some(view) = &self.view {
            body.extend_from_slice(b",\"view\":");
            body.extend_from_slice(&view.json);
        }
        body.push(b'}');
        body.into()
    }
}

impl SealedView {
    /// Of a signed view.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub fn new(envelope: Envelope) -> Result<Self, serde_json::Error> {
        let json = serde_json::to_vec(&envelope)?;
        Ok(Self { envelope, json })
    }

    /// Its JSON.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The view with its signature.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

impl Edition {
    pub(super) fn new(
        bundle: Bundle,
        envelope: Envelope,
        roots: Arc<RootHistory>,
        content: [u8; 32],
    ) -> Self {
        Self {
            bundle,
            envelope,
            roots,
            content,
            compared: AtomicU64::new(0),
            revision: AtomicU64::new(0),
            look_at: AtomicU64::new(0),
            beginnings: Mutex::default(),
        }
    }

    /// What the bundle says.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The roots that it is served with.
    #[must_use]
    pub fn roots(&self) -> &Arc<RootHistory> {
        &self.roots
    }

    /// Digest of the list without its number and time.
    pub(super) fn content(&self) -> [u8; 32] {
        self.content
    }

    /// It holds all that was revoked up to this revision of the store.
    pub(super) fn holds(&self, revision: u64) {
        self.revision.fetch_max(revision, Ordering::Relaxed);
    }

    /// It is what is made of this revision of the store, and is looked at again at `look_at`.
    pub(super) fn reached(&self, revision: u64, look_at: u64) {
        self.compared.fetch_max(revision, Ordering::Relaxed);
        self.look_at.store(look_at, Ordering::Relaxed);
    }

    /// The store's revision that it was last compared with.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.compared.load(Ordering::Relaxed)
    }

    /// The store's revision of which it leaves nothing out.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// Whether entries may have ended by themselves, or the clock went back since that was set. `now` is in Unix seconds.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        let look_at = self.look_at.load(Ordering::Relaxed);
        now >= look_at || look_at > now.saturating_add(2 * LOOK)
    }

    /// The answer for a host that has this root (none: no root), and this view.
    ///
    /// # Errors
    /// Where the documents cannot be written as JSON.
    pub fn answer(
        &self,
        root: Option<u64>,
        view: Option<Arc<SealedView>>,
    ) -> Result<Answer, serde_json::Error> {
        let beginning = self.beginning(root.unwrap_or(0))?;
        let mut hash = beginning.hash.clone();
        if let Some(view) = &view {
            hash.update(hashed(&view.envelope));
        }
        let tag = format!("\"{}\"", hex::encode(hash.finalize()));
        Ok(Answer {
            tag,
            beginning,
            view,
        })
    }

    fn beginning(&self, root: u64) -> Result<Arc<Beginning>, serde_json::Error> {
        let known = self.roots.iter().filter(|(known, _)| known.version <= root);
        let left_out = known.count();
        let lock = || {
            self.beginnings
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(made) = lock().get(&left_out) {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(self.make_beginning(left_out)?);
        let newest = left_out == self.roots.len();
        let mut kept = lock();
        // Anybody may claim any root: only so many answers of several 100 kB are kept.
        if newest || kept.len() < MAX_BEGINNINGS {
            kept.insert(left_out, Arc::clone(&made));
        }
        Ok(made)
    }

    fn make_beginning(&self, left_out: usize) -> Result<Beginning, serde_json::Error> {
        let roots: Vec<&Envelope> = self.roots.iter().skip(left_out).map(|(_, e)| e).collect();
        let mut json = b"{\"roots\":".to_vec();
        serde_json::to_writer(&mut json, &roots)?;
        json.extend_from_slice(b",\"bundle\":");
        serde_json::to_writer(&mut json, &self.envelope)?;
        // As `TrustBundleResponse::entity_tag` has it, so far as it is the same for all hosts.
        let mut start = Writer::new();
        start.string(b"eic-trust-bundle-v1");
        let mut hash = Sha256::new_with_prefix(start.as_slice());
        for envelope in roots.into_iter().chain([&self.envelope]) {
            hash.update(hashed(envelope));
        }
        Ok(Beginning { json, hash })
    }
}

/// An envelope as it enters the entity tag.
fn hashed(envelope: &Envelope) -> Vec<u8> {
    let mut signatures = Writer::new();
    for signature in &envelope.signatures {
        signatures
            .string(signature.key.blob())
            .string(signature.signature.as_slice());
    }
    let mut w = Writer::new();
    w.string(envelope.signed.as_slice())
        .string(signatures.as_slice());
    w.into_bytes()
}
