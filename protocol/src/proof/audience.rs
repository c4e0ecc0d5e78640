//! The origin that a proof is for: that of the URL given to `eic-login setup`, never one learned from a server.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::printable;

/// A normalised origin: `https://host[:port]`, or `http://` on loopback. Lower case, default port left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Audience(String);

impl Audience {
    /// The origin.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Audience {
    type Err = InvalidAudience;

    /// Takes a URL without user, query or fragment; a path other than `/` is refused.
    fn from_str(url: &str) -> Result<Self, InvalidAudience> {
        normalise(url)
            .map(Self)
            .ok_or_else(|| InvalidAudience(printable(url)))
    }
}

fn normalise(url: &str) -> Option<String> {
    let lower = url.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://")?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = split_port(authority)?;
    let loopback = host_kind(host)?;
    let default_port = match scheme {
        "https" => 443,
        "http" if loopback => 80,
        _ => return None,
    };
    Some(match port {
        Some(port) if port != default_port => format!("{scheme}://{host}:{port}"),
        _ => format!("{scheme}://{host}"),
    })
}

fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_host = authority.rfind(']').map_or(0, |at| at + 1);
    match authority.get(after_host..)?.find(':') {
        None => Some((authority, None)),
        Some(at) => {
            let (host, port) = authority.split_at_checked(after_host + at)?;
            let digits = port.strip_prefix(':')?;
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let number = digits.parse().ok().filter(|p| plain && *p != 0)?;
            Some((host, Some(number)))
        }
    }
}

/// `Some(is loopback)` for a well-formed host.
fn host_kind(host: &str) -> Option<bool> {
    if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().ok().map(|a| a.is_loopback());
    }
    if let Ok(v4) = host.parse::<Ipv4Addr>() {
        return Some(v4.is_loopback());
    }
    let labels = host.split('.').all(is_label);
    (labels && host.len() <= 253).then_some(host == "localhost")
}

fn is_label(label: &str) -> bool {
    let grammar = label
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    grammar && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
}

impl TryFrom<String> for Audience {
    type Error = InvalidAudience;

    fn try_from(url: String) -> Result<Self, InvalidAudience> {
        url.parse()
    }
}

impl From<Audience> for String {
    fn from(audience: Audience) -> Self {
        audience.0
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not the URL of a CA.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the URL of a CA: expected `https://host[:port]` (plain http on loopback only)"
)]
pub struct InvalidAudience(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_could_mean_two_origins_are_refused() {
        for bad in [
            "",
            "ca.example",
            "ftp://ca.example",
            "http://ca.example",
            "https://user@ca.example",
            "https://ca.example/x",
            "https://ca.example?x",
            "https://ca.example#x",
            "https://ca..example",
            "https://-ca",
            "https://ca.example:0",
            "https://ca.example:99999",
            "https://ca.example:",
            "https://ca.example:+1",
            "https://ca example",
            "https://ca.example.",
            "https://[::1",
            "https://\u{430}.example",
            "https://",
        ] {
            assert!(bad.parse::<Audience>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_origin_has_one_text() {
        for (url, origin) in [
            ("HTTPS://CA.Example:443/", "https://ca.example"),
            ("https://ca.example:8443", "https://ca.example:8443"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("http://localhost", "http://localhost"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert_eq!(url.parse::<Audience>().unwrap().as_str(), origin);
        }
    }
}
