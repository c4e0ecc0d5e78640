//! Condition operators: their names and what they can compare.
//! Source: IAM user guide, "IAM JSON policy elements: Condition operators".

use std::fmt;

use super::key::{Key, Kind};

/// An operator with its set prefix and suffix, e.g. `ForAnyValue:StringLikeIfExists`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) base: Base,
    pub(super) set: Option<SetOperator>,
    pub(super) if_exists: bool,
}

/// How several values of a request are taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetOperator {
    /// `ForAnyValue:`
    Any,
    /// `ForAllValues:`
    All,
}

/// The comparison itself, and whether it is negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Text { test: TextTest, negated: bool },
    Numeric(Comparison),
    Date(Comparison),
    Bool,
    Binary,
    Address { negated: bool },
    Arn { negated: bool },
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextTest {
    Equals,
    EqualsIgnoreCase,
    Like,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equals,
    NotEquals,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
}

impl Operator {
    /// The operator of exactly that name; names are case-sensitive here so that a slip is seen.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (set, rest) = match name.split_once(':') {
            Some(("ForAnyValue", rest)) => (Some(SetOperator::Any), rest),
            Some(("ForAllValues", rest)) => (Some(SetOperator::All), rest),
            Some(_) => return None,
            None => (None, name),
        };
        let (base_name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(base) => (base, true),
            None => (rest, false),
        };
        let base = BASES
            .iter()
            .find(|(known, _)| *known == base_name)
            .map(|(_, base)| *base)?;
        // `Null` asks for existence itself: neither suffix nor prefix has a meaning with it.
        let plain = set.is_none() && !if_exists;
        (base != Base::Null || plain).then_some(Self {
            base,
            set,
            if_exists,
        })
    }

    /// Whether several values of the policy mean "none of them" (IAM user guide, "negated matching").
    pub(super) fn is_negated(self) -> bool {
        match self.base {
            Base::Text { negated, .. } | Base::Address { negated } | Base::Arn { negated } => {
                negated
            }
            Base::Numeric(comparison) | Base::Date(comparison) => {
                comparison == Comparison::NotEquals
            }
            Base::Bool | Base::Binary | Base::Null => false,
        }
    }

    /// Whether the operator can compare what the key holds. Text comparisons see any value as text.
    pub(super) fn suits(self, key: &Key) -> bool {
        let kind = key.kind();
        match self.base {
            Base::Null | Base::Text { .. } => true,
            Base::Numeric(_) => {
                kind == Kind::Number || kind == Kind::Free || *key == Key::EpochTime
            }
            Base::Date(_) => matches!(kind, Kind::Date | Kind::Free),
            Base::Bool => matches!(kind, Kind::Bool | Kind::Free),
            Base::Binary => kind == Kind::Free,
            Base::Address { .. } => matches!(kind, Kind::Address | Kind::Free),
            Base::Arn { .. } => matches!(kind, Kind::Arn | Kind::Free),
        }
    }

    /// A known operator that the misspelt name may have meant.
    pub(super) fn nearest(name: &str) -> Option<&'static str> {
        let folded = name.to_ascii_lowercase();
        let base = folded
            .rsplit_once(':')
            .map_or(folded.as_str(), |(_, base)| base);
        let base = base.strip_suffix("ifexists").unwrap_or(base);
        BASES
            .iter()
            .map(|(known, _)| *known)
            .find(|known| known.eq_ignore_ascii_case(base))
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = match self.set {
            Some(SetOperator::Any) => "ForAnyValue:",
            Some(SetOperator::All) => "ForAllValues:",
            None => "",
        };
        let base = BASES
            .iter()
            .find(|(_, base)| *base == self.base)
            .map_or("?", |(name, _)| name);
        let suffix = if self.if_exists { "IfExists" } else { "" };
        write!(f, "{set}{base}{suffix}")
    }
}

