//! Evidence that a request comes from one host: what the host sent, compared with what AWS and the inventory
//! say now. Pure: whoever asks AWS does it before. A [`HostEvidence`] is made here only, when all agree.

use std::net::IpAddr;

use eic_protocol::arn::{AccountId, CallerArn, Identity};
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;

use super::identity_document::IdentityDocument;
use super::role_trust::Trust;
use super::web_identity::WebIdentity;
use crate::inventory::InstanceRecord;

/// How a host was shown to be itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvidenceKind {
    /// A token of sts:GetWebIdentityToken.
    WebIdentity,
    /// An identity document with the instance role's signature.
    IdentityDocument,
    /// A one-time token of an operator.
    EnrolmentToken,
    /// A key that was certified before, of a host that was enrolled by a one-time token.
    HostKey,
    /// A caller whom policy lets have the host's keys certified.
    Permit,
}

impl EvidenceKind {
    /// All, by their names in configuration, store and audit.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("web-identity", Self::WebIdentity),
        ("identity-document", Self::IdentityDocument),
        ("enrolment-token", Self::EnrolmentToken),
        ("host-key", Self::HostKey),
        ("permit", Self::Permit),
    ];

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, kind)| *kind == self);
        found.map_or("unknown", |(name, _)| name)
    }

    /// Whether AWS vouches for the host.
    #[must_use]
    pub fn is_of_aws(self) -> bool {
        matches!(self, Self::WebIdentity | Self::IdentityDocument)
    }
}

/// The instance as ec2:DescribeInstances shows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its id.
    pub instance: InstanceId,
    /// The account that owns it.
    pub account: AccountId,
    /// The Region that was asked.
    pub region: AwsRegion,
    /// `running`, `stopped`, …
    pub state: String,
    /// Its private addresses.
    pub private_ips: Vec<IpAddr>,
    /// Its role, where it has an instance profile.
    pub role: Option<InstanceRole>,
}

/// The role in an instance's profile, as IAM shows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRole {
    /// Its name.
    pub name: String,
    /// Who may assume it.
    pub trust: Trust,
}

/// A host that is what it says. Not `Clone`: it serves one request.
#[derive(Debug)]
pub struct HostEvidence {
    instance: InstanceId,
    account: AccountId,
    region: AwsRegion,
    kind: EvidenceKind,
    pending_time: Option<u64>,
    shared_role: Option<String>,
}

impl HostEvidence {
    /// The host: the only name that its certificate gets.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// Its account.
    #[must_use]
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Its Region.
    #[must_use]
    pub fn region(&self) -> AwsRegion {
        self.region
    }

    /// How it was shown.
    #[must_use]
    pub fn kind(&self) -> EvidenceKind {
        self.kind
    }

    /// The launch that its document tells of, in Unix seconds.
    #[must_use]
    pub fn pending_time(&self) -> Option<u64> {
        self.pending_time
    }

    /// Who else may assume the instance's role, and so choose a session name that looks like an instance's.
    #[must_use]
    pub fn shared_role(&self) -> Option<&str> {
        self.shared_role.as_deref()
    }

    /// Whether the role session is the one of the document's instance, by what both say of themselves:
    /// before anybody is asked about the instance.
    ///
    /// # Errors
    /// [`Disagreement`]
    pub fn check_caller(
        document: &IdentityDocument,
        caller: &CallerArn,
    ) -> Result<(), Disagreement> {
        let Identity::AssumedRole { session, .. } = caller.identity() else {
            return Err(Disagreement::NotARole);
        };
        let partition = document.region.partition();
        if caller.account() != &document.account || caller.partition() != partition {
            return Err(Disagreement::Account);
        }
        if session != document.instance.as_str() {
            return Err(Disagreement::Session);
        }
        Ok(())
    }

