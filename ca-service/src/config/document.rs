//! A TOML file read key by key, so that every mistake is found with its line, its key and what to write instead.
//! It knows no key of ours: the sections beside this file do.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use eic_protocol::text::printable;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Largest file that is read. Bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The key with the tables around it, as in `server.listen`; empty for a syntax error.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            key,
            problem,
        } = self;
        let file = printable(&file.display().to_string());
        if key.is_empty() {
            write!(f, "{file}:{line}: {problem}")
        } else {
            write!(f, "{file}:{line}: `{key}`: {problem}")
        }
    }
}

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read `{file}`: {cause}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        cause: String,
    },
    /// The file has mistakes: all of them.
    #[error("use the configuration; {} to correct:\n{}", count(.0), lines(.0))]
    Mistakes(Vec<Mistake>),
}

fn count(mistakes: &[Mistake]) -> String {
    if mistakes.len() == 1 {
        "1 mistake".to_owned()
    } else {
        format!("{} mistakes", mistakes.len())
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes
        .iter()
        .map(|m| format!("  {m}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Reads `file` and gives its top table to `read`; what `read` returns counts only when there is no mistake.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub(crate) fn read_file<T>(
    file: &Path,
    read: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Result<T, ConfigError> {
    let unreadable = |cause: String| ConfigError::Read {
        file: printable(&file.display().to_string()),
        cause,
    };
    let size = std::fs::metadata(file)
        .map_err(|e| unreadable(e.to_string()))?
        .len();
    if size > MAX_FILE {
        return Err(unreadable(format!("it is larger than {MAX_FILE} bytes")));
    }
    let text = std::fs::read_to_string(file).map_err(|e| unreadable(e.to_string()))?;
    read_text(file, &text, read)
}

/// As [`read_file`], of text already read.
pub(crate) fn read_text<T>(
    file: &Path,
    text: &str,
    read: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Result<T, ConfigError> {
    let document = Document {
        file,
        text,
        mistakes: RefCell::default(),
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        document.report(at, "", error.message().to_owned());
    }
    let top = Section {
        document: &document,
        path: String::new(),
        at: 0,
        entries: table.get_ref(),
        known: RefCell::default(),
    };
    let value = read(&top);
    top.refuse_unknown();
    drop(top);
    let mut mistakes = document.mistakes.into_inner();
    mistakes.sort_by_key(|m| m.line);
    match value {
        Some(value) if mistakes.is_empty() => Ok(value),
        _ => Err(ConfigError::Mistakes(mistakes)),
    }
}

struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    mistakes: RefCell<Vec<Mistake>>,
}

impl Document<'_> {
    fn report(&self, at: usize, key: &str, problem: String) {
        let before = self.text.get(..at.min(self.text.len())).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let mistake = Mistake {
            file: self.file.to_owned(),
            line,
            key: printable(key),
            problem,
        };
        self.mistakes.borrow_mut().push(mistake);
    }
}

/// One table of the file. A reading method that returns nothing for a key that is there has reported the mistake.
pub(crate) struct Section<'a> {
    document: &'a Document<'a>,
    path: String,
    at: usize,
    entries: &'a DeTable<'a>,
    known: RefCell<Vec<String>>,
}

impl<'a> Section<'a> {
    /// The key as the file's reader sees it, with the tables around it.
    fn full(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Reports a mistake of `key`, at its line or else at the table's.
    pub(crate) fn mistake(&self, key: &str, problem: impl Into<String>) {
        let at = self.find(key).map_or(self.at, |value| value.span().start);
        self.document.report(at, &self.full(key), problem.into());
    }

    fn find(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries
            .iter()
            .find(|(name, _)| name.get_ref() == key)
            .map(|(_, value)| value)
    }

    /// Whether the key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    fn take(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().push(key.to_owned());
        self.find(key)
    }

    fn missing(&self, key: &str, example: &str) {
        self.document.report(
            self.at,
            &self.full(key),
            format!("is missing; write for example `{example}`"),
        );
    }

    fn wrong_type(&self, key: &str, value: &DeValue<'_>, expected: &str) {
        self.mistake(
            key,
            format!("expected {expected}, found a {}", value.type_str()),
        );
    }

    /// A string.
    pub(crate) fn string(&self, key: &str) -> Option<String> {
        let value = self.take(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(text.to_owned()),
            None => {
                self.wrong_type(key, value.get_ref(), "a string in quotes");
                None
            }
        }
    }

    /// A string of a grammar of its own.
    pub(crate) fn parsed<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> Option<T> {
        let text = self.string(key)?;
        text.parse()
            .map_err(|e: T::Err| self.mistake(key, e.to_string()))
            .ok()
    }

    /// As [`Self::parsed`]; absent is a mistake, and `example` says what to write.
    pub(crate) fn required<T: FromStr<Err: fmt::Display>>(
        &self,
        key: &str,
        example: &str,
    ) -> Option<T> {
        if !self.has(key) {
            self.missing(key, example);
        }
        self.parsed(key)
    }

    /// A path; a relative one counts from the file's own folder.
    pub(crate) fn path(&self, key: &str) -> Option<PathBuf> {
        let text = self.string(key)?;
        if text.is_empty() {
            self.mistake(key, "the path is empty");
            return None;
        }
        Some(self.beside(&text))
    }

    /// As [`Self::path`]; absent is a mistake.
    pub(crate) fn required_path(&self, key: &str, example: &str) -> Option<PathBuf> {
        if !self.has(key) {
            self.missing(key, example);
        }
        self.path(key)
    }

    /// Paths; relative ones count from the file's own folder.
    pub(crate) fn paths(&self, key: &str) -> Vec<PathBuf> {
        self.list::<String>(key)
            .unwrap_or_default()
            .iter()
            .map(|text| self.beside(text))
            .collect()
    }

    fn beside(&self, text: &str) -> PathBuf {
        self.document
            .file
            .parent()
            .unwrap_or(Path::new(""))
            .join(text)
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        let value = self.take(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(key, value.get_ref(), "true or false");
        }
        flag
    }

    /// A whole number within `range`.
    pub(crate) fn number(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value.get_ref(), "a whole number");
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|n| range.contains(n));
        if number.is_none() {
            self.mistake(
                key,
                format!("must be between {} and {}", range.start(), range.end()),
            );
        }
        number
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        self.named(key, &self.string(key)?, words)
    }

    /// An array of some of a few words.
    pub(crate) fn words<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<Vec<T>> {
        let texts = self.list::<String>(key)?;
        let named = texts.iter().filter_map(|text| self.named(key, text, words));
        Some(named.collect())
    }

    fn named<T: Copy>(&self, key: &str, text: &str, words: &[(&str, T)]) -> Option<T> {
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<_> = words
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            self.mistake(
                key,
                format!("`{}` is not one of {}", printable(text), names.join(", ")),
            );
        }
        found
    }

    /// An array of strings of one grammar.
    pub(crate) fn list<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> Option<Vec<T>> {
        let value = self.take(key)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(
                key,
                value.get_ref(),
                "an array of strings, as in [\"a\", \"b\"]",
            );
            return None;
        };
        Some(
            items
                .iter()
                .filter_map(|item| self.item(key, item))
                .collect(),
        )
    }

    fn item<T: FromStr<Err: fmt::Display>>(
        &self,
        key: &str,
        item: &Spanned<DeValue<'_>>,
    ) -> Option<T> {
        let parsed = match item.get_ref().as_str() {
            Some(text) => text.parse().map_err(|e: T::Err| e.to_string()),
            None => Err(format!(
                "expected a string in quotes, found a {}",
                item.get_ref().type_str()
            )),
        };
        parsed
            .map_err(|problem| {
                self.document
                    .report(item.span().start, &self.full(key), problem)
            })
            .ok()
    }

    /// A table; an absent one reads as an empty one.
    pub(crate) fn table(&self, key: &str) -> Option<Section<'a>> {
        let value = self.take(key)?;
        self.as_section(key, key, value)
    }

    /// Several tables, `[[key]]`.
    pub(crate) fn tables(&self, key: &str) -> Vec<Section<'a>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(
                key,
                value.get_ref(),
                &format!("one or more [[{}]]", self.full(key)),
            );
            return Vec::new();
        };
        let name = |index: usize| format!("{key}[{index}]");
        items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| self.as_section(key, &name(i), item))
            .collect()
    }

    fn as_section(
        &self,
        key: &str,
        name: &str,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Option<Section<'a>> {
        let Some(entries) = value.get_ref().as_table() else {
            self.wrong_type(key, value.get_ref(), "a table");
            return None;
        };
        Some(Section {
            document: self.document,
            path: self.full(name),
            at: value.span().start,
            entries,
            known: RefCell::default(),
        })
    }

    /// The names in a table whose keys the file's author chooses.
    pub(crate) fn names(&self) -> Vec<String> {
        self.entries
            .keys()
            .map(|name| name.get_ref().to_string())
            .collect()
    }

    /// Reports every key that was not asked for, with the nearest one that was.
    pub(crate) fn refuse_unknown(&self) {
        let known = self.known.borrow();
        for name in self
            .entries
            .keys()
            .filter(|name| !known.iter().any(|k| k == name.get_ref()))
        {
            let problem = match nearest(name.get_ref(), &known) {
                Some(near) => format!("is not a key here; did you mean `{near}`?"),
                None => format!("is not a key here; known are {}", list_names(&known)),
            };
            self.document
                .report(name.span().start, &self.full(name.get_ref()), problem);
        }
    }
}

