//! What EC2 says about an instance's network, its endpoints and its security groups (EC2 API, 2016-11-15).

use std::net::IpAddr;

use eic_aws::error::AwsError;
use eic_aws::query::{Element, call};
use eic_protocol::instance_id::InstanceId;

use super::{Ec2, EndpointError, EndpointId};

const VERSION: &str = "2016-11-15";

/// An instance's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) state: String,
    pub(super) vpc_id: Option<String>,
    pub(super) subnet_id: Option<String>,
    pub(super) private_ip: Option<IpAddr>,
    pub(super) ipv6: Option<IpAddr>,
    pub(super) groups: Vec<String>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) id: EndpointId,
    pub(super) state: String,
    pub(super) vpc_id: String,
    pub(super) subnet_id: String,
    pub(super) dns_name: Option<String>,
    pub(super) fips_dns_name: Option<String>,
    pub(super) dualstack_dns_name: Option<String>,
    pub(super) dualstack_fips_dns_name: Option<String>,
    /// `ipv4`, `dualstack` or `ipv6`; older answers name none.
    pub(super) address_type: Option<String>,
    pub(super) preserve_client_ip: bool,
    pub(super) groups: Vec<String>,
}

/// One rule of what may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) first_port: u16,
    pub(super) last_port: u16,
    /// Security groups that it names as sources.
    pub(super) groups: Vec<String>,
    /// Whether it names addresses or prefix lists.
    pub(super) has_addresses: bool,
}

pub(super) async fn instance(ec2: Ec2<'_>, id: &InstanceId) -> Result<Instance, EndpointError> {
    let doing = "cannot look up the instance's network (ec2:DescribeInstances)";
    let parameters = [pair("InstanceId.1", id.as_str())];
    let answer = ask(ec2, "DescribeInstances", &parameters, doing).await?;
    let item = answer
        .find("instancesSet")
        .and_then(|set| set.child("item"));
    let cause = AwsError::Malformed("no such instance in the answer");
    item.map(instance_of)
        .ok_or(EndpointError::Aws { doing, cause })
}

fn instance_of(item: &Element) -> Instance {
    let text = |name: &'static str| item.child_text(name).map(str::to_owned);
    let state = item
        .child("instanceState")
        .and_then(|s| s.child_text("name"));
    let interfaces = items(item, "networkInterfaceSet");
    let mut ipv6 = interfaces.flat_map(|interface| items(interface, "ipv6AddressesSet"));
    Instance {
        state: state.unwrap_or_default().to_owned(),
        vpc_id: text("vpcId"),
        subnet_id: text("subnetId"),
        private_ip: item
            .child_text("privateIpAddress")
            .and_then(|a| a.parse().ok()),
        ipv6: ipv6.find_map(|a| a.child_text("ipv6Address")?.parse().ok()),
        groups: texts(item, "groupSet", "groupId"),
    }
}

pub(super) async fn endpoints(
    ec2: Ec2<'_>,
    only: Option<&EndpointId>,
    vpc: Option<&str>,
) -> Result<Vec<Endpoint>, EndpointError> {
    let doing = "cannot look up endpoints (ec2:DescribeInstanceConnectEndpoints)";
    let mut parameters = Vec::new();
    if let Some(id) = only {
        parameters.push(pair("InstanceConnectEndpointId.1", id.as_str()));
    } else if let Some(vpc) = vpc {
        parameters.push(pair("Filter.1.Name", "vpc-id"));
        parameters.push(pair("Filter.1.Value.1", vpc));
    }
    let answer = ask(ec2, "DescribeInstanceConnectEndpoints", &parameters, doing).await?;
    Ok(described(&answer))
}

/// All of a listing, or the one of an answer about one.
pub(super) fn described(answer: &Element) -> Vec<Endpoint> {
    let listed = items(answer, "instanceConnectEndpointSet");
    let only = answer.child("instanceConnectEndpoint");
    listed.chain(only).filter_map(endpoint_of).collect()
}

fn endpoint_of(item: &Element) -> Option<Endpoint> {
    let text = |name: &'static str| item.child_text(name).map(str::to_owned);
    let dual = item
        .child("publicDnsNames")
        .and_then(|names| names.child("dualstack"));
    let dual_text = |name: &'static str| dual.and_then(|d| d.child_text(name)).map(str::to_owned);
    Some(Endpoint {
        id: item.child_text("instanceConnectEndpointId")?.parse().ok()?,
        state: text("state").unwrap_or_default(),
        vpc_id: text("vpcId").unwrap_or_default(),
        subnet_id: text("subnetId").unwrap_or_default(),
        dns_name: text("dnsName"),
        fips_dns_name: text("fipsDnsName"),
        dualstack_dns_name: dual_text("dnsName"),
        dualstack_fips_dns_name: dual_text("fipsDnsName"),
        address_type: text("ipAddressType"),
        preserve_client_ip: item.child_text("preserveClientIp") == Some("true"),
        groups: item
            .child("securityGroupIdSet")
            .into_iter()
            .flat_map(|set| set.children("item"))
            .map(|group| group.text().to_owned())
            .collect(),
    })
}

