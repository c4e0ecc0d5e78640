//! sshd's tokens (sshd_config(5), TOKENS) in the arguments of chained commands. sshd expands them in *our*
//! command line only, so what it passed on to us is put in again here; nothing is derived, nothing looked up.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::{ChainedCommand, NoLines};

/// A token of AuthorizedKeysCommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Token {
    /// `%C`: the connection's addresses and ports (OpenSSH 9.4 and later).
    Connection,
    /// `%D`: the routing domain (OpenSSH 9.4 and later).
    RoutingDomain,
    /// `%U`: the user's numeric id.
    Uid,
    /// `%f`: the key's fingerprint.
    Fingerprint,
    /// `%h`: the user's home folder.
    Home,
    /// `%k`: the key or certificate in base64.
    Key,
    /// `%t`: its type.
    KeyType,
    /// `%u`: the user's name.
    User,
}

const ALL: [Token; 8] = [
    Token::Connection,
    Token::RoutingDomain,
    Token::Uid,
    Token::Fingerprint,
    Token::Home,
    Token::Key,
    Token::KeyType,
    Token::User,
];

impl Token {
    /// The token of a letter, if sshd has one.
    #[must_use]
    pub fn from_letter(letter: char) -> Option<Self> {
        ALL.into_iter().find(|token| token.letter() == letter)
    }

    /// Its letter.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Connection => 'C',
            Self::RoutingDomain => 'D',
            Self::Uid => 'U',
            Self::Fingerprint => 'f',
            Self::Home => 'h',
            Self::Key => 'k',
            Self::KeyType => 't',
            Self::User => 'u',
        }
    }

    /// Whether `value` is of the form that sshd gives this token. Asked of a stranger's tokens only: a program that
    /// takes `%u` must not be handed `--config=…`, a path out of the account's home or a second line by whoever
    /// holds AuthorizedKeysCommandUser.
    fn takes(self, value: &str) -> bool {
        let (max, also): (usize, &[u8]) = match self {
            Self::Connection => (256, b".: %"),
            Self::RoutingDomain => (64, b"._-"),
            Self::Uid => return is_number(value),
            Self::Fingerprint => (128, b":+/="),
            Self::Home => return is_home(value),
            Self::Key => (MAX_KEY, b"+/="),
            Self::KeyType => (64, b"@.-"),
            Self::User => (256, b"_.@\\+$-"),
        };
        let known = |b: u8| b.is_ascii_alphanumeric() || also.contains(&b);
        let empty = value.is_empty() && self != Self::RoutingDomain;
        !empty && value.len() <= max && !value.starts_with('-') && value.bytes().all(known)
    }

    /// Whether our command line has it as its first or second word, not as `LETTER=VALUE`.
    #[must_use]
    pub fn is_positional(self) -> bool {
        matches!(self, Self::User | Self::Fingerprint)
    }
}

/// Longest key in base64: a certificate with 256 principals has some 20 KiB.
const MAX_KEY: usize = 32 * 1024;
/// Linux's PATH_MAX.
const MAX_PATH: usize = 4096;

fn is_number(text: &str) -> bool {
    (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_home(text: &str) -> bool {
    let plain = text.starts_with('/') && text.len() <= MAX_PATH;
    plain && !text.chars().any(char::is_control) && !text.split('/').any(|part| part == "..")
}

/// What sshd passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens(BTreeMap<Token, String>);

impl Tokens {
    /// Takes the value of a token; `false` where it has one already.
    pub fn insert(&mut self, token: Token, value: String) -> bool {
        self.0.insert(token, value).is_none()
    }

    /// Takes a word of the form `LETTER=VALUE`, as sshd's configuration has it after `%u %f`; `false` for any other
    /// word, a positional or unknown letter, or a repetition.
    pub fn take_word(&mut self, word: &str) -> bool {
        let Some((letters, value)) = word.split_once('=') else {
            return false;
        };
        let mut letters = letters.chars();
        let token = letters.next().and_then(Token::from_letter);
        match (token, letters.next()) {
            (Some(token), None) if !token.is_positional() => self.insert(token, value.to_owned()),
            _ => false,
        }
    }

    /// All of them as `LETTER=VALUE`, for the root helper.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let word = |(token, value): (&Token, &String)| format!("{}={value}", token.letter());
        self.0.iter().map(word).collect()
    }

    /// Reads the words of somebody who need not be sshd: each token once, and of the form that sshd gives it.
    ///
    /// # Errors
    /// The first word that is not.
    pub fn of_a_stranger(words: &[String]) -> Result<Self, StrangeToken> {
        let mut tokens = Self::default();
        for word in words {
            let taken = word.split_once('=').and_then(|(letters, value)| {
                let mut letters = letters.chars();
                let token = letters.next().and_then(Token::from_letter)?;
                (letters.next().is_none() && token.takes(value)).then_some((token, value))
            });
            if !taken.is_some_and(|(token, value)| tokens.insert(token, value.to_owned())) {
                return Err(StrangeToken(eic_protocol::text::printable(word)));
            }
        }
        Ok(tokens)
    }

    /// The arguments of a command.
    ///
    /// # Errors
    /// A token is used that sshd did not pass on.
    pub(super) fn expand(&self, command: &ChainedCommand) -> Result<Vec<OsString>, NoLines> {
        command
            .arguments
            .iter()
            .map(|template| template.expand(self).map(OsString::from))
            .collect()
    }
}

/// One argument, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Token(Token),
}

impl Template {
    /// `%u` alone.
    #[must_use]
    pub fn user() -> Self {
        Self(vec![Piece::Token(Token::User)])
    }

