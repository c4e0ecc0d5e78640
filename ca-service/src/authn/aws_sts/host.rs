//! The signature of an instance's role: the same rebuilt request to STS as a person's, for a host's request.
//! It shows whose credentials signed. A session that is named for an instance may still be somebody
//! else's: that is compared in `host_identity`, with what EC2 and IAM say.

use eic_protocol::arn::CallerArn;
use eic_protocol::proof::RequestDigest;
use eic_protocol::proof::aws_sts::{AwsStsProof, MAX_AGE};

use super::{AwsSts, Checked, answer};
use crate::authn::{AuthnError, Refusal};
use crate::peer_network::PeerNetwork;
use crate::store::ReplayClaim;

/// Whose credentials signed; it counts once the claim is durable.
#[derive(Debug)]
pub struct ConfirmedRole {
    /// As STS says.
    pub arn: CallerArn,
    /// To be made durable with what comes of the proof.
    pub claim: ReplayClaim,
}

impl AwsSts {
    /// Has STS say whose credentials signed a request with this digest. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`AuthnError`]; a proof that was tried before is not asked about again.
    pub async fn confirm_role(
        &self,
        proof: &AwsStsProof,
        digest: RequestDigest,
        peer: PeerNetwork,
        now: u64,
    ) -> Result<ConfirmedRole, AuthnError> {
        if !proof.date.is_fresh(now) {
            return Err(AuthnError::Stale {
                seconds: proof.date.unix().abs_diff(now),
            });
        }
        let claimed = Checked { proof, digest }.claimed();
        if !self.tried.is_first(claimed, now) {
            return Err(AuthnError::Replayed);
        }
        let answer = self
            .transport
            .send(proof.rebuild(&self.audience, digest), peer)
            .await?;
        self.skew.observe(answer.date, self.transport.now(now))?;
        let arn = answer::read(&answer)?.arn;
        if arn.partition() != proof.region.partition() {
            let why = "a caller of another partition".to_owned();
            return Err(AuthnError::Refused(Refusal::Other(why)));
        }
        if let Some(revocations) = &self.revocations {
            revocations.check(&arn, now).await?;
        }
        Ok(ConfirmedRole {
            arn,
            claim: ReplayClaim::of_signed_time(claimed, proof.date.unix(), MAX_AGE),
        })
    }
}
