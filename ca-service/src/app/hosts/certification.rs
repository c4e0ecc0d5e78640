//! `POST /v1/hosts/certify`: a person or job has a host's key certified, where policy lets him
//! (`eic:IssueHostCertificate` on the host's ARN): for hosts outside EC2 and for image pipelines. The host's key
//! consents by a signature for this caller alone. A host that is known by other keys stays known by them.

use std::sync::Arc;

use eic_protocol::api::host_certification::{HostCertificationRequest, HostCertificationResponse};
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::validity::MAX_HOST_TTL;
use serde_json::json;

use super::refusal::HostRefusal;
use super::{App, check_age, host_after, issued_host_certificate};
use crate::app::certificates::{Considered, decision_facts, permitted};
use crate::app::facts::{Facts, resource};
use crate::audit::{Event, EventError, EventName};
use crate::authn::aws_sts::check_version;
use crate::host_identity::enrolment::{
    FirstEnrolment, Need, NotEnrolled, Purpose, Standing, StoredHost, needs,
};
use crate::host_identity::evidence::{EvidenceKind, HostEvidence};
use crate::http::context::Context;
use crate::inventory::InstanceRecord;
use crate::issuance::HostGrant;
use crate::policy::{Action, Asked, Permit};
use crate::refusal::{Denied, Refusal};
use crate::session::{Authorized, Presented};
use crate::store::hosts::{HostChange, Uses};

/// Shortest life that is asked for. Seconds: less than the next minute's clock error is no certificate.
const MIN_TTL: u64 = 60;

/// A request whose caller and host key signed it.
struct Call<'r> {
    context: &'r Context,
    authorized: &'r Authorized,
    request: &'r HostCertificationRequest,
    ttl: u64,
}

impl Call<'_> {
    fn key(&self) -> &SubjectKey {
        &self.request.host_key.public_key
    }
}

impl App {
    /// Certifies a host's key for a caller.
    ///
    /// # Errors
    /// [`Refusal`]; a denial is in the audit with its real reason.
    pub(crate) async fn certify_for_caller(
        &self,
        context: &Context,
        presented: &Presented,
        request: &HostCertificationRequest,
    ) -> Result<HostCertificationResponse, Refusal> {
        check_version(request.protocol)?;
        let authorized = self.admit(context, presented, request, None).await?;
        let call = Call {
            context,
            authorized: &authorized,
            request,
            ttl: self.checked_ttl(request)?,
        };
        self.check_consent(&call)?;
        self.skew.check()?;
        let mut considered = Considered::default();
        match self.enrol_for_caller(&call, &mut considered).await {
            Ok((permit, evidence)) => self.sign_for_caller(&call, &permit, &evidence).await,
            Err(refusal) => {
                self.audit_refused_certification(&call, &considered, &refusal)
                    .await?;
                Err(refusal)
            }
        }
    }

    fn checked_ttl(&self, request: &HostCertificationRequest) -> Result<u64, Refusal> {
        let ttl = request.ttl_seconds.unwrap_or(self.hosts.ttl);
        if (MIN_TTL..=MAX_HOST_TTL).contains(&ttl) {
            return Ok(ttl);
        }
        Err(Refusal::Malformed(format!(
            "`ttl_seconds` is {MIN_TTL} to {MAX_HOST_TTL}"
        )))
    }

    /// That the key may be a host's, and that its holder wants just this caller to have it certified.
    fn check_consent(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let form = call.request.check();
        form.map_err(|flaw| Refusal::Malformed(flaw.to_string()))?;
        check_age(call.request.time, call.context.now)?;
        self.check_host_key(call.key())?;
        if call.key() == call.authorized.key() {
            return Err(HostRefusal::CallersKey.into());
        }
        let consent = call
            .request
            .check_possession(self.audience(), call.authorized.key());
        Ok(consent.map_err(HostRefusal::PossessionNotProven)?)
    }

    /// Policy first: what is known of a host is told to nobody else.
    async fn enrol_for_caller(
        &self,
        call: &Call<'_>,
        considered: &mut Considered,
    ) -> Result<(Permit, HostEvidence), Refusal> {
        let (permit, evidence) = self.permit_certification(call, considered).await?;
        // Before anything is enrolled, after policy: who may not hears so, whether or not the key answers.
        self.trust.check_ca(self.hosts.ca.public())?;
        let (book, key) = (&self.hosts.book, call.key());
        let keys = std::slice::from_ref(key);
        if let Some(owner) = book.other_owner(evidence.instance(), keys).await? {
            return Err(HostRefusal::NotEnrolled(NotEnrolled::SharedKey(owner)).into());
        }
        let stored = book.stored(evidence.instance()).await?;
        let standing = standing_by_permit(&evidence, keys, &stored)?;
        let known = stored.enrolled.as_ref();
        let change = HostChange::Enrol {
            host: host_after(&evidence, keys, known, standing, call.context.now),
            expected: known.map(|known| known.revision),
            uses: Uses::Nothing,
            revoked: Vec::new(),
        };
        let event = self.certification_event(EventName::EnrolHost, call, Some(&evidence));
        let event = (standing == Standing::First).then_some(event);
        let claim = Some(call.authorized.claim());
        let recorded = self
            .recorder
            .change_host(book, change, event.as_ref(), claim)
            .await?;
        recorded
            .then_some((permit, evidence))
            .ok_or_else(|| HostRefusal::Raced.into())
    }

