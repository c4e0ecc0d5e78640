//! EC2 Instance Connect Endpoint: which endpoint leads to an instance, what stands in the way, and the signed
//! address of a tunnel. Runs where the credentials are; nothing here opens a connection to the endpoint itself.

mod administration;
mod choice;
mod ec2;
mod presigned;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use eic_aws::endpoint::Endpoint as AwsEndpoint;
use eic_aws::error::AwsError;
use eic_aws::http_client::HttpClient;
use eic_aws::sigv4::Scope;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::text::printable;
use serde::{Deserialize, Serialize};

pub use administration::{Administration, EndpointStatus, NewEndpoint, administer};
pub use choice::{Names, Obstacle};
pub use presigned::{Presign, presigned_path};

/// How EC2 is asked.
#[derive(Clone, Copy, Debug)]
pub struct Ec2<'a> {
    /// The client.
    pub client: &'a HttpClient,
    /// The Region's endpoint.
    pub endpoint: &'a AwsEndpoint,
    /// Credentials, Region and time.
    pub scope: &'a Scope<'a>,
}

/// What a tunnel is to reach.
#[derive(Clone, Debug)]
pub enum Reach<'a> {
    /// An instance.
    Instance(&'a InstanceId),
    /// An address.
    Address(IpAddr),
}

/// What was asked for beside the target.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Port on the instance.
    pub port: u16,
    /// This endpoint only.
    pub endpoint: Option<&'a EndpointId>,
    /// Under this name.
    pub dns_name: Option<&'a DnsName>,
    /// Which of an endpoint's names.
    pub names: Names,
}

/// The way to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its DNS name.
    pub host: DnsName,
    /// The instance's private address.
    pub address: IpAddr,
    /// What may go wrong, for stderr.
    pub notes: Vec<String>,
}

/// Finds the way: the instance, the endpoints of its VPC, and whether its security groups admit one.
///
/// # Errors
/// [`EndpointError`] names what is in the way, before anything is opened.
pub async fn plan(
    ec2: Ec2<'_>,
    reach: &Reach<'_>,
    wanted: &Wanted<'_>,
) -> Result<Plan, EndpointError> {
    let instance = match reach {
        Reach::Instance(id) => Some(ec2::instance(ec2, id).await?),
        Reach::Address(_) => None,
    };
    if let (Some(endpoint), Some(host)) = (wanted.endpoint, wanted.dns_name) {
        return named_plan(reach, instance.as_ref(), endpoint, host);
    }
    let vpc = instance.as_ref().and_then(|i| i.vpc_id.as_deref());
    // Neither needs the other's answer: one round trip less before a tunnel opens.
    let (endpoints, rules) = tokio::join!(
        ec2::endpoints(ec2, wanted.endpoint, vpc),
        rules(ec2, instance.as_ref()),
    );
    let endpoints = endpoints?;
    let chosen = choice::choose(&endpoints, instance.as_ref(), wanted.endpoint)?;
    let host = choice::name(chosen, wanted.names)?;
    let address = match (reach, &instance) {
        (Reach::Address(address), _) => choice::admits(chosen, *address)?,
        (_, Some(instance)) => choice::address(chosen, instance)?,
        (_, None) => return Err(Obstacle::NoAddress.into()),
    };
    let mut notes = choice::notes(chosen, instance.as_ref());
    if let (Some(instance), Some(rules)) = (&instance, rules) {
        notes.extend(choice::admission(&rules, instance, chosen, wanted.port)?);
    }
    Ok(Plan {
        endpoint: chosen.id.clone(),
        host,
        address,
        notes,
    })
}

/// Both parts were named: nothing of the endpoint is looked up, as with AWS's own client.
fn named_plan(
    reach: &Reach<'_>,
    instance: Option<&ec2::Instance>,
    endpoint: &EndpointId,
    host: &DnsName,
) -> Result<Plan, EndpointError> {
    let address = match (reach, instance) {
        (Reach::Address(address), _) => Some(*address),
        (_, Some(instance)) => instance.private_ip.or(instance.ipv6),
        (_, None) => None,
    };
    Ok(Plan {
        endpoint: endpoint.clone(),
        host: host.clone(),
        address: address.ok_or(Obstacle::NoAddress)?,
        notes: Vec::new(),
    })
}

/// What the instance's security groups let in; none where it has no group, or where the caller may not read them.
async fn rules(ec2: Ec2<'_>, instance: Option<&ec2::Instance>) -> Option<Vec<ec2::Rule>> {
    let groups = &instance?.groups;
    if groups.is_empty() {
        return None;
    }
    ec2::ingress(ec2, groups).await.ok()
}

