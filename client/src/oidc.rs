//! Signing in of people at an OpenID Connect issuer: in the browser (authorization code with PKCE, RFC 7636, RFC 8252), or
//! in the browser of another device (RFC 8628). Tokens stay in memory.
//!
//! Whether a token counts is for the CA. Its signature is not checked here: it comes from the issuer itself, over TLS
//! (OpenID Connect Core §3.1.3.7, 6).

mod browser;
mod callback;
mod claims;
mod code_flow;
mod device_flow;
mod endpoints;
mod error;
mod form;
mod issuer_url;
mod token_endpoint;

use eic_aws::http_client::{HttpClient, Limits, Roots};
use eic_aws::proxy::Proxy;
use eic_protocol::proof::oidc::IdToken;
use eic_protocol::secret::Secret;
use serde::{Deserialize, Serialize};
use std::time::Duration;

pub use browser::{is_available, show};
pub use error::OidcError;
pub use issuer_url::{InvalidIssuer, IssuerUrl};

use endpoints::Endpoints;

/// Of every answer of an issuer.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(10),
    max_body: 64 * 1024,
};
/// How long a person may take: a password, a second factor, a telephone that is in another room.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where somebody signs in, and as what this program is known there: a public client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// `iss`, exactly.
    pub issuer: IssuerUrl,
    /// `client_id`: the audience of the ID tokens.
    pub client_id: String,
    /// `client_secret`, which some issuers want of installed programs too; it proves nothing, since everybody has it.
    pub client_secret: Option<Secret<String>>,
    /// `scope` beside `openid`; none: `offline_access`, where the issuer has it.
    pub scopes: Vec<String>,
}

impl Registration {
    /// A form for the token endpoint (RFC 6749 §2.3.1), or that of device codes.
    fn form<'a>(&'a self, fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let secret = self.client_secret.as_ref();
        let secret = secret.map(|secret| ("client_secret", secret.reveal().as_str()));
        let own = [("client_id", self.client_id.as_str())];
        fields.iter().copied().chain(own).chain(secret).collect()
    }
}

/// What a sign-in gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tokens {
    /// Where.
    pub registration: Registration,
    /// Where further tokens are to be had.
    pub token_endpoint: String,
    /// `sub`: who.
    pub subject: String,
    /// What the sign-in was bound to, where it was.
    pub nonce: Option<String>,
    /// Good for one session of the CA.
    pub id_token: IdToken,
    /// For further ID tokens, where the issuer gives one.
    pub refresh_token: Option<Secret<String>>,
}

impl Tokens {
    /// Whether the ID token has expired at `now`, in Unix seconds.
    #[must_use]
    pub fn is_past(&self, now: u64) -> bool {
        claims::expiry(&self.id_token).is_none_or(|exp| exp <= now)
    }
}

/// How somebody signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In the browser of this machine.
    Browser,
    /// In another browser, by a code to type.
    Device,
}

/// What the person is told meanwhile.
pub trait Person {
    /// The page to sign in at.
    fn visit(&mut self, url: &str);
    /// The page at which a code is to be typed, and the code; the last address has it in already.
    fn enter(&mut self, url: &str, code: &str, complete: Option<&str>);
}

/// Signs somebody in; takes as long as the person does, at most ten minutes. The token has `nonce` in it
/// ([`eic_protocol::proof::oidc::bound_nonce`] makes one), where the way knows nonces (a device's code does not).
/// The issuer is asked through `proxy`, where there is one; the browser goes its own way. `now` gives Unix seconds.
///
/// # Errors
/// [`OidcError`]
pub async fn sign_in(
    registration: &Registration,
    way: Way,
    nonce: &str,
    proxy: Option<&Proxy>,
    person: &mut dyn Person,
    now: fn() -> u64,
) -> Result<Tokens, OidcError> {
    let http = client(&registration.issuer, proxy)?;
    let endpoints = Endpoints::discover(&http, &registration.issuer).await?;
    let issuer = Issuer {
        http,
        registration,
        endpoints,
    };
    match way {
        Way::Browser => code_flow::sign_in(&issuer, nonce, person, now).await,
        Way::Device => device_flow::sign_in(&issuer, person, now).await,
    }
}

/// A fresh ID token of the same person, by the refresh token (OpenID Connect Core §12). `now` is in Unix seconds.
///
/// # Errors
/// [`OidcError`]; [`OidcError::is_final`] where the sign-in has ended.
pub async fn renew(tokens: &Tokens, proxy: Option<&Proxy>, now: u64) -> Result<Tokens, OidcError> {
    let refresh = tokens.refresh_token.as_ref().ok_or(OidcError::NoRefresh)?;
    let registration = &tokens.registration;
    let http = client(&registration.issuer, proxy)?;
    let form = registration.form(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh.reveal()),
    ]);
    let answer = token_endpoint::ask(&http, &tokens.token_endpoint, &form).await?;
    let id_token = answer.id_token()?;
    let same = claims::Expected {
        registration,
        nonce: claims::Nonce::IfAny(tokens.nonce.as_deref()),
        subject: Some(&tokens.subject),
    };
    same.check(&id_token, now)?;
    Ok(Tokens {
        id_token,
        // One that is not replaced stays good (RFC 6749 §6).
        refresh_token: answer
            .refresh_token
            .or_else(|| tokens.refresh_token.clone()),
        ..tokens.clone()
    })
}

/// An issuer that was discovered.
struct Issuer<'r> {
    http: HttpClient,
    registration: &'r Registration,
    endpoints: Endpoints,
}

impl Issuer<'_> {
    fn scope(&self) -> String {
        let mut scopes = vec!["openid"];
        match self.registration.scopes.as_slice() {
            [] if self.endpoints.gives_offline_access() => scopes.push("offline_access"),
            own => scopes.extend(own.iter().map(String::as_str).filter(|s| *s != "openid")),
        }
        scopes.join(" ")
    }

    fn tokens(
        &self,
        answer: token_endpoint::Answered,
        nonce: Option<&str>,
        now: u64,
    ) -> Result<Tokens, OidcError> {
        let id_token = answer.id_token()?;
        let expected = claims::Expected {
            registration: self.registration,
            nonce: match nonce {
                Some(nonce) => claims::Nonce::Exactly(nonce),
                None => claims::Nonce::IfAny(None),
            },
            subject: None,
        };
        Ok(Tokens {
            subject: expected.check(&id_token, now)?,
            registration: self.registration.clone(),
            token_endpoint: self.endpoints.token.clone(),
            nonce: nonce.map(str::to_owned),
            id_token,
            refresh_token: answer.refresh_token,
        })
    }
}

fn client(issuer: &IssuerUrl, proxy: Option<&Proxy>) -> Result<HttpClient, OidcError> {
    let client = match issuer.is_loopback() {
        true => HttpClient::plain_only(),
        false => HttpClient::new(Roots::System, proxy),
    };
    client.map_err(|cause| OidcError::http("the issuer cannot be asked", cause))
}

/// 256 bits that nobody can guess, in 43 characters (RFC 7636 §4.1 asks for at least as many).
fn random() -> Result<Secret<String>, OidcError> {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|e| OidcError::Random(e.to_string()))?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_ref())))
}
