//! The latest signed view of each host, in memory. A host whose view is not here gets a new version of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eic_protocol::fleet::FleetName;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::trust::host_view::{FleetMembership, HostView, Stage};

use super::edition::SealedView;
use crate::config::bundle::BundleConfig;
use crate::signer::document::{BundleKey, DocumentError};

/// Views that are kept: about 2 kB each.
const KEPT: usize = 8_192;
/// How long a host's facts are taken as they were. Seconds.
const LOOK: u64 = 30;
/// A view is signed anew after this part of the time for which it is fresh.
const RENEWALS: u64 = 2;

/// What a view is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The fleets, by name.
    pub fleets: Vec<FleetMembership>,
    /// How far the rollout is.
    pub stage: Stage,
    /// The root that the view goes with.
    pub root_version: u64,
}

/// A view in memory.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) view: Arc<SealedView>,
    pub(crate) facts: HostFacts,
    /// Fleets whose tags the host has, and since when.
    pub(crate) joined: BTreeMap<FleetName, u64>,
    issued: u64,
    looked_at: u64,
}

impl Kept {
    /// Whether the facts need no look at `now` (Unix seconds) under this root.
    pub(crate) fn is_recent(&self, now: u64, root_version: u64) -> bool {
        now.saturating_sub(self.looked_at) < LOOK && self.facts.root_version == root_version
    }
}

/// Signs and remembers views.
pub struct HostViews {
    key: BundleKey,
    rules: BundleConfig,
    kept: Mutex<HashMap<InstanceId, Kept>>,
}

impl HostViews {
    /// None yet.
    #[must_use]
    pub fn new(key: BundleKey, rules: BundleConfig) -> Self {
        Self {
            key,
            rules,
            kept: Mutex::default(),
        }
    }

    /// The public half of the key that signs.
    pub(crate) fn key(&self) -> &eic_protocol::subject_key::SubjectKey {
        self.key.public()
    }

    /// How far the rollout is where no tag says more.
    pub(crate) fn default_stage(&self) -> Stage {
        self.rules.stage
    }

    /// The view in memory.
    pub(crate) fn kept(&self, host: &InstanceId) -> Option<Kept> {
        self.lock().get(host).cloned()
    }

    /// Whether a kept view may go on as it is. `now` is in Unix seconds.
    pub(crate) fn still_good(&self, kept: &Kept, facts: &HostFacts, now: u64) -> bool {
        let fresh_for = self.rules.refresh_seconds / RENEWALS;
        kept.facts == *facts && now.saturating_sub(kept.issued) < fresh_for
    }

    /// The facts were looked at and are the same.
    pub(crate) fn looked_at(&self, host: &InstanceId, now: u64) {
        if let Some(kept) = self.lock().get_mut(host) {
            kept.looked_at = now;
        }
    }

    /// Signs a view with these facts and remembers it. `now` is in Unix seconds.
    pub(crate) fn sign(
        &self,
        host: &InstanceId,
        version: u64,
        facts: HostFacts,
        joined: BTreeMap<FleetName, u64>,
        now: u64,
    ) -> Result<Arc<SealedView>, DocumentError> {
        let document = HostView {
            version,
            instance: host.clone(),
            fleets: facts.fleets.clone(),
            stage: facts.stage,
            os_users: Vec::new(),
            root_version: facts.root_version,
            issued: now,
            refresh_after: now.saturating_add(self.rules.refresh_seconds),
            hard_stop: self
                .rules
                .hard_stop_seconds
                .map(|seconds| now.saturating_add(seconds)),
        };
        let view = Arc::new(SealedView::new(self.key.seal(&document)?)?);
        let kept = Kept {
            view: Arc::clone(&view),
            facts,
            joined,
            issued: now,
            looked_at: now,
        };
        self.keep(host, kept);
        Ok(view)
    }

    /// With all places taken, those that were looked at longest ago make room.
    fn keep(&self, host: &InstanceId, view: Kept) {
        let mut kept = self.lock();
        if kept.len() >= KEPT && !kept.contains_key(host) {
            let mut ages: Vec<u64> = kept.values().map(|view| view.looked_at).collect();
            let middle = ages.len() / 2;
            let (_, median, _) = ages.select_nth_unstable(middle);
            let median = *median;
            kept.retain(|_, view| view.looked_at > median);
        }
        kept.insert(host.clone(), view);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
