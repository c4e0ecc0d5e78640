//! What a denied caller would have to ask for instead: his own choices, and only these.

use eic_protocol::validity::MIN_TTL;

use std::fmt;

use eic_protocol::text::printable;

use super::condition::Condition;
use super::key::Key;
use super::operator::{Base, Comparison};
use super::request::Request;
use super::statement::{Statement, Test};
use super::value::Context;

/// What the caller would have to ask for, so that one Allow statement covers the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    needs: Vec<Need>,
}

/// One choice that the caller would have to make differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The condition key, e.g. `ec2:osuser`.
    pub key: String,
    /// What it has to be: a fragment such as "`ubuntu` or `admin`".
    pub wanted: String,
}

impl Hint {
    /// What one Allow statement lacks; none when no choice of the caller could satisfy it.
    /// `usable` says which users no Deny forbids.
    pub(super) fn of(
        statement: &Statement,
        context: &Context<'_>,
        failing: &[Test<'_>],
        usable: &dyn Fn(&str) -> bool,
    ) -> Option<Self> {
        let mut needs: Vec<Need> = Vec::new();
        for test in failing {
            let need = need(statement, context, *test, usable)?;
            // A lifetime can fail the condition and the limit that comes of it: say it once.
            if !needs.iter().any(|known| known.key == need.key) {
                needs.push(need);
            }
        }
        Some(Self { needs })
    }

    /// The choices, all of which are needed.
    #[must_use]
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needs: Vec<_> = self
            .needs
            .iter()
            .map(|need| format!("{} {}", need.key, need.wanted))
            .collect();
        f.write_str(&needs.join(" and "))
    }
}

/// Most values that are looked at for a hint; a policy may hold thousands.
const CONSIDERED: usize = 32;

fn need(
    statement: &Statement,
    context: &Context<'_>,
    test: Test<'_>,
    usable: &dyn Fn(&str) -> bool,
) -> Option<Need> {
    let (key, wanted) = match test {
        Test::Condition(condition)
            if condition.key == Key::TtlSeconds && statement.literals.ttl.is_some() =>
        {
            lifetime_need(statement, context)
        }
        Test::Condition(condition) => (
            condition.key.to_string(),
            wanted(condition, context, usable)?,
        ),
        Test::Uid0 => (
            Key::OsUser.to_string(),
            uid0_need(&statement.literals.users, context.request, usable),
        ),
        Test::Lifetime => lifetime_need(statement, context),
        Test::Extensions => (
            Key::Extensions.to_string(),
            format!("only of `{}`", statement.max_extensions()),
        ),
        Test::Action | Test::Principal | Test::Scope | Test::Resource => return None,
    };
    Some(Need { key, wanted })
}

fn lifetime_need(statement: &Statement, context: &Context<'_>) -> (String, String) {
    let max = statement.max_ttl(context).or(statement.literals.ttl);
    let max = max.unwrap_or(0);
    (
        Key::TtlSeconds.to_string(),
        format!("from {MIN_TTL} to {max}"),
    )
}

fn uid0_need(literals: &[String], request: &Request<'_>, usable: &dyn Fn(&str) -> bool) -> String {
    let literals: Vec<_> = literals
        .iter()
        .take(CONSIDERED)
        .filter(|user| usable(user))
        .cloned()
        .collect();
    if literals.is_empty() {
        let user = request.asked.os_user.map_or("", |user| user.as_str());
        return format!("other than `{user}`, which no statement names");
    }
    any_of(&literals)
}

/// The condition in words; none when no value can satisfy it for this caller.
fn wanted(
    condition: &Condition,
    context: &Context<'_>,
    usable: &dyn Fn(&str) -> bool,
) -> Option<String> {
    let mut values = condition.shown(context);
    if condition.key == Key::OsUser && !condition.operator.is_negated() {
        values.truncate(CONSIDERED);
        values.retain(|user| usable(user));
    }
    if values.is_empty() {
        return None;
    }
    let relation = match condition.operator.base {
        Base::Null
            if values
                .iter()
                .all(|value| value.eq_ignore_ascii_case("true")) =>
        {
            return Some("not given".to_owned());
        }
        Base::Null => return Some("given".to_owned()),
        _ if condition.operator.is_negated() => "none of ",
        Base::Numeric(Comparison::Less) | Base::Date(Comparison::Less) => "below ",
        Base::Numeric(Comparison::LessEquals) | Base::Date(Comparison::LessEquals) => "at most ",
        Base::Numeric(Comparison::Greater) | Base::Date(Comparison::Greater) => "above ",
        Base::Numeric(Comparison::GreaterEquals) | Base::Date(Comparison::GreaterEquals) => {
            "at least "
        }
        Base::Address { .. } => "within ",
        _ => "",
    };
    Some(format!("{relation}{}", any_of(&values)))
}

fn any_of(values: &[String]) -> String {
    /// Longest list in a hint.
    const SHOWN: usize = 8;
    let mut shown: Vec<_> = values
        .iter()
        .take(SHOWN)
        // Variables may have put a tag or a session name into it.
        .map(|value| format!("`{}`", printable(value)))
        .collect();
    if values.len() > SHOWN {
        shown.push("others".to_owned());
    }
    shown.join(" or ")
}
