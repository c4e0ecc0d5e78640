//! Which user-CA key signs: announced → active → retired, and none before hosts can have it.
//!
//! Hosts trust what the root names and is not retired, so changing the signer touches no host. What must
//! never happen is a certificate of a key that a host has not heard of: the gate is time since the root
//! that announced it. No key, store or clock here.

use eic_protocol::subject_key::CaKey;
use eic_protocol::trust::root::KeyState;

use crate::keys::RootHistory;

/// What the roots say of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its state in the present root.
    pub state: KeyState,
    /// When hosts could first have it, in Unix seconds; 0: with the CA's first root.
    pub announced_at: u64,
}

/// Why a key does not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// No root names it.
    #[error("the root document does not name it; run `eic-ca keys announce`")]
    Unannounced,
    /// It is retired.
    #[error("it is retired")]
    Retired,
    /// Hosts may not have it.
    #[error("hosts may not know it before {0} (Unix seconds)")]
    Propagating(u64),
}

/// The standing of a key; none: the present root does not name it.
#[must_use]
pub fn standing(roots: &RootHistory, key: &CaKey) -> Option<Standing> {
    let state_in = |root: &eic_protocol::trust::root::Root| {
        let named = root.user_cas.iter().find(|ca| ca.key == *key);
        named.map(|ca| ca.state)
    };
    let state = state_in(roots.present()?)?;
    let trusted = |root| state_in(root).is_some_and(|state| state != KeyState::Retired);
    let mut announced_at = 0;
    let newest_first: Vec<_> = roots.iter().map(|(root, _)| root).collect();
    for root in newest_first
        .into_iter()
        .rev()
        .take_while(|root| trusted(root))
    {
        // The first root came with the hosts' installation.
        announced_at = if root.version == 1 { 0 } else { root.issued };
    }
    Some(Standing {
        state,
        announced_at,
    })
}

/// Whether the key may sign at `now`. `last` is the fingerprint of the key that signed last: it goes on,
/// and where none ever signed no host can be behind. Times in Unix seconds, `propagation` in seconds.
///
/// # Errors
/// [`NotYet`]
pub fn may_sign(
    roots: &RootHistory,
    key: &CaKey,
    last: Option<&str>,
    propagation: u64,
    now: u64,
) -> Result<(), NotYet> {
    let standing = standing(roots, key).ok_or(NotYet::Unannounced)?;
    if standing.state == KeyState::Retired {
        return Err(NotYet::Retired);
    }
    if last.is_none_or(|last| last == key.fingerprint()) || standing.announced_at == 0 {
        return Ok(());
    }
    let known_at = standing.announced_at.saturating_add(propagation);
    if known_at <= now {
        Ok(())
    } else {
        Err(NotYet::Propagating(known_at))
    }
}

#[cfg(test)]
mod tests;
