//! Signed records of pushed keys, as the metadata service hands them out.
//!
//! A record is `#Name=value` lines, one public-key line, the signature in base64 over any number of
//! lines, and a blank line or the end. The signed bytes are the first two parts, each line with `\n`.
//! A record that is not of this form is dropped; it never takes a neighbour with it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One well-formed record; whether it is genuine and meant for this host is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    signed: Vec<u8>,
    signature: Vec<u8>,
    key_line: &'a str,
    expires: u64,
    instance: &'a str,
    caller: Option<&'a str>,
    request: Option<&'a str>,
}

impl<'a> Record<'a> {
    /// The bytes that AWS signed.
    #[must_use]
    pub fn signed(&self) -> &[u8] {
        &self.signed
    }

    /// The signature over them.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The public-key line as received.
    #[must_use]
    pub fn key_line(&self) -> &'a str {
        self.key_line
    }

    /// Unix seconds; the record counts strictly before. `#Timestamp` is the expiry, not the time of issue.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// The instance that the key was pushed for.
    #[must_use]
    pub fn instance(&self) -> &'a str {
        self.instance
    }

    /// Who pushed the key, where AWS says so.
    #[must_use]
    pub fn caller(&self) -> Option<&'a str> {
        self.caller
    }

    /// CloudTrail's request id of the push, where AWS says so.
    #[must_use]
    pub fn request(&self) -> Option<&'a str> {
        self.request
    }
}

/// Splits `bytes` into records; `None` stands for one that is not of the form.
#[must_use]
pub fn parse(bytes: &[u8]) -> Vec<Option<Record<'_>>> {
    groups(bytes).iter().map(|group| group.parse()).collect()
}

/// The lines between two blank lines.
#[derive(Debug, Default)]
struct Group<'a> {
    lines: Vec<&'a [u8]>,
    /// A header line follows this group without a blank line.
    runs_on: bool,
}

/// A header after the first other line starts a new group: the record before it lacks its blank
/// line and is dropped, the one that it starts is read.
fn groups(bytes: &[u8]) -> Vec<Group<'_>> {
    let mut groups = vec![Group::default()];
    for line in bytes.split(|byte| *byte == b'\n') {
        if line.is_empty() {
            groups.push(Group::default());
            continue;
        }
        if let Some(open) = groups.last_mut()
            && is_header(line)
            && open.lines.last().is_some_and(|last| !is_header(last))
        {
            open.runs_on = true;
            groups.push(Group::default());
        }
        if let Some(open) = groups.last_mut() {
            open.lines.push(line);
        }
    }
    groups.retain(|group| !group.lines.is_empty());
    groups
}

fn is_header(line: &[u8]) -> bool {
    line.first() == Some(&b'#')
}

impl<'a> Group<'a> {
    fn parse(&self) -> Option<Record<'a>> {
        if self.runs_on {
            return None;
        }
        let split = self.lines.iter().position(|line| !is_header(line))?;
        let (header_lines, rest) = self.lines.split_at_checked(split)?;
        let (key_line, signature_lines) = rest.split_first()?;
        let headers = Headers::parse(header_lines)?;
        Some(Record {
            signed: joined(header_lines, key_line),
            signature: decode_signature(signature_lines)?,
            key_line: text(key_line)?,
            expires: headers.number("Timestamp")?,
            instance: headers.get("Instance")?,
            caller: headers.get("Caller"),
            request: headers.get("Request"),
        })
    }
}

/// Each header once, in the order of its record; names are case-sensitive.
struct Headers<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Headers<'a> {
    /// `None` where a name is repeated (which of the two was meant?) or the lines are no text.
    fn parse(lines: &[&'a [u8]]) -> Option<Self> {
        let mut names = BTreeSet::new();
        let mut headers = Vec::with_capacity(lines.len());
        for line in lines {
            let header = text(line)?.strip_prefix('#')?;
            let (name, value) = header.split_once('=').unwrap_or((header, ""));
            if !names.insert(name) {
                return None;
            }
            headers.push((name, value));
        }
        Some(Self(headers))
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(own, _)| *own == name)
            .map(|(_, value)| *value)
    }

    /// Decimal digits only: `+1` and ` 1` are other people's grammar.
    fn number(&self, name: &str) -> Option<u64> {
        let value = self.get(name)?;
        value
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| value.parse().ok())?
    }
}

/// A line without control characters (a tab apart), so that CR and NUL end a record's chances.
fn text(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?;
    line.chars()
        .all(|c| c == '\t' || !c.is_control())
        .then_some(line)
}

fn joined(header_lines: &[&[u8]], key_line: &[u8]) -> Vec<u8> {
    let mut signed = Vec::new();
    for line in header_lines.iter().chain([&key_line]) {
        signed.extend_from_slice(line);
        signed.push(b'\n');
    }
    signed
}

/// An absent signature is no record.
fn decode_signature(lines: &[&[u8]]) -> Option<Vec<u8>> {
    let encoded: Vec<u8> = lines.concat();
    STANDARD
        .decode(encoded)
        .ok()
        .filter(|signature| !signature.is_empty())
}

#[cfg(test)]
mod tests;
