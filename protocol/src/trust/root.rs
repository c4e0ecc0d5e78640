//! The root document: rarely changed, signed by M of N root keys; names every other key and its scope.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::envelope::{Envelope, MAX_DOCUMENT, Untrusted, parse};
use crate::os_user::OsUser;
use crate::sshsig::Namespace;
use crate::subject_key::{CaKey, SubjectKey};

/// Most roots that are walked at once; one a day for over two years.
pub const MAX_WALK: usize = 1_024;

/// What root keys sign (namespace `eic-root-v1`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Grows by one with each root.
    pub version: u64,
    /// When it was made, in Unix seconds.
    pub issued: u64,
    /// Keys that sign roots.
    pub root_keys: Vec<SubjectKey>,
    /// How many of them must sign.
    pub threshold: usize,
    /// Keys that sign bundles and host views.
    pub bundle_keys: Vec<SubjectKey>,
    /// Keys that sign user certificates.
    pub user_cas: Vec<ScopedCa>,
    /// Keys that sign host certificates.
    pub host_cas: Vec<CaKey>,
}

/// A user CA's key with its state and what hosts let it open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopedCa {
    /// The key.
    pub key: CaKey,
    /// Its state.
    pub state: KeyState,
    /// Its scope.
    #[serde(default)]
    pub scope: Scope,
}

/// The life of a CA key. Hosts trust announced and active ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Known to hosts, signs nothing yet.
    Announced,
    /// Signs.
    Active,
    /// Trusted no more.
    Retired,
}

/// What a CA key may open. Enforced by the principals command, since sshd knows no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Whether it never opens uid 0 and hosts of fleets marked `kms_only`, by any name (keys held in memory).
    #[serde(default)]
    pub endorsed: bool,
    /// The only users that it opens; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<BTreeSet<OsUser>>,
    /// First second at which it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<u64>,
    /// First second at which it does not count any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<u64>,
}

impl Scope {
    /// Whether the key counts at `now` for this user; `uid0` says whether the user is uid 0 on the host.
    #[must_use]
    pub fn admits(&self, user: &OsUser, uid0: bool, now: u64) -> bool {
        let in_time =
            self.not_before.is_none_or(|t| t <= now) && self.not_after.is_none_or(|t| now < t);
        let named = self.users.as_ref().is_none_or(|users| users.contains(user));
        in_time && named && !(self.endorsed && uid0)
    }
}

