//! `eic-login ssh --instance-id …`: the options of `aws ec2-instance-connect ssh`, so that a script changes one word.
//! Made into one command line for the installed ssh, started by execve.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

use clap::Parser;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;

use super::{aws_options, paths};
use crate::config::Config;
use crate::control::client::Agent;
use crate::control::message::{Ask, ConnectAsk, Reply};
use crate::credentials::Selection;
use crate::exit_code::{self, Failure};
use crate::ssh_config::block::Block;
use crate::transport::endpoint::{DnsName, EndpointId, TunnelSeconds};

/// ssh's own defaults in front of what setup has told it for `i-*` (ssh_config(5)).
const WITHOUT_US: [&str; 5] = [
    "-oKnownHostsCommand=none",
    "-oUserKnownHostsFile=~/.ssh/known_hosts ~/.ssh/known_hosts2",
    "-oGlobalKnownHostsFile=/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2",
    "-oStrictHostKeyChecking=ask",
    "-oIdentityAgent=SSH_AUTH_SOCK",
];

/// The options (AWS CLI command reference, `ec2-instance-connect ssh`).
#[derive(Debug, Parser)]
#[command(
    name = "eic-login ssh",
    about = "As `aws ec2-instance-connect ssh`; or: eic-login ssh [ssh options] [user@]host [command]"
)]
pub(super) struct Arguments {
    /// The instance.
    #[arg(long, value_name = "ID", value_parser = instance_id)]
    instance_id: InstanceId,
    /// Connect to this address of it; needs --connection-type direct or eice.
    #[arg(long, value_name = "ADDRESS")]
    instance_ip: Option<IpAddr>,
    /// Log in with this key instead of one that is made for the login.
    #[arg(long, value_name = "FILE")]
    private_key_file: Option<PathBuf>,
    /// The account.
    #[arg(long, value_name = "NAME", default_value = "ec2-user")]
    os_user: OsUser,
    /// The port of sshd.
    #[arg(long, value_name = "PORT", default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    ssh_port: u16,
    /// As ssh's -L.
    #[arg(long, value_name = "SPEC")]
    local_forwarding: Option<String>,
    /// How to reach it.
    #[arg(long, value_name = "TYPE", default_value = "auto")]
    connection_type: ConnectionType,
    /// Of the endpoint: maxTunnelDuration=SECONDS,endpointId=ID,dnsName=NAME.
    #[arg(long, value_name = "KEY=VALUE,…")]
    eice_options: Option<EiceOptions>,
    /// The AWS profile.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The AWS Region.
    #[arg(long, value_name = "REGION")]
    region: Option<AwsRegion>,
    /// ssh's -v.
    #[arg(long)]
    debug: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ConnectionType {
    Auto,
    Direct,
    Eice,
}

fn instance_id(text: &str) -> Result<InstanceId, String> {
    let id = text
        .parse::<InstanceId>()
        .ok()
        .filter(|id| !id.is_managed());
    let told = "the specified instance ID is invalid. Provide the full instance ID in the form i-xxxxxxxxxxxxxxxxx";
    id.ok_or_else(|| told.to_owned())
}

/// `maxTunnelDuration=60,endpointId=eice-…,dnsName=…`, as the AWS CLI's shorthand has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct EiceOptions {
    max_duration: Option<TunnelSeconds>,
    endpoint: Option<EndpointId>,
    dns_name: Option<DnsName>,
}

impl FromStr for EiceOptions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for pair in text.split(',') {
            let (name, value) = pair.split_once('=').ok_or("expected key=value,key=value")?;
            let told = |e: &dyn std::fmt::Display| e.to_string();
            let twice = match name {
                "maxTunnelDuration" => options
                    .max_duration
                    .replace(value.parse().map_err(|e| told(&e))?)
                    .is_some(),
                "endpointId" => options
                    .endpoint
                    .replace(value.parse().map_err(|e| told(&e))?)
                    .is_some(),
                "dnsName" => options
                    .dns_name
                    .replace(value.parse().map_err(|e| told(&e))?)
                    .is_some(),
                _ => return Err("known are maxTunnelDuration, endpointId and dnsName".to_owned()),
            };
            if twice {
                return Err(format!("{name} is given twice"));
            }
        }
        if options.dns_name.is_some() && options.endpoint.is_none() {
            return Err("when specifying dnsName, you must specify endpointId".to_owned());
        }
        Ok(options)
    }
}

