//! What can be written, as values: the seam between the service and whichever database keeps it.
//! A backend takes these from the queue, makes them durable in order, and answers each.

use std::sync::Arc;

use eic_protocol::instance_id::InstanceId;
use eic_protocol::request_id::RequestId;
use eic_protocol::serial::Serial;
use tokio::sync::oneshot;

use super::error::StoreError;
use super::hosts::HostWrite;
use super::queue::Queue;
use super::replay::ReplayClaim;
use super::revocation::Revocation;
use super::trust::{TrustOutcome, TrustWrite};

/// One action and where its outcome goes, once durable.
pub(super) struct Write {
    pub(super) action: Action,
    pub(super) reply: Option<oneshot::Sender<Result<Outcome, StoreError>>>,
}

impl Write {
    /// Whether somebody still waits for this new work; what nobody waits for is not begun.
    pub(super) fn is_wanted(&self) -> bool {
        self.reply.as_ref().is_none_or(|reply| !reply.is_closed())
    }
}

/// What to write.
pub(super) enum Action {
    /// Replay claim, serial, journal row and audit record of one certificate: all or nothing.
    Issue(Box<IssueEntry>),
    /// How a certificate's journal row ends.
    Complete { row: i64, ending: Ending },
    /// A replay claim alone.
    Claim(ReplayClaim),
    /// An audit record; with a claim: only where that is new.
    Append {
        claim: Option<ReplayClaim>,
        entry: AuditEntry,
    },
    /// A revocation (or its end) with its audit record.
    Revoke {
        revocation: Revocation,
        undo: bool,
        entry: AuditEntry,
    },
    /// A CA key by purpose and name: the first one seen is pinned.
    PinKey { name: String, key: String, now: u64 },
    /// The next version of a host's view.
    NextView { instance: InstanceId, now: u64 },
    /// A host counts as one that never got a view, with its audit record; the view's version stays.
    ForgetHost {
        instance: InstanceId,
        entry: AuditEntry,
    },
    /// A change of an enrolled host, with its claim and its record.
    Host(Box<HostWrite>),
    /// A change of what is revoked, or a bundle's numbers, with its claim and its record.
    Trust(Box<TrustWrite>),
    /// Journal rows that an earlier process left open become orphans, each with an audit record.
    Reconcile {
        describe: fn(&Orphan, u64) -> Option<AuditEntry>,
        now: u64,
    },
}

/// What came of an action.
pub(super) enum Outcome {
    /// Written.
    Done,
    /// The number of a journal row, while its transaction may still fail.
    Row(i64),
    /// The durable journal row of a certificate, open until it is completed.
    Recorded(OpenEntry),
    /// The replay claim had been made before; nothing was written.
    Replayed,
    /// The serial is in use; nothing was written.
    SerialTaken,
    /// What [`Action::PinKey`] found or set.
    Pinned(String),
    /// What [`Action::NextView`] gave.
    Version(u64),
    /// What [`Action::Reconcile`] found.
    Orphans(Vec<Orphan>),
    /// There was nothing to undo.
    Unchanged,
    /// What [`Action::Trust`] did.
    Trust(TrustOutcome),
}

/// The journal's part of one certificate.
#[derive(Clone, Debug)]
pub(crate) struct JournalEntry {
    pub(crate) serial: Serial,
    pub(crate) request_id: RequestId,
    /// `user` or `host`.
    pub(crate) kind: &'static str,
    /// The caller's ARN.
    pub(crate) caller: String,
    /// The caller's unique id.
    pub(crate) caller_id: String,
    /// Joined by commas, which no principal holds.
    pub(crate) principals: String,
    /// SHA-256 of the bytes to be signed.
    pub(crate) tbs_hash: [u8; 32],
    /// Fingerprint of the CA key.
    pub(crate) ca: String,
    /// End of the certificate, in Unix seconds.
    pub(crate) valid_before: u64,
    /// When it was prepared, in Unix seconds.
    pub(crate) prepared_at: u64,
}

/// All that is recorded before a certificate is signed.
#[derive(Clone, Debug)]
pub(crate) struct IssueEntry {
    pub(crate) journal: JournalEntry,
    pub(crate) replay: Option<ReplayClaim>,
    pub(crate) audit: AuditEntry,
}

/// An audit record in its final bytes.
#[derive(Clone, Debug)]
pub(crate) struct AuditEntry {
    /// Unix seconds.
    pub(crate) time: u64,
    /// One line of ASCII JSON.
    pub(crate) json: String,
}

/// How a journal row ends.
pub(super) enum Ending {
    /// Signed and checked.
    Issued { certificate_hash: [u8; 32], at: u64 },
    /// The signer failed or answered wrongly.
    Failed { audit: Option<AuditEntry>, at: u64 },
    /// Whoever asked went away before signing.
    Abandoned,
}

/// A certificate that was recorded by a process which ended before it said what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The serial.
    pub serial: u64,
    /// The request, as in key id and audit.
    pub request_id: RequestId,
    /// ARN of the caller.
    pub caller: String,
    /// The principals, joined by commas.
    pub principals: String,
    /// When it was recorded, in Unix seconds.
    pub prepared_at: u64,
    /// When a certificate of it would end, in Unix seconds.
    pub valid_before: u64,
}

/// A journal row that waits for its ending. Dropped without one it is closed as abandoned:
/// nobody can have signed it, since signing consumes it.
pub(crate) struct OpenEntry {
    queue: Arc<Queue>,
    row: Option<i64>,
}

impl OpenEntry {
    pub(super) fn new(queue: Arc<Queue>, row: i64) -> Self {
        Self {
            queue,
            row: Some(row),
        }
    }

    /// The certificate was signed and checked. Not waited for: the record that must precede it is durable.
    pub(crate) fn issued(mut self, certificate_hash: [u8; 32], at: u64) {
        self.finish(Ending::Issued {
            certificate_hash,
            at,
        });
    }

    /// No certificate came of it.
    pub(crate) fn failed(mut self, audit: Option<AuditEntry>, at: u64) {
        self.finish(Ending::Failed { audit, at });
    }

    fn finish(&mut self, ending: Ending) {
        if let Some(row) = self.row.take() {
            self.queue.push_completion(Write {
                action: Action::Complete { row, ending },
                reply: None,
            });
        }
    }
}

impl Drop for OpenEntry {
    fn drop(&mut self) {
        self.finish(Ending::Abandoned);
    }
}
