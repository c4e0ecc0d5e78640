//! What is known of one request: the caller, the action, the resource, and what was asked for.
//! Facts come from outside, already verified; nothing here reads a header, a clock or a network.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use eic_protocol::arn::{AccountId, CallerArn, Identity, Partition};
use eic_protocol::fleet::FleetName;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;

use super::action::Action;
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
        let (service, kind) = if id.is_managed() { ("ssm", "managed-instance") } else { ("ec2", "instance") };
        let arn = format!("arn:{partition}:{service}:{region}:{account}:{kind}/{id}");
        Self { arn, region: Some(region), accounts: vec![account], tags }
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
        Self { arn, region: Some(region), accounts: vec![account], tags }
    }

    /// A fleet, `arn:aws:eic:::fleet/NAME`, with every account that its selector names.
    #[must_use]
    pub fn fleet(partition: Partition, name: &FleetName, accounts: &'a [AccountId]) -> Self {
        let arn = format!("arn:{partition}:eic:::fleet/{name}");
        Self { arn, region: None, accounts: accounts.iter().collect(), tags: Fact::Absent }
    }

    /// The service itself, `arn:aws:eic:::service`: audit, inventory, revocation, administration.
    #[must_use]
    pub fn service(partition: Partition) -> Self {
        Self { arn: format!("arn:{partition}:eic:::service"), region: None, accounts: Vec::new(), tags: Fact::Absent }
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

/// Who asks, as the proof showed it.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(super) who: Who,
    pub(super) name_attested: bool,
    pub(super) tags: Fact<Tags>,
    pub(super) organization: Fact<String>,
    pub(super) mfa: Fact<bool>,
    pub(super) mfa_age: Fact<u64>,
    pub(super) token_issued: Fact<u64>,
    pub(super) claims: Claims,
}

#[derive(Clone, Debug)]
pub(super) enum Who {
    Aws(AwsCaller),
    Oidc { issuer: String, subject: String },
}

#[derive(Clone, Debug)]
pub(super) struct AwsCaller {
    pub(super) arn: CallerArn,
    /// The ARN as GetCallerIdentity gives it.
    pub(super) session_arn: String,
    /// `aws:PrincipalArn`.
    pub(super) principal_arn: PrincipalArn,
    pub(super) user_id: String,
}

/// `aws:PrincipalArn`: a role's has a path that an assumed-role ARN does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PrincipalArn {
    Known(String),
    /// `prefix` ends in `:role/`; the path between it and `name` is not known.
    UnknownPath { prefix: String, name: String },
}

impl Caller {
    /// A caller that GetCallerIdentity named. Tags, organization, MFA and token time are unknowable
    /// until a `with_…` says otherwise.
    ///
    /// `role_path` is what iam:GetRole answered in the role's own account (`/` or `/a/b/`), none when it was not asked.
    /// `name_attested`: the session name is not the caller's own choice.
    #[must_use]
    pub fn aws(arn: CallerArn, user_id: &str, role_path: Option<&str>, name_attested: bool) -> Self {
        let aws = AwsCaller {
            session_arn: arn.to_string(),
            principal_arn: principal_arn(&arn, role_path),
            user_id: user_id.to_owned(),
            arn,
        };
        Self {
            who: Who::Aws(aws),
            name_attested,
            tags: Fact::Unknowable,
            organization: Fact::Unknowable,
            mfa: Fact::Unknowable,
            mfa_age: Fact::Unknowable,
            token_issued: Fact::Unknowable,
            claims: Claims::new(),
        }
    }

    /// A caller without an AWS identity, from a verified token. AWS's keys about principals are absent.
    #[must_use]
    pub fn oidc(issuer: &str, subject: &str, claims: Claims) -> Self {
        Self {
            who: Who::Oidc { issuer: issuer.to_owned(), subject: subject.to_owned() },
            name_attested: true,
            tags: Fact::Absent,
            organization: Fact::Absent,
            mfa: Fact::Absent,
            mfa_age: Fact::Absent,
            token_issued: Fact::Absent,
            claims,
        }
    }

    /// The principal's tags: of a web identity token's `principal_tags`, never of its `request_tags`.
    #[must_use]
    pub fn with_principal_tags(mut self, tags: Tags) -> Self {
        self.tags = Fact::Present(tags);
        self
    }

    /// `aws:PrincipalOrgID`; absent for an account outside any organization.
    #[must_use]
    pub fn with_organization(mut self, id: Fact<String>) -> Self {
        self.organization = id;
        self
    }

    /// The proof was signed with a long-term key (`AKIA…`): AWS has no MFA and no token keys for it.
    #[must_use]
    pub fn with_long_term_key(mut self) -> Self {
        self.mfa = Fact::Absent;
        self.mfa_age = Fact::Absent;
        self.token_issued = Fact::Absent;
        self
    }

    /// What a token said of the session: MFA, its age in seconds, and when it was issued in Unix seconds.
    #[must_use]
    pub fn with_session(mut self, mfa: Fact<bool>, mfa_age: Fact<u64>, issued: Fact<u64>) -> Self {
        self.mfa = mfa;
        self.mfa_age = mfa_age;
        self.token_issued = issued;
        self
    }

    pub(super) fn as_aws(&self) -> Option<&AwsCaller> {
        match &self.who {
            Who::Aws(aws) => Some(aws),
            Who::Oidc { .. } => None,
        }
    }

    /// Root users and federated users are only let in by a statement that names their type.
    pub(super) fn needs_naming(&self) -> Option<NamedOnly> {
        match self.as_aws()?.arn.identity() {
            Identity::Root => Some(NamedOnly::Root),
            Identity::FederatedUser { .. } => Some(NamedOnly::FederatedUser),
            Identity::User { .. } | Identity::AssumedRole { .. } => None,
        }
    }
}

