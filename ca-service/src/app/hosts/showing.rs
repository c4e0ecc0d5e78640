//! From what a host sent to evidence: each kind is verified, then compared with what AWS or the inventory
//! says now. AWS is asked about a host only after its account was found in the configuration (threats E-14).

use eic_protocol::api::host_certificate::HostEvidence as Evidence;
use eic_protocol::api::host_certificate::evidence::{EnrolmentToken, IdentitySignature};
use eic_protocol::arn::AccountId;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::proof::aws_sts::AwsStsProof;
use sha2::{Digest as _, Sha256};

use super::refusal::HostRefusal;
use super::{App, MAX_AGE, Sent};
use crate::host_identity::enrolment::Purpose;
use crate::host_identity::evidence::{Described, EvidenceKind, HostEvidence};
use crate::host_identity::identity_document;
use crate::host_identity::jwt::Jwt;
use crate::host_identity::web_identity::{self, TokenRules};
use crate::refusal::Refusal;
use crate::store::ReplayClaim;
use crate::web_token::claims;

/// A host that was shown to be itself; the request counts once its claim is durable.
pub(super) struct Shown {
    pub(super) evidence: HostEvidence,
    pub(super) claim: ReplayClaim,
    /// The role or role session that AWS named, for the audit.
    pub(super) arn: Option<String>,
    /// EC2's description, where EC2 was asked.
    pub(super) described: Option<Described>,
    /// Digest of the one-time token that was shown.
    pub(super) token: Option<String>,
}

impl App {
    pub(super) async fn show_host(&self, sent: &Sent<'_>) -> Result<Shown, Refusal> {
        match &sent.request.evidence {
            Evidence::WebIdentity(token) => self.show_token(sent, token.reveal()).await,
            Evidence::InstanceIdentity {
                document,
                signature,
                proof,
            } => {
                let document = (document.as_slice(), signature, proof);
                self.show_document(sent, document).await
            }
            // A legacy host is in EC2, where AWS vouches for it.
            Evidence::EnrolmentToken(_) | Evidence::EnrolledKey {}
                if sent.purpose == Purpose::KnownKeys =>
            {
                Err(HostRefusal::AwsEvidence.into())
            }
            Evidence::EnrolmentToken(token) => self.show_enrolment(sent, token).await,
            Evidence::EnrolledKey {} => self.show_listed(sent, EvidenceKind::HostKey).await,
        }
    }

    async fn show_token(&self, sent: &Sent<'_>, token: &str) -> Result<Shown, Refusal> {
        let now = sent.context.now;
        let jwt = Jwt::parse(token)
            .map_err(|e| HostRefusal::Token(claims::InvalidToken::from(e).into()))?;
        let claimed = claims::claimed_issuer(&jwt).map_err(|e| HostRefusal::Token(e.into()))?;
        let mut issuers = self.hosts.issuers.iter();
        let issuer = issuers.find(|known| known.keys.rules().issuer.as_str() == claimed);
        let issuer = issuer.ok_or_else(|| {
            HostRefusal::Token(claims::InvalidToken::UnknownIssuer(claimed).into())
        })?;
        self.check_account(&issuer.account, EvidenceKind::WebIdentity, sent.purpose)?;
        let keys = issuer.keys.get(jwt.key_id(), now).await;
        let keys = keys.map_err(HostRefusal::NoKeys)?;
        let rules = TokenRules {
            issuer: &issuer.keys.rules().issuer,
            audience: self.audience().as_str(),
            account: &issuer.account,
            algorithms: &issuer.keys.rules().algorithms,
        };
        let identity = web_identity::verify(&jwt, &rules, &keys, now);
        let identity = identity.map_err(HostRefusal::Token)?;
        check_instance(sent, &identity.instance)?;
        self.hosts.take_turn(sent)?;
        let (instance, account) = (&identity.instance, &identity.account);
        let described = self
            .hosts
            .look_up
            .describe(instance, account, identity.region, false, now)
            .await
            .map_err(HostRefusal::LookUp)?;
        let evidence = HostEvidence::of_token(&identity, &described);
        Ok(Shown {
            evidence: evidence.map_err(HostRefusal::Disagreement)?,
            claim: identity.claim,
            arn: Some(identity.role),
            described: Some(described),
            token: None,
        })
    }

