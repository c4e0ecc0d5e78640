//! For the administrator: every statement, every test, and what decided.
//! Never for callers; what they may learn is `Denial::caller_text`.

use std::fmt;

use super::decision::Decision;
use super::evaluate::evaluate;
use super::principal::PrincipalRule;
use super::request::Request;
use super::set::PolicySet;
use super::statement::{Effect, Statement, StatementId, Test};
use super::truth::Truth;
use super::value::{Context, Found};

/// A decision with the reasons of each statement.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What `evaluate` answers to the same request.
    pub decision: Decision,
    /// Every statement that could be about this caller, denies first, in the order of evaluation.
    pub statements: Vec<StatementReport>,
    /// How many are not shown: those of policies that are attached to others.
    pub of_others: usize,
}

/// How one statement fared.
#[derive(Clone, Debug)]
pub struct StatementReport {
    /// Which.
    pub statement: StatementId,
    /// Its effect.
    pub effect: Effect,
    /// Whether all of it holds; unknown never allows and always denies.
    pub matches: Truth,
    /// Each thing that must hold.
    pub elements: Vec<ElementReport>,
}

/// How one element or condition fared.
#[derive(Clone, Debug)]
pub struct ElementReport {
    /// The element, e.g. `Action`, or the condition in full.
    pub element: String,
    /// Whether it holds.
    pub holds: Truth,
    /// What the request has for it.
    pub request_has: String,
}

/// Explains the decision for one request.
#[must_use]
pub fn explain(set: &PolicySet, request: &Request<'_>) -> Explanation {
    let context = Context {
        request,
        settings: &set.settings,
    };
    let (of_others, own): (Vec<_>, Vec<_>) = set
        .statements()
        .partition(|statement| is_of_others(statement, &context));
    Explanation {
        decision: evaluate(set, request),
        statements: own
            .into_iter()
            .map(|statement| report(statement, &context))
            .collect(),
        of_others: of_others.len(),
    }
}

/// An attached policy is about those whom it is attached to, whatever else it says.
fn is_of_others(statement: &Statement, context: &Context<'_>) -> bool {
    matches!(statement.principal, PrincipalRule::Attached(_))
        && statement.answer(Test::Principal, context) == Truth::No
}

/// Whether the test can decide anything here: the others hold of every request like this one.
fn applies(test: Test<'_>, statement: &Statement, context: &Context<'_>) -> bool {
    match test {
        Test::Scope => matches!(statement.principal, PrincipalRule::Attached(_)),
        Test::Uid0 => {
            let user = context.request.asked.os_user;
            user.is_some_and(|user| context.settings.is_uid0(user))
        }
        _ => true,
    }
}

fn report(statement: &Statement, context: &Context<'_>) -> StatementReport {
    let element = |test: Test<'_>| ElementReport {
        element: name(test, statement),
        holds: statement.answer(test, context),
        request_has: shown(test, context),
    };
    StatementReport {
        statement: statement.id.clone(),
        effect: statement.effect,
        matches: statement.matches(context),
        elements: statement
            .tests()
            .filter(|test| applies(*test, statement, context))
            .map(element)
            .collect(),
    }
}

fn name(test: Test<'_>, statement: &Statement) -> String {
    match test {
        Test::Action => "Action".to_owned(),
        Test::Principal => "Principal".to_owned(),
        Test::Scope => "accounts of the attachment".to_owned(),
        Test::Resource => "Resource".to_owned(),
        Test::Condition(condition) => format!("Condition {condition}"),
        Test::Uid0 => "a user with uid 0 is named literally".to_owned(),
        Test::Lifetime => "lifetime within what the statement gives".to_owned(),
        Test::Extensions => format!("extensions within `{}`", statement.max_extensions()),
    }
}

fn shown(test: Test<'_>, context: &Context<'_>) -> String {
    let request = context.request;
    match test {
        Test::Action => request.action.to_string(),
        Test::Principal => request.caller.to_string(),
        Test::Scope => {
            let accounts: Vec<_> = request
                .resource
                .accounts()
                .iter()
                .map(ToString::to_string)
                .collect();
            accounts.join(", ")
        }
        Test::Resource => request.resource.arn().to_owned(),
        Test::Condition(condition) => found(&context.find(&condition.key)),
        Test::Uid0 => request
            .asked
            .os_user
            .map_or("no user".to_owned(), ToString::to_string),
        Test::Lifetime => context
            .settings
            .requested_ttl(request)
            .map_or("none".to_owned(), |ttl| format!("{ttl} s")),
        Test::Extensions => context.settings.requested_extensions(request).to_string(),
    }
}

fn found(found: &Found<'_>) -> String {
    let text = |value: &super::value::Value<'_>| {
        value
            .text()
            .map_or("a role whose path is not known".to_owned(), |text| {
                eic_protocol::text::printable(&text)
            })
    };
    match found {
        Found::Absent => "absent".to_owned(),
        Found::Unknowable => "unknowable from this proof".to_owned(),
        Found::One(value) => text(value),
        Found::Many(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.decision {
            Decision::Allow(permit) => writeln!(f, "allowed by {}", permit.statement())?,
            Decision::Deny(denial) => writeln!(f, "denied: {}", Reason(denial))?,
        }
        self.statements
            .iter()
            .try_for_each(|statement| write!(f, "{statement}"))?;
        match self.of_others {
            0 => Ok(()),
            count => writeln!(f, "not shown: {count} of policies attached to others"),
        }
    }
}

impl fmt::Display for StatementReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.matches, self.effect) {
            (Truth::Yes, _) => "matches",
            (Truth::No, _) => "does not match",
            (Truth::Unknown, Effect::Allow) => {
                "turns on something unknowable, so it does not allow"
            }
            (Truth::Unknown, Effect::Deny) => "turns on something unknowable, so it denies",
        };
        writeln!(f, "{} {} {verdict}", self.effect, self.statement)?;
        for element in &self.elements {
            let mark = match element.holds {
                Truth::Yes => "yes",
                Truth::No => "no ",
                Truth::Unknown => "?  ",
            };
            writeln!(
                f,
                "  {mark} {} — request: {}",
                element.element, element.request_has
            )?;
        }
        Ok(())
    }
}

struct Reason<'d>(&'d super::decision::Denial);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use super::decision::DenialKind;
        match self.0.kind() {
            DenialKind::Explicit(statement) => write!(f, "{statement} denies it"),
            DenialKind::NothingMatched => {
                f.write_str("no Allow is about this caller, action and resource")
            }
            DenialKind::Chosen(_) => f.write_str(&self.0.caller_text()),
            DenialKind::Stale => f.write_str(
                "the policy files cannot be loaded, and the last good policy is too old",
            ),
        }
    }
}
