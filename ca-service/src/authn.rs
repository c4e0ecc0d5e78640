//! Who is it? A proof goes in, a [`Caller`] comes out, or the reason why not.
//! It knows nothing of HTTP, policy or certificates, and never tries a second way after the first said no.

use eic_protocol::api::session::{Proof, SessionRequest};
use eic_protocol::proof::oidc::AwsWebIdentityProof;
use eic_protocol::proof::{Audience, CanonicalRequest};
use eic_protocol::request_id::RequestId;
use eic_protocol::sshsig::{self, InvalidSignature, Namespace};

use crate::caller::{Caller, TooManyClaims};
use crate::issuance::SpecialKeys;
use crate::peer_network::PeerNetwork;
use crate::store::ReplayClaim;
use crate::web_token::claims::InvalidToken;

pub mod aws_sts;
pub mod oidc;
pub mod web_identity;

use aws_sts::{AwsSts, check_version};
use oidc::Oidc;
use web_identity::WebIdentities;

/// Every way to prove an identity. Which one is tried is the request's word; there is no second try.
pub struct Authenticator {
    /// Whom every proof must be meant for.
    pub audience: Audience,
    /// The CA's own keys: they are never certified as somebody's.
    pub special_keys: SpecialKeys,
    /// AWS identities.
    pub aws_sts: AwsSts,
    /// Tokens beside them.
    pub web_identities: WebIdentities,
    /// Identities of other issuers.
    pub oidc: Oidc,
}

/// Somebody whose proof holds; it counts once its claims are durable, and only if they are new then.
pub struct Confirmed {
    /// Who.
    pub caller: Caller,
    /// To be made durable together with the record of what came of the proof.
    pub claim: ReplayClaim,
    /// Of a token beside the proof: to be made durable before that.
    pub token_claim: Option<ReplayClaim>,
}

impl Authenticator {
    /// Who sent `request` from `peer`. The steps are in the order of their cost: others are asked last, and
    /// never about a request that this CA would not honour. Nothing durable is written here: what a
    /// stranger invents must not cost a row of the database each (threats G-14). `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`AuthnError`]
    pub async fn authenticate(
        &self,
        request: &SessionRequest,
        request_id: RequestId,
        peer: PeerNetwork,
        now: u64,
    ) -> Result<Confirmed, AuthnError> {
        let canonical = self.check(request)?;
        let digest = canonical.digest();
        match &request.proof {
            Proof::Oidc(proof) => {
                let (token, key) = (&proof.token, &request.public_key);
                self.oidc.confirm(token, key, request_id, now).await
            }
            Proof::AwsSts(sts) => {
                let confirmed = self
                    .aws_sts
                    .confirm(sts, digest, request_id, peer, now)
                    .await?;
                self.web_identities.check_not_required(&confirmed.caller)?;
                Ok(confirmed)
            }
            Proof::AwsWebIdentity(AwsWebIdentityProof { sts, token }) => {
                // The token first: who has none of an accepted account costs STS nothing.
                let shown = self.web_identities.verify(token, now).await?;
                let confirmed = self
                    .aws_sts
                    .confirm(sts, digest, request_id, peer, now)
                    .await?;
                shown.join(confirmed)
            }
        }
    }

    /// What needs nobody else: version, key, and that the sender holds it.
    fn check(&self, request: &SessionRequest) -> Result<CanonicalRequest, AuthnError> {
        check_version(request.protocol)?;
        if self.special_keys.contains(&request.public_key) {
            return Err(AuthnError::SpecialKey);
        }
        let canonical = request.canonical(&self.audience);
        let signature = request.key_signature.as_slice();
        let message = canonical.as_slice();
        sshsig::verify(Namespace::Request, &request.public_key, message, signature)
            .map_err(AuthnError::PossessionNotProven)?;
        Ok(canonical)
    }
}

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
    /// A token that does not count.
    #[error("{0}")]
    Token(#[from] InvalidToken),
    /// A token with more claims than a grant holds.
    #[error("{0}")]
    TooManyClaims(#[from] TooManyClaims),
    /// A claim that the configuration demands is another.
    #[error(
        "the token's claim `{0}` is not one that this CA takes from its issuer; use a token of whom it takes, or have its operator add the value to `require` in the issuer's [[oidc]]"
    )]
    ClaimNotTaken(String),
    /// The token is of somebody else than the AWS credentials.
    #[error(
        "the token is not of the principal whose credentials signed the request; get it with the same credentials"
    )]
    OtherPrincipal,
    /// The account's identities need a token.
    #[error(
        "identities of account {0} need a token of sts:GetWebIdentityToken as well: use a client that sends one, and let the role call it"
    )]
    WebIdentityRequired(String),
    /// An issuer's keys cannot be had.
    #[error("the keys of the token's issuer could not be fetched; try again")]
    IssuerUnavailable(String),
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
    /// Whether the proof itself was looked at and refused: by STS, or here for what the token is and says. Anybody can
    /// send such a one, so these refusals are recorded as the ration allows.
    #[must_use]
    pub fn is_of_judged_proof(&self) -> bool {
        matches!(
            self,
            Self::Refused(_) | Self::Token(_) | Self::ClaimNotTaken(_) | Self::TooManyClaims(_)
        )
    }

    /// Whether AWS confirmed who sent the refused proof: such refusals are always recorded.
    #[must_use]
    pub fn is_of_confirmed_caller(&self) -> bool {
        matches!(
            self,
            Self::AccountNotAccepted(_)
                | Self::OtherPrincipal
                | Self::WebIdentityRequired(_)
                | Self::Refused(Refusal::RoleRevoked)
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
    #[error(
        "AWS does not know the access key, or the session token does not belong to it; sign in to AWS again, or look which profile is used"
    )]
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
