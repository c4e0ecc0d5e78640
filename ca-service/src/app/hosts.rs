//! `POST /v1/certificates/host`: proof of the keys, evidence of the host, what is still needed, the record,
//! the certificates, in this order and no other.

use std::time::Instant;

use eic_protocol::api::host_certificate::{
    HostCertificateRequest, HostCertificateResponse, IssuedHostCertificate,
};
use eic_protocol::instance_id::InstanceId;
use eic_protocol::krl::{RevokedKey, Target};
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::validity::{MAX_BACKDATE, MAX_HOST_TTL};
use serde_json::json;

mod desk;
mod enrolling;
mod refusal;
mod report;
mod report_budget;
mod showing;

pub use desk::DeskError;
pub(crate) use desk::HostDesk;
pub use refusal::HostRefusal;

use super::App;
use crate::audit::{Actor, Event, EventError, EventName, HostActor};
use crate::authn::aws_sts::check_version;
use crate::host_identity::enrolment::{self, EnrolledHost, NotEnrolled, Standing, keys_after};
use crate::http::context::Context;
use crate::issuance::{HostGrant, issue_host};
use crate::refusal::Refusal;
use crate::store::hosts::{HostChange, Uses};
use crate::store::trust::{RevocationOrder, What};
use enrolling::Met;
use showing::Shown;

/// How far a host's request may be from our clock, either way. Seconds.
const MAX_AGE: u64 = 300;

/// A request whose keys signed it, for a host that was shown to be itself.
struct Asking<'r> {
    context: &'r Context,
    request: &'r HostCertificateRequest,
    keys: Vec<SubjectKey>,
    shown: Shown,
    known: Option<EnrolledHost>,
}

