//! The protocol's versions. Discovery announces a range; each part sends only what its peer announced.

use serde::{Deserialize, Serialize};

/// The version that this build speaks.
pub const CURRENT: u32 = 1;

/// The oldest version that this build still serves.
pub const OLDEST: u32 = 1;

/// Lowest and highest version that a part speaks, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionRange {
    /// Lowest version.
    pub lowest: u32,
    /// Highest version.
    pub highest: u32,
}

impl VersionRange {
    /// What this build speaks.
    pub const OURS: Self = Self {
        lowest: OLDEST,
        highest: CURRENT,
    };

    /// The highest version that both ranges hold.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u32> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest && highest >= other.lowest).then_some(highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_without_a_common_version_have_none() {
        let old = VersionRange {
            lowest: 1,
            highest: 2,
        };
        let new = VersionRange {
            lowest: 3,
            highest: 5,
        };
        assert_eq!(old.common(new), None);
        assert_eq!(new.common(old), None);
        assert_eq!(
            VersionRange {
                lowest: 2,
                highest: 4
            }
            .common(new),
            Some(4)
        );
    }
}
