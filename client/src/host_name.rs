//! The host as somebody typed it after `ssh`. It becomes part of a command line, a file name and an API
//! query, so its grammar is narrow; what it stands for is decided elsewhere.

use std::fmt;
use std::str::FromStr;

use eic_protocol::instance_id::InstanceId;
use eic_protocol::text::printable;
use serde::{Deserialize, Serialize};

/// An instance id, a `Name` tag, a DNS name or an address: 1 to 253 of `A-Z a-z 0-9 . _ : -`,
/// beginning with a letter, a digit or `:`; or two such parts, `PLACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Longest host: that of a DNS name.
const MAX_LEN: usize = 253;

impl HostName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an instance id, which means just one host.
    #[must_use]
    pub fn is_instance(&self) -> bool {
        self.0.parse::<InstanceId>().is_ok()
    }
}

impl FromStr for HostName {
    type Err = InvalidHostName;

    fn from_str(text: &str) -> Result<Self, InvalidHostName> {
        let (place, name) = text
            .split_once('/')
            .map_or((None, text), |(place, name)| (Some(place), name));
        let sound = place.is_none_or(is_part) && is_part(name);
        if sound && text.len() <= MAX_LEN {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidHostName(printable(text)))
        }
    }
}

/// One part: no `/`, and nothing that could be an option, a hidden file or a folder above.
fn is_part(text: &str) -> bool {
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
    let begins = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric() || b == b':');
    plain && begins
}

impl TryFrom<String> for HostName {
    type Error = InvalidHostName;

    fn try_from(text: String) -> Result<Self, InvalidHostName> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(host: HostName) -> Self {
        host.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not a host.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a host: use an instance id, a name, a DNS name or an address of letters, digits and `._:-`"
)]
pub struct InvalidHostName(String);

/// Whether `text` matches an ssh_config(5) pattern: `*` any run, `?` any one character; case is ignored as ssh does.
#[must_use]
pub fn matches_pattern(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    matches_bytes(pattern.as_bytes(), text.as_bytes())
}

fn matches_bytes(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => matches_bytes(rest, text),
        (Some((b'*', rest)), Some((_, tail))) => {
            matches_bytes(rest, text) || matches_bytes(pattern, tail)
        }
        (Some((b'?', rest)), Some((_, tail))) => matches_bytes(rest, tail),
        (Some((wanted, rest)), Some((found, tail))) => wanted == found && matches_bytes(rest, tail),
        _ => false,
    }
}

/// A pattern for a `Host` line: the characters of a host, and `*` and `?`; `PLACE/*` for names with a place.
///
/// # Errors
/// [`InvalidPattern`] for blanks, quotes, `!`, and a pattern that would match every host.
pub fn check_pattern(pattern: &str) -> Result<(), InvalidPattern> {
    let plain = pattern
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._:-*?/".contains(&b));
    let names_something = pattern.bytes().any(|b| b.is_ascii_alphanumeric());
    // Matching tries every split of each `*`: four are plenty and stay cheap.
    let few_stars = pattern.bytes().filter(|b| *b == b'*').count() <= 4;
    if plain
        && names_something
        && few_stars
        && !pattern.starts_with('-')
        && pattern.len() <= MAX_LEN
    {
        Ok(())
    } else {
        Err(InvalidPattern(printable(pattern)))
    }
}

/// Not a pattern.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a host pattern: use letters, digits, `._:-`, and up to four `*`, e.g. `web-*`"
)]
pub struct InvalidPattern(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_options_commands_or_paths_are_refused() {
        // H-03
        for bad in [
            "",
            "-oProxyCommand=touch /tmp/p",
            "-l",
            "$(id)",
            "`id`",
            "a%rb",
            "x\ny",
            "a b",
            "a;b",
            "a|b",
            "a'b",
            "a\"b",
            "a/b/c",
            "/b",
            "a/",
            "a/-l",
            "a/.b",
            "a/../b",
            "../x",
            ".hidden",
            "a@b",
            "a\\b",
            "a\0",
            "_x",
            "\u{430}",
            &"a".repeat(254),
        ] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_names_and_addresses_are_accepted() {
        for good in [
            "i-0123456789abcdef0",
            "web-1",
            "ip-10-0-0-5.eu-west-1.compute.internal",
            "10.0.0.5",
            "prod/web-1",
            "::1",
            "fe80::1",
        ] {
            assert_eq!(good.parse::<HostName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn patterns_that_would_take_over_other_hosts_are_refused() {
        // H-17
        for bad in [
            "",
            "*",
            "**",
            "*.?",
            "a b",
            "!x",
            "a\nHost *",
            "\"x\"",
            "-x",
            "a,b",
            "a*b*c*d*e*",
        ] {
            assert!(check_pattern(bad).is_err(), "{bad:?}");
        }
        assert!(check_pattern("web-*").is_ok());
    }

    #[test]
    fn patterns_match_as_those_of_ssh() {
        for (pattern, text, expected) in [
            ("web-*", "web-1", true),
            ("web-?", "web-12", false),
            ("*.prod", "a.prod", true),
            ("WEB-*", "web-1", true),
            ("a*b*c", "aXbYd", false),
        ] {
            assert_eq!(matches_pattern(pattern, text), expected, "{pattern} {text}");
        }
    }
}
