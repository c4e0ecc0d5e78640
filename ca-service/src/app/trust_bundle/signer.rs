//! Which of the configured user-CA keys signs: the operator's choice, where hosts can know it by now; else
//! the one that signed last. Where none may, nothing is issued, and everything else goes on.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

use super::{App, TrustDesk};
use crate::keys::RootHistory;
use crate::refusal::Refusal;
use crate::rotation::may_sign;
use crate::signer::UserCa;
use crate::store::StoreError;

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
}

impl App {
    /// Sets the user CA that signs under these roots.
    pub(in crate::app) async fn choose_signer(
        &self,
        roots: &RootHistory,
    ) -> Result<(), StoreError> {
        let signers = &self.trust.signers;
        let signing = self.trust.book.signing().await?;
        let (now, last) = (self.clock.now(), signing.last.as_deref());
        let all: Vec<_> = signers.all.get().into_iter().flatten().collect();
        let prints: Vec<_> = all.iter().map(|ca| ca.public().fingerprint()).collect();
        // A choice that is not configured any more is none: then the first one is.
        let chosen = signing.chosen.filter(|chosen| prints.contains(chosen));
        let first = chosen.or_else(|| prints.first().cloned());
        let mut ranked: Vec<_> = all.into_iter().zip(prints).collect();
        ranked.sort_by_key(|(_, print)| {
            (Some(print) != first.as_ref(), Some(print.as_str()) != last)
        });
        let mut refusals = Vec::new();
        for (ca, print) in ranked {
            match may_sign(roots, ca.public(), last, signers.propagation, now) {
                Ok(()) if self.trust.check_ca(ca.public()).is_ok() => {
                    self.sign_with(ca);
                    return Ok(());
                }
                Ok(()) => refusals.push(format!("{print}: it is revoked")),
                Err(not_yet) => refusals.push(format!("{print}: {not_yet}")),
            }
        }
        let reason = refusals.join("; ");
        tracing::error!(
            reason,
            "ALARM: no configured user CA may sign; no user certificates are issued"
        );
        signers.closed.store(Some(Arc::new(reason)));
        Ok(())
    }

    fn sign_with(&self, ca: &Arc<UserCa>) {
        self.trust.signers.closed.store(None);
        if self.issuer.ca().public() != ca.public() {
            tracing::warn!(user_ca = %ca.public().fingerprint(), "another user CA signs from now on");
            self.issuer.sign_with(Arc::clone(ca));
        }
    }
}