/// Runs the command; returns only where ssh cannot be started.
pub(super) fn run(args: &[OsString]) -> Result<(), Failure> {
    let name = OsString::from("eic-login ssh");
    let arguments = match Arguments::try_parse_from([&name].into_iter().chain(args)) {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return Ok(());
        }
        Err(error) => return Err(Failure::usage(first_lines(&error.to_string()))),
    };
    arguments.check().map_err(Failure::usage)?;
    let selection = aws_options::selection(arguments.profile.as_deref(), arguments.region);
    let mut command = Command::new("ssh");
    command.args(arguments.with_identity(&selection)?);
    command.args(arguments.rest());
    aws_options::apply(&selection, &mut command);
    Err(Failure::of(&command.exec()).context("cannot run ssh"))
}

/// clap's message without its hints, as one line.
fn first_lines(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.is_empty());
    let joined: Vec<&str> = lines.map(str::trim).collect();
    joined.join(" ").trim_start_matches("error: ").to_owned()
}

impl Arguments {
    /// What clap cannot say, in the words of AWS's own client.
    fn check(&self) -> Result<(), &'static str> {
        if self.connection_type == ConnectionType::Direct && self.eice_options.is_some() {
            return Err("eice-options can't be specified when connection type is direct");
        }
        if self.connection_type == ConnectionType::Auto && self.instance_ip.is_some() {
            return Err("when specifying instance-ip, you must specify connection-type");
        }
        let forwarding = self.local_forwarding.as_deref().unwrap_or_default();
        if forwarding.starts_with('-') {
            return Err("--local-forwarding: expected [bind_address:]port:host:hostport");
        }
        Ok(())
    }

    fn with_identity(&self, selection: &Selection) -> Result<Vec<OsString>, Failure> {
        let paths = paths()?;
        let config = Config::in_force(&paths)?;
        let run_dir = config.run_dir(&paths);
        let program = std::env::current_exe().map_err(|e| Failure::of(&e))?;
        let block = Block::new(&program, &run_dir, &config.patterns);
        let block = block.map_err(|e| Failure::usage(e.to_string()))?;
        match &self.private_key_file {
            None => Ok(self.block_options(&block)),
            Some(file) => {
                let direct = match (self.instance_ip, self.is_tunnelled()) {
                    (_, true) => None,
                    (Some(address), false) => Some(address),
                    (None, false) => {
                        self.direct(&self.addresses(&Agent::new(&run_dir)?, selection)?)
                    }
                };
                Ok(self.key_options(file, &program.display().to_string(), direct))
            }
        }
    }

    /// As plain ssh with the generated block; the way goes to the ProxyCommand. Every value in it is of a grammar
    /// without quotes and blanks.
    fn block_options(&self, block: &Block) -> Vec<OsString> {
        let way = self.way();
        let options = block.options().into_iter().map(|(name, value)| match name {
            "ProxyCommand" => format!("-o{name}={value}{way}"),
            _ => format!("-o{name}={value}"),
        });
        options.map(OsString::from).collect()
    }

    fn way(&self) -> String {
        let via = match self.connection_type {
            _ if self.is_tunnelled() => "endpoint",
            ConnectionType::Direct => "direct",
            _ => "auto",
        };
        let mut text = format!(" --via {via}");
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!(" --{name} '{value}'"));
            }
        };
        let options = self.eice_options.clone().unwrap_or_default();
        add("address", self.instance_ip.map(|a| a.to_string()));
        add("endpoint", options.endpoint.map(|e| e.to_string()));
        add("dns-name", options.dns_name.map(|n| n.to_string()));
        add(
            "max-duration",
            options.max_duration.map(|s| s.get().to_string()),
        );
        text
    }

    fn is_tunnelled(&self) -> bool {
        self.connection_type == ConnectionType::Eice || self.eice_options.is_some()
    }

    /// The address to connect to; none: through the endpoint. Without a wish as AWS's own client has it: the public
    /// IPv4 address, else a tunnel to the private one, else IPv6.
    fn direct(&self, addresses: &[IpAddr]) -> Option<IpAddr> {
        let mut all = addresses.iter().copied();
        if self.connection_type == ConnectionType::Direct {
            return all.next();
        }
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = all.partition(IpAddr::is_ipv4);
        match v4.first() {
            None => v6.first().copied(),
            Some(_) => v4.into_iter().find(is_public),
        }
    }

    /// A key of the user's own: nothing is pushed, and his own known_hosts decide about the host.
    fn key_options(
        &self,
        file: &std::path::Path,
        program: &str,
        direct: Option<IpAddr>,
    ) -> Vec<OsString> {
        let mut words: Vec<OsString> = WITHOUT_US.into_iter().map(OsString::from).collect();
        words.extend(["-i".into(), file.into(), "-oIdentitiesOnly=yes".into()]);
        match direct {
            Some(address) => words.extend([
                "-oProxyCommand=none".into(),
                format!("-oHostName={address}").into(),
            ]),
            None => words.push(
                format!(
                    "-oProxyCommand='{program}' tunnel --instance-id '{}'{}",
                    self.instance_id,
                    self.tunnel_options()
                )
                .into(),
            ),
        }
        words
    }

    fn tunnel_options(&self) -> String {
        let options = self.eice_options.clone().unwrap_or_default();
        let mut text = " --remote-port '%p'".to_owned();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!(" --{name} '{value}'"));
            }
        };
        add(
            "private-ip-address",
            self.instance_ip.map(|address| address.to_string()),
        );
        add(
            "instance-connect-endpoint-id",
            options.endpoint.map(|e| e.to_string()),
        );
        add(
            "instance-connect-endpoint-dns-name",
            options.dns_name.map(|n| n.to_string()),
        );
        add(
            "max-tunnel-duration",
            options.max_duration.map(|s| s.get().to_string()),
        );
        text
    }

    fn addresses(&self, agent: &Agent, selection: &Selection) -> Result<Vec<IpAddr>, Failure> {
        let host = self.instance_id.as_str().parse();
        let ask = ConnectAsk {
            user: self.os_user.clone(),
            default_user: false,
            host: host
                .map_err(|e: crate::host_name::InvalidHostName| Failure::usage(e.to_string()))?,
            port: self.ssh_port,
            ssh_pid: None,
            user_agent: None,
            selection: selection.clone(),
            // Its addresses are what is asked for.
            given: None,
        };
        match agent.ask(Ask::Explain(ask))?.1 {
            Reply::Explained(explanation) => Ok(explanation.host.addresses),
            Reply::Failed(failure) => Err(failure),
            _ => Err(Failure::new(
                exit_code::FAILURE,
                "the resident agent gave an unexpected answer",
            )),
        }
    }

    fn rest(&self) -> Vec<OsString> {
        let mut words = vec![
            "-oServerAliveInterval=5".to_owned(),
            "-p".to_owned(),
            self.ssh_port.to_string(),
        ];
        if let Some(forwarding) = &self.local_forwarding {
            words.extend(["-L".to_owned(), forwarding.clone()]);
        }
        if self.debug {
            words.push("-v".to_owned());
        }
        words.extend([
            "--".to_owned(),
            format!("{}@{}", self.os_user, self.instance_id),
        ]);
        words.into_iter().map(OsString::from).collect()
    }
}

