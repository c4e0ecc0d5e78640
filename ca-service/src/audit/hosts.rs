//! Changes of enrolled hosts, each with its record in one transaction.

use super::{AppendError, Event, OnceError, Recorder, record};
use crate::store::hosts::{HostBook, HostChange, HostOutcome, HostWrite};
use crate::store::{ReplayClaim, StoreError};

impl Recorder {
    /// Makes a change of a host durable, with the claim of the message that caused it and, where there is
    /// one, its event. `false`: what the change rests on is not there any more, and nothing was written.
    ///
    /// # Errors
    /// [`OnceError`]; then nothing was written either.
    pub(crate) async fn change_host(
        &self,
        book: &HostBook,
        change: HostChange,
        event: Option<&Event>,
        claim: Option<ReplayClaim>,
    ) -> Result<bool, OnceError> {
        let now = self.clock.now();
        let audit = event
            .map(|event| record::of_event(event, now))
            .transpose()
            .map_err(AppendError::from)?;
        let write = HostWrite {
            claim,
            change,
            audit,
        };
        let failed = |error: StoreError| OnceError::Append(AppendError::Store(error));
        match book.write(write).await.map_err(failed)? {
            HostOutcome::Done => Ok(true),
            HostOutcome::Unmet => Ok(false),
            HostOutcome::Replayed => Err(OnceError::Replayed),
        }
    }
}
