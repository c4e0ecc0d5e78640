//! How many connections each peer address has: one address must not take all there are (threats G-04).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections by address.
#[derive(Clone)]
pub(super) struct PeerConnections {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
}

/// One counted connection; dropping it counts it off.
pub(super) struct Counted {
    peers: PeerConnections,
    address: IpAddr,
}

impl PeerConnections {
    /// At most `most` for each address.
    pub(super) fn new(most: usize) -> Self {
        Self {
            open: Arc::default(),
            most,
        }
    }

    /// Counts one more; none where there are as many as may be.
    pub(super) fn open(&self, address: IpAddr) -> Option<Counted> {
        let address = address.to_canonical();
        let mut open = self.lock();
        let count = open.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Counted {
            peers: self.clone(),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.peers.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_no_more_and_is_forgotten_afterwards() {
        let peers = PeerConnections::new(2);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let first = peers.open(address).unwrap();
        let second = peers.open("::ffff:192.0.2.1".parse().unwrap()).unwrap();
        assert!(peers.open(address).is_none());
        assert!(peers.open("192.0.2.2".parse().unwrap()).is_some());
        drop(first);
        let third = peers.open(address).unwrap();
        drop((second, third));
        assert!(peers.lock().is_empty());
    }
}
