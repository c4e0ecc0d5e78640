//! Enrolled hosts in the store: their keys, what they still wait for, one-time tokens, their latest reports.
//! What may be enrolled is decided before (`host_identity::enrolment`); here it is written once, or not at all.

use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::grant::Nonce;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::request_id::RequestId;
use eic_protocol::subject_key::SubjectKey;
use sha2::{Digest as _, Sha256};

use super::Log;
use super::error::StoreError;
use super::reader::Reader;
use super::replay::ReplayClaim;
use super::trust::RevocationOrder;
use super::write::{Action, AuditEntry, Outcome};
use crate::host_identity::enrolment::{EnrolledHost, StoredHost};
use crate::host_identity::evidence::EvidenceKind;

mod read;

pub use read::{
    JournalMatch, blocked, hosts, journal_match, legacy_hosts, reports, requests, stored,
};

/// How long a request for enrolment waits for an operator. Seconds.
pub const REQUEST_LIFE: u64 = 7 * 86_400;
/// Most sets of keys that wait for one host: its own, and room to see that somebody else asks too. Rejected
/// ones do not wait.
pub(super) const MAX_WAITING: u32 = 4;

/// What a host asks for that is not enrolled, or not with these keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRequest {
    /// What an operator approves: these keys for this host.
    pub enrolment: RequestId,
    /// The host.
    pub instance: InstanceId,
    /// Its account.
    pub account: AccountId,
    /// Its Region.
    pub region: AwsRegion,
    /// How it was shown.
    pub evidence: EvidenceKind,
    /// The keys that it wants certified.
    pub keys: Vec<SubjectKey>,
    /// To be written to its console.
    pub challenge: Nonce,
    /// Until when the challenge counts, in Unix seconds.
    pub challenge_ends: u64,
    /// What came of it.
    pub state: RequestState,
    /// When it was last asked for, in Unix seconds.
    pub asked_at: u64,
    /// The operator who decided.
    pub decided_by: Option<String>,
}

/// What came of a request for enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// Nothing yet.
    Waiting,
    /// An operator said yes.
    Approved,
    /// An operator said no.
    Rejected,
}

impl RequestState {
    /// All, by their names in the store.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("waiting", Self::Waiting),
        ("approved", Self::Approved),
        ("rejected", Self::Rejected),
    ];

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, state)| *state == self);
        found.map_or("unknown", |(name, _)| name)
    }
}

/// A one-time token, without the token: only its digest is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// SHA-256 of the token, in hex.
    pub digest: String,
    /// The one host that it enrols.
    pub instance: InstanceId,
    /// The operator who made it.
    pub made_by: String,
    /// When, in Unix seconds.
    pub made_at: u64,
    /// Until when it counts, in Unix seconds.
    pub ends: u64,
    /// When it was used, in Unix seconds.
    pub used_at: Option<u64>,
}

/// A host's latest report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReport {
    /// The host.
    pub instance: InstanceId,
    /// When it arrived, in Unix seconds.
    pub received_at: u64,
    /// The host's clock less ours when it arrived, in seconds; the way of the report included.
    pub clock_offset: i64,
    /// The report as JSON, without its logins.
    pub report: String,
}

/// One change, made whole or not at all.
#[derive(Clone, Debug)]
pub(crate) enum HostChange {
    /// Only claim and record.
    Nothing,
    /// A host's new state.
    Enrol {
        host: EnrolledHost,
        /// Its revision before; none: it must not be there.
        expected: Option<u64>,
        uses: Uses,
        /// Keys that are the host's no more, for hosts and clients to refuse.
        revoked: Vec<RevocationOrder>,
    },
    /// A request, or the same once more.
    Ask(HostRequest),
    /// An operator's word on a request that waits.
    Decide {
        enrolment: RequestId,
        state: RequestState,
        by: String,
    },
    /// A new token.
    AddToken(StoredToken),
    /// A legacy host's keys; never of one that is enrolled.
    Know {
        host: EnrolledHost,
        /// Its revision before; none: it must not be there.
        expected: Option<u64>,
        uses: Uses,
    },
    /// A host, enrolled or not, is shut out and its certificates are revoked ([`What::Host`]).
    ///
    /// [`What::Host`]: super::trust::What::Host
    Block {
        instance: InstanceId,
        revoked: RevocationOrder,
    },
    /// It is let in again.
    Unblock { instance: InstanceId },
    /// A host is forgotten with all that is stored of it, and its certificates are revoked; of one that is not
    /// stored, nothing is.
    Remove {
        instance: InstanceId,
        revoked: RevocationOrder,
    },
    /// A host is gone by the inventory's word (at this time, in Unix seconds): its certificates are revoked, and
    /// its keys stay its own.
    End {
        instance: InstanceId,
        at: u64,
        revoked: RevocationOrder,
    },
    /// A report in place of the one before.
    Report(StoredReport),
}

