//! `GET /v1/trust-bundle`: from memory, at once or when there is news; and the keeper that makes the news.
//! Anybody may ask: all that is answered is signed, and what a question may cost is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eic_protocol::api::trust_bundle::TrustBundleQuery;
use eic_protocol::subject_key::CaKey;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

mod endorsed;
mod publisher;
mod schedule;
mod signer;
mod views;

pub(crate) use publisher::{NotPublished, NotPut, publish};
pub(crate) use views::ViewDesk;

use super::App;
use super::start::{StartError, policy_sources};
use crate::bundle::{Answer, BundleError, Edition, HostViews, Press};
use crate::clock::Clock;
use crate::config::Config;
use crate::keys::{KeyMaterial, RootHistory, named_keys};
use crate::refusal::Refusal;
use crate::store::trust::TrustBook;
use crate::store::{Store, StoreError};

/// How often the keeper looks whether it is time for something. A change in the store wakes it at once.
const TICK: Duration = Duration::from_secs(1);
/// Shortest time between two editions: each goes to every host that waits, and hosts that were off for long take no more
/// of them than ten for each second.
const PACE: Duration = Duration::from_millis(200);
/// How often a host's view is looked at while its request waits.
const LOOK_AT_VIEW: Duration = Duration::from_secs(30);
/// How long a revocation may take into a bundle before its caller is told that it did not.
const IN_FORCE: Duration = Duration::from_secs(5);
/// Callers that were revoked so short a time ago may have been let in by what was in memory. Seconds.
const SWEPT: u64 = 60;

/// What the bundle is made of and answered from.
pub(crate) struct TrustDesk {
    pub(super) book: TrustBook,
    press: Press,
    board: watch::Sender<Arc<Edition>>,
    views: HostViews,
    waiting: Semaphore,
    signers: signer::Signers,
    endorsing: Option<endorsed::Endorsing>,
    publishing: Option<publisher::Publishing>,
    schedule: Option<schedule::Schedule>,
    /// The newest root of which it is written down since when hosts could fetch it.
    noted_root: AtomicU64,
}

impl TrustDesk {
    /// Makes the first edition: nothing is served without one.
    ///
    /// # Errors
    /// [`StartError`]
    pub(super) async fn open(
        config: &Config,
        store: &Store,
        keys: &KeyMaterial,
        clock: &Clock,
    ) -> Result<Self, StartError> {
        let roots = Arc::new(RootHistory::read(&config.keys.root_document)?);
        let book = store.trust_book();
        book.know_cas(roots.cas()).await?;
        note_first_root(&book, &roots, clock.now()).await?;
        for key in roots.iter().flat_map(|(root, _)| named_keys(root)) {
            keys.special.add(key);
        }
        for endorsed in book.endorsed(clock.now()).await? {
            keys.special.add(endorsed.key.key());
        }
        let press = Press::new(book.clone(), keys.bundle.for_bundles(), config.bundle);
        book.forget_unused_endorsed(clock.now()).await?;
        let first = press.print(&roots, clock.moment()).await?;
        Ok(Self {
            book,
            press,
            board: watch::Sender::new(Arc::new(first)),
            views: HostViews::new(keys.bundle.shared(), config.bundle),
            waiting: Semaphore::new(config.bundle.long_polls),
            signers: signer::Signers::new(config.keys.propagation_seconds),
            endorsing: endorsed::Endorsing::of(config, policy_sources(config).settings),
            publishing: publisher::Publishing::of(config).await?,
            schedule: schedule::Schedule::of(&config.keys),
            noted_root: AtomicU64::new(0),
        })
    }

    /// Nothing is signed with a key that hosts are told to refuse, or cannot know.
    ///
    /// # Errors
    /// As [`Self::check_ca`]; [`Refusal::KeyNotPropagated`]
    pub(super) fn check_user_ca(&self, ca: &CaKey) -> Result<(), Refusal> {
        self.check_ca(ca)?;
        self.signers.check()
    }