    /// Reads an argument; `%%` is a per cent sign.
    ///
    /// # Errors
    /// A token that AuthorizedKeysCommand does not have, a lone `%`, a NUL.
    pub fn parse(word: &str) -> Result<Self, InvalidTemplate> {
        if word.contains('\0') {
            return Err(InvalidTemplate::Nul);
        }
        let mut pieces = Vec::new();
        let mut rest = word;
        while let Some((text, after)) = rest.split_once('%') {
            pieces.push(Piece::Text(text.to_owned()));
            let mut characters = after.chars();
            let letter = characters.next().ok_or(InvalidTemplate::Lone)?;
            pieces.push(match letter {
                '%' => Piece::Text("%".to_owned()),
                _ => Piece::Token(
                    Token::from_letter(letter).ok_or(InvalidTemplate::Unknown(letter))?,
                ),
            });
            rest = characters.as_str();
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Self(pieces))
    }

    /// The tokens that occur in it.
    pub fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Token(token) => Some(*token),
            Piece::Text(_) => None,
        })
    }

    fn expand(&self, tokens: &Tokens) -> Result<String, NoLines> {
        let mut word = String::new();
        for piece in &self.0 {
            word.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Token(token) => tokens
                    .0
                    .get(token)
                    .ok_or_else(|| NoLines::Token(token.letter()))?,
            });
        }
        Ok(word)
    }
}

/// A word that sshd does not say.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("take `{0}` for a token of sshd's: it is unknown, repeated or of another form")]
pub struct StrangeToken(String);

/// What is wrong with an argument.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// `%` and a letter without meaning here.
    #[error(
        "`%{0}` is no token of AuthorizedKeysCommand: %u %U %h %f %k %t %C %D, and %% for a per cent sign"
    )]
    Unknown(char),
    /// `%` at the end.
    #[error("an argument ends with `%`: write %% for a per cent sign")]
    Lone,
    /// A NUL cannot be passed.
    #[error("an argument holds a NUL")]
    Nul,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let mut tokens = Tokens::default();
        for token in ALL {
            tokens.insert(token, format!("<{}>", token.letter()));
        }
        tokens
    }

    #[test]
    fn words_of_another_form_are_not_taken() {
        for bad in [
            "",
            "h",
            "=",
            "=x",
            "hh=x",
            "x=1",
            "u=root",
            "f=SHA256:x",
            "%h=x",
            "é=1",
        ] {
            assert!(!Tokens::default().take_word(bad), "{bad}");
        }
        let mut twice = Tokens::default();
        assert!(twice.take_word("h=/home/a"));
        assert!(!twice.take_word("h=/root"));
    }

    #[test]
    fn a_strangers_tokens_of_another_form_than_sshds_are_refused() {
        let long = format!("k={}", "A".repeat(MAX_KEY + 1));
        for bad in [
            "",
            "u",
            "u=",
            "u=-x",
            "u=--config=/tmp/x",
            "u=a b",
            "u=a\nb",
            "u=a/b",
            "u=a;b",
            "u=é",
            "uu=a",
            "x=1",
            "f=",
            "f=-",
            "f=SHA256:a b",
            "U=",
            "U=-1",
            "U=1000000000000",
            "U=0x0",
            "h=",
            "h=home",
            "h=/home/../root",
            "h=/a\nb",
            "k=-AAAA",
            "k=AAAA BBBB",
            "t=-o",
            "t=a,b",
            "C=",
            "C=1.2.3.4\n",
            "D=-x",
            long.as_str(),
        ] {
            let words = [bad.to_owned()];
            assert!(Tokens::of_a_stranger(&words).is_err(), "{bad}");
        }
        let twice = ["u=a".to_owned(), "u=b".to_owned()];
        assert!(Tokens::of_a_stranger(&twice).is_err());
    }

    #[test]
    fn what_sshd_says_arrives_whole() {
        let words = [
            "C=192.0.2.1 50022 192.0.2.2 22",
            "D=",
            "U=1000",
            "f=SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "h=/home/a b",
            "k=AAAAC3NzaC1lZDI1NTE5AAAAIA==",
            "t=sk-ssh-ed25519-cert-v01@openssh.com",
            "u=DOM\\alice.b@example",
        ]
        .map(str::to_owned);
        let tokens = Tokens::of_a_stranger(&words).unwrap();
        assert_eq!(tokens.words(), words);
    }

    #[test]
    fn tokens_that_sshd_did_not_pass_are_an_error() {
        let template = Template::parse("%k").unwrap();
        assert!(matches!(
            template.expand(&Tokens::default()),
            Err(NoLines::Token('k'))
        ));
    }

    #[test]
    fn every_token_is_expanded_and_values_are_not_expanded_again() {
        let template = Template::parse("%C %D%U-%f:%h=%k%%%t%u%%u").unwrap();
        assert_eq!(
            template.expand(&tokens()).unwrap(),
            "<C> <D><U>-<f>:<h>=<k>%<t><u>%u"
        );
        let mut hostile = Tokens::default();
        assert!(hostile.take_word("h=%k a\"b;c"));
        let expanded = Template::parse("%h").unwrap().expand(&hostile).unwrap();
        assert_eq!(expanded, "%k a\"b;c");
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        let mut tokens = Tokens::default();
        assert!(tokens.take_word("k=AAAA=="));
        assert_eq!(
            Template::parse("%k").unwrap().expand(&tokens).unwrap(),
            "AAAA=="
        );
    }
}