    async fn show_document(
        &self,
        sent: &Sent<'_>,
        (bytes, signature, proof): (&[u8], &IdentitySignature, &AwsStsProof),
    ) -> Result<Shown, Refusal> {
        let now = sent.context.now;
        let certificates = &self.hosts.certificates;
        let document = identity_document::verify(bytes, signature, certificates, now)
            .map_err(HostRefusal::Document)?;
        let kind = EvidenceKind::IdentityDocument;
        self.check_account(&document.account, kind, sent.purpose)?;
        let role = self
            .authn
            .aws_sts
            .confirm_role(proof, sent.canonical.digest(), sent.context.peer(), now)
            .await?;
        HostEvidence::check_caller(&document, &role.arn).map_err(HostRefusal::Disagreement)?;
        check_instance(sent, &document.instance)?;
        self.hosts.take_turn(sent)?;
        let (instance, account) = (&document.instance, &document.account);
        let described = self
            .hosts
            .look_up
            .describe(instance, account, document.region, true, now)
            .await
            .map_err(HostRefusal::LookUp)?;
        let evidence = HostEvidence::of_document(&document, &role.arn, &described);
        Ok(Shown {
            evidence: evidence.map_err(HostRefusal::Disagreement)?,
            claim: role.claim,
            arn: Some(role.arn.to_string()),
            described: Some(described),
            token: None,
        })
    }

    /// Which host a token enrols was written down when it was made; the host cannot choose.
    async fn show_enrolment(
        &self,
        sent: &Sent<'_>,
        token: &EnrolmentToken,
    ) -> Result<Shown, Refusal> {
        let digest = token.digest();
        let stored = self.hosts.book.token(&digest).await?;
        let good = stored.is_some_and(|stored| {
            stored.used_at.is_none()
                && stored.ends > sent.context.now
                && stored.instance == sent.request.instance
        });
        if !good {
            return Err(HostRefusal::EnrolmentToken.into());
        }
        let kind = EvidenceKind::EnrolmentToken;
        let mut shown = self.show_listed(sent, kind).await?;
        shown.token = Some(digest);
        Ok(shown)
    }

    /// A host that the inventory knows; its name is the inventory's.
    async fn show_listed(&self, sent: &Sent<'_>, kind: EvidenceKind) -> Result<Shown, Refusal> {
        // A stranger's question about an id is answered before the inventory is asked.
        if kind == EvidenceKind::HostKey && !sent.has_known_key() {
            return Err(HostRefusal::NotEnrolledKey.into());
        }
        self.hosts.take_turn(sent)?;
        let (instance, now) = (&sent.request.instance, sent.context.now);
        let host = self
            .inventory
            .instance(instance, instance.as_str(), now)
            .await?
            .ok_or(HostRefusal::NotListed)?;
        let in_ec2 = !host.id().is_managed() && self.hosts.has_account(host.account());
        let evidence = HostEvidence::of_listed_host(kind, &host, in_ec2);
        Ok(Shown {
            evidence: evidence.map_err(HostRefusal::Disagreement)?,
            claim: request_claim(sent),
            arn: None,
            described: None,
            token: None,
        })
    }

    fn check_account(
        &self,
        account: &AccountId,
        kind: EvidenceKind,
        purpose: Purpose,
    ) -> Result<(), HostRefusal> {
        if !self.hosts.has_account(account) {
            return Err(HostRefusal::Account(account.clone()));
        }
        if purpose == Purpose::KnownKeys && !self.hosts.harvests(account) {
            return Err(HostRefusal::NoHarvest(account.clone()));
        }
        self.hosts
            .takes(account, kind)
            .then_some(())
            .ok_or(HostRefusal::Kind(kind))
    }
}

/// The evidence must be about the host that the keys signed for.
fn check_instance(sent: &Sent<'_>, shown: &InstanceId) -> Result<(), HostRefusal> {
    (*shown == sent.request.instance)
        .then_some(())
        .ok_or(HostRefusal::OtherInstance)
}

/// The signed bytes make the claim, never the signatures: ECDSA has two for one message.
fn request_claim(sent: &Sent<'_>) -> ReplayClaim {
    let mut hash = Sha256::new();
    hash.update(b"eic-host-request-claim\0");
    hash.update(sent.canonical.digest().to_hex());
    ReplayClaim::of_signed_time(hash.finalize().into(), sent.request.time, MAX_AGE)
}
