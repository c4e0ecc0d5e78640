//! `POST /v1/certificates/host`: proof of the keys, evidence of the host, what is still needed, the record,
//! the certificates, in this order and no other.

use std::time::Instant;

use eic_protocol::api::host_certificate::{
    HostCertificateRequest, HostCertificateResponse, IssuedHostCertificate,
};
use eic_protocol::instance_id::InstanceId;
use eic_protocol::krl::{RevokedKey, Target};
use eic_protocol::proof::CanonicalRequest;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::validity::{MAX_BACKDATE, MAX_HOST_TTL};
use serde_json::json;

mod certification;
mod desk;
mod enrolling;
mod known_keys;
mod login_budget;
mod refusal;
mod report;
mod showing;
mod watch;

pub use desk::DeskError;
pub(crate) use desk::HostDesk;
pub use refusal::HostRefusal;

use super::App;
use crate::audit::{Actor, Event, EventError, EventName, HostActor};
use crate::authn::aws_sts::check_version;
use crate::caller::Caller;
use crate::host_identity::enrolment::{
    self, EnrolledHost, NotEnrolled, Purpose, Standing, StoredHost, evidence_after, keys_after,
};
use crate::host_identity::evidence::HostEvidence;
use crate::http::context::Context;
use crate::issuance::{HostGrant, IssueError, Issued, issue_host};
use crate::refusal::Refusal;
use crate::store::hosts::{HostChange, Uses};
use crate::store::trust::{RevocationOrder, What};
use enrolling::Wanted;
use showing::Shown;

/// How far a host's request may be from our clock, either way. Seconds.
const MAX_AGE: u64 = 300;

/// Most keys of a host that are listed because it has others now: four types, four times a day.
const MAX_GIVEN_UP: u64 = 16;

/// A request that its keys signed, beside what it is for and what is stored of the host that it names.
struct Sent<'r> {
    context: &'r Context,
    request: &'r HostCertificateRequest,
    purpose: Purpose,
    canonical: CanonicalRequest,
    stored: StoredHost,
    /// The previous key, unless it is revoked: then it vouches for nothing.
    previous: Option<&'r SubjectKey>,
}

impl Sent<'_> {
    /// Whether a key that is known as the host's is among those that signed.
    fn has_known_key(&self) -> bool {
        let known = self.stored.enrolled.iter().chain(&self.stored.legacy);
        let keys = self.request.host_keys.iter();
        let keys = keys.map(|proof| &proof.public_key);
        keys.chain(self.previous).any(|key| {
            let mut hosts = known.clone();
            hosts.any(|host| host.keys.contains(key))
        })
    }
}

/// A request of a host that was shown to be itself.
struct Asking<'r> {
    sent: &'r Sent<'r>,
    keys: Vec<SubjectKey>,
    shown: Shown,
}

impl<'r> Asking<'r> {
    fn of(sent: &'r Sent<'r>, shown: Shown) -> Self {
        let keys = sent.request.host_keys.iter();
        let keys = keys.map(|proof| proof.public_key.clone()).collect();
        Self { sent, keys, shown }
    }

    fn instance(&self) -> &InstanceId {
        self.shown.evidence.instance()
    }

    /// What was known of the host for what it asks.
    fn known(&self) -> Option<&EnrolledHost> {
        self.sent.stored.known(self.sent.purpose)
    }

    /// An event that the host caused.
    fn event(&self, name: EventName) -> Event {
        let evidence = &self.shown.evidence;
        let actor = HostActor {
            instance: evidence.instance().clone(),
            account: evidence.account().clone(),
            arn: self.shown.arn.clone(),
        };
        let (actor, context) = (Actor::Host(Box::new(actor)), self.sent.context);
        let mut event = Event::new(name, actor, context.origin(), context.request_id);
        event.region = Some(evidence.region());
        event.account = Some(evidence.account().clone());
        let keys: Vec<String> = self.keys.iter().map(SubjectKey::fingerprint).collect();
        event.parameters = Some(json!({
            "instanceId": evidence.instance().as_str(),
            "evidence": evidence.kind().as_str(),
            "hostKeys": keys,
        }));
        event
    }
}

/// What came of what the host still needs.
enum Met {
    /// It is there and recorded.
    Recorded(Standing),
    /// It is not; what to do instead.
    Wanted(Wanted),
}

