//! The issuer's token endpoint (RFC 6749 §3.2): one form in, tokens or an error code out. Nothing of it is ever logged.

use eic_aws::http_client::{Answer, HttpClient};
use eic_protocol::proof::oidc::IdToken;
use eic_protocol::secret::Secret;
use http::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{LIMITS, OidcError, form};
use crate::ca::USER_AGENT;

const DOING: &str = "the issuer's token endpoint";

/// What of an answer counts.
#[derive(Debug, Deserialize)]
pub(super) struct Answered {
    id_token: Option<Secret<String>>,
    pub(super) refresh_token: Option<Secret<String>>,
}

impl Answered {
    pub(super) fn id_token(&self) -> Result<IdToken, OidcError> {
        let token = self.id_token.as_ref().ok_or(OidcError::NoIdToken)?;
        let parsed = token.reveal().parse();
        parsed.map_err(|_| OidcError::Malformed("the issuer's ID token"))
    }
}

/// RFC 6749 §5.2
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Asks for tokens.
pub(super) async fn ask(
    http: &HttpClient,
    url: &str,
    fields: &[(&str, &str)],
) -> Result<Answered, OidcError> {
    post(http, url, fields, DOING).await
}

/// Sends a form to an endpoint of the issuer; `doing` names it.
pub(super) async fn post<A: DeserializeOwned>(
    http: &HttpClient,
    url: &str,
    fields: &[(&str, &str)],
    doing: &'static str,
) -> Result<A, OidcError> {
    let request = Request::post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("accept", "application/json")
        .header("user-agent", USER_AGENT)
        .body(form::write(fields).into_bytes())
        .map_err(|_| OidcError::Malformed(doing))?;
    let answer = http.send(request, LIMITS).await;
    read(
        &answer.map_err(|cause| OidcError::http(doing, cause))?,
        doing,
    )
}

/// A redirect is an answer like any other wrong one: codes and tokens go nowhere else (H-02).
fn read<A: DeserializeOwned>(answer: &Answer, doing: &'static str) -> Result<A, OidcError> {
    if answer.status == 200 {
        return serde_json::from_slice(&answer.body).map_err(|_| OidcError::Malformed(doing));
    }
    // 408 and 429 are no word on the request, whatever their bodies say.
    let is_word = (400..500).contains(&answer.status) && !matches!(answer.status, 408 | 429);
    match serde_json::from_slice::<Refusal>(&answer.body) {
        Ok(refusal) if is_word => Err(OidcError::Refused {
            code: refusal.error,
            told: refusal.error_description,
        }),
        _ => Err(OidcError::Status(doing, answer.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Answered, OidcError> {
        let answer = Answer {
            status,
            headers: http::HeaderMap::new(),
            body: body.as_bytes().to_vec(),
        };
        read(&answer, DOING)
    }

    #[test]
    fn redirects_errors_and_answers_without_a_token_give_none() {
        // H-02
        for status in [301, 302, 307, 408, 429, 500, 503] {
            let body = r#"{"error":"temporarily_unavailable","id_token":"a.b.c"}"#;
            let error = answer(status, body).unwrap_err();
            assert!(matches!(error, OidcError::Status(..)), "{status}: {error}");
        }
        let refused = answer(
            400,
            r#"{"error":"invalid_grant","error_description":"gone"}"#,
        );
        assert!(matches!(refused, Err(OidcError::Refused { code, .. }) if code == "invalid_grant"));
        assert!(answer(200, "<html>").is_err());
        let without = answer(200, r#"{"access_token":"x"}"#).unwrap();
        assert!(matches!(without.id_token(), Err(OidcError::NoIdToken)));
        let odd = answer(200, r#"{"id_token":"canary"}"#).unwrap();
        let error = odd.id_token().unwrap_err();
        assert!(!format!("{error} {error:?} {odd:?}").contains("canary"));
    }
}
