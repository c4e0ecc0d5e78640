//! Who is it? A proof goes in, a [`Caller`](crate::caller::Caller) comes out, or the reason why not.
//! It knows nothing of HTTP, policy or certificates, and never tries a second way after the first said no.

pub mod aws_sts;

use eic_protocol::sshsig::InvalidSignature;

/// Why a proof does not count. The text is for the person who sent it.
#[derive(Debug, thiserror::Error)]
pub enum AuthnError {
    /// A protocol version that is not served.
    #[error("protocol version {asked} is not served; this CA serves {lowest} to {highest}")]
    UnsupportedProtocol {
        /// The client's.
        asked: u32,
        /// Our oldest.
        lowest: u32,
        /// Our newest.
        highest: u32,
    },
    /// The public key is one that must never be certified (threats D-14).
    #[error("the public key is one of the CA's own keys; make a fresh key for each sign-in")]
    SpecialKey,
    /// The key's own signature is wrong.
    #[error(
        "{0}; sign the request with the private half of `public_key`, for the URL under which this CA is known (`public_url`): was `eic-login setup` given another one?"
    )]
    PossessionNotProven(InvalidSignature),
    /// The date is off.
    #[error(
        "the proof's date is {seconds} s away from the CA's clock, more than {} s; check the clock of your machine",
        eic_protocol::proof::aws_sts::MAX_AGE
    )]
    Stale {
        /// How far, in seconds.
        seconds: u64,
    },
    /// Used before.
    #[error("the proof was used before; each serves once, so sign a new one")]
    Replayed,
    /// The account is not among those accepted.
    #[error("identities of account {0} are not accepted here")]
    AccountNotAccepted(String),
    /// STS said no, or named somebody who cannot be let in.
    #[error("{0}")]
    Refused(Refusal),
    /// Our own limit of calls to STS.
    #[error("too many sign-ins at once; try again in a moment")]
    Busy,
    /// No answer that counts, for now.
    #[error("AWS STS did not confirm the identity in time; try again")]
    StsUnavailable(String),
    /// The clocks of AWS and of this machine disagree (threats G-15).
    #[error(
        "the CA's clock differs from that of AWS by {0} s; nothing is issued until an operator corrects it"
    )]
    ClockSkew(u64),
}

impl AuthnError {
    /// Whether AWS confirmed who sent the refused proof: such refusals are always recorded.
    #[must_use]
    pub fn is_of_confirmed_caller(&self) -> bool {
        matches!(
            self,
            Self::AccountNotAccepted(_) | Self::Refused(Refusal::RoleRevoked)
        )
    }
}

/// Why AWS's answer is a no. Each says what the caller can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `SignatureDoesNotMatch`: the secret is not that of the key id, or the proof is for another audience or request.
    #[error(
        "AWS says that the signature does not match: the secret access key is wrong, or the proof was made for another CA or another public key"
    )]
    Signature,
    /// `InvalidClientTokenId`: no such key, or the session token does not belong to it.
    #[error("AWS does not know the access key, or the session token does not belong to it")]
    UnknownKey,
    /// `ExpiredToken`.
    #[error("the AWS credentials have expired; sign in to AWS again")]
    Expired,
    /// Any other error that names the caller's fault.
    #[error("AWS refused the proof with `{0}`")]
    Other(String),
    /// The role's sessions were revoked in IAM (threats A-36).
    #[error(
        "sessions of this role were revoked in IAM less than 12 hours ago, and this proof cannot show when its session began"
    )]
    RoleRevoked,
}
