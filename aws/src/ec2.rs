//! ec2:DescribeInstances and ec2:GetConsoleOutput (EC2 API reference, version 2016-11-15).

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use eic_protocol::arn::AccountId;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;

use crate::endpoint::Endpoint;
use crate::error::AwsError;
use crate::http_client::HttpClient;
use crate::query::{Element, call};
use crate::sigv4::Scope;

const VERSION: &str = "2016-11-15";
/// Pages of 1,000: a Region of a million instances ends here.
const MAX_PAGES: usize = 1000;

/// An instance as EC2 describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// The account that owns it (the reservation's `ownerId`).
    pub account: AccountId,
    /// The Region that was asked.
    pub region: AwsRegion,
    /// `pending`, `running`, `stopped`, …
    pub state: String,
    /// Its zone.
    pub availability_zone: Option<String>,
    /// Its VPC.
    pub vpc_id: Option<String>,
    /// Its subnet.
    pub subnet_id: Option<String>,
    /// Its image.
    pub image_id: Option<String>,
    /// Private DNS name.
    pub private_dns: Option<String>,
    /// Public DNS name.
    pub public_dns: Option<String>,
    /// Private IPv4 address.
    pub private_ip: Option<IpAddr>,
    /// Public IPv4 address.
    pub public_ip: Option<IpAddr>,
    /// IPv6 addresses.
    pub ipv6: Vec<IpAddr>,
    /// ARN of its instance profile.
    pub instance_profile: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Instance {
    /// Addresses to try, in order: public IPv4, IPv6, private IPv4.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let public = self.public_ip.into_iter();
        public
            .chain(self.ipv6.iter().copied())
            .chain(self.private_ip)
            .collect()
    }
}

/// Which instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// All of the Region.
    All,
    /// These ids; an unknown one is an error of AWS (`InvalidInstanceID.NotFound`).
    Ids(&'a [InstanceId]),
    /// By a filter of the API, e.g. `tag:Name`; `*` and `?` in the value are escaped.
    Filter(&'static str, &'a str),
}

/// Describes instances, all pages of them.
///
/// # Errors
/// [`AwsError`].
pub async fn describe_instances(
    client: &HttpClient,
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    which: &Which<'_>,
) -> Result<Vec<Instance>, AwsError> {
    let mut found = Vec::new();
    let mut next = None;
    for _ in 0..MAX_PAGES {
        let answer = call(client, endpoint, scope, &parameters(which, next.as_deref())).await?;
        collect(&answer, scope.region, &mut found)?;
        next = answer.child_text("nextToken").map(str::to_owned);
        if next.is_none() {
            return Ok(found);
        }
    }
    Err(AwsError::Malformed("DescribeInstances does not end"))
}

fn parameters(which: &Which<'_>, next: Option<&str>) -> Vec<(String, String)> {
    let mut pairs = vec![
        ("Action".to_owned(), "DescribeInstances".to_owned()),
        ("Version".to_owned(), VERSION.to_owned()),
    ];
    let mut push = |name: String, value: &str| pairs.push((name, value.to_owned()));
    match which {
        // MaxResults cannot be combined with ids.
        Which::Ids(ids) => {
            for (n, id) in ids.iter().enumerate() {
                push(format!("InstanceId.{}", n + 1), id.as_str());
            }
        }
        Which::Filter(name, value) => {
            push("Filter.1.Name".to_owned(), name);
            push("Filter.1.Value.1".to_owned(), &escape_filter(value));
            push("MaxResults".to_owned(), "1000");
        }
        Which::All => push("MaxResults".to_owned(), "1000"),
    }
    if let Some(token) = next {
        push("NextToken".to_owned(), token);
    }
    pairs
}

