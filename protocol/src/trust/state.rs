//! What a host believes, as one value: root, bundle and host view that go together, and the one
//! function that takes newer documents into it. No file, no network, no clock: `now` is an argument.

use std::collections::BTreeSet;

use super::bundle::{Bundle, Freshness, RefusedBundle};
use super::envelope::{Envelope, Untrusted};
use super::host_view::HostView;
use super::root::{MAX_WALK, Root, ScopedCa};
use crate::instance_id::InstanceId;
use crate::sshsig::Namespace;
use crate::subject_key::SubjectKey;

/// A verified document and the bytes that it came in, which are what is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    /// As received.
    pub envelope: Envelope,
    /// What it says.
    pub document: T,
}

/// Who the host is, and what came with its installation rather than over the network.
#[derive(Clone, Debug)]
pub struct Anchor {
    /// The host.
    pub instance: InstanceId,
    /// Pinned root keys, `SHA256:…`.
    pub pins: BTreeSet<String>,
    /// Lowest bundle sequence that counts where none is installed: a deleted state does not make an
    /// old bundle good. It ends with the key that it came with.
    pub sequence_floor: u64,
    /// The bundle key of that floor, `SHA256:…`, where it was written down.
    pub floor_key: Option<String>,
}

/// Documents that go together. Made only from verified ones.
#[derive(Clone, Debug)]
pub struct TrustState {
    anchor: Anchor,
    /// The oldest root that a pinned key signed.
    first: Root,
    roots: Vec<Envelope>,
    root: Root,
    bundle: Option<Verified<Bundle>>,
    view: Option<Verified<HostView>>,
}

/// Documents as they lie on disk or come from a server; nothing in them is believed yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Documents<'a> {
    /// Roots by version, as far as known.
    pub roots: &'a [Envelope],
    /// A bundle.
    pub bundle: Option<&'a Envelope>,
    /// This host's view.
    pub view: Option<&'a Envelope>,
}

/// What became of offered documents.
#[derive(Clone, Debug)]
pub struct Advance {
    /// What to install: all that was taken, and else what there was. Its parts go together.
    pub state: TrustState,
    /// Why something was not taken. What comes after it was not looked at.
    pub refused: Option<Refusal>,
}

/// A document that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A root.
    #[error("the offered roots are not taken: {0}")]
    Root(String),
    /// The bundle.
    #[error("the offered bundle is not taken: {0}")]
    Bundle(String),
    /// The host view.
    #[error("the offered host view is not taken: {0}")]
    View(String),
    /// A new root does not trust what is installed, and nothing came in its place.
    #[error("the offered root no longer trusts the key of the installed {0}: fetch a newer one")]
    Orphaned(&'static str),
}

/// More roots than this are not kept where later ones do without them. A history and one walk of the network's
/// together stay readable: half of [`MAX_WALK`].
const MAX_KEPT: usize = MAX_WALK / 2;

impl TrustState {
    /// Verifies what is installed, from the pins on. The clock does not matter: see [`Self::freshness`].
    ///
    /// # Errors
    /// [`Refusal`] names the document.
    pub fn load(anchor: Anchor, documents: &Documents<'_>) -> Result<Self, Refusal> {
        let first = Root::oldest_pinned(documents.roots, &anchor.pins).map_err(Refusal::root)?;
        let root = first.walk_kept(documents.roots).map_err(Refusal::root)?;
        let state = Self {
            anchor,
            first,
            roots: documents.roots.to_vec(),
            root,
            bundle: None,
            view: None,
        };
        let bundle = documents.bundle.map(|envelope| {
            let document = Bundle::authentic(envelope, &state.root).map_err(Refusal::bundle)?;
            Ok(sealed(envelope, document))
        });
        let view = documents.view.map(|envelope| {
            let document = state.authentic_view(envelope).map_err(Refusal::view)?;
            Ok(sealed(envelope, document))
        });
        Ok(Self {
            bundle: bundle.transpose()?,
            view: view.transpose()?,
            ..state
        })
    }

