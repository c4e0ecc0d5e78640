//! `POST /v1/sessions`: a proof in, a grant out. The record of the session precedes the grant.

use std::sync::Arc;
use std::time::Instant;

use eic_protocol::api::session::{SessionRequest, SessionResponse};
use serde_json::json;

use super::{App, HostRefusal};
use crate::audit::{Actor, Event, EventError, EventName, OnceError};
use crate::authn::{AuthnError, Confirmed};
use crate::caller::Caller;
use crate::http::context::Context;
use crate::refusal::Refusal;
use crate::store::{ClaimError, ReplayClaim};

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
        let Confirmed {
            caller,
            claim,
            token_claim,
        } = match confirmed {
            Ok(confirmed) => confirmed,
            Err(error) => {
                self.audit_refused_proof(context, request, &error).await?;
                return Err(error.into());
            }
        };
        let caller = Arc::new(caller);
        self.take_callers_turn(&caller)?;
        // One token with two proofs is used twice (threats B-12).
        if let Some(claim) = token_claim {
            self.replay.claim(claim).await.map_err(claim_refused)?;
        }
        if self.revocations.covers(&caller) {
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
        let mut event = self.event(EventName::CreateSession, caller, context);
        event.region = request.proof.sts().map(|sts| sts.region);
        event.parameters =
            Some(json!({ "publicKey": request.public_key.to_string(), "method": caller.method() }));
        event.additional = Some(json!({
            "fingerprint": request.public_key.fingerprint(),
            "claims": caller.oidc().map(|identity| identity.claims.told()),
            "tokenEndsAt": caller.token_ends_at(),
        }));
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
    /// proof cost them nothing, as many as are rationed. What never reached STS or an issuer's keys is in the log only.
    async fn audit_refused_proof(
        &self,
        context: &Context,
        request: &SessionRequest,
        error: &AuthnError,
    ) -> Result<(), Refusal> {
        match error {
            AuthnError::AccountNotAccepted(account) | AuthnError::WebIdentityRequired(account) => {
                self.take_turn(account)?;
            }
            // The sender is told to try again; what went wrong is for the operator.
            AuthnError::StsUnavailable(cause) => {
                tracing::warn!(request_id = %context.request_id, cause, "AWS STS did not confirm a proof");
            }
            AuthnError::IssuerUnavailable(cause) => {
                tracing::warn!(request_id = %context.request_id, cause, "a token could not be verified");
            }
            _ => {}
        }
        let recorded = error.is_of_confirmed_caller()
            || error.is_of_judged_proof()
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
        let sts = request.proof.sts();
        let actor = Actor::Unproven {
            access_key_id: sts.map(|sts| sts.access_key_id.to_string()),
        };
        let mut event = Event::new(
            EventName::RefuseSession,
            actor,
            context.origin(),
            context.request_id,
        );
        event.region = sts.map(|sts| sts.region);
        event.parameters = Some(
            json!({ "publicKey": request.public_key.to_string(), "method": request.proof.kind() }),
        );
        event.error = Some(EventError {
            code: "ProofRefused".to_owned(),
            message: error.to_string(),
        });
        Ok(self.recorder.append(&event).await?)
    }
}

/// A token that was used before is the proof's fault, not the request's.
fn claim_refused(error: ClaimError) -> Refusal {
    match error {
        ClaimError::Replayed => AuthnError::Replayed.into(),
        other @ ClaimError::Store(_) => other.into(),
    }
}
