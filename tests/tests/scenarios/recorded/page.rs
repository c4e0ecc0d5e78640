//! A page's sessions typed again, and what was printed compared with the page. Where they are typed is a stage's
//! affair.

use std::fmt::Write as _;
use std::path::Path;

use eic_lab::aws::{ACCOUNT, REGION};
use eic_lab::{Ca, Host};

use super::SESSION;

const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

/// What a page has in place of a fingerprint.
pub(super) const FINGERPRINT: &str = "SHA256:…";

/// What a page has in place of each time.
const TIME: &str = "2026-11-22T09:00:00Z";

/// Where a page's reader stands, and what stands for the reader's own values.
pub(super) trait Stage {
    /// Types a line at a place; what it printed.
    fn type_line(&mut self, place: &str, line: &str) -> String;

    /// What the page says, and what it is here.
    fn pairs(&self, place: &str) -> Vec<(&'static str, String)>;

    /// Takes a block that is no session: a file that the page shows.
    fn take_file(&mut self, language: &str, text: &str);
}

/// Names that every page has for the CA and its two hosts.
pub(super) fn names(ca: &Ca, web: &Host, legacy: &Host) -> Vec<(&'static str, String)> {
    vec![
        ("https://ca.example", ca.url()),
        (FINGERPRINT, ca.root_fingerprint().to_owned()),
        ("i-0123456789abcdef0", web.id().to_owned()),
        ("i-0fedcba9876543210", legacy.id().to_owned()),
        ("111122223333", ACCOUNT.to_owned()),
        ("eu-west-1", REGION.to_owned()),
        ("10.0.0.5", web.address().to_string()),
        ("10.0.0.6", legacy.address().to_string()),
    ]
}

/// A fenced block.
pub(super) struct Block<'a> {
    /// What stands behind the fence.
    pub(super) language: &'a str,
    pub(super) lines: Vec<&'a str>,
}

/// A page's text and its blocks, in order.
pub(super) enum Part<'a> {
    Text(&'a str),
    Block(Block<'a>),
}

pub(super) fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(PAGES).join(name)).unwrap()
}

pub(super) fn parts(page: &str) -> Vec<Part<'_>> {
    let (mut parts, mut block) = (Vec::new(), None::<Block<'_>>);
    for line in page.lines() {
        match (block.take(), line.strip_prefix("```")) {
            (None, None) => parts.push(Part::Text(line)),
            (None, Some(language)) => {
                let lines = Vec::new();
                block = Some(Block { language, lines });
            }
            (Some(whole), Some(_)) => parts.push(Part::Block(whole)),
            (Some(mut open), None) => {
                open.lines.push(line);
                block = Some(open);
            }
        }
    }
    assert!(block.is_none(), "a block of code has no end");
    parts
}

impl<'a> Block<'a> {
    /// The place where a session is typed.
    pub(super) fn place(&self) -> Option<&'a str> {
        self.language.strip_prefix(SESSION)
    }

    /// What is typed in a session.
    fn typed(&self) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter_map(|line| line.strip_prefix("$ "))
    }
}

/// Runs every session of the page, and fails where the page shows anything else than was printed.
pub(super) fn check(name: &str, stage: &mut dyn Stage) {
    let shown = read(name);
    let printed = recorded(stage, &shown);
    if std::env::var_os("EIC_RECORD").is_some_and(|value| value == "1") {
        std::fs::write(Path::new(PAGES).join(name), &printed).unwrap();
        return;
    }
    let mut lines = shown.lines().zip(printed.lines());
    let first = lines.find(|(shown, printed)| shown != printed);
    assert_eq!(
        first, None,
        "docs/{name} shows something else (left) than was printed; EIC_RECORD=1 records it anew"
    );
    assert_eq!(shown.lines().count(), printed.lines().count(), "{name}");
}

