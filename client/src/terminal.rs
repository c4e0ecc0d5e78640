//! What people see: escaped lines on stderr, questions on a terminal, tables on stdout.
//! Text of strangers is made printable here, whatever its producer did.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use eic_protocol::text::printable;
use serde::Serialize;

use crate::exit_code::Failure;

/// Set by `eic-login doctor` to a random word for the ssh that it starts, and so for the commands that this ssh starts.
pub const TELL_CAUSE: &str = "EIC_TELL_CAUSE";
const CAUSE_MARK: &str = "eic-login-cause ";

/// What stands before a cause's word on stderr then. A host's banner is on stderr too, but does not know the word.
#[must_use]
pub fn cause_mark(nonce: &str) -> String {
    format!("{CAUSE_MARK}{nonce}: ")
}

/// One line on stderr, `eic-login: …`, with every control character escaped.
pub fn note(text: &str) {
    // A closed stderr is no reason to fail.
    let _ = writeln!(io::stderr().lock(), "eic-login: {}", one_line(text));
}

/// Tells why the command ends and gives its exit code.
#[must_use]
pub fn fail(failure: &Failure) -> u8 {
    note(&failure.message);
    let nonce = std::env::var(TELL_CAUSE).ok();
    let is_word = |word: &String| !word.is_empty() && word.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(nonce) = nonce.filter(is_word) {
        let (mark, cause) = (cause_mark(&nonce), failure.cause.as_str());
        let _ = writeln!(io::stderr().lock(), "{mark}{cause}");
    }
    failure.code
}

/// `value` as indented JSON on stdout, ASCII only: what strangers named reaches no terminal as a control or
/// reordering character, and reads the same to whoever parses it.
///
/// # Errors
/// A [`Failure`] where it has no JSON form.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print(&format!("{}\n", ascii_json(value)?));
    Ok(())
}

/// Everything outside `0x20..=0x7e` as `\uXXXX` (RFC 8259 §7). Outside of strings JSON has only newlines there.
fn ascii_json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::of(&e))?;
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || (' '..='~').contains(&c) {
            ascii.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            ascii.push_str(&format!("\\u{unit:04x}"));
        }
    }
    Ok(ascii)
}

/// Text on stdout as it is: the caller made it printable.
pub fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Asks a question that takes `yes`; `None` where there is no terminal to ask on.
#[must_use]
pub fn confirm(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return None;
    }
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{question} [yes/no] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).ok()?;
    Some(answer.trim().eq_ignore_ascii_case("yes"))
}

/// `text` as one printable line; longer than an error of ours ever is, it is cut.
#[must_use]
pub fn one_line(text: &str) -> String {
    // `printable` cuts at 200 characters: escape piece by piece, and cut the whole at 2,000.
    let chars: Vec<char> = text.chars().take(2_000).collect();
    chars
        .chunks(100)
        .map(|piece| printable(&piece.iter().collect::<String>()))
        .collect()
}

/// Rows under a header, columns padded to the widest cell.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let shown: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| one_line(cell)).collect())
        .collect();
    let widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = shown
                .iter()
                .filter_map(|row| row.get(column))
                .map(String::len);
            cells.chain([title.len()]).max().unwrap_or(0)
        })
        .collect();
    let mut text = line(header.iter().copied(), &widths);
    for row in &shown {
        text.push_str(&line(row.iter().map(String::as_str), &widths));
    }
    text
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let padded: Vec<String> = cells
        .zip(widths)
        .map(|(cell, width)| format!("{cell:<width$}"))
        .collect();
    format!("{}\n", padded.join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        // H-15
        let shown = one_line("denied\u{1b}]52;c;cGF5bG9hZA==\u{7}\nroot@host:~# \u{202e}");
        assert!(shown.bytes().all(|b| (0x20..0x7f).contains(&b)), "{shown}");
        assert!(!table(&["NAME"], &[vec!["\u{1b}[2Jx".to_owned()]]).contains('\u{1b}'));
    }

    #[test]
    fn json_for_scripts_is_ascii_and_means_the_same() {
        // H-15: CSI as one character, DEL, right-to-left override, one beyond the basic plane.
        let value = serde_json::json!({ "web\u{9b}2J": ["\u{7f}\u{202e}\n\u{1f600}\u{1b}", "ü"] });
        let text = ascii_json(&value).unwrap();
        let plain = |b: u8| b == b'\n' || (0x20..0x7f).contains(&b);
        assert!(text.bytes().all(plain), "{text}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }

    #[test]
    fn long_errors_are_cut() {
        assert!(one_line(&"x".repeat(1_000_000)).len() <= 2_000);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["i-01234567".to_owned(), "web".to_owned()],
            vec!["i-1".to_owned(), "x".to_owned()],
        ];
        assert_eq!(
            table(&["ID", "NAME"], &rows),
            "ID          NAME\ni-01234567  web\ni-1         x\n"
        );
    }
}