impl App {
    /// Certifies a host's keys, or says what is still needed.
    ///
    /// # Errors
    /// [`Refusal`]; that of a host which AWS confirmed is in the audit.
    pub(crate) async fn certify_host(
        &self,
        context: &Context,
        request: &HostCertificateRequest,
    ) -> Result<HostCertificateResponse, Refusal> {
        self.check_host_request(context, request)?;
        let possession = request.check_possession(self.audience());
        possession.map_err(HostRefusal::PossessionNotProven)?;
        self.skew.check()?;
        self.trust.check_ca(self.hosts.ca.public())?;
        let sent = Sent {
            context,
            request,
            purpose: Purpose::Certificates,
            canonical: request.canonical(self.audience()),
            stored: self.hosts.book.stored(&request.instance).await?,
            previous: self.unrevoked_previous(request),
        };
        let asking = Asking::of(&sent, self.show_host(&sent).await?);
        match self.enrol(&asking).await? {
            Met::Recorded(standing) => self.sign_host_keys(&asking, standing).await,
            Met::Wanted(wanted) => Ok(wanted.for_certificates(context.request_id)),
        }
    }

    /// A host's key is never certified as somebody's (threats D-14).
    pub(super) async fn is_a_hosts_key(&self, key: &SubjectKey) -> Result<bool, Refusal> {
        Ok(self.hosts.book.owner(key).await?.is_some())
    }

    /// All that can be known without asking anybody, the signatures apart.
    fn check_host_request(
        &self,
        context: &Context,
        request: &HostCertificateRequest,
    ) -> Result<(), Refusal> {
        check_version(request.protocol)?;
        let form = request.check();
        form.map_err(|flaw| Refusal::Malformed(flaw.to_string()))?;
        check_age(request.time, context.now)?;
        let mut keys = request.host_keys.iter().map(|proof| &proof.public_key);
        keys.try_for_each(|key| self.check_host_key(key))?;
        Ok(())
    }

    /// A host's key is none of the CA's, and none that is revoked: whoever stole it would go on with it (threats D-14).
    fn check_host_key(&self, key: &SubjectKey) -> Result<(), HostRefusal> {
        if self.hosts.special.contains(key) {
            return Err(HostRefusal::SpecialKey);
        }
        if self.trust.book.watch().revokes(key) {
            return Err(HostRefusal::RevokedKey);
        }
        Ok(())
    }

