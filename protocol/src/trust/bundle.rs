//! The trust bundle: revocations and endorsed keys, the same bytes for every host, signed by a bundle key.
//! Its own form and its order after another bundle; fetching and installing are the agent's work.

use serde::{Deserialize, Serialize};

use super::endorsement::Endorsement;
use super::envelope::{Envelope, Untrusted, parse};
use super::root::{Root, ScopedCa};
use crate::base64_text::Base64Bytes;
use crate::krl::{self, Expiring, Krl, PRUNE_GRACE};
use crate::sshsig::Namespace;
use crate::subject_key::SubjectKey;

/// Highest sequence: what every JSON reader holds exactly.
pub const MAX_SEQUENCE: u64 = (1 << 53) - 1;
/// How far the sequence may jump at once, whatever time has passed.
pub const JUMP_BASE: u64 = 100_000;
/// How far it may jump for each second between two bundles; a CA makes at most about one a second.
pub const JUMP_PER_SECOND: u64 = 10;
/// How far in the host's future a bundle's time counts for the jump. Seconds.
const FUTURE: u64 = 24 * 3_600;
/// Most endorsements of a bundle.
const MAX_ENDORSEMENTS: usize = 64;
/// Most hours at which revocations end: over 40 days.
const MAX_EXPIRING: usize = 1_024;

/// What a bundle key signs (namespace `eic-bundle-v1`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Grows with each bundle; from 1.
    pub sequence: u64,
    /// The root that was current when it was made: the oldest that it goes with.
    pub root_version: u64,
    /// When it was made, in Unix seconds.
    pub issued: u64,
    /// After this moment the host tells that it is out of date; logins go on.
    pub refresh_after: u64,
    /// After this moment no certificate opens a host; revocations stay in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_stop: Option<u64>,
    /// The floor of the host views: those made before this moment (Unix seconds) do not count.
    pub oldest_view: u64,
    /// What is revoked.
    pub revocations: RevocationList,
    /// Endorsements of keys held in memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endorsements: Vec<Envelope>,
}

/// The revocation list and what a host must know to tell a shorter one from a lost one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationList {
    /// The list's own version; grows when it changes, never above the bundle's sequence.
    pub number: u64,
    /// The version at which revocations were last taken back on purpose; 0: never. A host whose list
    /// is older takes one that lacks entries.
    pub reset_at: u64,
    /// The file for sshd.
    pub krl: Base64Bytes,
    /// When how many of its entries end by themselves.
    pub expiring: Vec<Expiring>,
}

impl RevocationList {
    /// The list in the form that hosts get.
    #[must_use]
    pub fn new(file: Vec<u8>, number: u64, reset_at: u64, expiring: Vec<Expiring>) -> Self {
        Self {
            number,
            reset_at,
            krl: Base64Bytes(file),
            expiring,
        }
    }

    /// The list, read strictly.
    ///
    /// # Errors
    /// [`krl::UnreadableKrl`]
    pub fn read(&self) -> Result<Krl, krl::UnreadableKrl> {
        krl::read(self.krl.as_slice())
    }
}

/// Endorsed keys of a bundle under a root.
#[derive(Clone, Debug, Default)]
pub struct Endorsed {
    /// Those that count, with their scopes; none of them before or after its hours.
    pub cas: Vec<ScopedCa>,
    /// Why others do not: to be reported. They never keep revocations from being installed.
    pub refused: Vec<String>,
}

/// Whether what a host has is up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// Yes.
    Fresh,
    /// `refresh_after` has passed: an alarm, logins go on.
    Stale,
    /// `hard_stop` has passed: no principals any more.
    Stopped,
}

impl Freshness {
    /// By a document's two moments; all in Unix seconds.
    #[must_use]
    pub fn at(now: u64, refresh_after: u64, hard_stop: Option<u64>) -> Self {
        if hard_stop.is_some_and(|stop| stop <= now) {
            Self::Stopped
        } else if refresh_after <= now {
            Self::Stale
        } else {
            Self::Fresh
        }
    }
}

