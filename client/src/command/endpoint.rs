//! `eic-login endpoint`: EC2 Instance Connect Endpoints, for those who have none yet.

use clap::{Args, Subcommand};
use eic_protocol::aws_region::AwsRegion;

use super::{aws_options, paths, run_dir};
use crate::control::client::Agent;
use crate::control::message::{Ask, EndpointsAsk, Reply};
use crate::exit_code::{self, Failure};
use crate::terminal;
use crate::transport::endpoint::{Administration, EndpointId, EndpointStatus, NewEndpoint};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// The AWS profile.
    #[arg(long, value_name = "NAME", global = true)]
    profile: Option<String>,
    /// The AWS Region.
    #[arg(long, value_name = "REGION", global = true)]
    region: Option<AwsRegion>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the endpoints of the Region, and what each can reach.
    Status {
        /// This one only.
        endpoint: Option<EndpointId>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask EC2 whether an endpoint could be made, without making it.
    Plan(New),
    /// Make an endpoint. It takes connections after some minutes; there is one per VPC.
    Create(New),
    /// Remove an endpoint; its open tunnels end.
    Delete {
        /// The endpoint.
        endpoint: EndpointId,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
struct New {
    /// Where it is to be.
    #[arg(long, value_name = "ID", value_parser = subnet)]
    subnet_id: String,
    /// Its security groups [default: the VPC's default group]; rules of the hosts must admit them.
    #[arg(long, value_name = "ID", value_parser = group)]
    security_group_id: Vec<String>,
    /// Hosts see your address instead of the endpoint's; it then reaches IPv4 hosts of its own VPC only.
    #[arg(long)]
    preserve_client_ip: bool,
    /// Which addresses it reaches [default: those of the subnet].
    #[arg(long, value_name = "TYPE", value_parser = ["ipv4", "dualstack", "ipv6"])]
    ip_address_type: Option<String>,
}

fn subnet(text: &str) -> Result<String, String> {
    id("subnet-", text)
}

fn group(text: &str) -> Result<String, String> {
    id("sg-", text)
}

fn id(prefix: &str, text: &str) -> Result<String, String> {
    let digits = text.strip_prefix(prefix).unwrap_or_default();
    let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if hex {
        Ok(text.to_owned())
    } else {
        Err(format!("expected {prefix}xxxxxxxxxxxxxxxxx"))
    }
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let what = administration(&arguments.action)?;
    let ask = EndpointsAsk {
        selection: aws_options::selection(arguments.profile.as_deref(), arguments.region),
        what: what.clone(),
    };
    let endpoints = match Agent::new(&run_dir(&paths()?)?)?
        .ask(Ask::Endpoints(ask))?
        .1
    {
        Reply::Endpoints(endpoints) => endpoints,
        Reply::Failed(failure) => return Err(failure),
        _ => {
            return Err(Failure::new(
                exit_code::FAILURE,
                "the resident agent gave an unexpected answer",
            ));
        }
    };
    match (&arguments.action, what) {
        (_, Administration::Plan(new)) => terminal::print(&plan(&new)),
        (Action::Status { json: true, .. }, _) => {
            terminal::print_json(&endpoints)?;
        }
        _ => terminal::print(&table(&endpoints)),
    }
    Ok(())
}

fn administration(action: &Action) -> Result<Administration, Failure> {
    Ok(match action {
        Action::Status { endpoint, .. } => Administration::Status(endpoint.clone()),
        Action::Plan(new) => Administration::Plan(new.endpoint()?),
        Action::Create(new) => Administration::Create(new.endpoint()?),
        Action::Delete { endpoint, yes } => {
            let question = format!("Remove {endpoint} and end its tunnels?");
            if !yes && terminal::confirm(&question) != Some(true) {
                return Err(Failure::usage(
                    "nothing was removed: confirm it, or give --yes",
                ));
            }
            Administration::Delete(endpoint.clone())
        }
    })
}

impl New {
    fn endpoint(&self) -> Result<NewEndpoint, Failure> {
        let other = self
            .ip_address_type
            .as_deref()
            .is_some_and(|kind| kind != "ipv4");
        if self.preserve_client_ip && other {
            return Err(Failure::usage(
                "--preserve-client-ip works with --ip-address-type ipv4 only",
            ));
        }
        Ok(NewEndpoint {
            subnet: self.subnet_id.clone(),
            groups: self.security_group_id.clone(),
            preserve_client_ip: self.preserve_client_ip,
            address_type: self.ip_address_type.clone(),
        })
    }
}

fn plan(new: &NewEndpoint) -> String {
    let groups = match new.groups.join(" or ") {
        none if none.is_empty() => "the VPC's default security group".to_owned(),
        groups => groups,
    };
    let source = if new.preserve_client_ip {
        "your own addresses"
    } else {
        &groups
    };
    format!(
        "EC2 would make an endpoint in {} with {groups}.\n\
         Hosts then need a rule that admits {source} on port 22; you need ec2-instance-connect:OpenTunnel.\n\
         It takes 20 connections at a time, each for an hour at most, and is the only one of its VPC.\n",
        new.subnet
    )
}

fn table(endpoints: &[EndpointStatus]) -> String {
    if endpoints.is_empty() {
        return "There is no endpoint in this Region.\n".to_owned();
    }
    let rows: Vec<Vec<String>> = endpoints
        .iter()
        .map(|e| {
            let client_ip = if e.preserve_client_ip {
                "preserved"
            } else {
                "-"
            };
            let groups = e.groups.join(",");
            vec![
                e.id.to_string(),
                e.state.clone(),
                e.vpc.clone(),
                e.subnet.clone(),
                e.address_type.clone(),
                client_ip.to_owned(),
                groups,
            ]
        })
        .collect();
    terminal::table(
        &[
            "ENDPOINT",
            "STATE",
            "VPC",
            "SUBNET",
            "ADDRESSES",
            "CLIENT IP",
            "GROUPS",
        ],
        &rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn asked(args: &str) -> Result<Administration, String> {
        let words = std::iter::once("endpoint").chain(args.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|e| e.to_string())?;
        administration(&line.arguments.action).map_err(|f| f.message)
    }

    #[test]
    fn limits_that_are_known_are_refused_before_ec2_is_asked() {
        for (args, told) in [
            ("create", "--subnet-id"),
            ("create --subnet-id vpc-1", "expected subnet-"),
            (
                "create --subnet-id subnet-1 --security-group-id x",
                "expected sg-",
            ),
            (
                "create --subnet-id subnet-1 --preserve-client-ip --ip-address-type dualstack",
                "ipv4 only",
            ),
            (
                "create --subnet-id subnet-1 --ip-address-type ipv5",
                "invalid value",
            ),
            ("delete", "<ENDPOINT>"),
            ("delete i-01234567", "eice-"),
            ("status x", "eice-"),
        ] {
            let error = asked(args).map(|_| ()).unwrap_err();
            assert!(error.contains(told), "{args}: {error}");
        }
    }

    #[test]
    fn a_plan_says_what_hosts_need() {
        let Administration::Plan(new) =
            asked("plan --subnet-id subnet-1 --security-group-id sg-1").unwrap()
        else {
            panic!("no plan");
        };
        assert!(plan(&new).contains("a rule that admits sg-1 on port 22"));
        let Administration::Plan(new) =
            asked("plan --subnet-id subnet-1 --preserve-client-ip").unwrap()
        else {
            panic!("no plan");
        };
        assert!(plan(&new).contains("admits your own addresses"));
        assert!(matches!(
            asked("delete eice-01234567 --yes"),
            Ok(Administration::Delete(_))
        ));
    }
}
