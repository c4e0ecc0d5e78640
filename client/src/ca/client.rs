//! One CA over HTTPS: no redirects, no proxy of the environment, every answer bounded in time and size.

use std::time::Duration;

use eic_aws::http_client::{Answer, HttpClient, Limits, Roots};
use eic_aws::proxy::Proxy;
use eic_aws::query::percent;
use eic_aws::sigv4::sign_identity_proof;
use eic_protocol::api::discovery::Discovery;
use eic_protocol::api::instance::{InstancesQuery, InstancesResponse, MAX_HOST};
use eic_protocol::api::problem::Problem;
use eic_protocol::api::session::{
    Proof, SessionBinding, SessionRequest, SessionResponse, TokenBinding,
};
use eic_protocol::api::trust_bundle::{self, TrustBundleResponse};
use eic_protocol::base64_text::Base64Bytes;
use eic_protocol::grant::{Authorization, GrantToken, Nonce};
use eic_protocol::proof::oidc::{AwsWebIdentityProof, IdToken, OidcProof};
use eic_protocol::proof::{Audience, CanonicalRequest, RequestDigest, Signed};
use eic_protocol::version::VersionRange;
use http::{Method, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::CaError;
use crate::config::CaConfig;
use crate::credentials::Resolved;
use crate::key::EphemeralKey;

/// STS is asked within: 5 s for it, and some for the rest.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(8),
    max_body: 2 * 1024 * 1024,
};

/// A CA.
#[derive(Clone, Debug)]
pub struct CaClient {
    http: HttpClient,
    audience: Audience,
}

/// What a granted request is signed with.
#[derive(Clone, Copy, Debug)]
pub struct Granted<'a> {
    /// The grant.
    pub grant: &'a GrantToken,
    /// The key that the grant is bound to.
    pub key: &'a EphemeralKey,
    /// The CA's time, in Unix seconds.
    pub time: u64,
}

/// What an identity is proven with.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// AWS credentials.
    Credentials(&'a Resolved),
    /// AWS credentials and a token of sts:GetWebIdentityToken.
    Both(&'a Resolved, &'a IdToken),
    /// The token of another issuer.
    Token(&'a IdToken),
}

impl Shown<'_> {
    fn token(&self) -> Option<&IdToken> {
        match self {
            Self::Credentials(_) => None,
            Self::Both(_, token) | Self::Token(token) => Some(token),
        }
    }

    fn proof(
        &self,
        audience: &Audience,
        digest: RequestDigest,
        now: u64,
    ) -> Result<Proof, CaError> {
        let sign = |with: &Resolved| {
            sign_identity_proof(&with.credentials, with.region, now, audience, digest)
        };
        Ok(match self {
            Self::Credentials(with) => Proof::AwsSts(sign(with)?),
            Self::Both(with, token) => Proof::AwsWebIdentity(AwsWebIdentityProof {
                sts: sign(with)?,
                token: IdToken::clone(token),
            }),
            Self::Token(token) => Proof::Oidc(OidcProof {
                token: IdToken::clone(token),
            }),
        })
    }
}

impl CaClient {
    /// A client for the configured CA, through `proxy` where there is one.
    ///
    /// # Errors
    /// [`CaError::Http`] where the trusted roots cannot be loaded.
    pub fn new(ca: &CaConfig, proxy: Option<&Proxy>) -> Result<Self, CaError> {
        let plain = ca.url.as_str().starts_with("http://");
        let http = match &ca.ca_file {
            _ if plain => HttpClient::plain_only(),
            Some(file) => HttpClient::new(Roots::PemFile(file), proxy),
            None => HttpClient::new(Roots::System, proxy),
        }?;
        Ok(Self {
            http,
            audience: ca.url.clone(),
        })
    }

