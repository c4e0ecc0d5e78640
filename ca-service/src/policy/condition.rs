//! One condition of a statement: an operator, a key and the policy's values, compiled.
//! Present and absent keys follow AWS's documented semantics; what is unknowable stays unknown.

use std::fmt;

use base64::Engine as _;

use super::date::Moment;
use super::key::Key;
use super::network::Cidr;
use super::number::Decimal;
use super::operator::{Base, Comparison, Operator, SetOperator, TextTest};
use super::statement::Effect;
use super::template::{Reading, Template, TemplateError};
use super::truth::Truth;
use super::value::{Context, Found, Value};

/// One key of one operator block.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) operator: Operator,
    pub(super) key: Key,
    operands: Operands,
    /// The values as the policy has them.
    pub(super) written: Vec<String>,
}

#[derive(Clone, Debug)]
enum Operands {
    Text(TextTest, Vec<Template>),
    Arn(Vec<[Template; 6]>),
    Numeric(Comparison, Vec<Decimal>),
    Date(Comparison, Vec<Moment>),
    Bool(Vec<bool>),
    Binary(Vec<Vec<u8>>),
    Address(Vec<Cidr>),
    Null(Vec<bool>),
}

/// The condition's values cannot be compiled for its operator.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConditionError {
    #[error("no value given: an empty list matches nothing and is never \"any\"")]
    Empty,
    #[error("operator `{0}` cannot compare this key")]
    Unsuited(Operator),
    #[error("value `{value}`: {problem}")]
    Template {
        value: String,
        problem: TemplateError,
    },
    #[error("value `{0}` is not a decimal number")]
    Number(String),
    #[error("value `{0}` is not a date such as 2026-11-22T08:00:00Z, and not Unix time")]
    Date(String),
    #[error("value `{0}` is not `true` or `false`")]
    Bool(String),
    #[error("value `{0}` is not standard base64")]
    Binary(String),
    #[error("value {0}")]
    Address(#[from] super::network::InvalidCidr),
}

impl Condition {
    /// Compiles; `variables` says whether the document's version has variables.
    pub(super) fn compile(
        operator: Operator,
        key: Key,
        written: Vec<String>,
        variables: bool,
    ) -> Result<Self, ConditionError> {
        if written.is_empty() {
            return Err(ConditionError::Empty);
        }
        if !operator.suits(&key) {
            return Err(ConditionError::Unsuited(operator));
        }
        let operands = operands(operator, &written, variables)?;
        Ok(Self {
            operator,
            key,
            operands,
            written,
        })
    }

    /// Whether the condition holds for a request, seen from a statement of that effect.
    pub(super) fn test(&self, context: &Context<'_>, effect: Effect) -> Truth {
        let found = context.find(&self.key);
        if let Operands::Null(wanted) = &self.operands {
            return is_null(&found).map_or(Truth::Unknown, |null| wanted.contains(&null).into());
        }
        match found {
            Found::Unknowable => Truth::Unknown,
            Found::Absent => self.when_absent(effect),
            Found::One(Value::Text("")) if self.operator.set.is_some() => self.when_absent(effect),
            Found::One(value) => self.test_value(&value, context, effect),
            Found::Many(values) if values.is_empty() => self.when_absent(effect),
            Found::Many(values) => self.test_values(&values, context, effect),
        }
    }

    /// IAM user guide, "Condition operators": an absent key does not match, and so does match a negated operator.
    /// In an Allow a negated operator needs the key (one of our differences from AWS), unless it says IfExists.
    fn when_absent(&self, effect: Effect) -> Truth {
        let negated_allow = self.operator.is_negated() && effect == Effect::Allow;
        let holds = match self.operator.set {
            _ if self.operator.if_exists => true,
            Some(SetOperator::Any) => false,
            Some(SetOperator::All) => !negated_allow,
            None => self.operator.is_negated() && !negated_allow,
        };
        holds.into()
    }

