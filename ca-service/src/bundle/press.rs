//! Makes editions: what is revoked becomes a signed bundle with numbers that never go back.

use std::collections::BTreeMap;
use std::sync::Arc;

use eic_protocol::krl::{Comment, EncodedKrl, RevocationSet, Target, TooLarge};
use eic_protocol::trust::bundle::{Bundle, RevocationList};
use eic_protocol::trust::endorsement::Endorsement;
use eic_protocol::trust::envelope::Envelope;
use sha2::{Digest as _, Sha256};

use super::edition::{Edition, LOOK};
use super::shares;
use crate::clock::Moment;
use crate::config::bundle::BundleConfig;
use crate::keys::RootHistory;
use crate::signer::document::{DocumentError, ListKey};
use crate::store::trust::{
    BundleNumbers, DraftedList, Endorsed, Revoked, TrustBook, handed_in, revoked_and_numbered,
};
use crate::store::{Reader, StoreError};

/// A bundle is signed anew after this part of the time for which it is fresh.
const RENEWALS: u64 = 4;

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
    /// Entries that no list has room for.
    left_out: usize,
}

impl Draft {
    /// Nobody is told that what he revoked is in force while something has no room.
    fn is_told_to(&self, edition: &Edition, now: u64) {
        if self.left_out == 0 {
            edition.holds(self.revoked.revision);
        }
        edition.reached(self.revoked.revision, now.saturating_add(LOOK));
    }
}

impl Press {
    /// A press that signs with this key.
    #[must_use]
    pub fn new(book: TrustBook, key: ListKey, rules: BundleConfig) -> Self {
        Self { book, key, rules }
    }

    /// The next edition.
    ///
    /// # Errors
    /// [`BundleError`]
    pub async fn print(
        &self,
        roots: &Arc<RootHistory>,
        at: Moment,
    ) -> Result<Edition, BundleError> {
        let draft = self.draft(roots, at).await?;
        self.edition(draft, roots, at).await
    }

    /// The next edition, where `present` is not what would be made: another root, other content, or old.
    ///
    /// # Errors
    /// [`BundleError`]
    pub async fn renewed(
        &self,
        present: &Edition,
        roots: &Arc<RootHistory>,
        at: Moment,
    ) -> Result<Option<Edition>, BundleError> {
        let draft = self.draft(roots, at).await?;
        let document = present.bundle();
        let same = draft.content == present.content()
            && !draft.revoked.reset_wanted
            && document.root_version == roots.version()
            && document.endorsements == draft.endorsements;
        if same && at.now < self.renew_at(present) {
            draft.is_told_to(present, at.now);
            return Ok(None);
        }
        self.edition(draft, roots, at).await.map(Some)
    }

    fn renew_at(&self, edition: &Edition) -> u64 {
        let after = self.rules.refresh_seconds / RENEWALS;
        edition.bundle().issued.saturating_add(after)
    }

    async fn draft(&self, roots: &RootHistory, at: Moment) -> Result<Draft, BundleError> {
        let mut revoked = self.book.revoked().await?;
        // After the list: what is newer than it is looked at again with the next revision.
        let endorsed = self.book.endorsed(at.now).await?;
        revoked.set.prune(at.passed);
        if revoked.homeless > 0 {
            tracing::error!(
                entries = revoked.homeless,
                "ALARM: revocations of CAs that no root ever named cannot be listed"
            );
        }
        let (krl, left_out) = match encoded(&revoked.set) {
            Ok(list) => (list, 0),
            Err(_) => {
                let ranks = shares::ranks(self.book.handed_in().await?);
                fitting(&mut revoked.set, &ranks)?
            }
        };
        if left_out > 0 {
            tracing::error!(
                left_out,
                "ALARM: revocations are not in force, since a list that sshd reads in time has no room for them; those left out are of \
                 whoever made most. Retire the CA key whose certificates they are (`eic-ca keys retire --now`), which is one entry"
            );
        }
        let content = Sha256::digest(&krl.bytes).into();
        Ok(Draft {
            revoked,
            content,
            endorsements: endorsements(endorsed, roots),
            left_out,
        })
    }

    async fn edition(
        &self,
        draft: Draft,
        roots: &Arc<RootHistory>,
        at: Moment,
    ) -> Result<Edition, BundleError> {
        // Durable before anybody can see them: after a restart, none is used again.
        let drafted = DraftedList {
            content: draft.content,
            revision: draft.revoked.revision,
            lacks_entries: draft.left_out > 0,
        };
        let numbers = self.book.next_numbers(drafted, at).await?;
        let list = list(&draft.revoked.set, &numbers)?;
        let issued = at.now.max(numbers.generated);
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
            endorsements: draft.endorsements.clone(),
        };
        let envelope = self.key.seal(&bundle)?;
        tracing::info!(
            sequence = bundle.sequence,
            list = bundle.revocations.number,
            entries = draft.revoked.set.len(),
            "a trust bundle was made"
        );
        let edition = Edition::new(bundle, envelope, Arc::clone(roots), draft.content);
        draft.is_told_to(&edition, at.now);
        Ok(edition)
    }
}

