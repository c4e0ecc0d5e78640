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

/// How long what completes earlier work waits for new work to share a commit with. Nobody waits for it,
/// and a commit of its own would make the next certificates wait for one more fsync.
const LINGER: Duration = Duration::from_millis(10);

#[derive(Default)]
struct State {
    waiting: VecDeque<Write>,
    completions: VecDeque<Write>,
    closed: bool,
    backend: Backend,
}

/// What the backend does: waking it is a system call, and most of the time it is awake anyway.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Backend {
    #[default]
    Awake,
    /// Until something waits.
    Asleep,
    /// Until new work waits, or so many completions.
    Lingering(usize),
}

impl State {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.completions.is_empty()
    }

    /// Whether a transaction is better put off: nothing new, and few completions.
    fn may_linger(&self, most: usize) -> bool {
        self.waiting.is_empty() && self.completions.len() < most && !self.closed
    }
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
        self.wake(state);
        Ok(())
    }

    /// Puts in what completes earlier work: never refused for want of room, since each entry is
    /// matched by one that was let in before.
    pub(super) fn push_completion(&self, write: Write) {
        let mut state = self.lock();
        state.completions.push_back(write);
        match state.backend {
            Backend::Lingering(most) if state.completions.len() < most => {}
            _ => self.wake(state),
        }
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let before = std::mem::take(&mut state.backend);
        drop(state);
        if before != Backend::Awake {
            self.filled.notify_one();
        }
    }

    /// Up to `most` new actions and as many completions, waiting at most `patience` for the first.
    /// `None`: closed and empty.
    pub(super) fn take(&self, most: usize, patience: Duration) -> Option<Vec<Write>> {
        let state = self.wait(self.lock(), patience, Backend::Asleep, |s| {
            s.is_empty() && !s.closed
        });
        let mut state = self.wait(state, LINGER, Backend::Lingering(most), |s| {
            !s.is_empty() && s.may_linger(most)
        });
        if state.is_empty() && state.closed {
            return None;
        }
        let finished = state.completions.len().min(most);
        let mut batch: Vec<Write> = state.completions.drain(..finished).collect();
        let new = state.waiting.len().min(most);
        batch.extend(state.waiting.drain(..new));
        Some(batch)
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        patience: Duration,
        meanwhile: Backend,
        condition: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let sleeps_on = |state: &mut State| {
            let on = condition(state);
            state.backend = if on { meanwhile } else { Backend::Awake };
            on
        };
        let waited = self.filled.wait_timeout_while(state, patience, sleeps_on);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.backend = Backend::Awake;
        state
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
