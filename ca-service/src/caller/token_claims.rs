//! A token's claims as policy sees them, small enough to travel in a grant: text, numbers, booleans and lists of
//! them. What is anything else, or was not kept, is hidden: policy treats it as unknowable, never as absent.

use std::collections::{BTreeMap, BTreeSet};

use eic_protocol::wire::{Reader, Writer};

use crate::policy::json::Json;
use crate::policy::{Claims, HiddenClaims};

/// Most bytes of all claims: a grant has to fit in a header. Real tokens of GitHub have some 1,400.
pub const MAX_CLAIMS: usize = 1_800;
/// What each name and each value takes beside its text.
const EACH: usize = 4;
/// What says who issued the token, for whom and when: judged before, and no business of policy. `iss` and `sub`
/// reach policy as the caller's own names.
const RESERVED: [&str; 8] = ["iss", "sub", "iat", "exp", "nbf", "jti", "nonce", "at_hash"];

/// The claims of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenClaims {
    told: Claims,
    hidden: BTreeSet<String>,
    /// Only some were kept: all others are hidden.
    partial: bool,
}

/// The claims do not fit into a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the token's claims take more than {MAX_CLAIMS} bytes; have the CA's operator name those that policy uses: `claims = […]` of the issuer"
)]
pub struct TooManyClaims;

impl TokenClaims {
    /// Of a token's members; with `kept`: only these.
    ///
    /// # Errors
    /// [`TooManyClaims`]
    pub(crate) fn of(
        members: &[(String, Json)],
        kept: Option<&BTreeSet<String>>,
    ) -> Result<Self, TooManyClaims> {
        let mut claims = Self {
            partial: kept.is_some(),
            ..Self::default()
        };
        // A claim that is kept and that this token does not have is absent, not hidden.
        for name in kept.into_iter().flatten() {
            claims.told.insert(name.clone(), Vec::new());
        }
        let wanted = |name: &str| kept.is_none_or(|kept| kept.contains(name));
        let unverified = !is_true(members, "email_verified");
        for (name, value) in members.iter().filter(|(name, _)| wanted(name)) {
            match values(value) {
                // Anybody can write any address into a profile (threats B-25).
                Some(_) if name == "email" && unverified => claims.hide(name),
                Some(values) if !RESERVED.contains(&name.as_str()) => {
                    claims.told.insert(name.clone(), values);
                }
                _ => claims.hide(name),
            }
        }
        (claims.size() <= MAX_CLAIMS)
            .then_some(claims)
            .ok_or(TooManyClaims)
    }

    fn hide(&mut self, name: &str) {
        self.told.remove(name);
        self.hidden.insert(name.to_owned());
    }

    fn size(&self) -> usize {
        let hidden = self.hidden.iter().map(|name| EACH + name.len());
        let told = self.told.iter().map(|(name, values)| {
            let values: usize = values.iter().map(|value| EACH + value.len()).sum();
            2 * EACH + name.len() + values
        });
        hidden.chain(told).sum()
    }

    /// The claims that policy can read; an empty list is an absent claim.
    #[must_use]
    pub fn told(&self) -> &Claims {
        &self.told
    }

    /// The e-mail address that the issuer verified, where policy can read it too.
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        match self.told.get("email")?.as_slice() {
            [address] if !address.is_empty() => Some(address),
            _ => None,
        }
    }

    /// The claims that it cannot.
    #[must_use]
    pub fn hidden(&self) -> HiddenClaims {
        if self.partial {
            HiddenClaims::Others
        } else if self.hidden.is_empty() {
            HiddenClaims::None
        } else {
            HiddenClaims::These(self.hidden.clone())
        }
    }

    /// For a grant.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.byte(u8::from(self.partial));
        let mut hidden = Writer::new();
        for name in &self.hidden {
            hidden.string(name.as_bytes());
        }
        w.string(hidden.as_slice());
        let mut told = Writer::new();
        for (name, values) in &self.told {
            let mut list = Writer::new();
            for value in values {
                list.string(value.as_bytes());
            }
            told.string(name.as_bytes()).string(list.as_slice());
        }
        w.string(told.as_slice());
    }

    /// From a grant.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let partial = reader.byte().ok()? == 1;
        let hidden = texts(reader.string().ok()?)?.into_iter().collect();
        let mut members = Reader::new(reader.string().ok()?);
        let mut told = BTreeMap::new();
        while !members.is_at_end() {
            let name = std::str::from_utf8(members.string().ok()?).ok()?;
            told.insert(name.to_owned(), texts(members.string().ok()?)?);
        }
        Some(Self {
            told,
            hidden,
            partial,
        })
    }
}

