//! The lint: an independent parser (`ssh-key`) reads the bytes that are about to be signed and
//! every field must be the profile's; after signing, the CA's published key must verify it.
//! Only what passed here reaches a signer.

use std::collections::BTreeMap;

use signature::Verifier as _;
use ssh_key::certificate::CertType;
use ssh_key::{Algorithm, Certificate, Signature};

use super::tbs::{CertNonce, Tbs};
use super::{MAX_PRINCIPALS, MAX_TBS, Profile};
use crate::subject_key::CaKey;
use crate::validity::{MAX_BACKDATE, MAX_FLEET_TTL, MAX_HOST_TTL, MAX_TARGET_TTL};

/// A body whose every field was read back by an independent parser and found as meant.
/// Not `Clone`: it is signed once.
#[derive(Debug)]
pub struct Linted {
    tbs: Tbs,
    ca: CaKey,
}

/// A signed certificate that the CA's own key verifies.
#[derive(Clone, Debug)]
pub struct SelfChecked {
    certificate: Certificate,
    line: String,
}

impl SelfChecked {
    /// The OpenSSH line, `type base64`.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The parsed certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

/// Encodes `profile` and lints the result. `now` is in Unix seconds.
///
/// # Errors
/// [`LintError`] names the field that does not hold.
pub fn prepare(
    profile: &Profile,
    nonce: &CertNonce,
    ca: &CaKey,
    now: u64,
) -> Result<Linted, LintError> {
    let tbs = Tbs::encode(profile, nonce, ca);
    lint(tbs, profile, ca, now)
}

/// Lints bytes against what they are meant to be.
///
/// # Errors
/// [`LintError`] names the field that does not hold.
pub fn lint(tbs: Tbs, profile: &Profile, ca: &CaKey, now: u64) -> Result<Linted, LintError> {
    if tbs.as_slice().len() > MAX_TBS {
        return Err(LintError::TooLong(tbs.as_slice().len()));
    }
    let parsed = parse_unsigned(&tbs)?;
    check_profile(profile, now)?;
    compare(&parsed, profile, ca)?;
    Ok(Linted {
        tbs,
        ca: ca.clone(),
    })
}

/// The parser wants a signature: a syntactically valid one that verifies nothing.
fn parse_unsigned(tbs: &Tbs) -> Result<Certificate, LintError> {
    let placeholder = Signature::new(Algorithm::Ed25519, [0_u8; 64]).map_err(LintError::Parse)?;
    let blob = tbs.with_signature(&placeholder).map_err(LintError::Parse)?;
    Certificate::from_bytes(&blob).map_err(LintError::Parse)
}

/// Rules on the values themselves.
fn check_profile(profile: &Profile, now: u64) -> Result<(), LintError> {
    let count = profile.principals().len();
    if !(1..=MAX_PRINCIPALS).contains(&count) {
        return Err(LintError::Principals(count));
    }
    let validity = profile.validity();
    let longest = longest_ttl(profile);
    let oldest_start = now.saturating_sub(MAX_BACKDATE);
    let latest_end = now.saturating_add(longest);
    let in_time = oldest_start <= validity.after()
        && validity.contains(now)
        && validity.before() <= latest_end;
    if in_time {
        Ok(())
    } else {
        Err(LintError::Validity)
    }
}

fn longest_ttl(profile: &Profile) -> u64 {
    use crate::principal::Principal;
    match profile {
        Profile::Host(_) => MAX_HOST_TTL,
        Profile::User(user)
            if user
                .principals
                .iter()
                .all(|p| matches!(p, Principal::Fleet(..))) =>
        {
            MAX_FLEET_TTL
        }
        Profile::User(_) => MAX_TARGET_TTL,
    }
}

fn compare(parsed: &Certificate, profile: &Profile, ca: &CaKey) -> Result<(), LintError> {
    let kind = match profile {
        Profile::User(_) => CertType::User,
        Profile::Host(_) => CertType::Host,
    };
    let checks = [
        ("nonce", parsed.nonce().len() == 32),
        ("type", parsed.cert_type() == kind),
        (
            "public key",
            parsed.public_key() == profile.subject().key_data(),
        ),
        ("serial", parsed.serial() == profile.serial().value()),
        ("key id", parsed.key_id() == profile.key_id().to_string()),
        (
            "principals",
            parsed.valid_principals() == profile.principals(),
        ),
        (
            "valid after",
            parsed.valid_after() == profile.validity().after(),
        ),
        (
            "valid before",
            parsed.valid_before() == profile.validity().before(),
        ),
        (
            "critical options",
            options(parsed.critical_options().iter()) == expected_options(profile),
        ),
        (
            "extensions",
            options(parsed.extensions().iter()) == expected_extensions(profile),
        ),
        (
            "signature key",
            parsed.signature_key() == ca.key().key_data(),
        ),
        (
            "subject is the CA",
            parsed.public_key() != ca.key().key_data(),
        ),
    ];
    match checks.iter().find(|(_, holds)| !holds) {
        Some((field, _)) => Err(LintError::Field(field)),
        None => Ok(()),
    }
}

fn options<'a>(
    entries: impl Iterator<Item = (&'a String, &'a String)>,
) -> BTreeMap<String, String> {
    entries
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn expected_options(profile: &Profile) -> BTreeMap<String, String> {
    let pairs = profile.critical_options().into_iter();
    pairs
        .map(|(name, value)| (name.to_owned(), value.unwrap_or_default()))
        .collect()
}

fn expected_extensions(profile: &Profile) -> BTreeMap<String, String> {
    profile
        .extensions()
        .into_iter()
        .map(|name| (name.to_owned(), String::new()))
        .collect()
}

impl Linted {
    /// The bytes to sign.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.tbs.as_slice()
    }

    /// The key that must sign.
    #[must_use]
    pub fn ca(&self) -> &CaKey {
        &self.ca
    }

    /// Takes the signer's answer, in release builds too: a wrong signature never leaves.
    ///
    /// # Errors
    /// [`LintError::Signature`] where the CA's published key does not verify it, or where its
    /// algorithm is not the CA's (RSA: SHA-2 only).
    pub fn attach(self, signature: &Signature) -> Result<SelfChecked, LintError> {
        let name = signature.algorithm().to_string();
        if !self.ca.signature_algorithms().contains(&name.as_str()) {
            return Err(LintError::Signature);
        }
        let key = self.ca.key().key_data();
        key.verify(self.tbs.as_slice(), signature)
            .map_err(|_| LintError::Signature)?;
        let blob = self
            .tbs
            .with_signature(signature)
            .map_err(LintError::Parse)?;
        let certificate = Certificate::from_bytes(&blob).map_err(LintError::Parse)?;
        let line = certificate
            .to_openssh()
            .map_err(LintError::Parse)?
            .trim_end()
            .to_owned();
        Ok(SelfChecked { certificate, line })
    }
}

/// Why a body may not be signed, or a signature not be used.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// The independent parser does not read it.
    #[error("the certificate body cannot be parsed: {0}")]
    Parse(ssh_key::Error),
    /// Over kms:Sign's limit.
    #[error(
        "the certificate body has {0} bytes, more than the {MAX_TBS} that can be signed: ask for fewer names or a shorter command"
    )]
    TooLong(usize),
    /// None, or too many.
    #[error("a certificate names 1 to {MAX_PRINCIPALS} principals, not {0}")]
    Principals(usize),
    /// Out of the profile's times.
    #[error("the certificate's times are outside its profile")]
    Validity,
    /// A field is not what was meant.
    #[error("the certificate's {0} is not as meant")]
    Field(&'static str),
    /// The signer's answer is wrong.
    #[error("the signature does not verify with the CA's published key")]
    Signature,
}
