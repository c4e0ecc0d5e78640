//! Sets the configured user-CA key that signs, as `rotation` chooses it. Where none may, nothing is issued, and
//! everything else goes on.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

use super::{App, TrustDesk};
use crate::keys::RootHistory;
use crate::refusal::Refusal;
use crate::rotation::{Candidate, Choice, Circumstances, choose};
use crate::signer::UserCa;
use crate::store::StoreError;
use crate::store::trust::Signing;

/// The configured user CAs.
pub(super) struct Signers {
    all: OnceLock<Vec<Arc<UserCa>>>,
    propagation: u64,
    /// Why none signs.
    closed: ArcSwapOption<String>,
}

impl Signers {
    pub(super) fn new(propagation: u64) -> Self {
        Self {
            all: OnceLock::new(),
            propagation,
            closed: ArcSwapOption::empty(),
        }
    }

    /// Whether the one that is set may sign.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        match self.closed.load().as_deref() {
            None => Ok(()),
            Some(reason) => Err(Refusal::KeyNotPropagated(reason.clone())),
        }
    }
}

impl TrustDesk {
    /// The configured user CAs, the first one first. Once.
    pub(in crate::app) fn know_signers(&self, first: Arc<UserCa>, spares: Vec<UserCa>) {
        let all = std::iter::once(first).chain(spares.into_iter().map(Arc::new));
        let _ = self.signers.all.set(all.collect());
    }

    /// The configured keys, and the choice among them. `now` is in Unix seconds.
    pub(super) fn elect(
        &self,
        roots: &RootHistory,
        signing: &Signing,
        now: u64,
    ) -> (Vec<&Arc<UserCa>>, Choice) {
        let keys: Vec<_> = self.signers.all.get().into_iter().flatten().collect();
        let watch = self.book.watch();
        let candidates: Vec<_> = keys
            .iter()
            .map(|ca| Candidate {
                key: ca.public(),
                revoked: watch.revokes(ca.public().key()),
            })
            .collect();
        let by = Circumstances {
            roots,
            chosen: signing.chosen.as_deref(),
            last: signing.last.as_deref(),
            propagation: self.signers.propagation,
            now,
        };
        let choice = choose(&candidates, &by);
        (keys, choice)
    }
}

impl App {
    /// Sets the user CA that signs under these roots.
    pub(in crate::app) async fn choose_signer(
        &self,
        roots: &RootHistory,
    ) -> Result<(), StoreError> {
        let signing = self.trust.book.signing().await?;
        let (keys, choice) = self.trust.elect(roots, &signing, self.clock.now());
        match choice.signer.and_then(|index| keys.get(index)) {
            Some(ca) => self.sign_with(ca),
            None => self.close(&keys, &choice),
        }
        Ok(())
    }

    fn close(&self, keys: &[&Arc<UserCa>], choice: &Choice) {
        let judged = keys.iter().zip(&choice.judged);
        let refusals: Vec<_> = judged
            .filter_map(|(ca, judged)| {
                let flaw = judged.as_ref().err()?;
                Some(format!("{}: {flaw}", ca.public().fingerprint()))
            })
            .collect();
        let reason = refusals.join("; ");
        tracing::error!(
            reason,
            "ALARM: no configured user CA may sign; no user certificates are issued"
        );
        self.trust.signers.closed.store(Some(Arc::new(reason)));
    }

    fn sign_with(&self, ca: &Arc<UserCa>) {
        self.trust.signers.closed.store(None);
        if self.issuer.ca().public() != ca.public() {
            tracing::warn!(user_ca = %ca.public().fingerprint(), "another user CA signs from now on");
            self.issuer.sign_with(Arc::clone(ca));
        }
    }
}