impl AwsCaller {
    /// `aws:username`: only an IAM user has one.
    pub(super) fn user_name(&self) -> Option<&str> {
        match self.arn.identity() {
            Identity::User { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The unique id without a session name.
    pub(super) fn unique_id(&self) -> &str {
        self.user_id.split_once(':').map_or(self.user_id.as_str(), |(id, _)| id)
    }
}

/// Kinds of callers that no broad principal covers in an Allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedOnly {
    Root,
    FederatedUser,
}

fn principal_arn(arn: &CallerArn, role_path: Option<&str>) -> PrincipalArn {
    let Identity::AssumedRole { role, .. } = arn.identity() else {
        return PrincipalArn::Known(arn.to_string());
    };
    let (partition, account) = (arn.partition(), arn.account());
    match role_path {
        Some(path) => PrincipalArn::Known(format!("arn:{partition}:iam::{account}:role{path}{role}")),
        None => {
            PrincipalArn::UnknownPath { prefix: format!("arn:{partition}:iam::{account}:role/"), name: role.clone() }
        }
    }
}

/// The extensions that a user certificate can carry (draft-miller-ssh-cert, section 2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extension {
    /// `permit-X11-forwarding`
    X11Forwarding,
    /// `permit-agent-forwarding`
    AgentForwarding,
    /// `permit-port-forwarding`
    PortForwarding,
    /// `permit-pty`
    Pty,
    /// `permit-user-rc`
    UserRc,
}

impl Extension {
    /// All, in the byte order that a certificate needs.
    pub const ALL: [Self; 5] =
        [Self::X11Forwarding, Self::AgentForwarding, Self::PortForwarding, Self::Pty, Self::UserRc];

    /// The name in the certificate and in `eic:Extensions`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X11Forwarding => "permit-X11-forwarding",
            Self::AgentForwarding => "permit-agent-forwarding",
            Self::PortForwarding => "permit-port-forwarding",
            Self::Pty => "permit-pty",
            Self::UserRc => "permit-user-rc",
        }
    }

    /// The extension of that exact name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.as_str() == name)
    }

    fn bit(self) -> u8 {
        match self {
            Self::X11Forwarding => 1,
            Self::AgentForwarding => 2,
            Self::PortForwarding => 4,
            Self::Pty => 8,
            Self::UserRc => 16,
        }
    }
}

/// A set of extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionSet(u8);

impl ExtensionSet {
    /// What an Allow gives when it says nothing of extensions: pty and port forwarding.
    pub const DEFAULT: Self = Self(4 | 8);
    /// None at all.
    pub const EMPTY: Self = Self(0);

    /// Whether the extension is in the set.
    #[must_use]
    pub fn contains(self, extension: Extension) -> bool {
        self.0 & extension.bit() != 0
    }

    /// Whether each of ours is in `other`.
    #[must_use]
    pub fn is_subset_of(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Both sets together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The members, in the order that a certificate needs.
    pub fn iter(self) -> impl Iterator<Item = Extension> {
        Extension::ALL.into_iter().filter(move |extension| self.contains(*extension))
    }
}

impl FromIterator<Extension> for ExtensionSet {
    fn from_iter<I: IntoIterator<Item = Extension>>(extensions: I) -> Self {
        extensions.into_iter().fold(Self::EMPTY, |set, extension| Self(set.0 | extension.bit()))
    }
}

impl fmt::Display for ExtensionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Extension::as_str).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_extensions_are_pty_and_port_forwarding() {
        // D-09
        let expected: ExtensionSet = [Extension::Pty, Extension::PortForwarding].into_iter().collect();
        assert_eq!(ExtensionSet::DEFAULT, expected);
        assert_eq!(ExtensionSet::DEFAULT.to_string(), "permit-port-forwarding,permit-pty");
        assert!(!ExtensionSet::DEFAULT.union([Extension::UserRc].into_iter().collect()).is_subset_of(expected));
    }

    #[test]
    fn extensions_come_in_byte_order() {
        let names: Vec<_> = Extension::ALL.map(Extension::as_str).to_vec();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(names, sorted);
        assert_eq!(Extension::parse("permit-x11-forwarding"), None);
    }

    #[test]
    fn a_role_path_is_only_known_when_it_was_looked_up() {
        //
        let arn: CallerArn = "arn:aws:sts::111122223333:assumed-role/Dev/alice".parse().unwrap();
        let unknown = principal_arn(&arn, None);
        assert!(matches!(unknown, PrincipalArn::UnknownPath { .. }));
        let known = principal_arn(&arn, Some("/aws-reserved/sso.amazonaws.com/"));
        let expected = "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/Dev";
        assert_eq!(known, PrincipalArn::Known(expected.into()));
    }

    #[test]
    fn arns_of_resources_have_their_documented_forms() {
        let account: AccountId = "111122223333".parse().unwrap();
        let of = |id: &str| {
            Resource::instance(Partition::Aws, "us-east-1", &account, &id.parse().unwrap(), Fact::Absent).arn().to_owned()
        };
        assert_eq!(of("i-0123456789abcdef0"), "arn:aws:ec2:us-east-1:111122223333:instance/i-0123456789abcdef0");
        assert_eq!(of("mi-0123456789abcdef0"), "arn:aws:ssm:us-east-1:111122223333:managed-instance/mi-0123456789abcdef0");
        let fleet = Resource::fleet(Partition::AwsCn, &"web".parse().unwrap(), &[]);
        assert_eq!(fleet.arn(), "arn:aws-cn:eic:::fleet/web");
        assert_eq!(Resource::service(Partition::Aws).arn(), "arn:aws:eic:::service");
    }
}
