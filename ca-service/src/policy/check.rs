//! What an administrator should know about a policy that loads: findings, no refusals.
//! `eic-ca policy check` prints them and fails on errors.

use std::fmt;

use super::condition::Condition;
use super::glob;
use super::key::{Key, Proof};
use super::operator::{Base, SetOperator, TextTest};
use super::principal::{Principal, PrincipalRule, has_open_star};
use super::set::PolicySet;
use super::statement::{Effect, Statement, StatementId};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// Probably not what was meant.
    Warning,
    /// Opens more than it says, or can never work.
    Error,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The statement, unless it is about all of them.
    pub statement: Option<StatementId>,
    /// What was found, and what to do.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        match &self.statement {
            Some(statement) => write!(f, "{severity}: {statement}: {}", self.text),
            None => write!(f, "{severity}: {}", self.text),
        }
    }
}

/// Looks a policy over. `proofs` are the ways in which callers of this service can prove who they are;
/// `knows_role_paths` says whether iam:GetRole is asked.
#[must_use]
pub fn check(set: &PolicySet, proofs: &[Proof], knows_role_paths: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for statement in set.statements() {
        let mut checker = Checker {
            statement,
            findings: &mut findings,
        };
        checker.unknowable_keys(proofs);
        if !knows_role_paths {
            checker.role_paths();
        }
        checker.approvals();
        checker.principals();
        checker.resources();
        checker.conditions(set);
    }
    findings.extend(set.unread().iter().map(|unread| Finding {
        severity: Severity::Note,
        statement: Some(unread.statement.clone()),
        text: match unread.reason {
            super::document::UnreadReason::Action => {
                "left unread: none of its actions is decided here".to_owned()
            }
            super::document::UnreadReason::Principal => {
                "left unread: none of its principals can call this service".to_owned()
            }
        },
    }));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

struct Checker<'c> {
    statement: &'c Statement,
    findings: &'c mut Vec<Finding>,
}

