//! What one host is called: its fleets by the configuration and its stage, signed, a new version for each change.

use std::collections::BTreeMap;
use std::sync::Arc;

use eic_protocol::fleet::FleetName;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::trust::host_view::{FleetMembership, Stage};
use serde_json::json;

use super::App;
use crate::audit::{Actor, Event, EventName, Origin, event_request_id};
use crate::bundle::{Edition, HostFacts, SealedView};
use crate::config::bundle::STAGES;
use crate::inventory::InstanceRecord;

/// The tag that makes a host's stage stricter than the configuration's.
const STAGE_TAG: &str = "eic:stage";
/// Whose look-ups of hosts these are.
const ASKER: &str = "trust-bundle";

impl App {
    /// The host's view; none for hosts that this CA did not enrol: who asks must not make them known.
    pub(super) async fn view_of(
        &self,
        host: &InstanceId,
        edition: &Edition,
    ) -> Option<Arc<SealedView>> {
        let now = self.clock.now();
        let root_version = edition.bundle().root_version;
        let kept = self.trust.views.kept(host);
        if let Some(kept) = kept.as_ref().filter(|k| k.is_recent(now, root_version)) {
            return Some(Arc::clone(&kept.view));
        }
        let before = kept.as_ref().map(|kept| Arc::clone(&kept.view));
        match self.renewed_view(host, root_version, now).await {
            Ok(view) => view,
            Err(error) => {
                tracing::error!(%host, error, "a host's view could not be renewed; it keeps the last one");
                before
            }
        }
    }

    async fn renewed_view(
        &self,
        host: &InstanceId,
        root_version: u64,
        now: u64,
    ) -> Result<Option<Arc<SealedView>>, String> {
        if !self.is_ours(host).await? {
            return Ok(None);
        }
        let record = self.inventory.instance(host, ASKER, now).await;
        let record = record.map_err(|e| e.to_string())?;
        let views = &self.trust.views;
        let kept = views.kept(host);
        let by_tag = self.fleets_by_tag(record.as_deref());
        let joined = match &kept {
            Some(kept) if kept.joined.keys().eq(by_tag.iter()) => kept.joined.clone(),
            _ => self.joined(host, by_tag).await?,
        };
        let facts = HostFacts {
            fleets: self.memberships(record.as_deref(), &joined, now),
            stage: stage(record.as_deref(), views.default_stage()),
            root_version,
        };
        if let Some(kept) = kept.filter(|kept| views.still_good(kept, &facts, now)) {
            views.looked_at(host, now);
            return Ok(Some(kept.view));
        }
        let version = self.store.host_register().next_view(host, now).await;
        let version = version.map_err(|e| e.to_string())?;
        let view = views.sign(host, version, facts, joined, now);
        view.map(Some).map_err(|e| e.to_string())
    }

    /// Enrolled by its keys, or given a view by an operator; not shut out.
    async fn is_ours(&self, host: &InstanceId) -> Result<bool, String> {
        let enrolled = self.store.host_book().host(host).await;
        let enrolled = enrolled.map_err(|e| e.to_string())?;
        Ok(match enrolled {
            Some(enrolled) => !enrolled.blocked,
            None => self.store.hosts_seen().contains(host),
        })
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
    ) -> Result<BTreeMap<FleetName, u64>, String> {
        let request_id = event_request_id().map_err(|e| e.to_string())?;
        let mut event = Event::new(
            EventName::JoinFleet,
            Actor::Service,
            Origin::default(),
            request_id,
        );
        event.parameters = Some(json!({ "instanceId": host.as_str(), "fleets": fleets }));
        let joined = self
            .recorder
            .join_fleets(&self.trust.book, host.clone(), fleets, &event)
            .await;
        joined.map_err(|e| e.to_string())
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
        let counts = |fleet: &&crate::config::certificates::FleetConfig| {
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
