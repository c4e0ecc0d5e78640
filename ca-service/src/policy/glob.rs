//! Wildcard matching as IAM has it: `*` any run of characters, `?` exactly one.
//! Nothing else is special, so that no pattern can be mistaken for a regular expression.
//! A pattern costs at most its length times the value's: only the last `*` is ever retried (C-06).

use super::truth::Truth;

/// One position of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symbol {
    /// This character.
    Char(char),
    /// `?`: one character, never none.
    One,
    /// `*`: any number of characters, also none.
    Many,
}

impl Symbol {
    /// The meaning of one character of a pattern.
    pub(super) fn of(character: char) -> Self {
        match character {
            '*' => Self::Many,
            '?' => Self::One,
            other => Self::Char(other),
        }
    }

    fn accepts(self, character: char) -> bool {
        match self {
            Self::Char(own) => own == character,
            Self::One | Self::Many => true,
        }
    }
}

/// A pattern from its text.
pub(super) fn compile(text: &str) -> Box<[Symbol]> {
    text.chars().map(Symbol::of).collect()
}

/// The text that the pattern was compiled from.
pub(super) fn text(pattern: &[Symbol]) -> String {
    let character = |symbol: &Symbol| match symbol {
        Symbol::Char(character) => *character,
        Symbol::One => '?',
        Symbol::Many => '*',
    };
    pattern.iter().map(character).collect()
}

/// Whether the pattern covers the whole value.
pub(super) fn matches(pattern: &[Symbol], value: &str) -> bool {
    let mut rest = value.chars();
    let mut at = 0_usize;
    // Where to go on after the last `*`, and the text it has not swallowed yet.
    let mut retry = None;
    loop {
        match pattern.get(at) {
            Some(Symbol::Many) => {
                at += 1;
                retry = Some((at, rest.clone()));
                continue;
            }
            Some(symbol) => {
                let mut next = rest.clone();
                if next.next().is_some_and(|c| symbol.accepts(c)) {
                    rest = next;
                    at += 1;
                    continue;
                }
            }
            None if rest.as_str().is_empty() => return true,
            None => {}
        }
        let Some((after_star, unswallowed)) = &mut retry else {
            return false;
        };
        if unswallowed.next().is_none() {
            return false;
        }
        at = *after_star;
        rest = unswallowed.clone();
    }
}

/// Whether the pattern covers `prefix` + an unknown role path + `name`.
///
/// The path is empty or ends in `/`. Yes only when every path would match, or when the pattern has
/// no wildcard and names the role without a path: role names are unique in an account.
pub(super) fn matches_unknown_path(pattern: &[Symbol], prefix: &str, name: &str) -> Truth {
    let after_prefix = States::start(pattern).consume(pattern, prefix);
    if after_prefix.absorbs_any_path(pattern, name) {
        return Truth::Yes;
    }
    let without_path = after_prefix
        .clone()
        .consume(pattern, name)
        .accepted(pattern);
    let literal = pattern.iter().all(|s| matches!(s, Symbol::Char(_)));
    if literal && without_path {
        return Truth::Yes;
    }
    let with_path = after_prefix
        .after_anything(pattern)
        .consume(pattern, "/")
        .consume(pattern, name);
    if without_path || with_path.accepted(pattern) {
        Truth::Unknown
    } else {
        Truth::No
    }
}

/// The positions that a pattern may be at after some text.
#[derive(Clone)]
struct States(Vec<bool>);

impl States {
    fn start(pattern: &[Symbol]) -> Self {
        let mut at = vec![false; pattern.len() + 1];
        if let Some(first) = at.first_mut() {
            *first = true;
        }
        Self(at).skip_stars(pattern)
    }

    /// A `*` may also stand for nothing.
    fn skip_stars(mut self, pattern: &[Symbol]) -> Self {
        let mut carried = false;
        for (index, here) in self.0.iter_mut().enumerate() {
            *here |= carried;
            carried = *here && pattern.get(index) == Some(&Symbol::Many);
        }
        self
    }

    fn consume(mut self, pattern: &[Symbol], text: &str) -> Self {
        for character in text.chars() {
            let mut next = vec![false; self.0.len()];
            for (index, symbol) in pattern.iter().enumerate() {
                if !self.holds(index) || !symbol.accepts(character) {
                    continue;
                }
                let target = if *symbol == Symbol::Many {
                    index
                } else {
                    index + 1
                };
                if let Some(slot) = next.get_mut(target) {
                    *slot = true;
                }
            }
            self = Self(next).skip_stars(pattern);
        }
        self
    }

    /// After text that may be anything, every later position is possible.
    fn after_anything(mut self, pattern: &[Symbol]) -> Self {
        let mut reached = false;
        for here in &mut self.0 {
            reached |= *here;
            *here = reached;
        }
        self.skip_stars(pattern)
    }

    /// Whether a `*` stands where the path would, and what follows it covers the name.
    /// The last such `*` decides: what follows an earlier one contains it.
    fn absorbs_any_path(&self, pattern: &[Symbol], name: &str) -> bool {
        let last = pattern
            .iter()
            .enumerate()
            .rev()
            .find(|(i, s)| **s == Symbol::Many && self.holds(*i));
        last.and_then(|(index, _)| pattern.get(index..))
            .is_some_and(|tail| matches(tail, name))
    }

    fn accepted(&self, pattern: &[Symbol]) -> bool {
        self.holds(pattern.len())
    }

    fn holds(&self, index: usize) -> bool {
        self.0.get(index).copied().unwrap_or(false)
    }
}

/// A position in the form of a name, for the linter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// This character.
    Char(char),
    /// Any run of characters without `:` and `/`, also none.
    Part,
}

/// The form that a text describes; `*` is a part.
pub(super) fn shape(text: &str) -> Box<[Shape]> {
    text.chars()
        .map(|c| {
            if c == '*' {
                Shape::Part
            } else {
                Shape::Char(c)
            }
        })
        .collect()
}

/// Whether the pattern covers some text of that form. Costs the product of the lengths.
pub(super) fn can_match(pattern: &[Symbol], form: &[Shape]) -> bool {
    let width = form.len() + 1;
    let mut seen = vec![false; (pattern.len() + 1) * width];
    let mut open = vec![(0_usize, 0_usize)];
    while let Some((p, f)) = open.pop() {
        match seen.get_mut(p * width + f) {
            Some(slot) if !*slot => *slot = true,
            _ => continue,
        }
        match (pattern.get(p), form.get(f)) {
            (None, None) => return true,
            (Some(Symbol::Many), next) => {
                open.push((p + 1, f));
                open.extend(next.map(|_| (p, f + 1)));
            }
            (own, Some(Shape::Part)) => {
                open.push((p, f + 1));
                open.extend(
                    own.filter(|symbol| fits_in_part(**symbol))
                        .map(|_| (p + 1, f)),
                );
            }
            (Some(symbol), Some(Shape::Char(character))) if symbol.accepts(*character) => {
                open.push((p + 1, f + 1))
            }
            _ => {}
        }
    }
    false
}

fn fits_in_part(symbol: Symbol) -> bool {
    !matches!(symbol, Symbol::Char(':' | '/'))
}

#[cfg(test)]
mod tests;