    /// Takes what is newer among the offered documents. Roots are walked first; then the bundle, by
    /// the new root; then the view, by both. A refused bundle does not hold a new root back, as long
    /// as that root trusts what stays installed. `now` is in Unix seconds.
    #[must_use]
    pub fn advance(&self, offered: &Documents<'_>, now: u64) -> Advance {
        let mut state = self.clone();
        let refused = state.take_all(offered, now).err();
        match state.check_whole() {
            Ok(()) => Advance { state, refused },
            Err(orphaned) => Advance {
                state: self.clone(),
                refused: Some(refused.unwrap_or(orphaned)),
            },
        }
    }

    /// The roots from the pinned one on, as far as they are needed: what is kept on disk.
    #[must_use]
    pub fn roots(&self) -> &[Envelope] {
        &self.roots
    }

    /// The newest root.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The bundle, once there is one.
    #[must_use]
    pub fn bundle(&self) -> Option<&Verified<Bundle>> {
        self.bundle.as_ref()
    }

    /// The host view that counts: none where the bundle's floor is above it.
    #[must_use]
    pub fn view(&self) -> Option<&Verified<HostView>> {
        let floor = self.bundle.as_ref().map_or(0, |b| b.document.oldest_view);
        self.view
            .as_ref()
            .filter(|view| floor <= view.document.issued)
    }

    /// User CAs that count: the root's that are not retired, and the bundle's endorsed keys.
    /// A key may occur with several scopes; each is good by itself.
    #[must_use]
    pub fn user_cas(&self) -> Vec<ScopedCa> {
        let endorsed = self.bundle.as_ref();
        let endorsed = endorsed.map(|b| b.document.endorsed(&self.root).cas);
        let own = self.root.trusted_user_cas().cloned();
        own.chain(endorsed.unwrap_or_default()).collect()
    }

    /// Whether numbers that this host has seen are a floor for what it takes: they belong to the key that they
    /// came with, and a root that names it no more begins anew. Where that key is not known, the first root's count.
    #[must_use]
    pub fn floor_counts(&self) -> bool {
        let keys = &self.root.bundle_keys;
        match &self.anchor.floor_key {
            Some(print) => keys.iter().any(|key| key.fingerprint() == *print),
            None => self.first.bundle_keys.iter().any(|key| keys.contains(key)),
        }
    }

    /// The root's key that signed the bundle; none: there is no bundle.
    #[must_use]
    pub fn bundle_signer(&self) -> Option<&SubjectKey> {
        let envelope = &self.bundle.as_ref()?.envelope;
        let signed = |key: &&SubjectKey| {
            let only = |other: &SubjectKey| other == *key;
            envelope.verified(Namespace::Bundle, 1, only).is_ok()
        };
        self.root.bundle_keys.iter().find(signed)
    }

    /// Whether the host is up to date at `now` (Unix seconds): the worse of bundle and view.
    #[must_use]
    pub fn freshness(&self, now: u64) -> Freshness {
        let bundle = self.bundle.as_ref().map(|b| b.document.freshness(now));
        let view = self.view.as_ref().map(|v| {
            let view = &v.document;
            Freshness::at(now, view.refresh_after, view.hard_stop)
        });
        bundle.max(view).unwrap_or(Freshness::Stale)
    }

    fn take_all(&mut self, offered: &Documents<'_>, now: u64) -> Result<(), Refusal> {
        self.take_roots(offered.roots).map_err(Refusal::root)?;
        if let Some(envelope) = offered.bundle {
            self.take_bundle(envelope, now).map_err(Refusal::bundle)?;
        }
        if let Some(envelope) = offered.view {
            self.take_view(envelope, now).map_err(Refusal::view)?;
        }
        Ok(())
    }

    fn take_roots(&mut self, offered: &[Envelope]) -> Result<(), Untrusted> {
        let (root, steps) = self.root.steps(offered)?;
        self.roots.extend(steps.into_iter().cloned());
        if self.roots.len() > MAX_KEPT {
            self.leave_out_roots();
        }
        self.root = root;
        Ok(())
    }

    /// Leaves roots out that later ones do not need: years of key changes must not end in one that finds no room.
    fn leave_out_roots(&mut self) {
        let oldest = |envelope: &&Envelope| Root::pinned(envelope, &self.anchor.pins).is_ok();
        let first = self.roots.iter().find(oldest).cloned();
        let later = self.first.fewest(&self.roots);
        self.roots = first.into_iter().chain(later).collect();
    }