pub(super) async fn ingress(ec2: Ec2<'_>, groups: &[String]) -> Result<Vec<Rule>, EndpointError> {
    let doing = "cannot read the security groups (ec2:DescribeSecurityGroups)";
    let parameters: Vec<_> = groups
        .iter()
        .enumerate()
        .map(|(n, group)| (format!("GroupId.{}", n + 1), group.clone()))
        .collect();
    let answer = ask(ec2, "DescribeSecurityGroups", &parameters, doing).await?;
    let permissions = items(&answer, "securityGroupInfo").flat_map(|g| items(g, "ipPermissions"));
    Ok(permissions.filter_map(rule_of).collect())
}

/// TCP and "all protocols" (`-1`) count.
fn rule_of(item: &Element) -> Option<Rule> {
    let port = |name: &'static str| item.child_text(name).and_then(|port| port.parse().ok());
    let (first_port, last_port) = match item.child_text("ipProtocol")? {
        "-1" => (0, u16::MAX),
        "tcp" | "6" => (
            port("fromPort").unwrap_or(0),
            port("toPort").unwrap_or(u16::MAX),
        ),
        _ => return None,
    };
    let mut lists = ["ipRanges", "ipv6Ranges", "prefixListIds"].into_iter();
    Some(Rule {
        first_port,
        last_port,
        groups: texts(item, "groups", "groupId"),
        has_addresses: lists.any(|list| items(item, list).next().is_some()),
    })
}

pub(super) async fn ask(
    ec2: Ec2<'_>,
    action: &str,
    parameters: &[(String, String)],
    doing: &'static str,
) -> Result<Element, EndpointError> {
    let mut all = vec![pair("Action", action), pair("Version", VERSION)];
    all.extend_from_slice(parameters);
    let answer = call(ec2.client, ec2.endpoint, ec2.scope, &all).await;
    answer.map_err(|cause| EndpointError::Aws { doing, cause })
}

pub(super) fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn items<'a>(parent: &'a Element, set: &'a str) -> impl Iterator<Item = &'a Element> {
    parent
        .child(set)
        .into_iter()
        .flat_map(|set| set.children("item"))
}

fn texts(parent: &Element, set: &str, name: &str) -> Vec<String> {
    let found = items(parent, set).filter_map(|item| item.child_text(name));
    found.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_without_a_valid_id_are_not_used() {
        let item = |id: &str| {
            format!(
                "<item><instanceConnectEndpointId>{id}</instanceConnectEndpointId><state>create-complete</state>\
                 <vpcId>vpc-1</vpcId><subnetId>subnet-1</subnetId><dnsName>a.example.com</dnsName>\
                 <fipsDnsName>fips.example.com</fipsDnsName><preserveClientIp>true</preserveClientIp>\
                 <ipAddressType>dualstack</ipAddressType><securityGroupIdSet><item>sg-9</item></securityGroupIdSet>\
                 <publicDnsNames><ipv4><dnsName>a.example.com</dnsName></ipv4><dualstack><dnsName>dual.example.com</dnsName>\
                 <fipsDnsName>dual-fips.example.com</fipsDnsName></dualstack></publicDnsNames></item>"
            )
        };
        assert_eq!(
            endpoint_of(&Element::parse(&item("eice-../x")).unwrap()),
            None
        );
        let endpoint = endpoint_of(&Element::parse(&item("eice-01234567")).unwrap()).unwrap();
        assert_eq!(endpoint.groups, ["sg-9"]);
        assert_eq!(
            endpoint.dualstack_fips_dns_name.as_deref(),
            Some("dual-fips.example.com")
        );
        assert!(endpoint.preserve_client_ip);
    }

    #[test]
    fn rules_of_other_protocols_do_not_count() {
        let rule = |protocol: &str| {
            let text = format!(
                "<item><ipProtocol>{protocol}</ipProtocol><fromPort>22</fromPort><toPort>22</toPort>\
                 <groups><item><groupId>sg-1</groupId></item></groups><ipRanges/></item>"
            );
            rule_of(&Element::parse(&text).unwrap())
        };
        assert_eq!(rule("udp"), None);
        assert_eq!(rule("tcp").unwrap().last_port, 22);
        assert_eq!(rule("-1").unwrap().last_port, u16::MAX);
        assert!(!rule("tcp").unwrap().has_addresses);
    }
}