    /// Nothing is signed with a key that hosts are told to refuse, or that has not answered since the start.
    ///
    /// # Errors
    /// [`Refusal::CaRevoked`], [`Refusal::Issue`]
    pub(super) fn check_ca(&self, ca: &CaKey) -> Result<(), Refusal> {
        if self.book.watch().revokes(ca.key()) {
            return Err(Refusal::CaRevoked);
        }
        self.signers.check_reached(ca)
    }

    /// The present edition.
    pub(super) fn edition(&self) -> Arc<Edition> {
        Arc::clone(&self.board.borrow())
    }

    /// The latest edition that hosts can fetch wherever they do: here, and where it is published; none: none yet.
    fn available(&self) -> Option<Arc<Edition>> {
        match &self.publishing {
            Some(publishing) => publishing.latest(),
            None => Some(self.edition()),
        }
    }

    /// Writes down since when hosts can fetch the root. `now` is in Unix seconds.
    pub(super) async fn note_root(&self, now: u64) -> Result<(), StoreError> {
        let Some(edition) = self.available() else {
            return Ok(());
        };
        let root = edition.roots().present();
        let new = root.filter(|root| root.version > self.noted_root.load(Ordering::Relaxed));
        if let Some(root) = new {
            self.book
                .root_is_served(root.version, root.issued, now)
                .await?;
            self.noted_root.store(root.version, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The sequence of the first edition that holds what was revoked up to this revision of the store.
    pub(super) async fn in_force(&self, revision: u64) -> Option<u64> {
        let mut news = self.board.subscribe();
        let holds = news.wait_for(|edition| edition.revision() >= revision);
        let edition = tokio::time::timeout(IN_FORCE, holds).await.ok()?.ok()?;
        Some(edition.bundle().sequence)
    }
}

/// Where no root is noted, one is: a store that has signed is older than the notes, and its hosts count as up to date; in
/// a new one hosts have the root that they were installed with, and must be able to fetch any later one.
async fn note_first_root(
    book: &TrustBook,
    roots: &RootHistory,
    now: u64,
) -> Result<(), StoreError> {
    let signing = book.signing().await?;
    if !signing.served.is_empty() {
        return Ok(());
    }
    let oldest = roots.iter().next().map(|(root, _)| root);
    let first = match signing.last {
        Some(_) => roots.present(),
        None => oldest,
    };
    match first {
        Some(root) => book.root_is_served(root.version, root.issued, now).await,
        None => Ok(()),
    }
}

/// What a host gets.
pub(crate) enum TrustAnswer {
    /// What it has.
    Unchanged(String),
    /// Something else.
    News(Answer),
}

impl App {
    /// Answers a host; with `wait`, when there is something else than what it has.
    ///
    /// # Errors
    /// [`Refusal`]
    pub(crate) async fn trust_bundle(
        &self,
        query: &TrustBundleQuery,
        known: impl Fn(&str) -> bool,
    ) -> Result<TrustAnswer, Refusal> {
        let end = Instant::now() + Duration::from_secs(query.wait_seconds());
        let mut news = self.trust.board.subscribe();
        let mut place = None;
        loop {
            let edition = Arc::clone(&news.borrow_and_update());
            let view = match &query.host {
                Some(host) => self.view_desk().view_of(host, &edition).await,
                None => None,
            };
            let answer = edition.answer(query.root, view)?;
            if !known(answer.tag()) {
                return Ok(TrustAnswer::News(answer));
            }
            place = place.or_else(|| self.trust.waiting.try_acquire().ok());
            if Instant::now() >= end || place.is_none() || self.trust.waiting.is_closed() {
                return Ok(TrustAnswer::Unchanged(answer.tag().to_owned()));
            }
            // However this ends, the loop looks again.
            let pause = end.min(Instant::now() + LOOK_AT_VIEW);
            let _ = tokio::time::timeout_at(pause, news.changed()).await;
        }
    }

    /// Who waits is answered, and nobody waits any more: the service ends.
    pub fn end_waits(&self) {
        self.trust.waiting.close();
        self.trust.board.send_modify(|_| {});
    }

    /// Makes the news, and the keys in memory that it names, for as long as the service runs.
    pub async fn keep_bundle(self: Arc<Self>) {
        // Neither waits for the other: a key in KMS that does not answer holds no revocation back.
        tokio::join!(
            self.keep_editions(),
            self.keep_endorsed(),
            self.keep_published(),
            self.keep_schedule(),
            self.keep_reaching()
        );
    }

    async fn keep_editions(&self) {
        let mut changes = self.trust.book.watch().changes();
        let mut stamp = super::reload::stamp(self.discovery_source.path());
        let mut next = Instant::now();
        loop {
            let changed = tokio::time::timeout(TICK, changes.changed()).await.is_ok();
            if let Err(error) = self.trust.note_root(self.clock.now()).await {
                tracing::error!(%error, "it could not be written down that hosts can fetch a root; it is tried again");
            }
            let now_stamp = super::reload::stamp(self.discovery_source.path());
            let edition = self.trust.edition();
            let behind = edition.compared() < *changes.borrow();
            let due = edition.is_due(self.clock.now());
            if !(changed || behind || due || now_stamp != stamp) {
                continue;
            }
            tokio::time::sleep_until(next).await;
            next = Instant::now() + PACE;
            match self.renew_bundle(&edition).await {
                Ok(()) => stamp = now_stamp,
                // The next tick tries again; hosts keep what they have.
                Err(error) => {
                    tracing::error!(%error, "ALARM: no new trust bundle could be made; the last one is served");
                }
            }
        }
    }

    async fn renew_bundle(&self, present: &Edition) -> Result<(), StartError> {
        let now = self.clock.now();
        let roots = match RootHistory::read(self.discovery_source.path()) {
            Ok(roots) if self.is_successor(present, &roots) => {
                self.trust.book.know_cas(roots.cas()).await?;
                for key in roots.present().into_iter().flat_map(named_keys) {
                    self.issuer.special().add(key);
                }
                Arc::new(roots)
            }
            Ok(_) => Arc::clone(present.roots()),
            Err(error) => {
                tracing::error!(%error, "ALARM: the root document cannot be loaded; the last one is served");
                Arc::clone(present.roots())
            }
        };
        self.choose_signer(&roots).await?;
        let sweep = self.trust.book.sweep(now.saturating_sub(SWEPT), now);
        sweep.await?;
        let at = self.clock.moment();
        let renewed = self.trust.press.renewed(present, &roots, at).await?;
        if let Some(edition) = renewed {
            self.publish(edition);
        } else {
            // Who waits for a revision that changed nothing is told as well.
            self.trust.board.send_modify(|_| {});
        }
        Ok(())
    }

    /// A root that is not newer, that does not trust our own bundle key, or to which nothing leads from the one that hosts
    /// have, would strand every host.
    fn is_successor(&self, present: &Edition, roots: &RootHistory) -> bool {
        let newer = roots.version() > present.roots().version();
        let ours = self.trust.views.key();
        let trusted = roots
            .present()
            .is_some_and(|root| root.bundle_keys.contains(ours));
        if newer && !trusted {
            tracing::error!(
                "ALARM: the new root does not name the bundle key that this process signs with; restart with the new key"
            );
        }
        let continued = roots.continues(present.roots());
        if newer && !continued {
            tracing::error!(
                "ALARM: nothing leads from the root that is served to the new one, and no host could follow; put the roots between (root.<version>.json) beside it"
            );
        }
        newer && trusted && continued
    }

    fn publish(&self, edition: Edition) {
        let edition = Arc::new(edition);
        if let Some((_, root)) = edition.roots().iter().last() {
            let bytes = self
                .discovery_source
                .bytes(root, Some(edition.bundle().sequence));
            match bytes {
                Ok(bytes) => self.discovery.store(Arc::new(bytes)),
                Err(error) => tracing::error!(%error, "discovery could not be written"),
            }
        }
        self.trust.board.send_replace(edition);
    }
}

impl From<BundleError> for StartError {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Store(error) => Self::Store(error),
            other => Self::Bundle(other),
        }
    }
}
