//! The network that a peer address stands for when peers are counted: one IPv4 address, or an IPv6 /64.
//! For limits only; policy and audit see the whole address.

use std::net::{IpAddr, Ipv6Addr};

/// Whoever has an IPv6 /64 (any home line, any virtual machine) has 2^64 addresses: it counts as one
/// (RFC 6177 §2; threats G-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerNetwork(IpAddr);

const HOST_BITS: u32 = 64;

impl PeerNetwork {
    /// The network of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() >> HOST_BITS << HOST_BITS;
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl std::fmt::Display for PeerNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> PeerNetwork {
        PeerNetwork::of(address.parse().unwrap())
    }

    #[test]
    fn all_addresses_of_an_ipv6_network_are_one_peer_and_ipv4_addresses_are_not() {
        // G-14
        assert_eq!(
            of("2001:db8:1:2::1"),
            of("2001:db8:1:2:ffff:ffff:ffff:ffff")
        );
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(of("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }
}
