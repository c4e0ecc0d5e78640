//! What one host is called: its fleets by the configuration and its stage, signed, a new version for each change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::fleet::FleetName;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::trust::host_view::{FleetMembership, Stage};
use serde_json::json;

use super::App;
use crate::audit::{Actor, Event, EventName, OnceError, Origin, Recorder, event_request_id};
use crate::bundle::{Edition, HostFacts, HostViews, SealedView};
use crate::clock::Clock;
use crate::config::bundle::STAGES;
use crate::config::certificates::FleetConfig;
use crate::inventory::{InstanceRecord, Inventory, InventoryError};
use crate::random::NoEntropy;
use crate::signer::document::DocumentError;
use crate::store::{Store, StoreError};

/// The tag that makes a host's stage stricter than the configuration's.
const STAGE_TAG: &str = "eic:stage";
/// Whose look-ups of hosts these are.
const ASKER: &str = "trust-bundle";

/// Where to look for a host.
enum Place {
    Known(AccountId, AwsRegion),
    Unknown,
}

/// What views are made of. Borrowed: the service has it all, and so has a command beside it.
pub(crate) struct ViewDesk<'a> {
    pub(crate) inventory: &'a Inventory,
    pub(crate) fleets: &'a [FleetConfig],
    pub(crate) views: &'a HostViews,
    pub(crate) store: &'a Store,
    pub(crate) recorder: &'a Recorder,
    pub(crate) clock: &'a Clock,
}

impl App {
    pub(super) fn view_desk(&self) -> ViewDesk<'_> {
        ViewDesk {
            inventory: &self.inventory,
            fleets: &self.fleets,
            views: &self.trust.views,
            store: &self.store,
            recorder: &self.recorder,
            clock: &self.clock,
        }
    }
}

