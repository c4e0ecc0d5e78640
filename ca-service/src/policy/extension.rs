//! The certificate extensions that policies speak of, as a small set.
//! What an Allow gives by default is here; what more it gives is in `statement`.

use std::fmt;

use eic_protocol::cert::options::Extension;

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
        self.0 & bit(extension) != 0
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

fn bit(extension: Extension) -> u8 {
    match extension {
        Extension::X11Forwarding => 1,
        Extension::AgentForwarding => 2,
        Extension::PortForwarding => 4,
        Extension::Pty => 8,
        Extension::UserRc => 16,
    }
}

impl FromIterator<Extension> for ExtensionSet {
    fn from_iter<I: IntoIterator<Item = Extension>>(extensions: I) -> Self {
        extensions
            .into_iter()
            .fold(Self::EMPTY, |set, extension| Self(set.0 | bit(extension)))
    }
}

impl fmt::Display for ExtensionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(|extension| extension.as_str()).collect();
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
        let names: Vec<_> = Extension::ALL.map(|extension| extension.as_str()).to_vec();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(names, sorted);
        assert!("permit-x11-forwarding".parse::<Extension>().is_err());
    }
}
