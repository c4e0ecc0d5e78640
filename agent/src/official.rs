//! The host programs of the `ec2-instance-connect` package, as far as others call them: their names, command
//! lines and exit codes. A host that replaces the three files by this program (a copy or a link each) needs no
//! other change. How keys are verified is `instance_connect`'s business, not this module's.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use eic_protocol::key_fingerprint::KeyFingerprint;

use crate::instance_connect::Answer;
use crate::instance_connect::http::HttpError;
use crate::instance_connect::metadata::MetadataError;
use crate::instance_connect::signer::UntrustedSigner;
use crate::instance_connect::{NoKeys, official_log};

/// One of the package's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `eic_run_authorized_keys USER [FINGERPRINT]`: what sshd is configured to run.
    Run,
    /// `eic_curl_authorized_keys USER [FINGERPRINT]`: what that one runs; here the same.
    Curl,
    /// `eic_harvest_hostkeys`: makes the host's keys known, to the CA instead of to AWS.
    Harvest,
    /// `eic_parse_authorized_keys -x … -p … -s … -i … -c … -a … -v … [-f …]`: verifies given files.
    Parse,
}

impl Program {
    /// The program that the last part of `own_name` (the first word of a command line) names.
    #[must_use]
    pub fn named(own_name: &OsStr) -> Option<Self> {
        match Path::new(own_name).file_name()?.to_str()? {
            "eic_run_authorized_keys" => Some(Self::Run),
            "eic_curl_authorized_keys" => Some(Self::Curl),
            "eic_parse_authorized_keys" => Some(Self::Parse),
            "eic_harvest_hostkeys" => Some(Self::Harvest),
            _ => None,
        }
    }
}

/// Exit codes of the package's programs; sshd takes output from a run that ends with 0 only.
pub mod exit_code {
    /// Keys were printed; or there is no instance, or no key active, and nothing to complain about.
    pub const DONE: u8 = 0;
    /// Wrong command line, no user, or a signer that is not trusted.
    pub const FAILED: u8 = 1;
    /// The signer's chain does not lead to a trusted root (openssl verify's code).
    pub const CHAIN: u8 = 2;
    /// Keys are active, and none of them is good or the one asked for; or an answer makes no sense.
    pub const NO_KEYS: u8 = 255;
    /// The run took too long (timeout(1)'s code).
    pub const TIMEOUT: u8 = 124;
    /// Nothing listens at the metadata service's addresses (curl's codes from here on).
    pub const REFUSED: u8 = 7;
    /// The metadata service's answer is not HTTP.
    pub const WEIRD_ANSWER: u8 = 8;
    /// The metadata service answered with an error.
    pub const HTTP_ERROR: u8 = 22;
    /// The metadata service did not answer in time.
    pub const SLOW: u8 = 28;
    /// The metadata service hung up.
    pub const EMPTY_ANSWER: u8 = 52;
    /// The metadata service's answer could not be received.
    pub const RECEIVE: u8 = 56;
    /// The metadata service's answer is too large.
    pub const TOO_LARGE: u8 = 63;
}

/// The exit code for an answer whose lines were printed.
#[must_use]
pub fn code_of_answer(answer: &Answer) -> u8 {
    match answer {
        Answer::NotHere | Answer::NoneActive => exit_code::DONE,
        Answer::NoService => exit_code::REFUSED,
        Answer::Keys(lines) if lines.is_empty() => exit_code::NO_KEYS,
        Answer::Keys(_) => exit_code::DONE,
    }
}

/// The exit code for a failure.
#[must_use]
pub fn code_of_failure(error: &NoKeys) -> u8 {
    match error {
        NoKeys::OtherInstance => exit_code::DONE,
        NoKeys::Metadata(error) => code_of_metadata(error),
        NoKeys::Place(_) => exit_code::NO_KEYS,
        NoKeys::Signer(error) => code_of_signer(error),
        NoKeys::Staple | NoKeys::Roots(_) => exit_code::FAILED,
    }
}

/// The exit code for a signer that is not trusted.
#[must_use]
pub fn code_of_signer(error: &UntrustedSigner) -> u8 {
    match error {
        UntrustedSigner::Chain(_) | UntrustedSigner::Issuer => exit_code::CHAIN,
        _ => exit_code::FAILED,
    }
}