/// What an enrolment uses up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Uses {
    /// Nothing.
    Nothing,
    /// What was approved, or written to the console.
    Request(RequestId),
    /// A token, by its digest, now.
    Token(String, u64),
}

/// A change with the claim of the message that caused it and its audit record.
#[derive(Clone, Debug)]
pub(crate) struct HostWrite {
    pub(crate) claim: Option<ReplayClaim>,
    pub(crate) change: HostChange,
    pub(crate) audit: Option<AuditEntry>,
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostOutcome {
    /// It is durable.
    Done,
    /// The message was used before.
    Replayed,
    /// What it rests on is not there (any more): another request was faster, a token was used, …
    Unmet,
}

/// The handle of host enrolment.
#[derive(Clone)]
pub struct HostBook {
    log: Log,
    reader: Reader,
}

impl HostBook {
    pub(super) fn new(log: Log, reader: Reader) -> Self {
        Self { log, reader }
    }

    pub(crate) async fn write(&self, write: HostWrite) -> Result<HostOutcome, StoreError> {
        match self.log.write(Action::Host(Box::new(write))).await? {
            Outcome::Done => Ok(HostOutcome::Done),
            Outcome::Replayed => Ok(HostOutcome::Replayed),
            Outcome::Unchanged => Ok(HostOutcome::Unmet),
            _ => Err(StoreError::Confused),
        }
    }

    /// All that is stored of a host.
    ///
    /// # Errors
    /// The store's.
    pub async fn stored(&self, instance: &InstanceId) -> Result<StoredHost, StoreError> {
        let instance = instance.clone();
        self.read(move |reader| stored(reader, &instance)).await
    }

    /// Every host that has certificates or whose keys are known, and that is not known to be gone.
    ///
    /// # Errors
    /// The store's.
    pub async fn present(&self) -> Result<Vec<EnrolledHost>, StoreError> {
        self.read(|reader| {
            let mut all = hosts(reader)?;
            all.extend(legacy_hosts(reader)?);
            all.retain(|host| host.ended_at.is_none());
            Ok(all)
        })
        .await
    }

    /// The ids of enrolled hosts that are not known to be gone.
    ///
    /// # Errors
    /// The store's.
    pub async fn enrolled(&self) -> Result<Vec<InstanceId>, StoreError> {
        self.read(read::enrolled).await
    }

    /// Another host that has one of these keys.
    ///
    /// # Errors
    /// The store's.
    pub async fn other_owner(
        &self,
        instance: &InstanceId,
        keys: &[SubjectKey],
    ) -> Result<Option<InstanceId>, StoreError> {
        let instance = instance.clone();
        let keys: Vec<String> = keys.iter().map(SubjectKey::fingerprint).collect();
        self.read(move |reader| read::other_owner(reader, &instance, &keys))
            .await
    }

    /// The host that has or had this key.
    ///
    /// # Errors
    /// The store's.
    pub async fn owner(&self, key: &SubjectKey) -> Result<Option<InstanceId>, StoreError> {
        let fingerprint = key.fingerprint();
        self.read(move |reader| read::owner(reader, &fingerprint))
            .await
    }

    /// What the host asked for with just these keys.
    ///
    /// # Errors
    /// The store's.
    pub async fn request(
        &self,
        instance: &InstanceId,
        keys: &[SubjectKey],
    ) -> Result<Option<HostRequest>, StoreError> {
        let (instance, digest) = (instance.clone(), keys_digest(keys));
        self.read(move |reader| read::request(reader, &instance, &digest))
            .await
    }

    /// The token of this digest.
    ///
    /// # Errors
    /// The store's.
    pub async fn token(&self, digest: &str) -> Result<Option<StoredToken>, StoreError> {
        let digest = digest.to_owned();
        self.read(move |reader| read::token(reader, &digest)).await
    }

    /// Which of these serials the journal knows, in their order.
    ///
    /// # Errors
    /// The store's.
    pub async fn journal(
        &self,
        serials: Vec<u64>,
    ) -> Result<Vec<Option<JournalMatch>>, StoreError> {
        self.read(move |reader| {
            let matches = serials.iter().map(|serial| journal_match(reader, *serial));
            matches.collect()
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.reader.aside(query).await
    }
}

/// One name for a set of keys, whatever their order.
pub(super) fn keys_digest(keys: &[SubjectKey]) -> String {
    let mut fingerprints: Vec<String> = keys.iter().map(SubjectKey::fingerprint).collect();
    fingerprints.sort_unstable();
    hex::encode(Sha256::digest(fingerprints.join(" ")))
}

/// One OpenSSH line each.
pub(super) fn keys_text(keys: &[SubjectKey]) -> String {
    let lines: Vec<String> = keys.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests;
