//! sshd_config(5) as a list of statements with their places: which file and line says what, and
//! under which Match condition. Only for finding and explaining; what counts is `sshd -T`.

use std::path::{Path, PathBuf};

/// Deepest nesting of Include that is followed, as in sshd (servconf.c SERVCONF_MAX_DEPTH).
const MAX_DEPTH: usize = 16;
/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// One line of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The file that it stands in.
    pub(crate) file: PathBuf,
    /// Its line, from 1 on.
    pub(crate) line: usize,
    /// The keyword in lower case.
    pub(crate) keyword: String,
    /// The rest of the line, trimmed.
    pub(crate) value: String,
    /// The Match line that it depends on.
    pub(crate) condition: Option<String>,
}

impl Statement {
    /// `file:line`, for people.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

/// Every statement that sshd meets, in its order; an Include stands before what it brings in.
/// Files that cannot be read bring nothing in, as in sshd.
pub(crate) fn read(main: &Path) -> Vec<Statement> {
    let mut statements = Vec::new();
    read_into(main, None, 0, &mut statements);
    statements
}

fn read_into(file: &Path, condition: Option<&str>, depth: usize, all: &mut Vec<Statement>) {
    let small = std::fs::metadata(file).is_ok_and(|about| about.len() <= MAX_BYTES);
    if depth > MAX_DEPTH || !small {
        return;
    }
    let bytes = std::fs::read(file).unwrap_or_default();
    let mut condition = condition.map(str::to_owned);
    for (index, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
        let Some((keyword, value)) = split(line) else {
            continue;
        };
        if keyword == "match" {
            // A later Match ends the one before it; inside an Include the outer one counts as well.
            condition = (!value.eq_ignore_ascii_case("all")).then(|| value.to_owned());
        }
        let included = if keyword == "include" {
            included_files(value)
        } else {
            Vec::new()
        };
        all.push(Statement {
            file: file.to_path_buf(),
            line: index + 1,
            keyword,
            value: value.to_owned(),
            condition: condition.clone(),
        });
        for inner in included {
            read_into(&inner, condition.as_deref(), depth + 1, all);
        }
    }
}

/// Keyword (lower case) and value of a line; blanks and at most one `=` may stand between them.
pub(crate) fn split(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line
        .find(|c: char| c.is_whitespace() || c == '=')
        .unwrap_or(line.len());
    let (keyword, rest) = line.split_at_checked(end)?;
    let rest = rest.trim_start();
    let value = rest.strip_prefix('=').unwrap_or(rest).trim();
    let unquoted = keyword.trim_matches('"');
    Some((unquoted.to_ascii_lowercase(), value))
}

/// The patterns of an Include, absolute: sshd takes relative ones from /etc/ssh.
pub(crate) fn include_patterns(value: &str) -> Vec<String> {
    words(value)
        .into_iter()
        .map(|word| {
            if word.starts_with('/') {
                word
            } else {
                format!("/etc/ssh/{word}")
            }
        })
        .collect()
}

fn included_files(value: &str) -> Vec<PathBuf> {
    include_patterns(value)
        .iter()
        .flat_map(|pattern| glob(pattern))
        .collect()
}

/// The files that a pattern names, in lexical order (glob(3)); `*` and `?` in any part of it.
fn glob(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        found = found
            .iter()
            .flat_map(|folder| matching(folder, part))
            .collect();
    }
    found
}

fn matching(folder: &Path, part: &str) -> Vec<PathBuf> {
    if !part.contains(['*', '?']) {
        return vec![folder.join(part)];
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| matches(part, name))
        .collect();
    names.sort();
    names.iter().map(|name| folder.join(name)).collect()
}

/// Whether a file name fits a shell pattern of `*` and `?`; a leading dot must be written out.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // Which prefixes of the name the pattern so far can have consumed.
    let mut reachable = vec![false; name.len() + 1];
    if let Some(first) = reachable.first_mut() {
        *first = true;
    }
    for wanted in pattern {
        reachable = step(wanted, &name, &reachable);
    }
    reachable.last() == Some(&true)
}

fn step(wanted: char, name: &[char], reachable: &[bool]) -> Vec<bool> {
    let mut next = vec![wanted == '*' && reachable.first() == Some(&true)];
    for ((c, before), same) in name.iter().zip(reachable).zip(reachable.iter().skip(1)) {
        let stays = wanted == '*' && (*same || next.last() == Some(&true));
        let moves = (wanted == '?' || wanted == *c) && *before;
        next.push(stays || moves);
    }
    next
}

/// Words as sshd, systemd and shells split them: blanks, both quotes, backslash.
pub(crate) fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', _) => word.extend(characters.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (c, None) if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            (c, _) => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_no_statements() {
        assert_eq!(split("  # Port 22"), None);
        assert_eq!(split(" \t"), None);
    }

    #[test]
    fn every_spelling_of_a_statement_is_read() {
        for line in [
            "Port 22",
            "port=22",
            "  PORT =  22  ",
            "\"port\" 22",
            "Port\t22",
        ] {
            assert_eq!(split(line), Some(("port".to_owned(), "22")), "{line}");
        }
        assert_eq!(split("UsePAM"), Some(("usepam".to_owned(), "")));
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.conf", "50-cloud.conf", true),
            ("*.conf", ".hidden.conf", false),
            ("*.conf", "a.conf.saved", false),
            ("*", "", true),
            ("?", "", false),
            ("a?c*", "abc", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            (".*", ".x", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn includes_are_followed_where_they_stand_and_loops_end() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        std::fs::create_dir(top.join("d")).unwrap();
        std::fs::write(top.join("d/20.conf"), "Match User git\nPort 3\n").unwrap();
        std::fs::write(top.join("d/10.conf"), "Port 1\n").unwrap();
        std::fs::write(top.join("d/10.conf.saved"), "Port 9\n").unwrap();
        let main = top.join("main");
        std::fs::write(
            &main,
            format!(
                "Include {0}/d/*.conf {0}/main\nPort 4\nMatch Group x\nPort 5\nMatch all\nPort 6\n",
                top.display()
            ),
        )
        .unwrap();
        let statements = read(&main);
        let ports: Vec<_> = statements
            .iter()
            .filter(|s| s.keyword == "port")
            .map(|s| (s.value.as_str(), s.condition.as_deref()))
            .collect();
        let once = [("4", None), ("5", Some("Group x")), ("6", None)];
        assert_eq!(
            ports.get(..2).unwrap(),
            [("1", None), ("3", Some("User git"))]
        );
        assert!(ports.ends_with(&once));
        assert!(ports.iter().filter(|p| **p == ("4", None)).count() > 1);
        assert_eq!(
            statements[1].place(),
            format!("{}/d/10.conf:1", top.display())
        );
    }

    #[test]
    fn words_are_split_at_blanks_outside_quotes() {
        assert_eq!(words("a 'b c' \"d\\\" e\"  f"), ["a", "b c", "d\" e", "f"]);
    }
}
