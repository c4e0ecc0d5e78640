//! Revocations and fleet memberships, each with its record in one transaction.

use std::collections::BTreeMap;

use eic_protocol::fleet::FleetName;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::krl::Target;

use super::{AppendError, Event, OnceError, Recorder, record};
use crate::store::trust::{
    Endorsed, RevocationEffect, RevocationOrder, TrustBook, TrustChange, TrustOutcome, TrustWrite,
};
use crate::store::{ReplayClaim, StoreError};

impl Recorder {
    /// Revokes, with the claim of the message that asked for it.
    ///
    /// # Errors
    /// [`OnceError`]; then nothing was written.
    pub(crate) async fn revoke_target(
        &self,
        book: &TrustBook,
        order: RevocationOrder,
        event: &Event,
        claim: Option<ReplayClaim>,
    ) -> Result<RevocationEffect, OnceError> {
        let change = TrustChange::Revoke(order);
        match self.change_trust(book, change, event, claim).await? {
            TrustOutcome::Revoked(effect) => Ok(effect),
            _ => Err(confused()),
        }
    }

    /// Takes an entry of the list back. `false`: it was not there.
    ///
    /// # Errors
    /// [`OnceError`]; then nothing was written.
    pub(crate) async fn take_back(
        &self,
        book: &TrustBook,
        target: Target,
        event: &Event,
    ) -> Result<bool, OnceError> {
        let change = TrustChange::TakeBack(target);
        match self.change_trust(book, change, event, None).await? {
            TrustOutcome::TakenBack(there) => Ok(there),
            _ => Err(confused()),
        }
    }

    /// Writes down the fleets whose tags a host has; recorded where one is new. Returns since when (Unix seconds).
    ///
    /// # Errors
    /// [`OnceError`]; then nothing was written.
    pub(crate) async fn join_fleets(
        &self,
        book: &TrustBook,
        instance: InstanceId,
        fleets: Vec<FleetName>,
        event: &Event,
    ) -> Result<BTreeMap<FleetName, u64>, OnceError> {
        let change = TrustChange::Join {
            instance,
            fleets,
            now: self.clock.now(),
        };
        match self.change_trust(book, change, event, None).await? {
            TrustOutcome::Joined(since) => Ok(since),
            _ => Err(confused()),
        }
    }

    /// Has another user CA sign from now on, where the running service finds that it may.
    ///
    /// # Errors
    /// [`OnceError`]; then nothing was written.
    pub(crate) async fn choose_signer(
        &self,
        book: &TrustBook,
        fingerprint: String,
        event: &Event,
    ) -> Result<(), OnceError> {
        let now = self.clock.now();
        let change = TrustChange::Choose {
            ca: fingerprint,
            now,
        };
        self.change_trust(book, change, event, None).await.map(drop)
    }

    /// Writes down a key in memory that a user CA's key endorsed; the next bundle names it.
    ///
    /// # Errors
    /// [`OnceError`]; then nothing was written.
    pub(crate) async fn endorse(
        &self,
        book: &TrustBook,
        key: Endorsed,
        event: &Event,
    ) -> Result<(), OnceError> {
        let change = TrustChange::Endorse(key);
        self.change_trust(book, change, event, None).await.map(drop)
    }

    async fn change_trust(
        &self,
        book: &TrustBook,
        change: TrustChange,
        event: &Event,
        claim: Option<ReplayClaim>,
    ) -> Result<TrustOutcome, OnceError> {
        let audit = record::of_event(event, self.clock.now()).map_err(AppendError::from)?;
        let write = TrustWrite {
            claim,
            change,
            audit: Some(audit),
        };
        let written = book.write(write).await.map_err(AppendError::from)?;
        written.ok_or(OnceError::Replayed)
    }
}

fn confused() -> OnceError {
    OnceError::Append(AppendError::Store(StoreError::Confused))
}
