//! Settings on sshd's own command line: `-o` beats every file, and `sshd -T` does not show it.
//! The ec2-instance-connect package sets AuthorizedKeysCommand this way, in a systemd drop-in.

use std::path::{Path, PathBuf};

use crate::sshd::config_file::words;

/// One `-o Keyword=value`, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Override {
    pub(super) keyword: String,
    pub(super) value: String,
    pub(super) source: PathBuf,
}

const OPTION_FILES: [&str; 2] = ["/etc/default/ssh", "/etc/sysconfig/sshd"];

/// Overrides that the running sshd or its option files have; units are `service`'s business.
pub(super) fn elsewhere(pid_file: &Path) -> Vec<Override> {
    let mut found = running(pid_file).unwrap_or_default();
    for file in OPTION_FILES.map(PathBuf::from) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        found.extend(in_text(&text, &file));
    }
    found
}

fn running(pid_file: &Path) -> Option<Vec<Override>> {
    let pid = super::reload::running_sshd(pid_file)?;
    let source = PathBuf::from(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
    let line = std::fs::read(&source).ok()?;
    Some(in_process(&line, &source))
}

/// The arguments of a process, NUL behind each; or a title that sshd has written over them, with blanks between:
/// `sshd: /usr/sbin/sshd -D -o … [listener] 0 of 10-100 startups`.
fn in_process(line: &[u8], source: &Path) -> Vec<Override> {
    let text = String::from_utf8_lossy(line);
    match text.strip_prefix("sshd: ") {
        Some(title) => in_words(&arguments(title.trim_end_matches('\0')), source),
        None => {
            let words: Vec<String> = text.split('\0').map(str::to_owned).collect();
            in_words(&words, source)
        }
    }
}

/// A title's arguments, as far as they can be told: what follows an `-o` up to the next option is its setting.
fn arguments(title: &str) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut in_setting = false;
    for word in title.split_ascii_whitespace() {
        let is_option = word.starts_with(['-', '[']);
        match arguments.last_mut().filter(|_| in_setting && !is_option) {
            // Joined by a blank, but for the first word behind a lone `-o`.
            Some(setting) if setting == "-o" => setting.push_str(word),
            Some(setting) => *setting = format!("{setting} {word}"),
            None => arguments.push(word.to_owned()),
        }
        in_setting = word.starts_with("-o") || (in_setting && !is_option);
    }
    arguments
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
    in_words(
        &words(unquoted.trim_matches('"').trim_matches('\'')),
        source,
    )
}

/// The `-o` options among the words of a command line.
pub(super) fn in_words(words: &[String], source: &Path) -> Vec<Override> {
    let mut words = words.iter();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let Some(rest) = word.strip_prefix("-o") else {
            continue;
        };
        let setting = if rest.is_empty() {
            words.next().map_or("", String::as_str)
        } else {
            rest
        };
        if let Some((keyword, value)) = setting.trim().split_once(['=', ' ']) {
            found.push(Override {
                keyword: keyword.to_ascii_lowercase(),
                // systemd's units write one percent sign as two.
                value: value.trim().replace("%%", "%"),
                source: source.to_path_buf(),
            });
        }
    }
    found
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
    fn options_of_the_running_sshd_are_seen_with_their_blanks() {
        // I-21
        let of = |line: &str| -> Vec<(String, String)> {
            let found = in_process(line.as_bytes(), Path::new("/proc/1/cmdline"));
            found.into_iter().map(|o| (o.keyword, o.value)).collect()
        };
        let command = ("authorizedkeyscommand", "/usr/share/x/run %u %f");
        let user = ("authorizedkeyscommanduser", "ec2-instance-connect");
        let both = [command, user].map(|(k, v)| (k.to_owned(), v.to_owned()));
        for line in [
            "/usr/sbin/sshd\0-D\0-o\0AuthorizedKeysCommand /usr/share/x/run %u %f\0-o\0AuthorizedKeysCommandUser ec2-instance-connect\0",
            "/usr/sbin/sshd\0-D\0-oAuthorizedKeysCommand=/usr/share/x/run %u %f\0-oAuthorizedKeysCommandUser=ec2-instance-connect\0",
            "sshd: /usr/sbin/sshd -D -o AuthorizedKeysCommand /usr/share/x/run %u %f -o AuthorizedKeysCommandUser ec2-instance-connect [listener] 0 of 10-100 startups\0\0",
            "sshd: /usr/sbin/sshd -D -oAuthorizedKeysCommand=/usr/share/x/run %u %f -oAuthorizedKeysCommandUser=ec2-instance-connect -p 22 [listener] 0 of 10-100 startups",
            "sshd: /usr/sbin/sshd -o AuthorizedKeysCommand=/usr/share/x/run %u %f -D -o AuthorizedKeysCommandUser ec2-instance-connect [listener] 1 of 10-100 startups",
        ] {
            assert_eq!(of(line), both, "{line}");
        }
        for none in [
            "/usr/sbin/sshd\0-D\0",
            "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
            "",
        ] {
            assert_eq!(of(none), [], "{none}");
        }
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
