//! `eic-login tunnel`: TCP through an EC2 Instance Connect Endpoint, as a ProxyCommand (stdin and stdout) or as a
//! listener on this machine. Takes the options of `aws ec2-instance-connect open-tunnel`.

use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Args;
use eic_protocol::aws_region::AwsRegion;
use eic_protocol::instance_id::InstanceId;

use super::{aws_options, paths, run_dir, runtime};
use crate::exit_code::{self, Failure};
use crate::host_name::HostName;
use crate::terminal;
use crate::transport::carrier::{self, Order, Wish};
use crate::transport::endpoint::{DnsName, EndpointId, TunnelSeconds};
use crate::transport::hand_over::Pipes;
use crate::transport::order::{TunnelAsk, TunnelTarget};
use crate::transport::race::Canceller;
use crate::transport::slots::QUOTA;
use crate::transport::{Link, hand_over};

/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The host, by any of its names.
    #[arg(value_name = "HOST", conflicts_with_all = ["instance_id", "private_ip_address"])]
    host: Option<HostName>,
    /// The instance.
    #[arg(long, value_name = "ID")]
    instance_id: Option<InstanceId>,
    /// The instance's private address.
    #[arg(long, value_name = "ADDRESS")]
    private_ip_address: Option<IpAddr>,
    /// Through this endpoint [default: the one of the instance's subnet, else of its VPC].
    #[arg(long, value_name = "ID")]
    instance_connect_endpoint_id: Option<EndpointId>,
    /// Under this DNS name of the endpoint [default: the one that EC2 describes].
    #[arg(long, value_name = "NAME")]
    instance_connect_endpoint_dns_name: Option<DnsName>,
    /// The port on the instance.
    #[arg(long, value_name = "PORT", default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    remote_port: u16,
    /// Listen here on localhost [default: carry stdin and stdout]; 0 takes a free port. Such a port is open to every
    /// account of this machine: on one that is shared, use stdin and stdout (a ProxyCommand).
    #[arg(long, value_name = "PORT")]
    local_port: Option<u16>,
    /// When the service ends each tunnel, in seconds [default: 3600].
    #[arg(long, value_name = "SECONDS")]
    max_tunnel_duration: Option<TunnelSeconds>,
    /// Most connections at a time in listener mode; an endpoint takes 20.
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    max_websocket_connections: usize,
    /// The AWS profile.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The AWS Region.
    #[arg(long, value_name = "REGION")]
    region: Option<AwsRegion>,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let ask = ask(arguments)?;
    let run_dir = run_dir(&paths()?)?;
    match arguments.local_port {
        Some(port) => {
            Listener::new(port, arguments.max_websocket_connections, run_dir, ask)?.serve()
        }
        None => carry_stdio(run_dir, ask),
    }
}

fn ask(arguments: &Arguments) -> Result<TunnelAsk, Failure> {
    let host = arguments.host.clone().map(Ok).or_else(|| {
        let id = arguments.instance_id.as_ref()?;
        Some(id.as_str().parse::<HostName>())
    });
    let host = host
        .transpose()
        .map_err(|e| Failure::usage(e.to_string()))?;
    let (endpoint, dns_name) = (
        arguments.instance_connect_endpoint_id.clone(),
        arguments.instance_connect_endpoint_dns_name.clone(),
    );
    if dns_name.is_some() && endpoint.is_none() {
        return Err(Failure::usage(
            "specify an instance connect endpoint id when providing a DNS name",
        ));
    }
    let private = arguments.private_ip_address;
    // Beside an instance, and where no endpoint is named: that one is found by the instance.
    let address = private.filter(|_| host.is_some() && endpoint.is_none());
    let target = match (host, private) {
        (Some(host), Some(_)) if endpoint.is_none() => TunnelTarget::Host(host),
        (None, Some(_)) if endpoint.is_none() => {
            return Err(Failure::usage(
                "specify an instance connect endpoint id when providing a private ip",
            ));
        }
        (_, Some(address)) => TunnelTarget::Address(address, arguments.region),
        (Some(host), None) => TunnelTarget::Host(host),
        (None, None) => {
            return Err(Failure::usage(
                "specify a host, an instance id or a private ip",
            ));
        }
    };
    Ok(TunnelAsk {
        selection: aws_options::selection(arguments.profile.as_deref(), arguments.region),
        target,
        address,
        port: arguments.remote_port,
        endpoint,
        dns_name,
        max_duration: arguments.max_tunnel_duration,
    })
}

