//! Why somebody is not signed in.

use std::time::Duration;

use eic_aws::http_client::HttpError;
use eic_protocol::text::printable;

use crate::cause::Cause;
use crate::exit_code::{self, Failure};

/// Why somebody is not signed in. Texts of the issuer are made printable; no token is in them.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The issuer does not answer.
    #[error("{doing}: {cause}")]
    Http {
        /// What was asked for.
        doing: &'static str,
        /// Why there is no answer.
        cause: HttpError,
    },
    /// It answers something else.
    #[error("{0}: the issuer answered HTTP {1}; is `issuer` in [id_token] right?")]
    Status(&'static str, u16),
    /// Not of its form.
    #[error("{0} is not of its documented form")]
    Malformed(&'static str),
    /// The document of somebody else.
    #[error(
        "the issuer calls itself `{}`: write just that as `issuer` in [id_token], where it is the right one", printable(.0)
    )]
    OtherIssuer(String),
    /// A token would go over the wire in clear.
    #[error("the issuer names the endpoint `{}`, which is no `https://` address: nothing is sent there", printable(.0))]
    Insecure(String),
    /// No PKCE.
    #[error("the issuer does not support PKCE with S256, which a program without a secret needs")]
    NoPkce,
    /// No browser flow.
    #[error("the issuer has no authorization endpoint: try `eic-login --device`")]
    NoBrowserFlow,
    /// No device flow.
    #[error(
        "the issuer has no sign-in by another device: run `eic-login --browser` where there is a browser"
    )]
    NoDeviceFlow,
    /// It says no.
    #[error("{}", refused(.code, .told))]
    Refused {
        /// `error`
        code: String,
        /// `error_description`
        told: String,
    },
    /// The answer came from, or is about, another issuer (RFC 9207 §2.4).
    #[error(
        "the answer in the browser is not of this issuer: it is not used; somebody may be mixing up sign-ins"
    )]
    MixUp,
    /// The token is not what was asked for.
    #[error("the issuer's ID token is not used: its `{0}` is not as it must be")]
    Claim(&'static str),
    /// No token.
    #[error(
        "the issuer gave no ID token: the client must be registered for OpenID Connect (scope `openid`)"
    )]
    NoIdToken,
    /// Nothing to renew with.
    #[error("the issuer gave no refresh token (scope `offline_access`)")]
    NoRefresh,
    /// Nobody signed in.
    #[error("nobody signed in within {} minutes", .0.as_secs() / 60)]
    TimedOut(Duration),
    /// No port on loopback.
    #[error("cannot wait for the browser on 127.0.0.1: {0}")]
    Listen(std::io::Error),
    /// No random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl OidcError {
    pub(super) fn http(doing: &'static str, cause: HttpError) -> Self {
        Self::Http { doing, cause }
    }

    /// Whether trying again with the same refresh token is no use.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Http { .. } | Self::Status(_, 408 | 429 | 500..) => false,
            // RFC 6749 §4.1.2.1 and RFC 8628 §3.5, which some issuers say with 400 at the token endpoint, too.
            Self::Refused { code, .. } => !matches!(
                code.as_str(),
                "temporarily_unavailable" | "server_error" | "slow_down"
            ),
            _ => true,
        }
    }
}

fn refused(code: &str, told: &str) -> String {
    let what = match code {
        "access_denied" => "the sign-in was refused at the issuer",
        "expired_token" => "the code was not typed in time: run `eic-login` again",
        "invalid_grant" => "the sign-in has ended at the issuer",
        "invalid_client" | "unauthorized_client" => {
            "the issuer does not know this client, or wants a secret of it: it must be registered as a public client"
        }
        _ => "the issuer refused",
    };
    let told = match told {
        "" => String::new(),
        told => format!(": {}", printable(told)),
    };
    format!("{what} ({}{told})", printable(code))
}

impl From<OidcError> for Failure {
    fn from(error: OidcError) -> Self {
        let code = match &error {
            OidcError::Http {
                cause: HttpError::Tls(_),
                ..
            } => exit_code::UNTRUSTED,
            OidcError::Http { .. } => exit_code::UNREACHABLE,
            OidcError::OtherIssuer(_) | OidcError::MixUp | OidcError::Claim(_) => {
                exit_code::UNTRUSTED
            }
            OidcError::Listen(_) | OidcError::Random(_) => exit_code::FAILURE,
            _ => exit_code::CREDENTIALS,
        };
        let cause = match &error {
            OidcError::Http {
                cause: HttpError::Proxy(_),
                ..
            } => Cause::Proxy,
            _ => Cause::SignIn,
        };
        Self::new(code, format!("sign-in: {error}")).because(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_issuer_are_escaped_and_each_kind_has_its_code() {
        // H-15
        let refused = OidcError::Refused {
            code: "access_denied\u{1b}[2J".to_owned(),
            told: "no\u{7}".to_owned(),
        };
        let failure = Failure::from(refused);
        assert!(
            !failure.message.contains(['\u{1b}', '\u{7}']),
            "{failure:?}"
        );
        assert_eq!(failure.code, exit_code::CREDENTIALS);
        assert_eq!(Failure::from(OidcError::MixUp).code, exit_code::UNTRUSTED);
        let silent = OidcError::http("x", HttpError::TimedOut(Duration::from_secs(1)));
        assert!(!silent.is_final() && !OidcError::Status("x", 503).is_final());
        assert_eq!(Failure::from(silent).code, exit_code::UNREACHABLE);
        for (code, is_final) in [
            ("temporarily_unavailable", false),
            ("server_error", false),
            ("slow_down", false),
            ("invalid_grant", true),
            ("anything", true),
        ] {
            let refused = OidcError::Refused {
                code: code.to_owned(),
                told: String::new(),
            };
            assert_eq!(refused.is_final(), is_final, "{code}");
        }
        let busy = |status| OidcError::Status("x", status);
        assert!(!busy(408).is_final() && !busy(429).is_final());
        assert!(OidcError::MixUp.is_final() && OidcError::Status("x", 404).is_final());
    }
}