impl ViewDesk<'_> {
    /// Every host that has a view, or may ask for one.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn hosts(&self) -> Result<Vec<InstanceId>, StoreError> {
        let enrolled = self.store.host_book().enrolled().await?;
        let all: BTreeSet<_> = enrolled
            .into_iter()
            .chain(self.store.hosts_seen().all())
            .collect();
        Ok(all.into_iter().collect())
    }

    /// The host's view, or the last one where it cannot be renewed; none for hosts that this CA did not enrol: who asks
    /// must not make them known.
    pub(crate) async fn view_of(
        &self,
        host: &InstanceId,
        edition: &Edition,
    ) -> Option<Arc<SealedView>> {
        match self.view(host, edition).await {
            Ok(view) => view,
            Err(error) => {
                if let Some(untold) = self.views.tells_failure(self.clock.now()) {
                    tracing::error!(%host, %error, untold, "a host's view could not be renewed; it keeps the last one");
                }
                self.views.kept(host).map(|kept| kept.view)
            }
        }
    }

    /// The host's view as it is now; none for hosts that this CA did not enrol.
    ///
    /// # Errors
    /// [`NoView`]: what it would say is not known.
    pub(crate) async fn view(
        &self,
        host: &InstanceId,
        edition: &Edition,
    ) -> Result<Option<Arc<SealedView>>, NoView> {
        let now = self.clock.now();
        let root_version = edition.bundle().root_version;
        let kept = self.views.kept(host);
        match kept.filter(|kept| kept.is_recent(now, root_version)) {
            Some(kept) => Ok(Some(kept.view)),
            None => self.renewed_view(host, root_version, now).await,
        }
    }

    async fn renewed_view(
        &self,
        host: &InstanceId,
        root_version: u64,
        now: u64,
    ) -> Result<Option<Arc<SealedView>>, NoView> {
        let Some(place) = self.ours(host).await? else {
            return Ok(None);
        };
        let record: Result<_, InventoryError> = match place {
            // Of thousands that wait, each is looked at every 30 s: one listing serves them all.
            Place::Known(account, region) => {
                let listed = self.inventory.listed_instance(host, &account, region, now);
                listed.await
            }
            Place::Unknown => self.inventory.instance(host, ASKER, now).await,
        };
        let record = record?;
        let views = self.views;
        let kept = views.kept(host);
        let by_tag = self.fleets_by_tag(record.as_deref());
        let joined = match &kept {
            Some(kept) if kept.joined.keys().eq(by_tag.iter()) => kept.joined.clone(),
            _ => self.joined(host, by_tag).await?,
        };
        // The look-up took its time: who joined just now, without a delay, is a member.
        let now = self.clock.now();
        let facts = HostFacts {
            fleets: self.memberships(record.as_deref(), &joined, now),
            stage: stage(record.as_deref(), views.default_stage()),
            root_version,
        };
        if let Some(kept) = kept.filter(|kept| views.still_good(kept, &facts, now)) {
            views.looked_at(host, now);
            return Ok(Some(kept.view));
        }
        let version = self.store.host_register().next_view(host, now).await?;
        let view = views.sign(host, version, facts, joined, now)?;
        Ok(Some(view))
    }

    /// Where the host is, if it is ours: enrolled by its keys, or given a view by an operator; not shut out.
    async fn ours(&self, host: &InstanceId) -> Result<Option<Place>, StoreError> {
        let stored = self.store.host_book().stored(host).await?;
        if stored.blocked {
            return Ok(None);
        }
        let enrolled = stored
            .enrolled
            .map(|host| Place::Known(host.account, host.region));
        let seen = || self.store.hosts_seen().contains(host);
        Ok(enrolled.or_else(|| seen().then_some(Place::Unknown)))
    }

    /// Sorted by name, as the map of when they were joined is.
    fn fleets_by_tag(&self, record: Option<&InstanceRecord>) -> Vec<FleetName> {
        let Some(record) = record else {
            return Vec::new();
        };
        let by_tag = self
            .fleets
            .iter()
            .filter(|fleet| fleet.selects(record) && !fleet.ids.contains(record.id()));
        let mut names: Vec<_> = by_tag.map(|fleet| fleet.name.clone()).collect();
        names.sort();
        names
    }

    /// Since when the host's tags select it; recorded where that is new.
    async fn joined(
        &self,
        host: &InstanceId,
        fleets: Vec<FleetName>,
    ) -> Result<BTreeMap<FleetName, u64>, NoView> {
        let request_id = event_request_id()?;
        let mut event = Event::new(
            EventName::JoinFleet,
            Actor::Service,
            Origin::default(),
            request_id,
        );
        event.parameters = Some(json!({ "instanceId": host.as_str(), "fleets": fleets }));
        let book = self.store.trust_book();
        let joined = self
            .recorder
            .join_fleets(&book, host.clone(), fleets, &event);
        Ok(joined.await?)
    }

    /// By id at once, by tag after the fleet's delay.
    fn memberships(
        &self,
        record: Option<&InstanceRecord>,
        joined: &BTreeMap<FleetName, u64>,
        now: u64,
    ) -> Vec<FleetMembership> {
        let Some(record) = record else {
            return Vec::new();
        };
        let counts = |fleet: &&FleetConfig| {
            let waited = joined
                .get(&fleet.name)
                .is_some_and(|since| since.saturating_add(fleet.join_delay_seconds) <= now);
            fleet.selects(record) && (waited || fleet.ids.contains(record.id()))
        };
        let members = self.fleets.iter().filter(counts);
        members
            .map(|fleet| FleetMembership {
                name: fleet.name.clone(),
                kms_only: fleet.kms_only,
            })
            .collect()
    }
}

/// Why it is not known what a host's view says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoView {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The host could not be looked up.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// That it joined a fleet could not be recorded.
    #[error(transparent)]
    Record(#[from] OnceError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The signature.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// A tag may only make it stricter: who edits tags must not open the older door again.
fn stage(record: Option<&InstanceRecord>, default: Stage) -> Stage {
    let word = record.and_then(|record| record.tags().get(STAGE_TAG));
    let strict = word.is_some_and(|word| {
        STAGES
            .iter()
            .any(|(name, stage)| name == word && *stage == Stage::CertificatesOnly)
    });
    if strict {
        Stage::CertificatesOnly
    } else {
        default
    }
}
