//! From what a host sent to evidence: each kind is verified, then compared with what AWS or the inventory
//! says now. AWS is asked about a host only after its account was found in the configuration (threats E-14).

use eic_protocol::api::host_certificate::evidence::{EnrolmentToken, IdentitySignature};
use eic_protocol::api::host_certificate::{HostCertificateRequest, HostEvidence as Sent};
use eic_protocol::arn::AccountId;
use eic_protocol::proof::aws_sts::AwsStsProof;
use sha2::{Digest as _, Sha256};

use super::refusal::HostRefusal;
use super::{App, MAX_AGE};
use crate::host_identity::evidence::{Described, EvidenceKind, HostEvidence};
use crate::host_identity::identity_document;
use crate::host_identity::jwt::Jwt;
use crate::host_identity::web_identity::{self, TokenRules};
use crate::http::context::Context;
use crate::refusal::Refusal;
use crate::store::ReplayClaim;

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
    pub(super) async fn show_host(
        &self,
        context: &Context,
        request: &HostCertificateRequest,
    ) -> Result<Shown, Refusal> {
        let shown = match &request.evidence {
            Sent::WebIdentity(token) => self.show_token(context, request, token.reveal()).await?,
            Sent::InstanceIdentity {
                document,
                signature,
                proof,
            } => {
                let sent = (document.as_slice(), signature, proof);
                self.show_document(context, request, sent).await?
            }
            Sent::EnrolmentToken(token) => self.show_enrolment(context, request, token).await?,
            Sent::EnrolledKey {} => {
                let kind = EvidenceKind::HostKey;
                self.show_listed(context, request, kind).await?
            }
        };
        if *shown.evidence.instance() == request.instance {
            Ok(shown)
        } else {
            Err(HostRefusal::OtherInstance.into())
        }
    }

    async fn show_token(
        &self,
        context: &Context,
        request: &HostCertificateRequest,
        token: &str,
    ) -> Result<Shown, Refusal> {
        let issuer = web_identity::claimed_issuer(token).map_err(HostRefusal::Token)?;
        let issuer = self
            .hosts
            .issuers
            .iter()
            .find(|known| known.keys.issuer() == issuer)
            .ok_or(HostRefusal::Token(web_identity::InvalidToken::Issuer))?;
        self.check_account(&issuer.account, EvidenceKind::WebIdentity)?;
        let jwt = Jwt::parse(token).map_err(|e| HostRefusal::Token(e.into()))?;
        let keys = issuer.keys.get(jwt.key_id(), context.now).await;
        let keys = keys.map_err(HostRefusal::NoKeys)?;
        let rules = TokenRules {
            issuer: issuer.keys.issuer(),
            audience: self.audience().as_str(),
            account: &issuer.account,
            algorithms: &issuer.algorithms,
        };
        let identity = web_identity::verify(token, &rules, &keys, context.now);
        let identity = identity.map_err(HostRefusal::Token)?;
        self.hosts.take_turn(&identity.instance, request).await?;
        let described = self
            .hosts
            .look_up
            .describe(
                &identity.instance,
                &identity.account,
                identity.region,
                false,
                context.now,
            )
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
        context: &Context,
        request: &HostCertificateRequest,
        (bytes, signature, proof): (&[u8], &IdentitySignature, &AwsStsProof),
    ) -> Result<Shown, Refusal> {
        let now = context.now;
        let certificates = &self.hosts.certificates;
        let document = identity_document::verify(bytes, signature, certificates, now)
            .map_err(HostRefusal::Document)?;
        self.check_account(&document.account, EvidenceKind::IdentityDocument)?;
        let canonical = request.canonical(self.audience());
        let role = self
            .authn
            .confirm_role(proof, canonical.digest(), context.peer(), now)
            .await?;
        HostEvidence::check_caller(&document, &role.arn).map_err(HostRefusal::Disagreement)?;
        self.hosts.take_turn(&document.instance, request).await?;
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
        context: &Context,
        request: &HostCertificateRequest,
        token: &EnrolmentToken,
    ) -> Result<Shown, Refusal> {
        let digest = token.digest();
        let stored = self.hosts.book.token(&digest).await?;
        let good = stored.is_some_and(|stored| {
            stored.used_at.is_none()
                && stored.ends > context.now
                && stored.instance == request.instance
        });
        if !good {
            return Err(HostRefusal::EnrolmentToken.into());
        }
        let kind = EvidenceKind::EnrolmentToken;
        let mut shown = self.show_listed(context, request, kind).await?;
        shown.token = Some(digest);
        Ok(shown)
    }

    /// A host that the inventory knows; its name is the inventory's.
    async fn show_listed(
        &self,
        context: &Context,
        request: &HostCertificateRequest,
        kind: EvidenceKind,
    ) -> Result<Shown, Refusal> {
        // A stranger's question about an id is answered before the inventory is asked.
        let enrolled = self
            .hosts
            .has_enrolled_key(&request.instance, request)
            .await?;
        if kind == EvidenceKind::HostKey && !enrolled {
            return Err(HostRefusal::NotEnrolledKey.into());
        }
        self.hosts.take_turn(&request.instance, request).await?;
        let host = self
            .inventory
            .instance(&request.instance, request.instance.as_str(), context.now)
            .await?
            .ok_or(HostRefusal::NotListed)?;
        let in_ec2 = !host.id().is_managed() && self.hosts.has_account(host.account());
        let evidence = HostEvidence::of_listed_host(kind, &host, in_ec2);
        Ok(Shown {
            evidence: evidence.map_err(HostRefusal::Disagreement)?,
            claim: self.request_claim(request),
            arn: None,
            described: None,
            token: None,
        })
    }

    fn check_account(&self, account: &AccountId, kind: EvidenceKind) -> Result<(), HostRefusal> {
        if !self.hosts.has_account(account) {
            return Err(HostRefusal::Account(account.clone()));
        }
        self.hosts
            .takes(account, kind)
            .then_some(())
            .ok_or(HostRefusal::Kind(kind))
    }

    /// The signed bytes make the claim, never the signatures: ECDSA has two for one message.
    fn request_claim(&self, request: &HostCertificateRequest) -> ReplayClaim {
        let mut hash = Sha256::new();
        hash.update(b"eic-host-request-claim\0");
        hash.update(request.canonical(self.audience()).digest().to_hex());
        ReplayClaim::of_signed_time(hash.finalize().into(), request.time, MAX_AGE)
    }
}
