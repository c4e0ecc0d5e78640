//! What a token must be like to count at all: issuer, audience, times and one use; and its other claims, read strictly.
//! Who its subject is, and what that subject may do, is not decided here.

use eic_protocol::text::printable;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::issuer::Issuer;
use super::jwt::{Algorithm, InvalidJwt, Jwt, KeySet};
use crate::policy::json::{self, Json};
use crate::store::ReplayClaim;

/// Oldest token. Seconds.
const MAX_AGE: u64 = 900;
/// How far an issuer's clock may be from ours. Seconds.
const LEEWAY: u64 = 60;
/// Longest subject. OpenID Connect Core §2 says 255 ASCII characters; some issuers' templates give more.
const MAX_SUBJECT: usize = 512;

/// What a token must be like.
#[derive(Clone, Copy, Debug)]
pub struct TokenRules<'a> {
    /// `iss`, exactly.
    pub issuer: &'a Issuer,
    /// `aud`: exactly one of these, and alone.
    pub audiences: &'a [&'a str],
    /// Algorithms that count.
    pub algorithms: &'a [Algorithm],
}

/// A token whose signature and rules hold.
#[derive(Debug)]
pub struct Verified {
    /// `sub`: 1 to 512 printable ASCII characters.
    pub subject: String,
    /// `aud`: one of those that the rules name.
    pub audience: String,
    /// `exp`, in Unix seconds: after now.
    pub expires_at: u64,
    /// Makes the token count once, for whatever key (threats B-12).
    pub claim: ReplayClaim,
    members: Vec<(String, Json)>,
}

/// Which issuer a token claims: to find whose keys to verify it with, nothing more (threats B-24).
///
/// # Errors
/// [`InvalidToken`]
pub fn claimed_issuer(jwt: &Jwt<'_>) -> Result<String, InvalidToken> {
    #[derive(Deserialize)]
    struct Claimed {
        iss: String,
    }
    let claimed: Claimed = serde_json::from_slice(jwt.unverified_payload())
        .map_err(|_| InvalidToken::Jwt(InvalidJwt::Malformed))?;
    Ok(claimed.iss)
}

/// What the token says, where the issuer's keys signed it and all its rules hold. `now` is in Unix seconds.
///
/// # Errors
/// [`InvalidToken`]
pub fn verify(
    jwt: &Jwt<'_>,
    rules: &TokenRules<'_>,
    keys: &KeySet,
    now: u64,
) -> Result<Verified, InvalidToken> {
    let payload = jwt.verified(keys, rules.algorithms)?;
    let Ok(Json::Object(members)) = json::parse(payload) else {
        return Err(InvalidToken::Claims(
            "it is not one JSON object without repeated members",
        ));
    };
    let of = |name: &str| find(&members, name);
    // A logout token has a client id for its audience, as an ID token has, and may have no `typ` (OpenID Connect
    // Back-Channel Logout §2.4; RFC 8417 §2.2).
    if of("events").is_some() {
        return Err(InvalidToken::Claims(
            "it reports security `events`, which is no way to sign in",
        ));
    }
    if text(of("iss")) != Some(rules.issuer.as_str()) {
        return Err(InvalidToken::Issuer);
    }
    let audience = only(of("aud")).filter(|audience| rules.audiences.contains(audience));
    let audience = audience.ok_or(InvalidToken::Audience)?;
    let times = Times::of(&members)?;
    times.check(now)?;
    let subject = text(of("sub")).filter(|subject| is_subject(subject));
    let subject = subject.ok_or(InvalidToken::Claims(
        "`sub` is missing, too long or not printable ASCII",
    ))?;
    Ok(Verified {
        subject: subject.to_owned(),
        audience: audience.to_owned(),
        expires_at: times.exp,
        claim: claim(rules.issuer, text(of("jti")), jwt.signed_text(), times),
        members,
    })
}

impl Verified {
    /// A claim's text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        text(self.get(name))
    }

    /// A claim's value.
    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        find(&self.members, name)
    }

    /// A claim of AWS's own, in a token of sts:GetWebIdentityToken; nothing where it is no such token.
    pub(crate) fn aws(&self, name: &str) -> Option<Option<&Json>> {
        match self.get("https://sts.amazonaws.com/") {
            Some(Json::Object(claims)) => Some(find(claims, name)),
            _ => None,
        }
    }

    /// All claims, in the token's order.
    pub(crate) fn members(&self) -> &[(String, Json)] {
        &self.members
    }
}

fn find<'j>(members: &'j [(String, Json)], name: &str) -> Option<&'j Json> {
    members
        .iter()
        .find(|(member, _)| member == name)
        .map(|(_, value)| value)
}

fn text(value: Option<&Json>) -> Option<&str> {
    match value {
        Some(Json::Text(text)) => Some(text),
        _ => None,
    }
}

