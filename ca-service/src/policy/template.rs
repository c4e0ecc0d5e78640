//! Texts of a policy that may hold wildcards and variables: `Resource` patterns and condition values.
//! A variable's value is always taken literally: a `*` or `:` in a tag, a session name or a claim
//! never becomes a wildcard or a separator.

use std::borrow::Cow;

use super::glob::{self, Symbol};
use super::key::{Key, same_name};
use super::truth::Truth;
use super::value::{Context, Found, Value};

/// How a text of the policy is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// `*` and `?` are wildcards.
    pub(super) wildcards: bool,
    /// `${key}` is a variable: documents of version 2012-10-17 only.
    pub(super) variables: bool,
}

/// A text, compiled once.
#[derive(Clone, Debug)]
pub(super) enum Template {
    Literal(String),
    Pattern(Box<[Symbol]>),
    Variable(Box<[Part]>),
}

/// A piece of a text with variables.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Symbol(Symbol),
    Variable { key: Key, default: Option<String> },
}

/// The text is not one that can be compiled.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    #[error("`${{` without `}}`; write `${{$}}{{` for the characters themselves")]
    Unclosed,
    #[error("`${{{0}}}` is not a variable that is known here")]
    UnknownVariable(String),
    #[error("`${{{0}}}` can have several values and cannot be a variable")]
    SeveralValues(String),
    #[error(
        "the default of `${{{0}}}` must be in single quotes, as in ${{aws:username, 'nobody'}}"
    )]
    Default(String),
    #[error("an ARN has six parts, `arn:partition:service:region:account:resource`")]
    NotAnArn,
    #[error("a variable may only stand after the fifth colon of a resource")]
    VariableTooEarly,
}

impl Template {
    /// Compiles a text.
    pub(super) fn parse(text: &str, reading: Reading) -> Result<Self, TemplateError> {
        parts(text, reading).map(Self::from_parts)
    }

    /// Compiles the six parts of an ARN pattern; each is compared alone.
    pub(super) fn parse_arn(text: &str, reading: Reading) -> Result<[Self; 6], TemplateError> {
        let mut segments: Vec<Vec<Part>> = vec![Vec::new()];
        for part in parts(text, reading)? {
            let colon = matches!(part, Part::Symbol(Symbol::Char(':')));
            if colon && segments.len() < 6 {
                segments.push(Vec::new());
            } else if let Some(last) = segments.last_mut() {
                last.push(part);
            }
        }
        let templates: Vec<_> = segments.into_iter().map(Self::from_parts).collect();
        templates.try_into().map_err(|_| TemplateError::NotAnArn)
    }

    /// Compiles a `Resource` pattern: variables may only stand after the fifth colon.
    pub(super) fn parse_resource(text: &str, reading: Reading) -> Result<Self, TemplateError> {
        let parts = parts(text, reading)?;
        let colons = |part: &Part| matches!(part, Part::Symbol(Symbol::Char(':')));
        let first = parts
            .iter()
            .position(|part| matches!(part, Part::Variable { .. }));
        let before = parts
            .iter()
            .take(first.unwrap_or(0))
            .filter(|part| colons(part))
            .count();
        if first.is_some() && before < 5 {
            return Err(TemplateError::VariableTooEarly);
        }
        Ok(Self::from_parts(parts))
    }

    fn from_parts(parts: Vec<Part>) -> Self {
        let symbols: Option<Vec<Symbol>> = parts.iter().map(Part::symbol).collect();
        let Some(symbols) = symbols else {
            return Self::Variable(parts.into());
        };
        let literal: Option<String> = symbols
            .iter()
            .map(|s| {
                if let Symbol::Char(c) = s {
                    Some(*c)
                } else {
                    None
                }
            })
            .collect();
        literal.map_or_else(|| Self::Pattern(symbols.into()), Self::Literal)
    }