    /// `GET /.well-known/eic`.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn discovery(&self) -> Result<Discovery, CaError> {
        self.send(Method::GET, "/.well-known/eic", None, Vec::new())
            .await
    }

    /// `GET /v1/trust-bundle`: the roots after the one of this version, oldest first, and the bundle; nothing of it is
    /// verified here.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn trust_bundle(&self, version: u64) -> Result<TrustBundleResponse, CaError> {
        let request = Request::get(format!(
            "{}{}?root={version}",
            self.audience,
            trust_bundle::PATH
        ));
        let request = request
            .header("accept", "application/json")
            .header("user-agent", USER_AGENT)
            .body(Vec::new())
            .map_err(|e| CaError::Malformed(e.to_string()))?;
        let limits = Limits {
            max_body: trust_bundle::MAX_RESPONSE,
            ..LIMITS
        };
        let answer = self.http.send(request, limits).await?;
        if answer.status != 200 {
            return Err(CaError::Status(answer.status));
        }
        let parsed = TrustBundleResponse::parse(&answer.body);
        parsed.map_err(|e| CaError::Malformed(e.to_string()))
    }

    /// `POST /v1/sessions`: proves who one is, and binds the grant to `key`. Credentials stay here; what is sent is
    /// one signature for this request and this CA, and a token for this CA whose hash `key` signs as well.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn open_session(
        &self,
        protocol: u32,
        key: &EphemeralKey,
        shown: Shown<'_>,
        now: u64,
    ) -> Result<SessionResponse, CaError> {
        let nonce = nonce()?;
        let binding = SessionBinding {
            protocol,
            public_key: key.public(),
            nonce: &nonce,
        };
        let canonical = match shown.token() {
            Some(token) => CanonicalRequest::of(&self.audience, &TokenBinding { binding, token }),
            None => CanonicalRequest::of(&self.audience, &binding),
        };
        let proof = shown.proof(&self.audience, canonical.digest(), now)?;
        let request = SessionRequest {
            protocol,
            public_key: key.public().clone(),
            nonce,
            proof,
            key_signature: Base64Bytes(key.sign_request(canonical.as_slice())?),
        };
        self.send(Method::POST, "/v1/sessions", None, json(&request)?)
            .await
    }

    /// Sends a granted `POST`.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn post<R, A>(&self, granted: Granted<'_>, request: &R) -> Result<A, CaError>
    where
        R: Signed + Serialize + Sync,
        A: DeserializeOwned,
    {
        let authorization = self.authorization(granted, request)?;
        self.send(
            Method::POST,
            R::ROUTE.path(),
            Some(authorization),
            json(request)?,
        )
        .await
    }

    /// `GET /v1/instances`.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn instances(
        &self,
        granted: Granted<'_>,
        query: &InstancesQuery,
    ) -> Result<InstancesResponse, CaError> {
        let authorization = self.authorization(granted, query)?;
        let path = InstancesQuery::ROUTE.path();
        let too_long = |host: &String| host.len() > MAX_HOST;
        if query.host.as_ref().is_some_and(too_long) {
            return Err(CaError::Malformed(
                "the host is too long to be asked for".to_owned(),
            ));
        }
        let host = query.host.as_deref().map(|host| ("host", host));
        let after = query.after.as_ref().map(|id| ("after", id.as_str()));
        let pairs = host.into_iter().chain(after);
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={}", percent(value)))
            .collect();
        let path = match pairs.join("&") {
            none if none.is_empty() => path.to_owned(),
            pairs => format!("{path}?{pairs}"),
        };
        self.send(Method::GET, &path, Some(authorization), Vec::new())
            .await
    }

    fn authorization<R: Signed>(
        &self,
        granted: Granted<'_>,
        request: &R,
    ) -> Result<Authorization, CaError> {
        let nonce = nonce()?;
        let canonical =
            CanonicalRequest::of_granted(&self.audience, granted.time, nonce.as_bytes(), request);
        let signature = granted.key.sign_request(canonical.as_slice())?;
        Ok(Authorization {
            grant: granted.grant.clone(),
            time: granted.time,
            nonce,
            signature,
        })
    }

    async fn send<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        authorization: Option<Authorization>,
        body: Vec<u8>,
    ) -> Result<A, CaError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.audience));
        request = request
            .header("accept", "application/json")
            .header("user-agent", USER_AGENT);
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization.to_header().reveal().as_str());
        }
        let request = request
            .body(body)
            .map_err(|e| CaError::Malformed(e.to_string()))?;
        parse(&self.http.send(request, LIMITS).await?)
    }
}

/// Of every request that is not AWS's.
pub(crate) const USER_AGENT: &str = concat!("eic-login/", env!("CARGO_PKG_VERSION"));

fn parse<A: DeserializeOwned>(answer: &Answer) -> Result<A, CaError> {
    if answer.status == 200 {
        return serde_json::from_slice(&answer.body).map_err(|e| CaError::Malformed(e.to_string()));
    }
    match serde_json::from_slice::<Problem>(&answer.body) {
        // The status line counts, not the document's copy of it.
        Ok(problem) if answer.status >= 400 => Err(CaError::Problem(Box::new(Problem {
            status: answer.status,
            ..problem
        }))),
        _ => Err(CaError::Status(answer.status)),
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, CaError> {
    serde_json::to_vec(value).map_err(|e| CaError::Malformed(e.to_string()))
}

fn nonce() -> Result<Nonce, CaError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| crate::key::KeyError::Random(e.to_string()))?;
    Ok(Nonce::from_random(bytes))
}

/// The protocol version to speak with a CA that announces `range`.
///
/// # Errors
/// [`CaError::Protocol`].
pub(crate) fn common_protocol(range: VersionRange) -> Result<u32, CaError> {
    let none = CaError::Protocol {
        lowest: range.lowest,
        highest: range.highest,
    };
    VersionRange::OURS.common(range).ok_or(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_and_foreign_answers_are_refused() {
        // H-02: a redirect is an answer like any other wrong one.
        for status in [301, 302, 307, 404, 200, 503] {
            let answer = Answer {
                status,
                headers: http::HeaderMap::new(),
                body: b"<html>".to_vec(),
            };
            let error = parse::<Discovery>(&answer).unwrap_err();
            assert_eq!(error.is_absence(), status == 503, "{error}");
        }
    }

    #[test]
    fn hosts_in_queries_cannot_add_parameters() {
        assert_eq!(percent("a&b=c d/\u{e9}"), "a%26b%3Dc%20d%2F%C3%A9");
    }
}
