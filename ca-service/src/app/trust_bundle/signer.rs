//! Sets the configured user-CA key that signs, as `rotation` chooses it. Where none may, nothing is issued, and
//! everything else goes on; so it does where a key in KMS has not answered since the start, which is asked for again
//! and again.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use eic_protocol::subject_key::CaKey;

use super::{App, TrustDesk};
use crate::issuance::{IssueError, Kind};
use crate::keys::RootHistory;
use crate::refusal::Refusal;
use crate::rotation::{Candidate, Choice, Circumstances, choose};
use crate::signer::{CertificateAuthority, HostCa, SignError, SignerError, UserCa};
use crate::store::StoreError;
use crate::store::trust::Signing;

/// First and longest pause between two questions to KMS for a key that did not answer at the start.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The configured CAs.
pub(super) struct Signers {
    all: OnceLock<Vec<Arc<UserCa>>>,
    host: OnceLock<Arc<HostCa>>,
    propagation: u64,
    /// Why none signs.
    closed: ArcSwapOption<String>,
}

impl Signers {
    pub(super) fn new(propagation: u64) -> Self {
        Self {
            all: OnceLock::new(),
            host: OnceLock::new(),
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

    /// Whether this CA's key has answered since the start; what is no configured CA is a key in memory.
    pub(super) fn check_reached(&self, ca: &CaKey) -> Result<(), Refusal> {
        let user = self.user_cas().find(|user| user.public() == ca);
        let unreached = match user {
            Some(user) => user.unreached(),
            None => self.host_ca(ca).and_then(|host| host.unreached()),
        };
        let failure = unreached.map(|reason| SignError::from(SignerError::Unreached(reason)));
        failure.map_or(Ok(()), |error| Err(IssueError::from(error).into()))
    }

    fn user_cas(&self) -> impl Iterator<Item = &Arc<UserCa>> {
        self.all.get().into_iter().flatten()
    }

    fn host_ca(&self, ca: &CaKey) -> Option<&Arc<HostCa>> {
        self.host.get().filter(|host| host.public() == ca)
    }
}

impl TrustDesk {
    /// The configured CAs, the first user CA first. Once.
    pub(in crate::app) fn know_signers(
        &self,
        first: Arc<UserCa>,
        spares: Vec<UserCa>,
        host: Arc<HostCa>,
    ) {
        let all = std::iter::once(first).chain(spares.into_iter().map(Arc::new));
        let _ = self.signers.all.set(all.collect());
        let _ = self.signers.host.set(host);
    }

    /// Whether both CAs can sign, in words that anybody may read. `user` is the user CA that is set.
    pub(in crate::app) fn readiness(&self, user: &UserCa) -> Result<(), &'static str> {
        if self.signers.closed.load().is_some() || self.check_ca(user.public()).is_err() {
            return Err("no user CA may sign, or its key does not answer; the log says why");
        }
        let host = self.signers.host.get();
        match host.and_then(|host| host.unreached()) {
            Some(_) => Err("the host CA's key does not answer; the log says why"),
            None => Ok(()),
        }
    }

    /// The configured keys, and the choice among them. `now` is in Unix seconds.
    pub(super) fn elect(
        &self,
        roots: &RootHistory,
        signing: &Signing,
        now: u64,
    ) -> (Vec<&Arc<UserCa>>, Choice) {
        let keys: Vec<_> = self.signers.user_cas().collect();
        let watch = self.book.watch();
        let candidates: Vec<_> = keys
            .iter()
            .map(|ca| Candidate {
                key: ca.public(),
                revoked: watch.revokes(ca.public().key()),
                answers: ca.unreached().is_none(),
            })
            .collect();
        let by = Circumstances {
            roots,
            chosen: signing.chosen.as_deref(),
            last: signing.last.as_deref(),
            served: &signing.served,
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
        let now = self.clock.now();
        let (keys, choice) = self.trust.elect(roots, &signing, now);
        match choice.signer.and_then(|index| keys.get(index)) {
            Some(ca) => self.sign_with(ca),
            None => self.close(&keys, &choice),
        }
        Ok(())
    }

    /// Asks for keys in KMS that did not answer at the start, until all do.
    pub(super) async fn keep_reaching(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let signers = &self.trust.signers;
            let mut awaited = 0;
            for ca in signers.user_cas() {
                awaited += u32::from(!self.reach(ca.as_ref()).await);
            }
            if let Some(ca) = signers.host.get() {
                awaited += u32::from(!self.reach(ca.as_ref()).await);
            }
            if awaited == 0 {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Whether the key has answered by now.
    async fn reach<K: Kind>(&self, ca: &CertificateAuthority<K>) -> bool {
        if ca.unreached().is_none() {
            return true;
        }
        let key = ca.public();
        match ca.reach().await {
            Ok(arn) => {
                tracing::warn!(ca = %key.fingerprint(), "the key of a CA answers again");
                self.has_reached(arn, key).await;
                true
            }
            Err(error) => {
                tracing::error!(%error, ca = %key.fingerprint(), "ALARM: the key of a CA still does not answer; it is tried again");
                false
            }
        }
    }

    /// A failure here changes nothing that counts: the key is known, and the choice is made again with each bundle.
    async fn has_reached(&self, arn: Option<&str>, key: &CaKey) {
        let pins = self.store.key_pins();
        if let Some(arn) = arn
            && let Err(error) = pins.pin(arn, &key.to_string(), self.clock.now()).await
        {
            tracing::warn!(%error, "the key could not be written down");
        }
        let roots = Arc::clone(self.trust.edition().roots());
        if let Err(error) = self.choose_signer(&roots).await {
            tracing::error!(%error, "it could not be looked which user CA signs");
        }
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
