//! `[[authorized_keys.command]]` in agent.toml: one further AuthorizedKeysCommand, checked when it is read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::tokens::{InvalidTemplate, Template, Token};

/// Every configured command, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<ChainedCommand>")]
pub struct ChainedCommands(Vec<ChainedCommand>);

/// One command.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct ChainedCommand {
    /// What the log calls it.
    pub name: String,
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Its arguments, with sshd's tokens.
    pub arguments: Vec<Template>,
    /// How long it may run.
    pub deadline: Duration,
    /// How much it may write, in bytes.
    pub max_bytes: usize,
    /// Whom it runs as, through the root helper; none: AuthorizedKeysCommandUser, as we do.
    pub user: Option<String>,
}

/// The table as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    command: Vec<String>,
    name: Option<String>,
    deadline_ms: Option<u64>,
    max_bytes: Option<usize>,
    user: Option<String>,
}

/// More commands than anybody chains; each is a process per offered key.
const MAX_COMMANDS: usize = 8;
/// Words of one command.
const MAX_WORDS: usize = 32;
/// A directory service that is well answers in some ten milliseconds; one whose server is away needs seconds.
const DEFAULT_DEADLINE_MS: u64 = 2_000;
/// sshd's LoginGraceTime is 120 s, and each offered key costs up to one deadline.
const MAX_DEADLINE_MS: u64 = 10_000;
const DEFAULT_MAX_BYTES: usize = 64 * 1024;
const MAX_MAX_BYTES: usize = 1024 * 1024;

impl ChainedCommands {
    /// The commands.
    pub fn iter(&self) -> std::slice::Iter<'_, ChainedCommand> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The command of that name, if it is one of another account's.
    #[must_use]
    pub fn of_another_user(&self, name: &str) -> Option<(&ChainedCommand, &str)> {
        let named = self.0.iter().find(|command| command.name == name)?;
        Some((named, named.user.as_deref()?))
    }

    /// What follows `authorized-keys` in sshd's AuthorizedKeysCommand: `%u %f`, then each further token that
    /// a command uses (`h=%h`), so that an sshd too old for a token never meets it without need.
    #[must_use]
    pub fn sshd_words(&self) -> String {
        let mut used: BTreeSet<Token> = BTreeSet::new();
        for command in &self.0 {
            used.extend(command.arguments.iter().flat_map(Template::tokens));
        }
        let further = used.iter().filter(|token| !token.is_positional());
        let words = further.map(|token| format!(" {0}=%{0}", token.letter()));
        std::iter::once("%u %f".to_owned()).chain(words).collect()
    }
}

impl TryFrom<Vec<ChainedCommand>> for ChainedCommands {
    type Error = InvalidCommand;

    fn try_from(commands: Vec<ChainedCommand>) -> Result<Self, InvalidCommand> {
        if commands.len() > MAX_COMMANDS {
            return Err(InvalidCommand::TooMany);
        }
        let mut names = BTreeSet::new();
        match commands.iter().find(|c| !names.insert(c.name.as_str())) {
            Some(twice) => Err(InvalidCommand::NameTwice(twice.name.clone())),
            None => Ok(Self(commands)),
        }
    }
}

impl TryFrom<Written> for ChainedCommand {
    type Error = InvalidCommand;

    fn try_from(written: Written) -> Result<Self, InvalidCommand> {
        let (program, words) = written.command.split_first().ok_or(InvalidCommand::Empty)?;
        let program = program_path(program)?;
        if words.len() > MAX_WORDS {
            return Err(InvalidCommand::Words);
        }
        Ok(Self {
            name: name(written.name, &program)?,
            program,
            arguments: arguments(words)?,
            deadline: deadline(written.deadline_ms.unwrap_or(DEFAULT_DEADLINE_MS))?,
            max_bytes: max_bytes(written.max_bytes.unwrap_or(DEFAULT_MAX_BYTES))?,
            user: written.user.map(account_name).transpose()?,
        })
    }
}

/// Absolute, and no token in it: which program runs must not depend on who logs in.
fn program_path(text: &str) -> Result<PathBuf, InvalidCommand> {
    let plain = text.starts_with('/') && !text.contains('%') && !text.contains('\0');
    if plain {
        Ok(PathBuf::from(text))
    } else {
        Err(InvalidCommand::Path(eic_protocol::text::printable(text)))
    }
}

