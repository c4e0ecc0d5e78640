//! sshd's systemd units: where one starts sshd with options that would beat every file (AWS's package does),
//! a drop-in of ours starts it without them. The package's own files are not touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::InstallError;
use super::drop_in::KEYWORDS;
use super::overrides::{self, Override};
use super::systemd::FOLDERS;

/// What the distributions call it, started once or for each connection.
const UNITS: [&str; 4] = [
    "ssh.service",
    "sshd.service",
    "ssh@.service",
    "sshd@.service",
];
/// Our drop-in; drop-ins count in the order of their names, wherever they are.
const NAME: &str = "zz-eic.conf";

/// A unit that is started by our drop-in from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TakenOver {
    /// The drop-in.
    pub(super) file: PathBuf,
    /// Its text.
    pub(super) text: String,
    /// The options that it leaves out.
    pub(super) overrides: Vec<Override>,
}

/// Whether a path is one of our drop-ins.
pub(super) fn is_drop_in(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == NAME) && path.starts_with(FOLDERS[0])
}

/// The units that set one of our keywords on sshd's command line, each with its remedy.
///
/// # Errors
/// Another drop-in has the last word.
pub(super) fn take_over() -> Result<Vec<TakenOver>, InstallError> {
    let folders: Vec<PathBuf> = FOLDERS.iter().map(PathBuf::from).collect();
    let mut found = Vec::new();
    for unit in UNITS {
        found.extend(take_over_unit(unit, &folders)?);
    }
    Ok(found)
}

fn take_over_unit(unit: &str, folders: &[PathBuf]) -> Result<Option<TakenOver>, InstallError> {
    let commands = commands(unit, folders);
    let options: Vec<Override> = commands
        .iter()
        .flat_map(|(line, source)| beating(line, source))
        .collect();
    let Some(top) = folders.first().filter(|_| !options.is_empty()) else {
        return Ok(None);
    };
    let last = commands.iter().find(|(_, source)| is_after_ours(source));
    if let Some((_, source)) = last {
        return Err(InstallError::UnitOrder(source.clone()));
    }
    let starts: String = commands
        .iter()
        .map(|(line, _)| format!("ExecStart={}\n", without_options(line)))
        .collect();
    Ok(Some(TakenOver {
        file: top.join(format!("{unit}.d")).join(NAME),
        text: format!("{HEADER}[Service]\nExecStart=\n{starts}"),
        overrides: options,
    }))
}

const HEADER: &str = "# Written by `eic-agent install`; `eic-agent uninstall` takes it back.\n\
     # Starts sshd as before, without the options that would beat sshd_config.\n";

fn is_after_ours(source: &Path) -> bool {
    let in_drop_ins = source
        .parent()
        .is_some_and(|folder| folder.extension().is_some_and(|e| e == "d"));
    in_drop_ins && source.file_name().is_some_and(|name| name > NAME)
}

/// The unit's commands and where each is set, as systemd joins them: the unit, then drop-ins by name, each name
/// from the folder that counts most; an empty ExecStart forgets what came before. Ours is left out.
fn commands(unit: &str, folders: &[PathBuf]) -> Vec<(String, PathBuf)> {
    let mut files: Vec<PathBuf> = unit_file(unit, folders).into_iter().collect();
    files.extend(drop_ins(unit, folders));
    let mut commands = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        for line in text.replace("\\\n", " ").lines() {
            match line.trim_start().strip_prefix("ExecStart=").map(str::trim) {
                Some("") => commands.clear(),
                Some(command) => commands.push((command.to_owned(), file.clone())),
                None => {}
            }
        }
    }
    commands
}

/// The unit itself; an alias (a link to a unit of another name) is that other unit.
fn unit_file(unit: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let files = folders.iter().map(|folder| folder.join(unit));
    let file = files.into_iter().find(|file| file.exists())?;
    let own_name = std::fs::canonicalize(&file).is_ok_and(|f| f.ends_with(unit));
    own_name.then_some(file)
}

fn drop_ins(unit: &str, folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut by_name = BTreeMap::new();
    for folder in folders {
        let entries = std::fs::read_dir(folder.join(format!("{unit}.d")));
        for entry in entries.into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "conf") && entry.file_name() != NAME {
                by_name.entry(entry.file_name()).or_insert(path);
            }
        }
    }
    by_name.into_values().collect()
}

fn beating(line: &str, source: &Path) -> Vec<Override> {
    let words: Vec<String> = spans(line).into_iter().map(|span| span.word).collect();
    let mut options = overrides::in_words(&words, source);
    options.retain(|option| KEYWORDS.contains(&option.keyword.as_str()));
    options
}

