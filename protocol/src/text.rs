//! Text that strangers chose, made safe to show: on a terminal, in a log line, in an error.
//! Not an HTML or JSON escaper.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest piece of foreign text that an error or a log line repeats.
const SHOWN_CHARS: usize = 200;

/// `text` with everything but printable ASCII escaped, cut at 200 characters with a marker.
///
/// Terminal escape sequences, line ends that forge log lines and bidirectional
/// overrides all come out as `\u{..}`.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(SHOWN_CHARS));
    for (index, c) in text.chars().enumerate() {
        if index == SHOWN_CHARS {
            shown.push_str("[cut]");
            break;
        }
        push_printable(&mut shown, c);
    }
    shown
}

/// 1 to 256 printable ASCII characters: a program's version, a name in a log. A reporter cuts and
/// escapes with [`printable`] first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Line(String);

/// Longest [`Line`]. Characters.
pub const MAX_LINE: usize = 256;

impl Line {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Any text, escaped and cut so that it is one; `-` for an empty one.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut shown = printable(text);
        shown.truncate(MAX_LINE);
        if shown.is_empty() {
            shown.push('-');
        }
        Self(shown)
    }
}

impl FromStr for Line {
    type Err = InvalidLine;

    fn from_str(text: &str) -> Result<Self, InvalidLine> {
        let grammar = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if grammar && (1..=MAX_LINE).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidLine(printable(text)))
        }
    }
}

impl TryFrom<String> for Line {
    type Error = InvalidLine;

    fn try_from(text: String) -> Result<Self, InvalidLine> {
        text.parse()
    }
}

impl From<Line> for String {
    fn from(line: Line) -> Self {
        line.0
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not one line of printable text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a line of 1 to 256 printable ASCII characters")]
pub struct InvalidLine(String);

fn push_printable(shown: &mut String, c: char) {
    if c == ' ' || c.is_ascii_graphic() {
        shown.push(c);
    } else {
        // Writing to a String cannot fail.
        let _ = write!(shown, "{}", c.escape_unicode());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_and_line_ends_are_not_passed_on() {
        // H-15, G-08
        assert_eq!(
            printable("a\u{1b}]52;c;x\u{7}\nb\u{2028}"),
            "a\\u{1b}]52;c;x\\u{7}\\u{a}b\\u{2028}"
        );
    }

    #[test]
    fn long_text_is_cut_with_a_marker() {
        let shown = printable(&"x".repeat(1_000_000));
        assert_eq!(shown.len(), SHOWN_CHARS + "[cut]".len());
        assert!(shown.ends_with("[cut]"));
    }

    #[test]
    fn other_than_one_printable_line_is_refused_or_escaped() {
        // G-08
        for bad in ["", "a\nb", "\u{1b}[0m", "\u{e4}", &"x".repeat(257)] {
            assert!(bad.parse::<Line>().is_err(), "{bad:?}");
            assert!(Line::of(bad).as_str().parse::<Line>().is_ok(), "{bad:?}");
        }
        assert_eq!(Line::of("OpenSSH_9.2p1").as_str(), "OpenSSH_9.2p1");
        assert!(Line::of(&"\u{10ffff}".repeat(300)).as_str().len() <= MAX_LINE);
    }
}