/// sshd gives a command without arguments the user name (sshd_config(5), AuthorizedKeysCommand); so do we.
fn arguments(words: &[String]) -> Result<Vec<Template>, InvalidCommand> {
    if words.is_empty() {
        return Ok(vec![Template::user()]);
    }
    words
        .iter()
        .map(|word| Template::parse(word).map_err(InvalidCommand::from))
        .collect()
}

fn name(written: Option<String>, program: &Path) -> Result<String, InvalidCommand> {
    let file = || {
        program
            .file_name()
            .map(|file| file.to_string_lossy().into_owned())
    };
    let name = written.or_else(file).unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        Ok(name)
    } else {
        Err(InvalidCommand::Name(eic_protocol::text::printable(&name)))
    }
}

/// A local account's name (useradd(8)). Root's rights are given to no chained command: the root helper, which
/// knows every uid, refuses root's other names as well.
fn account_name(text: String) -> Result<String, InvalidCommand> {
    let mut bytes = text.bytes();
    let first = bytes.next();
    let first = first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if first && text.len() <= 32 && bytes.all(rest) && text != "root" {
        Ok(text)
    } else {
        Err(InvalidCommand::User(eic_protocol::text::printable(&text)))
    }
}

fn deadline(milliseconds: u64) -> Result<Duration, InvalidCommand> {
    if (1..=MAX_DEADLINE_MS).contains(&milliseconds) {
        Ok(Duration::from_millis(milliseconds))
    } else {
        Err(InvalidCommand::Deadline)
    }
}

fn max_bytes(bytes: usize) -> Result<usize, InvalidCommand> {
    if (1..=MAX_MAX_BYTES).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(InvalidCommand::MaxBytes)
    }
}

