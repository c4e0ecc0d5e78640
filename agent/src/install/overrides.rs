//! Settings on sshd's own command line: `-o` beats every file, and `sshd -T` does not show it.
//! The ec2-instance-connect package sets AuthorizedKeysCommand this way, in a systemd drop-in.

use std::path::{Path, PathBuf};

/// One `-o Keyword=value`, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Override {
    pub(super) keyword: String,
    pub(super) value: String,
    pub(super) source: PathBuf,
}

/// Folders of systemd units, and files that units take their options from.
const UNIT_FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const UNITS: [&str; 3] = ["ssh.service", "sshd.service", "ssh@.service"];
const OPTION_FILES: [&str; 2] = ["/etc/default/ssh", "/etc/sysconfig/sshd"];

/// Every override that the system's units or the running sshd have.
pub(super) fn find(pid_file: &Path) -> Vec<Override> {
    let mut found = running(pid_file).unwrap_or_default();
    for file in unit_files()
        .into_iter()
        .chain(OPTION_FILES.map(PathBuf::from))
    {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        found.extend(in_text(&text, &file));
    }
    found
}

fn unit_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in UNIT_FOLDERS.map(Path::new) {
        for unit in UNITS {
            files.push(folder.join(unit));
            let drop_ins = std::fs::read_dir(folder.join(format!("{unit}.d")));
            files.extend(
                drop_ins
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.path()),
            );
        }
    }
    files
}

/// The running sshd's title holds its command line: `sshd: /usr/sbin/sshd -D -o… [listener] …`.
fn running(pid_file: &Path) -> Option<Vec<Override>> {
    let pid = super::reload::running_sshd(pid_file)?;
    let source = PathBuf::from(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
    let line = std::fs::read(&source).ok()?;
    let text: String = String::from_utf8_lossy(&line)
        .chars()
        .map(|c| if c == '\0' { ' ' } else { c })
        .collect();
    Some(in_line(&text, &source))
}

/// Lines that start sshd or set its options, with continued lines joined.
fn in_text(text: &str, source: &Path) -> Vec<Override> {
    let joined = text.replace("\\\n", " ");
    let relevant = |line: &&str| {
        let line = line.trim_start();
        ["ExecStart=", "SSHD_OPTS=", "OPTIONS="]
            .iter()
            .any(|start| line.starts_with(start))
    };
    joined
        .lines()
        .filter(relevant)
        .flat_map(|line| in_line(line, source))
        .collect()
}

fn in_line(line: &str, source: &Path) -> Vec<Override> {
    let unquoted = line
        .split_once("OPTS=")
        .or_else(|| line.split_once("OPTIONS="))
        .map_or(line, |(_, value)| value);
    let mut words = words(unquoted.trim_matches('"').trim_matches('\'')).into_iter();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let Some(rest) = word.strip_prefix("-o") else {
            continue;
        };
        let setting = if rest.is_empty() {
            words.next().unwrap_or_default()
        } else {
            rest.to_owned()
        };
        if let Some((keyword, value)) = setting.trim().split_once(['=', ' ']) {
            let value = value.trim().replace("%%", "%");
            found.push(Override {
                keyword: keyword.to_ascii_lowercase(),
                value,
                source: source.to_path_buf(),
            });
        }
    }
    found
}

/// Words as systemd and shells split them: blanks, both quotes, backslash.
fn words(text: &str) -> Vec<String> {
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

    fn settings(text: &str) -> Vec<(String, String)> {
        in_text(text, Path::new("/unit"))
            .into_iter()
            .map(|found| (found.keyword, found.value))
            .collect()
    }

    #[test]
    fn the_packages_systemd_drop_in_is_seen() {
        // I-21
        let unit = "[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -o \"AuthorizedKeysCommand /usr/share/x/run %%u %%f\" \\\n  \
                    -o 'AuthorizedKeysCommandUser ec2-instance-connect' $SSHD_OPTS\n";
        assert_eq!(
            settings(unit),
            [
                (
                    "authorizedkeyscommand".to_owned(),
                    "/usr/share/x/run %u %f".to_owned()
                ),
                (
                    "authorizedkeyscommanduser".to_owned(),
                    "ec2-instance-connect".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn options_in_every_spelling_are_seen() {
        for line in [
            "ExecStart=/usr/sbin/sshd -D -oTrustedUserCAKeys=/x",
            "ExecStart=/usr/sbin/sshd -o TRUSTEDUSERCAKEYS=/x -D",
            "SSHD_OPTS=\"-o TrustedUserCAKeys=/x\"",
            "OPTIONS='-oTrustedUserCAKeys=/x'",
        ] {
            assert_eq!(
                settings(line),
                [("trustedusercakeys".to_owned(), "/x".to_owned())],
                "{line}"
            );
        }
    }

    #[test]
    fn other_lines_are_none() {
        assert!(
            settings(
                "# ExecStart=/usr/sbin/sshd -o X=y\nExecReload=/bin/kill -o X=y\nSSHD_OPTS=\n"
            )
            .is_empty()
        );
        assert!(settings("ExecStart=/usr/sbin/sshd -D $SSHD_OPTS\n").is_empty());
    }
}
