//! Revocations of certificates and keys, the bundle's numbers, and since when hosts are in fleets.
//! Who may revoke is decided before (`app::revocations`); what a bundle holds is `bundle`'s business.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use eic_protocol::fleet::FleetName;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::krl::Target;
use eic_protocol::request_id::RequestId;
use eic_protocol::subject_key::{CaKey, SubjectKey};
use eic_protocol::trust::envelope::Envelope;
use tokio::sync::watch;

use super::Log;
use super::error::StoreError;
use super::reader::Reader;
use super::replay::ReplayClaim;
use super::revocation::RevokedCaller;
use super::write::{Action, AuditEntry, Outcome};
use crate::clock::Moment;

mod read;

pub use read::{
    HandedIn, IssuedRow, NumberedList, Revoked, Signing, handed_in, revoked_and_numbered,
};

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// One entry of the list, and when it ends by itself.
    Entry(Target, Option<u64>),
    /// A caller: no grants, no certificates, and those that are out.
    Caller(RevokedCaller),
    /// A host: no certificates, and those that are out.
    Host(InstanceId),
    /// A host's certificates that are out, and nothing more.
    HostCertificates(InstanceId),
}

/// A revocation as it is written.
#[derive(Clone, Debug)]
pub struct RevocationOrder {
    /// Its id.
    pub id: RequestId,
    /// What.
    pub what: What,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// When, in Unix seconds.
    pub at: u64,
}

/// What a recorded revocation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationEffect {
    /// Certificates that it ended; those of a key are not counted, since the journal keeps no keys.
    pub certificates: u64,
    /// The state of the store from which on a bundle holds it.
    pub revision: u64,
}

/// A key in memory as it is written down: public halves only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsed {
    /// The key.
    pub key: CaKey,
    /// Fingerprint of the user CA that endorsed it.
    pub endorser: String,
    /// What hosts get.
    pub document: Envelope,
    /// When it was to begin to sign, in Unix seconds.
    pub signs_from: u64,
    /// First second at which hosts take it no more.
    pub not_after: u64,
    /// Since when every host can know it; none: no bundle has named it.
    pub known_at: Option<u64>,
    /// Whether it, or the key that endorsed it, is on the revocation list.
    pub revoked: bool,
}

/// Numbers of the next bundle. None of them ever goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleNumbers {
    /// The bundle's.
    pub sequence: u64,
    /// The list's.
    pub number: u64,
    /// When the list last changed, in Unix seconds.
    pub generated: u64,
    /// The list's number when revocations were last taken back.
    pub reset_at: u64,
}

/// A list that is to get numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftedList {
    /// Digest of the list without its number and time.
    pub content: [u8; 32],
    /// The store's revision that it was read at: what was taken back later is still to be told to hosts.
    pub revision: u64,
    /// It may lack entries of the list before that have not ended, and hosts must take it all the same.
    pub lacks_entries: bool,
}

/// One change, made whole or not at all.
pub(crate) enum TrustChange {
    /// A revocation.
    Revoke(RevocationOrder),
    /// An entry is taken back on purpose.
    TakeBack(Target),
    /// Certificates that callers got while they were being revoked by another process.
    Sweep { since: u64, now: u64 },
    /// CA keys of a root.
    KnowCas(Vec<CaKey>),
    /// The choice of the user CA that signs, by fingerprint.
    Choose { ca: String, now: u64 },
    /// Hosts can fetch this root.
    Served { version: u64, issued: u64, now: u64 },
    /// A key in memory that a user CA's key endorsed.
    Endorse(Endorsed),
    /// Since when every host can know it.
    Known { fingerprint: String, at: u64 },
    /// Endorsed keys of earlier processes that never came to sign.
    ForgetUnused { now: u64 },
    /// Numbers for a bundle with this list.
    Number { list: DraftedList, at: Moment },
    /// The fleets whose tags a host has now.
    Join {
        instance: InstanceId,
        fleets: Vec<FleetName>,
        now: u64,
    },
}

/// A change with the claim of the message that caused it and its audit record.
pub(crate) struct TrustWrite {
    pub(crate) claim: Option<ReplayClaim>,
    pub(crate) change: TrustChange,
    pub(crate) audit: Option<AuditEntry>,
}

/// What came of a change.
pub(crate) enum TrustOutcome {
    Revoked(RevocationEffect),
    TakenBack(bool),
    Numbers(BundleNumbers),
    Joined(BTreeMap<FleetName, u64>),
    Done,
}

/// Revoked keys, and a signal at each change of what is revoked. Clones share one state.
#[derive(Clone)]
pub struct TrustWatch {
    keys: Arc<ArcSwap<HashSet<String>>>,
    revision: Arc<watch::Sender<u64>>,
}

