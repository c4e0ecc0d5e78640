//! Turns at STS: so many calls at once, shared fairly among peers. A flood from one network takes at most
//! half of them, and where several wait, each network gets every n-th turn (threats A-20, G-04).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::peer_network::PeerNetwork;

/// Most calls of one network that may wait: an office behind one address that signs in at nine o'clock.
const WAITING_PER_PEER: usize = 256;
/// Most calls that may wait.
const WAITING: usize = 2_048;

/// Hands out turns.
pub(super) struct Turns {
    state: Arc<Mutex<State>>,
}

/// The right to one call; dropping it passes it on.
pub(super) struct Turn {
    state: Option<Arc<Mutex<State>>>,
    peer: PeerNetwork,
}

/// No turn in time, or too many wait already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoTurn;

struct State {
    free: usize,
    per_peer: usize,
    running: HashMap<PeerNetwork, usize>,
    waiting: HashMap<PeerNetwork, VecDeque<oneshot::Sender<Turn>>>,
    /// Networks that wait, the next one first.
    order: VecDeque<PeerNetwork>,
}

impl Turns {
    /// `all` at once; half of them for one network.
    pub(super) fn new(all: usize) -> Self {
        let free = all.max(1);
        Self {
            state: Arc::new(Mutex::new(State {
                free,
                per_peer: free.div_ceil(2),
                running: HashMap::new(),
                waiting: HashMap::new(),
                order: VecDeque::new(),
            })),
        }
    }

    /// A turn for this network, after at most `patience`.
    pub(super) async fn take(&self, peer: PeerNetwork, patience: Duration) -> Result<Turn, NoTurn> {
        let mine = {
            let mut state = lock(&self.state);
            let mine = state.queue_up(peer).ok_or(NoTurn)?;
            state.hand_out(&self.state);
            mine
        };
        match tokio::time::timeout(patience, mine).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(NoTurn),
        }
    }
}

impl State {
    fn queue_up(&mut self, peer: PeerNetwork) -> Option<oneshot::Receiver<Turn>> {
        // Before the queue is made: a network that may not wait leaves nothing behind.
        self.make_room(peer)?;
        let queue = self.waiting.entry(peer).or_default();
        // Those that gave up are still in the queue until their turn comes; they must not bar others.
        queue.retain(|waiting| !waiting.is_closed());
        if queue.len() >= WAITING_PER_PEER {
            return None;
        }
        let (turn, mine) = oneshot::channel();
        queue.push_back(turn);
        if !self.order.contains(&peer) {
            self.order.push_back(peer);
        }
        Some(mine)
    }

    /// Where as many wait as may, the last of the longest queue gives way to a network with a shorter one: a site with many
    /// networks (of IPv6 it has 256, or 65,536) must not bar all others.
    fn make_room(&mut self, peer: PeerNetwork) -> Option<()> {
        let all =
            |waiting: &HashMap<_, VecDeque<_>>| waiting.values().map(VecDeque::len).sum::<usize>();
        if all(&self.waiting) < WAITING {
            return Some(());
        }
        // Those that gave up are still in their queues until their turn comes.
        for queue in self.waiting.values_mut() {
            queue.retain(|waiting| !waiting.is_closed());
        }
        if all(&self.waiting) < WAITING {
            return Some(());
        }
        let own = self.waiting.get(&peer).map_or(0, VecDeque::len);
        let longest = self.waiting.values_mut().max_by_key(|queue| queue.len())?;
        if longest.len() <= own.saturating_add(1) {
            return None;
        }
        longest.pop_back().map(drop)
    }

    fn hand_out(&mut self, shared: &Arc<Mutex<State>>) {
        while self.free > 0 {
            let next = self.order.iter().position(|peer| self.may_run(*peer));
            let Some(peer) = next.and_then(|at| self.order.remove(at)) else {
                return;
            };
            self.start_one_of(peer, shared);
            if self.waiting.get(&peer).is_some_and(|q| !q.is_empty()) {
                self.order.push_back(peer);
            } else {
                self.waiting.remove(&peer);
            }
        }
    }

    fn may_run(&self, peer: PeerNetwork) -> bool {
        self.running.get(&peer).copied().unwrap_or_default() < self.per_peer
    }

