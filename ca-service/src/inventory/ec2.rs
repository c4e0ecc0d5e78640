//! Hosts from ec2:DescribeInstances: several accounts and Regions, cached, never older than they may be.
//!
//! Two ways in: one instance by id (asked for again when it is older than 30 s), and all instances of a
//! Region (one listing at a time; all who wait share it). An id that nobody knows is remembered as such
//! for 5 s, and such look-ups have a rate: ids are cheap to invent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eic_aws::ec2::{Instance, Which, describe_instances};
use eic_aws::endpoint::Endpoint;
use eic_aws::sigv4::Scope;
use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;

use super::record::InstanceRecord;
use super::{InventoryError, MAX_AGE};
use crate::aws_access::AwsAccess;
use crate::config::inventory::{Ec2Config, EnrolmentRules};
use crate::rate::Buckets;

/// How long an id that EC2 does not know stays unknown. Seconds.
const UNKNOWN_FOR: u64 = 5;
/// Look-ups of unknown ids per second, on average, and at once (EC2's own bucket for DescribeInstances
/// refills 20 per second for the whole account).
const UNKNOWN_RATE: u32 = 10;
const UNKNOWN_BURST: u32 = 50;
/// Ids that are remembered; beyond that the oldest knowledge goes.
const MAX_REMEMBERED: usize = 50_000;
/// Longest wait for one look-up, all accounts together.
const DEADLINE: Duration = Duration::from_secs(8);
/// Longest wait for the listing of all Regions.
const LISTING_DEADLINE: Duration = Duration::from_secs(25);

/// EC2 as an inventory.
pub struct Ec2Inventory {
    access: Arc<AwsAccess>,
    places: Vec<Place>,
    rules: EnrolmentRules,
    known: Mutex<HashMap<InstanceId, Known>>,
    unknown_rate: Buckets<()>,
}

/// One account in one Region.
struct Place {
    account: AccountId,
    region: AwsRegion,
    endpoint: Endpoint,
    listing: tokio::sync::Mutex<Listing>,
}

/// All instances of a place at one moment.
#[derive(Default)]
struct Listing {
    read_at: Option<u64>,
    hosts: Vec<Arc<InstanceRecord>>,
}

#[derive(Clone)]
struct Known {
    read_at: u64,
    /// None: no place knows it.
    host: Option<Arc<InstanceRecord>>,
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
                    endpoint: endpoint(config, *region)?,
                    listing: tokio::sync::Mutex::default(),
                });
            }
        }
        let unknown_rate = Buckets::new(UNKNOWN_RATE, UNKNOWN_BURST, 1);
        Ok(Self {
            access,
            places,
            rules,
            known: Mutex::default(),
            unknown_rate,
        })
    }

    pub(super) async fn instance(
        &self,
        id: &InstanceId,
        now: u64,
    ) -> Result<Option<Arc<InstanceRecord>>, InventoryError> {
        let known = self.lock().get(id).cloned();
        match known {
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
            }) => self.read_again(&host, now).await,
            _ => self.look_up(id, now).await,
        }
    }

    /// A host that was known is asked for where it was; one that is gone there is looked for nowhere else.
    async fn read_again(
        &self,
        host: &InstanceRecord,
        now: u64,
    ) -> Result<Option<Arc<InstanceRecord>>, InventoryError> {
        let at = |place: &&Place| place.account == *host.account() && place.region == host.region();
        let place = self.places.iter().find(at).ok_or(InventoryError::Busy)?;
        let which = Which::Filter("instance-id", host.id().as_str());
        let found = within(DEADLINE, self.describe(place, &which, now)).await?;
        Ok(self.remember(host.id(), found.into_iter().next(), now))
    }

    async fn look_up(
        &self,
        id: &InstanceId,
        now: u64,
    ) -> Result<Option<Arc<InstanceRecord>>, InventoryError> {
        if !self.unknown_rate.take(&(), std::time::Instant::now()) {
            return Err(InventoryError::Busy);
        }
        let found = within(DEADLINE, self.ask_everywhere(id, now)).await?;
        Ok(self.remember(id, found, now))
    }

    /// One place that answers with the host is enough; "nowhere" needs the answer of every place.
    async fn ask_everywhere(
        &self,
        id: &InstanceId,
        now: u64,
    ) -> Result<Option<InstanceRecord>, InventoryError> {
        let which = Which::Filter("instance-id", id.as_str());
        let mut failure = None;
        for answer in join_all(
            self.places
                .iter()
                .map(|place| self.describe(place, &which, now)),
        )
        .await
        {
            match answer {
                Ok(found) => {
                    if let Some(host) = found.into_iter().find(|host| host.id == *id) {
                        return Ok(Some(host));
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    pub(super) async fn all(&self, now: u64) -> Result<Vec<Arc<InstanceRecord>>, InventoryError> {
        let listings = join_all(self.places.iter().map(|place| self.listing(place, now)));
        let listings = within(LISTING_DEADLINE, async { Ok(listings.await) }).await?;
        let mut hosts = Vec::new();
        for listing in listings {
            hosts.extend(listing?);
        }
        Ok(hosts)
    }

    async fn listing(
        &self,
        place: &Place,
        now: u64,
    ) -> Result<Vec<Arc<InstanceRecord>>, InventoryError> {
        // Held while listing: a hundred requests list once.
        let mut listing = place.listing.lock().await;
        if listing
            .read_at
            .is_none_or(|read_at| now.abs_diff(read_at) >= MAX_AGE)
        {
            let hosts: Vec<_> = self
                .describe(place, &Which::All, now)
                .await?
                .into_iter()
                .map(Arc::new)
                .collect();
            *listing = Listing {
                read_at: Some(now),
                hosts,
            };
        }
        Ok(listing.hosts.clone())
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

fn endpoint(
    config: &Ec2Config,
    region: AwsRegion,
) -> Result<Endpoint, eic_aws::endpoint::InvalidEndpoint> {
    let regional = Endpoint::regional("ec2", region);
    match &config.endpoint_override {
        None => Ok(regional),
        // Signed for AWS's own name, as the SDKs' stand-ins expect it.
        Some(origin) => Ok(Endpoint::overridden(origin)?.with_host(regional.host().to_owned())),
    }
}

async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, InventoryError>>,
) -> Result<T, InventoryError> {
    tokio::time::timeout(deadline, work)
        .await
        .unwrap_or_else(|_| Err(InventoryError::Ec2("no answer in time".to_owned())))
}

/// All at once, on this task.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, slot) in running
            .iter_mut()
            .zip(done.iter_mut())
            .filter(|(_, slot)| slot.is_none())
        {
            match future.as_mut().poll(context) {
                std::task::Poll::Ready(output) => *slot = Some(output),
                std::task::Poll::Pending => pending = true,
            }
        }
        if pending {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