/// The page with what was printed.
fn recorded(stage: &mut dyn Stage, page: &str) -> String {
    let mut out = String::new();
    for part in parts(page) {
        match part {
            Part::Text(line) => writeln!(out, "{line}").unwrap(),
            Part::Block(block) => {
                writeln!(out, "```{}", block.language).unwrap();
                match block.place() {
                    Some(place) => out.push_str(&session(stage, place, &block)),
                    None => {
                        let text = block.lines.join("\n");
                        stage.take_file(block.language, &text);
                        writeln!(out, "{text}").unwrap();
                    }
                }
                writeln!(out, "```").unwrap();
            }
        }
    }
    out
}

fn session(stage: &mut dyn Stage, place: &str, block: &Block<'_>) -> String {
    let mut out = String::new();
    for typed in block.typed() {
        writeln!(out, "$ {typed}").unwrap();
        let pairs = stage.pairs(place);
        let real = pairs.iter().fold(typed.to_owned(), |line, (page, real)| {
            line.replace(page, real)
        });
        let printed = as_on_the_page(&pairs, &stage.type_line(place, &real));
        if !printed.is_empty() {
            writeln!(out, "{printed}").unwrap();
        }
    }
    out
}

/// Everything that differs from run to run, or from this lab to the page's reader.
fn as_on_the_page(pairs: &[(&str, String)], text: &str) -> String {
    let text = pairs.iter().fold(text.to_owned(), |text, (page, real)| {
        // In a column of a table, the width stays.
        let column = format!("{page:0$}  ", real.len());
        text.replace(&format!("{real}  "), &column)
            .replace(real, page)
    });
    let lines = folded(&text).into_iter();
    let lines = lines.map(|line| without_changing_parts(line.trim_end()));
    lines.collect::<Vec<_>>().join("\n")
}

/// Without what trust documents say: too long for a page, and other keys and times in each run.
fn folded(text: &str) -> Vec<&str> {
    let mut is_inside = false;
    let shown = text.lines().filter_map(|line| {
        let was_inside = is_inside;
        is_inside = line != "+ }" && (was_inside || line == "+ {");
        match (was_inside, is_inside) {
            (false, true) => Some("+ { … }"),
            (true, _) => None,
            (false, false) => Some(line),
        }
    });
    shown.collect()
}

/// Keys, ids, numbers of processes and times.
fn without_changing_parts(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let parts = words.iter().enumerate().map(|(at, word)| {
        let shown = without_changing_part(word);
        // Two blanks end a column of a table, whose width stays.
        let is_column = words.get(at + 1).is_some_and(|next| next.is_empty());
        let width = if is_column { word.chars().count() } else { 0 };
        format!("{shown:width$}")
    });
    parts.collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

fn without_changing_part(word: &str) -> String {
    if let Some((before, rest)) = word.split_once("SHA256:") {
        let base64 = |c: char| c.is_ascii_alphanumeric() || "+/…".contains(c);
        let behind = rest.trim_start_matches(base64);
        return format!("{before}{FINGERPRINT}{behind}");
    }
    let core = word.trim_end_matches([',', ';', ')', '.']);
    let behind = word.get(core.len()..).unwrap_or_default();
    let is_hash = core.len() >= 32 && core.bytes().all(|b| b.is_ascii_hexdigit());
    let is_serial = core.len() >= 12 && core.bytes().all(|b| b.is_ascii_digit());
    let is_process = behind == ")" && core.bytes().all(|b| b.is_ascii_digit());
    match core {
        // An account of the page's reader, with as many digits as a serial.
        "111122223333" => word.to_owned(),
        _ if is_hash || is_serial || is_process => format!("…{behind}"),
        // A writer of the audit's chain.
        _ if core.starts_with("eic-ca-") && core.len() > 20 => "eic-ca-…".to_owned(),
        _ if ["AKIA", "ASIA"].iter().any(|start| core.starts_with(start)) => {
            format!("AKIA…{behind}")
        }
        _ if core.starts_with("AAAA") => format!("AAAA…{behind}"),
        _ if is_time(core) => format!("{TIME}{behind}"),
        _ => word.to_owned(),
    }
}

/// `2026-11-22T09:04:15Z`.
fn is_time(word: &str) -> bool {
    let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let shape: String = word.chars().map(digit).collect();
    shape == "0000-00-00T00:00:00Z"
}
