//! Issuance as one straight line of types: a wrong order does not compile.
//!
//! ```text
//! Grant ──prepare──▶ Prepared ──audit──▶ Recorded<Prepared> ──CA──▶ Issued
//! (policy's permit,   (encoded and        (journal, serial, replay    (signed by the CA key,
//!  consumed once)      linted, unsigned)   claim, audit: durable)      checked with its public half)
//! ```
//!
//! What a grant is given for is decided before; what is answered to whom is `http`'s business.

mod grant;
mod kind;
mod prepared;

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use eic_protocol::api::certificate::CertificateScope;
use eic_protocol::cert::Profile;
use eic_protocol::cert::options::Extension;
use eic_protocol::key_id::KeyId;
use eic_protocol::principal::Principal;
use eic_protocol::request_id::RequestId;
use eic_protocol::serial::Serial;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::validity::Validity;

use crate::audit::{Origin, RecordError, RecordFailure, Recorded, Recorder};
use crate::caller::Caller;
use crate::clock::Clock;
use crate::fault;
use crate::random::NoEntropy;
use crate::signer::endorsed::EndorsedCa;
use crate::signer::{CertificateAuthority, Checked, HostCa, SignError, SignerError, UserCa};
use crate::store::{Revocations, StoreError};

pub use grant::{Grant, GrantError, HostGrant, Verified};
pub use kind::{Host, Kind, User};
pub(crate) use prepared::Meaning;
pub use prepared::{ActiveCa, Draw, PrepareError, Prepared, prepare_host, prepare_user};

/// Draws of a serial before giving up: two in a row are taken once in 10^20 certificates,
/// so a third means that something else is wrong.
const DRAWS: usize = 3;

/// What signs user certificates at one moment.
struct SigningKeys {
    direct: Arc<UserCa>,
    endorsed: Option<Arc<EndorsedCa>>,
}

impl SigningKeys {
    fn new(direct: Arc<UserCa>) -> Self {
        let endorsed = None;
        Self { direct, endorsed }
    }

    fn ca_for(&self, scope: &CertificateScope, kms_only: bool) -> &Arc<UserCa> {
        let endorsed = self.endorsed.as_ref();
        let endorsed = endorsed.filter(|key| !kms_only && key.may_open(scope));
        endorsed.map_or(&self.direct, |key| key.ca())
    }
}

/// Issues user certificates.
#[derive(Clone)]
pub struct Issuer {
    recorder: Recorder,
    keys: Arc<ArcSwap<SigningKeys>>,
    special: SpecialKeys,
    revocations: Revocations,
    clock: Clock,
}

impl Issuer {
    /// An issuer with this CA.
    #[must_use]
    pub fn new(
        recorder: Recorder,
        ca: Arc<UserCa>,
        special: SpecialKeys,
        revocations: Revocations,
        clock: Clock,
    ) -> Self {
        Self {
            recorder,
            keys: Arc::new(ArcSwap::from_pointee(SigningKeys::new(ca))),
            special,
            revocations,
            clock,
        }
    }

    /// Keys that are never certified.
    #[must_use]
    pub fn special(&self) -> &SpecialKeys {
        &self.special
    }

    /// The CA that the root names and that signs, by itself or through a key in memory.
    #[must_use]
    pub fn ca(&self) -> Arc<UserCa> {
        Arc::clone(&self.keys.load().direct)
    }

    /// The CA whose key signs for this; `kms_only`: a host that it opens is in a fleet that is marked so.
    #[must_use]
    pub fn ca_for(&self, scope: &CertificateScope, kms_only: bool) -> Arc<UserCa> {
        Arc::clone(self.keys.load().ca_for(scope, kms_only))
    }

    /// Signs with another key from now on, and with none in memory.
    pub fn sign_with(&self, ca: Arc<UserCa>) {
        self.keys.store(Arc::new(SigningKeys::new(ca)));
    }

    /// Has this key in memory sign in place of the one that endorsed it; none: that signs itself.
    pub fn sign_through(&self, endorsed: Option<Arc<EndorsedCa>>) {
        let direct = self.ca();
        let endorsed = endorsed.filter(|key| key.endorser() == direct.public());
        self.keys.store(Arc::new(SigningKeys { direct, endorsed }));
    }

    /// Issues the certificate that was granted: prepare, record, sign, check.
    ///
    /// # Errors
    /// [`IssueError`]; no certificate exists then.
    pub async fn issue(&self, grant: Grant, origin: Origin) -> Result<Issued, IssueError> {
        self.check(&grant)?;
        let caller = Arc::clone(&grant.caller);
        // One key from preparing to signing, whatever an operator activates meanwhile.
        let ca = self.ca_for(&grant.request.scope, grant.kms_only);
        let prepared = prepare_user(grant, &Draw::fresh()?, ca.active(), self.clock.now())?;
        let still_admitted = async { self.check_caller(&caller) };
        finish(
            &self.recorder,
            &ca,
            prepared,
            origin,
            &self.clock,
            still_admitted,
        )
        .await
    }

    /// The last look before anything is recorded: the caller may have been revoked since he was let in.
    fn check(&self, grant: &Grant) -> Result<(), IssueError> {
        self.check_caller(grant.caller())?;
        if self.special.contains(grant.subject()) {
            return Err(PrepareError::SpecialKey(grant.subject().fingerprint()).into());
        }
        Ok(())
    }
}

impl Issuer {
    /// Once more after the record: a revocation that came before it is known here by now, and one that
    /// comes after it finds the certificate in the journal. None falls between (threats F-14).
    fn check_caller(&self, caller: &Caller) -> Result<(), IssueError> {
        if self.revocations.covers(caller) {
            return Err(IssueError::Revoked);
        }
        Ok(())
    }
}

