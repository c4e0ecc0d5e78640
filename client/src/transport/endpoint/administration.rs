//! Making, listing and removing endpoints: three calls of EC2, for those who have none yet.

use eic_aws::error::AwsError;
use serde::{Deserialize, Serialize};

use super::ec2::{Endpoint, ask, described, pair};
use super::{Ec2, EndpointError, EndpointId};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Administration {
    /// List all endpoints of the Region, or this one.
    Status(Option<EndpointId>),
    /// Ask whether one could be made.
    Plan(NewEndpoint),
    /// Make one.
    Create(NewEndpoint),
    /// Remove one.
    Delete(EndpointId),
}

/// An endpoint that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEndpoint {
    /// `subnet-…`.
    pub subnet: String,
    /// `sg-…`; none: the VPC's default group.
    pub groups: Vec<String>,
    /// Whether hosts see the client's address.
    pub preserve_client_ip: bool,
    /// `ipv4`, `dualstack` or `ipv6`; none: that of the subnet.
    pub address_type: Option<String>,
}

/// An endpoint as people read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Its id.
    pub id: EndpointId,
    /// Its state.
    pub state: String,
    /// Its VPC.
    pub vpc: String,
    /// Its subnet.
    pub subnet: String,
    /// Which addresses it reaches.
    pub address_type: String,
    /// Whether hosts see the client's address.
    pub preserve_client_ip: bool,
    /// Its security groups.
    pub groups: Vec<String>,
}

/// Does it; the endpoints that it was about are returned, none after [`Administration::Plan`].
///
/// # Errors
/// [`EndpointError::Aws`] names the action that IAM must allow.
pub async fn administer(
    ec2: Ec2<'_>,
    what: &Administration,
) -> Result<Vec<EndpointStatus>, EndpointError> {
    let found = match what {
        Administration::Status(id) => super::ec2::endpoints(ec2, id.as_ref(), None).await?,
        Administration::Plan(new) => {
            planned(create(ec2, new, true).await)?;
            Vec::new()
        }
        Administration::Create(new) => create(ec2, new, false).await?,
        Administration::Delete(id) => {
            let doing = "cannot remove the endpoint (ec2:DeleteInstanceConnectEndpoint)";
            let parameters = [pair("InstanceConnectEndpointId", id.as_str())];
            let action = "DeleteInstanceConnectEndpoint";
            described(&ask(ec2, action, &parameters, doing).await?)
        }
    };
    Ok(found.into_iter().map(status).collect())
}

async fn create(
    ec2: Ec2<'_>,
    new: &NewEndpoint,
    dry_run: bool,
) -> Result<Vec<Endpoint>, EndpointError> {
    let doing = "cannot make the endpoint (ec2:CreateInstanceConnectEndpoint)";
    let answer = ask(
        ec2,
        "CreateInstanceConnectEndpoint",
        &parameters(new, dry_run),
        doing,
    )
    .await?;
    Ok(described(&answer))
}

fn parameters(new: &NewEndpoint, dry_run: bool) -> Vec<(String, String)> {
    let mut pairs = vec![
        pair("SubnetId", &new.subnet),
        pair("PreserveClientIp", &new.preserve_client_ip.to_string()),
    ];
    for (n, group) in new.groups.iter().enumerate() {
        pairs.push((format!("SecurityGroupId.{}", n + 1), group.clone()));
    }
    pairs.extend(
        new.address_type
            .iter()
            .map(|kind| pair("IpAddressType", kind)),
    );
    if dry_run {
        pairs.push(pair("DryRun", "true"));
    }
    pairs
}

/// EC2 answers a dry run that would work with an error of this name.
fn planned(answer: Result<Vec<Endpoint>, EndpointError>) -> Result<(), EndpointError> {
    match answer {
        Err(EndpointError::Aws { cause, .. }) if cause.code() == Some("DryRunOperation") => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(EndpointError::Aws {
            doing: "cannot plan the endpoint (ec2:CreateInstanceConnectEndpoint)",
            cause: AwsError::Malformed("a dry run that was none"),
        }),
    }
}

fn status(endpoint: Endpoint) -> EndpointStatus {
    EndpointStatus {
        id: endpoint.id,
        state: endpoint.state,
        vpc: endpoint.vpc_id,
        subnet: endpoint.subnet_id,
        address_type: endpoint.address_type.unwrap_or_else(|| "ipv4".to_owned()),
        preserve_client_ip: endpoint.preserve_client_ip,
        groups: endpoint.groups,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Result<Vec<Endpoint>, EndpointError> {
        Err(EndpointError::Aws {
            doing: "x",
            cause: AwsError::Service {
                status: 412,
                code: code.to_owned(),
                message: String::new(),
            },
        })
    }

    #[test]
    fn only_a_dry_run_that_would_work_is_a_plan() {
        assert!(planned(refused("UnauthorizedOperation")).is_err());
        assert!(planned(Ok(Vec::new())).is_err());
        assert!(planned(refused("DryRunOperation")).is_ok());
    }

    #[test]
    fn a_plan_is_never_sent_as_a_real_request() {
        let new = NewEndpoint {
            subnet: "subnet-1".to_owned(),
            groups: vec!["sg-1".to_owned(), "sg-2".to_owned()],
            preserve_client_ip: false,
            address_type: Some("dualstack".to_owned()),
        };
        let all = |dry_run| {
            let pairs = parameters(&new, dry_run);
            pairs
                .iter()
                .map(|(n, v)| format!("{n}={v}"))
                .collect::<Vec<_>>()
                .join("&")
        };
        let base = "SubnetId=subnet-1&PreserveClientIp=false&SecurityGroupId.1=sg-1&SecurityGroupId.2=sg-2&IpAddressType=dualstack";
        assert_eq!(all(false), base);
        assert_eq!(all(true), format!("{base}&DryRun=true"));
    }
}
