//! The decision: explicit deny, else the first Allow that covers the whole request, else deny.
//! Pure: the same set and request give the same answer, in work bounded by the set's size.

use eic_protocol::os_user::OsUser;

use super::caller::Caller;
use super::decision::{Decision, Denial, DenialKind, Permit};
use super::hint::Hint;
use super::key::Key;
use super::request::{Asked, Request};
use super::set::PolicySet;
use super::statement::{Statement, Test};
use super::truth::Truth;
use super::value::Context;

/// Most hints in one denial.
const MAX_HINTS: usize = 5;
/// Most statements that are looked at for hints: each user that one names costs a look at every Deny.
const MAX_NEAR: usize = 16;
/// Most users in the answer to a listing.
const MAX_USERS: usize = 32;

/// Decides one request.
///
/// One Allow statement covers one certificate: limits of several statements are never added up.
#[must_use]
pub fn evaluate(set: &PolicySet, request: &Request<'_>) -> Decision {
    let context = Context {
        request,
        settings: &set.settings,
    };
    let deny = |kind| Decision::Deny(Denial::new(kind, Some(set.digest())));
    if let Some(statement) = set.denies.iter().find(|own| own.is_in_force(&context)) {
        return deny(DenialKind::Explicit(statement.id.clone()));
    }
    if let Some(statement) = set.allows.iter().find(|own| own.is_in_force(&context)) {
        return Decision::Allow(Permit::new(statement, set.digest(), &context));
    }
    let hints = hints(set, &context);
    deny(if hints.is_empty() {
        DenialKind::NothingMatched
    } else {
        DenialKind::Chosen(hints)
    })
}

/// What a caller can reach on one resource, whatever he may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Users that a statement names literally and that a request with defaults gets.
    pub users: Vec<OsUser>,
    /// Whether some statement also admits users by pattern, or any user.
    pub others: bool,
}

/// Whether the caller may use the resource with some choice of user and restrictions, and as whom.
///
/// For listings: `None` means that he must not learn that the resource exists. The request's `asked` counts
/// except for its user.
#[must_use]
pub fn reach(set: &PolicySet, request: &Request<'_>) -> Option<Reach> {
    let context = Context {
        request,
        settings: &set.settings,
    };
    if set
        .denies
        .iter()
        .any(|own| denies_every_choice(own, &context))
    {
        return None;
    }
    let open: Vec<&Statement> = set
        .allows
        .iter()
        .filter(|own| fails_only_on_choices(own, &context))
        .collect();
    if open.is_empty() {
        return None;
    }
    let mut users: Vec<OsUser> = open
        .iter()
        .flat_map(|own| named_users(own, &context))
        .collect();
    users.sort_unstable();
    users.dedup();
    // Each one costs a decision.
    users.truncate(MAX_USERS);
    users.retain(|user| is_allowed_as(set, request, user));
    let others = open.iter().any(|own| admits_unnamed_users(own));
    Some(Reach { users, others })
}

/// Whether any Allow is about the caller, whatever it allows. Who is named nowhere need not be compared with every host.
#[must_use]
pub fn concerns(set: &PolicySet, caller: &Caller) -> bool {
    let about = |own: &Statement| {
        let about = own.principal.covers_for_allow(caller, &own.literals.named);
        about != Truth::No
    };
    set.allows.iter().any(about)
}

fn hints(set: &PolicySet, context: &Context<'_>) -> Vec<Hint> {
    let near = set
        .allows
        .iter()
        .filter_map(|own| Some((own, failing_choices(own, context)?)));
    let usable = |user: &str| is_usable(set, context.request, user);
    let mut hints: Vec<Hint> = Vec::new();
    for (statement, failing) in near.take(MAX_NEAR) {
        let hint = Hint::of(statement, context, &failing, &usable);
        hints.extend(hint.filter(|hint| !hints.contains(hint)));
    }
    hints.truncate(MAX_HINTS);
    hints
}

/// What keeps this Allow from covering the request, when all of it is what the caller chose.
fn failing_choices<'s>(statement: &'s Statement, context: &Context<'_>) -> Option<Vec<Test<'s>>> {
    let mut failing = Vec::new();
    for test in statement.tests() {
        if statement.answer(test, context) == Truth::Yes {
            continue;
        }
        if !test.is_chosen_by_caller() {
            return None;
        }
        failing.push(test);
    }
    Some(failing)
}

/// A name that is no user, such as a pattern, is not for a Deny to judge here.
fn is_usable(set: &PolicySet, request: &Request<'_>, user: &str) -> bool {
    let Ok(user) = user.parse() else { return true };
    as_user(request, &user, |request| {
        let context = Context {
            request,
            settings: &set.settings,
        };
        !set.denies.iter().any(|own| own.is_in_force(&context))
    })
}

fn fails_only_on_choices(statement: &Statement, context: &Context<'_>) -> bool {
    let fixed = statement.tests().filter(|test| !test.is_chosen_by_caller());
    Truth::all(fixed.map(|test| statement.answer(test, context))) == Truth::Yes
}

/// A Deny that no choice of the caller could escape.
fn denies_every_choice(statement: &Statement, context: &Context<'_>) -> bool {
    !statement.tests().any(|test| test.is_chosen_by_caller()) && statement.is_in_force(context)
}

/// The users that the statement's conditions name, with this caller's variables filled in.
fn named_users(statement: &Statement, context: &Context<'_>) -> Vec<OsUser> {
    let conditions = statement
        .conditions
        .iter()
        .filter(|own| own.key == Key::OsUser && !own.operator.is_negated());
    conditions
        .flat_map(|own| own.shown(context))
        .filter_map(|name| name.parse().ok())
        .collect()
}

fn is_allowed_as(set: &PolicySet, request: &Request<'_>, user: &OsUser) -> bool {
    as_user(request, user, |request| {
        let context = Context {
            request,
            settings: &set.settings,
        };
        let in_force = |own: &Statement| own.is_in_force(&context);
        !set.denies.iter().any(in_force) && set.allows.iter().any(in_force)
    })
}

/// The same request for another user.
fn as_user<T>(request: &Request<'_>, user: &OsUser, question: impl FnOnce(&Request<'_>) -> T) -> T {
    let asked = Asked {
        os_user: Some(user),
        ..*request.asked
    };
    question(&Request {
        asked: &asked,
        ..*request
    })
}

fn admits_unnamed_users(statement: &Statement) -> bool {
    let on_user = |test: &Test<'_>| matches!(test, Test::Condition(own) if own.key == Key::OsUser && !own.operator.is_negated());
    let mut conditions = statement.tests().filter(on_user).peekable();
    conditions.peek().is_none()
        || conditions.any(|test| match test {
            Test::Condition(own) => own
                .templates()
                .iter()
                .any(|template| template.as_literal().is_none()),
            _ => false,
        })
}
