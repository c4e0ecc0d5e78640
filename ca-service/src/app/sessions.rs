//! `POST /v1/sessions`: a proof in, a grant out. The record of the session precedes the grant.

use eic_protocol::api::session::{Proof, SessionRequest, SessionResponse};
use serde_json::json;

use super::App;
use crate::audit::{Actor, Event, EventError, EventName};
use crate::authn::AuthnError;
use crate::caller::Caller;
use crate::http::context::Context;
use crate::refusal::Refusal;

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
        let proven = self
            .authn
            .authenticate(request, context.request_id, &self.replay, context.now)
            .await;
        let caller = match proven {
            Ok(caller) => caller,
            Err(error) => {
                self.audit_refused_proof(context, request, &error).await?;
                return Err(error.into());
            }
        };
        if self.revocations.contains(caller.arn(), caller.user_id()) {
            self.audit_revoked(context, &caller).await?;
            return Err(Refusal::Revoked);
        }
        self.audit_session(context, request, &caller).await?;
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
        caller: &Caller,
    ) -> Result<(), Refusal> {
        let Proof::AwsSts(proof) = &request.proof;
        let mut event = self.event(EventName::CreateSession, caller, context);
        event.region = Some(proof.region);
        event.parameters =
            Some(json!({ "publicKey": request.public_key.to_string(), "method": caller.method() }));
        event.additional = Some(json!({ "fingerprint": request.public_key.fingerprint() }));
        Ok(self.recorder.append(&event).await?)
    }

    async fn audit_revoked(&self, context: &Context, caller: &Caller) -> Result<(), Refusal> {
        let mut event = self.event(EventName::RefuseSession, caller, context);
        event.error = Some(EventError {
            code: "CallerRevoked".to_owned(),
            message: "the caller is revoked".to_owned(),
        });
        Ok(self.recorder.append(&event).await?)
    }

    /// Only proofs that cost their sender a fresh signature and a claim are worth a durable record:
    /// what is refused before that is in the log, or anybody could fill the disk.
    async fn audit_refused_proof(
        &self,
        context: &Context,
        request: &SessionRequest,
        error: &AuthnError,
    ) -> Result<(), Refusal> {
        if !matches!(
            error,
            AuthnError::Refused(_) | AuthnError::AccountNotAccepted(_)
        ) {
            return Ok(());
        }
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