/// A token for several audiences is good for whoever of them comes first (threats B-08).
fn only(audience: Option<&Json>) -> Option<&str> {
    match audience {
        Some(Json::Text(one)) => Some(one),
        Some(Json::List(several)) => match several.as_slice() {
            [Json::Text(one)] => Some(one),
            _ => None,
        },
        _ => None,
    }
}

fn is_subject(subject: &str) -> bool {
    let printable = subject.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    printable && (1..=MAX_SUBJECT).contains(&subject.len())
}

/// RFC 7519 §2 lets a NumericDate have a fraction; no issuer that we know makes use of it.
const NOT_WHOLE: InvalidToken =
    InvalidToken::Claims("`iat`, `exp` or `nbf` is not a whole number of seconds");

#[derive(Clone, Copy)]
struct Times {
    iat: u64,
    exp: u64,
    nbf: Option<u64>,
}

impl Times {
    fn of(members: &[(String, Json)]) -> Result<Self, InvalidToken> {
        let whole = |name: &str| match find(members, name) {
            None => Ok(None),
            Some(Json::Number(number)) => number.parse().map(Some).map_err(|_| NOT_WHOLE),
            Some(_) => Err(NOT_WHOLE),
        };
        let (Some(iat), Some(exp)) = (whole("iat")?, whole("exp")?) else {
            return Err(InvalidToken::Claims("it has no `iat` or no `exp`"));
        };
        let nbf = whole("nbf")?;
        Ok(Self { iat, exp, nbf })
    }

    /// How long the token's life is from `iat` on does not matter: GitLab and Kubernetes issue long ones (threats B-11).
    fn check(self, now: u64) -> Result<(), InvalidToken> {
        let soon = now.saturating_add(LEEWAY);
        if self.iat > soon || self.nbf.is_some_and(|nbf| nbf > soon) {
            return Err(InvalidToken::Future);
        }
        if self.exp <= now || self.exp < self.iat {
            return Err(InvalidToken::Ended);
        }
        let age = now.saturating_sub(self.iat);
        if age > MAX_AGE {
            return Err(InvalidToken::Old(age));
        }
        Ok(())
    }
}

/// The token's own id where it has one; else the signed part of its text, for a signature has other spellings.
fn claim(issuer: &Issuer, jti: Option<&str>, signed: &str, times: Times) -> ReplayClaim {
    let mut hash = Sha256::new();
    hash.update(b"eic-id-token-claim\0");
    hash.update(issuer.as_str());
    match jti {
        Some(jti) => {
            hash.update(b"\0jti\0");
            hash.update(jti);
        }
        None => {
            hash.update(b"\0text\0");
            hash.update(signed);
        }
    }
    // A token of a longer life is refused for its age by then.
    ReplayClaim::of_signed_time(hash.finalize().into(), times.iat, MAX_AGE + LEEWAY)
}

impl InvalidToken {
    /// Whether a token of another moment would do.
    #[must_use]
    pub fn is_of_time(&self) -> bool {
        matches!(self, Self::Future | Self::Ended | Self::Old(_))
    }
}

/// Why a token does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Form, algorithm, key or signature.
    #[error("{0}")]
    Jwt(#[from] InvalidJwt),
    /// A claim that every token must have.
    #[error("the token's claims cannot be read: {0}")]
    Claims(&'static str),
    /// No issuer of the configuration.
    #[error("the token's issuer `{}` is not one that this CA takes; its operator can name it in an [[oidc]] of the configuration", printable(.0))]
    UnknownIssuer(String),
    /// Another issuer than the one whose key signed.
    #[error("the token's issuer is not the one whose keys were asked for")]
    Issuer,
    /// Meant for somebody else, or for others too.
    #[error(
        "the token's audience is not this CA's `public_url` alone (nor, for a person, the `client_id` of its issuer's [[oidc]]); ask the issuer for a token with exactly that audience"
    )]
    Audience,
    /// Of a client id, but given to another party (OpenID Connect Core §3.1.3.7).
    #[error("the token was given to another client than it is meant for (`azp`); sign in again")]
    Party,
    /// Of a client id, but for a service that the client calls (RFC 9068 §5).
    #[error("the token is an access token (`typ`), not an ID token; sign in with the ID token")]
    AccessToken,
    /// Bound to another key or CA by its nonce.
    #[error("the token was asked for with another key, or for another CA; sign in again")]
    Bound,
    /// From the future.
    #[error("the token is from the future; check the clocks")]
    Future,
    /// Its life is over.
    #[error("the token has ended; get a fresh one")]
    Ended,
    /// Too old.
    #[error("the token was issued {0} s ago, more than {MAX_AGE} s; get a fresh one")]
    Old(u64),
}

#[cfg(test)]
mod tests;
