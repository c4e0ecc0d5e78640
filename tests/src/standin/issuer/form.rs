//! The parameters of a query or of a form: each once (RFC 6749 section 3.1), decoded.

use std::collections::BTreeMap;

use axum::extract::Query;
use http::Uri;

/// Parameters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    /// None where the text is no form, or has a parameter twice.
    pub(super) fn parse(text: &str) -> Option<Form> {
        let uri: Uri = format!("/?{text}").parse().ok()?;
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&uri).ok()?;
        let mut form = BTreeMap::new();
        for (name, value) in pairs {
            if form.insert(name, value).is_some() {
                return None;
            }
        }
        Some(Form(form))
    }

    /// A parameter; empty where it is missing.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Whether it is there at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether `scope` names this one.
    pub(super) fn has_scope(&self, scope: &str) -> bool {
        self.get("scope").split(' ').any(|word| word == scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_comes_twice_makes_the_form_none() {
        assert_eq!(Form::parse("code=a&c%6Fde=b"), None);
        let form = Form::parse("scope=openid%20email&state=a%2Bb").unwrap();
        assert_eq!(form.get("state"), "a+b");
        assert!(form.has_scope("email") && !form.has_scope("mail"));
        assert!(!form.has("code") && form.get("code").is_empty());
    }
}