    fn unrevoked_previous<'r>(
        &self,
        request: &'r HostCertificateRequest,
    ) -> Option<&'r SubjectKey> {
        let previous = request.previous_key.as_ref().map(|proof| &proof.public_key);
        previous.filter(|key| !self.trust.book.watch().revokes(key))
    }

    /// What is needed is there, or is asked for; what is there is recorded, and so is a refusal.
    async fn enrol(&self, asking: &Asking<'_>) -> Result<Met, Refusal> {
        match self.try_enrol(asking).await {
            // Its claim is made already, and nothing was decided.
            Err(Refusal::Host(HostRefusal::Raced)) => Err(HostRefusal::Raced.into()),
            Err(Refusal::Host(refusal)) => {
                self.audit_host_refusal(asking, &refusal).await?;
                Err(refusal.into())
            }
            other => other,
        }
    }

    async fn try_enrol(&self, asking: &Asking<'_>) -> Result<Met, Refusal> {
        let (instance, sent) = (asking.instance(), asking.sent);
        let owner = self.hosts.book.other_owner(instance, &asking.keys).await?;
        if let Some(owner) = owner {
            return Err(HostRefusal::NotEnrolled(NotEnrolled::SharedKey(owner)).into());
        }
        let (standing, need) = enrolment::needs(
            &asking.shown.evidence,
            (&asking.keys, sent.previous),
            &sent.stored,
            sent.purpose,
            self.hosts.first_enrolment(asking.shown.evidence.account()),
        )
        .map_err(HostRefusal::NotEnrolled)?;
        self.check_given_up(asking, standing).await?;
        let uses = match self.meet(asking, standing, need).await? {
            Ok(uses) => uses,
            Err(wanted) => return Ok(Met::Wanted(wanted)),
        };
        self.record_enrolment(asking, standing, uses).await?;
        Ok(Met::Recorded(standing))
    }

    /// Keys that a host gives up are listed on every host: a few in a day, not one each second.
    async fn check_given_up(&self, asking: &Asking<'_>, standing: Standing) -> Result<(), Refusal> {
        let further = u64::try_from(dropped_keys(asking, standing).len()).unwrap_or(u64::MAX);
        if asking.sent.purpose != Purpose::Certificates || further == 0 {
            return Ok(());
        }
        let (instance, now) = (asking.instance().clone(), asking.sent.context.now);
        let before = self.trust.book.given_up(instance, now).await?;
        let few = before.saturating_add(further) <= MAX_GIVEN_UP;
        Ok(few.then_some(()).ok_or(HostRefusal::KeysTooOften)?)
    }

    async fn record_enrolment(
        &self,
        asking: &Asking<'_>,
        standing: Standing,
        uses: Uses,
    ) -> Result<(), Refusal> {
        let event = (standing != Standing::Renewal).then(|| enrolment_event(asking, standing));
        let change = enrolment_change(asking, standing, uses);
        let claim = Some(asking.shown.claim);
        let recorded = self
            .recorder
            .change_host(&self.hosts.book, change, event.as_ref(), claim)
            .await?;
        if !recorded {
            return Err(HostRefusal::Raced.into());
        }
        if matches!(standing, Standing::Replaced | Standing::Vouched) {
            tracing::warn!(instance = %asking.instance(), standing = standing.as_str(), request_id = %asking.sent.context.request_id,
                "ALARM: a host that was known has other keys than before");
        }
        Ok(())
    }

    async fn sign_host_keys(
        &self,
        asking: &Asking<'_>,
        standing: Standing,
    ) -> Result<HostCertificateResponse, Refusal> {
        let mut certificates = Vec::new();
        for key in &asking.keys {
            let grant = HostGrant::by_evidence(
                &asking.shown.evidence,
                standing,
                key.clone(),
                asking.event(EventName::IssueHostCertificate),
                self.hosts.ttl,
            )?;
            let issued = self.issue_to_host(asking.instance(), grant, key, None);
            let issued = issued.await?;
            certificates.push(issued_host_certificate(&issued));
        }
        let context = asking.sent.context;
        Ok(HostCertificateResponse::Issued {
            certificates,
            // Twice as often as needed: a CA that is away for hours costs no host its certificate.
            renew_after: context.now.saturating_add(self.hosts.ttl / 2),
            server_time: context.now,
            request_id: context.request_id,
        })
    }

    /// Once more after the record: a block, a removal or a revocation of the caller that came before it is seen here,
    /// and one that comes after it finds the certificate in the journal. None falls between (threats F-14).
    async fn issue_to_host(
        &self,
        instance: &InstanceId,
        grant: HostGrant,
        key: &SubjectKey,
        caller: Option<&Caller>,
    ) -> Result<Issued, Refusal> {
        let (ca, special) = (&self.hosts.ca, &self.hosts.special);
        let revoked = || caller.is_some_and(|caller| self.revocations.covers(caller));
        let still_admitted = async {
            if revoked() {
                return Err(IssueError::Revoked);
            }
            let stored = self.hosts.book.stored(instance).await;
            let stored = stored.map_err(IssueError::Store)?;
            let may = stored.may_have(key) && !self.trust.book.watch().revokes(key);
            may.then_some(()).ok_or(IssueError::Revoked)
        };
        let issued = issue_host(
            &self.recorder,
            ca,
            special,
            grant,
            &self.clock,
            still_admitted,
        );
        issued.await.map_err(|error| match error {
            IssueError::Revoked if revoked() => Refusal::Revoked,
            IssueError::Revoked if self.trust.book.watch().revokes(key) => {
                HostRefusal::RevokedKey.into()
            }
            IssueError::Revoked => HostRefusal::Raced.into(),
            other => other.into(),
        })
    }

    /// The record of a refusal, with the request's claim: one signed request makes one record.
    async fn audit_host_refusal(
        &self,
        asking: &Asking<'_>,
        refusal: &HostRefusal,
    ) -> Result<(), Refusal> {
        let mut event = asking.event(match asking.sent.purpose {
            Purpose::Certificates => EventName::RefuseHostCertificate,
            Purpose::KnownKeys => EventName::RefuseHostKeys,
        });
        event.error = Some(EventError {
            code: refusal.code().as_str().to_owned(),
            message: refusal.to_string(),
        });
        let claim = Some(asking.shown.claim);
        self.recorder
            .change_host(&self.hosts.book, HostChange::Nothing, Some(&event), claim)
            .await?;
        Ok(())
    }
}