/// The command without the options that set one of our keywords; every other word as it was written.
fn without_options(line: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut words = spans(line).into_iter().peekable();
    while let Some(span) = words.next() {
        let value = (span.word == "-o").then(|| words.next()).flatten();
        let pair: Vec<String> = std::iter::once(&span)
            .chain(&value)
            .map(|span| span.word.clone())
            .collect();
        let ours = overrides::in_words(&pair, Path::new(""))
            .iter()
            .any(|option| KEYWORDS.contains(&option.keyword.as_str()));
        if !ours {
            kept.push(span.raw);
            kept.extend(value.map(|span| span.raw));
        }
    }
    kept.join(" ")
}

/// A word of a command line, unquoted and as it was written.
struct Span<'a> {
    word: String,
    raw: &'a str,
}

fn spans(line: &str) -> Vec<Span<'_>> {
    let mut spans = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (raw, after) = rest
            .split_at_checked(end_of_word(rest))
            .unwrap_or((rest, ""));
        let word = crate::sshd::config_file::words(raw).concat();
        spans.push(Span { word, raw });
        rest = after.trim_start();
    }
    spans
}

fn end_of_word(text: &str) -> usize {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            _ if escaped => escaped = false,
            ('\\', _) => escaped = true,
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (c, None) if c.is_whitespace() => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -o \"AuthorizedKeysCommand /usr/share/ec2-instance-connect/eic_run_authorized_keys %%u %%f\" \\\n  -o \"AuthorizedKeysCommandUser ec2-instance-connect\" $SSHD_OPTS\n";
    const RPM: &str = "[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -oAuthorizedKeysCommand='/opt/aws/bin/eic_run_authorized_keys %%u %%f' -o AuthorizedKeysCommandUser=ec2-instance-connect $OPTIONS -o 'Banner none'\n";

    /// Units in two folders: the administrator's and the distribution's.
    fn units(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let folders = ["etc", "lib"].map(|f| folder.path().join(f)).to_vec();
        (folder, folders)
    }

    const UNIT: &str = "[Service]\nExecStart=/usr/sbin/sshd -D $SSHD_OPTS\n";

    #[test]
    fn a_later_drop_in_that_has_the_last_word_is_refused() {
        let (_folder, folders) = units(&[
            ("lib/ssh.service", UNIT),
            ("lib/ssh.service.d/zzz.conf", DEBIAN),
        ]);
        let refused = take_over_unit("ssh.service", &folders).unwrap_err();
        assert!(refused.to_string().contains("zzz.conf"), "{refused}");
    }

    #[test]
    fn the_packages_options_are_left_out_and_all_else_is_kept() {
        // I-21
        for (drop_in, start) in [
            (DEBIAN, "/usr/sbin/sshd -D $SSHD_OPTS"),
            (RPM, "/usr/sbin/sshd -D $OPTIONS -o 'Banner none'"),
        ] {
            let (folder, folders) = units(&[
                ("lib/ssh.service", UNIT),
                ("lib/ssh.service.d/ec2-instance-connect.conf", drop_in),
            ]);
            let taken = take_over_unit("ssh.service", &folders).unwrap().unwrap();
            assert_eq!(
                taken.text,
                format!("{HEADER}[Service]\nExecStart=\nExecStart={start}\n")
            );
            assert_eq!(
                taken.file,
                folder.path().join("etc/ssh.service.d/zz-eic.conf")
            );
            assert_eq!(taken.overrides.len(), 2);
            assert!(
                taken.overrides[0]
                    .value
                    .ends_with("eic_run_authorized_keys %u %f")
            );
            // With our drop-in in place the answer is the same: it is not taken for the cause's end.
            std::fs::create_dir_all(taken.file.parent().unwrap()).unwrap();
            std::fs::write(&taken.file, &taken.text).unwrap();
            let again = take_over_unit("ssh.service", &folders).unwrap();
            assert_eq!(again, Some(taken));
        }
    }

    #[test]
    fn units_without_such_options_are_left_alone() {
        let masked = [
            ("lib/ssh.service.d/x.conf", RPM),
            ("etc/ssh.service.d/x.conf", ""),
        ];
        let cleared = [
            ("lib/ssh.service.d/a.conf", RPM),
            (
                "lib/ssh.service.d/b.conf",
                "[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D\n",
            ),
        ];
        for more in [&masked[..], &cleared[..], &[]] {
            let (_folder, folders) = units(&[&[("lib/ssh.service", UNIT)], more].concat());
            assert_eq!(take_over_unit("ssh.service", &folders).unwrap(), None);
        }
    }

    #[test]
    fn an_alias_is_the_unit_that_it_points_to() {
        let (_folder, folders) = units(&[("lib/ssh.service", RPM)]);
        std::fs::create_dir_all(&folders[0]).unwrap();
        std::os::unix::fs::symlink(
            folders[1].join("ssh.service"),
            folders[0].join("sshd.service"),
        )
        .unwrap();
        assert_eq!(take_over_unit("sshd.service", &folders).unwrap(), None);
        assert!(take_over_unit("ssh.service", &folders).unwrap().is_some());
    }
}
