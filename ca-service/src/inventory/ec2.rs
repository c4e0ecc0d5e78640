//! Hosts from ec2:DescribeInstances: several accounts and Regions, cached, never older than they may be.
//!
//! Two ways in: one instance by id (asked for again when it is older than 30 s), and all instances of a
//! Region. Who asks what is being asked already shares that answer. An id that nobody knows is remembered
//! as such for 5 s, and such look-ups have a rate, for each caller and for all: ids are cheap to invent.
//!
//! A place that does not answer is no reason to fail for the others: names are then looked up in its last
//! listing, and what was found there is read again by id before anything is decided with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use eic_aws::ec2::{Instance, Which, describe_instances};
use eic_aws::endpoint::Endpoint;
use eic_aws::sigv4::Scope;
use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;

use super::flights::Flights;
use super::record::InstanceRecord;
use super::{InventoryError, MAX_AGE};
use crate::aws_access::{AwsAccess, ec2_endpoint};
use crate::config::inventory::{Ec2Config, EnrolmentRules};
use crate::rate::Buckets;
use crate::together::{all_of, until};

mod listing;

pub(super) use listing::Listed;
use listing::{Hosts, Listing};

/// How long an id that EC2 does not know stays unknown. Seconds.
const UNKNOWN_FOR: u64 = 5;
/// Look-ups of unknown ids per second, on average, and at once, of all callers (EC2's own bucket for
/// DescribeInstances refills 20 per second for a whole account and Region).
const UNKNOWN_RATE: u32 = 15;
const UNKNOWN_BURST: u32 = 200;
/// The same of one caller: what one spends, others still have.
const CALLERS_RATE: u32 = 3;
const CALLERS_BURST: u32 = 50;
const MAX_CALLERS: usize = 16_384;
/// Ids that are remembered; beyond that the oldest knowledge goes.
const MAX_REMEMBERED: usize = 50_000;
/// Longest look-up, all accounts together. Clients give up after 8 s.
const DEADLINE: Duration = Duration::from_secs(6);

/// EC2 as an inventory.
pub struct Ec2Inventory {
    shared: Arc<Shared>,
    look_ups: Flights<InstanceId, Found>,
    listings: Flights<usize, Result<Hosts, InventoryError>>,
}

type Found = Result<Option<Arc<InstanceRecord>>, InventoryError>;

/// What look-ups use that outlive their askers.
struct Shared {
    access: Arc<AwsAccess>,
    places: Vec<Place>,
    rules: EnrolmentRules,
    known: Mutex<HashMap<InstanceId, Known>>,
    unknown: UnknownBudget,
}

/// One account in one Region.
struct Place {
    account: AccountId,
    region: AwsRegion,
    endpoint: Endpoint,
    listing: Mutex<Listing>,
}

#[derive(Clone)]
struct Known {
    read_at: u64,
    /// None: no place knows it.
    host: Option<Arc<InstanceRecord>>,
}

/// How many ids that nobody knows may be asked for.
struct UnknownBudget {
    each: Buckets<String>,
    all: Buckets<()>,
}

impl UnknownBudget {
    fn new() -> Self {
        Self {
            each: Buckets::new(CALLERS_RATE, CALLERS_BURST, MAX_CALLERS),
            all: Buckets::new(UNKNOWN_RATE, UNKNOWN_BURST, 1),
        }
    }

    /// The caller's own first: who has spent it takes nothing from the others.
    fn take(&self, asker: &str) -> Result<(), InventoryError> {
        let now = Instant::now();
        let taken = self.each.take(asker, now) && self.all.take(&(), now);
        taken.then_some(()).ok_or(InventoryError::Busy)
    }

    /// For an id that turned out to be a host's: an inventory of 500 hosts is not a guess at 500 ids.
    fn give_back(&self, asker: &str) {
        self.each.give_back(asker);
        self.all.give_back(&());
    }
}

impl Ec2Inventory {
    /// Over the accounts of the configuration.
    ///
    /// # Errors
    /// An endpoint override that is not an endpoint.
    pub fn new(
        access: Arc<AwsAccess>,
        accounts: &[Ec2Config],
        rules: EnrolmentRules,
    ) -> Result<Self, eic_aws::endpoint::InvalidEndpoint> {
        let mut places = Vec::new();
        for config in accounts {
            for region in &config.regions {
                places.push(Place {
                    account: config.account.clone(),
                    region: *region,
                    endpoint: ec2_endpoint(config, *region)?,
                    listing: Mutex::default(),
                });
            }
        }
        let shared = Shared {
            access,
            places,
            rules,
            known: Mutex::default(),
            unknown: UnknownBudget::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            look_ups: Flights::default(),
            listings: Flights::default(),
        })
    }

    /// Whether this account is asked in this Region.
    pub(super) fn asks(&self, account: &AccountId, region: AwsRegion) -> bool {
        let mut places = self.shared.places.iter();
        places.any(|place| place.account == *account && place.region == region)
    }

    /// The host of this id; `asker` is charged where nobody knows the id.
    pub(super) async fn instance(&self, id: &InstanceId, asker: &str, now: u64) -> Found {
        match self.shared.known(id) {
            Some(Known {
                read_at,
                host: Some(host),
            }) if now.abs_diff(read_at) < MAX_AGE => Ok(Some(host)),
            Some(Known {
                read_at,
                host: None,
            }) if now.abs_diff(read_at) < UNKNOWN_FOR => Ok(None),
            Some(Known {
                host: Some(host), ..
            }) => self.read_again(host, now).await,
            _ => self.look_up(id, asker, now).await,
        }
    }

    /// A host that was known is asked for where it was; one that is gone there is looked for nowhere else.
    async fn read_again(&self, host: Arc<InstanceRecord>, now: u64) -> Found {
        let id = host.id().clone();
        let shared = Arc::clone(&self.shared);
        let ask = || Ok(async move { within(DEADLINE, shared.read_again(&host, now)).await });
        shared_answer(self.look_ups.join(&id, ask)?.answer().await)
    }

    async fn look_up(&self, id: &InstanceId, asker: &str, now: u64) -> Found {
        let (shared, wanted) = (Arc::clone(&self.shared), id.clone());
        let ask = || {
            let asker = asker.to_owned();
            self.shared.unknown.take(&asker)?;
            Ok(async move { within(DEADLINE, shared.look_up(&wanted, &asker, now)).await })
        };
        shared_answer(self.look_ups.join(id, ask)?.answer().await)
    }
}

