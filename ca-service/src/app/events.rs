//! `POST /v1/events`: what a client did without the CA's signature. A report by its doer, and recorded as such.

use eic_protocol::api::event::{ClientEvent, EventRequest, EventResponse};
use serde_json::json;

use super::App;
use crate::audit::EventName;
use crate::authn::aws_sts::check_version;
use crate::http::context::Context;
use crate::refusal::Refusal;
use crate::session::Presented;

/// Longest request id of AWS that is recorded; real ones have 36 characters.
const MAX_AWS_ID: usize = 64;

impl App {
    /// Records a client's event.
    ///
    /// # Errors
    /// [`Refusal`]
    pub(crate) async fn record_event(
        &self,
        context: &Context,
        presented: &Presented,
        request: &EventRequest,
    ) -> Result<EventResponse, Refusal> {
        check_version(request.protocol)?;
        let authorized = self.admit(context, presented, request, None).await?;
        let ClientEvent::KeyPushed {
            instance,
            user,
            fingerprint,
            cause,
            aws_request_id,
        } = &request.event;
        check_form(fingerprint, aws_request_id)?;
        let mut event = self.event(EventName::PushKeyReported, authorized.caller(), context);
        event.parameters = Some(json!({
            "instanceId": instance.as_str(),
            "osUser": user.as_str(),
            "fingerprint": fingerprint,
            "cause": cause.as_str(),
            "awsRequestId": aws_request_id,
        }));
        event.additional = Some(json!({
            "reportedBy": "client",
            "isSessionKey": *fingerprint == authorized.key().fingerprint(),
        }));
        self.recorder
            .append_once(&event, authorized.claim())
            .await?;
        Ok(EventResponse {
            request_id: context.request_id,
        })
    }
}

fn check_form(fingerprint: &str, aws_request_id: &str) -> Result<(), Refusal> {
    let base64 = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    };
    // SHA-256 in base64 without padding.
    if !fingerprint
        .strip_prefix("SHA256:")
        .is_some_and(|hash| hash.len() == 43 && base64(hash))
    {
        return Err(Refusal::Malformed(
            "`fingerprint` is not `SHA256:` and 43 characters of base64".to_owned(),
        ));
    }
    let plain = aws_request_id
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !plain || !(1..=MAX_AWS_ID).contains(&aws_request_id.len()) {
        return Err(Refusal::Malformed(format!(
            "`aws_request_id` is not 1 to {MAX_AWS_ID} letters, digits and hyphens"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_not_what_they_are_called_are_refused() {
        // G-08
        let good = format!("SHA256:{}", "a".repeat(43));
        assert!(check_form(&good, "0b1f-77").is_ok());
        for (fingerprint, id) in [
            ("", "x"),
            ("SHA256:a", "x"),
            (&good.replace('a', "\n"), "x"),
            (&good.replace("SHA256", "MD5"), "x"),
            (&good, ""),
            (&good, "x\",\"y\":\""),
            (&good, &"x".repeat(65)),
        ] {
            assert!(check_form(fingerprint, id).is_err(), "{fingerprint} {id}");
        }
    }
}
