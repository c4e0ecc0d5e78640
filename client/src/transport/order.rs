//! What is asked for a tunnel, and what the resident agent answers: it holds the credentials, so it alone calls
//! AWS and signs; whoever pumps gets one signed address that is good for a minute and for one destination.

use std::net::IpAddr;

use eic_aws::proxy::Proxy;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::secret::Secret;
use serde::{Deserialize, Serialize};

use super::endpoint::{DnsName, EndpointId, TunnelSeconds};
use crate::credentials::Selection;
use crate::host_name::HostName;

/// A tunnel through an EC2 Instance Connect Endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TunnelAsk {
    /// Whose credentials.
    pub selection: Selection,
    /// Where to.
    pub target: TunnelTarget,
    /// To this address of the host rather than the one that EC2 describes.
    pub address: Option<IpAddr>,
    /// The port there.
    pub port: u16,
    /// Through this endpoint; none: the one that fits.
    pub endpoint: Option<EndpointId>,
    /// Under this name; none: the one that EC2 describes.
    pub dns_name: Option<DnsName>,
    /// When the service ends the tunnel; none: after an hour.
    pub max_duration: Option<TunnelSeconds>,
}

/// Where a tunnel leads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TunnelTarget {
    /// To a host by any of its names.
    Host(HostName),
    /// To a private address, in the Region of the credentials.
    Address(IpAddr, Option<AwsRegion>),
}

/// A signed address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opening {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its DNS name.
    pub host: DnsName,
    /// Path and signed query: a credential for a minute.
    pub path: Secret<String>,
    /// Lines for stderr.
    pub notes: Vec<String>,
    /// The configured proxy; none: what the environment names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}