/// In filter values `*` and `?` are wildcards and `\` escapes them (EC2 user guide, "Filter using wildcards").
fn escape_filter(value: &str) -> String {
    let mut escaped = String::new();
    for c in value.chars() {
        if matches!(c, '*' | '?' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn collect(answer: &Element, region: AwsRegion, found: &mut Vec<Instance>) -> Result<(), AwsError> {
    let Some(reservations) = answer.child("reservationSet") else {
        return Err(AwsError::Malformed("no reservationSet"));
    };
    for reservation in reservations.children("item") {
        let owner = reservation
            .child_text("ownerId")
            .and_then(|id| id.parse::<AccountId>().ok());
        let owner = owner.ok_or(AwsError::Malformed("a reservation without ownerId"))?;
        let instances = reservation
            .child("instancesSet")
            .into_iter()
            .flat_map(|set| set.children("item"));
        for item in instances {
            found.push(instance(item, &owner, region)?);
        }
    }
    Ok(())
}

fn instance(item: &Element, account: &AccountId, region: AwsRegion) -> Result<Instance, AwsError> {
    let text = |name: &'static str| item.child_text(name).map(str::to_owned);
    let address = |name: &'static str| item.child_text(name).and_then(|a| a.parse().ok());
    let id = item.child_text("instanceId").and_then(|id| id.parse().ok());
    let state = item
        .child("instanceState")
        .and_then(|s| s.child_text("name"));
    let zone = item
        .child("placement")
        .and_then(|p| p.child_text("availabilityZone"));
    Ok(Instance {
        id: id.ok_or(AwsError::Malformed("an instance without a valid id"))?,
        account: account.clone(),
        region,
        state: state.unwrap_or_default().to_owned(),
        availability_zone: zone.map(str::to_owned),
        vpc_id: text("vpcId"),
        subnet_id: text("subnetId"),
        image_id: text("imageId"),
        private_dns: text("privateDnsName"),
        public_dns: text("dnsName"),
        private_ip: address("privateIpAddress"),
        public_ip: address("ipAddress"),
        ipv6: ipv6(item),
        instance_profile: item
            .child("iamInstanceProfile")
            .and_then(|profile| profile.child_text("arn"))
            .map(str::to_owned),
        tags: tags(item),
    })
}

fn ipv6(item: &Element) -> Vec<IpAddr> {
    let interfaces = item
        .child("networkInterfaceSet")
        .into_iter()
        .flat_map(|set| set.children("item"));
    let sets = interfaces.filter_map(|interface| interface.child("ipv6AddressesSet"));
    let texts = sets
        .flat_map(|set| set.children("item"))
        .filter_map(|a| a.child_text("ipv6Address"));
    texts.filter_map(|a| a.parse().ok()).collect()
}

fn tags(item: &Element) -> BTreeMap<String, String> {
    let items = item
        .child("tagSet")
        .into_iter()
        .flat_map(|set| set.children("item"));
    items
        .filter_map(|tag| {
            Some((
                tag.child_text("key")?.to_owned(),
                tag.child("value").map_or("", Element::text).to_owned(),
            ))
        })
        .collect()
}

/// The instance's console output as EC2 copied it last, decoded; empty where there is none yet.
///
/// # Errors
/// [`AwsError`].
pub async fn get_console_output(
    client: &HttpClient,
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    instance: &InstanceId,
) -> Result<String, AwsError> {
    read_console(client, endpoint, scope, instance, false).await
}

/// The console as it is now (`Latest`); of instances that are not on the Nitro system, which cannot show that, as
/// EC2 copied it at the last boot.
///
/// # Errors
/// [`AwsError`].
pub async fn latest_console_output(
    client: &HttpClient,
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    instance: &InstanceId,
) -> Result<String, AwsError> {
    match read_console(client, endpoint, scope, instance, true).await {
        Err(error) if error.code() == Some("UnsupportedOperation") => {
            read_console(client, endpoint, scope, instance, false).await
        }
        answer => answer,
    }
}

async fn read_console(
    client: &HttpClient,
    endpoint: &Endpoint,
    scope: &Scope<'_>,
    instance: &InstanceId,
    latest: bool,
) -> Result<String, AwsError> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut parameters = vec![
        pair("Action", "GetConsoleOutput"),
        pair("Version", VERSION),
        pair("InstanceId", instance.as_str()),
    ];
    if latest {
        parameters.push(pair("Latest", "true"));
    }
    let answer = call(client, endpoint, scope, &parameters).await?;
    if answer.child_text("instanceId") != Some(instance.as_str()) {
        return Err(AwsError::Malformed("console output of another instance"));
    }
    let compact: String = answer
        .child_text("output")
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(compact);
    let bytes = bytes.map_err(|_| AwsError::Malformed("console output is not base64"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "<DescribeInstancesResponse><reservationSet><item><ownerId>123456789012</ownerId><instancesSet>\
        <item><instanceId>i-0123456789abcdef0</instanceId><instanceState><name>running</name></instanceState>\
        <placement><availabilityZone>eu-west-1a</availabilityZone></placement><privateIpAddress>10.0.0.5</privateIpAddress>\
        <iamInstanceProfile><arn>arn:aws:iam::123456789012:instance-profile/fleet/web</arn></iamInstanceProfile>\
        <ipAddress>192.0.2.1</ipAddress><networkInterfaceSet><item><ipv6AddressesSet><item><ipv6Address>2001:db8::1</ipv6Address>\
        </item></ipv6AddressesSet></item></networkInterfaceSet><tagSet><item><key>Name</key><value>web-1</value></item>\
        <item><key>empty</key><value/></item></tagSet></item></instancesSet></item></reservationSet></DescribeInstancesResponse>";

    #[test]
    fn answers_without_owner_or_id_are_refused() {
        let mut found = Vec::new();
        let region = "eu-west-1".parse().unwrap();
        for bad in [
            ANSWER.replace("ownerId", "x"),
            ANSWER.replace("i-0123456789abcdef0", "i-../.."),
        ] {
            assert!(collect(&Element::parse(&bad).unwrap(), region, &mut found).is_err());
        }
    }

    #[test]
    fn addresses_come_in_the_order_of_use() {
        let mut found = Vec::new();
        collect(
            &Element::parse(ANSWER).unwrap(),
            "eu-west-1".parse().unwrap(),
            &mut found,
        )
        .unwrap();
        let addresses: Vec<_> = found[0]
            .addresses()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(addresses, ["192.0.2.1", "2001:db8::1", "10.0.0.5"]);
        assert_eq!(
            (
                found[0].tags["Name"].as_str(),
                found[0].tags["empty"].as_str()
            ),
            ("web-1", "")
        );
        assert_eq!(
            found[0].instance_profile.as_deref(),
            Some("arn:aws:iam::123456789012:instance-profile/fleet/web")
        );
    }

    #[test]
    fn wildcards_in_names_are_escaped() {
        assert_eq!(escape_filter(r"a*b?c\"), r"a\*b\?c\\");
    }
}