impl Root {
    /// The root in `envelope`, where keys pinned by fingerprint signed it: as many of them as the
    /// root itself demands, and at least one.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub fn pinned(envelope: &Envelope, fingerprints: &BTreeSet<String>) -> Result<Self, Untrusted> {
        let pinned = |key: &SubjectKey| fingerprints.contains(&key.fingerprint());
        let root: Self = parse(envelope.verified(Namespace::Root, 1, pinned)?)?;
        root.check()?;
        let own = |key: &SubjectKey| root.root_keys.contains(key);
        envelope.verified(Namespace::Root, root.threshold, own)?;
        Ok(root)
    }

    /// The next root in `envelope`: signed by enough keys of this one and of itself, and one version up.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub fn successor(&self, envelope: &Envelope) -> Result<Self, Untrusted> {
        let next = self.vouched(envelope)?;
        self.check_next(next.version)?;
        Ok(next)
    }

    /// A later root in `envelope`, signed as a successor is: a step that was walked before, with those between left
    /// out. Never for what comes over the network, where a gap hides a root that a key was taken out by.
    pub(super) fn later(&self, envelope: &Envelope) -> Result<Self, Untrusted> {
        let later = self.vouched(envelope)?;
        match self.check_next(later.version) {
            Ok(()) | Err(Untrusted::Gap { .. }) => Ok(later),
            Err(flaw) => Err(flaw),
        }
    }

    /// A root that enough keys of this one and of itself signed, of any version.
    fn vouched(&self, envelope: &Envelope) -> Result<Self, Untrusted> {
        let ours = |key: &SubjectKey| self.root_keys.contains(key);
        let next: Self = parse(envelope.verified(Namespace::Root, self.threshold, ours)?)?;
        next.check()?;
        let own = |key: &SubjectKey| next.root_keys.contains(key);
        envelope.verified(Namespace::Root, next.threshold, own)?;
        Ok(next)
    }

    fn check_next(&self, offered: u64) -> Result<(), Untrusted> {
        let installed = self.version;
        match offered.checked_sub(installed) {
            Some(1) => Ok(()),
            Some(2..) => Err(Untrusted::Gap { offered, installed }),
            _ => Err(Untrusted::Rollback { offered, installed }),
        }
    }

    /// The newest root that `envelopes`, sorted by version, lead to from this one, step by step.
    /// Those that are not newer than this one are passed over unread, so that a whole history may be given.
    ///
    /// # Errors
    /// [`Untrusted`] of the first step that does not hold; over 1,024 envelopes.
    pub fn walk(&self, envelopes: &[Envelope]) -> Result<Self, Untrusted> {
        self.steps(envelopes).map(|(root, _)| root)
    }

    /// As [`Self::walk`], with the envelopes that were a step of the way.
    pub(super) fn steps<'a>(
        &self,
        envelopes: &'a [Envelope],
    ) -> Result<(Self, Vec<&'a Envelope>), Untrusted> {
        self.steps_by(envelopes, Self::successor)
    }

    /// As [`Self::walk`], over a history of which [`Self::fewest`] was kept. Never for what comes over the network.
    ///
    /// # Errors
    /// [`Untrusted`] of the first step that does not hold; over 1,024 envelopes.
    pub fn walk_kept(&self, envelopes: &[Envelope]) -> Result<Self, Untrusted> {
        self.steps_by(envelopes, Self::later).map(|(root, _)| root)
    }

    /// Of the later roots in a walked history, sorted by version, those that are needed to get from this one to the
    /// newest: one where the root keys are the same still.
    #[must_use]
    pub fn fewest(&self, history: &[Envelope]) -> Vec<Envelope> {
        let (mut root, mut rest, mut kept) = (self.clone(), history, Vec::new());
        while let Some((at, farthest)) = root.farthest(rest) {
            let (walked, later) = rest.split_at(at + 1);
            kept.extend(walked.last().cloned());
            (root, rest) = (farthest, later);
        }
        kept
    }

    fn farthest(&self, history: &[Envelope]) -> Option<(usize, Self)> {
        let from_the_end = history.iter().enumerate().rev();
        from_the_end
            .map(|(at, envelope)| Some((at, self.later(envelope).ok()?)))
            .find_map(|found| found)
    }

    fn steps_by<'a>(
        &self,
        envelopes: &'a [Envelope],
        step: impl Fn(&Self, &Envelope) -> Result<Self, Untrusted>,
    ) -> Result<(Self, Vec<&'a Envelope>), Untrusted> {
        if envelopes.len() > MAX_WALK {
            return Err(Untrusted::TooMany(MAX_WALK));
        }
        let (mut root, mut steps) = (self.clone(), Vec::new());
        for envelope in envelopes {
            if Self::claimed_version(envelope)? > root.version {
                root = step(&root, envelope)?;
                steps.push(envelope);
            }
        }
        Ok((root, steps))
    }

    /// The newest root of a history whose oldest pinned root is signed by a pinned key: what a host
    /// that keeps the roots it has walked reads at its start. Roots may be left out where those before vouch for
    /// those behind.
    ///
    /// # Errors
    /// As [`Self::pinned`] where no root is by a pinned key, else as [`Self::walk`].
    pub fn history(envelopes: &[Envelope], pins: &BTreeSet<String>) -> Result<Self, Untrusted> {
        Self::oldest_pinned(envelopes, pins)?.walk_kept(envelopes)
    }

    /// As [`Self::history`] for roots that come over the network or lie in a published folder: none may be left out.
    ///
    /// # Errors
    /// As [`Self::history`]; [`Untrusted::Gap`].
    pub fn served(envelopes: &[Envelope], pins: &BTreeSet<String>) -> Result<Self, Untrusted> {
        Self::oldest_pinned(envelopes, pins)?.walk(envelopes)
    }

    /// The first root of a history that a pinned key signed.
    pub(super) fn oldest_pinned(
        envelopes: &[Envelope],
        pins: &BTreeSet<String>,
    ) -> Result<Self, Untrusted> {
        let mut refused = Untrusted::Signatures { good: 0, needed: 1 };
        for envelope in envelopes.iter().take(MAX_WALK) {
            match Self::pinned(envelope, pins) {
                Ok(root) => return Ok(root),
                Err(flaw) => refused = flaw,
            }
        }
        Err(refused)
    }

    /// What the document says of itself, unverified: only to pass over what is not newer.
    fn claimed_version(envelope: &Envelope) -> Result<u64, Untrusted> {
        #[derive(Deserialize)]
        struct Claimed {
            version: u64,
        }
        if envelope.signed.as_slice().len() > MAX_DOCUMENT {
            return Err(Untrusted::TooLarge);
        }
        parse::<Claimed>(envelope.signed.as_slice()).map(|claimed| claimed.version)
    }

    /// Whether the key has a part in this root already: a root, bundle, user-CA or host-CA key.
    #[must_use]
    pub fn names(&self, key: &SubjectKey) -> bool {
        self.root_keys.contains(key)
            || self.bundle_keys.contains(key)
            || self.user_cas.iter().any(|ca| ca.key.key() == key)
            || self.host_cas.iter().any(|ca| ca.key() == key)
    }

    /// The CA with this fingerprint (sshd's `%F`), unless it is retired.
    #[must_use]
    pub fn user_ca(&self, fingerprint: &str) -> Option<&ScopedCa> {
        self.trusted_user_cas()
            .find(|ca| ca.key.fingerprint() == fingerprint)
    }

    /// The user CAs that hosts trust.
    pub fn trusted_user_cas(&self) -> impl Iterator<Item = &ScopedCa> {
        self.user_cas
            .iter()
            .filter(|ca| ca.state != KeyState::Retired)
    }

    fn check(&self) -> Result<(), Untrusted> {
        let distinct: BTreeSet<_> = self.root_keys.iter().map(SubjectKey::blob).collect();
        let sound = distinct.len() == self.root_keys.len()
            && (1..=distinct.len()).contains(&self.threshold);
        if sound {
            Ok(())
        } else {
            Err(Untrusted::Malformed(
                "root keys and threshold disagree".to_owned(),
            ))
        }
    }
}
