//! `POST /v1/sessions`: a proof in, a grant out. The record of the session precedes the grant.

use std::sync::Arc;
use std::time::Instant;

use eic_protocol::api::session::{Proof, SessionRequest, SessionResponse};
use serde_json::json;

use super::{App, HostRefusal};
use crate::audit::{Actor, Event, EventError, EventName, OnceError};
use crate::authn::AuthnError;
use crate::authn::aws_sts::Confirmed;
use crate::caller::Caller;
use crate::http::context::Context;
use crate::refusal::Refusal;
use crate::store::ReplayClaim;

impl App {
    /// Opens a session.
    ///
    /// # Errors
    /// [`Refusal`]; a proof that reached STS and was refused is in the audit.
    pub(crate) async fn open_session(
        &self,
        context: &Context,
        request: &SessionRequest,
    ) -> Result<SessionResponse, Refusal> {
        let confirmed = self
            .authn
            .authenticate(request, context.request_id, context.peer(), context.now)
            .await;
        let Confirmed { caller, claim } = match confirmed {
            Ok(confirmed) => confirmed,
            Err(error) => {
                self.audit_refused_proof(context, request, &error).await?;
                return Err(error.into());
            }
        };
        let caller = Arc::new(caller);
        self.take_callers_turn(&caller)?;
        if self.revocations.contains(caller.arn(), caller.user_id()) {
            let why = ("CallerRevoked", "the caller is revoked");
            self.audit_refused(context, &caller, claim, why).await?;
            return Err(Refusal::Revoked);
        }
        if self.is_a_hosts_key(&request.public_key).await? {
            let why = ("HostsKey", "the public key is a host's key");
            self.audit_refused(context, &caller, claim, why).await?;
            return Err(HostRefusal::HostsKey.into());
        }
        self.audit_session(context, request, &caller, claim).await?;
        let grant = self
            .sessions
            .open(&caller, &request.public_key, context.now)?;
        Ok(SessionResponse {
            grant: grant.token,
            expires_at: grant.expires_at,
            caller: caller.view(),
            server_time: context.now,
            request_id: context.request_id,
        })
    }

    async fn audit_session(
        &self,
        context: &Context,
        request: &SessionRequest,
        caller: &Arc<Caller>,
        claim: ReplayClaim,
    ) -> Result<(), Refusal> {
        let Proof::AwsSts(proof) = &request.proof;
        let mut event = self.event(EventName::CreateSession, caller, context);
        event.region = Some(proof.region);
        event.parameters =
            Some(json!({ "publicKey": request.public_key.to_string(), "method": caller.method() }));
        event.additional = Some(json!({ "fingerprint": request.public_key.fingerprint() }));
        self.append_proof(&event, claim).await
    }

    async fn audit_refused(
        &self,
        context: &Context,
        caller: &Arc<Caller>,
        claim: ReplayClaim,
        (code, message): (&str, &str),
    ) -> Result<(), Refusal> {
        let mut event = self.event(EventName::RefuseSession, caller, context);
        event.error = Some(EventError {
            code: code.to_owned(),
            message: message.to_owned(),
        });
        self.append_proof(&event, claim).await
    }

    /// Claim and record in one: of two requests with one proof, at most one gets a grant.
    async fn append_proof(&self, event: &Event, claim: ReplayClaim) -> Result<(), Refusal> {
        match self.recorder.append_once(event, claim).await {
            Err(OnceError::Replayed) => Err(AuthnError::Replayed.into()),
            outcome => Ok(outcome?),
        }
    }

    /// Whoever AWS confirmed is recorded always, within the rate of his account. Of the others, whose
    /// proof cost them nothing, as many as are rationed. What never reached STS is in the log only.
    async fn audit_refused_proof(
        &self,
        context: &Context,
        request: &SessionRequest,
        error: &AuthnError,
    ) -> Result<(), Refusal> {
        match error {
            AuthnError::AccountNotAccepted(account) => self.take_turn(account)?,
            // The sender is told to try again; what went wrong is for the operator.
            AuthnError::StsUnavailable(cause) => {
                tracing::warn!(request_id = %context.request_id, cause, "AWS STS did not confirm a proof");
            }
            _ => {}
        }
        let unproven = matches!(error, AuthnError::Refused(_));
        let recorded = error.is_of_confirmed_caller()
            || unproven
                && self
                    .refused_proofs
                    .is_recorded(context.peer(), Instant::now(), context.now);
        if recorded {
            self.record_refused_proof(context, request, error).await
        } else {
            Ok(())
        }
    }

    async fn record_refused_proof(
        &self,
        context: &Context,
        request: &SessionRequest,
        error: &AuthnError,
    ) -> Result<(), Refusal> {
        let Proof::AwsSts(proof) = &request.proof;
        let actor = Actor::Unproven {
            access_key_id: Some(proof.access_key_id.to_string()),
        };
        let mut event = Event::new(
            EventName::RefuseSession,
            actor,
            context.origin(),
            context.request_id,
        );
        event.region = Some(proof.region);
        event.parameters =
            Some(json!({ "publicKey": request.public_key.to_string(), "method": "aws-sts" }));
        event.error = Some(EventError {
            code: "ProofRefused".to_owned(),
            message: error.to_string(),
        });
        Ok(self.recorder.append(&event).await?)
    }
}
