//! Which endpoint, under which name, to which address; and each limit of an endpoint that can be known beforehand.
//! Pure: what EC2 answered goes in, a decision or an [`Obstacle`] comes out.

use std::net::IpAddr;

use super::ec2::{Endpoint, Instance, Rule};
use super::{DnsName, EndpointId};

/// States in which an endpoint takes connections (EC2 API, `Ec2InstanceConnectEndpoint`).
const USABLE: [&str; 4] = [
    "create-complete",
    "update-in-progress",
    "update-failed",
    "update-complete",
];

/// Which of an endpoint's names are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The FIPS 140 one (`AWS_USE_FIPS_ENDPOINT`).
    pub fips: bool,
    /// The one that IPv6 clients can use as well (`AWS_USE_DUALSTACK_ENDPOINT`).
    pub dualstack: bool,
}

/// The one that was named; else one in the instance's subnet; else the first that is usable.
pub(super) fn choose<'a>(
    endpoints: &'a [Endpoint],
    instance: Option<&Instance>,
    named: Option<&EndpointId>,
) -> Result<&'a Endpoint, Obstacle> {
    if let Some(instance) = instance.filter(|i| i.state != "running") {
        return Err(Obstacle::NotRunning(instance.state.clone()));
    }
    let usable = |endpoint: &&Endpoint| USABLE.contains(&endpoint.state.as_str());
    let subnet = instance.and_then(|i| i.subnet_id.as_deref());
    let near = endpoints
        .iter()
        .filter(usable)
        .find(|e| Some(e.subnet_id.as_str()) == subnet);
    if let Some(endpoint) = near.or_else(|| endpoints.iter().find(usable)) {
        return same_vpc(endpoint, instance).map(|()| endpoint);
    }
    match endpoints.first() {
        Some(endpoint) => Err(Obstacle::NotReady {
            id: endpoint.id.clone(),
            state: endpoint.state.clone(),
        }),
        None => Err(Obstacle::None {
            named: named.cloned(),
            vpc: instance.and_then(|i| i.vpc_id.clone()),
        }),
    }
}

/// With client IP preservation an endpoint reaches its own VPC only: the answers would not find their way back.
fn same_vpc(endpoint: &Endpoint, instance: Option<&Instance>) -> Result<(), Obstacle> {
    let vpc = instance.and_then(|i| i.vpc_id.as_deref());
    match vpc.filter(|vpc| *vpc != endpoint.vpc_id && endpoint.preserve_client_ip) {
        Some(vpc) => Err(Obstacle::OtherVpc {
            id: endpoint.id.clone(),
            endpoint: endpoint.vpc_id.clone(),
            instance: vpc.to_owned(),
        }),
        None => Ok(()),
    }
}

pub(super) fn notes(endpoint: &Endpoint, instance: Option<&Instance>) -> Vec<String> {
    let vpc = instance.and_then(|i| i.vpc_id.as_deref());
    let other = vpc.filter(|vpc| *vpc != endpoint.vpc_id);
    let told = other.map(|vpc| {
        format!(
            "{} is in {}, the instance in {vpc}: it is reached only where the two are connected",
            endpoint.id, endpoint.vpc_id
        )
    });
    told.into_iter().collect()
}

pub(super) fn name(endpoint: &Endpoint, names: Names) -> Result<DnsName, Obstacle> {
    let (wanted, word) = match (names.dualstack, names.fips) {
        (false, false) => (&endpoint.dns_name, "DNS"),
        (false, true) => (&endpoint.fips_dns_name, "FIPS"),
        (true, false) => (&endpoint.dualstack_dns_name, "dual-stack"),
        (true, true) => (&endpoint.dualstack_fips_dns_name, "dual-stack FIPS"),
    };
    let parsed = wanted.as_ref().and_then(|name| name.parse().ok());
    parsed.ok_or_else(|| Obstacle::NoName {
        id: endpoint.id.clone(),
        word,
    })
}

/// The private IPv4 address, else the IPv6 one, as far as the endpoint speaks that family.
pub(super) fn address(endpoint: &Endpoint, instance: &Instance) -> Result<IpAddr, Obstacle> {
    let known = [instance.private_ip, instance.ipv6];
    let mut known = known.into_iter().flatten().peekable();
    let first = *known.peek().ok_or(Obstacle::NoAddress)?;
    match known.find(|address| admits(endpoint, *address).is_ok()) {
        Some(address) => Ok(address),
        None => admits(endpoint, first),
    }
}