fn carry_stdio(run_dir: PathBuf, ask: TunnelAsk) -> Result<(), Failure> {
    if std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "this command does not support interactive mode: use it as a ProxyCommand, or give --local-port",
        ));
    }
    if hand_over::passes_descriptors() {
        let order = Order::of(run_dir, Wish::Endpoint(ask))?;
        let (stream, notes) = carrier::open(&order, &Canceller::default())?;
        notes.iter().for_each(|note| terminal::note(note));
        return hand_over::hand_over(Link::Carried(stream)).map_err(|e| broke(&e));
    }
    let runtime = runtime()?;
    let open = carrier::open_endpoint(&runtime, &run_dir, ask)?;
    open.notes().iter().for_each(|note| terminal::note(note));
    if let Some(pipes) = Pipes::of_stdio() {
        return carrier::carry_to(&runtime, open, pipes);
    }
    let (ours, theirs) = UnixStream::pair().map_err(|e| broke(&e))?;
    let pumping = std::thread::spawn(move || hand_over::hand_over(Link::Carried(ours)));
    let ended = carrier::carry_to(&runtime, open, theirs);
    // All that came is written before the end is told.
    let written = pumping.join().unwrap_or(Ok(()));
    ended.and_then(|()| written.map_err(|e| broke(&e)))
}

fn broke(error: &std::io::Error) -> Failure {
    Failure::new(exit_code::FAILURE, format!("the connection broke: {error}"))
}

/// One tunnel for each connection to a port of this machine.
struct Listener {
    listener: TcpListener,
    most: usize,
    open: Arc<AtomicUsize>,
    run_dir: PathBuf,
    ask: TunnelAsk,
}

impl Listener {
    fn new(port: u16, most: usize, run_dir: PathBuf, ask: TunnelAsk) -> Result<Self, Failure> {
        if !(1..=QUOTA).contains(&most) {
            let text =
                format!("--max-websocket-connections: an endpoint takes 1 to {QUOTA} connections");
            return Err(Failure::usage(text));
        }
        // Only this machine's own programs: the tunnel has no other protection.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = listener
            .map_err(|e| Failure::of(&e).context(&format!("cannot listen on port {port}")))?;
        Ok(Self {
            listener,
            most,
            open: Arc::default(),
            run_dir,
            ask,
        })
    }

    fn serve(self) -> Result<(), Failure> {
        let port = self.listener.local_addr().map_err(|e| broke(&e))?.port();
        terminal::print(&format!("Listening for connections on port {port}.\n"));
        let mut number = 0_u64;
        loop {
            let Ok((stream, _)) = self.listener.accept() else {
                // Out of descriptors, or a client that went away: the tunnels that are open go on.
                std::thread::sleep(ACCEPT_PAUSE);
                continue;
            };
            if self.open.load(Ordering::Acquire) >= self.most {
                terminal::print(&format!(
                    "Max websocket connections {} have been reached, closing incoming connection.\n",
                    self.most
                ));
                continue;
            }
            number += 1;
            self.open.fetch_add(1, Ordering::AcqRel);
            self.start(number, stream);
        }
    }

