//! A grant: one certificate that may be made, for one caller, once.
//! It is built from the policy's permit and holds nothing that the permit does not cover.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eic_protocol::api::certificate::{CertificateScope, UserCertificateRequest};
use eic_protocol::arn::Arn;
use eic_protocol::cert::Restrictions;
use eic_protocol::cert::options::Extension;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::request_id::RequestId;
use eic_protocol::subject_key::SubjectKey;
use eic_protocol::validity::{MAX_FLEET_TTL, MAX_HOST_TTL, MAX_TARGET_TTL};

use crate::audit::{Actor, Event, Operator, Origin};
use crate::caller::Caller;
use crate::host_identity::enrolment::Standing;
use crate::host_identity::evidence::HostEvidence;
use crate::policy::{Action, Permit};
use crate::store::ReplayClaim;

/// The right to one user certificate. Not `Clone`: [`super::prepare_user`] consumes it.
#[derive(Debug)]
pub struct Grant {
    pub(super) caller: Arc<Caller>,
    pub(super) request: UserCertificateRequest,
    pub(super) request_id: RequestId,
    pub(super) replay: ReplayClaim,
    pub(super) ttl: u64,
    pub(super) max_ttl: u64,
    pub(super) extensions: BTreeSet<Extension>,
    pub(super) restrictions: Restrictions,
    pub(super) decision: DecisionRecord,
    pub(super) kms_only: bool,
}

/// What the audit says of the decision.
#[derive(Clone, Debug, Default)]
pub(super) struct DecisionRecord {
    pub(super) policy_hash: String,
    pub(super) statement: String,
    pub(super) region: Option<String>,
    pub(super) account: Option<String>,
    pub(super) tags: BTreeMap<String, String>,
}

/// What was verified of the request before policy was asked.
#[derive(Debug)]
pub struct Verified {
    /// Who asks.
    pub caller: Arc<Caller>,
    /// What for; its public key is the one that the caller's session is bound to.
    pub request: UserCertificateRequest,
    /// The request's id.
    pub request_id: RequestId,
    /// Makes the request count once; claimed in the transaction that records the certificate.
    pub replay: ReplayClaim,
    /// The tags of the host that decided, for the audit.
    pub tags: BTreeMap<String, String>,
    /// Whether a host that it opens is in a fleet marked `kms_only`: no key in memory signs then.
    pub kms_only: bool,
}

impl Grant {
    /// The grant of what `permit` covers.
    ///
    /// # Errors
    /// [`GrantError`] where the permit was given for something else than the request: a defect of the
    /// caller's code, never of the client.
    pub fn new(verified: Verified, permit: &Permit) -> Result<Self, GrantError> {
        let request = &verified.request;
        check_covers(request, permit)?;
        let ttl = permit.ttl_seconds().ok_or(GrantError::Lifetime)?;
        let longest = longest(&request.scope);
        let max_ttl = permit
            .max_ttl_seconds()
            .map_or(longest, |max| max.min(longest));
        let asked_otherwise = request.ttl_seconds.is_some_and(|asked| asked != ttl);
        if asked_otherwise || ttl > max_ttl {
            return Err(GrantError::Lifetime);
        }
        let extensions: BTreeSet<Extension> = permit.extensions().iter().collect();
        if request
            .extensions
            .as_ref()
            .unwrap_or(&Extension::defaults())
            != &extensions
        {
            return Err(GrantError::Extensions);
        }
        Ok(Self::of_parts(
            verified,
            ttl,
            max_ttl,
            extensions,
            decision_of(permit),
        ))
    }

    fn of_parts(
        verified: Verified,
        ttl: u64,
        max_ttl: u64,
        extensions: BTreeSet<Extension>,
        mut decision: DecisionRecord,
    ) -> Self {
        let Verified {
            caller,
            request,
            request_id,
            replay,
            tags,
            kms_only,
        } = verified;
        decision.tags = tags;
        let restrictions = Restrictions {
            force_command: request.force_command.clone(),
            source_addresses: request.source_addresses.clone(),
            // sshd ignores it for other keys; a FIDO key is asked for its PIN always.
            verify_required: request.public_key.is_fido(),
        };
        Self {
            caller,
            request,
            request_id,
            replay,
            ttl,
            max_ttl,
            extensions,
            restrictions,
            decision,
            kms_only,
        }
    }

    /// Who gets the certificate.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The key that gets certified.
    #[must_use]
    pub fn subject(&self) -> &SubjectKey {
        &self.request.public_key
    }

    /// A grant as a permissive policy would give it, for tests of what follows.
    #[cfg(test)]
    pub(crate) fn for_test(verified: Verified) -> Self {
        let ttl = verified.request.ttl_seconds.unwrap_or(300);
        let longest = longest(&verified.request.scope);
        let extensions = verified
            .request
            .extensions
            .clone()
            .unwrap_or_else(Extension::defaults);
        let decision = DecisionRecord {
            policy_hash: "00".repeat(32),
            statement: "`test.json` statement 1".to_owned(),
            region: Some("eu-west-1".to_owned()),
            account: Some("111122223333".to_owned()),
            tags: BTreeMap::new(),
        };
        Self::of_parts(verified, ttl, longest, extensions, decision)
    }
}

