//! The audit: what was decided, recorded before it happens, in CloudTrail's fields, hash-chained.
//!
//! 1. [`Recorder::record`] takes what is [`Prepared`] and returns it as [`Recorded`], once its journal
//!    row, its replay claim and its audit record are durable. Nothing else makes a [`Recorded`],
//!    and a CA takes nothing else: no record, no certificate.
//! 2. [`Recorder::append`] writes every other event.
//! 3. [`verify`], [`query`] and [`tail`] read what was written.
//!
//! Where the store fails, hangs or is full, so does the request.

pub(crate) mod chain;
pub(crate) mod json;
pub(crate) mod record;

mod event;
mod hosts;
mod query;
mod recorded;
mod table;
mod trust;
mod verify;

use eic_protocol::instance_id::InstanceId;
use eic_protocol::request_id::RequestId;

pub use event::{Actor, Event, EventError, EventName, HostActor, Operator, Origin};
pub use query::{Entry, Filter, TailError, query, tail};
pub use record::RecordFailure;
pub(crate) use recorded::Completion;
pub use recorded::Recorded;
pub use table::{print_json, print_table};
pub use verify::{Checkpoint, Flaw, NotCheckpoint, Report, checkpoints, verify};

use crate::clock::Clock;
use crate::issuance::{Kind, Prepared};
use crate::random::{self, NoEntropy};
use crate::store::write::{AuditEntry, IssueEntry};
use crate::store::{
    AuditLog, ClaimError, IssuanceLog, NotRecorded, Orphan, ReplayClaim, Revocation, Store,
    StoreError,
};

/// Writes audit records. Clones share one store.
#[derive(Clone)]
pub struct Recorder {
    issuances: IssuanceLog,
    events: AuditLog,
    clock: Clock,
}

impl Recorder {
    /// A recorder into this store.
    #[must_use]
    pub fn new(store: &Store, clock: Clock) -> Self {
        Self {
            issuances: store.issuance_log(),
            events: store.audit_log(),
            clock,
        }
    }

    /// Makes journal row, replay claim and audit record durable, in one transaction.
    ///
    /// # Errors
    /// [`RecordError`]; then nothing of it stays, and nothing may be signed.
    pub async fn record<K: Kind>(
        &self,
        prepared: Prepared<K>,
        origin: Origin,
    ) -> Result<Recorded<Prepared<K>>, RecordError<K>> {
        let meaning = prepared.meaning();
        let audit = record::of_issuance(meaning, &origin, None, meaning.prepared_at())?;
        let tbs_hash = meaning.tbs_hash();
        let entry = IssueEntry {
            journal: meaning.journal(),
            replay: prepared.replay(),
            audit,
        };
        match self.issuances.record(entry).await {
            Ok(open) => Ok(Recorded::new(prepared, open, tbs_hash, origin)),
            Err(NotRecorded::Replayed) => Err(RecordError::Replayed),
            Err(NotRecorded::SerialTaken) => {
                Err(RecordError::SerialTaken(Box::new((prepared, origin))))
            }
            Err(NotRecorded::Store(error)) => Err(RecordError::Store(error)),
        }
    }

    /// Makes the record of an event durable.
    ///
    /// # Errors
    /// [`AppendError`]; what the event is about must then be refused.
    pub async fn append(&self, event: &Event) -> Result<(), AppendError> {
        let entry = record::of_event(event, self.clock.now())?;
        Ok(self.events.append(entry).await?)
    }

    /// Makes the record of an event durable together with the claim of the signed message that caused it.
    ///
    /// # Errors
    /// [`OnceError`]; nothing was written then, and what the event is about must be refused.
    pub async fn append_once(&self, event: &Event, claim: ReplayClaim) -> Result<(), OnceError> {
        let entry = record::of_event(event, self.clock.now()).map_err(AppendError::from)?;
        match self.events.append_once(claim, entry).await {
            Ok(()) => Ok(()),
            Err(ClaimError::Replayed) => Err(OnceError::Replayed),
            Err(ClaimError::Store(error)) => Err(AppendError::Store(error).into()),
        }
    }

    /// Adds or ends a revocation, with its event, in one transaction. `false`: there was none to end.
    ///
    /// # Errors
    /// [`AppendError`]; then nothing changed.
    pub async fn revoke(
        &self,
        revocation: Revocation,
        undo: bool,
        event: &Event,
    ) -> Result<bool, AppendError> {
        let entry = record::of_event(event, self.clock.now())?;
        Ok(self.events.revoke(revocation, undo, entry).await?)
    }

    /// Lets an enrolled host count as one that never was, with its event. `false`: it is not enrolled.
    ///
    /// # Errors
    /// [`AppendError`]; then nothing changed.
    pub async fn forget_host(
        &self,
        instance: InstanceId,
        event: &Event,
    ) -> Result<bool, AppendError> {
        let entry = record::of_event(event, self.clock.now())?;
        Ok(self.events.forget_host(instance, entry).await?)
    }

    /// Finds certificates that an earlier process recorded without saying what came of them, marks
    /// them as orphans and audits each. To be called once, before anything is issued.
    ///
    /// # Errors
    /// The store's.
    pub async fn reconcile(&self) -> Result<Vec<Orphan>, StoreError> {
        let orphans = self
            .events
            .reconcile(orphan_record, self.clock.now())
            .await?;
        for orphan in &orphans {
            tracing::warn!(serial = orphan.serial, request_id = %orphan.request_id, caller = %orphan.caller,
                principals = %orphan.principals, "a recorded certificate has no known end");
        }
        Ok(orphans)
    }
}

fn orphan_record(orphan: &Orphan, now: u64) -> Option<AuditEntry> {
    let request_id: RequestId = orphan.request_id;
    let mut event = Event::new(
        EventName::OrphanFound,
        Actor::Service,
        Origin::default(),
        request_id,
    );
    event.additional = Some(serde_json::json!({
        "serial": orphan.serial.to_string(),
        "caller": orphan.caller,
        "principals": orphan.principals,
        "preparedAt": orphan.prepared_at,
        "validBefore": orphan.valid_before,
    }));
    record::of_event(&event, now).ok()
}

/// A fresh id for an event that no request caused.
///
/// # Errors
/// [`NoEntropy`].
pub fn event_request_id() -> Result<RequestId, NoEntropy> {
    random::request_id()
}

/// Why a certificate was not recorded.
#[derive(thiserror::Error)]
pub enum RecordError<K: Kind> {
    /// The request was used before.
    #[error("the signed request was used before")]
    Replayed,
    /// The serial is in use; what was prepared comes back to be drawn again.
    #[error("the serial is in use")]
    SerialTaken(Box<(Prepared<K>, Origin)>),
    /// The record could not be made.
    #[error(transparent)]
    Record(#[from] RecordFailure),
    /// The store refused, is full or too slow.
    #[error(transparent)]
    Store(StoreError),
}

impl<K: Kind> std::fmt::Debug for RecordError<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Why an event was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The record could not be made.
    #[error(transparent)]
    Record(#[from] RecordFailure),
    /// The store refused, is full or too slow.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the event of a signed message was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// The message was used before.
    #[error("the signed message was used before")]
    Replayed,
    /// The record could not be made.
    #[error(transparent)]
    Append(#[from] AppendError),
}

#[cfg(test)]
mod tests;