fn list_names(names: &[String]) -> String {
    let mut sorted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    sorted.sort();
    sorted.dedup();
    sorted.join(", ")
}

/// The known name that most resembles `name`: at most a third of its letters differ.
fn nearest<'n>(name: &str, known: &'n [String]) -> Option<&'n String> {
    let limit = name.chars().count().div_ceil(3);
    let distances = known
        .iter()
        .map(|candidate| (distance(name, candidate), candidate));
    distances
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut next = vec![i + 1];
        for ((y, above), diagonal) in b.iter().zip(row.iter().skip(1)).zip(row.iter()) {
            let left = next.last().copied().unwrap_or_default();
            next.push(
                (above + 1)
                    .min(left + 1)
                    .min(diagonal + usize::from(x != *y)),
            );
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        let read = |top: &Section<'_>| {
            let server = top.table("server");
            if let Some(server) = &server {
                let _ = server
                    .required::<std::net::SocketAddr>("listen", "listen = \"127.0.0.1:8443\"");
                let _ = server.number("connections", 1..=10);
                server.refuse_unknown();
            }
            Some(())
        };
        match read_text(Path::new("eic-ca.toml"), text, read) {
            Ok(()) => Vec::new(),
            Err(ConfigError::Mistakes(mistakes)) => {
                mistakes.iter().map(ToString::to_string).collect()
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn every_mistake_is_reported_with_its_line_and_key() {
        let text = "[server]\nlisten = \"nowhere\"\nconnections = 11\nlisen = 1\n[sever]\n";
        let found = mistakes(text);
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(
            found[0].starts_with("eic-ca.toml:2: `server.listen`: "),
            "{}",
            found[0]
        );
        assert_eq!(
            found[1],
            "eic-ca.toml:3: `server.connections`: must be between 1 and 10"
        );
        assert_eq!(
            found[2],
            "eic-ca.toml:4: `server.lisen`: is not a key here; did you mean `listen`?"
        );
        assert_eq!(
            found[3],
            "eic-ca.toml:5: `sever`: is not a key here; did you mean `server`?"
        );
    }

    #[test]
    fn a_syntax_error_and_a_missing_key_are_told_together() {
        let found = mistakes("[server]\nconnections = = 1\n");
        assert!(
            found.iter().any(|m| m.starts_with("eic-ca.toml:2: ")),
            "{found:#?}"
        );
        assert!(
            found
                .iter()
                .any(|m| m.contains("`server.listen`: is missing")),
            "{found:#?}"
        );
    }

    #[test]
    fn a_duplicate_key_is_a_mistake() {
        assert!(
            !mistakes("[server]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n").is_empty()
        );
    }

    #[test]
    fn a_file_without_mistakes_is_taken() {
        assert!(mistakes("[server]\nlisten = \"127.0.0.1:1\"\n").is_empty());
    }

    #[test]
    fn distant_names_are_not_suggested() {
        let known = ["listen".to_owned(), "connections".to_owned()];
        assert_eq!(
            nearest("conections", &known).map(String::as_str),
            Some("connections")
        );
        assert_eq!(nearest("zebra", &known), None);
    }
}
