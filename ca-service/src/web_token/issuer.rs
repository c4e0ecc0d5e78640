//! The name of a token issuer: `iss`, compared byte for byte (threats B-09; OpenID Connect Core §3.1.3.7).
//! A URL with or without a path; nothing of it is normalised, since issuers are who they say, not what it means.

use std::fmt;
use std::str::FromStr;

use eic_protocol::proof::Audience;
use eic_protocol::text::printable;

use super::jwt::Algorithm;

/// Longest issuer. Characters; OpenID Connect names no bound, real ones stay under 120.
const MAX_LEN: usize = 256;

/// `https://host[:port][/path]`, or plain `http://` on loopback; no user, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Issuer {
    text: String,
    origin: usize,
}

/// An issuer as configured.
#[derive(Clone, Debug)]
pub struct IssuerRules {
    /// `iss`, exactly.
    pub issuer: Issuer,
    /// Where its keys are, where that is not for the issuer to say.
    pub jwks_uri: Option<String>,
    /// Whether it may be at a private address.
    pub private_addresses: bool,
    /// Algorithms that count.
    pub algorithms: Vec<Algorithm>,
}

impl Issuer {
    /// As in `iss`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Without `https://`: as CloudTrail and IAM write a provider.
    #[must_use]
    pub fn provider(&self) -> &str {
        self.text.strip_prefix("https://").unwrap_or(&self.text)
    }

    /// Where its configuration is (OpenID Connect Discovery §4.1: one `/` at the end is left out).
    #[must_use]
    pub fn discovery_url(&self) -> String {
        let base = self.text.strip_suffix('/').unwrap_or(&self.text);
        format!("{base}/.well-known/openid-configuration")
    }

    /// Whether a URL is on the issuer's own host and port: scheme and authority are the same text.
    #[must_use]
    pub fn is_home_of(&self, url: &str) -> bool {
        let origin = self.text.get(..self.origin);
        let path = origin.and_then(|origin| url.strip_prefix(origin));
        path.is_some_and(|path| path.starts_with('/'))
    }

    /// Whether nobody else can have a host of that name: `kubernetes.default.svc` is in every cluster (threats B-22).
    #[must_use]
    pub fn is_unique(&self) -> bool {
        let host: http::Uri = self.text.parse().unwrap_or_default();
        let host = host.host().unwrap_or_default().to_owned();
        let local = [
            ".svc",
            ".local",
            ".internal",
            ".localdomain",
            ".lan",
            ".home.arpa",
        ];
        host.contains(['.', ':'])
            && !local
                .iter()
                .any(|end| host.ends_with(end) || host.contains(&format!("{end}.")))
    }
}

impl FromStr for Issuer {
    type Err = InvalidIssuer;

    fn from_str(text: &str) -> Result<Self, InvalidIssuer> {
        parse(text).ok_or_else(|| InvalidIssuer(printable(text)))
    }
}

fn parse(text: &str) -> Option<Issuer> {
    let start = text.find("://")?.checked_add(3)?;
    let rest = text.get(start..)?;
    let origin = start + rest.find('/').unwrap_or(rest.len());
    let (before, path) = text.split_at_checked(origin)?;
    // The one spelling of an origin: lower case, no default port. Another could not be an `iss` that anybody issues.
    let normal: Audience = before.parse().ok()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let no_steps = path.split('/').all(|step| step != "." && step != "..");
    let sound = normal.as_str() == before && path.bytes().all(plain) && no_steps;
    (sound && text.len() <= MAX_LEN).then(|| Issuer {
        text: text.to_owned(),
        origin,
    })
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Not the name of an issuer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an issuer: expected `https://host[/path]` exactly as the token's `iss` has it (plain http on loopback only)"
)]
pub struct InvalidIssuer(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(text: &str) -> Issuer {
        text.parse().unwrap()
    }

    #[test]
    fn urls_that_are_no_issuer_are_refused() {
        // B-09
        for bad in [
            "",
            "token.actions.githubusercontent.com",
            "http://issuer.example",
            "https://Issuer.example",
            "https://issuer.example:443",
            "https://user@issuer.example",
            "https://issuer.example?x",
            "https://issuer.example/a#b",
            "https://issuer.example/a%2fb",
            "https://issuer.example/../x",
            "https://issuer\u{3002}example",
            "https://",
        ] {
            assert!(bad.parse::<Issuer>().is_err(), "{bad}");
        }
        assert!(
            format!("https://i.example/{}", "a".repeat(256))
                .parse::<Issuer>()
                .is_err()
        );
    }

    #[test]
    fn keys_on_another_host_are_not_the_issuers() {
        // B-09, B-17
        let own = issuer("https://login.example/tenant/v2.0");
        assert!(own.is_home_of("https://login.example/keys"));
        for other in [
            "https://login.example.evil/keys",
            "https://login.example:8443/keys",
            "https://login.example@evil/keys",
            "http://login.example/keys",
            "https://login.example",
        ] {
            assert!(!own.is_home_of(other), "{other}");
        }
    }

    #[test]
    fn the_configuration_is_below_the_issuers_path() {
        for (text, url) in [
            (
                "https://a.example",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/t",
                "https://a.example/t/.well-known/openid-configuration",
            ),
            ("http://127.0.0.1:80", ""),
        ] {
            match text.parse::<Issuer>() {
                Ok(issuer) => assert_eq!(issuer.discovery_url(), url),
                Err(_) => assert!(url.is_empty(), "{text}"),
            }
        }
    }

    #[test]
    fn names_that_every_cluster_has_are_not_unique() {
        // B-22
        for common in [
            "https://kubernetes.default.svc",
            "https://kubernetes.default.svc.cluster.local",
            "https://localhost:6443",
            "https://issuer.internal",
        ] {
            assert!(!issuer(common).is_unique(), "{common}");
        }
        assert!(issuer("https://oidc.eks.eu-west-1.amazonaws.com/id/AB01").is_unique());
    }
}