/// The sequence of the first bundle with all that is revoked now; none: no bundle has it yet. Later bundles of the same list
/// have higher numbers, and a host is told nothing more by them. `passed` as in [`Moment`], in Unix seconds.
///
/// # Errors
/// [`BundleError`]
pub fn first_bundle_with_all(reader: &Reader, passed: u64) -> Result<Option<u64>, BundleError> {
    let (mut revoked, numbered) = revoked_and_numbered(reader)?;
    revoked.set.prune(passed);
    let list = match encoded(&revoked.set) {
        Ok(list) => list,
        Err(_) => fitting(&mut revoked.set, &shares::ranks(handed_in(reader)?))?.0,
    };
    let same = Sha256::digest(&list.bytes).as_slice() == numbered.content;
    Ok((same && !revoked.reset_wanted).then_some(numbered.number))
}

/// The list of a set. Number and time are not content: else no list would be like another.
fn encoded(set: &RevocationSet) -> Result<EncodedKrl, TooLarge> {
    set.krl(1, 0, Comment::default()).encode()
}

/// The list of a set that is too large, and how many entries were taken out of the set to make room. Without any list
/// hosts would hear of no revocation at all, so the last of those who made most gives way ([`shares`]), and of equals
/// what ends by itself, and soonest; the keys of CAs last.
fn fitting(
    set: &mut RevocationSet,
    ranks: &BTreeMap<Target, usize>,
) -> Result<(EncodedKrl, usize), TooLarge> {
    let mut entries: Vec<(Target, Option<u64>)> = set
        .iter()
        .map(|(target, end)| (target.clone(), end))
        .collect();
    entries.sort_by_key(|(target, end)| {
        let ca = !matches!(target, Target::CaKey(_));
        // What came since they were ranked is new, and first.
        let rank = ranks.get(target).copied().unwrap_or_default();
        (ca, rank, std::cmp::Reverse(end.unwrap_or(u64::MAX)))
    });
    let first = |count: usize| {
        let mut some = RevocationSet::new();
        for (target, end) in entries.iter().take(count) {
            some.insert(target.clone(), *end);
        }
        some
    };
    let (mut fits, mut not) = (0, entries.len());
    while not - fits > 1 {
        let middle = fits.midpoint(not);
        match encoded(&first(middle)) {
            Ok(_) => fits = middle,
            Err(_) => not = middle,
        }
    }
    *set = first(fits);
    Ok((encoded(set)?, entries.len() - fits))
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

#[cfg(test)]
mod tests {
    use eic_protocol::serial::Serial;
    use eic_protocol::subject_key::CaKey;

    use super::*;
    use crate::issuance::tests::{local_signer, subject};
    use crate::keys::KeyType;
    use crate::store::trust::HandedIn;

    const ENDS: u64 = 1_800_000_000;

    fn serial(n: u64) -> Serial {
        // Far apart, so that each costs its eight bytes.
        Serial::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1).unwrap()
    }

    #[test]
    fn where_not_all_has_room_what_ends_soonest_is_left_out_and_no_key() {
        let ca: CaKey = local_signer(KeyType::Ed25519).public().clone();
        let mut set = RevocationSet::new();
        for n in 1..=70_000 {
            set.insert(Target::serial(ca.clone(), serial(n)), Some(ENDS + n));
        }
        let own = Target::Key((&subject()).into());
        for forever in [own.clone(), Target::CaKey(ca.clone())] {
            set.insert(forever, None);
        }
        let (list, left_out) = fitting(&mut set, &BTreeMap::new()).unwrap();
        assert!(left_out > 1_000 && left_out < 10_000, "{left_out}");
        let list = eic_protocol::krl::read(&list.bytes).unwrap();
        assert!(list.revokes_key(ca.key().blob()));
        let kept: Vec<_> = set.iter().collect();
        assert_eq!(kept.len(), 70_002 - left_out);
        let soonest = kept.iter().filter_map(|(_, end)| *end).min().unwrap();
        assert_eq!(soonest, ENDS + 1 + u64::try_from(left_out).unwrap());
        assert!(kept.iter().any(|(target, _)| **target == own));
    }

    #[test]
    fn who_revokes_most_loses_room_and_nobody_else() {
        let ca: CaKey = local_signer(KeyType::Ed25519).public().clone();
        let mut set = RevocationSet::new();
        let mut handed_in = Vec::new();
        let mut revoke = |n: u64, by: &str, end: u64| {
            let target = Target::serial(ca.clone(), serial(n));
            set.insert(target.clone(), Some(end));
            handed_in.push(HandedIn {
                target,
                end: Some(end),
                by: by.to_owned(),
                call: n.to_be_bytes().to_vec(),
            });
        };
        // Those of others end sooner than the many.
        (1..=100).for_each(|n| revoke(n, "officer", ENDS));
        (101..=70_000).for_each(|n| revoke(n, "crowd", ENDS + n));
        let (_, left_out) = fitting(&mut set, &shares::ranks(handed_in)).unwrap();
        assert!(left_out > 1_000, "{left_out}");
        let kept: Vec<_> = set.iter().map(|(target, _)| target.clone()).collect();
        let lost = (1..=100).find(|n| !kept.contains(&Target::serial(ca.clone(), serial(*n))));
        assert_eq!(lost, None);
    }
}