    /// The first of the network who still waits.
    fn start_one_of(&mut self, peer: PeerNetwork, shared: &Arc<Mutex<State>>) {
        let Some(queue) = self.waiting.get_mut(&peer) else {
            return;
        };
        while let Some(waiting) = queue.pop_front() {
            let state = Some(Arc::clone(shared));
            match waiting.send(Turn { state, peer }) {
                Ok(()) => {
                    self.free -= 1;
                    *self.running.entry(peer).or_default() += 1;
                    return;
                }
                // Nobody took it: it is not to be passed on by its end, least of all under the lock.
                Err(mut unwanted) => unwanted.state = None,
            }
        }
    }

    fn give_back(&mut self, peer: PeerNetwork) {
        self.free += 1;
        if let Some(running) = self.running.get_mut(&peer) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(&peer);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(shared) = self.state.take() {
            let mut state = lock(&shared);
            state.give_back(self.peer);
            state.hand_out(&shared);
        }
    }
}

/// Counters and lists: a panic elsewhere cannot leave them half changed.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LATER: Duration = Duration::from_secs(20);

    fn peer(n: u8) -> PeerNetwork {
        PeerNetwork::of([192, 0, 2, n].into())
    }

    #[tokio::test]
    async fn one_networks_flood_leaves_half_of_the_turns_to_others() {
        //
        let turns = Turns::new(4);
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(turns.take(peer(1), SOON).await.unwrap());
        }
        assert_eq!(turns.take(peer(1), SOON).await.err(), Some(NoTurn));
        held.push(turns.take(peer(2), SOON).await.unwrap());
        held.push(turns.take(peer(3), SOON).await.unwrap());
        assert_eq!(turns.take(peer(4), SOON).await.err(), Some(NoTurn));
        drop(held);
        assert!(turns.take(peer(4), SOON).await.is_ok());
        let state = lock(&turns.state);
        assert_eq!((state.free, state.running.len()), (4, 0));
    }

    #[tokio::test]
    async fn who_waits_alone_is_served_before_the_queue_of_another() {
        let turns = Arc::new(Turns::new(1));
        let first = turns.take(peer(1), SOON).await.unwrap();
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        for from in [1, 1, 1, 1, 2] {
            let (waiting, done) = (Arc::clone(&turns), done.clone());
            tokio::spawn(async move {
                let turn = waiting.take(peer(from), LATER).await.unwrap();
                done.send(from).unwrap();
                drop(turn);
            });
            // Each queues up before the next one does.
            tokio::task::yield_now().await;
        }
        drop(first);
        let mut served = Vec::new();
        for _ in 0..5 {
            served.push(order.recv().await.unwrap());
        }
        assert!(
            served.iter().position(|from| *from == 2).unwrap() <= 1,
            "{served:?}"
        );
    }

    #[tokio::test]
    async fn where_many_networks_fill_the_queue_another_still_waits_its_turn() {
        // G-04: eight networks of one site.
        let turns = Arc::new(Turns::new(1));
        let held = turns.take(peer(1), SOON).await.unwrap();
        let mut crowd = Vec::new();
        for from in 1..=8 {
            for _ in 0..WAITING_PER_PEER {
                let turns = Arc::clone(&turns);
                crowd.push(tokio::spawn(async move {
                    turns.take(peer(from), LATER).await.map(drop)
                }));
            }
        }
        while lock(&turns.state)
            .waiting
            .values()
            .map(VecDeque::len)
            .sum::<usize>()
            < WAITING
        {
            tokio::task::yield_now().await;
        }
        let other = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.take(peer(9), LATER).await.map(drop) }
        });
        while !lock(&turns.state).waiting.contains_key(&peer(9)) {
            tokio::task::yield_now().await;
        }
        drop(held);
        assert_eq!(other.await.unwrap(), Ok(()));
        let mut refused = 0;
        for one in crowd {
            refused += usize::from(one.await.unwrap().is_err());
        }
        assert_eq!(refused, 1);
    }

    #[tokio::test]
    async fn who_gave_up_neither_keeps_a_turn_nor_bars_others() {
        let turns = Turns::new(1);
        let held = turns.take(peer(1), SOON).await.unwrap();
        for _ in 0..(WAITING_PER_PEER + 10) {
            let gone = tokio::time::timeout(Duration::ZERO, turns.take(peer(1), LATER)).await;
            assert!(gone.is_err());
        }
        drop(held);
        assert!(turns.take(peer(1), SOON).await.is_ok());
    }
}
