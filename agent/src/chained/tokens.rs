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

    /// Whether our command line has it as its first or second word, not as `LETTER=VALUE`.
    #[must_use]
    pub fn is_positional(self) -> bool {
        matches!(self, Self::User | Self::Fingerprint)
    }
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