    fn take_bundle(&mut self, envelope: &Envelope, now: u64) -> Result<(), RefusedBundle> {
        let offered = Bundle::verified(envelope, &self.root, now)?;
        match self.comparable_bundle() {
            Some(installed) if installed.envelope.signed == envelope.signed => return Ok(()),
            Some(installed) => offered.check_follows(&installed.document, now)?,
            None => self.check_floor(&offered)?,
        }
        self.bundle = Some(sealed(envelope, offered));
        Ok(())
    }

    fn take_view(&mut self, envelope: &Envelope, now: u64) -> Result<(), RefusedBundle> {
        let offered = HostView::verified(envelope, &self.root, &self.anchor.instance, now)?;
        let floor = self.bundle.as_ref().map_or(0, |b| b.document.oldest_view);
        check_view("time", offered.issued, floor)?;
        if let Some(installed) = self.comparable_view() {
            if installed.envelope.signed == envelope.signed {
                return Ok(());
            }
            check_view("version", offered.version, installed.document.version)?;
            if offered.version == installed.document.version {
                return Err(Untrusted::Equivocation(offered.version).into());
            }
        }
        self.view = Some(sealed(envelope, offered));
        Ok(())
    }

    /// The installed bundle, where a key that the root still trusts signed it. A root that replaced
    /// every such key begins the sequence anew: so a CA recovers from a sequence that was run up.
    fn comparable_bundle(&self) -> Option<&Verified<Bundle>> {
        let bundle = self.bundle.as_ref();
        bundle.filter(|bundle| self.trusts_signer(bundle, Namespace::Bundle))
    }

    fn comparable_view(&self) -> Option<&Verified<HostView>> {
        let view = self.view.as_ref();
        view.filter(|view| self.trusts_signer(view, Namespace::HostView))
    }

    fn trusts_signer<T>(&self, document: &Verified<T>, namespace: Namespace) -> bool {
        let ours = |key: &SubjectKey| self.root.bundle_keys.contains(key);
        document.envelope.verified(namespace, 1, ours).is_ok()
    }

    fn check_floor(&self, offered: &Bundle) -> Result<(), RefusedBundle> {
        let floor = self.anchor.sequence_floor;
        if !self.floor_counts() || floor <= offered.sequence {
            return Ok(());
        }
        Err(RefusedBundle::Rollback {
            what: "sequence",
            offered: offered.sequence,
            installed: floor,
        })
    }

    /// Whether the root, as it now is, still trusts what is installed: else a restart would find
    /// files that it cannot verify.
    fn check_whole(&self) -> Result<(), Refusal> {
        if let Some(bundle) = &self.bundle {
            Bundle::authentic(&bundle.envelope, &self.root)
                .map_err(|_| Refusal::Orphaned("bundle"))?;
        }
        if let Some(view) = &self.view {
            self.authentic_view(&view.envelope)
                .map_err(|_| Refusal::Orphaned("host view"))?;
        }
        Ok(())
    }

    fn authentic_view(&self, envelope: &Envelope) -> Result<HostView, Untrusted> {
        HostView::authentic(envelope, &self.root, &self.anchor.instance)
    }
}

fn sealed<T>(envelope: &Envelope, document: T) -> Verified<T> {
    Verified {
        envelope: envelope.clone(),
        document,
    }
}

fn check_view(what: &'static str, offered: u64, lowest: u64) -> Result<(), RefusedBundle> {
    if lowest <= offered {
        return Ok(());
    }
    Err(RefusedBundle::Rollback {
        what,
        offered,
        installed: lowest,
    })
}

impl Refusal {
    fn root(flaw: Untrusted) -> Self {
        Self::Root(flaw.to_string())
    }

    fn bundle(flaw: impl Into<RefusedBundle>) -> Self {
        Self::Bundle(flaw.into().to_string())
    }

    fn view(flaw: impl Into<RefusedBundle>) -> Self {
        Self::View(flaw.into().to_string())
    }
}
