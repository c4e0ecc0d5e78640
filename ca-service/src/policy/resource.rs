//! The `Resource` and `NotResource` elements: whole-ARN wildcard patterns, case-sensitive.

use super::template::{Reading, Template, TemplateError};
use super::truth::Truth;
use super::value::{Context, Value};

/// Which resources a statement is about.
#[derive(Clone, Debug)]
pub(super) struct ResourceRule {
    patterns: Vec<Template>,
    /// `NotResource`, only with Deny.
    negated: bool,
}

/// The text is not a resource pattern.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ResourceError {
    #[error("`{0}` is not `*` and not an ARN")]
    Form(String),
    #[error("`{pattern}`: {problem}")]
    Template {
        pattern: String,
        problem: TemplateError,
    },
}

impl ResourceRule {
    pub(super) fn compile(
        patterns: &[String],
        negated: bool,
        variables: bool,
    ) -> Result<Self, ResourceError> {
        let patterns = patterns
            .iter()
            .map(|pattern| compile(pattern, variables))
            .collect::<Result<_, _>>()?;
        Ok(Self { patterns, negated })
    }

    /// A pattern may cross the colons of the ARN (IAM user guide, "Resource"). A variable without a value matches nothing.
    pub(super) fn covers(&self, context: &Context<'_>) -> Truth {
        let arn = Value::Text(context.request.resource.arn());
        let named = Truth::any(
            self.patterns
                .iter()
                .map(|pattern| pattern.test(&arn, context, Truth::No)),
        );
        if self.negated { !named } else { named }
    }

    pub(super) fn templates(&self) -> &[Template] {
        &self.patterns
    }

    pub(super) fn is_negated(&self) -> bool {
        self.negated
    }
}

fn compile(pattern: &str, variables: bool) -> Result<Template, ResourceError> {
    if pattern != "*" && !pattern.starts_with("arn:") {
        return Err(ResourceError::Form(pattern.to_owned()));
    }
    let reading = Reading {
        wildcards: true,
        variables,
    };
    Template::parse_resource(pattern, reading).map_err(|problem| ResourceError::Template {
        pattern: pattern.to_owned(),
        problem,
    })
}
