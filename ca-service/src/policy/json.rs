//! Strict JSON: members keep their order, a repeated member is refused at any level,
//! and depth, size and length are bounded before anything is interpreted.
//! Not a general JSON type: it knows only what a policy document may hold. The claims of tokens are read by it too.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Largest policy file in bytes (threat C-16); IAM's own limit is 6,144 characters for a managed policy.
pub(super) const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Deepest nesting; a complete policy document needs six levels.
const MAX_DEPTH: usize = 12;
/// Most values in one file: 10,000 statements with about 40 values each.
const MAX_NODES: usize = 400_000;
/// Longest string value in bytes; the longest ARN that AWS documents has 2,048 characters.
const MAX_TEXT_BYTES: usize = 2048;
/// Longest member name in bytes: `aws:PrincipalTag/` and a tag key of 128 characters.
const MAX_NAME_BYTES: usize = 1024;

/// One JSON value of a policy document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// A number in its shortest decimal form.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Parses one document; nothing may follow it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Json, JsonError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(JsonError::TooLarge);
    }
    let nodes = Cell::new(0);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Bounded {
        depth: 0,
        nodes: &nodes,
    }
    .deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// The file is not the JSON of a policy document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonError {
    #[error("the file is larger than 1 MiB; split it")]
    TooLarge,
    #[error("not strict JSON: {0}")]
    Syntax(#[from] serde_json::Error),
}

#[derive(Clone, Copy)]
struct Bounded<'n> {
    depth: usize,
    nodes: &'n Cell<usize>,
}

impl Bounded<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.saturating_add(1);
        if depth > MAX_DEPTH {
            return Err(E::custom(format_args!(
                "nested deeper than {MAX_DEPTH} levels"
            )));
        }
        Ok(Self { depth, ..self })
    }

    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        self.nodes.set(self.nodes.get().saturating_add(1));
        if self.nodes.get() > MAX_NODES {
            return Err(E::custom(format_args!("more than {MAX_NODES} values")));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Json, E> {
        checked_text(value).map(Json::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut object = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            let name = checked_name::<A::Error>(name)?;
            // C-04: a reader that takes the first and one that takes the last would disagree.
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!(
                    "member `{name}` is there twice"
                )));
            }
            object.push((name, members.next_value_seed(inner)?));
        }
        Ok(Json::Object(object))
    }
}

fn checked_text<E: serde::de::Error>(text: &str) -> Result<String, E> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(E::custom(format_args!(
            "a value is longer than {MAX_TEXT_BYTES} bytes"
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(E::custom("a value holds a control character"));
    }
    Ok(text.to_owned())
}

fn checked_name<E: serde::de::Error>(name: String) -> Result<String, E> {
    if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(E::custom(
            "a member's name is too long or holds a control character",
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_repeated_member_is_refused_at_any_level() {
        // C-04
        assert!(refusal(r#"{"a":1,"a":1}"#).contains("`a` is there twice"));
        assert!(refusal(r#"{"x":[{"y":{"b":1,"c":2,"b":3}}]}"#).contains("`b` is there twice"));
        assert!(refusal(r#"{"a":1,"\u0061":2}"#).contains("`a` is there twice"));
    }

    #[test]
    fn depth_size_and_length_are_bounded() {
        // C-16
        assert!(refusal(&"[".repeat(100_000)).contains("nested deeper"));
        assert!(refusal(&format!("[{}]", "1,".repeat(MAX_NODES + 1))).contains("more than"));
        assert!(
            refusal(&format!("\"{}\"", "x".repeat(MAX_TEXT_BYTES + 1))).contains("longer than")
        );
        assert!(
            refusal(&format!("{{\"{}\":1}}", "x".repeat(MAX_NAME_BYTES + 1))).contains("too long")
        );
        assert!(refusal(&" ".repeat(MAX_FILE_BYTES + 1)).contains("larger than 1 MiB"));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in [
            "",
            "{",
            "{}x",
            "{} {}",
            "{'a':1}",
            "{\"a\":1,}",
            "\u{feff}{}",
            "[1 2]",
            "nul",
            "NaN",
            "1e999",
            "\"\\u0000\"",
            "\"\\ud800\"",
            "{\"a\\n\":1}",
            "// c\n{}",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn members_keep_their_order_and_numbers_their_value() {
        let object = parse(br#"{"b":1,"a":[true,null,-2,300.5]}"#).unwrap();
        let list = Json::List(vec![
            Json::Bool(true),
            Json::Null,
            Json::Number("-2".into()),
            Json::Number("300.5".into()),
        ]);
        assert_eq!(
            object,
            Json::Object(vec![
                ("b".into(), Json::Number("1".into())),
                ("a".into(), list)
            ])
        );
    }
}