    async fn permit_certification(
        &self,
        call: &Call<'_>,
        considered: &mut Considered,
    ) -> Result<(Permit, HostEvidence), Refusal> {
        let (caller, context) = (call.authorized.caller(), call.context);
        let asker = caller.accountable_id();
        let host = self
            .inventory
            .instance(&call.request.instance, asker, context.now)
            .await?
            .ok_or(Denied::NoSuchHost)?;
        considered.host = Some(Arc::clone(&host));
        let key_type = call.key().algorithm_name();
        let asked = Asked {
            ttl_seconds: Some(call.ttl),
            reason: call.request.reason.as_ref().map(|reason| reason.as_str()),
            key_type: Some(&key_type),
            ..Asked::default()
        };
        let facts = Facts::of(caller, context, &self.nat);
        let resource = resource(&host);
        let action = Action::IssueHostCertificate;
        let permit = permitted(
            self.policy
                .decide(&facts.request(action, &resource, &asked)),
        )?;
        let evidence = HostEvidence::of_listed_host(EvidenceKind::Permit, &host, false);
        Ok((permit, evidence.map_err(HostRefusal::Disagreement)?))
    }

    async fn sign_for_caller(
        &self,
        call: &Call<'_>,
        permit: &Permit,
        evidence: &HostEvidence,
    ) -> Result<HostCertificationResponse, Refusal> {
        let event = self.certification_event(EventName::IssueHostCertificate, call, Some(evidence));
        let key = call.key().clone();
        let grant = HostGrant::by_permit(permit, evidence, key, event, call.ttl)?;
        let (instance, caller) = (evidence.instance(), call.authorized.caller());
        let issued = self.issue_to_host(instance, grant, call.key(), Some(caller));
        let issued = issued.await?;
        Ok(HostCertificationResponse {
            certificate: issued_host_certificate(&issued),
            request_id: issued.request_id(),
        })
    }

    fn certification_event(
        &self,
        name: EventName,
        call: &Call<'_>,
        evidence: Option<&HostEvidence>,
    ) -> Event {
        let request = call.request;
        let mut event = self.event(name, call.authorized.caller(), call.context);
        event.region = evidence.map(HostEvidence::region);
        event.account = evidence.map(|evidence| evidence.account().clone());
        event.parameters = Some(json!({
            "instanceId": request.instance.as_str(),
            "hostKeys": [call.key().fingerprint()],
            "ttlSeconds": call.ttl,
            "reason": request.reason.as_ref().map(|reason| reason.as_str()),
        }));
        event
    }

    /// The record of a denial or a host's refusal, with the request's claim; other refusals are no decisions.
    async fn audit_refused_certification(
        &self,
        call: &Call<'_>,
        considered: &Considered,
        refusal: &Refusal,
    ) -> Result<(), Refusal> {
        let host = considered.host.as_deref();
        let error = match refusal {
            Refusal::Denied(denied) => denied.event_error(),
            Refusal::Host(HostRefusal::Raced) => return Ok(()),
            Refusal::Host(refusal) => EventError {
                code: refusal.code().as_str().to_owned(),
                message: refusal.to_string(),
            },
            _ => return Ok(()),
        };
        let mut event = self.certification_event(EventName::DenyHostCertificate, call, None);
        event.region = host.map(InstanceRecord::region);
        event.account = host.map(|host| host.account().clone());
        event.error = Some(error);
        if let Refusal::Denied(denied) = refusal {
            event.additional = Some(decision_facts(denied, host));
        }
        let claim = call.authorized.claim();
        Ok(self.recorder.append_once(&event, claim).await?)
    }
}

/// A permit is all that a caller can show: of a host that needs more, nothing is certified.
fn standing_by_permit(
    evidence: &HostEvidence,
    keys: &[SubjectKey],
    stored: &StoredHost,
) -> Result<Standing, HostRefusal> {
    let (purpose, rule) = (Purpose::Certificates, FirstEnrolment::Token);
    let (standing, need) =
        needs(evidence, (keys, None), stored, purpose, rule).map_err(HostRefusal::NotEnrolled)?;
    (need == Need::Nothing)
        .then_some(standing)
        .ok_or(HostRefusal::TokenNeeded)
}