    fn test_values(&self, values: &[Value<'_>], context: &Context<'_>, effect: Effect) -> Truth {
        let answers = values
            .iter()
            .map(|value| self.test_value(value, context, effect));
        match self.operator.set {
            Some(SetOperator::Any) => Truth::any(answers),
            Some(SetOperator::All) => Truth::all(answers),
            // AWS leaves this open. All values agree, or the condition decides nothing.
            None => unanimous(answers),
        }
    }

    fn test_value(&self, value: &Value<'_>, context: &Context<'_>, effect: Effect) -> Truth {
        let negated = self.operator.is_negated();
        // A variable without a value matches nothing; a negated Allow must not gain from that.
        let missing = Truth::from(negated && effect == Effect::Allow);
        let matched = self.matches_any(value, context, missing);
        if negated { !matched } else { matched }
    }

    fn matches_any(&self, value: &Value<'_>, context: &Context<'_>, missing: Truth) -> Truth {
        match &self.operands {
            Operands::Text(TextTest::EqualsIgnoreCase, own) => Truth::any(
                own.iter()
                    .map(|t| t.test_ignoring_case(value, context, missing)),
            ),
            Operands::Text(_, own) => {
                Truth::any(own.iter().map(|t| t.test(value, context, missing)))
            }
            Operands::Arn(own) => {
                Truth::any(own.iter().map(|arn| test_arn(arn, value, context, missing)))
            }
            Operands::Numeric(comparison, own) => typed(decimal(value), |number| {
                own.iter().any(|bound| comparison.holds(&number, bound))
            }),
            Operands::Date(comparison, own) => typed(moment(value), |time| {
                own.iter().any(|bound| comparison.holds(&time, bound))
            }),
            Operands::Bool(own) => typed(boolean(value), |answer| own.contains(&answer)),
            Operands::Binary(own) => typed(value.text(), |text| {
                own.iter().any(|bytes| bytes == text.as_bytes())
            }),
            Operands::Address(own) => network(value).map_or(Truth::Unknown, |net| {
                Truth::any(own.iter().map(|range| range.covers(&net)))
            }),
            Operands::Null(_) => Truth::No,
        }
    }

    /// The values that are compared as plain text: no wildcard, no variable, not negated.
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        let templates: &[Template] = match &self.operands {
            Operands::Text(TextTest::Equals | TextTest::Like, own)
                if !self.operator.is_negated() =>
            {
                own
            }
            _ => &[],
        };
        templates.iter().filter_map(Template::as_literal)
    }

    /// The largest whole number that satisfies the condition, when its values bound it from above.
    pub(super) fn upper_bound(&self) -> Option<u64> {
        let Operands::Numeric(comparison, own) = &self.operands else {
            return None;
        };
        let bound = |limit: &Decimal| match comparison {
            Comparison::Equals | Comparison::LessEquals => Some(limit.floor_seconds()),
            Comparison::Less if limit.is_whole() => Some(limit.floor_seconds().saturating_sub(1)),
            Comparison::Less => Some(limit.floor_seconds()),
            _ => None,
        };
        own.iter().filter_map(bound).max()
    }

    /// The keys that decide this condition: its own, and those of its variables.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.key).chain(self.templates().into_iter().flat_map(Template::keys))
    }

    /// The texts that its values are compared as.
    pub(super) fn templates(&self) -> Vec<&Template> {
        match &self.operands {
            Operands::Text(_, own) => own.iter().collect(),
            Operands::Arn(own) => own.iter().flatten().collect(),
            _ => Vec::new(),
        }
    }

    /// The ARN patterns it compares, part by part.
    pub(super) fn arns(&self) -> &[[Template; 6]] {
        match &self.operands {
            Operands::Arn(own) => own,
            _ => &[],
        }
    }

    /// The ranges it compares with.
    pub(super) fn ranges(&self) -> &[Cidr] {
        match &self.operands {
            Operands::Address(own) => own,
            _ => &[],
        }
    }

    /// The values as this caller would have to satisfy them: variables filled in, hopeless values left out.
    pub(super) fn shown(&self, context: &Context<'_>) -> Vec<String> {
        match &self.operands {
            Operands::Text(_, own) => own
                .iter()
                .filter_map(|template| template.shown(context))
                .collect(),
            _ => self.written.clone(),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<_> = self
            .written
            .iter()
            .map(|value| format!("`{value}`"))
            .collect();
        write!(f, "{} {} {}", self.key, self.operator, values.join(" or "))
    }
}