    /// Where document, role session and AWS's descriptions agree.
    ///
    /// # Errors
    /// [`Disagreement`] names the first that does not.
    pub fn of_document(
        document: &IdentityDocument,
        caller: &CallerArn,
        described: &Described,
    ) -> Result<Self, Disagreement> {
        Self::check_caller(document, caller)?;
        let Identity::AssumedRole { role, .. } = caller.identity() else {
            return Err(Disagreement::NotARole);
        };
        let (instance, account) = (&document.instance, &document.account);
        check_described(described, instance, account, document.region)?;
        if !described.private_ips.contains(&document.private_ip.into()) {
            return Err(Disagreement::Address);
        }
        let shared_role = match &described.role {
            Some(now) if now.name == *role => others(&now.trust),
            _ => return Err(Disagreement::Role),
        };
        Ok(Self {
            instance: document.instance.clone(),
            account: document.account.clone(),
            region: document.region,
            kind: EvidenceKind::IdentityDocument,
            pending_time: Some(document.pending_time),
            shared_role,
        })
    }

    /// Where AWS's token and its description agree.
    ///
    /// # Errors
    /// [`Disagreement`]
    pub fn of_token(identity: &WebIdentity, described: &Described) -> Result<Self, Disagreement> {
        let (instance, account) = (&identity.instance, &identity.account);
        check_described(described, instance, account, identity.region)?;
        let address = identity.private_ip.map(IpAddr::from);
        if address.is_some_and(|address| !described.private_ips.contains(&address)) {
            return Err(Disagreement::Address);
        }
        Ok(Self {
            instance: identity.instance.clone(),
            account: identity.account.clone(),
            region: identity.region,
            kind: EvidenceKind::WebIdentity,
            pending_time: None,
            shared_role: None,
        })
    }

    /// A host that the inventory names and that an operator's token, its own key or a caller's permit vouches for.
    /// `in_ec2`: whether its account's hosts prove themselves by AWS's evidence.
    ///
    /// # Errors
    /// [`Disagreement`]
    pub(crate) fn of_listed_host(
        kind: EvidenceKind,
        host: &InstanceRecord,
        in_ec2: bool,
    ) -> Result<Self, Disagreement> {
        if kind.is_of_aws() || (kind == EvidenceKind::HostKey && in_ec2) {
            return Err(Disagreement::InEc2);
        }
        if !host.is_up() {
            return Err(Disagreement::State);
        }
        Ok(Self {
            instance: host.id().clone(),
            account: host.account().clone(),
            region: host.region(),
            kind,
            pending_time: None,
            shared_role: None,
        })
    }
}

fn others(trust: &Trust) -> Option<String> {
    match trust {
        Trust::OnlyEc2 => None,
        Trust::Others(who) => Some(who.clone()),
    }
}

fn check_described(
    described: &Described,
    instance: &InstanceId,
    account: &AccountId,
    region: AwsRegion,
) -> Result<(), Disagreement> {
    let same = described.instance == *instance && described.region == region;
    if !same || described.account != *account {
        return Err(Disagreement::Account);
    }
    // EC2 user guide, "Instance lifecycle": in every other state nothing of it can be running.
    if !matches!(described.state.as_str(), "running" | "pending") {
        return Err(Disagreement::State);
    }
    Ok(())
}

/// What does not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// A user, a federated user or the root user signed.
    #[error(
        "the document's sender did not sign with the credentials of a role; sign with those of instance metadata"
    )]
    NotARole,
    /// Document, signature and description are not of one account and Region.
    #[error("document, signature and EC2's description are not of one account and Region")]
    Account,
    /// Another instance's role session, or a person's.
    #[error(
        "the role session is not the one of the instance that the document is about; sign with the credentials of its own instance metadata"
    )]
    Session,
    /// The instance's profile holds another role now, or none.
    #[error(
        "the role is not the one in the instance's profile; was it changed? try again once instance metadata has the new one's credentials"
    )]
    Role,
    /// Another private address.
    #[error(
        "EC2 describes the instance with another private address; read the document from instance metadata anew"
    )]
    Address,
    /// Stopped or terminated.
    #[error("the host is not running; start it, or look whether the inventory says so wrongly")]
    State,
    /// EC2 can vouch for the host.
    #[error("hosts in EC2 prove themselves by AWS's evidence each time")]
    InEc2,
}

#[cfg(test)]
pub(super) mod tests;
