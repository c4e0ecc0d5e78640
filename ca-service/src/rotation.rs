//! Which user-CA key signs: announced → active → retired, and none before hosts can have it; and when keys in
//! memory are made, sign and end.
//!
//! Hosts trust what the root names and is not retired, so changing the signer touches no host. What must
//! never happen is a certificate of a key that a host has not heard of: the gate is time since the root
//! that announced it, or since the bundle that named it. No key, store or clock here.

use std::collections::BTreeMap;

use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::root::{KeyState, Root};

use crate::keys::RootHistory;
use crate::moment;

mod endorsed;
mod schedule;

pub use endorsed::{EndorsedRules, Held, Hours, choose as choose_endorsed};
pub use schedule::{Due, Overdue, Scheduled, due, overdue};

/// What the roots say of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its state in the present root.
    pub state: KeyState,
    /// When the root that announced it was made, in Unix seconds; 0: it is the CA's first root.
    pub announced_at: u64,
    /// The version of that root.
    pub announced_in: u64,
    /// When it was first named, in Unix seconds.
    pub named_at: u64,
}

/// Why a key does not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// No root names it.
    #[error("the root document does not name it; run `eic-ca keys announce`")]
    Unannounced,
    /// It is retired.
    #[error("it is retired; name a fresh key in `spare_user_cas` and run `eic-ca keys announce`")]
    Retired,
    /// It is on the revocation list.
    #[error("it is revoked; name a fresh key in `spare_user_cas` and run `eic-ca keys announce`")]
    Revoked,
    /// No host can have it.
    #[error(
        "no host can know it: the running service has not served, or with `[publish]` not yet published, the root that announces it; start `eic-ca serve`, and see its log for ALARM if it runs"
    )]
    Unserved,
    /// Hosts may not have it before this moment, in Unix seconds.
    #[error("hosts may not know it before {time}", time = moment::rfc3339(*.0))]
    Propagating(u64),
}

impl NotYet {
    /// The reason as it is told at `now` (Unix seconds): a moment with how far off it is.
    #[must_use]
    pub fn told_at(&self, now: u64) -> String {
        match self {
            Self::Propagating(known_at) => format!(
                "hosts may not know it before {}",
                moment::seen_from(now, *known_at)
            ),
            other => other.to_string(),
        }
    }
}

/// A configured user-CA key.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its public half.
    pub key: &'a CaKey,
    /// Whether hosts are told to refuse it.
    pub revoked: bool,
    /// Whether its private half answers: KMS may not.
    pub answers: bool,
}

/// What decides among the configured keys.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The root and those that led to it.
    pub roots: &'a RootHistory,
    /// The operator's choice, by fingerprint.
    pub chosen: Option<&'a str>,
    /// The key that signed last, by fingerprint: it goes on, and where none ever signed no host can be behind.
    pub last: Option<&'a str>,
    /// Since when hosts could fetch a root (Unix seconds), by its version. The service notes one at its first start.
    pub served: &'a BTreeMap<u64, u64>,
    /// How long hosts may take to hear of a key. Seconds.
    pub propagation: u64,
    /// The time, in Unix seconds.
    pub now: u64,
}

/// Who signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The candidate that signs; none: no user certificates are issued.
    pub signer: Option<usize>,
    /// Of each candidate, whether it may.
    pub judged: Vec<Result<(), NotYet>>,
}

/// Which of the configured keys signs: the operator's choice (a choice that is not configured any more is none:
/// then the first one), where hosts can know it by now; else the one that signed last; else any that may. One that
/// does not answer signs in no other's place, and where no other one may, it is the one that is waited for.
#[must_use]
pub fn choose(candidates: &[Candidate<'_>], by: &Circumstances<'_>) -> Choice {
    let prints: Vec<_> = candidates.iter().map(|ca| ca.key.fingerprint()).collect();
    let chosen = by
        .chosen
        .filter(|chosen| prints.iter().any(|p| p == chosen));
    let first = chosen.or_else(|| prints.first().map(String::as_str));
    let judged: Vec<_> = candidates.iter().map(|ca| judge(ca, by)).collect();
    let mut ranked: Vec<_> = (0..).zip(&prints).zip(&judged).collect();
    ranked.sort_by_key(|((index, print), _)| {
        let print = Some(print.as_str());
        let silent = candidates.get(*index).is_some_and(|ca| !ca.answers);
        (silent, print != first, print != by.last)
    });
    let signer = ranked
        .into_iter()
        .find_map(|((index, _), judged)| judged.is_ok().then_some(index));
    Choice { signer, judged }
}

/// Whether this key may sign.
///
/// # Errors
/// [`NotYet`]
pub fn judge(candidate: &Candidate<'_>, by: &Circumstances<'_>) -> Result<(), NotYet> {
    let standing = standing(by.roots, candidate.key).ok_or(NotYet::Unannounced)?;
    if standing.state == KeyState::Retired {
        return Err(NotYet::Retired);
    }
    if candidate.revoked {
        return Err(NotYet::Revoked);
    }
    let signed_last = by
        .last
        .is_none_or(|last| last == candidate.key.fingerprint());
    if signed_last || standing.announced_at == 0 {
        return Ok(());
    }
    let fetched_from = fetched_from(&standing, by.served).ok_or(NotYet::Unserved)?;
    let known_at = fetched_from.saturating_add(by.propagation);
    if known_at <= by.now {
        Ok(())
    } else {
        Err(NotYet::Propagating(known_at))
    }
}

/// When hosts could first fetch the root that announced the key; none: they could not yet. A root that several people
/// sign can be days old when it is put in place.
fn fetched_from(standing: &Standing, served: &BTreeMap<u64, u64>) -> Option<u64> {
    let (_, since) = served.range(standing.announced_in..).next()?;
    Some(standing.announced_at.max(*since))
}

/// The standing of a key; none: the present root does not name it.
#[must_use]
pub fn standing(roots: &RootHistory, key: &CaKey) -> Option<Standing> {
    let state_in = |root: &Root| {
        let named = root.user_cas.iter().find(|ca| ca.key == *key);
        named.map(|ca| ca.state)
    };
    let state = state_in(roots.present()?)?;
    let trusted = |root: &_| state_in(root).is_some_and(|state| state != KeyState::Retired);
    let Some(root) = first_in_a_row(roots, trusted) else {
        return Some(Standing {
            state,
            announced_at: 0,
            announced_in: 0,
            named_at: 0,
        });
    };
    Some(Standing {
        state,
        // The first root came with the hosts' installation.
        announced_at: if root.version == 1 { 0 } else { root.issued },
        announced_in: root.version,
        named_at: root.issued,
    })
}

/// The oldest of the roots that, up to the present one, all `hold`; none: the present one does not.
fn first_in_a_row(roots: &RootHistory, holds: impl Fn(&Root) -> bool) -> Option<&Root> {
    let newest_first: Vec<_> = roots.iter().map(|(root, _)| root).collect();
    let row = newest_first.into_iter().rev();
    row.take_while(|root| holds(root)).last()
}

#[cfg(test)]
mod tests;
