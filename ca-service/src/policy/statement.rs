//! One compiled statement, and the single list of tests by which it is judged.
//! Evaluation, explanation and denial hints all walk that list, so that they cannot disagree.

use std::fmt;

use super::action::ActionSet;
use super::caller::NamedOnly;
use super::condition::Condition;
use super::extension::ExtensionSet;
use super::key::Key;
use super::operator::Base;
use super::principal::PrincipalRule;
use super::resource::ResourceRule;
use super::truth::Truth;
use super::value::Context;

/// What a statement does when it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It permits, unless some Deny matches.
    Allow,
    /// It forbids.
    Deny,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
        })
    }
}

/// Where a statement stands, for audit records and messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatementId {
    /// The policy file, as the configuration names it.
    pub file: String,
    /// Position in the file, from 1.
    pub index: usize,
    /// `Sid`, when it has one.
    pub sid: Option<String>,
    /// Whom the file is attached to, for an identity policy.
    pub attached_to: Option<String>,
}

impl fmt::Display for StatementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` statement {}", self.file, self.index)?;
        if let Some(sid) = &self.sid {
            write!(f, " (`{sid}`)")?;
        }
        if let Some(principal) = &self.attached_to {
            write!(f, " attached to `{principal}`")?;
        }
        Ok(())
    }
}

/// A statement that can match our actions.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) id: StatementId,
    pub(super) effect: Effect,
    pub(super) actions: ActionSet,
    pub(super) principal: PrincipalRule,
    pub(super) resource: ResourceRule,
    pub(super) conditions: Vec<Condition>,
    pub(super) literals: Literals,
}

/// What an Allow gives only because one of its conditions says it literally.
#[derive(Clone, Debug, Default)]
pub(super) struct Literals {
    /// Upper bound of `eic:TtlSeconds`.
    pub(super) ttl: Option<u64>,
    /// Extensions beyond the defaults.
    pub(super) extensions: ExtensionSet,
    /// Values of `ec2:osuser` without wildcards or variables.
    pub(super) users: Vec<String>,
    /// Kinds of callers that broad principals leave out.
    pub(super) named: Vec<NamedOnly>,
}

/// One thing that must hold for a statement to match.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test<'s> {
    Action,
    Principal,
    /// The accounts that an attached policy reaches; Allow only.
    Scope,
    Resource,
    Condition(&'s Condition),
    /// A uid-0 name is literal in the statement; Allow only.
    Uid0,
    /// The lifetime is at most what the statement gives; Allow only.
    Lifetime,
    /// The extensions are at most what the statement gives; Allow only.
    Extensions,
}

impl Statement {
    /// Every test of the statement, cheapest first.
    pub(super) fn tests(&self) -> impl Iterator<Item = Test<'_>> {
        let elements = [Test::Action, Test::Principal, Test::Resource];
        let limits: &[Test<'_>] = match self.effect {
            Effect::Allow => &[Test::Scope, Test::Uid0, Test::Lifetime, Test::Extensions],
            Effect::Deny => &[],
        };
        elements
            .into_iter()
            .chain(self.conditions.iter().map(Test::Condition))
            .chain(limits.iter().copied())
    }

    /// The answer of one test.
    pub(super) fn answer(&self, test: Test<'_>, context: &Context<'_>) -> Truth {
        let request = context.request;
        match test {
            Test::Action => self.actions.contains(request.action).into(),
            Test::Principal if self.effect == Effect::Deny => self.principal.covers(request.caller),
            Test::Principal => self
                .principal
                .covers_for_allow(request.caller, &self.literals.named),
            Test::Scope => self.reaches(context).into(),
            Test::Resource => self.resource.covers(context),
            Test::Condition(condition) => condition.test(context, self.effect),
            Test::Uid0 => self.names_uid0_user(context).into(),
            Test::Lifetime => self.gives_lifetime(context).into(),
            Test::Extensions => self.gives_extensions(context).into(),
        }
    }

    /// Whether the statement matches. An unknown answer counts against the caller in `is_in_force`.
    pub(super) fn matches(&self, context: &Context<'_>) -> Truth {
        Truth::all(self.tests().map(|test| self.answer(test, context)))
    }

    /// A statement that turns on something unknowable never allows and always denies.
    pub(super) fn is_in_force(&self, context: &Context<'_>) -> bool {
        match self.effect {
            Effect::Allow => self.matches(context) == Truth::Yes,
            Effect::Deny => self.matches(context) != Truth::No,
        }
    }

    /// The longest lifetime that this Allow gives, in seconds; none when no certificate is issued.
    pub(super) fn max_ttl(&self, context: &Context<'_>) -> Option<u64> {
        let lifetime = context.settings.lifetime(context.request.action)?;
        Some(
            self.literals
                .ttl
                .unwrap_or(lifetime.default)
                .min(lifetime.max),
        )
    }

    /// All extensions that this Allow gives.
    pub(super) fn max_extensions(&self) -> ExtensionSet {
        ExtensionSet::DEFAULT.union(self.literals.extensions)
    }

    fn reaches(&self, context: &Context<'_>) -> bool {
        match &self.principal {
            PrincipalRule::Attached(to) => {
                let (request, accounts) = (context.request, context.request.resource.accounts());
                // What is in no account is the CA's own. IAM's policies for administrators of an account name all
                // actions of all services: pasted here, they must not make their holders administrators of the CA.
                let named = !accounts.is_empty() || self.actions.names_as_ours(request.action);
                named && to.reaches(request.caller, accounts)
            }
            PrincipalRule::Any(_) | PrincipalRule::Not(_) => true,
        }
    }

    fn names_uid0_user(&self, context: &Context<'_>) -> bool {
        match context.request.asked.os_user {
            Some(user)
                if context.request.action.issues_user_certificate()
                    && context.settings.is_uid0(user) =>
            {
                self.literals
                    .users
                    .iter()
                    .any(|literal| literal == user.as_str())
            }
            _ => true,
        }
    }

    fn gives_lifetime(&self, context: &Context<'_>) -> bool {
        match (
            context.settings.requested_ttl(context.request),
            self.max_ttl(context),
        ) {
            (Some(asked), Some(max)) => (1..=max).contains(&asked),
            _ => true,
        }
    }

    fn gives_extensions(&self, context: &Context<'_>) -> bool {
        let issues = context.request.action.issues_user_certificate();
        !issues
            || context
                .settings
                .requested_extensions(context.request)
                .is_subset_of(self.max_extensions())
    }
}

impl Test<'_> {
    /// Whether it is about something that the caller chose with the request.
    pub(super) fn is_chosen_by_caller(&self) -> bool {
        match self {
            Self::Condition(condition) => condition.key.is_chosen_by_caller(),
            Self::Uid0 | Self::Lifetime | Self::Extensions => true,
            Self::Action | Self::Principal | Self::Scope | Self::Resource => false,
        }
    }
}

impl Literals {
    /// Reads them off the conditions of an Allow.
    pub(super) fn of(conditions: &[Condition]) -> Self {
        let on = |key: Key| {
            conditions
                .iter()
                .filter(move |condition| condition.key == key)
        };
        let extensions = on(Key::Extensions)
            .flat_map(Condition::literals)
            .filter_map(|name| name.parse().ok())
            .collect();
        Self {
            ttl: on(Key::TtlSeconds).filter_map(Condition::upper_bound).min(),
            extensions,
            users: on(Key::OsUser)
                .flat_map(Condition::literals)
                .map(str::to_owned)
                .collect(),
            named: conditions.iter().flat_map(named_kinds).collect(),
        }
    }
}

/// The kinds of callers that a positive condition names by type, or by an ARN of that type.
fn named_kinds(condition: &Condition) -> Vec<NamedOnly> {
    let compares_text = matches!(
        condition.operator.base,
        Base::Text { negated: false, .. } | Base::Arn { negated: false }
    );
    let by_type = |value: &String| match value.as_str() {
        "Account" => Some(NamedOnly::Root),
        "FederatedUser" => Some(NamedOnly::FederatedUser),
        _ => None,
    };
    let by_arn = |value: &String| match value.splitn(6, ':').nth(5) {
        Some("root") => Some(NamedOnly::Root),
        Some(resource) if resource.starts_with("federated-user/") => Some(NamedOnly::FederatedUser),
        _ => None,
    };
    match condition.key {
        Key::PrincipalType if compares_text => {
            condition.written.iter().filter_map(by_type).collect()
        }
        Key::PrincipalArn if compares_text => condition.written.iter().filter_map(by_arn).collect(),
        _ => Vec::new(),
    }
}
