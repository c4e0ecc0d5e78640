//! The issuer's discovery document (OpenID Connect Discovery §4): where it is asked for what.

use eic_aws::http_client::HttpClient;
use http::Request;
use serde::Deserialize;

use super::{IssuerUrl, LIMITS, OidcError};
use crate::ca::USER_AGENT;

const DOING: &str = "the issuer's discovery document";

/// What of the document counts. Unknown members are ignored.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Endpoints {
    issuer: String,
    #[serde(rename = "authorization_endpoint")]
    pub(super) authorization: Option<String>,
    #[serde(rename = "token_endpoint")]
    pub(super) token: String,
    #[serde(rename = "device_authorization_endpoint")]
    pub(super) device: Option<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    scopes_supported: Vec<String>,
    /// RFC 9207 §3.
    #[serde(default, rename = "authorization_response_iss_parameter_supported")]
    pub(super) names_itself: bool,
}

impl Endpoints {
    pub(super) async fn discover(http: &HttpClient, issuer: &IssuerUrl) -> Result<Self, OidcError> {
        let base = issuer.as_str().trim_end_matches('/');
        let request = Request::get(format!("{base}/.well-known/openid-configuration"))
            .header("accept", "application/json")
            .header("user-agent", USER_AGENT)
            .body(Vec::new())
            .map_err(|_| OidcError::Malformed(DOING))?;
        let answer = http.send(request, LIMITS).await;
        let answer = answer.map_err(|cause| OidcError::http(DOING, cause))?;
        // A redirect is an answer like any other wrong one (H-02).
        if answer.status != 200 {
            return Err(OidcError::Status(DOING, answer.status));
        }
        let found: Self =
            serde_json::from_slice(&answer.body).map_err(|_| OidcError::Malformed(DOING))?;
        found.checked(issuer)
    }

    fn checked(self, issuer: &IssuerUrl) -> Result<Self, OidcError> {
        if self.issuer != issuer.as_str() {
            return Err(OidcError::OtherIssuer(self.issuer));
        }
        let urls = [
            Some(&self.token),
            self.authorization.as_ref(),
            self.device.as_ref(),
        ];
        if let Some(bad) = urls
            .into_iter()
            .flatten()
            .find(|url| !issuer.vouches_for(url))
        {
            return Err(OidcError::Insecure(bad.clone()));
        }
        // Not every issuer that has PKCE says so; one that lists methods without S256 has none.
        let methods = self.code_challenge_methods_supported.as_ref();
        if methods.is_some_and(|methods| !methods.iter().any(|m| m == "S256")) {
            return Err(OidcError::NoPkce);
        }
        Ok(self)
    }

    pub(super) fn gives_offline_access(&self) -> bool {
        self.scopes_supported.iter().any(|s| s == "offline_access")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(change: impl FnOnce(&mut Value)) -> Result<Endpoints, OidcError> {
        let mut document = json!({
            "issuer": "https://issuer.example", "token_endpoint": "https://issuer.example/token",
            "authorization_endpoint": "https://issuer.example/authorize", "new": {}
        });
        change(&mut document);
        let found: Endpoints = serde_json::from_value(document).unwrap();
        found.checked(&"https://issuer.example".parse().unwrap())
    }

    #[test]
    fn a_document_of_another_issuer_counts_for_nothing() {
        for other in ["https://issuer.example/", "https://evil.example", ""] {
            let error = read(|d| d["issuer"] = other.into()).unwrap_err();
            assert!(matches!(error, OidcError::OtherIssuer(_)), "{error}");
        }
        assert!(read(|_| ()).is_ok());
    }

    #[test]
    fn endpoints_without_tls_and_issuers_without_pkce_are_refused() {
        for name in [
            "token_endpoint",
            "authorization_endpoint",
            "device_authorization_endpoint",
        ] {
            let error = read(|d| d[name] = "http://issuer.example/x".into()).unwrap_err();
            assert!(matches!(error, OidcError::Insecure(_)), "{name}: {error}");
        }
        let methods = |list: Value| read(|d| d["code_challenge_methods_supported"] = list);
        assert!(matches!(methods(json!(["plain"])), Err(OidcError::NoPkce)));
        assert!(methods(json!(["plain", "S256"])).is_ok());
    }
}