/// Neither RFC 1918 nor RFC 6598 (carriers' own, which a VPC may use).
fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let of_carriers = first == 100 && (64..128).contains(&second);
            !v4.is_private() && !of_carriers
        }
        IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "i-0123456789abcdef0";

    fn parsed(args: &str) -> Result<Arguments, String> {
        let words = std::iter::once("ssh").chain(args.split_whitespace());
        let arguments =
            Arguments::try_parse_from(words).map_err(|e| first_lines(&e.to_string()))?;
        arguments.check().map_err(str::to_owned)?;
        Ok(arguments)
    }

    #[test]
    fn what_awss_own_client_refuses_is_refused_in_its_words() {
        for (args, told) in [
            (
                "--instance-id web-1",
                "the specified instance ID is invalid",
            ),
            (
                "--instance-id i-01234567 --connection-type direct --eice-options endpointId=eice-01234567",
                "eice-options can't be specified",
            ),
            (
                "--instance-id i-01234567 --instance-ip 10.0.0.5",
                "you must specify connection-type",
            ),
            (
                "--instance-id i-01234567 --eice-options dnsName=a.b",
                "you must specify endpointId",
            ),
            (
                "--instance-id i-01234567 --eice-options maxTunnelDuration=3601",
                "maxTunnelDuration: it must be 1 to 3600",
            ),
            (
                "--instance-id i-01234567 --eice-options endpointId=x",
                "the specified endpointId is invalid",
            ),
            (
                "--instance-id i-01234567 --eice-options endpointId=eice-01234567,dnsName=x",
                "the specified dnsName is invalid",
            ),
            (
                "--instance-id i-01234567 --eice-options x=1",
                "known are maxTunnelDuration",
            ),
            (
                "--instance-id i-01234567 --connection-type ssm",
                "invalid value 'ssm'",
            ),
            ("--instance-id i-01234567 --os-user $(id)", "invalid value"),
            (
                "--instance-id i-01234567 --local-forwarding=-oProxyCommand=x",
                "--local-forwarding",
            ),
            ("--os-user ubuntu", "--instance-id"),
        ] {
            let error = parsed(args).map(|_| ()).unwrap_err();
            assert!(error.contains(told), "{args}: {error}");
        }
    }

    #[test]
    fn each_option_has_its_place_in_the_exec_line() {
        let line = |args: &str| {
            let arguments = parsed(&format!("--instance-id {ID} {args}")).unwrap();
            let rest: Vec<String> = arguments
                .rest()
                .into_iter()
                .map(|w| w.into_string().unwrap())
                .collect();
            format!("{} | {}", arguments.way().trim(), rest.join(" "))
        };
        let tail = format!("-- ec2-user@{ID}");
        assert_eq!(
            line("--region eu-west-1"),
            format!("--via auto | -oServerAliveInterval=5 -p 22 {tail}")
        );
        assert_eq!(
            line(
                "--os-user ubuntu --ssh-port 2222 --local-forwarding 8080:localhost:80 --debug --connection-type direct"
            ),
            format!(
                "--via direct | -oServerAliveInterval=5 -p 2222 -L 8080:localhost:80 -v -- ubuntu@{ID}"
            )
        );
        assert_eq!(
            line("--eice-options maxTunnelDuration=60,endpointId=eice-01234567,dnsName=a.b"),
            format!(
                "--via endpoint --endpoint 'eice-01234567' --dns-name 'a.b' --max-duration '60' | -oServerAliveInterval=5 -p 22 {tail}"
            )
        );
        assert_eq!(
            line("--connection-type eice --instance-ip 10.0.0.5"),
            format!("--via endpoint --address '10.0.0.5' | -oServerAliveInterval=5 -p 22 {tail}")
        );
    }

    fn with_key(args: &str) -> Arguments {
        parsed(&format!("--instance-id {ID} --private-key-file k {args}")).unwrap()
    }

    fn addresses(all: &[&str]) -> Vec<IpAddr> {
        all.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn key_words(args: &str, direct: Option<&str>) -> Vec<String> {
        let direct = direct.map(|address| address.parse().unwrap());
        let arguments = with_key(args);
        let words = arguments.key_options(std::path::Path::new("k"), "/opt/eic-login", direct);
        words
            .into_iter()
            .map(|w| w.into_string().unwrap())
            .collect()
    }

    #[test]
    fn only_a_public_ipv4_address_or_ipv6_alone_is_connected_to_without_a_tunnel() {
        for (all, direct) in [
            (&["10.0.0.5"][..], None),
            (&["100.64.0.5"], None),
            (&["100.127.255.254", "172.16.0.1", "192.168.0.1"], None),
            (&["2001:db8::1", "10.0.0.5"], None),
            (&[], None),
            (&["192.0.2.1", "2001:db8::1", "10.0.0.5"], Some("192.0.2.1")),
            (&["10.0.0.5", "100.63.0.1"], Some("100.63.0.1")),
            (&["100.128.0.1"], Some("100.128.0.1")),
            (&["2001:db8::1"], Some("2001:db8::1")),
        ] {
            let found = with_key("").direct(&addresses(all));
            assert_eq!(found.map(|a| a.to_string()).as_deref(), direct, "{all:?}");
        }
        let first = with_key("--connection-type direct").direct(&addresses(&["10.0.0.5"]));
        assert_eq!(first, addresses(&["10.0.0.5"]).pop());
    }

    #[test]
    fn a_tunnel_leads_to_the_address_that_was_given() {
        let tunnel = |args: &str| key_words(args, None).pop().unwrap();
        let plain = format!(
            "-oProxyCommand='/opt/eic-login' tunnel --instance-id '{ID}' --remote-port '%p'"
        );
        assert_eq!(tunnel(""), plain);
        assert_eq!(tunnel("--connection-type eice"), plain);
        assert_eq!(
            tunnel("--connection-type eice --instance-ip 10.0.0.5"),
            format!("{plain} --private-ip-address '10.0.0.5'")
        );
        assert!(
            tunnel("--eice-options endpointId=eice-01234567")
                .contains("--instance-connect-endpoint-id 'eice-01234567'")
        );
    }

    /// What the installed ssh makes of it where setup was run.
    fn shown(words: &[String]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        let run_dir = std::path::Path::new("/run/eic");
        let block = Block::new(std::path::Path::new("/opt/eic-login"), run_dir, &[]).unwrap();
        std::fs::write(&file, block.render()).unwrap();
        // ssh leaves out a key that is not there.
        std::fs::write(dir.path().join("k"), "").unwrap();
        let mut command = Command::new("ssh");
        command.current_dir(dir.path());
        let output = command
            .arg("-G")
            .arg("-F")
            .arg(&file)
            .args(words)
            .arg(ID)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    #[test]
    fn with_a_key_of_ones_own_nothing_that_setup_told_ssh_is_left() {
        let direct = shown(&key_words("--connection-type direct", Some("192.0.2.1")));
        let tunnel = shown(&key_words("", None));
        assert!(!direct.contains("eic-login"), "{direct}");
        assert!(direct.contains("\nhostname 192.0.2.1\n"), "{direct}");
        let ours: Vec<_> = tunnel.lines().filter(|l| l.contains("eic-login")).collect();
        assert!(
            ours.len() == 1 && ours[0].starts_with("proxycommand '/opt/eic-login' tunnel"),
            "{tunnel}"
        );
        for text in [&direct, &tunnel] {
            for line in [
                "stricthostkeychecking ask",
                "globalknownhostsfile /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2",
                "identitiesonly yes",
            ] {
                assert!(text.lines().any(|l| l == line), "{line}: {text}");
            }
            let known = text.lines().find(|l| l.starts_with("userknownhostsfile "));
            assert!(known.unwrap().contains("/.ssh/known_hosts "), "{text}");
            let keys: Vec<_> = text
                .lines()
                .filter(|l| l.starts_with("identityfile "))
                .collect();
            assert_eq!(keys, ["identityfile k", "identityfile none"], "{text}");
            assert!(!text.contains("/run/eic"), "{text}");
        }
    }
}
