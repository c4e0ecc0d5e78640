//! The running policy: replaced in one atomic step, kept when a new one is refused (C-01, C-17).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::decision::{Decision, Denial, DenialKind};
use super::document::LoadError;
use super::evaluate::evaluate;
use super::request::Request;
use super::set::{PolicyDigest, PolicySet, Sources};

/// Holds the running set. Readers never wait; each decision uses exactly one set.
#[derive(Debug)]
pub struct PolicyStore {
    sources: Sources,
    running: ArcSwap<PolicySet>,
    /// Unix seconds of the first failed reload since the last good one; 0 while all is well.
    failing_since: AtomicU64,
}

/// What a reload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The sources are as they were.
    Unchanged,
    /// Another policy runs now.
    Replaced {
        /// The one that ran before.
        before: PolicyDigest,
        /// The one that runs.
        now: PolicyDigest,
    },
}

impl PolicyStore {
    /// Loads the policy for the first time. Without one there is no service.
    ///
    /// # Errors
    /// As [`PolicySet::load`].
    pub fn open(sources: Sources) -> Result<Self, LoadError> {
        let running = ArcSwap::from_pointee(PolicySet::load(&sources)?);
        Ok(Self {
            sources,
            running,
            failing_since: AtomicU64::new(0),
        })
    }

    /// The running policy.
    #[must_use]
    pub fn current(&self) -> Arc<PolicySet> {
        self.running.load_full()
    }

    /// Reads the sources again. On an error the running policy stays, for a limited time.
    ///
    /// # Errors
    /// As [`PolicySet::load`]; the caller raises the alarm.
    pub fn reload(&self, now: u64) -> Result<Reloaded, LoadError> {
        let fresh = PolicySet::load(&self.sources).inspect_err(|_| self.note_failure(now))?;
        self.failing_since.store(0, Ordering::Release);
        let before = self.current().digest();
        let now = fresh.digest();
        if before == now {
            return Ok(Reloaded::Unchanged);
        }
        self.running.store(Arc::new(fresh));
        Ok(Reloaded::Replaced { before, now })
    }

    /// Decides one request with the running policy, or denies when that has been unverifiable for too long.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        decide(&self.running.load(), self.is_stale(request.now), request)
    }

    /// The running policy for a decision of several questions. `now` is in Unix seconds.
    #[must_use]
    pub fn snapshot(&self, now: u64) -> PolicySnapshot {
        PolicySnapshot {
            set: self.current(),
            stale: self.is_stale(now),
        }
    }

    /// Unix seconds since when reloads have failed; none while all is well. For the alarm and `/readyz`.
    #[must_use]
    pub fn failing_since(&self) -> Option<u64> {
        Some(self.failing_since.load(Ordering::Acquire)).filter(|since| *since != 0)
    }

    /// Whether the running policy is too old to be used.
    #[must_use]
    pub fn is_stale(&self, now: u64) -> bool {
        let limit = self.sources.settings.max_stale_seconds;
        self.failing_since()
            .is_some_and(|since| now.saturating_sub(since) > limit)
    }

    fn note_failure(&self, now: u64) {
        // The first failure counts; a clock at 0 must not read as "all is well".
        let _ =
            self.failing_since
                .compare_exchange(0, now.max(1), Ordering::AcqRel, Ordering::Acquire);
    }
}

/// One policy for all questions of one decision, however often it is replaced meanwhile (C-17).
#[derive(Clone, Debug)]
pub struct PolicySnapshot {
    set: Arc<PolicySet>,
    stale: bool,
}

impl PolicySnapshot {
    /// Decides one question.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        decide(&self.set, self.stale, request)
    }
}

fn decide(set: &PolicySet, stale: bool, request: &Request<'_>) -> Decision {
    if stale {
        return Decision::Deny(Denial::new(DenialKind::Stale, Some(set.digest())));
    }
    evaluate(set, request)
}