/// What is wrong with `[[authorized_keys.command]]`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommand {
    /// `command = []`
    #[error("`command` is empty: name a program")]
    Empty,
    /// Too many tables.
    #[error("more than {MAX_COMMANDS} commands")]
    TooMany,
    /// Too many words.
    #[error("`command` has more than {MAX_WORDS} arguments")]
    Words,
    /// Relative, or with a token.
    #[error("`{0}` is no absolute path of a program without `%`")]
    Path(String),
    /// A token that sshd does not have.
    #[error(transparent)]
    Template(#[from] InvalidTemplate),
    /// Not a name.
    #[error("`{0}` is no name: use 1 to 64 letters, digits and `._-` (set `name`)")]
    Name(String),
    /// Two with one name.
    #[error("two commands are named `{0}`: give each its own `name`")]
    NameTwice(String),
    /// Out of range.
    #[error("`deadline_ms` must be 1 to {MAX_DEADLINE_MS}")]
    Deadline,
    /// Out of range.
    #[error("`max_bytes` must be 1 to {MAX_MAX_BYTES}")]
    MaxBytes,
    /// Root, or no account.
    #[error("`user` cannot be `{0}`: name a local account that is not root")]
    User(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ChainedCommands, String> {
        #[derive(Deserialize)]
        struct File {
            command: ChainedCommands,
        }
        toml::from_str::<File>(text)
            .map(|file| file.command)
            .map_err(|e| e.to_string())
    }

    /// A file, and what its refusal says.
    const WRONG: &[(&str, &str)] = &[
        ("[[command]]", "missing field `command`"),
        ("[[command]]\ncommand = []", "is empty"),
        ("[[command]]\ncommand = \"/x %u\"", "invalid type"),
        ("[[command]]\ncommand = [\"x\"]", "no absolute path"),
        ("[[command]]\ncommand = [\"\"]", "no absolute path"),
        ("[[command]]\ncommand = [\"./x\"]", "no absolute path"),
        ("[[command]]\ncommand = [\"/opt/%u/x\"]", "no absolute path"),
        ("[[command]]\ncommand = [\"/x\", \"%q\"]", "%q"),
        ("[[command]]\ncommand = [\"/x\", \"%\"]", "ends with"),
        ("[[command]]\ncommand = [\"/x\", \"%i\"]", "%i"),
        ("[[command]]\ncommand = [\"/\"]", "is no name"),
        ("[[command]]\ncommand = [\"/a b\"]", "is no name"),
        ("[[command]]\ncommand = [\"/x\"]\nname = \"\"", "is no name"),
        (
            "[[command]]\ncommand = [\"/x\"]\nname = \"a\\nb\"",
            "is no name",
        ),
        (
            "[[command]]\ncommand = [\"/x\"]\ndeadline_ms = 0",
            "deadline_ms",
        ),
        (
            "[[command]]\ncommand = [\"/x\"]\ndeadline_ms = 10001",
            "deadline_ms",
        ),
        (
            "[[command]]\ncommand = [\"/x\"]\ndeadline_ms = -1",
            "invalid",
        ),
        (
            "[[command]]\ncommand = [\"/x\"]\nmax_bytes = 0",
            "max_bytes",
        ),
        (
            "[[command]]\ncommand = [\"/x\"]\nmax_bytes = 1048577",
            "max_bytes",
        ),
        (
            "[[command]]\ncommand = [\"/x\"]\nuser = \"root\"",
            "`user` cannot be `root`",
        ),
        (
            "[[command]]\ncommand = [\"/x\"]\nuser = \"\"",
            "`user` cannot be",
        ),
        (
            "[[command]]\ncommand = [\"/x\"]\nuser = \"-r\"",
            "`user` cannot be",
        ),
        (
            "[[command]]\ncommand = [\"/x\"]\nuser = \"a:0\"",
            "`user` cannot be",
        ),
        (
            "[[command]]\ncommand = [\"/x\"]\nshell = true",
            "unknown field",
        ),
        (
            "[[command]]\ncommand = [\"/a/x\"]\n[[command]]\ncommand = [\"/b/x\"]",
            "two commands",
        ),
    ];

    #[test]
    fn wrong_commands_are_refused_with_the_reason() {
        let many = "[[command]]\ncommand = [\"/x\"]\n".repeat(9);
        let words = format!("[[command]]\ncommand = [\"/x\"{}]", ",\"a\"".repeat(33));
        let long = [(many.as_str(), "more than 8"), (&words, "more than 32")];
        for (text, reason) in WRONG.iter().chain(&long) {
            let said = parse(text).unwrap_err();
            assert!(said.contains(reason), "{text}: {said}");
        }
    }

    #[test]
    fn a_command_has_defaults() {
        let commands =
            parse("[[command]]\ncommand = [\"/usr/bin/sss_ssh_authorizedkeys\"]").unwrap();
        let only = commands.iter().next().unwrap();
        assert_eq!(only.name, "sss_ssh_authorizedkeys");
        assert_eq!(only.deadline, Duration::from_secs(2));
        assert_eq!(only.max_bytes, 65_536);
        assert_eq!(only.user, None);
        // As sshd does for a command without arguments.
        assert_eq!(only.arguments, [Template::user()]);
    }

    #[test]
    fn only_commands_of_another_user_are_found_as_such() {
        let text = "[[command]]\ncommand = [\"/own\"]\n[[command]]\ncommand = [\"/x\"]\nuser = \"sssd_keys-1\"\n";
        let commands = parse(text).unwrap();
        assert!(commands.of_another_user("own").is_none());
        assert!(commands.of_another_user("none").is_none());
        let (command, user) = commands.of_another_user("x").unwrap();
        assert_eq!(
            (command.program.as_path(), user),
            (Path::new("/x"), "sssd_keys-1")
        );
    }

    #[test]
    fn sshd_is_asked_for_no_more_tokens_than_are_used() {
        let with = |word: &str| {
            let text = format!("[[command]]\ncommand = [\"/x\", {word}]");
            parse(&text).unwrap().sshd_words()
        };
        assert_eq!(ChainedCommands::default().sshd_words(), "%u %f");
        assert_eq!(with("\"%u\", \"%f\", \"100%%\""), "%u %f");
        assert_eq!(with("\"%t\", \"--key=%k\", \"%t\""), "%u %f k=%k t=%t");
        assert_eq!(with("\"%U%h%C%D\""), "%u %f C=%C D=%D U=%U h=%h");
    }
}
