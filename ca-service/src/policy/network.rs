//! Addresses and CIDR ranges, read strictly: one spelling for each range, no host bits (C-08).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::truth::Truth;

/// A range of addresses. Host bits are zero; an IPv4-mapped range cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The range of one address. An IPv4-mapped address becomes the IPv4 one.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let network = address.to_canonical();
        Self {
            network,
            prefix: width(network),
        }
    }

    /// Whether the address is in the range; `::ffff:10.0.0.1` counts as `10.0.0.1`.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && masked(address, self.prefix) == self.network
    }

    /// Whether `other` lies inside this range. Unknown when only a part of it does:
    /// then neither "inside" nor "outside" is true of what a certificate would admit.
    pub(super) fn covers(&self, other: &Self) -> Truth {
        if self.prefix <= other.prefix && self.contains(other.network) {
            Truth::Yes
        } else if other.contains(self.network) {
            Truth::Unknown
        } else {
            Truth::No
        }
    }

    pub(super) fn is_everything(&self) -> bool {
        self.prefix == 0
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        parse(text).ok_or_else(|| InvalidCidr(eic_protocol::text::printable(text)))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// The text is not an address or a CIDR range in its one accepted form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an address or CIDR range: write it as 203.0.113.0/24 or 2001:db8::/32, without host bits"
)]
pub struct InvalidCidr(String);

/// Where a request comes from, as `aws:SourceIp` or `aws:VpcSourceIp` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A public address: `aws:SourceIp` is present, `aws:VpcSourceIp` absent.
    Public(IpAddr),
    /// A private address, as behind an AWS endpoint: `aws:VpcSourceIp` is present, `aws:SourceIp` absent.
    Private(IpAddr),
}

/// One line of `[source] nat`: requests from `range` count as coming from `public`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatRule {
    /// The addresses that the service sees.
    pub range: Cidr,
    /// The address that policies name.
    pub public: IpAddr,
}

impl Source {
    /// Sorts a peer's address; the first NAT rule that contains it wins.
    #[must_use]
    pub fn of(peer: IpAddr, nat: &[NatRule]) -> Self {
        let peer = peer.to_canonical();
        let address = nat
            .iter()
            .find(|rule| rule.range.contains(peer))
            .map_or(peer, |rule| rule.public.to_canonical());
        if is_private(address) {
            Self::Private(address)
        } else {
            Self::Public(address)
        }
    }
}

/// RFC 1918, RFC 6598, RFC 4193, loopback and link-local.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || shared
        }
        IpAddr::V6(v6) => {
            v6.is_unique_local()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_unspecified()
        }
    }
}

fn parse(text: &str) -> Option<Cidr> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    // std refuses leading zeros, hexadecimal parts and zone ids.
    let network: IpAddr = address.parse().ok()?;
    let mapped = network != network.to_canonical();
    let prefix = prefix.map_or(Some(width(network)), prefix_length)?;
    let exact = prefix <= width(network) && masked(network, prefix) == network;
    (!mapped && exact).then_some(Cidr { network, prefix })
}

fn prefix_length(text: &str) -> Option<u8> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = canonical && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32_u32.saturating_sub(prefix))
                .unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(prefix))
                .unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_and_odd_forms_are_refused() {
        // C-08
        for bad in [
            "",
            "10.0.0.1/8",
            "010.0.0.1",
            "0x0a.0.0.1",
            "0x0a.1",
            "10.1",
            "10.0.0.1%eth0",
            "fe80::1%eth0",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.0/ 8",
            " 10.0.0.0/8",
            "10.0.0.0/8/8",
            "::ffff:10.0.0.1",
            "::ffff:10.0.0.0/104",
            "2001:db8::1/32",
            "::/129",
            "10.0.0.0-10.0.0.9",
            "*",
            "10.*",
            "10.0.0.0/255.0.0.0",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mapped_addresses_count_as_ipv4_and_families_never_mix() {
        // C-08
        assert!(cidr("10.0.0.0/8").contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!cidr("::/0").contains("10.0.0.1".parse().unwrap()));
        assert!(!cidr("0.0.0.0/0").contains("2001:db8::1".parse().unwrap()));
        assert!(cidr("0.0.0.0/0").contains("203.0.113.9".parse().unwrap()));
        assert!(cidr("203.0.113.9").contains("203.0.113.9".parse().unwrap()));
        assert!(!cidr("203.0.113.8/29").contains("203.0.113.16".parse().unwrap()));
    }

    #[test]
    fn a_range_that_reaches_beyond_is_neither_inside_nor_outside() {
        assert_eq!(cidr("10.0.0.0/8").covers(&cidr("10.1.0.0/16")), Truth::Yes);
        assert_eq!(
            cidr("10.1.0.0/16").covers(&cidr("10.0.0.0/8")),
            Truth::Unknown
        );
        assert_eq!(cidr("10.1.0.0/16").covers(&cidr("10.2.0.0/16")), Truth::No);
        assert_eq!(cidr("10.0.0.0/8").covers(&cidr("::/0")), Truth::No);
    }

    #[test]
    fn a_private_peer_has_no_public_source_address() {
        for private in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.9.9",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "fd00::1",
            "::1",
        ] {
            let address = private.parse().unwrap();
            assert_eq!(
                Source::of(address, &[]),
                Source::Private(address),
                "{private}"
            );
        }
        let public = "203.0.113.7".parse().unwrap();
        assert_eq!(Source::of(public, &[]), Source::Public(public));
        assert_eq!(
            Source::of("::ffff:10.0.0.1".parse().unwrap(), &[]),
            Source::Private("10.0.0.1".parse().unwrap())
        );
    }

    #[test]
    fn a_nat_rule_gives_the_address_that_policies_name() {
        let rule = NatRule {
            range: cidr("10.0.0.0/8"),
            public: "198.51.100.1".parse().unwrap(),
        };
        assert_eq!(
            Source::of("10.9.9.9".parse().unwrap(), &[rule]),
            Source::Public(rule.public)
        );
        let other = "192.168.0.1".parse().unwrap();
        assert_eq!(Source::of(other, &[rule]), Source::Private(other));
    }
}