    fn start(&self, number: u64, stream: TcpStream) {
        terminal::print(&format!(
            "[{number}] Accepted new tcp connection, opening websocket tunnel.\n"
        ));
        let (open, run_dir, ask) = (
            Arc::clone(&self.open),
            self.run_dir.clone(),
            self.ask.clone(),
        );
        std::thread::spawn(move || {
            if let Err(failure) = carry_one(&run_dir, ask, stream) {
                terminal::note(&format!("[{number}] {}", failure.message));
            }
            open.fetch_sub(1, Ordering::AcqRel);
            terminal::print(&format!("[{number}] Closing tcp connection.\n"));
        });
    }
}

fn carry_one(run_dir: &Path, ask: TunnelAsk, stream: TcpStream) -> Result<(), Failure> {
    let runtime = runtime()?;
    let open = carrier::open_endpoint(&runtime, run_dir, ask)?;
    open.notes().iter().for_each(|note| terminal::note(note));
    let _ = stream.set_nodelay(true);
    carrier::carry_to(&runtime, open, stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn asked(args: &[&str]) -> Result<TunnelAsk, String> {
        let line = Line::try_parse_from([&["tunnel"], args].concat()).map_err(|e| e.to_string())?;
        ask(&line.arguments).map_err(|f| f.message)
    }

    #[test]
    fn options_that_do_not_go_together_are_refused_as_awss_own_client_does() {
        for (args, told) in [
            (&[][..], "instance id or a private ip"),
            (
                &["--private-ip-address", "10.0.0.5"],
                "endpoint id when providing a private ip",
            ),
            (
                &[
                    "--instance-id",
                    "i-0123456789abcdef0",
                    "--instance-connect-endpoint-dns-name",
                    "a.b",
                ],
                "endpoint id when providing a DNS name",
            ),
            (
                &["web-1", "--instance-id", "i-01234567"],
                "cannot be used with",
            ),
            (&["--instance-id", "web-1"], "invalid value"),
            (&["web-1", "--max-tunnel-duration", "3601"], "1 to 3600"),
            (&["web-1", "--max-tunnel-duration", "0"], "1 to 3600"),
            (
                &["web-1", "--instance-connect-endpoint-id", "vpce-1"],
                "eice-xxxxxxxxxxxxxxxxx",
            ),
            (&["web-1", "--remote-port", "0"], "invalid value"),
            (&["-oProxyCommand=x"], "unexpected argument"),
        ] {
            let error = asked(args).map(|_| ()).unwrap_err();
            assert!(error.contains(told), "{args:?}: {error}");
        }
    }

    #[test]
    fn the_options_of_open_tunnel_are_understood() {
        let ask = asked(&[
            "--instance-id",
            "i-0123456789abcdef0",
            "--remote-port",
            "5432",
            "--max-tunnel-duration",
            "60",
            "--instance-connect-endpoint-id",
            "eice-0123456789abcdef0",
            "--region",
            "eu-west-1",
        ])
        .unwrap();
        assert_eq!((ask.port, ask.max_duration.unwrap().get()), (5432, 60));
        assert!(
            matches!(ask.target, TunnelTarget::Host(host) if host.as_str() == "i-0123456789abcdef0")
        );
        assert!(
            ask.selection
                .variables()
                .any(|pair| pair == ("AWS_REGION", "eu-west-1"))
        );
        let of_several = asked(&[
            "--instance-id",
            "i-0123456789abcdef0",
            "--private-ip-address",
            "10.0.0.6",
        ]);
        let of_several = of_several.unwrap();
        assert!(matches!(of_several.target, TunnelTarget::Host(_)));
        assert_eq!(of_several.address, "10.0.0.6".parse().ok());
        let by_address = asked(&[
            "--private-ip-address",
            "fd00::5",
            "--instance-connect-endpoint-id",
            "eice-01234567",
        ]);
        assert!(matches!(
            by_address.unwrap().target,
            TunnelTarget::Address(..)
        ));
    }

    #[test]
    fn more_connections_than_an_endpoint_takes_are_refused() {
        for most in [0, 21] {
            let ask = asked(&["web-1"]).unwrap();
            assert!(Listener::new(0, most, PathBuf::from("/nonexistent"), ask).is_err());
        }
    }
}
