//! `GET /v1/instances`: the hosts that a caller may see, by id, name, address.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::arn::AccountId;
use crate::aws_region::AwsRegion;
use crate::instance_id::InstanceId;
use crate::os_user::OsUser;
use crate::proof::{Fields, Route, Signed};
use crate::subject_key::SubjectKey;

/// The query; all members must match, none means all that the caller may see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstancesQuery {
    /// An instance id, a `Name` tag, a private DNS name or an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Only hosts with ids after this one: `next` of the answer before. Sent to a CA that gave a `next` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<InstanceId>,
}

/// Longest `host` that is looked up (a DNS name has at most 253 characters, a tag value 256).
pub const MAX_HOST: usize = 256;

impl Signed for InstancesQuery {
    const ROUTE: Route = Route::Instances;

    fn fields(&self, fields: &mut Fields) {
        fields.optional(self.host.as_ref());
        // Nothing where it is absent: the query without it has the bytes that it had before there was one.
        if let Some(after) = &self.after {
            fields.required(after.as_str());
        }
    }
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstancesResponse {
    /// The hosts, sorted by name and id.
    pub instances: Vec<InstanceView>,
    /// Whether there are more: than the answer holds (1,000, those with the lowest ids), or in an account that does
    /// not answer now.
    pub truncated: bool,
    /// Where the answer was too short: what to ask for as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<InstanceId>,
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
    /// The public keys of a legacy host, as it made them known itself; only where one host is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_keys: Vec<SubjectKey>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::CanonicalRequest;

    #[test]
    fn a_query_without_a_page_has_the_bytes_of_the_first_version_and_one_with_it_others() {
        let audience = "https://ca.example".parse().unwrap();
        let bytes = |host: Option<&str>, after: Option<&str>| {
            let query = InstancesQuery {
                host: host.map(str::to_owned),
                after: after.map(|id| id.parse().unwrap()),
            };
            CanonicalRequest::of_granted(&audience, 1, &[7; 16], &query)
                .as_slice()
                .to_vec()
        };
        let (none, first) = (bytes(None, None), bytes(None, Some("i-01234567")));
        // The last field of a query for all hosts is the absent `host`.
        assert_eq!(none.last(), Some(&0));
        assert!(first.starts_with(&none) && first.len() == none.len() + 4 + 10);
        assert_ne!(bytes(Some("i-01234567"), None), first);
    }
}
