//! The `Authorization` header of a granted request: the grant, a moment, a nonce, and the bound key's signature.
//! There is no bearer token: the grant alone opens nothing.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::sshsig;

/// How far a granted request's time may be from the CA's clock, either way. Seconds.
pub const MAX_REQUEST_AGE: u64 = 60;
/// Longest life of a grant. Seconds.
pub const MAX_GRANT_TTL: u64 = 900;
const MAX_TOKEN: usize = 4096;

/// A grant as the client sees it: opaque text of base64url characters and dots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GrantToken(Secret<String>);

impl GrantToken {
    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

impl FromStr for GrantToken {
    type Err = InvalidAuthorization;

    fn from_str(text: &str) -> Result<Self, InvalidAuthorization> {
        let grammar = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if grammar && (1..=MAX_TOKEN).contains(&text.len()) {
            Ok(Self(Secret::new(text.to_owned())))
        } else {
            Err(InvalidAuthorization)
        }
    }
}

impl TryFrom<String> for GrantToken {
    type Error = InvalidAuthorization;

    fn try_from(text: String) -> Result<Self, InvalidAuthorization> {
        text.parse()
    }
}

impl From<GrantToken> for String {
    fn from(token: GrantToken) -> Self {
        token.reveal().to_owned()
    }
}

/// 128 random bits that make a request unique; 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce([u8; 16]);

impl Nonce {
    /// The nonce of these random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for Nonce {
    type Err = InvalidAuthorization;

    fn from_str(text: &str) -> Result<Self, InvalidAuthorization> {
        let mut bytes = [0; 16];
        let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if lower => Ok(Self(bytes)),
            _ => Err(InvalidAuthorization),
        }
    }
}

impl TryFrom<String> for Nonce {
    type Error = InvalidAuthorization;

    fn try_from(text: String) -> Result<Self, InvalidAuthorization> {
        text.parse()
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.to_string()
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// `EIC grant=<token>,time=<unix seconds>,nonce=<hex>,signature=<base64 SSHSIG>`, in just this order.
#[derive(Clone, Debug)]
pub struct Authorization {
    /// The grant.
    pub grant: GrantToken,
    /// When the client signed, in Unix seconds.
    pub time: u64,
    /// Makes the request unique.
    pub nonce: Nonce,
    /// SSHSIG by the bound key over [`crate::proof::CanonicalRequest::of_granted`].
    pub signature: Vec<u8>,
}

impl FromStr for Authorization {
    type Err = InvalidAuthorization;

    fn from_str(header: &str) -> Result<Self, InvalidAuthorization> {
        parse(header).ok_or(InvalidAuthorization)
    }
}

fn parse(header: &str) -> Option<Authorization> {
    let mut parts = header.strip_prefix("EIC ")?.split(',');
    let mut next = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=');
    let grant = next("grant")?.parse().ok()?;
    let time = next("time")
        .filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?
        .parse()
        .ok()?;
    let nonce = next("nonce")?.parse().ok()?;
    let signature = STANDARD.decode(next("signature")?).ok()?;
    let bounded = signature.len() <= sshsig::MAX_BLOB && parts.next().is_none();
    bounded.then_some(Authorization {
        grant,
        time,
        nonce,
        signature,
    })
}

impl Authorization {
    /// The header's value.
    #[must_use]
    pub fn to_header(&self) -> Secret<String> {
        Secret::new(format!(
            "EIC grant={},time={},nonce={},signature={}",
            self.grant.reveal(),
            self.time,
            self.nonce,
            STANDARD.encode(&self.signature)
        ))
    }
}

/// Not an `Authorization` header, grant or nonce of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authorization is not of the form `EIC grant=…,time=…,nonce=…,signature=…`")]
pub struct InvalidAuthorization;

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn other_schemes_orders_and_repetitions_are_refused() {
        // one grammar, one source.
        let good = format!("EIC grant=ab.cd,time=5,nonce={NONCE},signature=AAAA");
        assert!(good.parse::<Authorization>().is_ok());
        for bad in [
            String::new(),
            "Bearer ab.cd".to_owned(),
            good.replace("EIC ", "eic "),
            good.replace("time=5", "time=+5"),
            good.replace("time=5", "time=5,time=5"),
            good.replace("AAAA", "AAA"),
            format!("{good},signature=AAAA"),
            format!("{good} "),
            good.replace(NONCE, "00"),
            good.replace("ab.cd", "ab cd"),
            good.replace("time=5", "time=99999999999999999999"),
        ] {
            assert!(bad.parse::<Authorization>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_header_is_read_as_it_was_written() {
        let auth: Authorization = format!("EIC grant=ab.cd,time=5,nonce={NONCE},signature=AAAA")
            .parse()
            .unwrap();
        let again: Authorization = auth.to_header().reveal().parse().unwrap();
        assert_eq!(
            (again.time, again.nonce, again.signature),
            (5, NONCE.parse().unwrap(), vec![0, 0, 0])
        );
        assert!(!format!("{auth:?}").contains("ab.cd"));
    }
}