fn texts(bytes: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader::new(bytes);
    let mut texts = Vec::new();
    while !reader.is_at_end() {
        texts.push(std::str::from_utf8(reader.string().ok()?).ok()?.to_owned());
    }
    Some(texts)
}

fn is_true(members: &[(String, Json)], name: &str) -> bool {
    let found = members.iter().find(|(member, _)| member == name);
    matches!(found, Some((_, Json::Bool(true))))
}

/// What policy can compare: printable ASCII, so that no look-alike and no line end is ever equal to anything.
fn values(value: &Json) -> Option<Vec<String>> {
    match value {
        Json::Null => Some(Vec::new()),
        Json::List(items) => items.iter().map(scalar).collect(),
        other => Some(vec![scalar(other)?]),
    }
}

fn scalar(value: &Json) -> Option<String> {
    match value {
        Json::Text(text) => {
            let plain = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
            plain.then(|| text.clone())
        }
        Json::Number(number) => Some(number.clone()),
        Json::Bool(value) => Some(value.to_string()),
        Json::Null | Json::List(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::json;

    fn claims(text: &str, kept: Option<&[&str]>) -> Result<TokenClaims, TooManyClaims> {
        let Json::Object(members) = json::parse(text.as_bytes()).unwrap() else {
            panic!()
        };
        let kept: Option<BTreeSet<String>> =
            kept.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        TokenClaims::of(&members, kept.as_ref())
    }

    #[test]
    fn what_policy_cannot_compare_is_hidden_and_not_absent() {
        // B-25
        let read = claims(
            r#"{"iss":"x","jti":"1","kubernetes.io":{"namespace":"a"},"mixed":[1,{}],"name":"\u0430lice","groups":"admins","n":7,"b":true,"none":null}"#,
            None,
        );
        let read = read.unwrap();
        let HiddenClaims::These(hidden) = read.hidden() else {
            panic!()
        };
        for name in ["iss", "jti", "kubernetes.io", "mixed", "name"] {
            assert!(
                hidden.contains(name) && !read.told().contains_key(name),
                "{name}"
            );
        }
        assert_eq!(read.told()["groups"], ["admins"]);
        assert_eq!(
            (&read.told()["n"], &read.told()["b"]),
            (&vec!["7".to_owned()], &vec!["true".to_owned()])
        );
        assert!(read.told()["none"].is_empty());
    }

    #[test]
    fn an_address_that_nobody_verified_is_hidden() {
        // B-25
        for text in [
            r#"{"email":"root@acme.example"}"#,
            r#"{"email":"root@acme.example","email_verified":false}"#,
            r#"{"email":"root@acme.example","email_verified":"true"}"#,
        ] {
            assert!(
                !claims(text, None).unwrap().told().contains_key("email"),
                "{text}"
            );
        }
        let verified = claims(r#"{"email":"a@acme.example","email_verified":true}"#, None);
        assert_eq!(verified.unwrap().told()["email"], ["a@acme.example"]);
    }

    #[test]
    fn claims_that_are_not_kept_are_hidden_and_kept_ones_may_be_absent() {
        let read = claims(r#"{"a":"1","b":"2"}"#, Some(&["a", "c"])).unwrap();
        assert_eq!(read.hidden(), HiddenClaims::Others);
        assert_eq!(read.told()["a"], ["1"]);
        assert!(read.told()["c"].is_empty() && !read.told().contains_key("b"));
    }

    #[test]
    fn claims_beyond_what_a_grant_holds_are_refused_unless_some_are_named() {
        let text = format!(r#"{{"a":"1","long":"{}"}}"#, "x".repeat(MAX_CLAIMS));
        assert_eq!(claims(&text, None), Err(TooManyClaims));
        assert!(claims(&text, Some(&["a"])).is_ok());
    }

    #[test]
    fn a_grant_gives_back_what_was_put_in() {
        for kept in [None, Some(["a", "z"].as_slice())] {
            let read = claims(r#"{"a":["1","2"],"b":{},"c":""}"#, kept).unwrap();
            let mut w = Writer::new();
            read.write(&mut w);
            let bytes = w.into_bytes();
            let mut reader = Reader::new(&bytes);
            assert_eq!(TokenClaims::read(&mut reader).as_ref(), Some(&read));
            assert!(reader.is_at_end());
            assert!(TokenClaims::read(&mut Reader::new(&bytes[..bytes.len() - 1])).is_none());
        }
    }
}
