//! A certificate's key id: one writer, one parser.
//! sshd logs it; with `-E` or `-e` it even logs line ends raw, so nothing a caller chose gets in unescaped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::request_id::RequestId;
use crate::text::printable;

/// Longest key id in bytes.
pub const MAX_LEN: usize = 256;
/// Longest escaped caller within it; the rest is `eic:`, `:` and 32 hex digits.
const MAX_CALLER: usize = 160;

/// `eic:<short caller>:<request-id>`; printable ASCII, the end is never the caller's choice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId {
    caller: String,
    request_id: RequestId,
}

impl KeyId {
    /// The key id of a request; `caller` is escaped (`%XX`) and cut as needed.
    #[must_use]
    pub fn new(caller: &str, request_id: RequestId) -> Self {
        Self {
            caller: escape(caller),
            request_id,
        }
    }

    /// The request that the certificate was issued for.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// The caller as escaped text.
    #[must_use]
    pub fn caller(&self) -> &str {
        &self.caller
    }
}

fn escape(caller: &str) -> String {
    let mut escaped = String::new();
    for byte in caller.bytes() {
        let text = if is_plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        };
        if escaped.len() + text.len() > MAX_CALLER {
            break;
        }
        escaped.push_str(&text);
    }
    escaped
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_+=.@/-".contains(&byte)
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "eic:{}:{}", self.caller, self.request_id)
    }
}

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        parse(text).ok_or_else(|| InvalidKeyId(printable(text)))
    }
}

fn parse(text: &str) -> Option<KeyId> {
    let (caller, request_id) = text.strip_prefix("eic:")?.split_once(':')?;
    let plain = caller.bytes().all(|b| is_plain(b) || b == b'%');
    let key_id = KeyId {
        caller: caller.to_owned(),
        request_id: request_id.parse().ok()?,
    };
    (plain && !caller.is_empty() && caller.len() <= MAX_CALLER).then_some(key_id)
}

impl TryFrom<String> for KeyId {
    type Error = InvalidKeyId;

    fn try_from(text: String) -> Result<Self, InvalidKeyId> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// Not a key id of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a key id of this CA: expected `eic:<caller>:<request-id>`")]
pub struct InvalidKeyId(String);

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn hostile_session_names_are_escaped() {
        // D-06
        let hostile = "role/Dev/x\nAccepted publickey for root\u{1b}[0m\"\r\u{2028}%0a,:";
        let text = KeyId::new(hostile, ID.parse().unwrap()).to_string();
        assert!(text.bytes().all(|b| b.is_ascii_graphic()), "{text}");
        assert!(text.starts_with("eic:role/Dev/x%0AAccepted%20publickey") && text.ends_with(ID));
        assert_eq!(text.matches(':').count(), 2);
    }

    #[test]
    fn the_longest_caller_still_fits() {
        let text = KeyId::new(&"\u{1}".repeat(10_000), ID.parse().unwrap()).to_string();
        assert!(text.len() <= MAX_LEN, "{}", text.len());
        assert!(text.parse::<KeyId>().is_ok());
    }

    #[test]
    fn only_our_form_is_read() {
        for bad in [
            "",
            "alice",
            "eic:alice",
            "eic::00112233445566778899aabbccddeeff",
            "eic:a b:00112233445566778899aabbccddeeff",
        ] {
            assert!(bad.parse::<KeyId>().is_err(), "{bad:?}");
        }
        let text = format!("eic:role/Dev/alice@corp:{ID}");
        assert_eq!(text.parse::<KeyId>().unwrap().to_string(), text);
    }
}
