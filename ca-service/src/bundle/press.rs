//! Makes editions: what is revoked becomes a signed bundle with numbers that never go back.

use std::sync::Arc;

use eic_protocol::krl::{Comment, RevocationSet, TooLarge};
use eic_protocol::trust::bundle::{Bundle, RevocationList};
use eic_protocol::trust::endorsement::Endorsement;
use eic_protocol::trust::envelope::Envelope;
use sha2::{Digest as _, Sha256};

use super::edition::Edition;
use crate::config::bundle::BundleConfig;
use crate::keys::RootHistory;
use crate::signer::document::{DocumentError, ListKey};
use crate::store::StoreError;
use crate::store::trust::{BundleNumbers, Endorsed, Revoked, TrustBook};

/// A bundle is signed anew after this part of the time for which it is fresh.
const RENEWALS: u64 = 4;
/// How often the content is looked at although nobody said that it changed: entries end by themselves. Seconds.
const LOOK: u64 = 60;

/// Why there is no new bundle. The one before stays.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The list.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The signature.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// Makes editions.
pub struct Press {
    book: TrustBook,
    key: ListKey,
    rules: BundleConfig,
}

/// A list without its number and time, and the endorsements beside it.
struct Draft {
    revoked: Revoked,
    content: [u8; 32],
    endorsements: Vec<Envelope>,
}

impl Press {
    /// A press that signs with this key.
    #[must_use]
    pub fn new(book: TrustBook, key: ListKey, rules: BundleConfig) -> Self {
        Self { book, key, rules }
    }

    /// The next edition. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`BundleError`]
    pub async fn print(&self, roots: &Arc<RootHistory>, now: u64) -> Result<Edition, BundleError> {
        let draft = self.draft(roots, now).await?;
        self.edition(draft, roots, now).await
    }

    /// The next edition, where `present` is not what would be made: another root, other content, or old.
    /// `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`BundleError`]
    pub async fn renewed(
        &self,
        present: &Edition,
        roots: &Arc<RootHistory>,
        now: u64,
    ) -> Result<Option<Edition>, BundleError> {
        let draft = self.draft(roots, now).await?;
        let document = present.bundle();
        let same = draft.content == present.content()
            && !draft.revoked.reset_wanted
            && document.root_version == roots.version()
            && document.endorsements == draft.endorsements;
        if same && now < self.renew_at(present) {
            present.reached(draft.revoked.revision, now.saturating_add(LOOK));
            return Ok(None);
        }
        self.edition(draft, roots, now).await.map(Some)
    }

    fn renew_at(&self, edition: &Edition) -> u64 {
        let after = self.rules.refresh_seconds / RENEWALS;
        edition.bundle().issued.saturating_add(after)
    }

    async fn draft(&self, roots: &RootHistory, now: u64) -> Result<Draft, BundleError> {
        let mut revoked = self.book.revoked().await?;
        // After the list: what is newer than it is looked at again with the next revision.
        let endorsed = self.book.endorsed(now).await?;
        revoked.set.prune(now);
        if revoked.homeless > 0 {
            tracing::error!(
                entries = revoked.homeless,
                "ALARM: revocations of CAs that no root ever named cannot be listed"
            );
        }
        // Number and time are not content: else no list would be like another.
        let krl = revoked.set.krl(1, 0, Comment::default()).encode()?;
        let content = Sha256::digest(&krl.bytes).into();
        Ok(Draft {
            revoked,
            content,
            endorsements: endorsements(endorsed, roots),
        })
    }

    async fn edition(
        &self,
        draft: Draft,
        roots: &Arc<RootHistory>,
        now: u64,
    ) -> Result<Edition, BundleError> {
        // Durable before anybody can see them: after a restart, none is used again.
        let numbers = self.book.next_numbers(draft.content, now).await?;
        let list = list(&draft.revoked.set, &numbers)?;
        let issued = now.max(numbers.generated);
        let bundle = Bundle {
            sequence: numbers.sequence,
            root_version: roots.version(),
            issued,
            refresh_after: issued.saturating_add(self.rules.refresh_seconds),
            hard_stop: self
                .rules
                .hard_stop_seconds
                .map(|seconds| issued.saturating_add(seconds)),
            // No floor: a view that is held back ends by its own dates, and one that cannot be renewed (EC2 does
            // not answer) must not lock a host that fetches its bundles.
            oldest_view: 0,
            revocations: list,
            endorsements: draft.endorsements,
        };
        let envelope = self.key.seal(&bundle)?;
        tracing::info!(
            sequence = bundle.sequence,
            list = bundle.revocations.number,
            entries = draft.revoked.set.len(),
            "a trust bundle was made"
        );
        let edition = Edition::new(bundle, envelope, Arc::clone(roots), draft.content);
        edition.reached(draft.revoked.revision, now.saturating_add(LOOK));
        Ok(edition)
    }
}

/// Those that hosts with this root take: an endorser that is retired or revoked takes its keys along.
fn endorsements(endorsed: Vec<Endorsed>, roots: &RootHistory) -> Vec<Envelope> {
    let counts = |key: &Endorsed| {
        let root = roots.present();
        !key.revoked && root.is_some_and(|root| Endorsement::verified(&key.document, root).is_ok())
    };
    let counting = endorsed.into_iter().filter(counts);
    counting.map(|key| key.document).collect()
}

fn list(set: &RevocationSet, numbers: &BundleNumbers) -> Result<RevocationList, TooLarge> {
    let krl = set.krl(numbers.number, numbers.generated, Comment::default());
    let encoded = krl.encode()?;
    if let Some(warning) = encoded.warning {
        tracing::warn!(%warning, "ALARM: the revocation list is over its budget");
    }
    Ok(RevocationList::new(
        encoded.bytes,
        numbers.number,
        numbers.reset_at,
        set.expiring(),
    ))
}
