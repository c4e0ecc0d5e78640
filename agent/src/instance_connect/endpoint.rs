//! Where the metadata service listens: two link-local addresses, or what the root-owned configuration names.
//! No host names (no resolver on a login path) and no proxy variables (they are a user's, not the machine's).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The addresses to try, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Vec<SocketAddr>);

impl Endpoint {
    /// The addresses.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.0
    }
}

impl Default for Endpoint {
    /// 169.254.169.254 and fd00:ec2::254, port 80 (EC2 User Guide, "Access instance metadata").
    fn default() -> Self {
        let v4 = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
        let v6 = IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254));
        Self(vec![SocketAddr::new(v4, 80), SocketAddr::new(v6, 80)])
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    /// `http://ADDRESS[:PORT][/]`, the address a literal (`[…]` around IPv6).
    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint(text.to_owned());
        let authority = text.strip_prefix("http://").ok_or_else(invalid)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let address = authority
            .parse()
            .or_else(|_| with_default_port(authority))
            .map_err(|_| invalid())?;
        Ok(Self(vec![address]))
    }
}

fn with_default_port(authority: &str) -> Result<SocketAddr, std::net::AddrParseError> {
    format!("{authority}:80").parse()
}

/// The text names no endpoint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an endpoint: write `http://` and an IP address, as in `http://169.254.169.254`"
)]
pub struct InvalidEndpoint(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_other_schemes_and_paths_are_refused() {
        for bad in [
            "",
            "169.254.169.254",
            "https://169.254.169.254",
            "http://metadata.internal",
            "http://169.254.169.254/latest",
            "http://user@169.254.169.254",
            "http://",
            "http://[fd00:ec2::254",
            "http://169.254.169.254:99999",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn literals_of_both_families_are_read() {
        for (text, expected) in [
            ("http://169.254.169.254", "169.254.169.254:80"),
            ("http://127.0.0.1:1338/", "127.0.0.1:1338"),
            ("http://[fd00:ec2::254]", "[fd00:ec2::254]:80"),
            ("http://[::1]:1338", "[::1]:1338"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.addresses(), [expected.parse().unwrap()], "{text}");
        }
    }

    #[test]
    fn the_default_is_the_two_link_local_addresses() {
        // I-03
        let shown: Vec<_> = Endpoint::default()
            .addresses()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["169.254.169.254:80", "[fd00:ec2::254]:80"]);
    }
}
