//! What a change looks like, for `--dry-run`: the lines that go and the lines that come.

use std::path::Path;

use eic_protocol::trust::envelope::Envelope;

use super::transaction::Content;

/// The change of one file. A signed document is shown as what was signed, of a list only `summary`.
pub(super) fn show(
    path: &Path,
    before: Option<&Content>,
    after: Option<&Content>,
    summary: Option<&str>,
) -> String {
    let title = match (before, after) {
        (None, Some(_)) => "new",
        (Some(_), None) => "removed",
        _ => "changed",
    };
    let mode = after
        .map(|content| format!(", mode {:04o}", content.mode))
        .unwrap_or_default();
    let shown = match summary.filter(|_| after.is_some()) {
        Some(summary) => {
            let decoded = |content| decoded(content).unwrap_or_default();
            format!("  {summary}\n{}", lines(&decoded(before), &decoded(after)))
        }
        None => lines(&text(before), &text(after)),
    };
    format!("{title}: {}{mode}\n{shown}", path.display())
}

/// Longer lines are no text for people: only their size is shown.
const MAX_SHOWN: usize = 400;

fn text(content: Option<&Content>) -> String {
    let raw = || content.map(|content| String::from_utf8_lossy(&content.bytes.0).into_owned());
    decoded(content).or_else(raw).unwrap_or_default()
}

/// The document in a signed envelope, member by member.
fn decoded(content: Option<&Content>) -> Option<String> {
    let envelope: Envelope = serde_json::from_slice(&content?.bytes.0).ok()?;
    let document: serde_json::Value = serde_json::from_slice(envelope.signed.as_slice()).ok()?;
    serde_json::to_string_pretty(&document).ok()
}

/// The differing middle between what both have in common at both ends, with one line of context.
fn lines(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - head;
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(rest)
        .take_while(|(a, b)| a == b)
        .count();
    let middle = |all: &[&str], sign: char| -> String {
        all.iter()
            .take(all.len() - tail)
            .skip(head)
            .map(|line| format!("{sign} {}\n", shown(line)))
            .collect()
    };
    let context = head
        .checked_sub(1)
        .and_then(|at| old.get(at))
        .map(|line| format!("  {}\n", shown(line)));
    [
        context.unwrap_or_default(),
        middle(&old, '-'),
        middle(&new, '+'),
    ]
    .concat()
}

fn shown(line: &str) -> String {
    if line.len() > MAX_SHOWN {
        return format!("({} bytes)", line.len());
    }
    eic_protocol::text::printable(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eic_protocol::base64_text::Base64Bytes;

    fn content(text: &str) -> Content {
        Content {
            bytes: Base64Bytes(text.as_bytes().to_vec()),
            mode: 0o644,
            uid: 0,
            gid: 0,
        }
    }

    #[test]
    fn only_the_differing_lines_are_shown() {
        let shown = show(
            Path::new("/f"),
            Some(&content("a\nb\nc\nd\n")),
            Some(&content("a\nB\nnew\nc\nd\n")),
            None,
        );
        assert_eq!(shown, "changed: /f, mode 0644\n  a\n- b\n+ B\n+ new\n");
    }

    #[test]
    fn new_and_removed_files_are_shown_whole() {
        assert_eq!(
            show(Path::new("/f"), None, Some(&content("a\n")), None),
            "new: /f, mode 0644\n+ a\n"
        );
        assert_eq!(
            show(Path::new("/f"), Some(&content("a\n")), None, None),
            "removed: /f\n- a\n"
        );
        assert_eq!(
            show(
                Path::new("/f"),
                Some(&content("a\na\n")),
                Some(&content("a\n")),
                None
            ),
            "changed: /f, mode 0644\n  a\n- a\n"
        );
    }

    #[test]
    fn a_summary_stands_for_the_content_that_comes_not_for_what_goes() {
        let (a, b) = (content("a\n"), content("b\n"));
        assert_eq!(
            show(Path::new("/f"), Some(&a), Some(&b), Some("version 2")),
            "changed: /f, mode 0644\n  version 2\n"
        );
        assert_eq!(
            show(Path::new("/f"), Some(&a), None, Some("version 2")),
            "removed: /f\n- a\n"
        );
    }

    #[test]
    fn signed_documents_are_shown_decoded() {
        let documents = crate::trust_state::tests::Documents::new();
        let old = content(std::str::from_utf8(&documents.view_json()).unwrap());
        let mut newer = documents;
        newer.view.version += 1;
        let new = content(std::str::from_utf8(&newer.view_json()).unwrap());
        let shown = show(Path::new("/f"), Some(&old), Some(&new), Some("host view"));
        let (from, to) = (newer.view.version - 1, newer.view.version);
        assert!(
            shown.starts_with("changed: /f, mode 0644\n  host view\n"),
            "{shown}"
        );
        assert!(
            shown.contains(&format!("-   \"version\": {from}\n")),
            "{shown}"
        );
        assert!(
            shown.contains(&format!("+   \"version\": {to}\n")),
            "{shown}"
        );
        let whole = show(Path::new("/f"), Some(&new), None, None);
        assert!(
            whole.contains("\"instance\": \"i-0123456789abcdef0\""),
            "{whole}"
        );
    }

    #[test]
    fn long_lines_are_shown_by_size_and_escapes_are_not_passed_on() {
        assert_eq!(lines("", &"x".repeat(1000)), "+ (1000 bytes)\n");
        assert_eq!(lines("", "\u{1b}[2J"), "+ \\u{1b}[2J\n");
    }
}
