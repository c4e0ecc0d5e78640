//! What is known of a request before its body is read: id, source address, transport, client's name.

use std::net::{IpAddr, SocketAddr};

use ::http::HeaderMap;
use ::http::header::USER_AGENT;
use eic_protocol::request_id::RequestId;

use crate::audit::Origin;
use crate::peer_network::PeerNetwork;
use crate::policy::Cidr;

/// The other end of a connection; the server puts it into each request of it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is TLS.
    pub tls: bool,
}

/// A request's circumstances.
#[derive(Clone, Debug)]
pub struct Context {
    /// Joins response, log, audit, key id and sshd's log line.
    pub request_id: RequestId,
    /// The peer, or what a trusted proxy says of it.
    pub source: IpAddr,
    /// Whether the request came over TLS, to us or to a trusted proxy.
    pub secure: bool,
    /// The client's own words.
    pub user_agent: Option<String>,
    /// Unix seconds.
    pub now: u64,
}

/// A trusted proxy's header does not name an address: whose request it is cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownSource;

impl Context {
    /// Of a request with these headers.
    ///
    /// # Errors
    /// [`UnknownSource`]
    pub fn of(
        peer: Peer,
        headers: &HeaderMap,
        proxies: &[Cidr],
        request_id: RequestId,
        now: u64,
    ) -> Result<Self, UnknownSource> {
        let (source, secure) = source(peer, headers, proxies)?;
        let user_agent = headers
            .get(USER_AGENT)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Ok(Self {
            request_id,
            source,
            secure,
            user_agent,
            now,
        })
    }

    /// What the source counts as where peers are limited.
    #[must_use]
    pub fn peer(&self) -> PeerNetwork {
        PeerNetwork::of(self.source)
    }

    /// For the audit.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin {
            source: Some(self.source),
            user_agent: self.user_agent.clone(),
        }
    }
}

/// `X-Forwarded-For` counts only from a trusted proxy, and of it only the right-most address that no
/// trusted proxy wrote for another (threats G-01); `Forwarded` and `X-Real-IP` never count.
fn source(
    peer: Peer,
    headers: &HeaderMap,
    proxies: &[Cidr],
) -> Result<(IpAddr, bool), UnknownSource> {
    let trusted = |address: IpAddr| proxies.iter().any(|range| range.contains(address));
    let direct = peer.address.ip().to_canonical();
    if !trusted(direct) {
        return Ok((direct, peer.tls));
    }
    let secure =
        peer.tls || last_word(headers, "x-forwarded-proto").is_some_and(|proto| proto == "https");
    let mut hops = Vec::new();
    for value in headers.get_all("x-forwarded-for") {
        hops.extend(value.to_str().map_err(|_| UnknownSource)?.split(','));
    }
    for hop in hops.into_iter().rev() {
        let address = address(hop.trim()).ok_or(UnknownSource)?;
        if !trusted(address) {
            return Ok((address, secure));
        }
    }
    Ok((direct, secure))
}

fn last_word<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let last = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next().map(str::trim)
}

/// Some proxies write the port as well.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.parse::<IpAddr>().ok();
    bare.or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()))
        .map(|a| a.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, headers: &[(&str, &str)]) -> Result<(String, bool), UnknownSource> {
        let proxies = ["10.0.0.0/24".parse().unwrap()];
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                ::http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        let peer = Peer {
            address: peer.parse().unwrap(),
            tls: false,
        };
        source(peer, &map, &proxies).map(|(address, secure)| (address.to_string(), secure))
    }

    #[test]
    fn headers_of_strangers_do_not_move_the_source() {
        // G-01, G-03
        for headers in [
            vec![("x-forwarded-for", "10.0.0.1")],
            vec![("x-forwarded-for", "10.0.0.1, 8.8.8.8")],
            vec![
                ("x-forwarded-for", "1.1.1.1"),
                ("x-forwarded-for", "8.8.8.8"),
            ],
            vec![("forwarded", "for=8.8.8.8"), ("x-real-ip", "8.8.8.8")],
            vec![("x-forwarded-proto", "https")],
        ] {
            assert_eq!(
                seen("203.0.113.9:5", &headers),
                Ok(("203.0.113.9".to_owned(), false)),
                "{headers:?}"
            );
        }
    }

    #[test]
    fn of_a_trusted_proxys_hops_only_the_right_most_stranger_counts() {
        // G-01
        let fifty = vec!["8.8.8.8"; 50].join(", ");
        for (value, expected) in [
            ("203.0.113.9", "203.0.113.9"),
            ("1.1.1.1, 203.0.113.9", "203.0.113.9"),
            ("1.1.1.1, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
            ("garbage, 203.0.113.9", "203.0.113.9"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("10.0.0.7", "10.0.0.2"),
            (fifty.as_str(), "8.8.8.8"),
        ] {
            assert_eq!(
                seen("10.0.0.2:5", &[("x-forwarded-for", value)]).unwrap().0,
                expected,
                "{value}"
            );
        }
        let two = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "203.0.113.9"),
        ];
        assert_eq!(seen("10.0.0.2:5", &two).unwrap().0, "203.0.113.9");
        assert_eq!(
            seen("10.0.0.2:5", &[]).unwrap(),
            ("10.0.0.2".to_owned(), false)
        );
        assert!(
            seen("10.0.0.2:5", &[("x-forwarded-proto", "https")])
                .unwrap()
                .1
        );
    }

    #[test]
    fn a_proxy_that_names_no_address_is_not_believed() {
        for value in ["unknown", "203.0.113.9, ", "010.0.0.1", "10.0.0.1%eth0"] {
            assert_eq!(
                seen("10.0.0.2:5", &[("x-forwarded-for", value)]),
                Err(UnknownSource),
                "{value}"
            );
        }
    }
}