pub(super) fn admits(endpoint: &Endpoint, address: IpAddr) -> Result<IpAddr, Obstacle> {
    let kind = endpoint.address_type.as_deref().unwrap_or("ipv4");
    let spoken = match address {
        IpAddr::V4(_) => matches!(kind, "ipv4" | "dualstack"),
        IpAddr::V6(_) => matches!(kind, "ipv6" | "dualstack"),
    };
    if spoken {
        Ok(address)
    } else {
        Err(Obstacle::Family {
            id: endpoint.id.clone(),
            kind: kind.to_owned(),
            address,
        })
    }
}

/// Whether some rule lets the endpoint in. Rules that name addresses may do so, or with client IP preservation must:
/// which address the endpoint has is not looked up, so these are only told where no better rule is there.
pub(super) fn admission(
    rules: &[Rule],
    instance: &Instance,
    endpoint: &Endpoint,
    port: u16,
) -> Result<Option<String>, Obstacle> {
    let mut fitting = rules
        .iter()
        .filter(|r| (r.first_port..=r.last_port).contains(&port));
    let by_group = |rule: &Rule| {
        !endpoint.preserve_client_ip && rule.groups.iter().any(|g| endpoint.groups.contains(g))
    };
    if fitting.any(|rule| by_group(rule) || rule.has_addresses) {
        return Ok(None);
    }
    Err(Obstacle::NotAdmitted {
        id: endpoint.id.clone(),
        groups: instance.groups.join(", "),
        admitted: if endpoint.preserve_client_ip {
            "your own address (the endpoint preserves client addresses)".to_owned()
        } else {
            endpoint.groups.join(" or ")
        },
        port,
    })
}

/// Why an endpoint cannot lead to the instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// There is none.
    #[error("there are no available instance connect endpoints{}", none_where(.named.as_ref(), .vpc.as_deref()))]
    None {
        /// The one that was asked for.
        named: Option<EndpointId>,
        /// Where it was looked for.
        vpc: Option<String>,
    },
    /// Not there yet, or not any more.
    #[error("{id} is {state}: wait until it is create-complete, or use another way")]
    NotReady {
        /// The endpoint.
        id: EndpointId,
        /// Its state.
        state: String,
    },
    /// Client IP preservation across VPCs.
    #[error(
        "{id} preserves client addresses, so it reaches only instances of its own {endpoint}, not of {instance}"
    )]
    OtherVpc {
        /// The endpoint.
        id: EndpointId,
        /// Its VPC.
        endpoint: String,
        /// The instance's.
        instance: String,
    },
    /// The kind of name that was asked for.
    #[error(
        "{id} has no {word} name: change AWS_USE_FIPS_ENDPOINT or AWS_USE_DUALSTACK_ENDPOINT, or its address type"
    )]
    NoName {
        /// The endpoint.
        id: EndpointId,
        /// Which kind.
        word: &'static str,
    },
    /// An address family.
    #[error(
        "{id} is an {kind} endpoint and cannot reach {address}: change its address type, or use another way"
    )]
    Family {
        /// The endpoint.
        id: EndpointId,
        /// `ipv4`, `ipv6` or `dualstack`.
        kind: String,
        /// The address.
        address: IpAddr,
    },
    /// No private address.
    #[error("unable to find any IP address on the instance to connect to: is it running?")]
    NoAddress,
    /// Stopped.
    #[error("the instance is {0}: start it first")]
    NotRunning(String),
    /// The security groups.
    #[error(
        "no rule of the instance's security groups ({groups}) admits {admitted} on port {port}: {id} cannot reach it"
    )]
    NotAdmitted {
        /// The endpoint.
        id: EndpointId,
        /// The instance's groups.
        groups: String,
        /// Whom a rule would have to name.
        admitted: String,
        /// The port.
        port: u16,
    },
}

fn none_where(named: Option<&EndpointId>, vpc: Option<&str>) -> String {
    match (named, vpc) {
        (Some(id), _) => format!(": {id} does not exist in this Region and account"),
        (None, Some(vpc)) => {
            format!(" in {vpc}: `eic-login endpoint create` makes one, or use another way")
        }
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests;