    /// The text itself, when it has neither wildcards nor variables.
    pub(super) fn as_literal(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            _ => None,
        }
    }

    /// The pattern with each variable widened to `*`: what it could match at most.
    pub(super) fn widest(&self) -> Box<[Symbol]> {
        match self {
            Self::Literal(text) => text.chars().map(Symbol::Char).collect(),
            Self::Pattern(symbols) => symbols.clone(),
            Self::Variable(parts) => parts
                .iter()
                .map(|part| part.symbol().unwrap_or(Symbol::Many))
                .collect(),
        }
    }

    /// The keys that its variables read.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        let parts: &[Part] = if let Self::Variable(parts) = self {
            parts
        } else {
            &[]
        };
        parts.iter().filter_map(|part| match part {
            Part::Variable { key, .. } => Some(key),
            Part::Symbol(_) => None,
        })
    }

    /// Whether the text covers the value. `missing` is the answer when a variable has no value.
    pub(super) fn test(&self, value: &Value<'_>, context: &Context<'_>, missing: Truth) -> Truth {
        match (self, value) {
            (Self::Literal(own), Value::Text(text)) => (own == text).into(),
            (Self::Pattern(own), Value::Text(text)) => glob::matches(own, text).into(),
            _ => match self.resolved(context) {
                Resolved::Symbols(symbols) => covers(&symbols, value),
                Resolved::Missing => missing,
                Resolved::Unknowable => Truth::Unknown,
            },
        }
    }

    /// Like `test`, without regard to case.
    pub(super) fn test_ignoring_case(
        &self,
        value: &Value<'_>,
        context: &Context<'_>,
        missing: Truth,
    ) -> Truth {
        let Some(text) = value.text() else {
            return Truth::Unknown;
        };
        match self.resolved(context) {
            Resolved::Symbols(symbols) => same_name(&glob::text(&symbols), &text).into(),
            Resolved::Missing => missing,
            Resolved::Unknowable => Truth::Unknown,
        }
    }

    /// The text as the caller of this request would have to read it; none when a variable has no known value.
    pub(super) fn shown(&self, context: &Context<'_>) -> Option<String> {
        match self.resolved(context) {
            Resolved::Symbols(symbols) => Some(glob::text(&symbols)),
            Resolved::Missing | Resolved::Unknowable => None,
        }
    }

    fn resolved(&self, context: &Context<'_>) -> Resolved<'_> {
        match self {
            Self::Literal(text) => Resolved::Symbols(text.chars().map(Symbol::Char).collect()),
            Self::Pattern(symbols) => Resolved::Symbols(Cow::Borrowed(symbols)),
            Self::Variable(parts) => resolve(parts, context),
        }
    }
}

enum Resolved<'t> {
    Symbols(Cow<'t, [Symbol]>),
    Missing,
    Unknowable,
}

impl Part {
    fn symbol(&self) -> Option<Symbol> {
        match self {
            Self::Symbol(symbol) => Some(*symbol),
            Self::Variable { .. } => None,
        }
    }
}

fn resolve<'t>(parts: &[Part], context: &Context<'_>) -> Resolved<'t> {
    let mut symbols = Vec::with_capacity(parts.len());
    for part in parts {
        let (key, default) = match part {
            Part::Symbol(symbol) => {
                symbols.push(*symbol);
                continue;
            }
            Part::Variable { key, default } => (key, default),
        };
        match (context.find(key), default) {
            (Found::One(value), _) => match value.text() {
                Some(text) => symbols.extend(text.chars().map(Symbol::Char)),
                None => return Resolved::Unknowable,
            },
            (Found::Absent, Some(default)) => symbols.extend(default.chars().map(Symbol::Char)),
            (Found::Absent, None) => return Resolved::Missing,
            (Found::Unknowable | Found::Many(_), _) => return Resolved::Unknowable,
        }
    }
    Resolved::Symbols(symbols.into())
}

fn covers(symbols: &[Symbol], value: &Value<'_>) -> Truth {
    if let Value::RoleArn { prefix, name } = value {
        return glob::matches_unknown_path(symbols, prefix, name);
    }
    value
        .text()
        .map_or(Truth::Unknown, |text| glob::matches(symbols, &text).into())
}

fn parts(text: &str, reading: Reading) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if reading.variables
            && let Some(inside) = rest.strip_prefix("${")
        {
            let (body, after) = variable_body(inside)?;
            parts.push(variable(body)?);
            rest = after;
            continue;
        }
        let symbol = if reading.wildcards {
            Symbol::of(character)
        } else {
            Symbol::Char(character)
        };
        parts.push(Part::Symbol(symbol));
        rest = rest.get(character.len_utf8()..).unwrap_or("");
    }
    Ok(parts)
}

/// Splits at the `}` that ends the variable; one inside the quotes of a default is text.
fn variable_body(inside: &str) -> Result<(&str, &str), TemplateError> {
    let mut quoted = false;
    for (index, character) in inside.char_indices() {
        match character {
            '\'' => quoted = !quoted,
            '}' if !quoted => {
                let (body, rest) = inside.split_at(index);
                return Ok((body, rest.strip_prefix('}').unwrap_or("")));
            }
            _ => {}
        }
    }
    Err(TemplateError::Unclosed)
}

fn variable(body: &str) -> Result<Part, TemplateError> {
    // IAM user guide, "Special characters": these three stand for themselves.
    if let "*" | "?" | "$" = body {
        return Ok(Part::Symbol(Symbol::Char(
            body.chars().next().unwrap_or('$'),
        )));
    }
    let (name, default) = match body.split_once(',') {
        Some((name, default)) => (
            name.trim(),
            Some(quoted(default).ok_or_else(|| TemplateError::Default(body.to_owned()))?),
        ),
        None => (body, None),
    };
    let key = Key::parse(name).ok_or_else(|| TemplateError::UnknownVariable(name.to_owned()))?;
    if key.has_several_values() {
        return Err(TemplateError::SeveralValues(name.to_owned()));
    }
    Ok(Part::Variable { key, default })
}

fn quoted(text: &str) -> Option<String> {
    let inner = text.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    (!inner.contains('\'')).then(|| inner.to_owned())
}
