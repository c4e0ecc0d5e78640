//! One question to the policy: the caller, the action, the resource, and what was asked for.
//! Facts come from outside, already verified; nothing here reads a header, a clock or a network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use eic_protocol::arn::{AccountId, Partition};
use eic_protocol::fleet::FleetName;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;

use super::action::Action;
use super::caller::Caller;
use super::extension::ExtensionSet;
use super::network::{Cidr, Source};

/// Tags of a resource or of a principal.
pub type Tags = BTreeMap<String, String>;

/// The claims of a verified token; a claim with several values has several entries.
pub type Claims = BTreeMap<String, Vec<String>>;

/// A fact about a request: told, known to be missing, or hidden from this kind of proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// The value is known.
    Present(T),
    /// AWS would not have the key in such a request.
    Absent,
    /// AWS could have it, and this proof does not show it.
    Unknowable,
}

impl<T> Fact<T> {
    pub(super) fn as_ref(&self) -> Fact<&T> {
        match self {
            Self::Present(value) => Fact::Present(value),
            Self::Absent => Fact::Absent,
            Self::Unknowable => Fact::Unknowable,
        }
    }
}

/// One question to the policy: one caller, one action, one resource, one user.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// To do what.
    pub action: Action,
    /// To what.
    pub resource: &'a Resource<'a>,
    /// With what choices.
    pub asked: &'a Asked<'a>,
    /// From where.
    pub source: Source,
    /// Whether the request came over TLS, at the listener or at the named proxy.
    pub secure_transport: bool,
    /// Unix seconds.
    pub now: u64,
}

/// What the caller chose. Absent choices take the defaults of the policy's settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// `ec2:osuser`.
    pub os_user: Option<&'a OsUser>,
    /// `eic:TtlSeconds`; none means the default lifetime.
    pub ttl_seconds: Option<u64>,
    /// `eic:Extensions`; none means pty and port forwarding.
    pub extensions: Option<ExtensionSet>,
    /// `eic:ForceCommand`.
    pub force_command: Option<&'a str>,
    /// `eic:SourceAddress`; empty means none asked for.
    pub source_address: &'a [Cidr],
    /// `eic:Fleet`.
    pub fleet: Option<&'a FleetName>,
    /// `eic:Reason`.
    pub reason: Option<&'a str>,
    /// `eic:ApprovedBy`.
    pub approved_by: Option<&'a str>,
    /// `eic:KeyType`, e.g. `ssh-ed25519`.
    pub key_type: Option<&'a str>,
    /// The parameters of OpenTunnel.
    pub tunnel: Option<Tunnel>,
}

/// The parameters of `ec2-instance-connect:OpenTunnel` that are condition keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// `ec2-instance-connect:remotePort`.
    pub remote_port: u16,
    /// `ec2-instance-connect:privateIpAddress`.
    pub private_ip: IpAddr,
    /// `ec2-instance-connect:maxTunnelDuration` in seconds, when the request names one.
    pub max_duration: Option<u64>,
}

/// What is acted upon, with the facts about it that policies may name.
#[derive(Clone, Debug)]
pub struct Resource<'a> {
    arn: String,
    region: Option<&'a str>,
    accounts: Vec<&'a AccountId>,
    tags: Fact<&'a Tags>,
}

impl<'a> Resource<'a> {
    /// An EC2 instance, or a hybrid-managed host (`mi-…`, an ARN of Systems Manager).
    #[must_use]
    pub fn instance(
        partition: Partition,
        region: &'a str,
        account: &'a AccountId,
        id: &InstanceId,
        tags: Fact<&'a Tags>,
    ) -> Self {
        let (service, kind) = if id.is_managed() {
            ("ssm", "managed-instance")
        } else {
            ("ec2", "instance")
        };
        let arn = format!("arn:{partition}:{service}:{region}:{account}:{kind}/{id}");
        Self {
            arn,
            region: Some(region),
            accounts: vec![account],
            tags,
        }
    }

    /// An Instance Connect Endpoint (`eice-…`).
    #[must_use]
    pub fn endpoint(
        partition: Partition,
        region: &'a str,
        account: &'a AccountId,
        id: &str,
        tags: Fact<&'a Tags>,
    ) -> Self {
        let arn = format!("arn:{partition}:ec2:{region}:{account}:instance-connect-endpoint/{id}");
        Self {
            arn,
            region: Some(region),
            accounts: vec![account],
            tags,
        }
    }

    /// A fleet, `arn:aws:eic:::fleet/NAME`, with every account that its selector names.
    #[must_use]
    pub fn fleet(partition: Partition, name: &FleetName, accounts: &'a [AccountId]) -> Self {
        let arn = format!("arn:{partition}:eic:::fleet/{name}");
        Self {
            arn,
            region: None,
            accounts: accounts.iter().collect(),
            tags: Fact::Absent,
        }
    }

    /// The service itself, `arn:aws:eic:::service`: audit, inventory, revocation, administration.
    #[must_use]
    pub fn service(partition: Partition) -> Self {
        Self {
            arn: format!("arn:{partition}:eic:::service"),
            region: None,
            accounts: Vec::new(),
            tags: Fact::Absent,
        }
    }

    /// The ARN that `Resource` patterns are matched against.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    pub(super) fn region(&self) -> Option<&'a str> {
        self.region
    }

    pub(super) fn accounts(&self) -> &[&'a AccountId] {
        &self.accounts
    }

    pub(super) fn tags(&self) -> Fact<&'a Tags> {
        self.tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_of_resources_have_their_documented_forms() {
        let account: AccountId = "111122223333".parse().unwrap();
        let of = |id: &str| {
            Resource::instance(
                Partition::Aws,
                "us-east-1",
                &account,
                &id.parse().unwrap(),
                Fact::Absent,
            )
            .arn()
            .to_owned()
        };
        assert_eq!(
            of("i-0123456789abcdef0"),
            "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0"
        );
        assert_eq!(
            of("mi-0123456789abcdef0"),
            "arn:aws:ssm:us-east-1:111122223333:managed-instance/mi-0123456789abcdef0"
        );
        let fleet = Resource::fleet(Partition::AwsCn, &"web".parse().unwrap(), &[]);
        assert_eq!(fleet.arn(), "arn:aws-cn:eic:::fleet/web");
        assert_eq!(
            Resource::service(Partition::Aws).arn(),
            "arn:aws:eic:::service"
        );
    }
}
