//! The certificate extensions that policies speak of, as a small set.
//! What an Allow gives by default is here; what more it gives is in `statement`.

use std::fmt;

/// The extensions that a user certificate can carry (draft-miller-ssh-cert, section 2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extension {
    /// `permit-X11-forwarding`
    X11Forwarding,
    /// `permit-agent-forwarding`
    AgentForwarding,
    /// `permit-port-forwarding`
    PortForwarding,
    /// `permit-pty`
    Pty,
    /// `permit-user-rc`
    UserRc,
}

impl Extension {
    /// All, in the byte order that a certificate needs.
    pub const ALL: [Self; 5] = [
        Self::X11Forwarding,
        Self::AgentForwarding,
        Self::PortForwarding,
        Self::Pty,
        Self::UserRc,
    ];

    /// The name in the certificate and in `eic:Extensions`.
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

    /// The extension of that exact name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|extension| extension.as_str() == name)
    }

    fn bit(self) -> u8 {
        match self {
            Self::X11Forwarding => 1,
            Self::AgentForwarding => 2,
            Self::PortForwarding => 4,
            Self::Pty => 8,
            Self::UserRc => 16,
        }
    }
}

/// A set of extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionSet(u8);

impl ExtensionSet {
    /// What an Allow gives when it says nothing of extensions: pty and port forwarding.
    pub const DEFAULT: Self = Self(4 | 8);
    /// None at all.
    pub const EMPTY: Self = Self(0);

    /// Whether the extension is in the set.
    #[must_use]
    pub fn contains(self, extension: Extension) -> bool {
        self.0 & extension.bit() != 0
    }

    /// Whether each of ours is in `other`.
    #[must_use]
    pub fn is_subset_of(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Both sets together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The members, in the order that a certificate needs.
    pub fn iter(self) -> impl Iterator<Item = Extension> {
        Extension::ALL
            .into_iter()
            .filter(move |extension| self.contains(*extension))
    }
}

impl FromIterator<Extension> for ExtensionSet {
    fn from_iter<I: IntoIterator<Item = Extension>>(extensions: I) -> Self {
        extensions
            .into_iter()
            .fold(Self::EMPTY, |set, extension| Self(set.0 | extension.bit()))
    }
}

impl fmt::Display for ExtensionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Extension::as_str).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_extensions_are_pty_and_port_forwarding() {
        // D-09
        let expected: ExtensionSet = [Extension::Pty, Extension::PortForwarding]
            .into_iter()
            .collect();
        assert_eq!(ExtensionSet::DEFAULT, expected);
        assert_eq!(
            ExtensionSet::DEFAULT.to_string(),
            "permit-port-forwarding,permit-pty"
        );
        assert!(
            !ExtensionSet::DEFAULT
                .union([Extension::UserRc].into_iter().collect())
                .is_subset_of(expected)
        );
    }

    #[test]
    fn extensions_come_in_byte_order() {
        let names: Vec<_> = Extension::ALL.map(Extension::as_str).to_vec();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(names, sorted);
        assert_eq!(Extension::parse("permit-x11-forwarding"), None);
    }
}
