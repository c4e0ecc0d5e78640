//! What strangers can write into the audit. A refused proof costs its sender nothing but a key made on the
//! spot and an invented access key id, so such records are rationed; the rest is counted and told in one
//! record a minute. Whoever AWS confirmed is always recorded.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::json;

use super::App;
use crate::audit::{Actor, AppendError, Event, EventError, EventName, Origin, event_request_id};
use crate::peer_network::PeerNetwork;
use crate::rate::Buckets;

/// Records per second, and at once, of all refused proofs together: at most 432,000 rows a day.
const RATE: u32 = 5;
const BURST: u32 = 100;
/// The same for one network, so that a flood from one leaves records for others.
const PEER_RATE: u32 = 1;
const PEER_BURST: u32 = 20;
const MAX_PEERS: usize = 16_384;
/// How often what was only counted is told. Seconds.
const TOLD_EVERY: u64 = 60;
/// Networks that are counted apart, and that are named in the record.
const MAX_COUNTED: usize = 256;
const NAMED: usize = 5;

/// The ration, and the count of what did not fit.
pub(super) struct RefusedProofs {
    all: Buckets<()>,
    each: Buckets<PeerNetwork>,
    counted: Mutex<Counted>,
}

/// Refused proofs without a record of their own.
#[derive(Debug, Default)]
pub(super) struct Counted {
    count: u64,
    first: u64,
    last: u64,
    networks: HashMap<PeerNetwork, u64>,
}

impl RefusedProofs {
    pub(super) fn new() -> Self {
        Self {
            all: Buckets::new(RATE, BURST, 1),
            each: Buckets::new(PEER_RATE, PEER_BURST, MAX_PEERS),
            counted: Mutex::default(),
        }
    }

    /// Whether this one gets a record of its own; otherwise it is counted. `now` is in Unix seconds.
    pub(super) fn is_recorded(&self, peer: PeerNetwork, at: Instant, now: u64) -> bool {
        let recorded = self.each.take(&peer, at) && self.all.take(&(), at);
        if !recorded {
            self.lock().add(peer, now);
        }
        recorded
    }

    /// What is to be told now, if anything; it is counted from zero again.
    fn due(&self, now: u64) -> Option<Counted> {
        let mut counted = self.lock();
        let due = counted.count > 0 && now.saturating_sub(counted.first) >= TOLD_EVERY;
        due.then(|| std::mem::take(&mut *counted))
    }

    /// Back, where it could not be told.
    fn keep(&self, untold: Counted) {
        let mut counted = self.lock();
        counted.count += untold.count;
        counted.first = untold.first;
        counted.last = counted.last.max(untold.last);
        for (network, count) in untold.networks {
            counted.add_network(network, count);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn add(&mut self, peer: PeerNetwork, now: u64) {
        if self.count == 0 {
            self.first = now;
        }
        self.count += 1;
        self.last = now;
        self.add_network(peer, 1);
    }

    fn add_network(&mut self, network: PeerNetwork, count: u64) {
        if self.networks.len() < MAX_COUNTED || self.networks.contains_key(&network) {
            *self.networks.entry(network).or_default() += count;
        }
    }

    /// The networks that sent most.
    fn loudest(&self) -> Vec<serde_json::Value> {
        let mut networks: Vec<_> = self.networks.iter().collect();
        networks.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let named = networks.into_iter().take(NAMED);
        named
            .map(|(network, count)| json!({ "network": network.to_string(), "count": count }))
            .collect()
    }

    fn event(&self) -> Result<Event, crate::random::NoEntropy> {
        let id = event_request_id()?;
        let mut event = Event::new(
            EventName::RefuseSession,
            Actor::Service,
            Origin::default(),
            id,
        );
        event.error = Some(EventError {
            code: "ProofsRefused".to_owned(),
            message: "more proofs were refused than are recorded one by one".to_owned(),
        });
        event.additional = Some(json!({
            "count": self.count,
            "first": self.first,
            "last": self.last,
            "networks": self.loudest(),
        }));
        Ok(event)
    }
}

impl App {
    /// One record and one line in the log for the refused proofs that got none of their own.
    pub(super) async fn tell_refused_proofs(&self) {
        let Some(counted) = self.refused_proofs.due(self.clock.now()) else {
            return;
        };
        tracing::warn!(
            count = counted.count,
            networks = ?counted.loudest(),
            "more identity proofs were refused than are recorded one by one"
        );
        if let Err(error) = self.record_counted(&counted).await {
            tracing::error!(%error, "the count of refused proofs could not be recorded");
            self.refused_proofs.keep(counted);
        }
    }

    async fn record_counted(&self, counted: &Counted) -> Result<(), AppendError> {
        let event = counted.event().map_err(|e| AppendError::Record(e.into()))?;
        self.recorder.append(&event).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(n: u8) -> PeerNetwork {
        PeerNetwork::of([192, 0, 2, n].into())
    }

    #[test]
    fn a_flood_gets_a_bounded_number_of_records_and_the_rest_is_counted() {
        // G-14
        let refused = RefusedProofs::new();
        let start = Instant::now();
        let recorded = (0..10_000_u32)
            .filter(|n| refused.is_recorded(peer(u8::try_from(n % 50).unwrap()), start, 1_000))
            .count();
        assert_eq!(recorded, usize::try_from(BURST).unwrap());
        assert!(refused.due(1_000 + TOLD_EVERY - 1).is_none());
        let counted = refused.due(1_000 + TOLD_EVERY).unwrap();
        assert_eq!(counted.count, 9_900);
        assert_eq!(counted.loudest().len(), NAMED);
        assert!(refused.due(10_000).is_none());
        let minute = start + Duration::from_secs(60);
        assert!(refused.is_recorded(peer(1), minute, 1_060));
    }

    #[test]
    fn one_networks_flood_leaves_records_for_others() {
        let refused = RefusedProofs::new();
        let start = Instant::now();
        let flood = (0..1_000).filter(|_| refused.is_recorded(peer(1), start, 1));
        assert_eq!(flood.count(), usize::try_from(PEER_BURST).unwrap());
        assert!(refused.is_recorded(peer(2), start, 1));
    }

    #[test]
    fn what_could_not_be_told_is_told_later() {
        let refused = RefusedProofs::new();
        let start = Instant::now();
        for _ in 0..25 {
            let _ = refused.is_recorded(peer(1), start, 1_000);
        }
        let untold = refused.due(2_000).unwrap();
        let _ = refused.is_recorded(peer(1), start, 2_000);
        refused.keep(untold);
        assert_eq!(refused.due(2_000).unwrap().count, 6);
    }
}
