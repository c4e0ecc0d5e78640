//! Where our lines stand in sshd's configuration: a drop-in of our own where sshd reads one early
//! enough to win, else a block at the head of the main file (sshd before 8.2 knows no Include).

use std::path::{Path, PathBuf};

use super::InstallError;
use super::drop_in::KEYWORDS;
use crate::sshd::config_file::{Statement, include_patterns, matches, split};
use crate::sshd::{Sshd, VENDOR_DIR, Version};

/// The drop-in's name; sshd takes the first value that it meets, in lexical order.
pub(super) const NAME: &str = "10-eic.conf";
/// The folder of drop-ins beside the main file.
pub(super) const FOLDER: &str = "sshd_config.d";

const HEADER: &str = "# Written by `eic-agent install`; `eic-agent uninstall` takes it back.\n";
const BEGIN: &str =
    "# BEGIN eic-agent (written by `eic-agent install`; `eic-agent uninstall` takes it back)\n";
const END: &str = "# END eic-agent\n";

/// The first sshd with Include (release notes of 8.2).
const INCLUDE: Version = Version { major: 8, minor: 2 };

/// A file, and how the lines stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// A file of our own.
    DropIn(PathBuf),
    /// A part of the administrator's file.
    Block(PathBuf),
}

impl Placement {
    /// The drop-in where it wins, else the block.
    ///
    /// # Errors
    /// The block would have to stand in a file that belongs to the distribution.
    pub(super) fn find(
        sshd: &Sshd,
        config_dir: &Path,
        statements: &[Statement],
    ) -> Result<Self, InstallError> {
        let drop_in = config_dir.join(FOLDER).join(NAME);
        if sshd.version >= INCLUDE && is_read_first(&drop_in, &sshd.config, statements) {
            return Ok(Self::DropIn(drop_in));
        }
        if sshd.config.starts_with(VENDOR_DIR) {
            return Err(InstallError::VendorFile(sshd.config.clone()));
        }
        Ok(Self::Block(sshd.config.clone()))
    }

    /// The file.
    pub(super) fn file(&self) -> &Path {
        match self {
            Self::DropIn(path) | Self::Block(path) => path,
        }
    }

    /// The file's text with our lines, from its present text.
    pub(super) fn with(&self, present: &str, lines: &str) -> String {
        match self {
            Self::DropIn(_) => [HEADER, lines].concat(),
            Self::Block(_) => [BEGIN, lines, END, &without_block(present)].concat(),
        }
    }
}

/// Whether the drop-in is included unconditionally, before anything that sets one of our keywords.
fn is_read_first(drop_in: &Path, main: &Path, statements: &[Statement]) -> bool {
    for statement in statements {
        let ours = statement.file == drop_in || is_in_block(statement, main);
        if statement.condition.is_some() || ours {
            continue;
        }
        let later_drop_in = statement.file.parent() == drop_in.parent()
            && statement.file.file_name() > drop_in.file_name();
        if KEYWORDS.contains(&statement.keyword.as_str()) && !later_drop_in {
            return false;
        }
        if statement.keyword == "include" && includes(&statement.value, drop_in) {
            return !earlier_drop_in_sets(drop_in, statements);
        }
    }
    false
}

fn includes(value: &str, file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    include_patterns(value).iter().any(|pattern| {
        let pattern = Path::new(pattern);
        let last = pattern.file_name().unwrap_or_default().to_string_lossy();
        pattern.parent() == file.parent() && matches(&last, &name)
    })
}

fn earlier_drop_in_sets(drop_in: &Path, statements: &[Statement]) -> bool {
    statements.iter().any(|statement| {
        statement.condition.is_none()
            && statement.file.parent() == drop_in.parent()
            && statement.file.file_name() < drop_in.file_name()
            && KEYWORDS.contains(&statement.keyword.as_str())
    })
}

/// Whether a statement stands in our block of the main file.
fn is_in_block(statement: &Statement, main: &Path) -> bool {
    if statement.file != main {
        return false;
    }
    let text = std::fs::read_to_string(main).unwrap_or_default();
    let (mut inside, mut number) = (false, 0);
    for line in text.split_inclusive('\n') {
        number += 1;
        inside = (inside || line == BEGIN) && line != END;
        if number == statement.line {
            return inside;
        }
    }
    false
}

/// Statements that are not ours.
pub(super) fn foreign(statements: &[Statement], config_dir: &Path, main: &Path) -> Vec<Statement> {
    let drop_in = config_dir.join(FOLDER).join(NAME);
    let others = statements
        .iter()
        .filter(|s| s.file != drop_in && !is_in_block(s, main));
    others.cloned().collect()
}

/// A main file without our block; every other byte is kept.
pub(super) fn without_block(text: &str) -> String {
    let mut inside = false;
    let mut rest = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if line == BEGIN {
            inside = true;
        } else if inside && line == END {
            inside = false;
        } else if !inside {
            rest.push_str(line);
        }
    }
    // A block that lost its end is not ours to guess about.
    if inside { text.to_owned() } else { rest }
}

/// Whether a text holds our block.
pub(super) fn has_block(text: &str) -> bool {
    without_block(text) != text
}

