//! Puts bundle and views where hosts fetch them that do not ask this service: each new bundle at once, each view when
//! it has changed. A command does the same once.

use std::collections::HashMap;
use std::time::Duration;

use eic_protocol::instance_id::InstanceId;
use sha2::{Digest as _, Sha256};

use super::{App, ViewDesk};
use crate::bundle::Edition;
use crate::bundle::publication::{BUNDLE_FILE, Destination, PublicationError, Round, view_name};
use crate::config::Config;
use crate::inventory::ec2::together::all_of;
use crate::store::StoreError;

/// Files that are put at once.
const AT_ONCE: usize = 16;

/// Where to, and how often it is looked whether views have changed.
pub(super) struct Publishing {
    destination: Destination,
    every: Duration,
}

impl Publishing {
    /// None: the configuration says of no place.
    pub(super) async fn of(config: &Config) -> Result<Option<Self>, PublicationError> {
        let Some(publish) = &config.publish else {
            return Ok(None);
        };
        Ok(Some(Self {
            destination: Destination::open(publish).await?,
            every: Duration::from_secs(publish.every_seconds),
        }))
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
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Views that were put.
    pub(crate) views: usize,
    /// Views that could not be.
    pub(crate) failed: usize,
}

impl App {
    /// Publishes, for as long as the service runs, where the configuration says so.
    pub(super) async fn keep_published(&self) {
        let Some(Publishing { destination, every }) = &self.trust.publishing else {
            return;
        };
        let mut news = self.trust.board.subscribe();
        let mut published = Published::default();
        loop {
            let edition = std::sync::Arc::clone(&news.borrow_and_update());
            let desk = self.view_desk();
            let is_outdated = || news.has_changed().unwrap_or(false);
            match publish(destination, &desk, &edition, &mut published, is_outdated).await {
                Ok(Done { failed: 0, .. }) => {}
                Ok(done) => tracing::error!(
                    views = done.failed,
                    "ALARM: host views could not be published; they are tried again"
                ),
                Err(error) => {
                    tracing::error!(%error, "ALARM: the trust bundle could not be published; it is tried again");
                }
            }
            let _ = tokio::time::timeout(*every, news.changed()).await;
        }
    }
}

/// Puts what has changed: roots and bundle, then the views of all hosts, for as long as the bundle is the newest.
///
/// # Errors
/// [`NotPublished`]: of the bundle; a view that fails is counted, since it must not hold the others back.
pub(crate) async fn publish(
    destination: &Destination,
    desk: &ViewDesk<'_>,
    edition: &Edition,
    published: &mut Published,
    is_outdated: impl Fn() -> bool,
) -> Result<Done, NotPublished> {
    let round = destination.begin(desk.clock.now()).await?;
    let answer = edition.answer(None, None).map_err(PublicationError::from)?;
    if published.bundle.as_deref() != Some(answer.tag()) {
        round.put(BUNDLE_FILE, answer.body().to_vec()).await?;
        published.bundle = Some(answer.tag().to_owned());
    }
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
            .map(|host| put_view(&round, desk, edition, published, host));
        for (host, outcome) in all_of(put).await {
            match outcome {
                Ok(Some(digest)) => {
                    done.views += 1;
                    published.views.insert(host.clone(), digest);
                }
                Ok(None) => {}
                Err(error) => {
                    done.failed += 1;
                    tracing::warn!(%host, %error, "a host's view could not be published");
                }
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
) -> (&'h InstanceId, Result<Option<Digest>, PublicationError>) {
    let Some(view) = desk.view_of(host, edition).await else {
        return (host, Ok(None));
    };
    let digest = Sha256::digest(view.json()).into();
    if published.views.get(host) == Some(&digest) {
        return (host, Ok(None));
    }
    let put = round.put(&view_name(host), view.json().to_vec()).await;
    (host, put.map(|()| Some(digest)))
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