impl Bundle {
    /// Reads a bundle's bytes strictly. Says nothing about who signed them.
    ///
    /// # Errors
    /// [`Untrusted::Malformed`] names what cannot be, [`Untrusted::TooLarge`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Untrusted> {
        if bytes.len() > super::envelope::MAX_DOCUMENT {
            return Err(Untrusted::TooLarge);
        }
        let bundle: Self = parse(bytes)?;
        bundle.check()?;
        Ok(bundle)
    }

    /// The bundle in `envelope`, where a bundle key of `root` signed it, and it goes with a root that
    /// is not newer. Whether its time has passed is [`Self::freshness`]'s business.
    ///
    /// # Errors
    /// [`Untrusted`]
    pub fn authentic(envelope: &Envelope, root: &Root) -> Result<Self, Untrusted> {
        let ours = |key: &SubjectKey| root.bundle_keys.contains(key);
        let bundle = Self::parse(envelope.verified(Namespace::Bundle, 1, ours)?)?;
        if root.version < bundle.root_version {
            return Err(Untrusted::NeedsRoot {
                needed: bundle.root_version,
                installed: root.version,
            });
        }
        Ok(bundle)
    }

    /// As [`Self::authentic`], where its hard stop has not passed. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`Untrusted`]
    pub fn verified(envelope: &Envelope, root: &Root, now: u64) -> Result<Self, Untrusted> {
        let bundle = Self::authentic(envelope, root)?;
        match bundle.freshness(now) {
            Freshness::Stopped => Err(Untrusted::HardStop),
            Freshness::Fresh | Freshness::Stale => Ok(bundle),
        }
    }

    /// Whether it is up to date at `now` (Unix seconds).
    #[must_use]
    pub fn freshness(&self, now: u64) -> Freshness {
        Freshness::at(now, self.refresh_after, self.hard_stop)
    }

    /// The endorsed keys that count under `root`: an endorser that is retired there counts no more.
    #[must_use]
    pub fn endorsed(&self, root: &Root) -> Endorsed {
        let mut endorsed = Endorsed::default();
        for envelope in &self.endorsements {
            match Endorsement::verified(envelope, root) {
                Ok(cas) => endorsed.cas.extend(cas),
                Err(flaw) => endorsed.refused.push(flaw.to_string()),
            }
        }
        endorsed
    }

    /// Whether this bundle may take the place of `installed`, which it is not equal to.
    /// `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`RefusedBundle`]: older, too far ahead, or with fewer revocations than have ended.
    pub fn check_follows(&self, installed: &Self, now: u64) -> Result<(), RefusedBundle> {
        if self.sequence == installed.sequence {
            return Err(Untrusted::Equivocation(self.sequence).into());
        }
        check_order("sequence", self.sequence, installed.sequence)?;
        self.check_jump(installed, now)?;
        check_order("root version", self.root_version, installed.root_version)?;
        check_order("view floor", self.oldest_view, installed.oldest_view)?;
        self.check_revocations(installed, now)
    }

    fn check_jump(&self, installed: &Self, now: u64) -> Result<(), RefusedBundle> {
        let latest = self.issued.min(now.saturating_add(FUTURE));
        let passed = latest.saturating_sub(installed.issued);
        let allowed = JUMP_BASE.saturating_add(passed.saturating_mul(JUMP_PER_SECOND));
        let jump = self.sequence.saturating_sub(installed.sequence);
        if jump <= allowed {
            Ok(())
        } else {
            Err(RefusedBundle::Jump { jump, allowed })
        }
    }

    /// A list may lack only what has ended by itself, or what was taken back on purpose (F-06).
    fn check_revocations(&self, installed: &Self, now: u64) -> Result<(), RefusedBundle> {
        let (new, old) = (&self.revocations, &installed.revocations);
        check_order("revocation list", new.number, old.number)?;
        if new.number == old.number {
            let same = new.krl == old.krl;
            return if same {
                Ok(())
            } else {
                Err(Untrusted::Equivocation(new.number).into())
            };
        }
        if new.reset_at > old.number {
            return Ok(());
        }
        let (new_krl, old_krl) = (new.read()?, old.read()?);
        let missing = old_krl.missing_in(&new_krl);
        // A CA whose clock is ahead drops what is still good here. Entries outlive their certificates by the
        // grace, so that within it only what has expired by this clock counts as ended.
        let ended = ended(
            &old.expiring,
            new_krl.generated.min(now.saturating_add(PRUNE_GRACE)),
        );
        if missing <= ended {
            Ok(())
        } else {
            Err(RefusedBundle::Lost { missing, ended })
        }
    }

    fn check(&self) -> Result<(), Untrusted> {
        let list = &self.revocations;
        let krl = list
            .read()
            .map_err(|flaw| Untrusted::Malformed(flaw.to_string()))?;
        let sorted = list.expiring.is_sorted_by(|a, b| a.at < b.at);
        let checks = [
            ("sequence", (1..=MAX_SEQUENCE).contains(&self.sequence)),
            ("root version", self.root_version > 0),
            ("refresh time", self.issued < self.refresh_after),
            (
                "hard stop",
                self.hard_stop.is_none_or(|stop| self.refresh_after <= stop),
            ),
            ("view floor", self.oldest_view <= self.issued),
            (
                "revocation list's number",
                list.number == krl.version && list.number <= self.sequence,
            ),
            ("revocation list's time", krl.generated <= self.issued),
            ("revocation list's reset", list.reset_at <= list.number),
            (
                "account of endings",
                sorted && list.expiring.len() <= MAX_EXPIRING,
            ),
            (
                "number of endorsements",
                self.endorsements.len() <= MAX_ENDORSEMENTS,
            ),
        ];
        match checks.iter().find(|(_, holds)| !holds) {
            Some((what, _)) => Err(Untrusted::Malformed(format!("its {what} cannot be"))),
            None => Ok(()),
        }
    }
}

/// How many entries have ended by `now`.
fn ended(expiring: &[Expiring], now: u64) -> u64 {
    let past = expiring.iter().filter(|entry| entry.at <= now);
    past.map(|entry| entry.count).fold(0, u64::saturating_add)
}

fn check_order(what: &'static str, offered: u64, installed: u64) -> Result<(), RefusedBundle> {
    if installed <= offered {
        Ok(())
    } else {
        Err(RefusedBundle::Rollback {
            what,
            offered,
            installed,
        })
    }
}

/// Why a bundle does not take the place of the installed one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedBundle {
    /// By itself.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// Its list cannot be read.
    #[error(transparent)]
    Krl(#[from] krl::UnreadableKrl),
    /// Something in it is older than what is installed.
    #[error("its {what} is {offered}, older than the installed {installed}")]
    Rollback {
        /// What is older.
        what: &'static str,
        /// Offered.
        offered: u64,
        /// Installed.
        installed: u64,
    },
    /// Its sequence is too far ahead.
    #[error("its sequence jumps by {jump}, but {allowed} are possible in that time")]
    Jump {
        /// By how much.
        jump: u64,
        /// At most.
        allowed: u64,
    },
    /// Revocations are missing.
    #[error("its revocation list lacks {missing} installed entries, but only {ended} have ended")]
    Lost {
        /// How many.
        missing: u64,
        /// How many may be.
        ended: u64,
    },
}