fn code_of_metadata(error: &MetadataError) -> u8 {
    match error {
        MetadataError::Unreachable(_) => exit_code::REFUSED,
        MetadataError::Token => exit_code::NO_KEYS,
        MetadataError::Status { .. } => exit_code::HTTP_ERROR,
        MetadataError::Http { source, .. } => match source {
            HttpError::Stream(e) if is_timeout(e) => exit_code::SLOW,
            HttpError::Stream(_) => exit_code::RECEIVE,
            HttpError::Closed => exit_code::EMPTY_ANSWER,
            HttpError::Malformed(_) => exit_code::WEIRD_ANSWER,
            HttpError::TooMuch => exit_code::TOO_LARGE,
        },
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

/// The line that the official scripts log for a signer that is not trusted.
#[must_use]
pub fn log_line(error: &UntrustedSigner) -> String {
    official_log::signer_line(error)
}

/// The command line of `eic_parse_authorized_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseOptions {
    /// `-x true`: say on stdout why a key is left out, instead of in the log.
    pub debug: bool,
    /// `-p`: the file of records.
    pub records: PathBuf,
    /// `-s`: the signer's chain as PEM text, not a file.
    pub chain: String,
    /// `-i`: the instance id.
    pub instance: String,
    /// `-c`: the signer's common name.
    pub signer: String,
    /// `-a`: the trust anchors, a folder of PEM files or one bundle.
    pub anchors: PathBuf,
    /// `-v`: the folder of revocation staples.
    pub staples: PathBuf,
    /// `-f`: the only fingerprint that is wanted.
    pub fingerprint: Option<KeyFingerprint>,
}

impl ParseOptions {
    /// Reads the words behind the program's name. `-o` (an openssl program) and `-d` (a folder for temporary files)
    /// are read and not needed.
    ///
    /// # Errors
    /// An unknown option, a missing one, or a value of the wrong form.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, InvalidOptions> {
        let mut read = Read::default();
        let mut parser = lexopt::Parser::from_args(words);
        while let Some(argument) = parser.next()? {
            match argument {
                lexopt::Arg::Short(letter) => read.take(letter, &mut parser)?,
                other => return Err(other.unexpected().into()),
            }
        }
        read.finish()
    }
}

#[derive(Default)]
struct Read {
    debug: bool,
    values: std::collections::BTreeMap<char, OsString>,
}

