//! An issuer's address, as it stands in `iss`: by TLS, or on loopback in tests. Not a general URL.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest address. Bytes.
const MAX_LENGTH: usize = 512;

/// `https://host[:port][/path]`, without query, fragment and user (OpenID Connect Discovery §3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IssuerUrl(String);

impl IssuerUrl {
    /// The text, exactly as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a stand-in on this machine, spoken to without TLS.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.0.starts_with("http://")
    }

    /// Whether `url`, which the issuer named, may be sent a code or token: TLS, or loopback where the issuer is there too.
    pub(super) fn vouches_for(&self, url: &str) -> bool {
        let parsed = checked(url);
        parsed.is_some_and(|plain| !plain || self.is_loopback())
    }
}

/// Whether a well-formed address is plain HTTP on loopback rather than HTTPS.
fn checked(text: &str) -> Option<bool> {
    let printable = text.bytes().all(|b| (0x21..0x7f).contains(&b));
    if !printable || text.len() > MAX_LENGTH || text.contains(['#', '"', '\\', '<', '>']) {
        return None;
    }
    let uri: http::Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    if authority.host().is_empty() || authority.as_str().contains('@') {
        return None;
    }
    match uri.scheme_str()? {
        "https" => Some(false),
        "http" if matches!(authority.host(), "127.0.0.1" | "[::1]") => Some(true),
        _ => None,
    }
}

impl FromStr for IssuerUrl {
    type Err = InvalidIssuer;

    fn from_str(text: &str) -> Result<Self, InvalidIssuer> {
        let known = checked(text).is_some() && !text.contains('?');
        let url = known.then(|| Self(text.to_owned()));
        url.ok_or(InvalidIssuer)
    }
}

impl TryFrom<String> for IssuerUrl {
    type Error = InvalidIssuer;

    fn try_from(text: String) -> Result<Self, InvalidIssuer> {
        text.parse()
    }
}

impl From<IssuerUrl> for String {
    fn from(url: IssuerUrl) -> Self {
        url.0
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// No issuer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an issuer is an `https://` address without `?`, `#` and user, exactly as its tokens have it in `iss`"
)]
pub struct InvalidIssuer;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_users_queries_and_controls_are_no_issuer() {
        // D19
        for bad in [
            "http://issuer.example",
            "http://localhost:8080",
            "http://127.0.0.1.evil.example/",
            "https://",
            "https://user@issuer.example",
            "https://issuer.example/?x=1",
            "https://issuer.example/#x",
            "https://issuer.example/\n",
            "https://issuer.example/ x",
            "issuer.example",
            "ftp://issuer.example",
            "",
        ] {
            assert!(bad.parse::<IssuerUrl>().is_err(), "{bad:?}");
        }
        for good in [
            "https://issuer.example",
            "https://id.example:8443/realms/corp/",
            "http://127.0.0.1:1234",
        ] {
            assert_eq!(good.parse::<IssuerUrl>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn an_issuer_behind_tls_sends_nobody_to_plain_http() {
        let issuer: IssuerUrl = "https://issuer.example".parse().unwrap();
        assert!(issuer.vouches_for("https://oauth.issuer.example/token?tenant=1"));
        for bad in [
            "http://127.0.0.1:1/token",
            "http://issuer.example/token",
            "/token",
        ] {
            assert!(!issuer.vouches_for(bad), "{bad}");
        }
        let stand_in: IssuerUrl = "http://127.0.0.1:1".parse().unwrap();
        assert!(stand_in.vouches_for("http://127.0.0.1:2/token"));
    }
}
