//! All instances of the places: for names, for lists, for fleets.
//! What is decided with is at most 30 s old; only names may be looked up in something older.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use eic_aws::ec2::Which;
use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;

use super::{Ec2Inventory, Place, Shared, all_of, no_answer, within};
use crate::inventory::record::InstanceRecord;
use crate::inventory::{InventoryError, MAX_AGE};

/// Longest reading of one place: 20 pages of EC2's slow hours. It goes on when its asker has gone.
const DEADLINE: Duration = Duration::from_secs(25);
/// Longest wait for it. Clients give up after 8 s.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a place that failed is not asked again. Seconds.
const RETRY_AFTER: u64 = 2;
/// Oldest listing that names are looked up in. Seconds.
const NAMES_FOR: u64 = 86_400;

/// The hosts of one place.
pub(super) type Hosts = Arc<HashMap<InstanceId, Arc<InstanceRecord>>>;

/// What is known of a place.
#[derive(Default)]
pub(super) struct Listing {
    read_at: Option<u64>,
    hosts: Hosts,
    /// Since the last good reading: when, and what it said.
    failed: Option<(u64, InventoryError)>,
}

/// Hosts of all places.
#[derive(Default)]
pub(in crate::inventory) struct Listed {
    pub(in crate::inventory) hosts: Vec<Arc<InstanceRecord>>,
    /// Why the hosts of some places are missing, or old.
    pub(in crate::inventory) failure: Option<InventoryError>,
}

impl Listing {
    pub(super) fn read_at(&self) -> Option<u64> {
        self.read_at
    }

    pub(super) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    fn is_younger_than(&self, age: u64, now: u64) -> bool {
        self.read_at.is_some_and(|at| now.abs_diff(at) < age)
    }
}

impl Place {
    /// Never held across an await.
    pub(super) fn listing(&self) -> MutexGuard<'_, Listing> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, now: u64) -> Option<Hosts> {
        let listing = self.listing();
        listing
            .is_younger_than(MAX_AGE, now)
            .then(|| Arc::clone(&listing.hosts))
    }

    fn failed_lately(&self, now: u64) -> Option<InventoryError> {
        let listing = self.listing();
        let (at, error) = listing.failed.as_ref()?;
        (now.abs_diff(*at) < RETRY_AFTER).then(|| error.clone())
    }

    /// The last listing, while the place fails.
    fn last(&self, now: u64) -> Option<Hosts> {
        let listing = self.listing();
        let usable = listing.failed.is_some() && listing.is_younger_than(NAMES_FOR, now);
        usable.then(|| Arc::clone(&listing.hosts))
    }

    fn note_failure(&self, error: &InventoryError, now: u64) {
        self.listing().failed = Some((now, error.clone()));
    }
}

impl Ec2Inventory {
    /// All hosts of the places that answer, with facts at most 30 s old.
    pub(in crate::inventory) async fn all(&self, now: u64) -> Listed {
        let mut listed = Listed::default();
        let places = 0..self.shared.places.len();
        for answer in all_of(places.map(|at| self.listing(at, now))).await {
            match answer {
                Ok(hosts) => listed.hosts.extend(hosts.values().cloned()),
                Err(error) => listed.failure = Some(error),
            }
        }
        listed
    }

    /// All hosts of these accounts and Regions (none named: all Regions); each place must answer.
    pub(in crate::inventory) async fn all_in(
        &self,
        accounts: &[AccountId],
        regions: &[AwsRegion],
        now: u64,
    ) -> Result<Vec<Arc<InstanceRecord>>, InventoryError> {
        let wanted = |place: &Place| {
            accounts.contains(&place.account)
                && (regions.is_empty() || regions.contains(&place.region))
        };
        let places = self.shared.places.iter().enumerate();
        let places = places.filter(|(_, place)| wanted(place));
        let mut hosts = Vec::new();
        for answer in all_of(places.map(|(at, _)| self.listing(at, now))).await {
            hosts.extend(answer?.values().cloned());
        }
        Ok(hosts)
    }

    /// One host of this account and Region: as known from its own look-up, else as listed.
    pub(in crate::inventory) async fn listed(
        &self,
        id: &InstanceId,
        account: &AccountId,
        region: AwsRegion,
        now: u64,
    ) -> Result<Option<Arc<InstanceRecord>>, InventoryError> {
        let known = self.shared.known(id);
        let fresh = known.filter(|known| now.abs_diff(known.read_at) < MAX_AGE);
        if let Some(host) = fresh.and_then(|known| known.host) {
            return Ok(Some(host));
        }
        let mut places = self.shared.places.iter();
        let at = places.position(|place| place.account == *account && place.region == region);
        let Some(at) = at else { return Ok(None) };
        Ok(self.listing(at, now).await?.get(id).cloned())
    }

    /// All hosts by their names; those of places that fail as they were: nothing may be decided with their tags.
    pub(in crate::inventory) async fn names(&self, now: u64) -> Listed {
        let mut names = Listed::default();
        let places = 0..self.shared.places.len();
        for (hosts, failure) in all_of(places.map(|at| self.names_of(at, now))).await {
            names.hosts.extend(hosts.values().cloned());
            names.failure = failure.or(names.failure);
        }
        names
    }

    /// A place that fails is waited for once; after that its last listing serves at once.
    async fn names_of(&self, at: usize, now: u64) -> (Hosts, Option<InventoryError>) {
        let Some(place) = self.shared.places.get(at) else {
            return (Hosts::default(), None);
        };
        let patience = match place.last(now) {
            Some(_) => Duration::ZERO,
            None => PATIENCE,
        };
        match self.listing_within(patience, at, now).await {
            Ok(hosts) => (hosts, None),
            Err(error) => (place.last(now).unwrap_or_default(), Some(error)),
        }
    }

    async fn listing(&self, at: usize, now: u64) -> Result<Hosts, InventoryError> {
        self.listing_within(PATIENCE, at, now).await
    }

    async fn listing_within(
        &self,
        patience: Duration,
        at: usize,
        now: u64,
    ) -> Result<Hosts, InventoryError> {
        let place = self.shared.places.get(at).ok_or_else(no_answer)?;
        if let Some(hosts) = place.fresh(now) {
            return Ok(hosts);
        }
        if let Some(error) = place.failed_lately(now) {
            return Err(error);
        }
        let shared = Arc::clone(&self.shared);
        let reading = self.listings.join(&at, || {
            Ok::<_, InventoryError>(async move { shared.read(at, now).await })
        })?;
        match tokio::time::timeout(patience, reading.answer()).await {
            Ok(answer) => answer.unwrap_or_else(|| Err(no_answer())),
            Err(_) => {
                // The reading goes on; until it ends the place counts as one that fails.
                place.note_failure(&no_answer(), now);
                Err(no_answer())
            }
        }
    }
}

impl Shared {
    /// Reads a place and keeps what came of it.
    async fn read(&self, at: usize, now: u64) -> Result<Hosts, InventoryError> {
        let place = self.places.get(at).ok_or_else(no_answer)?;
        match within(DEADLINE, self.describe(place, &Which::All, now)).await {
            Ok(hosts) => {
                let hosts = hosts
                    .into_iter()
                    .map(|host| (host.id.clone(), Arc::new(host)));
                let hosts = Arc::new(hosts.collect());
                *place.listing() = Listing {
                    read_at: Some(now),
                    hosts: Arc::clone(&hosts),
                    failed: None,
                };
                Ok(hosts)
            }
            Err(error) => {
                tracing::warn!(%error, "a place of the inventory could not be listed");
                place.note_failure(&error, now);
                Err(error)
            }
        }
    }
}
