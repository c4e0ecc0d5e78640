//! `trust.json`: what the helper made of verified documents for the login path, without the revocation list.
//! Its documents are verified here again; its limits are root's word and can only take away.

use std::collections::BTreeSet;

use eic_protocol::instance_id::InstanceId;
use eic_protocol::trust::endorsement::Endorsement;
use eic_protocol::trust::envelope::{Envelope, Untrusted};
use eic_protocol::trust::host_view::HostView;
use eic_protocol::trust::root::Root;
use serde::{Deserialize, Serialize};

use super::{NoTrust, TrustState};
use crate::config::Trust;
use crate::trust_store::TRUST_FILE;
use crate::trusted_file::{Trusted, UntrustedFile};

/// Largest file in bytes: a few roots, a view, endorsements.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginTrust {
    /// Roots from the newest that a pinned key signed.
    pub roots: Vec<Envelope>,
    /// This host's view, once the service has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<Envelope>,
    /// The bundle's endorsements.
    pub endorsements: Vec<Envelope>,
    /// The revocation list that was put beside this, and who signed its bundle. Only the helper reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<InstalledList>,
    /// The bundle's floor: views made before it do not count. Unix seconds.
    pub oldest_view: u64,
    /// When the bundle stops counting, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_stop: Option<u64>,
}

/// A list's number means something only beside the key that it came with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstalledList {
    /// The list's number.
    pub number: u64,
    /// The bundle key, `SHA256:…`.
    pub bundle_key: String,
}

/// What `eic-agent install` put beside, unverified.
pub(super) struct ByHand {
    pub(super) root: Envelope,
    pub(super) view: Envelope,
}

impl LoginTrust {
    /// The file; `None` where the service has never installed anything.
    pub(crate) fn read(trust: &Trust, trusted: &Trusted) -> Result<Option<Self>, NoTrust> {
        match trusted.read(&trust.state.join(TRUST_FILE), MAX_BYTES) {
            // A damaged file is no reason to go back to what was installed long ago.
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|_| NoTrust::Envelope(TRUST_FILE)),
            Err(UntrustedFile::Missing(_)) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The newest state that these documents and those of an administrator make.
    pub(super) fn state(
        &self,
        by_hand: Option<&ByHand>,
        pins: &BTreeSet<String>,
        own: &InstanceId,
        now: u64,
    ) -> Result<TrustState, NoTrust> {
        let root = Root::history(&self.roots, pins).map_err(not_believed)?;
        let (root, view) = match newer_by_hand(by_hand, &root, pins, own, now) {
            Some(pair) => pair,
            None => {
                let view = self
                    .newest_view(by_hand, &root, own, now)
                    .map_err(not_believed)?;
                (root, view)
            }
        };
        if self.hard_stop.is_some_and(|stop| stop <= now) {
            return Err(not_believed(Untrusted::HardStop));
        }
        if view.issued < self.oldest_view {
            return Err(NoTrust::OldView);
        }
        let verified = self
            .endorsements
            .iter()
            .map(|e| Endorsement::verified(e, &root));
        let endorsed = verified.filter_map(Result::ok).flatten().collect();
        Ok(TrustState {
            root,
            view,
            endorsed,
        })
    }

    /// The view with the highest version that verifies.
    fn newest_view(
        &self,
        by_hand: Option<&ByHand>,
        root: &Root,
        own: &InstanceId,
        now: u64,
    ) -> Result<HostView, Untrusted> {
        let hand = by_hand.map(|hand| &hand.view);
        let mut candidates: Vec<&Envelope> = self.view.iter().chain(hand).collect();
        // Stable: of two with one version the service's comes first.
        candidates.sort_by_key(|envelope| std::cmp::Reverse(claimed_version(envelope)));
        let mut refused = Untrusted::Signatures { good: 0, needed: 1 };
        for envelope in candidates {
            match HostView::verified(envelope, root, own, now) {
                Ok(view) => return Ok(view),
                Err(flaw) => refused = flaw,
            }
        }
        Err(refused)
    }
}

/// An administrator's root that is ahead counts with the view beside it.
fn newer_by_hand(
    by_hand: Option<&ByHand>,
    root: &Root,
    pins: &BTreeSet<String>,
    own: &InstanceId,
    now: u64,
) -> Option<(Root, HostView)> {
    // What is not ahead by its own word need not be verified at each login.
    let hand = by_hand.filter(|hand| claimed_version(&hand.root) > root.version)?;
    let newer = Root::pinned(&hand.root, pins).ok()?;
    let view = HostView::verified(&hand.view, &newer, own, now).ok()?;
    Some((newer, view))
}

/// A document's own word; 0 where it has none.
fn claimed_version(envelope: &Envelope) -> u64 {
    #[derive(Deserialize)]
    struct Claimed {
        version: u64,
    }
    let claimed = serde_json::from_slice::<Claimed>(envelope.signed.as_slice());
    claimed.map_or(0, |claimed| claimed.version)
}

fn not_believed(source: Untrusted) -> NoTrust {
    NoTrust::Document {
        file: TRUST_FILE,
        source,
    }
}

#[cfg(test)]
mod tests;
