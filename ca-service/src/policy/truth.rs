//! Three answers instead of two: yes, no, and "this proof cannot tell".
//! Kleene's logic; what an unknown means for an Allow or a Deny is decided by the statement.

use std::ops::Not;

/// The answer of one comparison, condition or element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// It does not hold.
    No,
    /// It cannot be known from this proof. Never allows, always denies.
    Unknown,
    /// It holds.
    Yes,
}

impl Truth {
    /// Both: the weaker answer.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }

    /// Either: the stronger answer.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// Yes as soon as one is; No when there is none.
    pub(super) fn any(answers: impl IntoIterator<Item = Self>) -> Self {
        let mut best = Self::No;
        for answer in answers {
            best = best.or(answer);
            if best == Self::Yes {
                break;
            }
        }
        best
    }

    /// No as soon as one is; Yes when there is none.
    pub(super) fn all(answers: impl IntoIterator<Item = Self>) -> Self {
        let mut worst = Self::Yes;
        for answer in answers {
            worst = worst.and(answer);
            if worst == Self::No {
                break;
            }
        }
        worst
    }
}

impl Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
            Self::Yes => Self::No,
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

#[cfg(test)]
mod tests {
    use super::Truth::{self, No, Unknown, Yes};

    #[test]
    fn unknown_is_decided_only_by_an_answer_that_decides_alone() {
        assert_eq!(Unknown.and(No), No);
        assert_eq!(Unknown.and(Yes), Unknown);
        assert_eq!(Unknown.or(Yes), Yes);
        assert_eq!(Unknown.or(No), Unknown);
        assert_eq!(!Unknown, Unknown);
    }

    #[test]
    fn nothing_at_all_is_no_for_any_and_yes_for_all() {
        assert_eq!(Truth::any([]), No);
        assert_eq!(Truth::all([]), Yes);
        assert_eq!(Truth::any([No, Unknown, Yes]), Yes);
        assert_eq!(Truth::all([Yes, Unknown, No]), No);
    }
}