impl Default for TrustWatch {
    fn default() -> Self {
        Self {
            keys: Arc::default(),
            revision: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl TrustWatch {
    /// Whether the key itself is revoked.
    #[must_use]
    pub fn revokes(&self, key: &SubjectKey) -> bool {
        let keys = self.keys.load();
        !keys.is_empty() && keys.contains(&key.fingerprint())
    }

    /// The store's revisions as they come.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub(super) fn replace(&self, keys: HashSet<String>, revision: u64) {
        self.keys.store(Arc::new(keys));
        self.revision.send_if_modified(|known| {
            let changed = *known != revision;
            *known = revision;
            changed
        });
    }
}

/// The handle of revocation and bundles.
#[derive(Clone)]
pub struct TrustBook {
    log: Log,
    reader: Reader,
    watch: TrustWatch,
}

impl TrustBook {
    pub(super) fn new(log: Log, reader: Reader, watch: TrustWatch) -> Self {
        Self { log, reader, watch }
    }

    /// Revoked keys, and when what is revoked changes.
    #[must_use]
    pub fn watch(&self) -> &TrustWatch {
        &self.watch
    }

    /// `None`: the message was used before.
    pub(crate) async fn write(
        &self,
        write: TrustWrite,
    ) -> Result<Option<TrustOutcome>, StoreError> {
        match self.log.write(Action::Trust(Box::new(write))).await? {
            Outcome::Trust(outcome) => Ok(Some(outcome)),
            Outcome::Replayed => Ok(None),
            _ => Err(StoreError::Confused),
        }
    }

    async fn change(&self, change: TrustChange) -> Result<TrustOutcome, StoreError> {
        let write = TrustWrite {
            claim: None,
            change,
            audit: None,
        };
        self.write(write).await?.ok_or(StoreError::Confused)
    }

    /// Durable numbers for the next bundle.
    ///
    /// # Errors
    /// The store's.
    pub async fn next_numbers(
        &self,
        list: DraftedList,
        at: Moment,
    ) -> Result<BundleNumbers, StoreError> {
        match self.change(TrustChange::Number { list, at }).await? {
            TrustOutcome::Numbers(numbers) => Ok(numbers),
            _ => Err(StoreError::Confused),
        }
    }

    /// Lists name these CAs from now on, even when a later root does not.
    ///
    /// # Errors
    /// The store's.
    pub async fn know_cas(&self, cas: Vec<CaKey>) -> Result<(), StoreError> {
        self.change(TrustChange::KnowCas(cas)).await.map(drop)
    }

    /// Hosts can fetch this root, made at `issued`, from `now` on (Unix seconds). Of the first root that is noted in a
    /// store it is not known since when they could: its own time counts.
    ///
    /// # Errors
    /// The store's.
    pub async fn root_is_served(
        &self,
        version: u64,
        issued: u64,
        now: u64,
    ) -> Result<(), StoreError> {
        let change = TrustChange::Served {
            version,
            issued,
            now,
        };
        self.change(change).await.map(drop)
    }

    /// Since when every host can know an endorsed key (Unix seconds).
    ///
    /// # Errors
    /// The store's.
    pub async fn endorsed_is_known(&self, fingerprint: String, at: u64) -> Result<(), StoreError> {
        let change = TrustChange::Known { fingerprint, at };
        self.change(change).await.map(drop)
    }

    /// Endorsed keys of earlier processes that never came to sign leave the bundle. `now` is in Unix seconds.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_unused_endorsed(&self, now: u64) -> Result<(), StoreError> {
        self.change(TrustChange::ForgetUnused { now })
            .await
            .map(drop)
    }

    /// Endorsed keys that have not ended at `now` (Unix seconds), oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn endorsed(&self, now: u64) -> Result<Vec<Endorsed>, StoreError> {
        self.read(move |reader| read::endorsed(reader, now)).await
    }

    /// Revokes what callers got after `since`, when they had just been revoked. Both in Unix seconds.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self, since: u64, now: u64) -> Result<(), StoreError> {
        self.change(TrustChange::Sweep { since, now })
            .await
            .map(drop)
    }

    /// What is revoked, in one consistent look.
    ///
    /// # Errors
    /// The store's.
    pub async fn revoked(&self) -> Result<Revoked, StoreError> {
        self.read(read::revoked).await
    }

    /// The entries with who made each of them.
    ///
    /// # Errors
    /// The store's.
    pub async fn handed_in(&self) -> Result<Vec<HandedIn>, StoreError> {
        self.read(read::handed_in).await
    }

    /// How many keys this host gave up that are revoked and have not ended at `now` (Unix seconds).
    ///
    /// # Errors
    /// The store's.
    pub async fn given_up(&self, instance: InstanceId, now: u64) -> Result<u64, StoreError> {
        self.read(move |reader| read::given_up(reader, &instance, now))
            .await
    }

    /// The certificate with this serial.
    ///
    /// # Errors
    /// The store's.
    pub async fn by_serial(&self, serial: u64) -> Result<Option<IssuedRow>, StoreError> {
        self.read(move |reader| read::by_serial(reader, serial))
            .await
    }

    /// Whether this caller has a certificate that has not ended at `now` (Unix seconds).
    ///
    /// # Errors
    /// The store's.
    pub async fn has_living(&self, arn: String, id: String, now: u64) -> Result<bool, StoreError> {
        self.read(move |reader| read::has_living(reader, (&arn, &id), now))
            .await
    }

    /// The certificates of a request that were recorded after `since` (Unix seconds).
    ///
    /// # Errors
    /// The store's.
    pub async fn by_request(
        &self,
        id: RequestId,
        since: u64,
    ) -> Result<Option<IssuedRow>, StoreError> {
        self.read(move |reader| read::by_request(reader, id, since))
            .await
    }

    /// Who signs user certificates.
    ///
    /// # Errors
    /// The store's.
    pub async fn signing(&self) -> Result<Signing, StoreError> {
        self.read(read::signing).await
    }

    /// When the last certificate of a CA key, or of one that it endorsed, ends, where one lives at `now`. Unix seconds.
    ///
    /// # Errors
    /// The store's.
    pub async fn last_end(&self, ca: String, now: u64) -> Result<Option<u64>, StoreError> {
        self.read(move |reader| read::last_end(reader, &ca, now))
            .await
    }

    /// The CA key with this fingerprint, if a root ever named it.
    ///
    /// # Errors
    /// The store's.
    pub async fn ca(&self, fingerprint: String) -> Result<Option<CaKey>, StoreError> {
        self.read(move |reader| read::ca(reader, &fingerprint))
            .await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.reader.aside(query).await
    }
}

#[cfg(test)]
mod tests;
