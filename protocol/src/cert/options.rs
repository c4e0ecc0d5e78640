//! Critical options and extensions, each with the grammar that sshd really accepts.
//! A value that sshd would refuse or ignore cannot be built.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::printable;

/// What a session may do (draft-miller-ssh-cert §2.3; extensions that sshd knows).
/// `no-touch-required` is left out: no policy may give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Extension {
    /// `permit-X11-forwarding`
    #[serde(rename = "permit-X11-forwarding")]
    X11Forwarding,
    /// `permit-agent-forwarding`
    #[serde(rename = "permit-agent-forwarding")]
    AgentForwarding,
    /// `permit-port-forwarding`
    #[serde(rename = "permit-port-forwarding")]
    PortForwarding,
    /// `permit-pty`
    #[serde(rename = "permit-pty")]
    Pty,
    /// `permit-user-rc`
    #[serde(rename = "permit-user-rc")]
    UserRc,
}

impl Extension {
    /// All, in the certificate's lexical order.
    pub const ALL: [Self; 5] = [
        Self::X11Forwarding,
        Self::AgentForwarding,
        Self::PortForwarding,
        Self::Pty,
        Self::UserRc,
    ];

    /// What an unconditional Allow gives.
    #[must_use]
    pub fn defaults() -> BTreeSet<Self> {
        BTreeSet::from([Self::PortForwarding, Self::Pty])
    }

    /// The name in the certificate.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X11Forwarding => "permit-X11-forwarding",
            Self::AgentForwarding => "permit-agent-forwarding",
            Self::PortForwarding => "permit-port-forwarding",
            Self::Pty => "permit-pty",
            Self::UserRc => "permit-user-rc",
        }
    }

    /// The names joined by commas, for the canonical request.
    #[must_use]
    pub fn join(extensions: &BTreeSet<Self>) -> String {
        extensions
            .iter()
            .map(|e| e.as_str())
            .collect::<Vec<_>>()
            .join(",")
    }
}

impl FromStr for Extension {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        Self::ALL
            .into_iter()
            .find(|e| e.as_str() == text)
            .ok_or_else(|| InvalidOption::Extension(printable(text)))
    }
}

/// The only command that a certificate runs: 1 to 1024 printable characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ForceCommand(String);

impl ForceCommand {
    /// The command line, given to the user's shell by sshd.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ForceCommand {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        let printable_only = !text.trim().is_empty() && !text.chars().any(char::is_control);
        if printable_only && text.len() <= 1024 {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidOption::ForceCommand)
        }
    }
}

impl TryFrom<String> for ForceCommand {
    type Error = InvalidOption;

    fn try_from(text: String) -> Result<Self, InvalidOption> {
        text.parse()
    }
}

impl From<ForceCommand> for String {
    fn from(command: ForceCommand) -> Self {
        command.0
    }
}

/// The only addresses that a certificate is good from: 1 to 32 CIDR blocks.
///
/// sshd refuses the whole certificate for one bad entry: host bits, blanks, empty entries,
/// negation, names (addrmatch.c); an IPv4-mapped block never matches anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct SourceAddresses(BTreeSet<String>);

impl SourceAddresses {
    /// The block of a single address.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        Self(BTreeSet::from([format!("{address}/{bits}")]))
    }

    /// The blocks, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl TryFrom<Vec<String>> for SourceAddresses {
    type Error = InvalidOption;

    fn try_from(blocks: Vec<String>) -> Result<Self, InvalidOption> {
        if blocks.is_empty() || blocks.len() > 32 {
            return Err(InvalidOption::SourceCount);
        }
        blocks
            .iter()
            .map(|b| canonical_block(b))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn canonical_block(text: &str) -> Result<String, InvalidOption> {
    let invalid = || InvalidOption::Source(printable(text));
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    if address.to_canonical() != address {
        return Err(invalid());
    }
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => width,
        Some(text) => text
            .parse()
            .ok()
            .filter(|b: &u32| *b <= width && b.to_string() == text)
            .ok_or_else(invalid)?,
    };
    if has_host_bits(address, width - bits) {
        Err(invalid())
    } else {
        Ok(format!("{address}/{bits}"))
    }
}

fn has_host_bits(address: IpAddr, host_bits: u32) -> bool {
    let value = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    value.trailing_zeros() < host_bits && value != 0
}

impl From<SourceAddresses> for Vec<String> {
    fn from(addresses: SourceAddresses) -> Self {
        addresses.0.into_iter().collect()
    }
}

impl fmt::Display for SourceAddresses {
    /// As in the certificate: joined by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().collect::<Vec<_>>().join(","))
    }
}

/// A value that no certificate may carry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOption {
    /// Unknown extension.
    #[error("`{0}` is not an extension that may be asked for")]
    Extension(String),
    /// Not a command line.
    #[error("a forced command is 1 to 1024 printable characters")]
    ForceCommand,
    /// No block, or too many.
    #[error("source addresses are 1 to 32 blocks")]
    SourceCount,
    /// Not a block.
    #[error(
        "`{0}` is not an address block that sshd accepts: use CIDR form with the host bits zero"
    )]
    Source(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_sshd_refuses_or_ignores_are_refused() {
        // C-08
        for bad in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "010.0.0.1",
            "0x0a.1",
            "10.0.0.1%eth0",
            "::ffff:10.0.0.1",
            "!10.0.0.0/8",
            " 10.0.0.0/8",
            "10.0.0.0/08",
            "10.0.0.0/",
            "host",
            "10.0.0.0/8,",
            "fe80::1/10",
        ] {
            assert!(
                SourceAddresses::try_from(vec![bad.to_owned()]).is_err(),
                "{bad:?}"
            );
        }
        assert_eq!(
            SourceAddresses::try_from(vec![]),
            Err(InvalidOption::SourceCount)
        );
    }

    #[test]
    fn blocks_are_written_in_one_canonical_form() {
        let list = [
            "2001:DB8::/32",
            "10.0.0.0/8",
            "192.0.2.7",
            "10.0.0.0/8",
            "0.0.0.0/0",
        ];
        let addresses = SourceAddresses::try_from(list.map(str::to_owned).to_vec()).unwrap();
        assert_eq!(
            addresses.to_string(),
            "0.0.0.0/0,10.0.0.0/8,192.0.2.7/32,2001:db8::/32"
        );
    }

    #[test]
    fn commands_with_line_ends_or_nothing_in_them_are_refused() {
        for bad in ["", "  ", "a\nb", "a\0", &"x".repeat(1025)] {
            assert!(bad.parse::<ForceCommand>().is_err());
        }
        assert!("no-touch-required".parse::<Extension>().is_err());
    }
}
