//! What a host shows for being who it says: fields only, verified by the CA.
//! Nothing secret here is ever shown by Debug.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::base64_text::Base64Bytes;
use crate::proof::Fields;
use crate::proof::aws_sts::AwsStsProof;
use crate::secret::Secret;

/// Longest web identity token. Bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Who the host is, one member named for its kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum HostEvidence {
    /// A token of sts:GetWebIdentityToken for our audience, whose claim `ec2_source_instance_arn`
    /// names the instance.
    WebIdentity(WebIdentityToken),
    /// The instance identity document, and a proof of the instance role's session.
    InstanceIdentity {
        /// The document's exact bytes, as instance metadata gives them.
        document: Base64Bytes,
        /// AWS's signature over them.
        signature: IdentitySignature,
        /// A signed sts:GetCallerIdentity by the role's credentials; it carries the request's digest.
        proof: AwsStsProof,
    },
    /// First enrolment of a host outside EC2.
    EnrolmentToken(EnrolmentToken),
    /// Renewal of a host outside EC2: the signatures by its enrolled keys are the evidence.
    EnrolledKey {},
}

/// AWS's signature over an identity document (EC2 User Guide, "Verify the instance identity document").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum IdentitySignature {
    /// `instance-identity/rsa2048`: PKCS #7 by the Region's RSA-2048 certificate, in DER.
    Rsa2048(Base64Bytes),
    /// `instance-identity/pkcs7`: PKCS #7 by the Region's DSA certificate, in DER.
    Pkcs7(Base64Bytes),
}

impl IdentitySignature {
    fn fields(&self, fields: &mut Fields) {
        let (kind, bytes) = match self {
            Self::Rsa2048(bytes) => ("rsa2048", bytes),
            Self::Pkcs7(bytes) => ("pkcs7", bytes),
        };
        fields.required(kind).required(bytes.as_slice());
    }
}

/// What of the evidence the host keys sign: all but the role's proof, which itself carries the
/// digest of the signed bytes.
#[derive(Clone, Copy, Debug)]
pub enum Bound<'a> {
    /// [`HostEvidence::WebIdentity`]
    WebIdentity(&'a WebIdentityToken),
    /// [`HostEvidence::InstanceIdentity`]
    InstanceIdentity {
        /// The document's exact bytes.
        document: &'a [u8],
        /// AWS's signature.
        signature: &'a IdentitySignature,
    },
    /// [`HostEvidence::EnrolmentToken`]
    EnrolmentToken(&'a EnrolmentToken),
    /// [`HostEvidence::EnrolledKey`]
    EnrolledKey,
}

impl HostEvidence {
    /// What of it is signed.
    #[must_use]
    pub fn bound(&self) -> Bound<'_> {
        match self {
            Self::WebIdentity(token) => Bound::WebIdentity(token),
            Self::InstanceIdentity {
                document,
                signature,
                proof: _,
            } => Bound::InstanceIdentity {
                document: document.as_slice(),
                signature,
            },
            Self::EnrolmentToken(token) => Bound::EnrolmentToken(token),
            Self::EnrolledKey {} => Bound::EnrolledKey,
        }
    }
}

impl Bound<'_> {
    pub(super) fn fields(&self, fields: &mut Fields) {
        match self {
            Self::WebIdentity(token) => {
                fields.required("web-identity").required(token.reveal());
            }
            Self::InstanceIdentity {
                document,
                signature,
            } => {
                fields.required("instance-identity").required(document);
                signature.fields(fields);
            }
            Self::EnrolmentToken(token) => {
                fields.required("enrolment-token").required(token.reveal());
            }
            Self::EnrolledKey => {
                fields.required("enrolled-key");
            }
        }
    }
}

/// A compact JWS of at most 16 KiB: three non-empty base64url parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebIdentityToken(Secret<String>);

impl WebIdentityToken {
    /// The token.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

impl FromStr for WebIdentityToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let three = text.split('.').count() == 3;
        let grammar = text.split('.').all(|p| !p.is_empty() && is_base64url(p));
        if three && grammar && text.len() <= MAX_TOKEN {
            Ok(Self(Secret::new(text.to_owned())))
        } else {
            Err(InvalidToken)
        }
    }
}

/// A one-time token for a host's first enrolment: `eic-enrol-` and 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnrolmentToken(Secret<String>);

const ENROLMENT_PREFIX: &str = "eic-enrol-";

impl EnrolmentToken {
    /// The token of these random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(Secret::new(format!(
            "{ENROLMENT_PREFIX}{}",
            hex::encode(bytes)
        )))
    }

    /// The token: shown once, when it is made.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }

    /// SHA-256 in hex: what the CA keeps.
    #[must_use]
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(self.reveal()))
    }
}

impl FromStr for EnrolmentToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let digits = text.strip_prefix(ENROLMENT_PREFIX).unwrap_or_default();
        let hex = digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex && digits.len() == 64 {
            Ok(Self(Secret::new(text.to_owned())))
        } else {
            Err(InvalidToken)
        }
    }
}

fn is_base64url(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

macro_rules! secret_text {
    ($($name:ident)*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidToken;

            fn try_from(text: String) -> Result<Self, InvalidToken> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(token: $name) -> Self {
                token.reveal().to_owned()
            }
        }
    )*};
}

secret_text! { WebIdentityToken EnrolmentToken }

/// Not a token of the expected form; it is not repeated, being a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not of the expected form: was it cut when it was copied?")]
pub struct InvalidToken;
