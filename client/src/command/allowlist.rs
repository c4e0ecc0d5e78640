//! `eic-login allowlist`: the addresses from which the EC2 console's browser terminal connects to hosts, in the form
//! that a security group or Terraform takes.

use clap::{Args, ValueEnum};
use eic_protocol::aws_region::AwsRegion;

use super::{paths, runtime};
use crate::config::{Config, ConfigError};
use crate::exit_code::{self, Failure};
use crate::ip_ranges::{self, Ranges, RangesError};
use crate::terminal;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The Region of the hosts.
    #[arg(long)]
    region: AwsRegion,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t = Format::Cidr)]
    format: Format,
    /// Port of sshd.
    #[arg(long, default_value_t = 22)]
    port: u16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One range a line.
    Cidr,
    /// For `aws ec2 authorize-security-group-ingress --ip-permissions`.
    Sg,
    /// Rules of the AWS provider; set `security_group_id`.
    Terraform,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = Config::load(&paths()?)?;
    let url = config.ip_ranges_url.as_deref().unwrap_or(ip_ranges::URL);
    let proxy = config.proxy().map_err(ConfigError::from)?;
    let fetching = ip_ranges::fetch(url, arguments.region, proxy.as_ref());
    let fetched = runtime()?.block_on(fetching);
    let ranges = fetched.map_err(|e| {
        let code = match &e {
            RangesError::Http(_) | RangesError::Status(_) => exit_code::UNREACHABLE,
            RangesError::Url => exit_code::USAGE,
            _ => exit_code::FAILURE,
        };
        Failure::new(code, e.to_string())
    })?;
    terminal::print(&render(&ranges, arguments));
    Ok(())
}

fn render(ranges: &Ranges, arguments: &Arguments) -> String {
    match arguments.format {
        Format::Cidr => ranges
            .v4
            .iter()
            .chain(&ranges.v6)
            .map(|cidr| format!("{cidr}\n"))
            .collect(),
        Format::Sg => security_group(ranges, arguments),
        Format::Terraform => terraform(ranges, arguments),
    }
}

fn description(arguments: &Arguments) -> String {
    format!("EC2 Instance Connect {}", arguments.region)
}

fn security_group(ranges: &Ranges, arguments: &Arguments) -> String {
    let described = |key: &str, cidr: &String| serde_json::json!({key: cidr, "Description": description(arguments)});
    let v4: Vec<_> = ranges.v4.iter().map(|c| described("CidrIp", c)).collect();
    let v6: Vec<_> = ranges.v6.iter().map(|c| described("CidrIpv6", c)).collect();
    let permission = serde_json::json!([{
        "IpProtocol": "tcp",
        "FromPort": arguments.port,
        "ToPort": arguments.port,
        "IpRanges": v4,
        "Ipv6Ranges": v6,
    }]);
    format!("{permission:#}\n")
}

fn terraform(ranges: &Ranges, arguments: &Arguments) -> String {
    let mut text = String::from("variable \"security_group_id\" {\n  type = string\n}\n");
    let families = [
        ("v4", "cidr_ipv4", &ranges.v4),
        ("v6", "cidr_ipv6", &ranges.v6),
    ];
    for (name, argument, cidrs) in families {
        if cidrs.is_empty() {
            continue;
        }
        let list: Vec<String> = cidrs.iter().map(|cidr| format!("\"{cidr}\"")).collect();
        text.push_str(&format!(
            "\nresource \"aws_vpc_security_group_ingress_rule\" \"ec2_instance_connect_{name}\" {{\n  \
             for_each          = toset([{}])\n  security_group_id = var.security_group_id\n  \
             {argument}         = each.value\n  ip_protocol       = \"tcp\"\n  from_port         = {port}\n  \
             to_port           = {port}\n  description       = \"{}\"\n}}\n",
            list.join(", "),
            description(arguments),
            port = arguments.port,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(format: Format) -> Arguments {
        Arguments {
            region: "eu-west-1".parse().unwrap(),
            format,
            port: 2222,
        }
    }

    fn rendered(format: Format) -> String {
        let ranges = Ranges {
            v4: vec!["18.202.216.48/29".to_owned()],
            v6: vec!["2a05:d018::/56".to_owned()],
        };
        render(&ranges, &arguments(format))
    }

    #[test]
    fn each_form_names_every_range_with_its_port() {
        assert_eq!(rendered(Format::Cidr), "18.202.216.48/29\n2a05:d018::/56\n");
        let group: serde_json::Value = serde_json::from_str(&rendered(Format::Sg)).unwrap();
        assert_eq!(group[0]["FromPort"], 2222);
        assert_eq!(group[0]["IpRanges"][0]["CidrIp"], "18.202.216.48/29");
        assert_eq!(group[0]["Ipv6Ranges"][0]["CidrIpv6"], "2a05:d018::/56");
        let rules = rendered(Format::Terraform);
        assert_eq!(rules.matches("for_each").count(), 2);
        assert!(
            rules.contains("toset([\"18.202.216.48/29\"])")
                && rules.contains("from_port         = 2222")
        );
    }
}