impl Asking<'_> {
    fn instance(&self) -> &InstanceId {
        self.shown.evidence.instance()
    }

    /// An event that the host caused.
    fn event(&self, name: EventName) -> Event {
        let evidence = &self.shown.evidence;
        let actor = HostActor {
            instance: evidence.instance().clone(),
            account: evidence.account().clone(),
            arn: self.shown.arn.clone(),
        };
        let actor = Actor::Host(Box::new(actor));
        let mut event = Event::new(name, actor, self.context.origin(), self.context.request_id);
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
        self.skew.check()?;
        self.trust.check_ca(self.hosts.ca.public())?;
        let shown = self.show_host(context, request).await?;
        let known = self.hosts.book.host(shown.evidence.instance()).await?;
        let keys = request.host_keys.iter();
        let asking = Asking {
            context,
            request,
            keys: keys.map(|proof| proof.public_key.clone()).collect(),
            shown,
            known,
        };
        match self.enrol(&asking).await {
            Ok(Met::Answer(answer)) => Ok(answer),
            Ok(Met::Enrolled(standing)) => self.sign_host_keys(&asking, standing).await,
            Err(Refusal::Host(refusal)) => {
                self.audit_host_refusal(&asking, &refusal).await?;
                Err(refusal.into())
            }
            Err(other) => Err(other),
        }
    }

    /// A host's key is never certified as somebody's (threats D-14).
    pub(super) async fn is_a_hosts_key(&self, key: &SubjectKey) -> Result<bool, Refusal> {
        Ok(self.hosts.book.owner(key).await?.is_some())
    }

    /// All that can be known without asking anybody.
    fn check_host_request(
        &self,
        context: &Context,
        request: &HostCertificateRequest,
    ) -> Result<(), Refusal> {
        check_version(request.protocol)?;
        let form = request.check();
        form.map_err(|flaw| Refusal::Malformed(flaw.to_string()))?;
        let age = request.time.abs_diff(context.now);
        if age > MAX_AGE {
            return Err(HostRefusal::Stale(age).into());
        }
        let special = |key: &SubjectKey| self.hosts.special.contains(key);
        if request
            .host_keys
            .iter()
            .any(|proof| special(&proof.public_key))
        {
            return Err(HostRefusal::SpecialKey.into());
        }
        let possession = request.check_possession(self.audience());
        Ok(possession.map_err(HostRefusal::PossessionNotProven)?)
    }

    /// What is needed is there, or is asked for; what is there is recorded.
    async fn enrol(&self, asking: &Asking<'_>) -> Result<Met, Refusal> {
        let owner = self
            .hosts
            .book
            .other_owner(asking.instance(), &asking.keys)
            .await?;
        if let Some(owner) = owner {
            return Err(HostRefusal::NotEnrolled(NotEnrolled::SharedKey(owner)).into());
        }
        let previous = asking.request.previous_key.as_ref();
        let (standing, need) = enrolment::needs(
            &asking.shown.evidence,
            &asking.keys,
            previous.map(|proof| &proof.public_key),
            asking.known.as_ref(),
            self.hosts.first_enrolment(asking.shown.evidence.account()),
        )
        .map_err(HostRefusal::NotEnrolled)?;
        let uses = match self.meet(asking, need).await? {
            Ok(uses) => uses,
            Err(answer) => return Ok(Met::Answer(answer)),
        };
        self.record_enrolment(asking, standing, uses).await?;
        Ok(Met::Enrolled(standing))
    }

    async fn record_enrolment(
        &self,
        asking: &Asking<'_>,
        standing: Standing,
        uses: Uses,
    ) -> Result<(), Refusal> {
        let event = (standing != Standing::Renewal).then(|| enrolment_event(asking, standing));
        let change = HostChange::Enrol {
            host: host_after(asking, standing),
            expected: asking.known.as_ref().map(|known| known.revision),
            uses,
            revoked: revoked_keys(asking, standing),
        };
        let claim = Some(asking.shown.claim);
        let recorded = self
            .recorder
            .change_host(&self.hosts.book, change, event.as_ref(), claim)
            .await?;
        if !recorded {
            return Err(HostRefusal::Raced.into());
        }
        if matches!(standing, Standing::Replaced | Standing::Vouched) {
            tracing::warn!(instance = %asking.instance(), standing = standing.as_str(), request_id = %asking.context.request_id,
                "ALARM: an enrolled host has other keys than before");
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
            let event = asking.event(EventName::IssueHostCertificate);
            let grant = HostGrant::by_evidence(
                &asking.shown.evidence,
                standing,
                key.clone(),
                event,
                self.hosts.ttl,
            )?;
            let (ca, special) = (&self.hosts.ca, &self.hosts.special);
            let issued = issue_host(&self.recorder, ca, special, grant, &self.clock).await?;
            certificates.push(IssuedHostCertificate {
                certificate: issued.line().to_owned(),
                serial: issued.serial(),
                validity: issued.validity(),
            });
        }
        let now = asking.context.now;
        Ok(HostCertificateResponse::Issued {
            certificates,
            // Twice as often as needed: a CA that is away for hours costs no host its certificate.
            renew_after: now.saturating_add(self.hosts.ttl / 2),
            server_time: now,
            request_id: asking.context.request_id,
        })
    }

    /// The record of a refusal, with the request's claim: one signed request makes one record.
    async fn audit_host_refusal(
        &self,
        asking: &Asking<'_>,
        refusal: &HostRefusal,
    ) -> Result<(), Refusal> {
        let mut event = asking.event(EventName::RefuseHostCertificate);
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

impl HostDesk {
    /// One request of the host's rate. Those that an enrolled key signed have a rate of their own: who can
    /// show the host's evidence, but has no key of it, must not spend what the host needs for its renewals.
    async fn take_turn(
        &self,
        instance: &InstanceId,
        request: &HostCertificateRequest,
    ) -> Result<(), Refusal> {
        let regular = self.has_enrolled_key(instance, request).await?;
        let turns = if regular {
            &self.regulars
        } else {
            &self.newcomers
        };
        let may = turns.take(instance, Instant::now());
        may.then_some(()).ok_or(Refusal::TooMany)
    }

    /// Whether a key that is enrolled for the host is among those that signed the request.
    async fn has_enrolled_key(
        &self,
        instance: &InstanceId,
        request: &HostCertificateRequest,
    ) -> Result<bool, Refusal> {
        let known = self.book.host(instance).await?;
        let mut proofs = request.host_keys.iter().chain(&request.previous_key);
        Ok(known.is_some_and(|known| proofs.any(|proof| known.keys.contains(&proof.public_key))))
    }
}

/// Enrolled keys that are the host's no more.
fn dropped_keys<'a>(asking: &'a Asking<'_>, standing: Standing) -> Vec<&'a SubjectKey> {
    let after = keys_after(standing, &asking.keys, asking.known.as_ref());
    let before = asking.known.as_ref().map(|known| known.keys.as_slice());
    let dropped = before.unwrap_or_default().iter();
    dropped.filter(|key| !after.contains(key)).collect()
}

/// Keys that did not vouch for those after them may be in other hands: until the last certificate of them
/// has ended, they are refused. One that vouched stays good until the host's sshd has the new one.
fn revoked_keys(asking: &Asking<'_>, standing: Standing) -> Vec<RevocationOrder> {
    if standing != Standing::Replaced {
        return Vec::new();
    }
    let now = asking.context.now;
    let ends = now.saturating_add(MAX_HOST_TTL + MAX_BACKDATE);
    let order = |key: &SubjectKey| RevocationOrder {
        id: asking.context.request_id,
        what: What::Entry(Target::Key(RevokedKey::from(key)), Some(ends)),
        by: asking.instance().to_string(),
        reason: Some("the host was enrolled with other keys".to_owned()),
        at: now,
    };
    let dropped = dropped_keys(asking, standing).into_iter();
    dropped.map(order).collect()
}

fn enrolment_event(asking: &Asking<'_>, standing: Standing) -> Event {
    let mut event = asking.event(EventName::EnrolHost);
    let dropped = dropped_keys(asking, standing).into_iter();
    let dropped: Vec<String> = dropped.map(SubjectKey::fingerprint).collect();
    event.additional = Some(json!({
        "standing": standing.as_str(),
        "droppedKeys": dropped,
    }));
    event
}

/// The host as it is stored from now on.
fn host_after(asking: &Asking<'_>, standing: Standing) -> EnrolledHost {
    let (evidence, now) = (&asking.shown.evidence, asking.context.now);
    let known = asking.known.as_ref();
    // AWS's evidence, once shown, is demanded for ever.
    let kind = known
        .map(|known| known.evidence)
        .filter(|_| !evidence.kind().is_of_aws())
        .unwrap_or(evidence.kind());
    let fresh = matches!(standing, Standing::First | Standing::Replaced);
    EnrolledHost {
        instance: evidence.instance().clone(),
        account: evidence.account().clone(),
        region: evidence.region(),
        evidence: kind,
        keys: keys_after(standing, &asking.keys, known),
        pending_time: evidence
            .pending_time()
            .max(known.and_then(|known| known.pending_time)),
        blocked: false,
        enrolled_at: known
            .filter(|_| !fresh)
            .map_or(now, |known| known.enrolled_at),
        certified_at: now,
        revision: 0,
    }
}