impl Shared {
    /// The newest knowledge of this id: its own look-up's, or that of a listing.
    fn known(&self, id: &InstanceId) -> Option<Known> {
        let own = self.lock().get(id).cloned();
        let listed = self.places.iter().filter_map(|place| {
            let listing = place.listing();
            let host = Some(Arc::clone(listing.hosts().get(id)?));
            let read_at = listing.read_at()?;
            Some(Known { read_at, host })
        });
        own.into_iter().chain(listed).max_by_key(|k| k.read_at)
    }

    async fn read_again(&self, host: &InstanceRecord, now: u64) -> Found {
        let at = |place: &&Place| place.account == *host.account() && place.region == host.region();
        let place = self.places.iter().find(at).ok_or(InventoryError::Busy)?;
        let which = Which::Filter("instance-id", host.id().as_str());
        let found = self.describe(place, &which, now).await?;
        Ok(self.remember(host.id(), found.into_iter().next(), now))
    }

    async fn look_up(&self, id: &InstanceId, asker: &str, now: u64) -> Found {
        let found = self.ask_everywhere(id, now).await?;
        if found.is_some() {
            self.unknown.give_back(asker);
        }
        Ok(self.remember(id, found, now))
    }

    /// One place that answers with the host is enough; "nowhere" needs the answer of every place.
    async fn ask_everywhere(
        &self,
        id: &InstanceId,
        now: u64,
    ) -> Result<Option<InstanceRecord>, InventoryError> {
        let which = Which::Filter("instance-id", id.as_str());
        let asked = self.places.iter().map(|place| async {
            let found = self.describe(place, &which, now).await?;
            Ok(found.into_iter().find(|host| host.id == *id))
        });
        let mut nowhere = Ok(None);
        for answer in until(asked, |answer| matches!(answer, Ok(Some(_)))).await {
            match answer {
                Ok(Some(host)) => return Ok(Some(host)),
                Ok(None) => {}
                Err(error) => nowhere = Err(error),
            }
        }
        nowhere
    }

    async fn describe(
        &self,
        place: &Place,
        which: &Which<'_>,
        now: u64,
    ) -> Result<Vec<InstanceRecord>, InventoryError> {
        let failed = |e: &dyn std::fmt::Display| {
            InventoryError::Ec2(format!("account {}, {}: {e}", place.account, place.region))
        };
        let credentials = self
            .access
            .credentials(&place.account, now)
            .await
            .map_err(|e| failed(&e))?;
        let scope = Scope {
            credentials: &credentials,
            region: place.region,
            service: "ec2",
            now,
        };
        let found = describe_instances(self.access.client(), &place.endpoint, &scope, which).await;
        let found = found.map_err(|e| failed(&e))?;
        // Shared subnets show hosts of other owners: they are not of this account (threats C-10).
        let own = |instance: &Instance| instance.account == place.account;
        Ok(found
            .into_iter()
            .filter(own)
            .map(|i| InstanceRecord::of_ec2(i, &self.rules))
            .collect())
    }

    fn remember(
        &self,
        id: &InstanceId,
        host: Option<InstanceRecord>,
        now: u64,
    ) -> Option<Arc<InstanceRecord>> {
        let host = host.filter(|host| host.id == *id).map(Arc::new);
        let mut known = self.lock();
        if known.len() >= MAX_REMEMBERED {
            known.retain(|_, known| now.abs_diff(known.read_at) < UNKNOWN_FOR);
        }
        known.insert(
            id.clone(),
            Known {
                read_at: now,
                host: host.clone(),
            },
        );
        host
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, InventoryError>>,
) -> Result<T, InventoryError> {
    tokio::time::timeout(deadline, work)
        .await
        .unwrap_or_else(|_| Err(no_answer()))
}

/// An answer that others may have asked for.
fn shared_answer<T>(answer: Option<Result<T, InventoryError>>) -> Result<T, InventoryError> {
    answer.unwrap_or_else(|| Err(no_answer()))
}

fn no_answer() -> InventoryError {
    InventoryError::Ec2("no answer in time".to_owned())
}

#[cfg(test)]
mod tests;
