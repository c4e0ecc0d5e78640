//! One host as the inventory knows it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use eic_protocol::api::instance::{Enrolment, InstanceConnectMode, InstanceView};
use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;

use crate::config::inventory::{EnrolmentRules, MODES};

/// Port of sshd where nothing else is said.
pub(super) const SSH_PORT: u16 = 22;
/// Tag with the accounts to log in as, separated by blanks or commas.
const USER_TAG: &str = "eic:user";
/// Tag with the host's Instance Connect mode.
const MODE_TAG: &str = "eic:instance-connect";
/// Tag with sshd's port.
const PORT_TAG: &str = "eic:ssh-port";
/// Most users that are shown of one host.
const MAX_USERS: usize = 20;

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRecord {
    pub(super) id: InstanceId,
    pub(super) account: AccountId,
    pub(super) region: AwsRegion,
    pub(super) availability_zone: Option<String>,
    pub(super) is_up: bool,
    pub(super) is_gone: bool,
    pub(super) private_dns: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ssh_port: u16,
    pub(super) enrolment: Enrolment,
    pub(super) instance_connect: InstanceConnectMode,
    pub(super) users: Vec<OsUser>,
    pub(super) tags: BTreeMap<String, String>,
}

impl InstanceRecord {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// The account that owns it.
    #[must_use]
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Its Region.
    #[must_use]
    pub fn region(&self) -> AwsRegion {
        self.region
    }

    /// Whether it is running or about to: a certificate for another host could only be for its successor.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Whether it was terminated: it never comes back, and its addresses go to others.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Its `Name` tag.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.tags
            .get("Name")
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// Its private DNS name.
    #[must_use]
    pub fn private_dns(&self) -> Option<&str> {
        self.private_dns.as_deref()
    }

    /// Addresses to try, in order.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its tags.
    #[must_use]
    pub fn tags(&self) -> &BTreeMap<String, String> {
        &self.tags
    }

    /// Accounts on it that the inventory names.
    #[must_use]
    pub fn users(&self) -> &[OsUser] {
        &self.users
    }

    /// The host as its source knows it, for a caller who may log in as `users`.
    #[must_use]
    pub(super) fn view(&self, mut users: Vec<OsUser>) -> InstanceView {
        users.truncate(MAX_USERS);
        InstanceView {
            id: self.id.clone(),
            account: self.account.clone(),
            region: self.region,
            availability_zone: self.availability_zone.clone(),
            name: self.name().map(str::to_owned),
            private_dns: self.private_dns.clone(),
            addresses: self.addresses.clone(),
            ssh_port: self.ssh_port,
            enrolment: self.enrolment,
            instance_connect: self.instance_connect,
            users,
            host_keys: Vec::new(),
        }
    }

    /// A host of EC2, as the rules read its tags. Both states are from the EC2 user guide, "Instance lifecycle".
    pub(super) fn of_ec2(instance: eic_aws::ec2::Instance, rules: &EnrolmentRules) -> Self {
        let tags = &instance.tags;
        Self {
            is_up: matches!(instance.state.as_str(), "running" | "pending"),
            is_gone: matches!(instance.state.as_str(), "shutting-down" | "terminated"),
            addresses: instance.addresses(),
            ssh_port: tags
                .get(PORT_TAG)
                .and_then(|port| port.parse().ok())
                .unwrap_or(SSH_PORT),
            enrolment: enrolment(tags, rules),
            instance_connect: mode(tags, rules),
            users: users(tags),
            id: instance.id,
            account: instance.account,
            region: instance.region,
            availability_zone: instance.availability_zone,
            private_dns: instance.private_dns,
            tags: instance.tags,
        }
    }
}

fn enrolment(tags: &BTreeMap<String, String>, rules: &EnrolmentRules) -> Enrolment {
    if tags.get(&rules.tag) == Some(&rules.value) {
        Enrolment::Enrolled
    } else if rules.others_are_legacy {
        Enrolment::Legacy
    } else {
        Enrolment::Unknown
    }
}

/// A mode that is not understood is `off`: a slip in a tag must not open a door.
fn mode(tags: &BTreeMap<String, String>, rules: &EnrolmentRules) -> InstanceConnectMode {
    match tags.get(MODE_TAG) {
        None => rules.instance_connect,
        Some(word) => MODES
            .iter()
            .find(|(name, _)| name == word)
            .map_or(InstanceConnectMode::Off, |(_, mode)| *mode),
    }
}

fn users(tags: &BTreeMap<String, String>) -> Vec<OsUser> {
    let text = tags.get(USER_TAG).map(String::as_str).unwrap_or_default();
    text.split([' ', ','])
        .filter_map(|user| user.parse().ok())
        .take(MAX_USERS)
        .collect()
}
