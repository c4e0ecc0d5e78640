//! Authorization code with PKCE, in the browser of this machine (RFC 7636, RFC 8252, OpenID Connect Core §3.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eic_protocol::secret::Secret;
use sha2::{Digest as _, Sha256};

use super::callback::{Callback, Expected};
use super::token_endpoint::{self, Answered};
use super::{Issuer, OidcError, PATIENCE, Person, Tokens, form, random};

pub(super) async fn sign_in(
    issuer: &Issuer<'_>,
    nonce: &str,
    person: &mut dyn Person,
    now: fn() -> u64,
) -> Result<Tokens, OidcError> {
    let callback = Callback::open().await?;
    let asked = Asked {
        redirect_uri: callback.redirect_uri(),
        verifier: random()?,
        state: random()?,
    };
    person.visit(&asked.page(issuer, nonce)?);
    let expected = Expected {
        state: asked.state.clone(),
        issuer: issuer.registration.issuer.clone(),
        names_itself: issuer.endpoints.names_itself,
    };
    let code = callback.code(&expected, PATIENCE).await?;
    let answer = asked.redeem(issuer, &code).await?;
    issuer.tokens(answer, Some(nonce), now())
}

/// What one sign-in is known by.
struct Asked {
    redirect_uri: String,
    /// Proves to the token endpoint that who redeems the code is who asked for it.
    verifier: Secret<String>,
    /// Proves to us that an answer is to this question.
    state: Secret<String>,
}

impl Asked {
    /// The address of the issuer's page.
    fn page(&self, issuer: &Issuer<'_>, nonce: &str) -> Result<String, OidcError> {
        let endpoint = issuer.endpoints.authorization.as_ref();
        let endpoint = endpoint.ok_or(OidcError::NoBrowserFlow)?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.reveal()));
        let query = form::write(&[
            ("response_type", "code"),
            ("client_id", &issuer.registration.client_id),
            ("redirect_uri", &self.redirect_uri),
            ("scope", &issuer.scope()),
            ("state", self.state.reveal()),
            ("nonce", nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let joint = if endpoint.contains('?') { '&' } else { '?' };
        Ok(format!("{endpoint}{joint}{query}"))
    }

    async fn redeem(
        &self,
        issuer: &Issuer<'_>,
        code: &Secret<String>,
    ) -> Result<Answered, OidcError> {
        let form = issuer.registration.form(&[
            ("grant_type", "authorization_code"),
            ("code", code.reveal()),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", self.verifier.reveal()),
        ]);
        token_endpoint::ask(&issuer.http, &issuer.endpoints.token, &form).await
    }
}
