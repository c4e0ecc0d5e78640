//! `GET /v1/instances`: the hosts that a caller may see, by id, name, address.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::arn::AccountId;
use crate::aws_region::AwsRegion;
use crate::instance_id::InstanceId;
use crate::os_user::OsUser;
use crate::proof::{Fields, Route, Signed};

/// The query; all members must match, none means all that the caller may see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstancesQuery {
    /// An instance id, a `Name` tag, a private DNS name or an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Longest `host` that is looked up (a DNS name has at most 253 characters, a tag value 256).
pub const MAX_HOST: usize = 256;

impl Signed for InstancesQuery {
    const ROUTE: Route = Route::Instances;

    fn fields(&self, fields: &mut Fields) {
        fields.optional(self.host.as_ref());
    }
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstancesResponse {
    /// The hosts, sorted by name and id.
    pub instances: Vec<InstanceView>,
    /// Whether there were more than the answer holds (1,000).
    pub truncated: bool,
}

/// A host as a caller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Its id.
    pub id: InstanceId,
    /// The account that owns it.
    pub account: AccountId,
    /// Its Region.
    pub region: AwsRegion,
    /// Its zone, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// Its `Name` tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Private DNS name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_dns: Option<String>,
    /// Addresses to try, in order: public IPv4, IPv6, private IPv4.
    pub addresses: Vec<IpAddr>,
    /// Port of sshd.
    pub ssh_port: u16,
    /// Whether the host trusts the CA.
    pub enrolment: Enrolment,
    /// Whether a key may be pushed by Instance Connect.
    pub instance_connect: InstanceConnectMode,
    /// Accounts that the caller may use there, as far as policy names them (at most 20).
    pub users: Vec<OsUser>,
}

/// Whether a host trusts the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enrolment {
    /// It runs the agent and takes certificates.
    Enrolled,
    /// It takes keys pushed by Instance Connect only.
    Legacy,
    /// Not known.
    Unknown,
}

/// Whether a key may be pushed to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceConnectMode {
    /// Yes.
    On,
    /// Only while the CA cannot be reached.
    BreakGlass,
    /// Never.
    Off,
}
