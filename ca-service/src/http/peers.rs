//! How many connections each peer has: one network must not take all there are (threats G-04).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::peer_network::PeerNetwork;

/// Counts connections by network.
#[derive(Clone)]
pub(super) struct PeerConnections {
    open: Arc<Mutex<HashMap<PeerNetwork, usize>>>,
    most: usize,
}

/// One counted connection; dropping it counts it off.
pub(super) struct Counted {
    peers: PeerConnections,
    network: PeerNetwork,
}

impl PeerConnections {
    /// At most `most` for each network.
    pub(super) fn new(most: usize) -> Self {
        Self {
            open: Arc::default(),
            most,
        }
    }

    /// Counts one more; none where there are as many as may be.
    pub(super) fn open(&self, network: PeerNetwork) -> Option<Counted> {
        let mut open = self.lock();
        let count = open.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Counted {
            peers: self.clone(),
            network,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerNetwork, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.peers.lock();
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_so_many_and_no_more_and_is_forgotten_afterwards() {
        let peers = PeerConnections::new(2);
        let of = |address: &str| PeerNetwork::of(address.parse().unwrap());
        let first = peers.open(of("2001:db8::1")).unwrap();
        let second = peers.open(of("2001:db8::2")).unwrap();
        assert!(peers.open(of("2001:db8::3")).is_none());
        assert!(peers.open(of("192.0.2.2")).is_some());
        drop(first);
        let third = peers.open(of("2001:db8::3")).unwrap();
        drop((second, third));
        assert!(peers.lock().is_empty());
    }
}