impl Read {
    fn take(&mut self, letter: char, parser: &mut lexopt::Parser) -> Result<(), InvalidOptions> {
        if !"xpodsicavf".contains(letter) {
            return Err(lexopt::Error::UnexpectedOption(format!("-{letter}")).into());
        }
        let value = parser.value()?;
        match letter {
            'x' => self.debug = value == "true",
            _ => _ = self.values.insert(letter, value),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ParseOptions, InvalidOptions> {
        let fingerprint = match self.values.remove(&'f') {
            Some(text) => Some(
                text.to_string_lossy()
                    .parse()
                    .map_err(|_| InvalidOptions::Fingerprint)?,
            ),
            None => None,
        };
        Ok(ParseOptions {
            debug: self.debug,
            records: self.required('p')?.into(),
            chain: self.text('s')?,
            instance: self.text('i')?,
            signer: self.text('c')?,
            anchors: self.required('a')?.into(),
            staples: self.required('v')?.into(),
            fingerprint,
        })
    }

    fn required(&mut self, letter: char) -> Result<OsString, InvalidOptions> {
        let value = self.values.remove(&letter);
        value
            .filter(|value| !value.is_empty())
            .ok_or(InvalidOptions::Missing(letter))
    }

    fn text(&mut self, letter: char) -> Result<String, InvalidOptions> {
        let value = self.required(letter)?;
        value.into_string().map_err(|_| InvalidOptions::NotText)
    }
}

/// How `eic_parse_authorized_keys` is called.
pub const PARSE_USAGE: &str = "\
usage: eic_parse_authorized_keys -x true|false -p RECORDS -o OPENSSL -d FOLDER -s CHAIN -i INSTANCE
                                 -c SIGNER -a ANCHORS -v STAPLES [-f FINGERPRINT]
";

/// What is wrong with the command line of `eic_parse_authorized_keys`.
#[derive(Debug, thiserror::Error)]
pub enum InvalidOptions {
    /// An option that cannot be left out.
    #[error("read the command line: `-{0}` is required")]
    Missing(char),
    /// Not UTF-8.
    #[error("read the command line: a word is not UTF-8")]
    NotText,
    /// `-f` is no fingerprint.
    #[error("read the command line: `-f` is no fingerprint of the form `SHA256:...`")]
    Fingerprint,
    /// Anything else.
    #[error("read the command line: {0}")]
    Option(#[from] lexopt::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<ParseOptions, InvalidOptions> {
        ParseOptions::parse(line.iter().map(OsString::from))
    }

    const FULL: [&str; 18] = [
        "-x",
        "false",
        "-p",
        "/p",
        "-o",
        "/usr/bin/openssl",
        "-d",
        "/d",
        "-s",
        "PEM\nPEM",
        "-i",
        "i-1",
        "-c",
        "cn",
        "-a",
        "/a",
        "-v",
        "/v",
    ];

    #[test]
    fn incomplete_and_unknown_options_are_refused() {
        assert!(parse(&[]).is_err());
        for missing in ["-p", "-s", "-i", "-c", "-a", "-v"] {
            let at = FULL.iter().position(|word| *word == missing).unwrap();
            let rest = [&FULL[..at], &FULL[at + 2..]].concat();
            assert!(parse(&rest).is_err(), "{missing}");
            let empty = [&rest[..], &[missing, ""]].concat();
            assert!(parse(&empty).is_err(), "empty {missing}");
        }
        for bad in [
            &["-z", "x"][..],
            &["--records", "x"],
            &["word"],
            &["-f", "MD5:00"],
            &["-p"],
        ] {
            assert!(parse(&[&FULL[..], bad].concat()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_option_is_read() {
        let pin = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let options = parse(&[&FULL[2..], &["-x", "true", "-f", pin]].concat()).unwrap();
        assert!(options.debug && options.chain == "PEM\nPEM" && options.instance == "i-1");
        assert_eq!(options.fingerprint.unwrap().to_string(), pin);
        assert!(!parse(&FULL).unwrap().debug);
    }

    #[test]
    fn only_the_packages_names_are_taken() {
        for other in [
            "eic-agent",
            "",
            "/",
            "eic_run_authorized_keys.sh",
            "eic_harvest_hostkeys.sh",
            "authorized_keys",
        ] {
            assert_eq!(Program::named(OsStr::new(other)), None, "{other}");
        }
        let named = |name: &str| Program::named(OsStr::new(name));
        assert_eq!(
            named("/usr/share/ec2-instance-connect/eic_run_authorized_keys"),
            Some(Program::Run)
        );
        assert_eq!(named("./eic_curl_authorized_keys"), Some(Program::Curl));
        assert_eq!(named("eic_parse_authorized_keys"), Some(Program::Parse));
        assert_eq!(
            named("/opt/aws/bin/eic_harvest_hostkeys"),
            Some(Program::Harvest)
        );
    }

    #[test]
    fn failures_end_with_the_codes_of_the_programs_they_come_from() {
        let http = |source| {
            NoKeys::Metadata(MetadataError::Http {
                path: "x".into(),
                source,
            })
        };
        let io = |kind: std::io::ErrorKind| HttpError::Stream(kind.into());
        for (error, code) in [
            (NoKeys::OtherInstance, 0),
            (
                NoKeys::Metadata(MetadataError::Unreachable(
                    std::io::ErrorKind::ConnectionRefused.into(),
                )),
                7,
            ),
            (http(HttpError::Malformed("x")), 8),
            (
                NoKeys::Metadata(MetadataError::Status {
                    path: "x".into(),
                    status: 404,
                }),
                22,
            ),
            (http(io(std::io::ErrorKind::TimedOut)), 28),
            (http(io(std::io::ErrorKind::WouldBlock)), 28),
            (http(HttpError::Closed), 52),
            (http(io(std::io::ErrorKind::ConnectionReset)), 56),
            (http(HttpError::TooMuch), 63),
            (NoKeys::Metadata(MetadataError::Token), 255),
            (
                NoKeys::Place(crate::instance_connect::place::UnknownPlace::Zone),
                255,
            ),
            (NoKeys::Signer(UntrustedSigner::Name), 1),
            (
                NoKeys::Signer(UntrustedSigner::Chain(webpki::Error::UnknownIssuer)),
                2,
            ),
            (NoKeys::Staple, 1),
        ] {
            assert_eq!(code_of_failure(&error), code, "{error:?}");
        }
        for (answer, code) in [
            (Answer::NotHere, 0),
            (Answer::NoneActive, 0),
            (Answer::NoService, 7),
            (Answer::Keys(String::new()), 255),
            (Answer::Keys("ssh-rsa A\n".into()), 0),
        ] {
            assert_eq!(code_of_answer(&answer), code, "{answer:?}");
        }
    }
}