impl Comparison {
    /// Whether `left` stands in that relation to `right`. For `NotEquals` this is equality: the negation comes later.
    pub(super) fn holds<T: Ord>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equals | Self::NotEquals => left == right,
            Self::Less => left < right,
            Self::LessEquals => left <= right,
            Self::Greater => left > right,
            Self::GreaterEquals => left >= right,
        }
    }
}

const fn text(test: TextTest, negated: bool) -> Base {
    Base::Text { test, negated }
}

// Where two names mean the same, the first is the one that is shown.
const BASES: [(&str, Base); 27] = [
    ("StringEquals", text(TextTest::Equals, false)),
    ("StringNotEquals", text(TextTest::Equals, true)),
    (
        "StringEqualsIgnoreCase",
        text(TextTest::EqualsIgnoreCase, false),
    ),
    (
        "StringNotEqualsIgnoreCase",
        text(TextTest::EqualsIgnoreCase, true),
    ),
    ("StringLike", text(TextTest::Like, false)),
    ("StringNotLike", text(TextTest::Like, true)),
    ("NumericEquals", Base::Numeric(Comparison::Equals)),
    ("NumericNotEquals", Base::Numeric(Comparison::NotEquals)),
    ("NumericLessThan", Base::Numeric(Comparison::Less)),
    (
        "NumericLessThanEquals",
        Base::Numeric(Comparison::LessEquals),
    ),
    ("NumericGreaterThan", Base::Numeric(Comparison::Greater)),
    (
        "NumericGreaterThanEquals",
        Base::Numeric(Comparison::GreaterEquals),
    ),
    ("DateEquals", Base::Date(Comparison::Equals)),
    ("DateNotEquals", Base::Date(Comparison::NotEquals)),
    ("DateLessThan", Base::Date(Comparison::Less)),
    ("DateLessThanEquals", Base::Date(Comparison::LessEquals)),
    ("DateGreaterThan", Base::Date(Comparison::Greater)),
    (
        "DateGreaterThanEquals",
        Base::Date(Comparison::GreaterEquals),
    ),
    ("Bool", Base::Bool),
    ("BinaryEquals", Base::Binary),
    ("IpAddress", Base::Address { negated: false }),
    ("NotIpAddress", Base::Address { negated: true }),
    ("ArnLike", Base::Arn { negated: false }),
    ("ArnEquals", Base::Arn { negated: false }),
    ("ArnNotLike", Base::Arn { negated: true }),
    ("ArnNotEquals", Base::Arn { negated: true }),
    ("Null", Base::Null),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_operators_and_near_misses_are_no_operators() {
        // C-03
        for bad in [
            "",
            "StringMatches",
            "stringequals",
            "StringEqual",
            "NullIfExists",
            "ForAnyValue:Null",
            "ForSomeValues:StringEquals",
            "ForAnyValue:ForAllValues:StringEquals",
            "StringEqualsIfExistsIfExists",
            "IfExists",
            "ForAnyValue:",
            "BoolNotEquals",
            "foranyvalue:StringEquals",
            "BinaryNotEquals",
            "StringEquals ",
        ] {
            assert_eq!(Operator::parse(bad), None, "{bad:?}");
        }
        assert_eq!(
            Operator::nearest("ForAnyValue:stringlikeIfExists"),
            Some("StringLike")
        );
        assert_eq!(Operator::nearest("StringMatches"), None);
    }

    #[test]
    fn every_operator_takes_if_exists_and_a_set_prefix_except_null() {
        for (name, _) in BASES.iter().filter(|(name, _)| *name != "Null") {
            for set in ["", "ForAnyValue:", "ForAllValues:"] {
                assert!(
                    Operator::parse(&format!("{set}{name}")).is_some(),
                    "{set}{name}"
                );
                assert!(
                    Operator::parse(&format!("{set}{name}IfExists")).is_some(),
                    "{set}{name}IfExists"
                );
            }
        }
        assert!(Operator::parse("Null").is_some());
        let shown = Operator::parse("ForAllValues:ArnNotEqualsIfExists")
            .unwrap()
            .to_string();
        assert_eq!(shown, "ForAllValues:ArnNotLikeIfExists");
    }
}
