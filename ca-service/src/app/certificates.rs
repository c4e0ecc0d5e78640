//! `POST /v1/certificates/user`: grant, inventory, policy, issuance, in this order and no other.

use std::collections::BTreeMap;
use std::sync::Arc;

use eic_protocol::api::certificate::{
    CertificateScope, UserCertificateRequest, UserCertificateResponse,
};
use eic_protocol::os_user::OsUser;
use serde_json::json;

use super::App;
use super::facts::{Choices, Facts, resource};
use crate::audit::EventName;
use crate::authn::aws_sts::check_version;
use crate::http::context::Context;
use crate::inventory::InstanceRecord;
use crate::issuance::{Grant, Verified};
use crate::policy::{Action, Decision, Denial, Permit};
use crate::refusal::{Denied, Refusal};
use crate::session::{Authorized, Presented};

/// What policy decided about, for the audit of a denial.
#[derive(Default)]
pub(super) struct Considered {
    pub(super) host: Option<Arc<InstanceRecord>>,
    /// Whether one of the hosts that it opens is in a fleet marked `kms_only`.
    pub(super) kms_only: bool,
}

impl App {
    /// Issues a user certificate.
    ///
    /// # Errors
    /// [`Refusal`]; a denial is in the audit with its real reason.
    pub(crate) async fn issue_user_certificate(
        &self,
        context: &Context,
        presented: &Presented,
        request: UserCertificateRequest,
    ) -> Result<UserCertificateResponse, Refusal> {
        check_version(request.protocol)?;
        let authorized = self
            .admit(context, presented, &request, Some(&request.public_key))
            .await?;
        self.skew.check()?;
        let mut considered = Considered::default();
        let permit = match self
            .decide(context, &authorized, &request, &mut considered)
            .await
        {
            Ok(permit) => permit,
            Err(Refusal::Denied(denied)) => {
                self.audit_denial(context, &authorized, &request, &considered, &denied)
                    .await?;
                return Err(denied.into());
            }
            Err(other) => return Err(other),
        };
        // After policy: who may not hears so, whether or not the signing key answers.
        self.trust.check_user_ca(
            self.issuer
                .ca_for(&request.scope, considered.kms_only)
                .public(),
        )?;
        let verified = Verified {
            caller: Arc::clone(authorized.caller()),
            request_id: context.request_id,
            replay: authorized.claim(),
            tags: considered
                .host
                .as_ref()
                .map(|host| host.tags().clone())
                .unwrap_or_default(),
            kms_only: considered.kms_only,
            request,
        };
        let user = verified.request.scope.os_user().clone();
        let principal = verified.request.scope.principal();
        let issued = self
            .issuer
            .issue(Grant::new(verified, &permit)?, context.origin())
            .await?;
        Ok(UserCertificateResponse {
            certificate: issued.line().to_owned(),
            serial: issued.serial(),
            request_id: issued.request_id(),
            validity: issued.validity(),
            principal,
            restricted: issued.is_restricted(),
            instance: considered
                .host
                .map(|host| self.inventory.view(&host, vec![user])),
        })
    }

    async fn decide(
        &self,
        context: &Context,
        authorized: &Authorized,
        request: &UserCertificateRequest,
        considered: &mut Considered,
    ) -> Result<Permit, Refusal> {
        let facts = Facts::of(authorized.caller(), context, &self.nat);
        let choices = Choices::of(request).ok_or_else(|| {
            Refusal::Malformed("a source address or extension is not of a known form".to_owned())
        })?;
        match &request.scope {
            CertificateScope::Target { user, instance } => {
                let host = self
                    .inventory
                    .instance(instance, authorized.caller().accountable_id(), context.now)
                    .await?
                    .ok_or(Denied::NoSuchHost)?;
                considered.host = Some(Arc::clone(&host));
                considered.kms_only = self.is_kms_only(&host);
                self.decide_target(&facts, &choices, user, &host)
            }
            CertificateScope::Fleet { user, fleet } => {
                let (permit, kms_only) = self
                    .decide_fleet(&facts, &choices, user, fleet, context)
                    .await?;
                considered.kms_only = kms_only;
                Ok(permit)
            }
        }
    }

    fn decide_target(
        &self,
        facts: &Facts,
        choices: &Choices<'_>,
        user: &OsUser,
        host: &InstanceRecord,
    ) -> Result<Permit, Refusal> {
        let resource = resource(host);
        let asked = choices.asked(user, None);
        let request = facts.request(Action::SendSshPublicKey, &resource, &asked);
        let permit = permitted(self.policy.decide(&request))?;
        // After policy: whether a host runs is not told to those who may not use it.
        if host.is_up() {
            Ok(permit)
        } else {
            Err(Denied::HostDown.into())
        }
    }

    /// The record of a denial, with the request's claim: one signed request makes one record.
    async fn audit_denial(
        &self,
        context: &Context,
        authorized: &Authorized,
        request: &UserCertificateRequest,
        considered: &Considered,
        denied: &Denied,
    ) -> Result<(), Refusal> {
        let mut event = self.event(EventName::DenyUserCertificate, authorized.caller(), context);
        if let Some(host) = &considered.host {
            event.region = Some(host.region());
            event.account = Some(host.account().clone());
        }
        event.parameters = Some(parameters(request));
        event.error = Some(denied.event_error());
        event.additional = Some(decision_facts(denied, considered.host.as_deref()));
        Ok(self
            .recorder
            .append_once(&event, authorized.claim())
            .await?)
    }
}

/// What policy permits, or its denial.
pub(super) fn permitted(decision: Decision) -> Result<Permit, Refusal> {
    match decision {
        Decision::Allow(permit) => Ok(permit),
        Decision::Deny(denial) => Err(Denied::Policy(denial).into()),
    }
}

fn parameters(request: &UserCertificateRequest) -> serde_json::Value {
    json!({
        "publicKey": request.public_key.to_string(),
        "principal": request.scope.principal().to_string(),
        "ttlSeconds": request.ttl_seconds,
        "forceCommand": request.force_command.as_ref().map(|command| command.as_str()),
        "sourceAddresses": request.source_addresses.as_ref().map(ToString::to_string),
        "extensions": request.extensions,
        "reason": request.reason.as_ref().map(|reason| reason.as_str()),
    })
}

/// What a denial rests on, for the audit: the policy, the statement that denies, the tags that were read.
pub(super) fn decision_facts(denied: &Denied, host: Option<&InstanceRecord>) -> serde_json::Value {
    let denial = match denied {
        Denied::Policy(denial) => Some(denial),
        _ => None,
    };
    let policy = denial.and_then(Denial::policy);
    let statement = denial.and_then(Denial::statement);
    json!({
        "policyHash": policy.map(|digest| digest.to_string()),
        "statement": statement.map(ToString::to_string),
        "tags": host.map_or(&BTreeMap::new(), InstanceRecord::tags),
    })
}
