//! Endorsements: a user CA's key, in KMS, names keys held in memory that may sign for some hours.
//! sshd knows no hours, so the principals command enforces them; an endorsed key never opens more
//! than its endorser, and never uid 0 or a host of a fleet marked `kms_only`, by any name.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::envelope::{Envelope, Untrusted, parse};
use super::root::{KeyState, Root, Scope, ScopedCa};
use crate::os_user::OsUser;
use crate::sshsig::Namespace;
use crate::subject_key::{CaKey, SubjectKey};

/// Longest time for which a key is endorsed: hours of signing, and the 12 of its longest certificate. Seconds.
pub const MAX_HOURS: u64 = 48 * 3_600;
/// Most keys of one endorsement.
const MAX_KEYS: usize = 16;

/// What a user CA's key signs (namespace `eic-endorsement-v1`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endorsement {
    /// The user CA whose key signs this.
    pub endorser: CaKey,
    /// When it was made, in Unix seconds.
    pub issued: u64,
    /// The endorsed keys.
    pub keys: Vec<EndorsedKey>,
}

/// A key and its hours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndorsedKey {
    /// The key: Ed25519.
    pub key: CaKey,
    /// First second at which it counts.
    pub not_before: u64,
    /// First second at which it does not count any more; its certificates end by then.
    pub not_after: u64,
    /// The only users that it opens; absent: those of its endorser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<BTreeSet<OsUser>>,
}

impl Endorsement {
    /// The keys in `envelope` with what they may open, where a user CA of `root` that is not retired
    /// signed it. Their scopes are cut to the endorser's and marked `endorsed`, whatever was signed.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub fn verified(envelope: &Envelope, root: &Root) -> Result<Vec<ScopedCa>, Untrusted> {
        let any = |key: &SubjectKey| endorser(root, key).is_some();
        let document: Self = parse(envelope.verified(Namespace::Endorsement, 1, any)?)?;
        // The key that signed must be the one that the document names.
        let named = document.endorser.key();
        let by = endorser(root, named).ok_or(Untrusted::Signatures { good: 0, needed: 1 })?;
        envelope.verified(Namespace::Endorsement, 1, |key| key == named)?;
        if !(1..=MAX_KEYS).contains(&document.keys.len()) {
            return malformed("an endorsement names 1 to 16 keys");
        }
        let keys = document.keys.into_iter();
        keys.map(|key| key.scoped(&by.scope, root)).collect()
    }
}

/// The user CA with this key, where it may endorse: not retired, not endorsed itself.
fn endorser<'a>(root: &'a Root, key: &SubjectKey) -> Option<&'a ScopedCa> {
    root.trusted_user_cas()
        .find(|ca| ca.key.key() == key && !ca.scope.endorsed)
}

impl EndorsedKey {
    fn scoped(self, endorser: &Scope, root: &Root) -> Result<ScopedCa, Untrusted> {
        if root.names(self.key.key()) {
            return malformed("an endorsed key has another purpose in the root");
        }
        if self.key.key().algorithm_name() != "ssh-ed25519" {
            return malformed("an endorsed key is not Ed25519");
        }
        self.check_hours(endorser)?;
        let users = narrowed(self.users, endorser.users.as_ref());
        Ok(ScopedCa {
            key: self.key,
            state: KeyState::Active,
            scope: Scope {
                endorsed: true,
                users,
                not_before: Some(self.not_before),
                not_after: Some(self.not_after),
            },
        })
    }

    fn check_hours(&self, endorser: &Scope) -> Result<(), Untrusted> {
        let length = self.not_after.checked_sub(self.not_before);
        if !length.is_some_and(|length| (1..=MAX_HOURS).contains(&length)) {
            return malformed("an endorsed key's hours are reversed or more than 48");
        }
        let starts = endorser.not_before.is_none_or(|t| t <= self.not_before);
        let ends = endorser.not_after.is_none_or(|t| self.not_after <= t);
        if starts && ends {
            Ok(())
        } else {
            malformed("an endorsed key's hours go beyond its endorser's")
        }
    }
}

/// The users of both; a key may never open more than its endorser.
fn narrowed(
    own: Option<BTreeSet<OsUser>>,
    endorser: Option<&BTreeSet<OsUser>>,
) -> Option<BTreeSet<OsUser>> {
    match (own, endorser) {
        (Some(own), Some(endorser)) => Some(own.intersection(endorser).cloned().collect()),
        (own, endorser) => own.or_else(|| endorser.cloned()),
    }
}

fn malformed<T>(flaw: &str) -> Result<T, Untrusted> {
    Err(Untrusted::Malformed(flaw.to_owned()))
}
