//! Text that strangers chose, made safe to show: on a terminal, in a log line, in an error.
//! Not an HTML or JSON escaper.

use std::fmt::Write as _;

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
}