/// Issues the host certificate that was granted. `still_admitted` is looked at once it is recorded.
///
/// # Errors
/// [`IssueError`]; no certificate exists then.
pub async fn issue_host(
    recorder: &Recorder,
    ca: &HostCa,
    special: &SpecialKeys,
    grant: HostGrant,
    clock: &Clock,
    still_admitted: impl Future<Output = Result<(), IssueError>>,
) -> Result<Issued, IssueError> {
    if special.contains(&grant.subject) {
        return Err(PrepareError::SpecialKey(grant.subject.fingerprint()).into());
    }
    let origin = grant.origin.clone();
    let prepared = prepare_host(grant, &Draw::fresh()?, ca.active(), clock.now())?;
    finish(recorder, ca, prepared, origin, clock, still_admitted).await
}

/// Record, sign, check: the same for both kinds.
async fn finish<K: Kind>(
    recorder: &Recorder,
    ca: &CertificateAuthority<K>,
    prepared: Prepared<K>,
    origin: Origin,
    clock: &Clock,
    still_admitted: impl Future<Output = Result<(), IssueError>>,
) -> Result<Issued, IssueError> {
    fault::point("before-record");
    let recorded = record(recorder, prepared, origin).await?;
    still_admitted.await?;
    fault::point("after-record");
    let issued = ca.sign(recorded, clock).await?;
    fault::point("before-answer");
    Ok(issued)
}

/// Records; where the serial is taken, draws again (D-05).
async fn record<K: Kind>(
    recorder: &Recorder,
    mut prepared: Prepared<K>,
    mut origin: Origin,
) -> Result<Recorded<Prepared<K>>, IssueError> {
    for _ in 0..DRAWS {
        match recorder.record(prepared, origin).await {
            Ok(recorded) => return Ok(recorded),
            Err(RecordError::SerialTaken(back)) => {
                let (taken, same_origin) = *back;
                (prepared, origin) = (taken.redraw(&Draw::fresh()?)?, same_origin);
            }
            Err(RecordError::Replayed) => return Err(IssueError::Replayed),
            Err(RecordError::Record(failure)) => return Err(IssueError::Record(failure)),
            Err(RecordError::Store(error)) => return Err(IssueError::Store(error)),
        }
    }
    Err(IssueError::Serials)
}

/// Keys that are never certified: the CA's own, of every purpose and state (D-14).
#[derive(Clone, Debug, Default)]
pub struct SpecialKeys(Arc<ArcSwap<HashSet<Vec<u8>>>>);

impl SpecialKeys {
    /// These keys.
    #[must_use]
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a SubjectKey>) -> Self {
        let blobs: HashSet<_> = keys.into_iter().map(|key| key.blob().to_vec()).collect();
        Self(Arc::new(ArcSwap::from_pointee(blobs)))
    }

    /// One more, for all who share them.
    pub fn add(&self, key: &SubjectKey) {
        self.0.rcu(|known| {
            let mut known = HashSet::clone(known);
            known.insert(key.blob().to_vec());
            known
        });
    }

    /// Whether `key` is one of them.
    #[must_use]
    pub fn contains(&self, key: &SubjectKey) -> bool {
        self.0.load().contains(key.blob())
    }
}

/// A certificate that was recorded, signed and checked.
#[derive(Clone, Debug)]
pub struct Issued {
    line: String,
    serial: Serial,
    key_id: KeyId,
    request_id: RequestId,
    validity: Validity,
    principal: Option<Principal>,
    restricted: bool,
}

impl Issued {
    /// Made by a CA from what it signed.
    pub(crate) fn new<K: Kind>(checked: Checked, meaning: &Meaning<K>) -> Self {
        let line = checked.into_line();
        let request_id = meaning.request_id();
        match meaning.profile() {
            Profile::User(user) => Self {
                line,
                serial: user.serial,
                key_id: user.key_id.clone(),
                request_id,
                validity: user.validity,
                principal: user.principals.first().cloned(),
                restricted: user.restrictions.force_command.is_some()
                    || user.restrictions.source_addresses.is_some()
                    || !user.extensions.is_superset(&Extension::defaults()),
            },
            Profile::Host(host) => Self {
                line,
                serial: host.serial,
                key_id: host.key_id.clone(),
                request_id,
                validity: host.validity,
                principal: None,
                restricted: false,
            },
        }
    }

    /// The certificate as one OpenSSH line.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Its serial.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// Its key id, as sshd logs it.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// The request's id, as in key id and audit.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// When it is good.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// What a user certificate opens; none for a host's.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// Whether it carries a forced command, source addresses or fewer extensions than the default:
    /// a pushed key, which cannot carry them, must then never stand in for it.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        self.restricted
    }
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The caller is revoked.
    #[error("issue a certificate: the caller is revoked")]
    Revoked,
    /// The request was used before.
    #[error("issue a certificate: the signed request was used before")]
    Replayed,
    /// The certificate cannot be made.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The store refused, is full or too slow.
    #[error(transparent)]
    Store(StoreError),
    /// The record could not be made.
    #[error(transparent)]
    Record(RecordFailure),
    /// The signer failed or answered wrongly.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// Serials that are taken, again and again.
    #[error(
        "draw a serial: three in a row were taken; is the random generator of this machine broken?"
    )]
    Serials,
}

impl IssueError {
    /// Whether trying again later may help: the queue or KMS is full or slow.
    #[must_use]
    pub fn is_overload(&self) -> bool {
        matches!(
            self,
            Self::Store(StoreError::Overloaded)
                | Self::Sign(SignError::Signer(SignerError::Overloaded))
        )
    }
}

#[cfg(test)]
pub(crate) mod tests;

#[cfg(test)]
mod crash_tests;
