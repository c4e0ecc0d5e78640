//! What is refused of any request, whatever its route: pages of other origins, names that are not ours,
//! plain HTTP from further away than loopback or a named proxy.

use std::net::IpAddr;

use ::http::HeaderMap;
use ::http::header::{HOST, ORIGIN};
use eic_protocol::proof::Audience;

use super::context::Peer;
use crate::policy::Cidr;

/// The rules of one listener.
pub(super) struct Screen {
    host: String,
    proxies: Vec<Cidr>,
}

impl Screen {
    /// For the service that is called `audience`, behind these proxies.
    pub(super) fn new(audience: &Audience, proxies: Vec<Cidr>) -> Self {
        let authority = audience
            .as_str()
            .split_once("://")
            .map_or("", |(_, authority)| authority);
        Self {
            host: without_port(authority).to_owned(),
            proxies,
        }
    }

    /// Why the request is refused, in words for its sender.
    pub(super) fn refusal(&self, peer: Peer, headers: &HeaderMap) -> Option<&'static str> {
        // Programs call this API, pages of other origins must not (threats G-16).
        if headers.contains_key(ORIGIN) {
            return Some("this API is not for web pages: requests with an Origin are refused");
        }
        let address = peer.address.ip().to_canonical();
        if peer.tls || self.proxies.iter().any(|proxy| proxy.contains(address)) {
            return None;
        }
        if !address.is_loopback() {
            return Some("plain HTTP is served on loopback and to the named proxy only");
        }
        // A page whose name was pointed at loopback sends its own name (DNS rebinding).
        let host = headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        (!self.is_ours(without_port(host))).then_some("the Host is not a name of this service")
    }

    fn is_ours(&self, host: &str) -> bool {
        let literal = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .is_ok();
        literal || host.eq_ignore_ascii_case("localhost") || host.eq_ignore_ascii_case(&self.host)
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(peer: &str, tls: bool, headers: &[(&str, &str)]) -> bool {
        let screen = Screen::new(
            &"https://ca.example:8443".parse().unwrap(),
            vec!["10.0.0.2/32".parse().unwrap()],
        );
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                ::http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        screen
            .refusal(
                Peer {
                    address: peer.parse().unwrap(),
                    tls,
                },
                &map,
            )
            .is_some()
    }

    #[test]
    fn pages_of_other_origins_are_refused_wherever_they_come_from() {
        // G-16
        for (peer, tls) in [
            ("127.0.0.1:5", false),
            ("203.0.113.9:5", true),
            ("10.0.0.2:5", false),
        ] {
            assert!(refused(
                peer,
                tls,
                &[("host", "ca.example"), ("origin", "https://evil.example")]
            ));
            assert!(refused(
                peer,
                tls,
                &[("host", "ca.example"), ("origin", "null")]
            ));
        }
    }

    #[test]
    fn a_name_that_was_pointed_at_loopback_is_refused() {
        // G-16, DNS rebinding
        for host in [
            "evil.example",
            "evil.example:8443",
            "",
            "localhost.evil.example",
            "ca.example.evil",
        ] {
            assert!(refused("127.0.0.1:5", false, &[("host", host)]), "{host}");
        }
        for host in [
            "127.0.0.1:8443",
            "[::1]:8443",
            "[::1]",
            "localhost",
            "LOCALHOST:80",
            "ca.example:8443",
            "CA.example",
        ] {
            assert!(!refused("127.0.0.1:5", false, &[("host", host)]), "{host}");
        }
    }

    #[test]
    fn plain_http_from_afar_is_refused_unless_by_the_named_proxy() {
        let host = [("host", "ca.example")];
        assert!(refused("203.0.113.9:5", false, &host));
        assert!(refused("10.0.0.3:5", false, &host));
        assert!(!refused("10.0.0.2:5", false, &host));
        assert!(!refused("[::ffff:10.0.0.2]:5", false, &host));
        assert!(!refused("203.0.113.9:5", true, &host));
    }
}