fn longest(scope: &CertificateScope) -> u64 {
    match scope {
        CertificateScope::Target { .. } => MAX_TARGET_TTL,
        CertificateScope::Fleet { .. } => MAX_FLEET_TTL,
    }
}

/// One permit covers one certificate: its action, its resource, its user (rule D10).
fn check_covers(request: &UserCertificateRequest, permit: &Permit) -> Result<(), GrantError> {
    let (action, resource) = match &request.scope {
        CertificateScope::Target { instance, .. } => {
            (Action::SendSshPublicKey, instance.to_string())
        }
        CertificateScope::Fleet { fleet, .. } => (Action::IssueFleetCertificate, fleet.to_string()),
    };
    let named = permit
        .resource()
        .rsplit_once('/')
        .is_some_and(|(_, name)| name == resource);
    let same_user = permit.os_user() == Some(request.scope.os_user());
    if permit.action() == action && named && same_user {
        Ok(())
    } else {
        Err(GrantError::OtherRequest)
    }
}

fn decision_of(permit: &Permit) -> DecisionRecord {
    let resource: Option<Arn> = permit.resource().parse().ok();
    DecisionRecord {
        policy_hash: permit.policy().to_string(),
        statement: permit.statement().to_string(),
        region: resource
            .as_ref()
            .map(|arn| arn.region.clone())
            .filter(|region| !region.is_empty()),
        account: resource
            .and_then(|arn| arn.account)
            .map(|account| account.to_string()),
        tags: BTreeMap::new(),
    }
}

/// The right to one host certificate: by evidence of the host, or of an operator at the CA's own machine.
#[derive(Debug)]
pub struct HostGrant {
    pub(super) actor: Actor,
    pub(super) subject: SubjectKey,
    pub(super) instance: InstanceId,
    pub(super) request_id: RequestId,
    pub(super) ttl: u64,
    pub(super) origin: Origin,
    pub(super) decision: Option<DecisionRecord>,
}

impl HostGrant {
    /// The grant of a certificate for a key of the host that `evidence` is about: it names that host and no
    /// other. `event` says who asks and from where; `ttl` is in seconds.
    ///
    /// # Errors
    /// [`GrantError::Lifetime`] above 24 hours.
    pub(crate) fn by_evidence(
        evidence: &HostEvidence,
        standing: Standing,
        subject: SubjectKey,
        event: Event,
        ttl: u64,
    ) -> Result<Self, GrantError> {
        if ttl > MAX_HOST_TTL {
            return Err(GrantError::Lifetime);
        }
        let (kind, standing) = (evidence.kind().as_str(), standing.as_str());
        Ok(Self {
            actor: event.actor,
            subject,
            instance: evidence.instance().clone(),
            request_id: event.request_id,
            ttl,
            origin: event.origin,
            decision: Some(DecisionRecord {
                statement: format!("evidence `{kind}`, {standing}"),
                region: Some(evidence.region().to_string()),
                account: Some(evidence.account().to_string()),
                ..DecisionRecord::default()
            }),
        })
    }

    /// The grant of what `permit` covers: a certificate for a key of the host that `evidence` is about.
    ///
    /// # Errors
    /// [`GrantError`] where the permit was given for another host or action, and for more than 24 hours.
    pub(crate) fn by_permit(
        permit: &Permit,
        evidence: &HostEvidence,
        subject: SubjectKey,
        event: Event,
        ttl: u64,
    ) -> Result<Self, GrantError> {
        let named = permit.resource().rsplit_once('/');
        let named = named.is_some_and(|(_, name)| name == evidence.instance().as_str());
        if permit.action() != Action::IssueHostCertificate || !named {
            return Err(GrantError::OtherRequest);
        }
        if ttl > MAX_HOST_TTL {
            return Err(GrantError::Lifetime);
        }
        Ok(Self {
            actor: event.actor,
            subject,
            instance: evidence.instance().clone(),
            request_id: event.request_id,
            ttl,
            origin: event.origin,
            decision: Some(decision_of(permit)),
        })
    }

    /// The grant of a host certificate that is good for `ttl` seconds.
    ///
    /// # Errors
    /// [`GrantError::Lifetime`] above 24 hours.
    pub fn by_operator(
        operator: Operator,
        subject: SubjectKey,
        instance: InstanceId,
        request_id: RequestId,
        ttl: u64,
    ) -> Result<Self, GrantError> {
        if ttl > MAX_HOST_TTL {
            return Err(GrantError::Lifetime);
        }
        Ok(Self {
            actor: Actor::Operator(operator),
            subject,
            instance,
            request_id,
            ttl,
            origin: Origin::default(),
            decision: None,
        })
    }
}

/// A permit does not fit what was asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Another action, resource or user.
    #[error("grant the certificate: the permit was given for another request")]
    OtherRequest,
    /// Not the lifetime that was permitted.
    #[error("grant the certificate: its lifetime is not the permitted one")]
    Lifetime,
    /// Not the extensions that were permitted.
    #[error("grant the certificate: its extensions are not the permitted ones")]
    Extensions,
}

#[cfg(test)]
mod tests;
