//! Proof that something is durably recorded. Only this module's parent can make one.

use super::event::{EventError, Origin};
use super::record;
use crate::issuance::{Kind, Meaning};
use crate::store::write::OpenEntry;

/// `T`, after its journal row and audit record are on disk. Consumed by the signer; where it is
/// dropped instead, its row is closed as abandoned.
///
/// It cannot be made outside of `audit`:
///
/// ```compile_fail,E0624
/// let forged = eic_ca::audit::Recorded::new((), todo!(), [0; 32], eic_ca::audit::Origin::default());
/// ```
///
/// and what is prepared, but not recorded, is not taken by a CA:
///
/// ```compile_fail,E0308
/// async fn skip(
///     ca: &eic_ca::signer::UserCa,
///     prepared: eic_ca::issuance::Prepared<eic_ca::issuance::User>,
///     clock: &eic_ca::clock::Clock,
/// ) {
///     let _ = ca.sign(prepared, clock).await;
/// }
/// ```
///
/// nor is a host's certificate taken by the user CA:
///
/// ```compile_fail,E0308
/// async fn mix(
///     ca: &eic_ca::signer::UserCa,
///     recorded: eic_ca::audit::Recorded<eic_ca::issuance::Prepared<eic_ca::issuance::Host>>,
///     clock: &eic_ca::clock::Clock,
/// ) {
///     let _ = ca.sign(recorded, clock).await;
/// }
/// ```
///
/// The right order compiles:
///
/// ```no_run
/// async fn sign(
///     ca: &eic_ca::signer::UserCa,
///     recorded: eic_ca::audit::Recorded<eic_ca::issuance::Prepared<eic_ca::issuance::User>>,
///     clock: &eic_ca::clock::Clock,
/// ) {
///     let _ = ca.sign(recorded, clock).await;
/// }
/// ```
#[must_use = "what is recorded is to be signed, or its row ends as abandoned"]
pub struct Recorded<T> {
    value: T,
    entry: OpenEntry,
    tbs_hash: [u8; 32],
    origin: Origin,
}

impl<T> Recorded<T> {
    pub(super) fn new(value: T, entry: OpenEntry, tbs_hash: [u8; 32], origin: Origin) -> Self {
        Self {
            value,
            entry,
            tbs_hash,
            origin,
        }
    }

    /// For the signer: what was recorded, how to say what came of it, and the hash that was recorded.
    pub(crate) fn into_parts(self) -> (T, Completion, [u8; 32]) {
        (
            self.value,
            Completion {
                entry: self.entry,
                origin: self.origin,
            },
            self.tbs_hash,
        )
    }

    /// For tests of what happens when code between record and signature is wrong.
    #[cfg(test)]
    pub(crate) fn value_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// How the journal row ends.
pub(crate) struct Completion {
    entry: OpenEntry,
    origin: Origin,
}

impl Completion {
    /// A certificate came of it. `now` is in Unix seconds.
    pub(crate) fn issued(self, certificate_hash: [u8; 32], now: u64) {
        self.entry.issued(certificate_hash, now);
    }

    /// None did: the audit gets a second record of the request, with an error code.
    pub(crate) fn failed<K: Kind>(self, meaning: &Meaning<K>, error: &EventError, now: u64) {
        let audit = record::of_issuance(meaning, &self.origin, Some(error), now);
        if let Err(failure) = &audit {
            tracing::error!(%failure, request_id = %meaning.request_id(), "the failure of a signature was not audited");
        }
        self.entry.failed(audit.ok(), now);
    }
}