/// What a host's keys signed must be of now.
fn check_age(time: u64, now: u64) -> Result<(), HostRefusal> {
    let age = time.abs_diff(now);
    (age <= MAX_AGE)
        .then_some(())
        .ok_or(HostRefusal::Stale(age))
}

fn issued_host_certificate(issued: &Issued) -> IssuedHostCertificate {
    IssuedHostCertificate {
        certificate: issued.line().to_owned(),
        serial: issued.serial(),
        validity: issued.validity(),
    }
}

impl HostDesk {
    /// One request of the host's rate. Those that a key of the host signed have a rate of their own: who can
    /// show the host's evidence, but has no key of it, must not spend what the host needs for its renewals.
    fn take_turn(&self, sent: &Sent<'_>) -> Result<(), Refusal> {
        let turns = if sent.has_known_key() {
            &self.regulars
        } else {
            &self.newcomers
        };
        let may = turns.take(&sent.request.instance, Instant::now());
        may.then_some(()).ok_or(Refusal::TooMany)
    }
}

/// Known keys that are the host's no more.
fn dropped_keys<'a>(asking: &'a Asking<'_>, standing: Standing) -> Vec<&'a SubjectKey> {
    let after = keys_after(standing, &asking.keys, asking.known());
    let before = asking.known().map(|known| known.keys.as_slice());
    let dropped = before.unwrap_or_default().iter();
    dropped.filter(|key| !after.contains(key)).collect()
}

/// Keys that others took the place of may be in other hands, and a host has one key of a type: until the last
/// certificate of them has ended, they are refused (threats E-08).
fn revoked_keys(asking: &Asking<'_>, standing: Standing) -> Vec<RevocationOrder> {
    let context = asking.sent.context;
    let ends = context.now.saturating_add(MAX_HOST_TTL + MAX_BACKDATE);
    let order = |key: &SubjectKey| RevocationOrder {
        id: context.request_id,
        what: What::Entry(Target::Key(RevokedKey::from(key)), Some(ends)),
        by: asking.instance().to_string(),
        reason: Some("the host was enrolled with other keys".to_owned()),
        at: context.now,
    };
    let dropped = dropped_keys(asking, standing).into_iter();
    dropped.map(order).collect()
}

fn enrolment_change(asking: &Asking<'_>, standing: Standing, uses: Uses) -> HostChange {
    let host = host_after(
        &asking.shown.evidence,
        &asking.keys,
        asking.known(),
        standing,
        asking.sent.context.now,
    );
    let expected = asking.known().map(|known| known.revision);
    match asking.sent.purpose {
        Purpose::Certificates => HostChange::Enrol {
            host,
            expected,
            uses,
            revoked: revoked_keys(asking, standing),
        },
        Purpose::KnownKeys => HostChange::Know {
            host,
            expected,
            uses,
        },
    }
}

fn enrolment_event(asking: &Asking<'_>, standing: Standing) -> Event {
    let mut event = asking.event(match asking.sent.purpose {
        Purpose::Certificates => EventName::EnrolHost,
        Purpose::KnownKeys => EventName::KnowHostKeys,
    });
    let dropped = dropped_keys(asking, standing).into_iter();
    let dropped: Vec<String> = dropped.map(SubjectKey::fingerprint).collect();
    event.additional = Some(json!({
        "standing": standing.as_str(),
        "droppedKeys": dropped,
    }));
    event
}

/// The host as it is stored from now on; `now` is in Unix seconds.
fn host_after(
    evidence: &HostEvidence,
    keys: &[SubjectKey],
    known: Option<&EnrolledHost>,
    standing: Standing,
    now: u64,
) -> EnrolledHost {
    let fresh = matches!(standing, Standing::First | Standing::Replaced);
    EnrolledHost {
        instance: evidence.instance().clone(),
        account: evidence.account().clone(),
        region: evidence.region(),
        evidence: evidence_after(evidence.kind(), known.map(|known| known.evidence)),
        keys: keys_after(standing, keys, known),
        pending_time: evidence
            .pending_time()
            .max(known.and_then(|known| known.pending_time)),
        enrolled_at: known
            .filter(|_| !fresh)
            .map_or(now, |known| known.enrolled_at),
        certified_at: now,
        ended_at: None,
        revision: 0,
    }
}
