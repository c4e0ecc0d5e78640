//! Puts bundle and views where hosts fetch them that do not ask this service: each new bundle at once, each view when
//! it has changed. A command does the same once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use eic_protocol::instance_id::InstanceId;
use sha2::{Digest as _, Sha256};

use super::views::NoView;
use super::{App, ViewDesk};
use crate::bundle::Edition;
use crate::bundle::publication::{BUNDLE_FILE, Destination, PublicationError, Round, view_name};
use crate::config::Config;
use crate::store::StoreError;
use crate::together::all_of;

/// Files that are put at once.
const AT_ONCE: usize = 16;
/// Hosts that the log names of those whose views failed.
const NAMED: usize = 5;

/// Where to, and how often it is looked whether views have changed.
pub(super) struct Publishing {
    destination: Destination,
    every: Duration,
    /// What is there.
    latest: ArcSwapOption<Edition>,
}

impl Publishing {
    /// None: the configuration says of no place.
    pub(super) async fn of(config: &Config) -> Result<Option<Self>, PublicationError> {
        let Some(publish) = &config.publish else {
            return Ok(None);
        };
        Ok(Some(Self {
            destination: Destination::open(&publish.to, config.proxy.as_ref()).await?,
            every: Duration::from_secs(publish.every_seconds),
            latest: ArcSwapOption::empty(),
        }))
    }

    /// The edition that hosts find there; none: this process has put none yet.
    pub(super) fn latest(&self) -> Option<Arc<Edition>> {
        self.latest.load_full()
    }
}

/// What was put last, by digest: nothing is put twice.
#[derive(Default)]
pub(crate) struct Published {
    bundle: Option<String>,
    views: HashMap<InstanceId, Digest>,
}

type Digest = [u8; 32];

/// What one publication did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Views that were put.
    pub(crate) views: usize,
    /// Hosts whose views could not be, and why.
    pub(crate) failed: Vec<(InstanceId, NotPut)>,
}

impl App {
    /// Publishes, for as long as the service runs, where the configuration says so.
    pub(super) async fn keep_published(&self) {
        let Some(publishing) = &self.trust.publishing else {
            return;
        };
        let mut news = self.trust.board.subscribe();
        let mut published = Published::default();
        loop {
            let edition = Arc::clone(&news.borrow_and_update());
            let is_outdated = || news.has_changed().unwrap_or(false);
            let done = self.publish_there(publishing, edition, &mut published, is_outdated);
            match done.await {
                Ok(done) => alarm_of(&done.failed),
                Err(error) => {
                    tracing::error!(%error, "ALARM: the trust bundle could not be published; it is tried again");
                }
            }
            let _ = tokio::time::timeout(publishing.every, news.changed()).await;
        }
    }

    async fn publish_there(
        &self,
        publishing: &Publishing,
        edition: Arc<Edition>,
        published: &mut Published,
        is_outdated: impl Fn() -> bool,
    ) -> Result<Done, NotPublished> {
        let (desk, round) = (self.view_desk(), publishing.destination.begin().await?);
        put_bundle(&round, &edition, published, desk.clock.now()).await?;
        publishing.latest.store(Some(Arc::clone(&edition)));
        put_views(&round, &desk, &edition, published, is_outdated).await
    }
}

fn alarm_of(failed: &[(InstanceId, NotPut)]) {
    if failed.is_empty() {
        return;
    }
    tracing::error!(
        views = failed.len(),
        "ALARM: host views could not be published; they are tried again"
    );
    for (host, error) in failed.iter().take(NAMED) {
        tracing::error!(%host, %error, "a host's view could not be published");
    }
}

/// Puts everything once, as [`App::keep_published`] does again and again.
///
/// # Errors
/// [`NotPublished`]: of the bundle; views that fail are in [`Done`], since none must hold the others back.
pub(crate) async fn publish(
    destination: &Destination,
    desk: &ViewDesk<'_>,
    edition: &Edition,
) -> Result<Done, NotPublished> {
    let (round, mut published) = (destination.begin().await?, Published::default());
    put_bundle(&round, edition, &mut published, desk.clock.now()).await?;
    put_views(&round, desk, edition, &mut published, || false).await
}

/// Roots and bundle, where they are not there already.
async fn put_bundle(
    round: &Round<'_>,
    edition: &Edition,
    published: &mut Published,
    now: u64,
) -> Result<(), NotPublished> {
    let answer = edition.answer(None, None).map_err(PublicationError::from)?;
    if published.bundle.as_deref() != Some(answer.tag()) {
        let bytes = answer.body().to_vec();
        round.put(BUNDLE_FILE, bytes, now).await?;
        published.bundle = Some(answer.tag().to_owned());
    }
    Ok(())
}

/// The views of all hosts that have changed, for as long as the bundle is the newest.
async fn put_views(
    round: &Round<'_>,
    desk: &ViewDesk<'_>,
    edition: &Edition,
    published: &mut Published,
    is_outdated: impl Fn() -> bool,
) -> Result<Done, NotPublished> {
    let hosts = desk.hosts().await?;
    let mut done = Done::default();
    for some in hosts.chunks(AT_ONCE) {
        // Revocations do not wait for thousands of views; these are gone through again.
        if is_outdated() {
            break;
        }
        tokio::task::yield_now().await;
        let put = some
            .iter()
            .map(|host| put_view(round, desk, edition, published, host));
        for (host, outcome) in all_of(put).await {
            match outcome {
                Ok(Some(digest)) => {
                    done.views += 1;
                    published.views.insert(host.clone(), digest);
                }
                Ok(None) => {}
                Err(error) => done.failed.push((host.clone(), error)),
            }
        }
    }
    Ok(done)
}

/// The view that was put; none: it is there already, or the host has none.
async fn put_view<'h>(
    round: &Round<'_>,
    desk: &ViewDesk<'_>,
    edition: &Edition,
    published: &Published,
    host: &'h InstanceId,
) -> (&'h InstanceId, Result<Option<Digest>, NotPut>) {
    let before = published.views.get(host);
    (host, put_changed(round, desk, edition, before, host).await)
}

async fn put_changed(
    round: &Round<'_>,
    desk: &ViewDesk<'_>,
    edition: &Edition,
    before: Option<&Digest>,
    host: &InstanceId,
) -> Result<Option<Digest>, NotPut> {
    let Some(view) = desk.view(host, edition).await? else {
        return Ok(None);
    };
    let digest = Sha256::digest(view.json()).into();
    if before == Some(&digest) {
        return Ok(None);
    }
    let (name, bytes) = (view_name(host), view.json().to_vec());
    round.put(&name, bytes, desk.clock.now()).await?;
    Ok(Some(digest))
}

/// Why a host's view was not put; what is there stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotPut {
    /// What it says is not known.
    #[error("renew the view: {0}")]
    View(#[from] NoView),
    /// The destination.
    #[error(transparent)]
    Publication(#[from] PublicationError),
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum NotPublished {
    /// The destination.
    #[error(transparent)]
    Publication(#[from] PublicationError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests;
