//! What is trusted of a CA: its roots, and from its newest bundle the keys in memory that it signs through and what is
//! revoked. A state with the root chain's file behind it; asking the CA is `settings`' work.

use std::sync::{Arc, Mutex};

use eic_protocol::api::certificate::CertificateScope;
use eic_protocol::api::trust_bundle::TrustBundleResponse;
use eic_protocol::krl::Krl;
use eic_protocol::sshsig::Namespace;
use eic_protocol::subject_key::{CaKey, SubjectKey};
use eic_protocol::trust::bundle::Bundle;
use eic_protocol::trust::envelope::{Envelope, Untrusted};
use eic_protocol::trust::root::{Root, ScopedCa};
use ssh_key::Certificate;

use super::lock;
use crate::config::{CaConfig, ConfigError, RootChain};
use crate::paths::Paths;

/// The trust in one CA.
#[derive(Debug)]
pub(super) struct CaTrust {
    paths: Paths,
    config: CaConfig,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    roots: RootChain,
    /// Version of a good root that the CA has and that cannot be taken, since those between are missing.
    ahead: Option<u64>,
    news: Option<Arc<News>>,
}

/// A verified bundle.
#[derive(Debug)]
struct News {
    envelope: Envelope,
    bundle: Bundle,
    revocations: Krl,
    endorsed: Vec<ScopedCa>,
}

impl CaTrust {
    /// By the stored roots.
    pub(super) fn load(paths: &Paths, config: &CaConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            paths: paths.clone(),
            config: config.clone(),
            state: Mutex::new(State {
                roots: RootChain::load(paths, config)?,
                ahead: None,
                news: None,
            }),
        })
    }

    /// With the bundle that was known before the files changed, as far as these roots vouch for it.
    pub(super) fn with_news_of(self, before: &Self) -> Self {
        let news = lock(&before.state).news.clone();
        let mut state = lock(&self.state);
        state.news = news.and_then(|news| news.under(state.roots.root()));
        drop(state);
        self
    }

    pub(super) fn roots(&self) -> RootChain {
        lock(&self.state).roots.clone()
    }

    /// The installed root's version and that of the CA's, where there are others between them.
    pub(super) fn behind(&self) -> Option<(u64, u64)> {
        let state = lock(&self.state);
        let installed = state.roots.root().version;
        state.ahead.map(|offered| (installed, offered))
    }

    /// Keys whose certificates of this scope hosts may accept at `now` (Unix seconds): those of the root, announced
    /// ones included, since `eic-ca keys activate` changes no root; and those that they endorse for these hours.
    pub(super) fn user_cas(&self, scope: &CertificateScope, now: u64) -> Vec<CaKey> {
        let state = lock(&self.state);
        let user = scope.os_user();
        let endorsed = state.news.iter().flat_map(|news| &news.endorsed);
        let all = state.roots.root().trusted_user_cas().chain(endorsed);
        all.filter(|ca| ca.scope.admits(user, user.as_str() == "root", now))
            .map(|ca| ca.key.clone())
            .collect()
    }

    pub(super) fn host_cas(&self) -> Vec<CaKey> {
        lock(&self.state).roots.root().host_cas.clone()
    }

    /// Whether a certificate, of a user or of a host, is on the CA's newest list (F-23).
    pub(super) fn revokes(&self, certificate: &Certificate) -> bool {
        let news = lock(&self.state).news.clone();
        news.is_some_and(|news| news.revocations.is_revoked(certificate))
    }

    /// Takes roots that follow the installed ones, each signed by the threshold of the one before it. `offered` is
    /// the version of the newest that the CA has. The pinned fingerprints count at setup only; later a root key
    /// alone could lower the threshold by them.
    pub(super) fn take_roots(&self, following: &[Envelope], offered: u64) {
        let installed = self.roots();
        let step = |chain: RootChain, envelope: &Envelope| chain.followed_by(envelope.clone()).ok();
        let walked = following.iter().try_fold(installed.clone(), step);
        let stored = walked
            .filter(|chain| chain.root().version > installed.root().version)
            .map(|chain| chain.advance(&self.paths, &self.config));
        let mut state = lock(&self.state);
        // One that cannot be stored is not used: the next start would not know it.
        if let Some(Ok(roots)) = stored {
            state.news = state.news.take().and_then(|news| news.under(roots.root()));
            state.roots = roots;
        }
        state.ahead = Some(offered).filter(|offered| *offered > state.roots.root().version);
    }

    /// Takes the root of the CA's discovery document, where it is the next one.
    ///
    /// # Errors
    /// [`Untrusted::Gap`] where there are others between.
    pub(super) fn take_next(&self, root: Envelope) -> Result<(), Untrusted> {
        let next = self.roots().followed_by(root.clone())?;
        self.take_roots(&[root], next.root().version);
        Ok(())
    }

    /// Takes roots and bundle of an answer. A bundle that is older or not by the CA's bundle key changes nothing.
    pub(super) fn take(&self, answer: &TrustBundleResponse, now: u64) {
        let unwalked = lock(&self.state).ahead.unwrap_or(0);
        self.take_roots(&answer.roots, unwalked);
        let mut state = lock(&self.state);
        let root = state.roots.root().clone();
        let Ok(bundle) = Bundle::verified(&answer.bundle, &root, now) else {
            return;
        };
        let follows = |news: &Arc<News>| {
            news.envelope.signed == answer.bundle.signed
                || bundle.check_follows(&news.bundle, now).is_ok()
        };
        if state.news.as_ref().is_none_or(follows) {
            state.news = News::new(answer.bundle.clone(), bundle, &root).map(Arc::new);
        }
    }
}

impl News {
    fn new(envelope: Envelope, bundle: Bundle, root: &Root) -> Option<Self> {
        Some(Self {
            revocations: bundle.revocations.read().ok()?,
            endorsed: bundle.endorsed(root).cas,
            envelope,
            bundle,
        })
    }

    /// The same under another root, where its bundle key is still trusted.
    fn under(&self, root: &Root) -> Option<Arc<Self>> {
        let ours = |key: &SubjectKey| root.bundle_keys.contains(key);
        self.envelope.verified(Namespace::Bundle, 1, ours).ok()?;
        Self::new(self.envelope.clone(), self.bundle.clone(), root).map(Arc::new)
    }
}
