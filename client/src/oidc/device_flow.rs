//! Sign-in in the browser of another device (RFC 8628): a code to type there, and patient asking here.

use std::time::Duration;

use eic_protocol::secret::Secret;
use eic_protocol::text::printable;
use serde::Deserialize;
use tokio::time::Instant;

use super::token_endpoint::{self, Answered, post};
use super::{Issuer, OidcError, PATIENCE, Person, Tokens};

/// Where the issuer names none (§3.2), and how much `slow_down` adds (§3.5). Seconds.
const INTERVAL: u64 = 5;
/// Longest interval. Seconds: an issuer that names an hour is mistaken.
const MAX_INTERVAL: u64 = 60;

/// §3.2
#[derive(Deserialize)]
struct Authorization {
    device_code: Secret<String>,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

pub(super) async fn sign_in(
    issuer: &Issuer<'_>,
    person: &mut dyn Person,
    now: fn() -> u64,
) -> Result<Tokens, OidcError> {
    let endpoint = issuer.endpoints.device.as_ref();
    let endpoint = endpoint.ok_or(OidcError::NoDeviceFlow)?;
    let scope = issuer.scope();
    // With the secret, where there is one (RFC 8628 §3.1).
    let form = issuer.registration.form(&[("scope", &scope)]);
    let doing = "the issuer's device authorization endpoint";
    let begun: Authorization = post(&issuer.http, endpoint, &form, doing).await?;
    let complete = begun.verification_uri_complete.as_deref().map(printable);
    person.enter(
        &printable(&begun.verification_uri),
        &printable(&begun.user_code),
        complete.as_deref(),
    );
    let answer = wait(issuer, &begun).await?;
    issuer.tokens(answer, None, now())
}

/// Asks until somebody has typed the code, or nobody will.
async fn wait(issuer: &Issuer<'_>, begun: &Authorization) -> Result<Answered, OidcError> {
    let form = issuer.registration.form(&[
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", begun.device_code.reveal()),
    ]);
    let patience = PATIENCE.min(Duration::from_secs(begun.expires_in));
    let deadline = Instant::now() + patience;
    let mut interval = interval(begun.interval);
    while Instant::now() + interval < deadline {
        tokio::time::sleep(interval).await;
        let asked = token_endpoint::ask(&issuer.http, &issuer.endpoints.token, &form).await;
        match asked {
            Ok(answer) => return Ok(answer),
            Err(error) => interval = next(interval, error)?,
        }
    }
    Err(OidcError::TimedOut(patience))
}

fn interval(named: Option<u64>) -> Duration {
    Duration::from_secs(named.unwrap_or(INTERVAL).clamp(1, MAX_INTERVAL))
}

/// How long to wait after this answer (§3.5); the error where there is no use in waiting.
fn next(interval: Duration, error: OidcError) -> Result<Duration, OidcError> {
    match &error {
        OidcError::Refused { code, .. } if code == "authorization_pending" => Ok(interval),
        OidcError::Refused { code, .. } if code == "slow_down" => {
            Ok(interval + Duration::from_secs(INTERVAL))
        }
        error if !error.is_final() => Ok((interval * 2).min(Duration::from_secs(MAX_INTERVAL))),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eic_aws::http_client::HttpError;

    fn said(code: &str) -> OidcError {
        OidcError::Refused {
            code: code.to_owned(),
            told: String::new(),
        }
    }

    #[test]
    fn a_code_that_expired_or_was_denied_is_not_asked_for_again() {
        let five = Duration::from_secs(5);
        for code in [
            "expired_token",
            "access_denied",
            "invalid_grant",
            "anything",
        ] {
            assert!(next(five, said(code)).is_err(), "{code}");
        }
        assert!(next(five, OidcError::Status("x", 404)).is_err());
    }

    #[test]
    fn whoever_is_told_to_slow_down_slows_down_for_good() {
        let five = Duration::from_secs(5);
        assert_eq!(next(five, said("authorization_pending")).unwrap(), five);
        let ten = next(five, said("slow_down")).unwrap();
        assert_eq!(ten, Duration::from_secs(10));
        assert_eq!(next(ten, said("authorization_pending")).unwrap(), ten);
        let silent = OidcError::http("x", HttpError::TimedOut(five));
        assert_eq!(next(ten, silent).unwrap(), Duration::from_secs(20));
    }

    #[test]
    fn the_interval_is_the_issuers_within_reason() {
        for (named, seconds) in [(None, 5), (Some(0), 1), (Some(7), 7), (Some(3_600), 60)] {
            assert_eq!(interval(named), Duration::from_secs(seconds));
        }
    }
}