impl Checker<'_> {
    fn report(&mut self, severity: Severity, text: String) {
        self.findings.push(Finding {
            severity,
            statement: Some(self.statement.id.clone()),
            text,
        });
    }

    fn unknowable_keys(&mut self, proofs: &[Proof]) {
        let mut seen: Vec<&Key> = Vec::new();
        let in_resource = self
            .statement
            .resource
            .templates()
            .iter()
            .flat_map(|template| template.keys());
        for key in self
            .statement
            .conditions
            .iter()
            .flat_map(Condition::keys)
            .chain(in_resource)
        {
            let hidden: Vec<_> = proofs
                .iter()
                .filter(|proof| !key.is_carried_by(**proof))
                .map(ToString::to_string)
                .collect();
            if hidden.is_empty() || seen.contains(&key) {
                continue;
            }
            seen.push(key);
            let text = format!(
                "`{key}` cannot be known from {}: there {}",
                hidden.join(", "),
                self.consequence()
            );
            self.report(Severity::Warning, text);
        }
    }

    fn consequence(&self) -> &'static str {
        match self.statement.effect {
            Effect::Allow => "this Allow never applies",
            Effect::Deny => "this Deny applies whenever the rest of it matches",
        }
    }

    /// No request is approved by anybody: the key is absent from every one.
    fn approvals(&mut self) {
        let mut conditions = self.statement.conditions.iter();
        if conditions.any(|own| own.key == Key::ApprovedBy) {
            let text = "no request carries `eic:ApprovedBy`: this service has no approvals; name people or groups who may, and demand `eic:Reason`";
            self.report(Severity::Warning, text.to_owned());
        }
    }

    fn role_paths(&mut self) {
        let in_principal = match &self.statement.principal {
            PrincipalRule::Any(list) | PrincipalRule::Not(list) => list
                .iter()
                .any(|own| matches!(own, Principal::Role { path, .. } if path != "/")),
            PrincipalRule::Attached(to) => to.turns_on_role_path(),
        };
        let conditions = self.statement.conditions.iter();
        let in_condition = conditions
            .filter(|own| own.key == Key::PrincipalArn)
            .any(|own| own.written.iter().any(|v| turns_on_role_path(v)));
        if in_principal || in_condition {
            let text = format!(
                "it turns on a role's path, which a signed GetCallerIdentity does not show: {}; name the role by its \
                 unique id, or let the service call iam:GetRole",
                self.consequence()
            );
            self.report(Severity::Warning, text);
        }
    }

    fn principals(&mut self) {
        let PrincipalRule::Any(list) = &self.statement.principal else {
            return;
        };
        let allow = self.statement.effect == Effect::Allow;
        let narrowed = self
            .statement
            .conditions
            .iter()
            .any(|own| own.key.identifies_caller() && !own.operator.is_negated());
        if allow && list.contains(&Principal::Everyone) && !narrowed {
            let text = "it allows every caller that can prove any identity; name principals, or add a condition on one";
            self.report(Severity::Warning, text.to_owned());
        }
        let session = |own: &Principal| matches!(own, Principal::Exact(arn) if arn.contains(":assumed-role/"));
        if allow && list.iter().any(session) {
            let text = "it names a role session: who assumes the role chooses that name, unless a trust policy pins it; \
                        add `Bool eic:NameAttested true`";
            self.report(Severity::Warning, text.to_owned());
        }
    }

    /// A pattern that no ARN of ours fits is a slip that makes the statement empty.
    fn resources(&mut self) {
        if self.statement.resource.is_negated() {
            return;
        }
        let ours = OUR_RESOURCES.map(glob::shape);
        let fits = self.statement.resource.templates().iter().any(|template| {
            let widest = template.widest();
            ours.iter().any(|own| glob::can_match(&widest, own))
        });
        if !fits {
            let text =
                "its Resource fits no instance, endpoint, fleet or service ARN: it never applies"
                    .to_owned();
            self.report(Severity::Warning, text);
        }
    }

    fn conditions(&mut self, set: &PolicySet) {
        for condition in &self.statement.conditions {
            self.wildcard_account(condition);
            self.open_subject(condition);
            if self.statement.effect == Effect::Allow {
                self.weak_in_allow(condition);
            }
            if condition
                .ranges()
                .iter()
                .any(super::network::Cidr::is_everything)
            {
                self.report(
                    Severity::Note,
                    format!("`{}` takes every address of its family", condition.key),
                );
            }
        }
        let (ttl, longest) = (
            self.statement.literals.ttl,
            set.settings.target.max.max(set.settings.fleet.max),
        );
        if let Some(ttl) = ttl.filter(|ttl| *ttl > longest) {
            let text = format!(
                "it names a lifetime of {ttl} s; no certificate lives longer than {longest} s"
            );
            self.report(Severity::Note, text);
        }
    }

    /// C-06: a role of that name in anyone's account would do.
    fn wildcard_account(&mut self, condition: &Condition) {
        if condition.key != Key::PrincipalArn || condition.operator.is_negated() {
            return;
        }
        let open_arn = condition
            .arns()
            .iter()
            .any(|[_, _, _, _, account, _]| account.as_literal().is_none());
        let is_text = matches!(condition.operator.base, Base::Text { .. });
        let open_text = is_text
            && condition
                .written
                .iter()
                .any(|value| has_open_account(value));
        if open_arn || open_text {
            let text = format!(
                "`{condition}` leaves the account open: anyone can have such a role in an account of his own"
            );
            self.report(Severity::Error, text);
        }
    }

    /// B-18, B-19: repositories and environments whose names only begin like the one that was meant.
    fn open_subject(&mut self, condition: &Condition) {
        let is_subject =
            matches!(&condition.key, Key::Claim(claim) if claim.eq_ignore_ascii_case("sub"));
        let like = matches!(
            condition.operator.base,
            Base::Text {
                test: TextTest::Like,
                negated: false
            }
        );
        if !is_subject || !like || self.statement.effect == Effect::Deny {
            return;
        }
        for value in &condition.written {
            if has_open_star(value) {
                let text = format!(
                    "`{value}` has a `*` that does not follow `:` or `/`: it also covers every longer name"
                );
                self.report(Severity::Error, text);
            } else if value.starts_with("repo:") && value.ends_with(":*") {
                let text = format!(
                    "`{value}` also covers pull requests from forks; name a ref or an environment"
                );
                self.report(Severity::Warning, text);
            }
        }
    }

    fn weak_in_allow(&mut self, condition: &Condition) {
        let Condition { operator, key, .. } = condition;
        if operator.set == Some(SetOperator::All) && !self.demands_presence(key) {
            let text = format!(
                "`{key} {operator}` also holds when the key is absent; add `Null {key} false`"
            );
            self.report(Severity::Warning, text);
        }
        if operator.is_negated() && !operator.if_exists {
            let text = format!(
                "`{key} {operator}`: unlike in AWS, an Allow with a negated operator needs the key to be there"
            );
            self.report(Severity::Note, text);
        }
        let user_pattern = *key == Key::OsUser
            && condition
                .templates()
                .iter()
                .any(|template| template.as_literal().is_none());
        if user_pattern && !operator.is_negated() {
            let text = "its pattern of users never covers `root` or another name with uid 0: these need a literal";
            self.report(Severity::Note, text.to_owned());
        }
    }

    fn demands_presence(&self, key: &Key) -> bool {
        // Always there in a request for a certificate.
        let always = matches!(key, Key::Extensions | Key::TtlSeconds);
        let null = self
            .statement
            .conditions
            .iter()
            .any(|own| own.key == *key && own.operator.base == Base::Null);
        always || null
    }
}

/// `*` is any text without `:` and `/`.
const OUR_RESOURCES: [&str; 5] = [
    "arn:*:ec2:*:*:instance/*",
    "arn:*:ssm:*:*:managed-instance/mi-*",
    "arn:*:ec2:*:*:instance-connect-endpoint/*",
    "arn:*:eic:::fleet/*",
    "arn:*:eic:::service",
];

/// Whether an ARN of a role has a path, or a wildcard that a path could satisfy.
pub(super) fn turns_on_role_path(arn: &str) -> bool {
    let Some(name) = arn
        .splitn(6, ':')
        .nth(5)
        .and_then(|resource| resource.strip_prefix("role/"))
    else {
        return false;
    };
    name.contains('/') || (name.contains(['*', '?']) && !name.starts_with('*'))
}

fn has_open_account(arn: &str) -> bool {
    let mut parts = arn.splitn(6, ':');
    match (parts.nth(4), parts.next()) {
        (Some(account), Some(_)) => account.contains(['*', '?', '$']),
        // Fewer parts than an ARN has: a wildcard stands for the account too.
        _ => arn.contains(['*', '?']),
    }
}

#[cfg(test)]
mod tests;