/// `eice-` and hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointId(String);

impl EndpointId {
    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EndpointId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let digits = text.strip_prefix("eice-").unwrap_or_default();
        let hex = digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex && (8..=32).contains(&digits.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::Endpoint(printable(text)))
        }
    }
}

/// A DNS name that a TLS certificate can be for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let label = |label: &str| {
            let plain = label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-');
            (1..=63).contains(&label.len())
                && plain
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let labels = text.split('.');
        // A last label of digits would be an address.
        let named = text
            .rsplit('.')
            .next()
            .is_some_and(|l| l.starts_with(|c: char| c.is_ascii_alphabetic()));
        if text.len() <= 253 && text.contains('.') && named && labels.into_iter().all(label) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(InvalidName::Dns(printable(text)))
        }
    }
}

/// 1 to 3,600 seconds: the longest that an endpoint keeps a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct TunnelSeconds(u16);

impl TunnelSeconds {
    /// The seconds.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for TunnelSeconds {
    type Error = InvalidName;

    fn try_from(seconds: u16) -> Result<Self, InvalidName> {
        if (1..=3600).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(InvalidName::Seconds)
        }
    }
}

impl FromStr for TunnelSeconds {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.parse::<u16>()
            .map_err(|_| InvalidName::Seconds)?
            .try_into()
    }
}

impl From<TunnelSeconds> for u16 {
    fn from(seconds: TunnelSeconds) -> Self {
        seconds.0
    }
}

macro_rules! text_of {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_of!(EndpointId);
text_of!(DnsName);

/// Not what it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// An endpoint's id.
    #[error("the specified endpointId is invalid: `{0}` is not of the form eice-xxxxxxxxxxxxxxxxx")]
    Endpoint(String),
    /// A DNS name.
    #[error("the specified dnsName is invalid: `{0}` is not a DNS name")]
    Dns(String),
    /// A duration.
    #[error("invalid value for maxTunnelDuration: it must be 1 to 3600 seconds")]
    Seconds,
}

/// There is no way through an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// AWS.
    #[error("{doing}: {cause}")]
    Aws {
        /// What was tried, with the action that IAM must allow.
        doing: &'static str,
        /// Why it failed.
        cause: AwsError,
    },
    /// Something that no try will change.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
}

/// The Region in which the endpoint's service signs.
#[must_use]
pub fn signing_region(region: AwsRegion, host: &DnsName) -> AwsRegion {
    // `eice-….….ec2-instance-connect-endpoint.REGION.amazonaws.com`: a name that was given by hand decides.
    let labels = host.as_str().split('.');
    let mut named = labels.filter_map(|label| label.parse::<AwsRegion>().ok());
    named.next().unwrap_or(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_names_and_durations_out_of_form_are_refused() {
        for bad in [
            "",
            "eice-",
            "eice-xyz",
            "eice-0123456",
            "i-01234567",
            "eice-01234567/../x",
            "eice-0123456A",
        ] {
            assert!(bad.parse::<EndpointId>().is_err(), "{bad:?}");
        }
        for bad in [
            "",
            "a",
            "a..b",
            "-a.b",
            "a-.b",
            "a.b:443",
            "a/b.c",
            "10.0.0.5",
            "a b.c",
            "a.b\r\nX: y",
            "u@a.b",
        ] {
            assert!(bad.parse::<DnsName>().is_err(), "{bad:?}");
        }
        for bad in ["", "0", "3601", "-1", "65536", "1.5"] {
            assert!(bad.parse::<TunnelSeconds>().is_err(), "{bad:?}");
        }
        assert_eq!("3600".parse::<TunnelSeconds>().unwrap().get(), 3600);
        assert!("eice-0123456789abcdef0".parse::<EndpointId>().is_ok());
    }

    #[test]
    fn the_region_of_a_given_name_decides_the_signature() {
        let own: AwsRegion = "us-east-1".parse().unwrap();
        let named: DnsName =
            "eice-01234567.0a1b.ec2-instance-connect-endpoint.eu-west-1.amazonaws.com"
                .parse()
                .unwrap();
        assert_eq!(signing_region(own, &named).as_str(), "eu-west-1");
        assert_eq!(
            signing_region(own, &"tunnel.example.com".parse().unwrap()),
            own
        );
    }
}
