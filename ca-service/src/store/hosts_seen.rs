//! Hosts that got a view of this CA, in memory: the snapshot that every answer about a host is checked with.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use eic_protocol::instance_id::InstanceId;

/// The hosts. Clones share one snapshot.
#[derive(Clone, Default)]
pub struct HostsSeen(Arc<ArcSwap<HashSet<InstanceId>>>);

impl HostsSeen {
    /// Whether the host got a view, and was not forgotten since.
    #[must_use]
    pub fn contains(&self, instance: &InstanceId) -> bool {
        self.0.load().contains(instance)
    }

    pub(super) fn replace(&self, seen: HashSet<InstanceId>) {
        self.0.store(Arc::new(seen));
    }
}
