//! How many errands run at once, and how many begin within some seconds: whoever holds AuthorizedKeysCommandUser must
//! not fill the host with another user's processes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// sshd's MaxStartups lets 100 logins wait at most; few of them ask at the same moment.
const AT_ONCE: usize = 64;
/// Fifty logins a second for ten seconds, each key asked about once.
const STARTS: usize = 500;
const WINDOW: Duration = Duration::from_secs(10);

/// Shared by the errands.
#[derive(Debug)]
pub(super) struct Bounds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// When the last ones began, oldest first.
    starts: VecDeque<Instant>,
}

/// The right to run one errand; given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Bounds>);

impl Bounds {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// A place, where there is one at `now`.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> Option<Place> {
        let mut state = self.state();
        let is_old = |start: &Instant| now.saturating_duration_since(*start) >= WINDOW;
        while state.starts.front().is_some_and(is_old) {
            state.starts.pop_front();
        }
        if state.running >= AT_ONCE || state.starts.len() >= STARTS {
            return None;
        }
        state.running += 1;
        state.starts.push_back(now);
        Some(Place(Arc::clone(self)))
    }

    /// Whether nothing runs.
    pub(super) fn is_idle(&self) -> bool {
        self.state().running == 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running = state.running.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_run_at_once_than_may() {
        let bounds = Bounds::new();
        let now = Instant::now();
        let mut places: Vec<Place> = (0..AT_ONCE).filter_map(|_| bounds.enter(now)).collect();
        assert_eq!(places.len(), AT_ONCE);
        assert!(bounds.enter(now).is_none());
        places.pop();
        assert!(bounds.enter(now).is_some());
        drop(places);
        assert!(bounds.is_idle());
    }

    #[test]
    fn no_more_begin_within_the_window_than_may() {
        let bounds = Bounds::new();
        let now = Instant::now();
        let begun = (0..STARTS + 1).filter(|_| bounds.enter(now).is_some());
        assert_eq!(begun.count(), STARTS);
        let almost = now + WINDOW - Duration::from_millis(1);
        assert!(bounds.enter(almost).is_none());
        assert!(bounds.enter(now + WINDOW).is_some());
    }
}