/// A main file whose Includes of one folder lead to another one.
pub(super) fn redirected(text: &str, from: &Path, to: &Path) -> String {
    text.split_inclusive('\n')
        .map(|line| match split(line) {
            Some((keyword, value)) if keyword == "include" => redirect_line(value, from, to),
            _ => line.to_owned(),
        })
        .collect()
}

fn redirect_line(value: &str, from: &Path, to: &Path) -> String {
    let patterns = include_patterns(value).into_iter().map(|pattern| {
        let path = Path::new(&pattern);
        match path.file_name().filter(|_| path.parent() == Some(from)) {
            Some(name) => to.join(name).display().to_string(),
            None => pattern,
        }
    });
    let quoted: Vec<String> = patterns.map(|p| format!("\"{p}\"")).collect();
    format!("Include {}\n", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sshd(major: u32, minor: u32, config: &Path) -> Sshd {
        Sshd {
            program: "/usr/sbin/sshd".into(),
            config: config.to_path_buf(),
            version: Version { major, minor },
        }
    }

    /// A configuration folder with a main file and drop-ins; `DIR` stands for it.
    fn found(version: (u32, u32), main: &str, drop_ins: &[(&str, &str)]) -> &'static str {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        std::fs::create_dir(dir.join(FOLDER)).unwrap();
        for (name, text) in drop_ins {
            std::fs::write(dir.join(FOLDER).join(name), text).unwrap();
        }
        let config = dir.join("sshd_config");
        std::fs::write(&config, main.replace("DIR", &dir.display().to_string())).unwrap();
        let statements = crate::sshd::config_file::read(&config);
        match Placement::find(&sshd(version.0, version.1, &config), dir, &statements).unwrap() {
            Placement::DropIn(_) => "drop-in",
            Placement::Block(_) => "block",
        }
    }

    const INCLUDING: &str = "Include DIR/sshd_config.d/*.conf\nUsePAM yes\n";

    #[test]
    fn a_drop_in_that_would_not_win_is_not_used() {
        let command = "AuthorizedKeysCommand /x\n";
        for (version, main, drop_ins) in [
            ((7, 4), INCLUDING, vec![]),
            ((9, 2), "UsePAM yes\n", vec![]),
            (
                (9, 2),
                "Match User a\nInclude DIR/sshd_config.d/*.conf\n",
                vec![],
            ),
            ((9, 2), "Include DIR/sshd_config.d/*.cfg\n", vec![]),
            ((9, 2), INCLUDING, vec![("00-site.conf", command)]),
            (
                (9, 2),
                "TrustedUserCAKeys /k\nInclude DIR/sshd_config.d/*.conf\n",
                vec![],
            ),
        ] {
            assert_eq!(found(version, main, &drop_ins), "block", "{main}");
        }
    }

    #[test]
    fn a_drop_in_that_wins_is_used() {
        let command = "AuthorizedKeysCommand /x\n";
        for (main, drop_ins) in [
            (INCLUDING, vec![]),
            (INCLUDING, vec![("50-site.conf", command)]),
            (
                INCLUDING,
                vec![("00-site.conf", "Match User git\nAuthorizedKeysCommand /x\n")],
            ),
            (
                INCLUDING,
                vec![("10-eic.conf", command), ("00-a.conf", "Port 22\n")],
            ),
            (
                "Include DIR/sshd_config.d/*.conf\nAuthorizedKeysCommand /x\n",
                vec![],
            ),
        ] {
            assert_eq!(found((8, 2), main, &drop_ins), "drop-in", "{main}");
        }
    }

    #[test]
    fn a_block_is_put_in_replaced_and_taken_out_byte_for_byte() {
        let block = Placement::Block("/etc/ssh/sshd_config".into());
        for before in [
            "",
            "UsePAM yes\n",
            "# no end of line",
            "Match all\n\n\nX11Forwarding no\n",
        ] {
            let once = block.with(before, "A b\n");
            assert!(once.starts_with("# BEGIN eic-agent"), "{once}");
            assert!(has_block(&once) && !has_block(before));
            assert_eq!(block.with(&once, "A b\n"), once);
            assert!(block.with(&once, "A c\n").contains("A c\n"));
            assert_eq!(without_block(&once), before);
        }
        let torn = format!("{BEGIN}A b\nUsePAM yes\n");
        assert_eq!(without_block(&torn), torn);
    }

    #[test]
    fn lines_in_the_block_are_not_foreign() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("sshd_config");
        let text = Placement::Block(main.clone()).with("Port 22\n", "TrustedUserCAKeys /k\n");
        std::fs::write(&main, text).unwrap();
        let statements = crate::sshd::config_file::read(&main);
        let others = foreign(&statements, folder.path(), &main);
        let keywords: Vec<&str> = others.iter().map(|s| s.keyword.as_str()).collect();
        assert_eq!(keywords, ["port"]);
    }

    #[test]
    fn includes_of_the_folder_are_redirected_and_others_are_not() {
        let (from, to) = (Path::new("/etc/ssh/sshd_config.d"), Path::new("/t/d"));
        assert_eq!(
            redirected(
                "UsePAM yes\ninclude sshd_config.d/*.conf /etc/other.conf\n",
                from,
                to
            ),
            "UsePAM yes\nInclude \"/t/d/*.conf\" \"/etc/other.conf\"\n"
        );
    }
}
