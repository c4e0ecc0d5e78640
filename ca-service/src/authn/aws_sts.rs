//! `aws-sts`: a signed sts:GetCallerIdentity, rebuilt from the client's fields and judged by STS itself.
//! It proves who the caller is, never what the caller may do. Nothing that the client sent is forwarded
//! except four values of narrow grammars, in places that the tables of `eic_protocol` choose.

use std::collections::HashSet;
use std::sync::Arc;

use eic_protocol::arn::{AccountId, CallerArn};
use eic_protocol::proof::aws_sts::{AwsStsProof, MAX_AGE, StsRequest};
use eic_protocol::proof::{Audience, RequestDigest};
use eic_protocol::request_id::RequestId;
use eic_protocol::version::VersionRange;
use sha2::{Digest as _, Sha256};

use super::{AuthnError, Confirmed, Refusal};
use crate::caller::{Caller, Proven};
use crate::peer_network::PeerNetwork;
use crate::store::ReplayClaim;

mod answer;
pub mod clock_skew;
mod host;
pub mod role_revocation;
mod standing;
pub mod transport;
mod tried;
mod turns;

use clock_skew::ClockSkew;
use role_revocation::RoleRevocations;
use transport::StsTransport;
use tried::Tried;

/// What the authenticator is made of.
pub struct AwsSts {
    audience: Audience,
    accounts: HashSet<AccountId>,
    sso_accounts: HashSet<AccountId>,
    transport: StsTransport,
    skew: Arc<ClockSkew>,
    revocations: Option<Arc<RoleRevocations>>,
    tried: Tried,
}

/// Which identities are taken, and for whom proofs must be meant.
pub struct Rules {
    /// The audience of every proof.
    pub audience: Audience,
    /// Accounts whose identities are accepted; empty: all that policy lets in.
    pub accounts: Vec<AccountId>,
    /// Accounts whose `AWSReservedSSO_*` roles are known to come from IAM Identity Center.
    pub sso_accounts: Vec<AccountId>,
}

impl AwsSts {
    /// An authenticator.
    #[must_use]
    pub fn new(
        rules: Rules,
        transport: StsTransport,
        skew: Arc<ClockSkew>,
        revocations: Option<Arc<RoleRevocations>>,
    ) -> Self {
        Self {
            audience: rules.audience,
            accounts: rules.accounts.into_iter().collect(),
            sso_accounts: rules.sso_accounts.into_iter().collect(),
            transport,
            skew,
            revocations,
            tried: Tried::default(),
        }
    }

    /// Whom `proof` is of, over a request of this digest whose key signed it. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`AuthnError`]; a proof that was refused is not asked about again.
    pub async fn confirm(
        &self,
        proof: &AwsStsProof,
        digest: RequestDigest,
        request_id: RequestId,
        peer: PeerNetwork,
        now: u64,
    ) -> Result<Confirmed, AuthnError> {
        if !proof.date.is_fresh(now) {
            return Err(AuthnError::Stale {
                seconds: proof.date.unix().abs_diff(now),
            });
        }
        let checked = Checked { proof, digest };
        let claimed = checked.claimed();
        if !self.tried.is_first(claimed, now) {
            return Err(AuthnError::Replayed);
        }
        let caller = self.identify(&checked, request_id, peer, now).await?;
        Ok(Confirmed {
            caller,
            claim: ReplayClaim::of_signed_time(claimed, proof.date.unix(), MAX_AGE),
            token_claim: None,
        })
    }

    /// Has STS judge the proof.
    async fn identify(
        &self,
        checked: &Checked<'_>,
        request_id: RequestId,
        peer: PeerNetwork,
        now: u64,
    ) -> Result<Caller, AuthnError> {
        let rebuilt: StsRequest = checked.proof.rebuild(&self.audience, checked.digest);
        let answer = self.transport.send(rebuilt, peer).await?;
        self.skew.observe(answer.date, self.transport.now(now))?;
        let identity = answer::read(&answer)?;
        self.check_identity(checked.proof, &identity.arn)?;
        if let Some(revocations) = &self.revocations {
            revocations.check(&identity.arn, now).await?;
        }
        Ok(Caller::new(Proven {
            standing: standing::of(&identity.arn, &self.sso_accounts),
            arn: identity.arn,
            user_id: identity.user_id,
            access_key_id: checked.proof.access_key_id.clone(),
            session_id: request_id,
        }))
    }

    fn check_identity(&self, proof: &AwsStsProof, arn: &CallerArn) -> Result<(), AuthnError> {
        // A Region of one partition never speaks for another's accounts.
        if arn.partition() != proof.region.partition() {
            return Err(AuthnError::Refused(Refusal::Other(
                "a caller of another partition".to_owned(),
            )));
        }
        let accepted = self.accounts.is_empty() || self.accounts.contains(arn.account());
        if accepted {
            Ok(())
        } else {
            Err(AuthnError::AccountNotAccepted(arn.account().to_string()))
        }
    }
}

/// A proof that only STS has still to confirm.
struct Checked<'r> {
    proof: &'r AwsStsProof,
    digest: RequestDigest,
}

impl Checked<'_> {
    /// Request hash, access key id and date: never the signature's bytes, which have other spellings
    /// for the same proof (threats A-22).
    fn claimed(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"eic-aws-sts-claim\0");
        hash.update(self.digest.to_hex());
        hash.update(self.proof.access_key_id.as_str());
        hash.update(b"\0");
        hash.update(self.proof.date.to_string());
        hash.finalize().into()
    }
}

/// Whether the client's protocol version is served.
///
/// # Errors
/// [`AuthnError::UnsupportedProtocol`]
pub fn check_version(asked: u32) -> Result<(), AuthnError> {
    let VersionRange { lowest, highest } = VersionRange::OURS;
    if (lowest..=highest).contains(&asked) {
        Ok(())
    } else {
        Err(AuthnError::UnsupportedProtocol {
            asked,
            lowest,
            highest,
        })
    }
}