fn operands(
    operator: Operator,
    written: &[String],
    variables: bool,
) -> Result<Operands, ConditionError> {
    let text = |wildcards| Reading {
        wildcards,
        variables,
    };
    Ok(match operator.base {
        Base::Text { test, .. } => {
            let reading = text(test == TextTest::Like);
            Operands::Text(
                test,
                each_template(written, |value| Template::parse(value, reading))?,
            )
        }
        Base::Arn { .. } => Operands::Arn(each_template(written, |value| {
            Template::parse_arn(value, text(true))
        })?),
        Base::Numeric(comparison) => Operands::Numeric(
            comparison,
            each(written, Decimal::parse, ConditionError::Number)?,
        ),
        Base::Date(comparison) => Operands::Date(
            comparison,
            each(written, Moment::parse, ConditionError::Date)?,
        ),
        Base::Bool => Operands::Bool(each(written, parse_bool, ConditionError::Bool)?),
        Base::Null => Operands::Null(each(written, parse_bool, ConditionError::Bool)?),
        Base::Binary => Operands::Binary(each(written, parse_binary, ConditionError::Binary)?),
        Base::Address { .. } => {
            let ranges: Result<_, _> = written.iter().map(|value| value.parse()).collect();
            Operands::Address(ranges?)
        }
    })
}

fn each<T>(
    written: &[String],
    parse: impl Fn(&str) -> Option<T>,
    problem: impl Fn(String) -> ConditionError,
) -> Result<Vec<T>, ConditionError> {
    written
        .iter()
        .map(|value| parse(value).ok_or_else(|| problem(value.clone())))
        .collect()
}

fn each_template<T>(
    written: &[String],
    parse: impl Fn(&str) -> Result<T, TemplateError>,
) -> Result<Vec<T>, ConditionError> {
    let named = |value: &String| {
        parse(value).map_err(|problem| ConditionError::Template {
            value: value.clone(),
            problem,
        })
    };
    written.iter().map(named).collect()
}

fn parse_bool(text: &str) -> Option<bool> {
    // Policies in the field say "True" too.
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn parse_binary(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// Each of the six parts alone (IAM user guide, "ARN condition operators"). What is no ARN decides nothing.
fn test_arn(
    pattern: &[Template; 6],
    value: &Value<'_>,
    context: &Context<'_>,
    missing: Truth,
) -> Truth {
    let (whole, role_name) = match *value {
        Value::Text(text) => (text, None),
        Value::RoleArn { prefix, name } => (prefix, Some(name)),
        _ => return Truth::Unknown,
    };
    let segments: Vec<&str> = whole.splitn(6, ':').collect();
    if segments.len() != 6 || segments.first() != Some(&"arn") {
        return Truth::Unknown;
    }
    let last = segments.len().saturating_sub(1);
    Truth::all(
        pattern
            .iter()
            .zip(segments)
            .enumerate()
            .map(|(index, (own, segment))| {
                let value = match role_name {
                    Some(name) if index == last => Value::RoleArn {
                        prefix: segment,
                        name,
                    },
                    _ => Value::Text(segment),
                };
                own.test(&value, context, missing)
            }),
    )
}

/// `true`: the key is not there. An empty text may be either in AWS, so it decides nothing.
fn is_null(found: &Found<'_>) -> Option<bool> {
    match found {
        Found::Absent => Some(true),
        Found::Unknowable | Found::One(Value::Text("")) => None,
        Found::One(_) => Some(false),
        Found::Many(values) => Some(values.is_empty()),
    }
}

fn unanimous(answers: impl Iterator<Item = Truth>) -> Truth {
    answers
        .reduce(|all, answer| if all == answer { all } else { Truth::Unknown })
        .unwrap_or(Truth::Unknown)
}

/// A value that is not of the operator's type decides nothing: no Allow gains from it, no Deny is lost by it.
fn typed<T>(value: Option<T>, test: impl Fn(T) -> bool) -> Truth {
    value.map_or(Truth::Unknown, |value| test(value).into())
}

fn decimal(value: &Value<'_>) -> Option<Decimal> {
    match *value {
        Value::Number(number) | Value::Epoch(number) => Some(number.into()),
        Value::Text(text) => Decimal::parse(text),
        _ => None,
    }
}

fn moment(value: &Value<'_>) -> Option<Moment> {
    match *value {
        Value::Time(seconds) | Value::Epoch(seconds) => Some(seconds.into()),
        Value::Text(text) => Moment::parse(text),
        _ => None,
    }
}

fn boolean(value: &Value<'_>) -> Option<bool> {
    match *value {
        Value::Bool(answer) => Some(answer),
        Value::Text(text) => parse_bool(text),
        _ => None,
    }
}

fn network(value: &Value<'_>) -> Option<Cidr> {
    match *value {
        Value::Address(address) => Some(Cidr::host(address)),
        Value::Network(network) => Some(network),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}
