//! JSON in one line of printable ASCII: what a log shipper, a terminal or a grep can take as it is.
//! Everything else is escaped, so no text of a stranger can end the line or steer a terminal.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Most characters of one foreign text in a record; CloudTrail cuts `userAgent` at 1 KB too.
pub(crate) const MAX_TEXT: usize = 1024;
const CUT: &str = "[cut]";

/// `value` as one line.
///
/// # Errors
/// Where the value cannot be JSON; none of ours is such.
pub(crate) fn line<T: Serialize>(value: &T) -> serde_json::Result<String> {
    let mut bytes = Vec::with_capacity(2048);
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Ascii))?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

/// `text` cut to [`MAX_TEXT`] characters, with a marker where something was left out.
#[must_use]
pub(crate) fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}{CUT}", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

struct Ascii;

impl Formatter for Ascii {
    /// serde_json itself escapes quotes, backslashes and C0; the rest arrives here.
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| !(c == ' ' || c.is_ascii_graphic())) {
            let (plain, tail) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = tail.chars();
            chars.next().map_or(Ok(()), |c| escape(writer, c))?;
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// `\uXXXX`, above U+FFFF as a surrogate pair (RFC 8259 §7).
fn escape<W: ?Sized + Write>(writer: &mut W, c: char) -> io::Result<()> {
    let mut units = [0; 2];
    for unit in c.encode_utf16(&mut units) {
        write!(writer, "\\u{unit:04x}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_in_one_line_of_printable_ascii_and_reads_back() {
        // G-08
        let hostile = "x\nAccepted\r\u{1b}[2J\u{7f}\u{9b}\u{2028}\u{202e}\",\"x\":\"\\ é 🦀 \u{0}";
        let text = line(&[hostile]).unwrap();
        assert!(
            text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
            "{text}"
        );
        assert_eq!(
            serde_json::from_str::<[String; 1]>(&text).unwrap()[0],
            hostile
        );
    }

    #[test]
    fn long_text_is_cut_at_a_character_with_a_marker() {
        // G-08
        let cut = bounded(&"é".repeat(1_000_000));
        assert_eq!(cut.chars().count(), MAX_TEXT + CUT.len());
        assert!(cut.ends_with("é[cut]"));
        assert_eq!(bounded("short"), "short");
        assert_eq!(bounded(&"x".repeat(MAX_TEXT)), "x".repeat(MAX_TEXT));
    }
}
