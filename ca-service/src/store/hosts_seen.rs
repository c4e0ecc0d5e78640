//! Hosts that got a view of this CA, in memory: the snapshot that every answer about a host is checked with.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use eic_protocol::instance_id::InstanceId;

/// The hosts. Clones share one snapshot.
#[derive(Clone, Default)]
pub struct HostsSeen(Arc<RwLock<HashSet<InstanceId>>>);

impl HostsSeen {
    /// Whether the host got a view, and was not forgotten since.
    #[must_use]
    pub fn contains(&self, instance: &InstanceId) -> bool {
        self.read().contains(instance)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<InstanceId> {
        self.read().iter().cloned().collect()
    }

    pub(super) fn replace(&self, seen: HashSet<InstanceId>) {
        *self.write() = seen;
    }

    pub(super) fn add(&self, new: Vec<InstanceId>) {
        if !new.is_empty() {
            self.write().extend(new);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashSet<InstanceId>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashSet<InstanceId>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
