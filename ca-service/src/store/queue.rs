//! The queue in front of the writer: bounded for new work, always open for what finishes work.
//! It holds actions; what they mean is the backend's business.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::write::Write;

/// Many writers in, one backend out, in order.
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Write>,
    closed: bool,
}

/// Why an action was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// As many wait as may.
    Full,
    /// The store is shutting down, or its writer has died.
    Closed,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            capacity,
        }
    }

    /// Puts new work in, where there is room.
    pub(super) fn push(&self, write: Write) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.waiting.len() >= self.capacity {
            return Err(Refused::Full);
        }
        state.waiting.push_back(write);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Puts in what completes earlier work: never refused for want of room, since each entry is
    /// matched by one that was let in before.
    pub(super) fn push_completion(&self, write: Write) {
        self.lock().waiting.push_back(write);
        self.filled.notify_one();
    }

    /// Up to `most` actions, waiting at most `patience` for the first. `None`: closed and empty.
    pub(super) fn take(&self, most: usize, patience: Duration) -> Option<Vec<Write>> {
        let state = self.lock();
        let waited = self
            .filled
            .wait_timeout_while(state, patience, |s| s.waiting.is_empty() && !s.closed);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() && state.closed {
            return None;
        }
        let count = state.waiting.len().min(most);
        Some(state.waiting.drain(..count).collect())
    }

    /// Takes no new work any more; what waits is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The state is a plain list: a panic elsewhere cannot leave it half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
